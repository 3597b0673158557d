//! Who copies.

pub(crate) mod fastsst;
pub(crate) mod rsync;

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use crate::cancel::Cancel;
use crate::side::Cost;

/// A way to copy a directory from one process to another over the network.
///
/// Adding one: a module below this one, and a line in [`Args::contenders`](crate::args::Args).
pub(crate) trait Contender {
    /// Name in the table, in the report and for `--only`.
    fn name(&self) -> &'static str;

    /// Looks for the programs, once, before any run.
    ///
    /// # Errors
    /// Why it cannot take part; the table says so, and the others go on.
    fn prepare(&mut self) -> Result<About>;

    /// Copies once. Returns when the copy is durable and all processes are gone.
    ///
    /// # Errors
    /// The copy failed, or a signal has come.
    fn run(&self, job: &Job<'_>) -> Result<Measurement>;
}

/// What is measured.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct About {
    /// Version of the program.
    pub(crate) version: String,
    /// How the copy is made durable inside the measured time.
    pub(crate) durability: String,
    /// Whether what is on the wire is encrypted.
    pub(crate) encrypted: bool,
}

/// One copy to make.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Job<'a> {
    /// The directory to copy.
    pub(crate) source: &'a Path,
    /// An empty directory to copy into.
    pub(crate) target: &'a Path,
    /// An empty directory for everything else, readable by its owner only.
    pub(crate) scratch: &'a Path,
    /// Whether to stop.
    pub(crate) cancel: &'a Cancel,
}

impl Job<'_> {
    /// A command line as it can be told: places by role, secrets are not in it.
    fn tell(&self, command: &Command) -> String {
        let program = Path::new(command.get_program());
        let program = program.file_name().unwrap_or(program.as_os_str());
        let mut line = program.to_string_lossy().into_owned();
        for argument in command.get_args() {
            line = line + " " + &argument.to_string_lossy();
        }
        for (path, role) in
            [(self.source, "SOURCE"), (self.target, "TARGET"), (self.scratch, "SCRATCH")]
        {
            line = line.replace(&*path.to_string_lossy(), role);
        }
        line
    }
}

/// One copy that was made.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Measurement {
    /// From the start of the sender until both sides were done and the copy durable.
    pub(crate) wall_seconds: f64,
    /// The sender's cost.
    pub(crate) sender: Cost,
    /// The receiver's cost.
    pub(crate) receiver: Cost,
    /// The command lines, the receiver's first.
    pub(crate) commands: Vec<String>,
    /// What the program says about itself.
    pub(crate) details: serde_json::Value,
}

/// First line that `program` prints about its version.
fn version(program: &Path) -> Result<String> {
    let output = Command::new(program)
        .arg("--version")
        .output()
        .with_context(|| format!("{} cannot be run", program.display()))?;
    ensure!(output.status.success(), "{} --version fails", program.display());
    let text = String::from_utf8_lossy(&output.stdout);
    let words = text.lines().next().unwrap_or_default().split_ascii_whitespace();
    Ok(words.collect::<Vec<_>>().join(" "))
}
