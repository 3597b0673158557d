//! What a perfect program could do on this disk: this program copies alone, without a network.

use anyhow::{Context, Result};

use super::exchange::Durability;
use super::{About, Contender, Job, Measurement};
use crate::clock::Clock;
use crate::side::{Cost, Side, watch};

/// Direct reads and direct writes by many threads; see [`crate::floor`].
#[derive(Debug)]
pub(crate) struct Floor;

impl Contender for Floor {
    fn name(&self) -> &'static str {
        "floor"
    }

    fn prepare(&mut self) -> Result<About> {
        Ok(About {
            version: format!("fastsst-bench {}", env!("CARGO_PKG_VERSION")),
            durability: Durability::SYNCFS.to_owned(),
            encrypted: false,
        })
    }

    fn run(&self, job: &Job<'_>) -> Result<Measurement> {
        let program = std::env::current_exe().context("cannot find this program")?;
        let mut command = job.sender().command(program);
        command.arg("floor").arg(job.source).arg(job.target);

        let clock = Clock::start();
        let mut copier = Side::start("copier", &mut command, job.scratch)?;
        watch([&mut copier], job.cancel, |[copier]| copier.ended())?;
        let lap = clock.stop();

        Ok(Measurement {
            wall_seconds: lap.wall_seconds,
            machine_cpu_seconds: lap.machine_cpu_seconds,
            sender: copier.succeeded()?,
            receiver: Cost::default(),
            wire_bytes: None,
            link_bytes: None,
            commands: vec![job.tell(&command)],
            notes: "one process, no network".to_owned(),
            details: serde_json::Value::Null,
        })
    }
}
