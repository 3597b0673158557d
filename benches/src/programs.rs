//! Programs of others: where they are, which version, and running them for a moment.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// Where daemons and tools of the administrator live, which a user's PATH may leave out.
const SYSTEM_PLACES: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// The path of a program.
///
/// # Errors
/// It is not installed.
pub(crate) fn find(name: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = SYSTEM_PLACES.into_iter().map(PathBuf::from);
    let mut places = std::env::split_paths(&path).chain(system).map(|place| place.join(name));
    places.find(|program| program.is_file()).with_context(|| format!("{name} is not installed"))
}

/// First line that `program` prints about its version.
///
/// # Errors
/// It cannot be run, or does not know the option.
pub(crate) fn version(program: &Path) -> Result<String> {
    let mut command = Command::new(program);
    first_line(command.arg("--version"))
}

/// First line of what `command` says, on whichever output.
///
/// # Errors
/// It cannot be run, or it fails.
pub(crate) fn first_line(command: &mut Command) -> Result<String> {
    let output = output(command)?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    // Some decorate it.
    Ok(without_directories(text.lines().next().unwrap_or_default().trim_matches(['*', ' '])))
}

/// The same words, of absolute paths only the last part: reports do not say where things are.
pub(crate) fn without_directories(text: &str) -> String {
    let short = |word: &str| {
        let path = Path::new(word);
        let last = path.file_name().filter(|_| path.is_absolute());
        last.map_or_else(|| word.to_owned(), |last| last.to_string_lossy().into_owned())
    };
    text.split_whitespace().map(short).collect::<Vec<_>>().join(" ")
}

/// Runs `command` to its end.
///
/// # Errors
/// It cannot be run, or it fails; the message ends with its last words.
pub(crate) fn done(command: &mut Command) -> Result<()> {
    output(command).map(|_| ())
}

fn output(command: &mut Command) -> Result<std::process::Output> {
    let name = Path::new(command.get_program()).file_name().unwrap_or_default().to_owned();
    let name = name.to_string_lossy();
    let output = command.output().with_context(|| format!("{name} cannot be run"))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    let last = errors.lines().last().unwrap_or_default();
    ensure!(output.status.success(), "{name} failed ({}): {last}", output.status);
    Ok(output)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn found_or_missed_by_name() {
        assert!(find("sh").unwrap().ends_with("sh"));
        let error = find("no-such-program-anywhere").unwrap_err().to_string();
        assert_eq!(error, "no-such-program-anywhere is not installed");
    }

    #[test]
    fn failure_has_the_last_words() {
        let error = done(Command::new("sh").args(["-c", "echo alas >&2; exit 3"])).unwrap_err();
        assert!(error.to_string().ends_with(": alas"), "{error}");
        let line = first_line(Command::new("echo").arg("a  b\nc")).unwrap();
        assert_eq!(line, "a b");
        assert_eq!(without_directories("/usr/bin/a  b /c/d."), "a b d.");
    }
}
