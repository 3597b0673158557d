//! Progress for whoever watches: a bar on a terminal, a line now and then otherwise.

use std::io::IsTerminal;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fastsst_mover::summary::mib;
use fastsst_mover::{Progress, Result, Summary};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How often the bar moves.
const FRAME: Duration = Duration::from_millis(100);

/// How often a line is written where there is no terminal.
const LINE: Duration = Duration::from_secs(10);

/// Draws until it is dropped.
#[derive(Debug)]
pub(crate) struct Report {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Report {
    /// Starts to draw.
    pub(crate) fn start(progress: &Arc<Progress>) -> Self {
        let (stop, progress) = (Arc::new(AtomicBool::new(false)), Arc::clone(progress));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new().name("fastsst-report".to_owned());
        // Without progress the transfer still works.
        let thread = thread.spawn(move || draw(&progress, &stopped)).ok();
        Self { stop, thread }
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let Some(thread) = self.thread.take() else { return };
        thread.thread().unpark();
        if thread.join().is_err() {
            tracing::debug!("the progress thread panicked");
        }
    }
}

fn draw(progress: &Progress, stop: &AtomicBool) {
    let bar = std::io::stderr().is_terminal().then(bar);
    let (mut line_at, mut since) = (Instant::now() + LINE, (Instant::now(), 0));
    while !stop.load(Ordering::Relaxed) {
        // Until the next frame, or until it is over.
        std::thread::park_timeout(FRAME);
        match &bar {
            Some(bar) => {
                bar.set_length(progress.bytes_total());
                bar.set_position(progress.bytes_done());
                bar.set_message(progress.phase().name());
            }
            None if Instant::now() >= line_at && progress.bytes_total() > 0 => {
                let done = progress.bytes_done();
                let rate = mib(done.saturating_sub(since.1)) / since.0.elapsed().as_secs_f64();
                tracing::info!(
                    "{}: {:.0} of {:.0} MiB, {rate:.0} MiB/s",
                    progress.phase().name(),
                    mib(done),
                    mib(progress.bytes_total()),
                );
                (line_at, since) = (Instant::now() + LINE, (Instant::now(), done));
            }
            None => {}
        }
    }
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
}

fn bar() -> ProgressBar {
    const TEMPLATE: &str =
        "{msg:8} {wide_bar} {bytes} of {total_bytes}, {binary_bytes_per_sec}, {eta} left";
    let style =
        ProgressStyle::with_template(TEMPLATE).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()).with_style(style)
}

/// Says what was done, for people and, when asked, for programs.
pub(crate) fn finish(summary: &Summary, json: Option<&Path>) -> Result<()> {
    tracing::info!("{}", summary.line());
    json.map_or(Ok(()), |path| summary.write_json(path))
}
