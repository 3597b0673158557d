//! A file system of a few MiB, in a mount namespace that nobody else sees.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::getuid;

use crate::cluster::program;
use crate::transfer::Sandbox;

/// Mounts and then waits until its input ends: with the last process of the namespace the mount is
/// gone, too, however this test ends.
const SCRIPT: &str =
    r#"mount -t tmpfs -o "size=$2,mode=0755" fastsst-test "$1" && echo ready && exec cat"#;

/// A tmpfs of limited size.
#[derive(Debug)]
pub struct SmallDisk {
    holder: Child,
    inside: PathBuf,
    owner: Owner,
}

/// Whose namespace it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    /// Root needs no other rights to mount something.
    Root,
    /// A user does it in a user namespace of his own.
    User,
}

/// The way into a namespace.
#[derive(Debug, Clone, Copy)]
pub struct Namespace {
    holder: u32,
    owner: Owner,
}

impl SmallDisk {
    /// Mounts one. Needs root, or a kernel that lets users have namespaces.
    #[must_use]
    pub fn mount(place: &Sandbox, mib: u32) -> Self {
        let inside = place.dir("disk");
        let owner = if getuid().is_root() { Owner::Root } else { Owner::User };
        let mut command = Command::new(program("unshare"));
        command.arg("--mount");
        if owner == Owner::User {
            command.args(["--user", "--map-root-user"]);
        }
        command.args(["/bin/sh", "-c", SCRIPT, "small-disk"]).arg(&inside).arg(format!("{mib}m"));
        let mut holder = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("unshare starts");
        let mut line = String::new();
        let output = holder.stdout.take().expect("piped");
        BufReader::new(output).read_line(&mut line).unwrap();
        if line.trim() != "ready" {
            let mut why = String::new();
            holder.stderr.take().expect("piped").read_to_string(&mut why).unwrap();
            panic!("no private mount (root, or user namespaces, are needed): {why}");
        }
        Self { holder, inside, owner }
    }

    /// Where a process that is in the namespace finds it.
    #[must_use]
    pub fn inside(&self) -> PathBuf {
        self.inside.clone()
    }

    /// Where this test finds it.
    #[must_use]
    pub fn outside(&self) -> PathBuf {
        let inside = self.inside.strip_prefix("/").expect("absolute");
        Path::new("/proc").join(self.holder.id().to_string()).join("root").join(inside)
    }

    /// Fills it to the last block.
    pub fn fill_up(&self) {
        let mut file = File::create(self.outside().join("filler")).unwrap();
        for size in [64 << 10, 4096] {
            let block = vec![1; size];
            while file.write_all(&block).is_ok() {}
        }
    }
}

impl From<&SmallDisk> for Namespace {
    fn from(disk: &SmallDisk) -> Self {
        Self { holder: disk.holder.id(), owner: disk.owner }
    }
}

impl Namespace {
    /// The mount namespace of a process that root has started.
    pub(crate) fn of_root(holder: u32) -> Self {
        Self { holder, owner: Owner::Root }
    }

    /// A program in the namespace.
    pub(crate) fn command(self, tool: &Path) -> Command {
        let mut command = Command::new(program("nsenter"));
        command.args(["--mount", "--target", &self.holder.to_string()]);
        if self.owner == Owner::User {
            command.args(["--user", "--preserve-credentials"]);
        }
        command.arg("--").arg(tool);
        command
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Its input ends with this, so it would end by itself; this does not leave it a zombie.
        drop(self.holder.kill());
        drop(self.holder.wait());
    }
}
