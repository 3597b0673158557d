//! What both roles need: the call, the configuration, the ways to speak and to end.

use std::sync::Arc;

use fastsst_mover::{Code, Error, Progress, Result};

use crate::args::{Args, Role, Server, Transfer};
use crate::config::Config;
use crate::exit::Ending;
use crate::facts::{Facts, SOFTWARE};
use crate::files::NodeFiles;
use crate::freeze::LockClock;
use crate::layout::Layout;
use crate::liveness;
use crate::markers::Markers;
use crate::options::SstOptions;
use crate::progress_log::ProgressLog;
use crate::settings::Settings;
use crate::wsrep::Wsrep;

/// Name of the one tree that is transferred.
pub(crate) const ROOT: &str = "datadir";

/// One transfer from the point of view of one process. Everything in it has been checked.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) args: Args,
    pub(crate) options: SstOptions,
    pub(crate) layout: Layout,
    pub(crate) files: Arc<NodeFiles>,
    pub(crate) facts: Facts,
    pub(crate) wsrep: Arc<Wsrep>,
    pub(crate) clock: LockClock,
    pub(crate) progress: Arc<Progress>,
    pub(crate) ending: Ending,
}

impl Session {
    /// Reads and checks the configuration, and starts to watch over server and signals.
    ///
    /// # Errors
    /// E01, E02, E03, E27 or E29, each naming what is wrong.
    pub(crate) fn begin(args: Args, ending: &Ending) -> Result<Self> {
        let bypass = match args.transfer {
            Transfer::Bypass => ", for IST only",
            Transfer::Snapshot => "",
        };
        tracing::info!("{} {} starts{bypass}", SOFTWARE, args.role.name());
        refuse_server(args.server)?;
        let config = Config::read(&args.defaults)?;
        let options = SstOptions::from_group(&config.sst)?;
        let settings = Settings::new(&args, &config);
        let layout = Layout::resolve(&args.datadir, &settings)?;
        let facts = Facts::gather(&layout.datadir, &settings);
        let files = NodeFiles::new(layout.clone(), &settings, options.cpat.clone());
        let clock = LockClock::new(options.engine.freeze_timeout);
        let parent = match args.role {
            Role::Joiner => args.parent,
            Role::Donor => None,
        };
        liveness::watch(ending, parent, clock.clone())?;
        Ok(Self {
            wsrep: Arc::new(Wsrep::new(args.progress)),
            progress: Arc::default(),
            files: Arc::new(files),
            ending: ending.clone(),
            args,
            options,
            layout,
            facts,
            clock,
        })
    }

    /// Makes this process the only transfer of the node.
    ///
    /// # Errors
    /// E03 or E05.
    pub(crate) fn lock(&self) -> Result<Arc<Markers>> {
        Ok(self.ending.own(Markers::lock(&self.layout.datadir)?))
    }

    /// Starts the progress lines.
    ///
    /// # Errors
    /// No thread can be started.
    pub(crate) fn report_progress(&self) -> Result<()> {
        ProgressLog {
            role: self.args.role,
            progress: Arc::clone(&self.progress),
            wsrep: Arc::clone(&self.wsrep),
            clock: self.clock.clone(),
        }
        .start(&self.ending)
    }
}

fn refuse_server(server: Server) -> Result<()> {
    match server {
        Server::MariaDb => Ok(()),
        Server::MysqlWsrep => {
            tracing::warn!("this release has been tested with MariaDB only, not with this server");
            Ok(())
        }
        Server::Pxc => Err(Error::new(
            Code::Unsupported,
            "this release does not serve Percona XtraDB Cluster; set wsrep_sst_method to \
             xtrabackup-v2",
        )),
    }
}
