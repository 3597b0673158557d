//! The joiner's side of an introduction: whoever comes says `Hello` and proves the token.

use std::time::Duration;

use fastsst_proto::frame::{Frame, Refusal};
use fastsst_proto::lane::{Accepted, JoinerSide, joiner_check_hello, joiner_welcome};
use fastsst_proto::limits::HANDSHAKE_MS;
use fastsst_proto::secret::Secret;
use fastsst_proto::{Exporter, ProtocolError};

use crate::error::{Code, Error, Result};
use crate::net::{Connection, FrameReader, FrameWriter, Link, Reader, Writer};
use crate::talk::protocol_error;

/// Time for the handshake of the transport, and again for the first frame.
pub(super) const HANDSHAKE: Duration = Duration::from_millis(HANDSHAKE_MS);

/// What a wrong token costs whoever sent it, so that guessing is slow.
const WRONG_TOKEN_DELAY: Duration = Duration::from_secs(1);

/// How long somebody who is refused gets to hear it.
const REFUSING: Duration = Duration::from_millis(500);

/// What only this joiner knows.
#[derive(Debug, Clone)]
pub(super) struct Secrets {
    pub(super) token: Secret,
    /// What it says of itself to who knows the token.
    pub(super) side: JoinerSide,
}

/// Somebody who has proven that he knows the token.
#[derive(Debug)]
pub(super) struct Visitor {
    pub(super) reader: FrameReader<Reader>,
    pub(super) writer: FrameWriter<Writer>,
    pub(super) link: Link,
    pub(super) exporter: Exporter,
    pub(super) hello: Frame,
    pub(super) accepted: Accepted,
}

/// Hears the first frame and checks its proof; `None` when there was none, because the peer has
/// left in good order.
///
/// # Errors
/// Silence, a peer of another kind, a wrong proof; it has been told.
pub(super) async fn greet(connection: Connection, secrets: &Secrets) -> Result<Option<Visitor>> {
    let Connection { exporter, reader, writer, link, .. } = connection;
    let (mut reader, mut writer) = (FrameReader::new(reader), FrameWriter::new(writer));
    let said = tokio::time::timeout(HANDSHAKE, reader.read_frame()).await;
    let said = said.map_err(|error| {
        Error::new(Code::Unreachable, format!("{} said nothing", link.peer())).because(error)
    })?;
    let hello = match said {
        Ok(Some(hello)) => hello,
        Ok(None) => return Ok(None),
        Err(error) => {
            let refusal = Refusal { code: error.code().number(), text: error.what().to_owned() };
            refuse(&mut writer, &link, refusal).await;
            return Err(error);
        }
    };
    match joiner_check_hello(&hello, &secrets.token, &exporter, Some(&secrets.side.transfer)) {
        Ok(accepted) => Ok(Some(Visitor { reader, writer, link, exporter, hello, accepted })),
        Err(error) => {
            if error == ProtocolError::WrongProof {
                tokio::time::sleep(WRONG_TOKEN_DELAY).await;
            }
            if let Some(refusal) = error.refusal() {
                refuse(&mut writer, &link, refusal).await;
            }
            Err(protocol_error(link.peer(), error))
        }
    }
}

impl Visitor {
    /// Proves this end to a lane.
    ///
    /// # Errors
    /// The peer is gone.
    pub(super) async fn welcome(&mut self, secrets: &Secrets) -> Result<()> {
        let Secrets { token, side } = secrets;
        let answer = joiner_welcome(token, &self.exporter, &self.accepted.scope, side);
        self.writer.write_frame(&answer).await
    }

    /// Tells him that he is not wanted.
    pub(super) async fn turn_away(mut self, code: Code, text: &'static str) {
        let refusal = Refusal { code: code.number(), text: text.to_owned() };
        refuse(&mut self.writer, &self.link, refusal).await;
    }
}

async fn refuse(writer: &mut FrameWriter<Writer>, link: &Link, refusal: Refusal) {
    let code = refusal.code;
    let told = tokio::time::timeout(REFUSING, async {
        writer.write_frame(&Frame::Refuse(refusal)).await?;
        writer.finish().await
    });
    if !matches!(told.await, Ok(Ok(()))) {
        tracing::debug!("{} did not wait for the refusal", link.peer());
    }
    link.shutdown(code, "refused").await;
}
