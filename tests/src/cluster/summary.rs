//! What a donor's script says of a transfer that it has finished.

use super::{LogMark, Node};

/// The figures of one transfer, as logged: rounded to a tenth.
#[derive(Debug, Clone, Copy)]
pub struct Figures {
    /// All files, holes included. Unit: MiB.
    pub data_mib: f64,
    /// What the lanes carried. Unit: MiB.
    pub wire_mib: f64,
}

impl Node {
    /// The figures of the one transfer that this node has served since a mark.
    ///
    /// The line is `WSREP_SST: [INFO] sent 40.1 MiB in 123 files, 3.2 MiB on the wire...`.
    #[must_use]
    pub fn sent_since(&self, mark: LogMark) -> Figures {
        let log = self.log_since(mark);
        let lines = log.lines().filter_map(|line| line.split_once("WSREP_SST: [INFO] sent "));
        let figures: Vec<_> = lines.filter_map(|(_, line)| parse(line)).collect();
        assert_eq!(figures.len(), 1, "{}: one summary in\n{log}", self.name());
        figures[0]
    }
}

fn parse(line: &str) -> Option<Figures> {
    let (data, rest) = line.split_once(" MiB in ")?;
    let (_, rest) = rest.split_once(" files, ")?;
    let (wire, _) = rest.split_once(" MiB on the wire")?;
    Some(Figures { data_mib: data.parse().ok()?, wire_mib: wire.parse().ok()? })
}
