//! `mariadb-backup` of a running server, streamed to the other side and prepared there: what
//! Galera's other method does.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};

use super::exchange::{Durability, Ending, Exchange, Ready};
use super::tar::{BUFFER, pipeline};
use super::{About, Contender, Job, Measurement, Proof};
use crate::cache;
use crate::network::free_port;
use crate::programs;
use crate::server::{Server, Tuning};
use crate::tree;

/// A physical backup, unencrypted; recovery on the joiner is part of it.
#[derive(Debug, Default)]
pub(crate) struct Mariabackup {
    program: PathBuf,
    stream: PathBuf,
}

impl Contender for Mariabackup {
    fn name(&self) -> &'static str {
        "mariabackup-socat"
    }

    fn prepare(&mut self) -> Result<About> {
        self.program = programs::find("mariadb-backup")?;
        self.stream = programs::find("mbstream")?;
        programs::find("socat")?;
        Server::version()?;
        Ok(About {
            version: programs::version(&self.program)?,
            durability: "syncfs of the target's file system after --prepare".to_owned(),
            encrypted: false,
        })
    }

    fn run(&self, job: &Job<'_>) -> Result<Measurement> {
        // A server writes to its directory, so it gets a copy; neither is part of what is timed.
        let data = job.scratch.join("data");
        let mut copy = std::process::Command::new("cp");
        programs::done(copy.args(["-a", "--reflink=auto"]).arg(job.source).arg(&data))?;
        let server = Server::start(&data, job.scratch, Tuning::Idle, job.cancel)?;
        cache::chill(&[&data])?;

        let port = free_port()?;
        let address = job.receiver().address;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let mut receiver = pipeline(
            job.receiver(),
            &format!(
                "socat -u -b {BUFFER} TCP-LISTEN:{port},bind={address},reuseaddr STDOUT | \
                 \"$2\" -x -p {cores} -C \"$1\"; \
                 \"$3\" --no-defaults --prepare --use-memory=512M --target-dir=\"$1\""
            ),
        );
        receiver.arg(job.target).arg(&self.stream).arg(&self.program);
        let mut sender = pipeline(
            job.sender(),
            &format!(
                "\"$1\" --no-defaults --backup --stream=mbstream --parallel={cores} \
                 --user=root --socket=\"$2\" --target-dir=\"$3\" | \
                 socat -u -b {BUFFER} STDIN TCP:{address}:{port}"
            ),
        );
        sender.arg(&self.program).arg(server.socket()).arg(job.scratch.join("backup"));

        let ready = Ready::Port(port);
        let (ending, durability) = (Ending::ByItself, Durability::SyncFs);
        let mut measured = Exchange { receiver, sender, ready, ending, durability }.run(job)?;
        "running server, prepared copy".clone_into(&mut measured.notes);
        server.stop(job.cancel)?;
        Ok(measured)
    }

    fn proof(&self) -> Proof {
        Proof::Tables
    }
}

/// Whether `copy` has every table of `source`, none of them empty.
///
/// # Errors
/// The first one that is missing.
pub(crate) fn has_all_tables(source: &Path, copy: &Path) -> Result<()> {
    for path in tree::files(source)? {
        let relative = path.strip_prefix(source).unwrap_or(&path);
        if relative.extension().is_some_and(|extension| extension == "ibd") {
            let there = copy.join(relative).metadata().is_ok_and(|metadata| metadata.len() > 0);
            ensure!(there, "{} is missing", relative.display());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_missing_or_empty_table_is_found() {
        let (source, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for dir in [&source, &copy] {
            fs::create_dir(dir.path().join("s")).unwrap();
        }
        fs::write(source.path().join("s/t.ibd"), "x").unwrap();
        fs::write(source.path().join("s/t.frm"), "x").unwrap();
        assert!(has_all_tables(source.path(), copy.path()).is_err());
        fs::write(copy.path().join("s/t.ibd"), "").unwrap();
        assert!(has_all_tables(source.path(), copy.path()).is_err());
        fs::write(copy.path().join("s/t.ibd"), "y").unwrap();
        has_all_tables(source.path(), copy.path()).unwrap();
    }
}
