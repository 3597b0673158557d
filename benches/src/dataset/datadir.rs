//! The data directory of a real MariaDB server, filled by sysbench and shut down cleanly.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::DataSet;
use crate::cancel::Cancel;
use crate::programs;
use crate::server::{Server, Tuning};
use crate::side::{Side, watch};

/// What a row of sysbench takes, its entry in the secondary index and the free space of its pages
/// included.
const ROW_BYTES: u64 = 250;

/// What a server has besides rows: undo, dictionary, and the reserved ends of tables.
const FIXED_MIB: u32 = 120;

const TABLES: u32 = 8;

/// Of sysbench's random numbers. The files differ all the same in times and log positions.
const SEED: u32 = 1;

/// The data set.
#[derive(Debug)]
pub(crate) struct Datadir {
    mib: u32,
}

impl Datadir {
    /// A directory of about `mib` MiB.
    pub(crate) fn new(mib: u32) -> Self {
        Self { mib }
    }

    /// Rows of each table. A directory that is hardly larger than an empty one gets a few anyway.
    fn rows(&self) -> u64 {
        let tables = self.mib.saturating_sub(FIXED_MIB + self.log_mib()).max(self.mib / 4);
        (u64::from(tables) << 20) / u64::from(TABLES) / ROW_BYTES
    }

    /// The redo log of a server of this size; it cannot be smaller than 4 MiB.
    fn log_mib(&self) -> u32 {
        (self.mib / 32).clamp(8, 96)
    }

    /// Lets sysbench fill the tables, as many at once as there are cores.
    fn fill(&self, server: &Server, scratch: &Path, cancel: &Cancel) -> Result<()> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let mut command = Command::new(programs::find("sysbench")?);
        command.args(["oltp_read_write", "--db-driver=mysql", "--mysql-user=root"]);
        command.args(["--mysql-db=sbtest", &format!("--threads={threads}")]);
        command.arg(format!("--mysql-socket={}", server.socket().display()));
        command.arg(format!("--tables={TABLES}")).arg(format!("--table-size={}", self.rows()));
        command.arg(format!("--rand-seed={SEED}")).arg("prepare");
        let mut side = Side::start("sysbench", &mut command, scratch)?;
        watch([&mut side], cancel, |[side]| side.ended())?;
        side.succeeded().map(|_| ())
    }
}

impl DataSet for Datadir {
    fn name(&self) -> &'static str {
        "datadir"
    }

    fn version(&self) -> u32 {
        1
    }

    fn mib(&self) -> u32 {
        self.mib
    }

    fn describe(&self) -> String {
        let server = Server::version().unwrap_or_default();
        let sysbench = programs::find("sysbench").and_then(|it| programs::version(&it));
        format!(
            "data directory of a MariaDB server after a clean shutdown: {TABLES} tables of {} rows \
             by `sysbench oltp_read_write prepare --rand-seed={SEED}`, a redo log of {} MiB; \
             {server}; {}",
            self.rows(),
            self.log_mib(),
            sysbench.unwrap_or_default(),
        )
    }

    fn bytes(&self) -> u64 {
        u64::from(self.mib) << 20
    }

    fn is_possible(&self) -> Result<()> {
        programs::find("mariadb-install-db")?;
        programs::find("mariadb")?;
        programs::find("sysbench")?;
        Server::version().map(|_| ())
    }

    fn is_a_server_s(&self) -> bool {
        true
    }

    fn generate(&self, into: &Path, scratch: &Path, cancel: &Cancel) -> Result<()> {
        Server::install(into)?;
        let tuning = Tuning::Loading { log_mib: self.log_mib() };
        let server = Server::start(into, scratch, tuning, cancel)?;
        server.run("CREATE DATABASE sbtest").context("cannot create a schema")?;
        self.fill(&server, scratch, cancel)?;
        server.stop(cancel)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_fill_what_the_server_leaves() {
        let data = Datadir::new(3072);
        let tables = (data.rows() * u64::from(TABLES) * ROW_BYTES) >> 20;
        assert!((2800..2900).contains(&tables), "{tables}");
        assert!(Datadir::new(1).rows() < 1000);
    }
}
