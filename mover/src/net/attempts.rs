//! Where the joiner may be, when to try again, and when to stop.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout};

use crate::error::{Code, Error, Result};

/// Time for one address before the next one is tried, when there are several.
///
/// Why: a few lost datagrams, doubled each time from 30 ms; an address that is black-holed must
/// not use up the whole connect timeout.
const ADDRESS_TURN: Duration = Duration::from_secs(2);

/// Refusals for this long end an attempt.
///
/// Why: a joiner that is just about to listen is found by the next attempt, sooner than by the
/// growing pauses of QUIC's own repetitions.
pub(super) const REFUSED_ATTEMPT: Duration = Duration::from_millis(50);

/// First pause between two attempts; each is twice as long as the one before.
const PAUSE_FIRST: Duration = Duration::from_millis(50);

/// Longest pause between two attempts.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Attempts at the addresses of one joiner, in turn, until the connect timeout.
#[derive(Debug)]
pub(super) struct Attempts {
    targets: Vec<SocketAddr>,
    /// What to call the joiner, and what must be open on the way to it.
    names: (String, &'static str),
    next: usize,
    started: Instant,
    patience: Duration,
    pause: Duration,
    last: Option<Error>,
}

impl Attempts {
    /// At one address; `way` names what must be open, such as `UDP`.
    pub(super) fn at(target: SocketAddr, way: &'static str, patience: Duration) -> Self {
        Self::among(vec![target], (target.to_string(), way), (Instant::now(), patience))
    }

    /// At every address of a host.
    ///
    /// Errors: `Unreachable`, when it has none.
    pub(super) async fn of_host(
        host: &str,
        port: u16,
        way: &'static str,
        patience: Duration,
    ) -> Result<Self> {
        let started = Instant::now();
        let targets = resolve(host, port, patience).await?;
        Ok(Self::among(targets, (host.to_owned(), way), (started, patience)))
    }

    fn among(
        targets: Vec<SocketAddr>,
        names: (String, &'static str),
        (started, patience): (Instant, Duration),
    ) -> Self {
        Self { targets, names, next: 0, started, patience, pause: PAUSE_FIRST, last: None }
    }

    /// The next address to try and the time for it; pauses when each has been tried.
    ///
    /// Errors: `Unreachable`, when there is no time left.
    pub(super) async fn next(&mut self) -> Result<(SocketAddr, Duration)> {
        if self.next == self.targets.len() {
            self.next = 0;
            sleep(self.pause.min(self.left())).await;
            self.pause = (self.pause * 2).min(PAUSE_MAX);
        }
        let left = self.left();
        match self.targets.get(self.next) {
            // Too little time to learn anything new is none.
            Some(target) if self.last.is_none() || left > REFUSED_ATTEMPT => {
                self.next += 1;
                let turn = if self.targets.len() > 1 { ADDRESS_TURN } else { left };
                Ok((*target, left.min(turn)))
            }
            Some(target) => Err(self.give_up(*target)),
            None => Err(Error::bug("no address to try")),
        }
    }

    /// What an attempt came to, unless it is worth another one.
    pub(super) fn settle<T>(&mut self, attempt: Result<T>) -> Option<Result<T>> {
        match attempt {
            Err(error) if error.code() == Code::Unreachable => {
                self.last = Some(error);
                None
            }
            other => Some(other),
        }
    }

    fn left(&self) -> Duration {
        self.patience.saturating_sub(self.started.elapsed())
    }

    fn give_up(&mut self, target: SocketAddr) -> Error {
        let (name, way) = &self.names;
        let at = target.to_string();
        let place = if *name == at { at } else { format!("{name} ({at})") };
        let what = format!(
            "cannot reach the joiner {place}, tried {way} for {:.1} s; is it waiting, does its \
             transport option fit this one, and does every firewall between let {way} port {} pass?",
            self.started.elapsed().as_secs_f64(),
            target.port(),
        );
        let error = Error::new(Code::Unreachable, what);
        match self.last.take() {
            Some(last) => error.because(last.what().to_owned()),
            None => error,
        }
    }
}

async fn resolve(host: &str, port: u16, patience: Duration) -> Result<Vec<SocketAddr>> {
    let failed = |why: String| Error::new(Code::Unreachable, why);
    let looked_up = timeout(patience, tokio::net::lookup_host((host, port)))
        .await
        .map_err(|error| failed(format!("no address for {host} in time")).because(error))?
        .map_err(|error| failed(format!("no address for {host}")).because(error))?;
    let mut targets = Vec::new();
    for target in looked_up {
        if !targets.contains(&target) {
            targets.push(target);
        }
    }
    if targets.is_empty() {
        return Err(failed(format!("no address for {host}")));
    }
    Ok(targets)
}

/// The error of an attempt that is worth another one.
pub(super) fn no_answer(target: SocketAddr, what: &str) -> Error {
    Error::new(Code::Unreachable, format!("{what} ({target})"))
}
