//! rsync as Galera's script runs it: the top of the directory first, then one rsync for each
//! directory below, as many at once as there are cores.

use anyhow::Result;

use super::exchange::{Durability, Exchange};
use super::rsyncd::{Program, Rsyncd};
use super::{About, Contender, Job, Measurement};
use crate::programs;

/// `$1` cores, `$2` source, `$3` target, then the options. The first rsync also makes the
/// directories, so that the others need not.
const SCRIPT: &str = concat!(
    "set -eu; cores=$1 source=$2 target=$3; shift 3; ",
    r#"rsync "$@" --no-recursive --dirs "$source/" "$target"; cd "$source"; "#,
    "find . -mindepth 1 -maxdepth 1 -type d -print0 | ",
    r#"xargs -0 -r -P "$cores" -I{} rsync "$@" "./{}/" "$target{}/""#,
);

/// Several rsync processes, unencrypted, unverified.
#[derive(Debug, Default)]
pub(crate) struct RsyncParallel {
    program: Program,
}

impl Contender for RsyncParallel {
    fn name(&self) -> &'static str {
        "rsync-parallel"
    }

    fn prepare(&mut self) -> Result<About> {
        self.program = Program::find()?;
        programs::find("xargs")?;
        Ok(About {
            version: self.program.version()?,
            durability: Durability::SYNCFS.to_owned(),
            encrypted: false,
        })
    }

    fn run(&self, job: &Job<'_>) -> Result<Measurement> {
        let daemon = Rsyncd::configure(job)?;
        let receiver = daemon.serve(job, &self.program);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let mut sender = job.sender().command("sh");
        daemon.authorize(&mut sender).args(["-c", SCRIPT, "sh", &cores.to_string()]);
        sender.arg(job.source).arg(daemon.url(job.receiver().address));
        sender.args(Program::options(job));

        Exchange::with_daemon(daemon.port, receiver, sender).run(job)
    }
}
