//! What comparing costs at least: this program reads source and target, and does nothing with it.

use anyhow::{Context, Result};

use super::{About, Contender, Job, Measurement, Proof};
use crate::clock::Clock;
use crate::side::{Cost, Side, watch};

/// Direct reads of both trees at once by many threads; see [`crate::floor`].
#[derive(Debug)]
pub(crate) struct FloorRead;

impl Contender for FloorRead {
    fn name(&self) -> &'static str {
        "floor-read"
    }

    fn prepare(&mut self) -> Result<About> {
        Ok(About {
            version: format!("fastsst-bench {}", env!("CARGO_PKG_VERSION")),
            durability: "nothing is written".to_owned(),
            encrypted: false,
        })
    }

    fn run(&self, job: &Job<'_>) -> Result<Measurement> {
        let program = std::env::current_exe().context("cannot find this program")?;
        let mut command = job.sender().command(program);
        command.arg("floor-read").arg(job.source).arg(job.target);

        let clock = Clock::start();
        let mut reader = Side::start("reader", &mut command, job.scratch)?;
        watch([&mut reader], job.cancel, |[reader]| reader.ended())?;
        let lap = clock.stop();

        Ok(Measurement {
            wall_seconds: lap.wall_seconds,
            machine_cpu_seconds: lap.machine_cpu_seconds,
            sender: reader.succeeded()?,
            receiver: Cost::default(),
            wire_bytes: None,
            link_bytes: None,
            commands: vec![job.tell(&command)],
            notes: "reads both, writes nothing".to_owned(),
            details: serde_json::Value::Null,
        })
    }

    fn proof(&self) -> Proof {
        Proof::Nothing
    }
}
