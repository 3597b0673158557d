//! All contenders there are.

use std::path::Path;

use crate::contender::Contender;
use crate::contender::fastsst::Fastsst;
use crate::contender::floor::Floor;
use crate::contender::floor_read::FloorRead;
use crate::contender::mariabackup::Mariabackup;
use crate::contender::rsync::Rsync;
use crate::contender::rsync_parallel::RsyncParallel;
use crate::contender::rsync_ssh::RsyncSsh;
use crate::contender::rsync_stunnel::RsyncStunnel;
use crate::contender::syq::Syq;
use crate::contender::tar::Tar;

/// The one whose rate is 1.00.
pub(crate) const BASELINE: &str = "rsync";

/// Names of fastsst's begin so.
pub(crate) const OURS: &str = "fastsst";

/// Names of those begin so that are no rivals but limits.
pub(crate) const LIMIT: &str = "floor";

/// Runs only where a server's files are copied.
pub(crate) const OF_A_SERVER: &str = "mariabackup-socat";

/// Programs that are not looked for in PATH.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Programs<'a> {
    /// The fastsst to measure.
    pub(crate) fastsst: &'a Path,
    /// The syq to measure.
    pub(crate) syq: Option<&'a Path>,
}

/// Everybody, in the order of the tables.
pub(crate) fn contenders(programs: Programs<'_>) -> Vec<Box<dyn Contender>> {
    let fastsst = || programs.fastsst.to_owned();
    vec![
        Box::new(Rsync::whole()),
        Box::new(Rsync::delta()),
        Box::new(RsyncParallel::default()),
        Box::new(RsyncStunnel::default()),
        Box::new(RsyncSsh::default()),
        Box::new(Syq::new(programs.syq.map(Path::to_owned))),
        Box::new(Tar::plain()),
        Box::new(Tar::zstd()),
        Box::new(Mariabackup::default()),
        Box::new(Fastsst::auto(fastsst())),
        Box::new(Fastsst::quic(fastsst())),
        Box::new(Fastsst::tcp(fastsst())),
        Box::new(Floor),
        Box::new(FloorRead),
    ]
}
