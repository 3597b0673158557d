//! `fastsst send`.

use std::io::Read;
use std::sync::Arc;

use fastsst_mover::tls::End;
use fastsst_mover::tree::Dir;
use fastsst_mover::walk::{AllFiles, SourceRoot};
use fastsst_mover::{Cancel, Code, Error, NoFreeze, Progress, Result, SendConfig, in_use};
use fastsst_proto::limits::TICKET_BYTES_MAX;
use fastsst_proto::ticket::Ticket;
use zeroize::Zeroizing;

use crate::private_file::{PrivateFile, must_be_outside};
use crate::{args, report, signals};

/// Sends a directory.
pub(crate) fn run(args: args::Send) -> Result<()> {
    let mut options = args.options()?;
    let ticket = ticket(&args.to)?;
    options.tls = args.common.certificates.load(End::Donor, &ticket.host)?;
    if !args.force {
        in_use::check(&Dir::open_source(&args.dir)?)?;
    }
    let manifest = args.manifest.as_deref().map(|path| {
        must_be_outside(MANIFEST, path, &args.dir)?;
        PrivateFile::create(MANIFEST, path)
    });
    let manifest = manifest.transpose()?;
    let (cancel, progress) = (Cancel::new(), Arc::new(Progress::default()));
    signals::watch(&cancel)?;
    let drawing = report::Report::start(&progress);
    let root = SourceRoot { name: ROOT.to_owned(), path: args.dir, filter: Arc::new(AllFiles) };
    let config = SendConfig {
        roots: vec![root],
        ticket,
        options,
        properties: Vec::new(),
        capture: "none".to_owned(),
        software: SOFTWARE.to_owned(),
    };
    let sent = fastsst_mover::send(config, &mut NoFreeze, &progress, &cancel);
    drop(drawing);
    let sent = sent?;
    report::finish(&sent.summary, args.common.summary_json.as_deref())?;
    match (manifest, sent.manifest) {
        (Some(file), Some(manifest)) => file.publish(|out| manifest.write(out)),
        _ => Ok(()),
    }
}

/// What messages call the file that [`fastsst_mover::manifest`] describes.
pub(crate) const MANIFEST: &str = "manifest";

/// The name of the one root of a plain transfer.
pub(crate) const ROOT: &str = "data";

/// What the peer's log calls this program.
pub(crate) const SOFTWARE: &str = concat!("fastsst ", env!("CARGO_PKG_VERSION"));

/// Reads a ticket from where the argument says; it carries a secret, so a file or standard input
/// keeps it out of the process list.
pub(crate) fn ticket(to: &str) -> Result<Ticket> {
    let text = match to.strip_prefix('@') {
        Some(file) => {
            let opened = std::fs::File::open(file);
            let opened =
                opened.map_err(|error| Error::read(format!("ticket file {file}"), error))?;
            read(opened, &format!("ticket file {file}"))?
        }
        None if to == "-" => read(std::io::stdin().lock(), "the ticket from standard input")?,
        None => Zeroizing::new(to.to_owned()),
    };
    Ticket::parse(&text)
        .map_err(|error| Error::new(Code::Ticket, "the ticket is not valid").because(error))
}

fn read(from: impl Read, place: &str) -> Result<Zeroizing<String>> {
    // The capacity is final, so no reallocation leaves a copy of the token behind.
    let mut text = Zeroizing::new(String::with_capacity(TICKET_BYTES_MAX + 2));
    let limit = u64::try_from(TICKET_BYTES_MAX + 1).unwrap_or(u64::MAX);
    from.take(limit).read_to_string(&mut text).map_err(|error| Error::read(place, error))?;
    Ok(text)
}
