//! `fastsst receive`.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use fastsst_mover::tree::Dir;
use fastsst_mover::walk::STAGING_NAME;
use fastsst_mover::{
    AnyDonor, Cancel, Code, Error, Owner, Progress, ReceiveConfig, Received, Receiver, Result,
    TargetRoot, in_use,
};
use fastsst_proto::ticket::Ticket;

use crate::keep::KeepNothing;
use crate::send::{ROOT, SOFTWARE};
use crate::{args, report, signals};

/// Receives a directory.
pub(crate) fn run(args: args::Receive) -> Result<()> {
    let options = args.options()?;
    if args.replace {
        in_use::check(&Dir::open_target(&args.into)?)?;
    } else {
        must_be_empty(&args.into)?;
    }
    let (cancel, progress) = (Cancel::new(), Arc::new(Progress::default()));
    signals::watch(&cancel)?;
    let root =
        TargetRoot { name: ROOT.to_owned(), path: args.into.clone(), keep: Arc::new(KeepNothing) };
    let receiver = Receiver::bind(ReceiveConfig {
        roots: vec![root],
        listen: args.listen,
        options,
        owner: Owner::Preserve,
        software: SOFTWARE.to_owned(),
    })?;
    let host = args.host.clone().unwrap_or_else(|| host_of(args.listen.ip()));
    let ticket = receiver.ticket(&host)?;
    if let Some(file) = &args.ticket_file {
        write_ticket(file, &ticket)?;
    }
    print_ticket(&ticket)?;
    tracing::info!("waiting for a sender at {}", receiver.local_addr());
    let drawing = report::Report::start(&progress);
    let received = receiver.run(&mut AnyDonor, &progress, &cancel);
    drop(drawing);
    match received? {
        Received::Full { summary, .. } => {
            report::finish(&summary, args.common.summary_json.as_deref())
        }
        Received::Bypass { .. } => {
            tracing::info!("the donor says that nothing needs to be transferred");
            Ok(())
        }
    }
}

/// The first and only line on standard output.
fn print_ticket(ticket: &Ticket) -> Result<()> {
    let mut out = std::io::stdout().lock();
    let text = ticket.to_text();
    writeln!(out, "{}", text.as_str())
        .and_then(|()| out.flush())
        .map_err(|error| Error::write("the ticket to standard output", error))
}

/// A sender that polls for the file must not see half of it, nor anybody else its content: so it is
/// made anew beside its place, and never by somebody else.
fn write_ticket(path: &Path, ticket: &Ticket) -> Result<()> {
    let failed = |error| Error::write(format!("ticket file {}", path.display()), error);
    let mut partial = path.as_os_str().to_owned();
    partial.push(".part");
    remove_if_there(Path::new(&partial)).map_err(failed)?;
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial);
    let text = ticket.to_text();
    file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(failed)?;
    remove_if_there(path).map_err(failed)?;
    fs::hard_link(&partial, path).and_then(|()| fs::remove_file(&partial)).map_err(failed)
}

fn remove_if_there(path: &Path) -> std::io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// What a receiver on the wildcard address puts into the ticket: this machine's name.
fn host_of(ip: IpAddr) -> String {
    if !ip.is_unspecified() {
        return ip.to_string();
    }
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if name.is_empty() { "127.0.0.1".to_owned() } else { name }
}

/// An unfinished reception is nobody's data and may be replaced; anything else may not.
fn must_be_empty(dir: &Path) -> Result<()> {
    let cannot = |error| {
        let what = format!("cannot open the target directory {}", dir.display());
        Error::new(Code::Access, what).because(error)
    };
    for entry in fs::read_dir(dir).map_err(cannot)? {
        let name = entry.map_err(cannot)?.file_name();
        if name.as_encoded_bytes() != STAGING_NAME {
            return Err(Error::new(
                Code::NotEmpty,
                format!(
                    "{} is not empty, it holds {name:?}; use another directory, or --replace to \
                     give up what is there",
                    dir.display()
                ),
            ));
        }
    }
    Ok(())
}
