//! Everybody's faults, and what has come of them.

use std::sync::{Arc, Mutex, MutexGuard};

use super::Way;
use super::faults::{Faults, Rate};
use super::link::Link;
use super::tally::Tally;

/// What all flows share.
#[derive(Debug)]
pub(super) struct Network {
    everybody: Mutex<Arc<Conditions>>,
    pub(super) tally: Tally,
}

/// Faults, and the link that all flows share that have them.
#[derive(Debug)]
pub(super) struct Conditions {
    pub(super) faults: Faults,
    links: [Mutex<Link>; 2],
}

impl Network {
    /// Without faults.
    pub(super) fn new() -> Self {
        let everybody = Mutex::new(Conditions::new(Faults::none()));
        Self { everybody, tally: Tally::default() }
    }

    /// From now on everybody has these.
    pub(super) fn set(&self, faults: Faults) {
        *self.lock() = Conditions::new(faults);
    }

    pub(super) fn everybody(&self) -> Arc<Conditions> {
        Arc::clone(&self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Arc<Conditions>> {
        self.everybody.lock().expect("no holder panics")
    }
}

impl Conditions {
    pub(super) fn new(faults: Faults) -> Arc<Self> {
        Arc::new(Self { faults, links: Default::default() })
    }

    /// The link, where there is a limit.
    pub(super) fn link(&self, way: Way) -> Option<(Rate, MutexGuard<'_, Link>)> {
        let rate = self.faults.rate?;
        Some((rate, self.links[way as usize].lock().expect("no holder panics")))
    }
}
