//! The last resort: cleans up when the test process itself dies (Ctrl-C, SIGKILL, a crash).

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Mutex;

/// Reads process groups from its input. When the input ends without `done`, whoever held the
/// other end is gone: kill the groups that are still watched and remove the directory.
const SCRIPT: &str = r#"
watched=" "
while read -r verb group; do
    case $verb in
        watch) watched="$watched$group " ;;
        forget) watched="${watched%% "$group" *} ${watched#* "$group" }" ;;
        done) exit 0 ;;
    esac
done
for group in $watched; do kill -s KILL -- "-$group" 2>/dev/null; done
sleep 1
exec rm -rf -- "$1"
"#;

/// A small process that outlives this one for a moment.
#[derive(Debug)]
pub(crate) struct Guard {
    child: Mutex<Child>,
    input: Mutex<ChildStdin>,
}

impl Guard {
    /// Starts a guard over a directory.
    pub(crate) fn over(directory: &Path) -> Self {
        let mut child = Command::new("/bin/sh")
            .args(["-c", SCRIPT, "guard"])
            .arg(directory)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Its own group, so that a Ctrl-C meant for the tests does not reach it.
            .process_group(0)
            .spawn()
            .expect("/bin/sh starts");
        let input = child.stdin.take().expect("piped");
        Self { child: Mutex::new(child), input: Mutex::new(input) }
    }

    /// From now on this process group is killed when we die.
    pub(super) fn watch(&self, group: u32) {
        self.tell(&format!("watch {group}"));
    }

    /// The group is empty: its number may come to mean somebody else.
    pub(super) fn forget(&self, group: u32) {
        self.tell(&format!("forget {group}"));
    }

    fn tell(&self, line: &str) {
        let mut input = self.input.lock().expect("no holder panics");
        writeln!(input, "{line}").expect("the guard runs");
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // A guard that is gone already has nothing left to do: both results are of no use.
        drop(self.input.get_mut().map(|input| writeln!(input, "done")));
        drop(self.child.get_mut().map(Child::wait));
    }
}
