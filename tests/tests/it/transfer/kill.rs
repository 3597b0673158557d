//! SIGKILL at random moments, of either end: whatever it interrupts, the next attempt finishes.

use std::fmt;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use fastsst_tests::transfer::{
    Listing, Receive, Receiving, Running, Sandbox, Send, TRANSFER, Victim, change_pages, noise,
    root_hash,
};

use super::NOTICE;

/// Moments at which each end is killed, unless `FASTSST_KILL_ROUNDS` says otherwise.
const ROUNDS: u64 = 200;

/// Rounds that run beside each other. Why: a round waits as long as it computes.
const WORKERS: u64 = 2;

/// Rounds of which one at least must hit a transfer in the middle.
const ROUNDS_PER_HIT: u64 = 4;

/// Undisturbed transfers that are measured before the first kill; the one in the middle counts.
const MEASURED: usize = 5;

/// How long a sender tries to reach a receiver that is dead. Unit: seconds.
const CONNECT_SECONDS: &str = "1";

/// Size of the file that is mostly holes.
const SPARSE_BYTES: u64 = 32 << 20;

#[test]
fn a_receiver_killed_at_any_moment_leaves_what_the_next_attempt_completes() {
    kill_at_random_moments(Victim::Receiver);
}

#[test]
fn a_sender_killed_at_any_moment_leaves_what_the_next_attempt_completes() {
    kill_at_random_moments(Victim::Sender);
}

fn kill_at_random_moments(victim: Victim) {
    let rounds = std::env::var("FASTSST_KILL_ROUNDS")
        .map_or(ROUNDS, |text| text.parse().expect("FASTSST_KILL_ROUNDS: a number"));
    let seed = Seed::from_environment();
    let (next, hits) = (AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                let stage = Stage::build();
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= rounds {
                        return;
                    }
                    let round = Round { victim, number, moment: stage.moment(&seed, number) };
                    let _named = Named(&round);
                    hits.fetch_add(u64::from(stage.play(&round)), Ordering::Relaxed);
                }
            });
        }
    });
    let hits = hits.load(Ordering::Relaxed);
    assert!(hits >= rounds / ROUNDS_PER_HIT, "{hits} of {rounds} kills hit a transfer");
}

/// One kill.
#[derive(Debug)]
struct Round {
    victim: Victim,
    number: u64,
    /// Since the sender was started.
    moment: Duration,
}

/// A source, and how long it takes to send it.
struct Stage {
    place: Sandbox,
    source: PathBuf,
    listing: Listing,
    hash: String,
    duration: Duration,
}

impl Stage {
    fn build() -> Self {
        let place = Sandbox::new();
        let source = place.dir("source");
        plant(&source);
        let (listing, hash) = (Listing::of(&source), root_hash(&source));
        let mut stage = Self { place, source, listing, hash, duration: Duration::ZERO };
        let mut measured = [Duration::ZERO; MEASURED];
        for duration in &mut measured {
            let receiving = receive(&stage.empty_target()).start();
            let started = Instant::now();
            stage.finish(receiving);
            *duration = started.elapsed();
        }
        measured.sort_unstable();
        stage.duration = measured[MEASURED / 2];
        stage
    }

    /// The time of a round: between the start and the end of an undisturbed transfer.
    fn moment(&self, seed: &Seed, number: u64) -> Duration {
        let random = noise(seed.0.wrapping_add(number), 4);
        let random = u32::from_le_bytes(random.try_into().expect("four bytes"));
        self.duration.mul_f64(f64::from(random) / f64::from(u32::MAX))
    }

    fn empty_target(&self) -> PathBuf {
        let target = self.place.path("target");
        if target.exists() {
            fs::remove_dir_all(&target).unwrap();
        }
        fs::create_dir(&target).unwrap();
        target
    }

    /// What a member had yesterday.
    fn stale_target(&self) -> PathBuf {
        let target = self.empty_target();
        plant(&target);
        age(&target);
        target
    }

    /// Kills, and finishes; whether the kill hit a transfer that had begun to change the target.
    fn play(&self, round: &Round) -> bool {
        let is_stale = round.number % 2 == 1;
        let target = if is_stale { self.stale_target() } else { self.empty_target() };
        let mut receiving = receive(&target).start();
        let mut sending = self.send(&receiving).start();
        // Not a wait for anything: the moment is the subject.
        thread::sleep(round.moment);
        match round.victim {
            Victim::Receiver => receiving.running.kill9(),
            Victim::Sender => sending.kill9(),
        }
        let hit = target.join(".fastsst/new").exists();
        let next = match round.victim {
            Victim::Receiver => {
                end(sending, &[("E17", 32), ("E11", 113)]);
                None
            }
            // Who has seen nobody yet waits on.
            Victim::Sender if receiving.running.log().contains("has proven itself") => {
                end(receiving.running, &[("E17", 32)]);
                None
            }
            Victim::Sender => Some(receiving),
        };
        match next {
            Some(receiving) => self.finish_with_same(receiving, &target),
            None => self.finish(receive(&target).start()),
        }
        let found = Listing::of(&target);
        self.listing.assert_eq(&found, "source and target differ");
        assert!(!target.join(".fastsst").exists(), "nothing of ours is left");
        hit
    }

    fn send(&self, receiving: &Receiving) -> Send {
        let arguments = ["--buffer", "16m", "--connect-timeout", CONNECT_SECONDS];
        Send::from(&self.source, &receiving.ticket).args(arguments)
    }

    /// A receiver that waits on serves the next sender; unless it has seen the dead one after all.
    fn finish_with_same(&self, receiving: Receiving, target: &Path) {
        let sender = self.send(&receiving).run(TRANSFER);
        if sender.is_success() {
            return self.assert_received(receiving);
        }
        assert!(receiving.running.log().contains("has proven itself"), "{sender}");
        end(receiving.running, &[("E17", 32)]);
        self.finish(receive(target).start());
    }

    fn finish(&self, receiving: Receiving) {
        self.send(&receiving).run(TRANSFER).assert_success();
        self.assert_received(receiving);
    }

    fn assert_received(&self, receiving: Receiving) {
        let (receiver, received) = receiving.succeed(TRANSFER);
        assert_eq!(received["root_hash"], self.hash.as_str(), "{receiver}");
    }
}

fn receive(target: &Path) -> Receive {
    Receive::into(target).args(["--replace", "--buffer", "16m"])
}

/// The end that was not killed: the transfer was over, or it says that its peer is gone.
fn end(running: Running, accepted: &[(&str, i32)]) {
    let ended = running.wait(NOTICE);
    if !ended.is_success() {
        ended.assert_failed_one_of(accepted);
    }
}

/// About 8 MiB with everything that a tree can have.
fn plant(root: &Path) {
    for (number, size) in [(2 << 20) + 5, 2 << 20, 1 << 20, (1 << 20) + 100_000].iter().enumerate()
    {
        fs::write(root.join(format!("large-{number}")), noise(number as u64, *size)).unwrap();
    }
    for directory in ["a", "a/b", "c", "empty"] {
        fs::create_dir(root.join(directory)).unwrap();
    }
    for number in 0..24_u64 {
        let directory = ["a", "a/b", "c"][usize::try_from(number % 3).unwrap()];
        let content = noise(100 + number, usize::try_from(number * number * 100).unwrap());
        fs::write(root.join(directory).join(format!("small-{number}")), content).unwrap();
    }
    let sparse = File::create(root.join("sparse")).unwrap();
    sparse.set_len(SPARSE_BYTES).unwrap();
    for island in [0, 5 << 20, SPARSE_BYTES - 300_000] {
        sparse.write_all_at(&noise(200 + island, 300_000), island).unwrap();
    }
    fs::hard_link(root.join("large-2"), root.join("c/second-name")).unwrap();
    fs::hard_link(root.join("a/small-9"), root.join("a/b/second-name")).unwrap();
    symlink("large-0", root.join("link")).unwrap();
    symlink("/no/such/place", root.join("c/dangling")).unwrap();
}

/// What became of it since yesterday.
fn age(root: &Path) {
    change_pages(&root.join("large-0"), 7, 9);
    File::options().write(true).open(root.join("large-1")).unwrap().set_len(1 << 20).unwrap();
    fs::rename(root.join("large-3"), root.join("a/renamed")).unwrap();
    // Data where the source has a hole.
    let sparse = File::options().write(true).open(root.join("sparse")).unwrap();
    sparse.write_all_at(&noise(8, 100_000), 9 << 20).unwrap();
    fs::write(root.join("a/small-3"), "other content").unwrap();
    fs::remove_file(root.join("a/b/small-4")).unwrap();
    fs::remove_file(root.join("link")).unwrap();
    fs::create_dir(root.join("link")).unwrap();
    fs::write(root.join("link/vanished"), "vanished").unwrap();
    fs::remove_dir(root.join("empty")).unwrap();
    symlink("a", root.join("empty")).unwrap();
}

/// Where random moments come from; a failing test says it.
struct Seed(u64);

impl Seed {
    fn from_environment() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
        Self(std::env::var("FASTSST_KILL_SEED").map_or_else(
            |_unset| now.as_secs() ^ u64::from(now.subsec_nanos()),
            |text| text.parse().expect("FASTSST_KILL_SEED: a number"),
        ))
    }
}

impl Drop for Seed {
    fn drop(&mut self) {
        tell_if_panicking(format_args!("FASTSST_KILL_SEED={}", self.0));
    }
}

/// Says which round it was that failed.
struct Named<'a>(&'a Round);

impl Drop for Named<'_> {
    fn drop(&mut self) {
        tell_if_panicking(format_args!("{:?}", self.0));
    }
}

#[expect(clippy::print_stderr, reason = "a failing test speaks to whoever runs it")]
fn tell_if_panicking(what: fmt::Arguments<'_>) {
    if thread::panicking() {
        eprintln!("---- {what}");
    }
}
