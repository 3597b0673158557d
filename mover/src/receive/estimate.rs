//! Tells a donor what is here, without touching it.
//!
//! The stages are those of a transfer that compares; files are looked at where they are, and what
//! would become of them is dropped.

use std::collections::VecDeque;
use std::sync::Arc;

use fastsst_proto::frame::{Declaration, Refusal};

use super::catalog::{Catalog, Purpose};
use super::control::{Feed, News, Order};
use super::pipeline::{start_comparing, start_declare_with};
use super::write::DeclareWorker;
use super::{Joiner, JoinerPolicy, LOOK, out_of_order};
use crate::error::Result;
use crate::progress::Phase;
use crate::runtime::spawn;

/// Complete files that wait to be dropped.
const COMPLETE: usize = 64;

impl Joiner<'_> {
    /// Answers a donor that only wants to know how much it would send; then the next one may come.
    ///
    /// # Errors
    /// This end cannot go on; what becomes of that donor does not matter.
    pub(super) fn estimate(
        &self,
        policy: &mut dyn JoinerPolicy,
        declaration: &Declaration,
    ) -> Result<()> {
        let layout = match self.check(policy, declaration) {
            Ok(layout) => layout,
            Err(error) => {
                let refusal = Refusal { code: error.code().number(), text: error.words() };
                self.control.order(Order::Refuse(refusal))?;
                let News::EstimateOver = self.control.news()? else { return Err(out_of_order()) };
                return self.control.order(Order::Next);
            }
        };
        self.progress.set_totals(declaration.files_estimate, declaration.bytes_estimate);
        self.progress.enter(Phase::Copy);
        let catalog = Arc::new(Catalog::new(layout.clone(), Purpose::Look));
        let comparison = start_comparing(self, &catalog)?;
        let (complete, dropped) = flume::bounded(COMPLETE);
        spawn("fastsst-sink", self.cancel, move || {
            while dropped.recv().is_ok() {}
            Ok(())
        })?;
        let (orders, cancel) = (self.control.orders.clone(), self.cancel.clone());
        let progress = Arc::clone(self.progress);
        let changes = start_declare_with(|changes| DeclareWorker {
            changes,
            catalog,
            comparison: comparison.clone(),
            complete,
            orders,
            progress,
            cancel,
        })?;
        let feed = Feed { data: None, changes, backlog: VecDeque::new() };
        self.control.order(Order::Accept { lanes: 1, pipeline: Some(feed) })?;
        let over = self.control.news()?;
        if let Some(comparison) = comparison {
            comparison.close();
            // Until every thread has left: the next donor must not get answers to this one.
            while Arc::strong_count(&comparison) > 1 {
                self.cancel.sleep(LOOK)?;
            }
        }
        for staging in layout.stagings() {
            staging.looked_enough();
        }
        let News::EstimateOver = over else { return Err(out_of_order()) };
        tracing::info!("a donor has asked how much it would send; nothing has been touched");
        self.progress.restart();
        self.control.order(Order::Next)
    }
}
