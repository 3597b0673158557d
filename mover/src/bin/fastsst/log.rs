//! Log lines on standard error; standard output belongs to results.

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Starts logging: warnings and the engine's news, more with each `-v`.
pub(crate) fn start(verbose: u8) {
    let level = match verbose {
        0 => LevelFilter::INFO,
        1 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    // The transport's own diagnostics are for its developers.
    let ours = Targets::new().with_target("fastsst", level);
    let lines = tracing_subscriber::fmt::layer()
        .with_target(verbose > 0)
        .without_time()
        .with_ansi(false)
        .with_writer(std::io::stderr);
    tracing_subscriber::registry().with(lines).with(ours).init();
}
