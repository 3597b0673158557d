//! When a server is frozen and released, seen by a server that only counts.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use fastsst_mover::staging::Keep;
use fastsst_mover::walk::{AllFiles, SourceRoot};
use fastsst_mover::{
    AnyDonor, Cancel, Code, Freeze, Frozen, NoFreeze, Options, Owner, Place, Progress,
    ReceiveConfig, Received, Receiver, Result, SendConfig, Sent, send,
};
use fastsst_tests::transfer::{Sandbox, fill};

const POSITION: &[u8] = b"00000000-0000-0000-0000-000000000001:42 0";

#[test]
fn a_server_is_released_once_and_its_position_arrives() {
    let mut server = Server::default();
    let (sent, received) = transfer(&mut server, Options::default());
    let sent = sent.unwrap();
    assert_eq!(server, Server { freezes: 1, thaws: 1 });
    assert_eq!(sent.position, POSITION);
    assert!(sent.summary.freeze_seconds > 0.0);
    match received.unwrap() {
        Received::Full { position, .. } => assert_eq!(position, POSITION),
        Received::Bypass { .. } => panic!("nothing was sent"),
    }
}

#[test]
fn a_lock_that_passes_its_deadline_is_released_and_the_transfer_fails() {
    let mut server = Server::default();
    let options = Options {
        freeze_timeout: Duration::from_millis(500),
        rlimit: Some(2 << 20),
        ..Options::default()
    };
    let (sent, received) = transfer(&mut server, options);
    assert_eq!(sent.unwrap_err().code(), Code::FreezeTimeout);
    assert_eq!(server, Server { freezes: 1, thaws: 1 });
    assert_eq!(received.unwrap_err().code(), Code::PeerStopped);
}

#[test]
fn where_nothing_is_locked_there_is_no_deadline() {
    let options = Options { freeze_timeout: Duration::ZERO, ..Options::default() };
    let (sent, received) = transfer(&mut NoFreeze, options);
    assert!(sent.unwrap().summary.freeze_seconds.abs() < f64::EPSILON);
    received.unwrap();
}

/// Sends 8 MiB from one thread to another of this process.
fn transfer(server: &mut dyn Freeze, options: Options) -> (Result<Sent>, Result<Received>) {
    let place = Sandbox::new();
    let (source, target) = (place.dir("source"), place.dir("target"));
    fill(&source.join("file"), 1, 8);
    let receiver = receiver(target);
    let ticket = receiver.ticket("127.0.0.1").unwrap();
    let receiving = std::thread::spawn(move || {
        receiver.run(
            &mut AnyDonor::for_places(&["data"]),
            &Arc::new(Progress::default()),
            &Cancel::new(),
        )
    });
    let root = SourceRoot { name: "data".into(), path: source, filter: Arc::new(AllFiles) };
    let config = SendConfig {
        roots: vec![root],
        ticket,
        options,
        properties: Vec::new(),
        capture: "test".into(),
        software: "test".into(),
    };
    let sent = send(config, server, &Arc::new(Progress::default()), &Cancel::new());
    (sent, receiving.join().unwrap())
}

fn receiver(path: PathBuf) -> Receiver {
    Receiver::bind(ReceiveConfig {
        places: vec![Place { name: "data".into(), path, keep: Arc::new(KeepNothing) }],
        listen: "127.0.0.1:0".parse().unwrap(),
        options: Options::default(),
        owner: Owner::Preserve,
        software: "test".into(),
    })
    .unwrap()
}

#[derive(Debug)]
struct KeepNothing;

impl Keep for KeepNothing {
    fn keep(&self, _: &[u8]) -> bool {
        false
    }
}

/// Counts how often it is frozen and released.
#[derive(Debug, Default, PartialEq, Eq)]
struct Server {
    freezes: u32,
    thaws: u32,
}

impl Freeze for Server {
    fn freeze(&mut self, _: &Cancel) -> Result<Frozen> {
        self.freezes += 1;
        Ok(Frozen { position: POSITION.to_vec() })
    }

    fn thaw(&mut self) -> Result<()> {
        self.thaws += 1;
        Ok(())
    }
}
