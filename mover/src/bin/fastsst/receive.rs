//! `fastsst receive`.

use std::fs;
use std::io::Write;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use fastsst_mover::tls::End;
use fastsst_mover::tree::Dir;
use fastsst_mover::walk::STAGING_NAME;
use fastsst_mover::{
    AnyDonor, Cancel, Code, Error, JoinerPolicy, Owner, Place, Progress, ReceiveConfig, Received,
    Receiver, Result, in_use,
};
use fastsst_proto::ticket::Ticket;

use crate::keep::KeepNothing;
use crate::private_file::{PrivateFile, must_be_outside};
use crate::send::{ROOT, SOFTWARE};
use crate::{args, garbd, report, signals};

/// Receives a directory.
pub(crate) fn run(args: args::Receive) -> Result<()> {
    let mut options = args.options()?;
    let host = args.host.clone().unwrap_or_else(|| host_of(args.listen.ip()));
    options.tls = args.common.certificates.load(End::Joiner, &host)?;
    if args.replace {
        in_use::check(&Dir::open_target(&args.into)?)?;
    } else {
        must_be_empty(&args.into)?;
    }
    let files = [("ticket file", &args.ticket_file), ("garbd file", &args.garbd)];
    for (what, file) in files {
        if let Some(file) = file {
            must_be_outside(what, file, &args.into)?;
        }
    }
    let (cancel, progress) = (Cancel::new(), Arc::new(Progress::default()));
    signals::watch(&cancel)?;
    let place =
        Place { name: ROOT.to_owned(), path: args.into.clone(), keep: Arc::new(KeepNothing) };
    let receiver = Receiver::bind(ReceiveConfig {
        places: vec![place],
        listen: args.listen,
        options,
        owner: Owner::Preserve,
        software: SOFTWARE.to_owned(),
    })?;
    let ticket = receiver.ticket(&host)?;
    if let Some(file) = &args.ticket_file {
        let text = ticket.to_text();
        PrivateFile::create("ticket file", file)?.publish(|out| out.write_all(text.as_bytes()))?;
    }
    if let Some(file) = &args.garbd {
        garbd::write_config(file, &ticket)?;
    }
    print_ticket(&ticket)?;
    tracing::info!("waiting for a sender at {}", receiver.local_addr());
    let drawing = report::Report::start(&progress);
    let mut policy: Box<dyn JoinerPolicy> = match args.garbd {
        Some(_) => Box::new(garbd::WholeDatadir),
        None => Box::new(AnyDonor::for_places(&[ROOT])),
    };
    let received = receiver.run(&mut *policy, &progress, &cancel);
    drop(drawing);
    match received? {
        Received::Full { summary, position } => {
            if !position.is_empty() {
                tracing::info!("the copy is of {}", String::from_utf8_lossy(&position).trim());
            }
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
