//! The donor, from top to bottom.

use std::path::Path;
use std::sync::Arc;

use fastsst_mover::send::{BypassConfig, SendConfig, Sent, send, send_bypass};
use fastsst_mover::walk::{Filter, SourceRoot};
use fastsst_mover::{Cancel, Code, Error, Freeze, Frozen, Options, Result};
use fastsst_proto::Ticket;
use fastsst_proto::limits::ROOTS_MAX;

use crate::address::{DonorAddress, History};
use crate::args::Transfer;
use crate::binlogs::{self, Chosen};
use crate::credentials;
use crate::elsewhere::Elsewhere;
use crate::facts::SOFTWARE;
use crate::freeze::ServerFreeze;
use crate::parts::{Part, PartFilter};
use crate::position::Position;
use crate::session::{ROOT, Session};

/// Hands over a snapshot or, for IST, only a position.
///
/// # Errors
/// Whatever stopped it; the server has been thawed or thaws when this process ends.
pub(crate) fn run(session: &Session) -> Result<()> {
    let address = DonorAddress::parse(&session.args.address)?;
    let history = address.history;
    let ticket = address.ticket(credentials::token)?;
    tell_the_task(session, &ticket);
    let options = session.engine_options(&ticket.host)?;
    let markers = session.lock()?;
    let position = match session.args.transfer {
        Transfer::Bypass => hand_over_position(session, ticket, options)?,
        Transfer::Snapshot => send_snapshot(session, (ticket, history), options)?,
    };
    session.ending.succeed()?;
    markers.remove();
    session.wsrep.done(&position)
}

/// What this run is about, as the first thing that somebody reads in the error log.
fn tell_the_task(session: &Session, ticket: &Ticket) {
    let (host, port) = (&ticket.host, ticket.port);
    match session.args.transfer {
        Transfer::Snapshot => tracing::info!(
            "this node is the donor of {host} port {port}, which gets all of {}",
            session.layout.datadir.display()
        ),
        Transfer::Bypass => tracing::info!(
            "this node is the donor of {host} port {port}, which gets only a position, and what it \
             lacks by IST"
        ),
    }
}

fn hand_over_position(session: &Session, ticket: Ticket, options: Options) -> Result<Position> {
    let position = Position::of_bypass(&session.args.gtid, session.args.server)?;
    let config = BypassConfig {
        ticket,
        options,
        position: position.as_str().as_bytes().to_vec(),
        properties: session.facts.properties(),
        software: SOFTWARE.to_owned(),
    };
    send_bypass(config, session.ending.cancel())?;
    tracing::info!("fastsst IST completed on donor: the joiner goes on from {position}");
    Ok(position)
}

fn send_snapshot(
    session: &Session,
    (ticket, history): (Ticket, History),
    options: Options,
) -> Result<Position> {
    session.layout.refuse_linked_files()?;
    session.report_progress()?;
    let chosen = match (&session.binlogs, history) {
        (Some(binlogs), History::Wanted) => {
            let chosen = Chosen::new(binlogs.clone(), session.options.max_binlogs);
            // For the joiner's check of room; under the lock it is done again.
            chosen.choose()?;
            Some(chosen)
        }
        (Some(_), History::Unwanted) => {
            tracing::info!("no binary logs are sent: the joiner's server writes none");
            None
        }
        (None, _) => None,
    };
    let elsewhere = session.elsewhere()?;
    if let Some(line) = elsewhere.line() {
        tracing::info!("tables outside of the datadir are sent from {line}");
    }
    session.files.leave_out(elsewhere.entries.clone())?;
    let mut properties = session.facts.properties();
    properties.extend(elsewhere.properties()?);
    let roots = roots(session, chosen.as_ref(), &elsewhere);
    if roots.len() > ROOTS_MAX {
        return Err(Error::new(
            Code::Unsupported,
            format!(
                "tables and databases outside of the datadir are in {} directories, {} more than one \
                 transfer can have; use another SST method",
                elsewhere.found.len(),
                roots.len() - ROOTS_MAX
            ),
        ));
    }
    let config = SendConfig {
        roots,
        ticket,
        options,
        properties,
        capture: "locked".to_owned(),
        software: SOFTWARE.to_owned(),
    };
    let server = ServerFreeze::new(
        &session.layout.datadir,
        Arc::clone(&session.wsrep),
        session.clock.clone(),
        session.args.server,
    );
    let mut server = Settled { server, session, chosen, elsewhere };
    let Sent { summary, position, .. } =
        send(config, &mut server, &session.progress, session.ending.cancel())?;
    tracing::info!("sent {}", summary.line());
    let position = Position::parse(&position).map_err(Error::bug)?;
    // Scripts look for the words up to the colon, as the stock method writes them.
    tracing::info!(
        "fastsst SST completed on donor: the joiner has everything, safe on its disks, as of {position}"
    );
    Ok(position)
}

/// The data directory, the parts of it that may lie elsewhere, binary logs, tables elsewhere.
fn roots(session: &Session, chosen: Option<&Chosen>, elsewhere: &Elsewhere) -> Vec<SourceRoot> {
    let root = |name: &str, path: &Path, filter: Arc<dyn Filter>| SourceRoot {
        name: name.to_owned(),
        path: path.to_owned(),
        filter,
    };
    let layout = &session.layout;
    let datadir = root(ROOT, &layout.datadir, Arc::clone(&session.files) as _);
    let parts = Part::ALL.into_iter().map(|part| {
        let filter = PartFilter { part, names: layout.names() };
        root(part.root(), layout.home(part), Arc::new(filter))
    });
    let logs =
        chosen.map(|chosen| root(binlogs::ROOT, chosen.directory(), Arc::new(chosen.clone())));
    std::iter::once(datadir).chain(parts).chain(logs).chain(elsewhere.roots()).collect()
}

/// The server's lock, and what can be known only under it.
#[derive(Debug)]
struct Settled<'a> {
    server: ServerFreeze,
    session: &'a Session,
    chosen: Option<Chosen>,
    /// What was declared.
    elsewhere: Elsewhere,
}

impl Settled<'_> {
    fn settle(&self) -> Result<()> {
        if let Some(chosen) = &self.chosen {
            chosen.choose()?;
            tracing::info!("{}", chosen.line());
        }
        // Roots were declared before the lock.
        let now = Elsewhere::find(&self.session.layout.datadir, self.session.files.home_links())?;
        match self.elsewhere.has_all_of(&now) {
            true => Ok(()),
            false => Err(Error::new(
                Code::SourceChanged,
                "a table outside of the datadir was created or moved while the transfer began; start the \
                 joiner again, the next transfer includes it",
            )),
        }
    }
}

impl Freeze for Settled<'_> {
    fn freeze(&mut self, cancel: &Cancel) -> Result<Frozen> {
        let frozen = self.server.freeze(cancel)?;
        match self.settle() {
            Ok(()) => Ok(frozen),
            Err(error) => {
                self.server.thaw()?;
                Err(error)
            }
        }
    }

    fn thaw(&mut self) -> Result<()> {
        self.server.thaw()
    }
}
