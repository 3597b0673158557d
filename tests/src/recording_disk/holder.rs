//! A process that holds a mount namespace, and with it what is mounted there.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::Duration;

use rustix::process::getuid;

use crate::cluster::program;
use crate::small_disk::Namespace;
use crate::wait::{ASK, Finished, run, until_every};

/// Unmounting writes what is left to a disk in memory.
const UNMOUNT: Duration = Duration::from_secs(30);

/// Ends when its input ends, and with the last process of a namespace its mounts are gone, too. Its
/// output may be needed by the mounts, not by it, and must not stay open.
const WAIT: &str = "echo ready >&2 && exec cat >/dev/null";

/// A mount namespace with a file system at `inside`.
#[derive(Debug)]
pub(super) struct Holder {
    child: Child,
    says: BufReader<ChildStderr>,
    inside: PathBuf,
}

impl Holder {
    /// Runs `script`, which has the arguments and then `inside` as `$1`, `$2`..., in a new
    /// namespace; `output` is its standard output.
    pub(super) fn start(script: &str, paths: &[&Path], output: Stdio) -> Self {
        assert!(
            getuid().is_root(),
            "only root may make a loop device and mount a file system on it: run this test as root"
        );
        let mut child = Command::new(program("unshare"))
            .args(["--mount", "/bin/sh", "-c", &format!("{script} && {WAIT}"), "holder"])
            .args(paths)
            .stdin(Stdio::piped())
            .stdout(output)
            .stderr(Stdio::piped())
            .spawn()
            .expect("unshare starts");
        let says = BufReader::new(child.stderr.take().expect("piped"));
        let inside = paths.last().expect("a mount point").to_path_buf();
        Self { child, says, inside }
    }

    /// Waits until it has come this far; what went wrong, otherwise.
    pub(super) fn wait_for(&mut self, word: &str) -> Result<(), String> {
        let mut said = String::new();
        self.says.read_line(&mut said).unwrap();
        if said.trim() == word {
            return Ok(());
        }
        self.says.read_to_string(&mut said).unwrap();
        Err(said)
    }

    /// Where a process in the namespace finds what is mounted.
    pub(super) fn inside(&self) -> &Path {
        &self.inside
    }

    /// Where this process finds it.
    pub(super) fn outside(&self) -> PathBuf {
        let inside = self.inside.strip_prefix("/").expect("absolute");
        Path::new("/proc").join(self.child.id().to_string()).join("root").join(inside)
    }

    pub(super) fn namespace(&self) -> Namespace {
        Namespace::of_root(self.child.id())
    }

    /// Unmounts while everybody is still there; the result is durable.
    ///
    /// A program that another thread starts holds copies of all files that this process has open,
    /// from its fork until its exec: the file system may be busy for that long.
    pub(super) fn unmount(self) {
        until_every(ASK, "the file system is not busy any more", UNMOUNT, || {
            let unmounted = self.try_unmount();
            let is_busy = unmounted.stderr.contains("busy");
            assert!(unmounted.status.success() || is_busy, "{}", unmounted.stderr);
            unmounted.status.success().then_some(())
        });
    }

    fn try_unmount(&self) -> Finished {
        let mut command = self.namespace().command(&program("umount"));
        run(command.arg(&self.inside), UNMOUNT)
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // Its input ends with this, so it would end by itself; this does not leave it a zombie.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
