//! TCP connections.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;

use super::{LOOK, Shared, count};

/// Bytes passed on at a time.
const PIECE_BYTES: usize = 64 << 10;

/// Who came.
#[derive(Debug, Default)]
pub(super) struct Side {
    connections: Mutex<Vec<Arc<Connection>>>,
}

#[derive(Debug)]
struct Connection {
    state: Mutex<State>,
    bytes: AtomicU64,
}

/// What becomes of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Open,
    Stalled,
    Reset,
}

impl Connection {
    fn state(&self) -> State {
        *self.state.lock().expect("no holder panics")
    }
}

impl Side {
    pub(super) fn bytes(&self) -> Vec<u64> {
        let connections = self.connections.lock().expect("no holder panics");
        connections.iter().map(|it| it.bytes.load(Ordering::Relaxed)).collect()
    }

    pub(super) fn set(&self, connection: usize, state: State) {
        let connections = self.connections.lock().expect("no holder panics");
        let connection = connections.get(connection).expect("a connection");
        *connection.state.lock().expect("no holder panics") = state;
    }
}

/// Takes connections and passes on what they carry.
pub(super) fn forward(shared: &Arc<Shared>, listener: &TcpListener) {
    listener.set_nonblocking(true).unwrap();
    let (mut threads, mut kept) = (Vec::new(), Vec::new());
    while !shared.stop.load(Ordering::Relaxed) {
        match listener.accept() {
            Ok((donor, _)) if shared.rules.tcp_is_blocked.load(Ordering::Relaxed) => {
                kept.push(donor);
            }
            Ok((donor, _)) => threads.extend(connect(shared, donor)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                thread::sleep(Duration::from_millis(1));
            }
            Err(error) => panic!("relay: {error}"),
        }
    }
    for thread in threads {
        drop(thread.join());
    }
}

/// One thread for each direction; a joiner that refuses is refused.
fn connect(shared: &Arc<Shared>, donor: TcpStream) -> Vec<JoinHandle<()>> {
    let Ok(joiner) = TcpStream::connect(shared.target) else { return Vec::new() };
    for socket in [&donor, &joiner] {
        socket.set_nonblocking(false).unwrap();
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(LOOK)).unwrap();
        socket.set_write_timeout(Some(LOOK)).unwrap();
    }
    let (state, bytes) = (Mutex::new(State::Open), AtomicU64::new(0));
    let connection = Arc::new(Connection { state, bytes });
    shared.tcp.connections.lock().expect("no holder panics").push(Arc::clone(&connection));
    let twins = (donor.try_clone().unwrap(), joiner.try_clone().unwrap());
    let to_joiner = Direction {
        shared: Arc::clone(shared),
        connection: Arc::clone(&connection),
        from: donor,
        to: joiner,
        counts: true,
    };
    let to_donor = Direction {
        shared: Arc::clone(shared),
        connection,
        from: twins.1,
        to: twins.0,
        counts: false,
    };
    vec![thread::spawn(move || to_joiner.run()), thread::spawn(move || to_donor.run())]
}

struct Direction {
    shared: Arc<Shared>,
    connection: Arc<Connection>,
    from: TcpStream,
    to: TcpStream,
    counts: bool,
}

impl Direction {
    fn run(mut self) {
        let mut piece = vec![0; PIECE_BYTES];
        while self.may_go_on() {
            match self.from.read(&mut piece) {
                Ok(0) => {
                    drop(self.to.shutdown(Shutdown::Write));
                    return;
                }
                Ok(read) => {
                    if self.counts {
                        count(&self.connection.bytes, read);
                    }
                    if !self.pass(&piece[..read]) {
                        return;
                    }
                }
                Err(error) if is_nothing_yet(&error) => {}
                // One end is gone without a word: so is the other.
                Err(_) => return drop(self.to.shutdown(Shutdown::Both)),
            }
        }
    }

    fn pass(&mut self, mut piece: &[u8]) -> bool {
        while !piece.is_empty() {
            if !self.may_go_on() {
                return false;
            }
            match self.to.write(piece) {
                Ok(written) => piece = &piece[written..],
                Err(error) if is_nothing_yet(&error) => {}
                Err(_) => {
                    drop(self.from.shutdown(Shutdown::Both));
                    return false;
                }
            }
        }
        true
    }

    /// Waits while nothing shall pass; false at the end.
    fn may_go_on(&self) -> bool {
        loop {
            if self.shared.stop.load(Ordering::Relaxed) {
                return false;
            }
            match self.connection.state() {
                State::Open => return true,
                State::Stalled => thread::sleep(LOOK),
                State::Reset => {
                    for socket in [&self.from, &self.to] {
                        // With this, closing the last descriptor sends a reset.
                        set_socket_linger(socket, Some(Duration::ZERO)).unwrap();
                    }
                    return false;
                }
            }
        }
    }
}

fn is_nothing_yet(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}
