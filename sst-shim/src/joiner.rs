//! The joiner, from top to bottom.
//!
//! Everything that can be refused is refused before `ready`: only with that line the request
//! goes out, and only then the provider forgets the node's old position.

use std::sync::Arc;

use fastsst_mover::receive::{JoinerPolicy, ReceiveConfig, Received, Receiver, Target};
use fastsst_mover::staging::{Keep, Owner, Place};
use fastsst_mover::{Code, Error, Result};
use fastsst_proto::Declaration;

use crate::address::JoinerAddress;
use crate::facts::{Facts, SOFTWARE};
use crate::position::Position;
use crate::session::{ROOT, Session};

/// Receives a snapshot or, for IST, only a position.
///
/// # Errors
/// Whatever stopped it; without a final line the server knows that it failed.
pub(crate) fn run(session: &Session) -> Result<()> {
    let address = JoinerAddress::parse(&session.args.address, session.args.port.as_deref())?;
    address.check_charset()?;
    session.files.refuse_nested()?;
    let markers = session.lock()?;
    markers.show()?;
    let receiver = Receiver::bind(config(session, &address))?;
    let ticket = receiver.ticket(&address.host)?;
    let request = address.request(&ticket, session.args.server)?;
    session.wsrep.ready(&request)?;
    tracing::info!("waiting for the donor at {} port {}", address.host, ticket.port);
    session.report_progress()?;

    let mut policy = Policy { facts: &session.facts };
    let received = receiver.run(&mut policy, &session.progress, session.ending.cancel())?;
    let position = finish(session, received)?;

    session.ending.succeed()?;
    markers.remove();
    session.wsrep.joined(&position)
}

fn config(session: &Session, address: &JoinerAddress) -> ReceiveConfig {
    let keep: Arc<dyn Keep> = Arc::clone(&session.files) as _;
    let path = session.layout.datadir.clone();
    ReceiveConfig {
        places: vec![Place { name: ROOT.to_owned(), path, keep }],
        listen: address.listen(),
        options: session.options.engine.clone(),
        owner: Owner::Process,
        software: SOFTWARE.to_owned(),
    }
}

/// What is left to do once the engine is done.
fn finish(session: &Session, received: Received) -> Result<Position> {
    let position = match received {
        Received::Bypass { position } => {
            tracing::info!("the donor serves this node by IST; nothing was transferred");
            position
        }
        Received::Full { position, summary } => {
            session.files.make_directories()?;
            tracing::info!("received {}", summary.line());
            position
        }
    };
    Position::parse(&position)
        .map_err(|why| Error::new(Code::Protocol, format!("the donor's position is wrong: {why}")))
}

/// Checks that need to know the server.
#[derive(Debug)]
struct Policy<'a> {
    facts: &'a Facts,
}

impl JoinerPolicy for Policy<'_> {
    fn accept(&mut self, declaration: &Declaration) -> Result<Vec<Target>> {
        // IST needs nothing of this: the node's own files are used.
        if declaration.is_bypass() {
            return Ok(Vec::new());
        }
        self.facts.check(&declaration.properties)?;
        if declaration.roots != [ROOT] {
            let what = format!("the donor's roots {:?} are not {ROOT}", declaration.roots);
            return Err(Error::new(Code::Unsupported, what));
        }
        Ok(vec![Target::known(0)])
    }
}
