//! The joiner, from top to bottom.
//!
//! Everything that can be refused is refused before `ready`: only with that line the request
//! goes out, and only then the provider forgets the node's old position.

use fastsst_mover::commit::recover;
use fastsst_mover::receive::{ReceiveConfig, Received, Receiver};
use fastsst_mover::staging::Owner;
use fastsst_mover::{Code, Error, Options, Result};

use crate::address::{History, JoinerAddress};
use crate::facts::SOFTWARE;
use crate::places::{self, Places};
use crate::policy::Policy;
use crate::position::Position;
use crate::session::Session;

/// Receives a snapshot or, for IST, only a position.
///
/// # Errors
/// Whatever stopped it; without a final line the server knows that it failed.
pub(crate) fn run(session: &Session) -> Result<()> {
    let address = JoinerAddress::parse(&session.args.address, session.args.port.as_deref())?;
    address.check_charset()?;
    session.files.refuse_nested()?;
    let options = session.engine_options(&address.host)?;
    let markers = session.lock()?;
    markers.show()?;
    let binlogs = session.binlogs.as_ref();
    // What an earlier transfer had decided takes its place first: it says where tables are.
    recover(&places::datadir(&session.layout, &session.files))?;
    let elsewhere = session.elsewhere()?;
    let places = Places::new(&session.layout, &session.files, binlogs, &elsewhere)?;
    if let Some(line) = places.line() {
        tracing::info!("{line}");
    }
    let receiver = Receiver::bind(config(&address, &places, options))?;
    let ticket = receiver.ticket(&address.host)?;
    let history = if binlogs.is_some() { History::Wanted } else { History::Unwanted };
    let request = address.request(&ticket, session.args.server, history)?;
    session.wsrep.ready(&request)?;
    tracing::info!(
        "this node joins: it waits at {} port {} for the donor that the cluster chooses{}",
        address.host,
        ticket.port,
        patience(session)
    );
    session.report_progress()?;

    let mut policy = Policy::new(session, &places, &elsewhere);
    let received = receiver
        .run(&mut policy, &session.progress, session.ending.cancel())
        .map_err(|error| policy.explain(error))?;
    let position = finish(session, received)?;

    session.ending.succeed()?;
    markers.remove();
    session.wsrep.joined(&position)
}

/// How long that may take, for the line.
fn patience(session: &Session) -> String {
    let limit = session.options.engine.initial_timeout;
    limit.map_or_else(String::new, |limit| {
        format!(", at most {} s ([sst] sst-initial-timeout)", limit.as_secs())
    })
}

fn config(address: &JoinerAddress, places: &Places, options: Options) -> ReceiveConfig {
    ReceiveConfig {
        places: places.for_engine(),
        listen: address.listen(),
        options,
        owner: Owner::Process,
        software: SOFTWARE.to_owned(),
    }
}

/// What is left to do once the engine is done.
fn finish(session: &Session, received: Received) -> Result<Position> {
    let (what, position) = match received {
        Received::Bypass { position } => {
            tracing::info!("the donor serves this node by IST; nothing was transferred");
            ("IST", position)
        }
        Received::Full { position, summary } => {
            session.files.make_directories()?;
            tracing::info!("received {}", summary.line());
            ("SST", position)
        }
    };
    let position = Position::parse(&position).map_err(|why| {
        Error::new(Code::Protocol, format!("the donor's position is wrong: {why}"))
    })?;
    // Scripts look for the words up to the colon, as the stock method writes them.
    tracing::info!("fastsst {what} completed on joiner: the server goes on from {position}");
    Ok(position)
}
