//! The donor, from top to bottom.

use std::sync::Arc;

use fastsst_mover::send::{BypassConfig, SendConfig, Sent, send, send_bypass};
use fastsst_mover::walk::{Filter, SourceRoot};
use fastsst_mover::{Error, Result};
use fastsst_proto::Ticket;

use crate::address::DonorAddress;
use crate::args::Transfer;
use crate::credentials;
use crate::facts::SOFTWARE;
use crate::freeze::ServerFreeze;
use crate::position::Position;
use crate::session::{ROOT, Session};

/// Hands over a snapshot or, for IST, only a position.
///
/// # Errors
/// Whatever stopped it; the server has been thawed or thaws when this process ends.
pub(crate) fn run(session: &Session) -> Result<()> {
    let ticket = DonorAddress::parse(&session.args.address)?.ticket(credentials::token)?;
    tracing::info!("the joiner is at {} port {}", ticket.host, ticket.port);
    let markers = session.lock()?;
    let position = match session.args.transfer {
        Transfer::Bypass => hand_over_position(session, ticket)?,
        Transfer::Snapshot => send_snapshot(session, ticket)?,
    };
    session.ending.succeed()?;
    markers.remove();
    session.wsrep.done(&position)
}

fn hand_over_position(session: &Session, ticket: Ticket) -> Result<Position> {
    let position = Position::of_bypass(&session.args.gtid, session.args.server)?;
    let config = BypassConfig {
        ticket,
        options: session.options.engine.clone(),
        position: position.as_str().as_bytes().to_vec(),
        properties: session.facts.properties(),
        software: SOFTWARE.to_owned(),
    };
    send_bypass(config, session.ending.cancel())?;
    tracing::info!("the joiner continues by IST at {position}");
    Ok(position)
}

fn send_snapshot(session: &Session, ticket: Ticket) -> Result<Position> {
    session.layout.refuse_tables_elsewhere()?;
    if session.files.has_binary_logs() {
        tracing::warn!(
            "binary logs are not transferred: the joiner starts new ones, and an asynchronous \
             replica cannot continue from it by the old positions"
        );
    }
    session.report_progress()?;
    let filter: Arc<dyn Filter> = Arc::clone(&session.files) as _;
    let datadir = session.layout.datadir.clone();
    let config = SendConfig {
        roots: vec![SourceRoot { name: ROOT.to_owned(), path: datadir, filter }],
        ticket,
        options: session.options.engine.clone(),
        properties: session.facts.properties(),
        capture: "locked".to_owned(),
        software: SOFTWARE.to_owned(),
    };
    let mut server = ServerFreeze::new(
        &session.layout.datadir,
        Arc::clone(&session.wsrep),
        session.clock.clone(),
        session.args.server,
    );
    let Sent { summary, position, .. } =
        send(config, &mut server, &session.progress, session.ending.cancel())?;
    tracing::info!("sent {}", summary.line());
    Position::parse(&position).map_err(Error::bug)
}
