//! The measured time.

use std::time::Instant;

use rustix::param::clock_ticks_per_second;

use crate::machine;

/// Runs from the start of the sender until the copy is durable.
#[derive(Debug)]
pub(crate) struct Clock {
    begun: Instant,
    busy: Option<u64>,
}

/// What a clock shows when it is stopped.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lap {
    /// Wall time.
    pub(crate) wall_seconds: f64,
    /// Processor time of the whole machine meanwhile, write-back and other programs included.
    pub(crate) machine_cpu_seconds: Option<f64>,
}

impl Clock {
    /// Starts now.
    pub(crate) fn start() -> Self {
        Self { busy: machine::busy_ticks(), begun: Instant::now() }
    }

    /// Stops now.
    pub(crate) fn stop(self) -> Lap {
        let wall_seconds = self.begun.elapsed().as_secs_f64();
        let busy = machine::busy_ticks().zip(self.busy).map(|(after, before)| after - before);
        let machine_cpu_seconds = busy.map(|ticks| ticks as f64 / clock_ticks_per_second() as f64);
        Lap { wall_seconds, machine_cpu_seconds }
    }
}
