//! `polite`: everything else on the machine goes first.

use crate::error::{Code, Error, Result};

/// The lowest priority. With it comes the lowest best-effort I/O priority, 7, because no other
/// was chosen: (nice + 20) / 5 (ioprio_set(2)).
const NICE: i32 = 19;

/// Gives the calling thread, and every thread it starts from now on, the lowest priority for
/// processors and disks. There is no way back without privileges.
///
/// # Errors
/// E03: the system does not let us.
pub(crate) fn go_last() -> Result<()> {
    rustix::process::setpriority_process(None, NICE).map_err(|error| {
        Error::new(Code::Access, "polite: the priority cannot be lowered").because(error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_polite_thread_and_its_children_go_last() {
        let seen = std::thread::spawn(|| {
            go_last().unwrap();
            let child = std::thread::spawn(|| rustix::process::getpriority_process(None));
            child.join().unwrap().unwrap()
        });
        assert_eq!(seen.join().unwrap(), NICE);
    }
}
