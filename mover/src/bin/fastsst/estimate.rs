//! `fastsst estimate`.

use std::io::Write;
use std::sync::Arc;

use fastsst_mover::options::parse_bytes;
use fastsst_mover::summary::mib;
use fastsst_mover::tls::End;
use fastsst_mover::tree::Dir;
use fastsst_mover::walk::{AllFiles, SourceRoot};
use fastsst_mover::{
    Cancel, Error, Estimate, Options, Progress, Result, SendConfig, estimate, in_use,
};

use crate::send::{ROOT, SOFTWARE, ticket};
use crate::{args, report, signals};

/// Says how much `fastsst send` would send.
pub(crate) fn run(args: args::Estimate) -> Result<()> {
    let mut options = Options { polite: args.polite, ..args.common.options()? };
    let (ticket, rate) = (ticket(&args.to)?, parse_bytes(&args.rate)?);
    options.tls = args.common.certificates.load(End::Donor, &ticket.host)?;
    if !args.force {
        in_use::check(&Dir::open_source(&args.dir)?)?;
    }
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
    let estimated = estimate(config, &progress, &cancel);
    drop(drawing);
    let estimated = estimated?;
    writeln!(std::io::stdout().lock(), "{}", line(&estimated, rate))
        .map_err(|error| Error::write("standard output", error))?;
    args.common.summary_json.map_or(Ok(()), |path| {
        let text = serde_json::to_vec_pretty(&estimated)
            .map_err(|error| Error::bug("an estimate does not serialise").because(error))?;
        std::fs::write(&path, text).map_err(|error| Error::write(path.display(), error))
    })
}

fn line(estimated: &Estimate, rate: u64) -> String {
    format!(
        "{:.1} MiB of {:.1} MiB would be sent before compression, {:.1} MiB are there already; about \
         {:.0} s at {:.0} MiB/s (comparing took {:.1} s)",
        mib(estimated.wire_bytes),
        mib(estimated.bytes),
        mib(estimated.kept_bytes),
        estimated.seconds_at(rate).ceil(),
        mib(rate),
        estimated.compare_seconds
    )
}
