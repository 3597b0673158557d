//! What both roles need: the call, the configuration, the ways to speak and to end.

use std::sync::Arc;

use fastsst_mover::{Code, Error, Options, Progress, Result};

use crate::args::{Args, Role, Server, Transfer};
use crate::binlogs::Binlogs;
use crate::config::Config;
use crate::elsewhere::Elsewhere;
use crate::exit::Ending;
use crate::facts::{Facts, SOFTWARE};
use crate::files::NodeFiles;
use crate::freeze::LockClock;
use crate::layout::Layout;
use crate::liveness;
use crate::logging;
use crate::markers::Markers;
use crate::options::{SstOptions, Syslog};
use crate::progress_log::ProgressLog;
use crate::settings::Settings;
use crate::tls;
use crate::version;
use crate::wsrep::Wsrep;

/// Name of the one tree that is transferred.
pub(crate) const ROOT: &str = "datadir";

/// One transfer from the point of view of one process. Everything in it has been checked.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) args: Args,
    pub(crate) options: SstOptions,
    tls: tls::Choice,
    pub(crate) layout: Layout,
    pub(crate) files: Arc<NodeFiles>,
    /// Absent: the server writes none.
    pub(crate) binlogs: Option<Binlogs>,
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
        note_server(args.server);
        let config = Config::read(&args.defaults)?;
        let options = SstOptions::read(&config)?;
        if options.syslog == Syslog::Also {
            logging::also_to_syslog();
        }
        let tls = tls::Choice::resolve(&config, args.role)?;
        let settings = Settings::new(&args, &config);
        let layout = layout(&args, &settings)?;
        let binlogs = Binlogs::resolve(&layout.datadir, &settings);
        let logs = binlogs.iter().flat_map(|it| [&*it.directory, &*it.index_directory]);
        let home_links = layout.links_to_homes(&logs.collect::<Vec<_>>());
        let version = version::of_server(&args, &layout.datadir, &settings);
        let facts = Facts::gather(version, &settings, &layout.system_files);
        let files = NodeFiles::new(&layout, &settings, options.cpat.clone());
        let files = files.with_home_links(home_links);
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
            binlogs,
            ending: ending.clone(),
            args,
            options,
            tls,
            layout,
            facts,
            clock,
        })
    }

    /// What the engine takes, with the certificates; `joiner` is the host of the request.
    ///
    /// # Errors
    /// E01 naming the option and the file that cannot be used.
    pub(crate) fn engine_options(&self, joiner: &str) -> Result<Options> {
        Ok(Options { tls: self.tls.load(joiner)?, ..self.options.engine.clone() })
    }

    /// Makes this process the only transfer of the node.
    ///
    /// # Errors
    /// E03 or E05.
    pub(crate) fn lock(&self) -> Result<Arc<Markers>> {
        Ok(self.ending.own(Markers::lock(&self.layout.datadir)?))
    }

    /// What lies outside of the data directory now. What an old tree of a joiner has there is of use
    /// only; it keeps nobody from joining.
    ///
    /// # Errors
    /// Those of [`Elsewhere::find`], for a donor.
    pub(crate) fn elsewhere(&self) -> Result<Elsewhere> {
        let found = Elsewhere::find(&self.layout.datadir, self.files.home_links());
        match (found, self.args.role) {
            (Err(error), Role::Joiner) => {
                tracing::warn!("tables outside of the datadir are not looked at: {error}");
                Ok(Elsewhere::default())
            }
            (found, Role::Joiner | Role::Donor) => found,
        }
    }

    /// Starts the progress lines.
    ///
    /// # Errors
    /// No thread can be started.
    pub(crate) fn report_progress(&self) -> Result<()> {
        ProgressLog {
            role: self.args.role,
            to: self.options.progress.clone(),
            progress: Arc::clone(&self.progress),
            wsrep: Arc::clone(&self.wsrep),
            clock: self.clock.clone(),
        }
        .start(&self.ending)
    }
}

/// The directories, which a donor must have and a joiner may make.
fn layout(args: &Args, settings: &Settings<'_>) -> Result<Layout> {
    let mut layout = Layout::resolve(&args.datadir, settings)?;
    let is_sending = args.role == Role::Donor && args.transfer == Transfer::Snapshot;
    if is_sending && args.server != Server::MariaDb {
        refuse_mysql_directories(settings)?;
    }
    match args.role {
        Role::Donor => layout.check_homes()?,
        Role::Joiner => layout.make_homes()?,
    }
    if let Some(line) = layout.elsewhere() {
        tracing::info!("{line}");
    }
    Ok(layout)
}

/// MySQL finds files in further directories, and has no list of them that could be read from outside.
fn refuse_mysql_directories(settings: &Settings<'_>) -> Result<()> {
    for option in ["innodb-directories", "innodb-doublewrite-dir"] {
        if let Some(value) = settings.value(option) {
            let option = option.replace('-', "_");
            return Err(Error::new(
                Code::Unsupported,
                format!(
                    "{option}={value}: what MySQL keeps there would not be transferred; use another \
                     SST method for this node"
                ),
            ));
        }
    }
    Ok(())
}

/// Says what an operator should know of the server that called.
fn note_server(server: Server) {
    match server {
        Server::MariaDb => {}
        Server::MysqlWsrep | Server::Pxc => tracing::warn!(
            "fastsst follows this server's SST protocol, but has not been tried with the server itself"
        ),
    }
}
