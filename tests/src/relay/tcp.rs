//! TCP connections.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;

use super::faults::Faults;
use super::flow::{Fate, Flow};
use super::schedule::Schedule;
use super::{LOOK, Shared, Way};

/// Most bytes passed on at a time.
const PIECE_BYTES: usize = 64 << 10;

/// What is on its way in one direction of a connection; who sends more has to wait.
///
/// Unit: bytes. Why: 50 ms at 80 MiB/s; the kernel's buffers come to it.
const UNDER_WAY_BYTES: usize = 4 << 20;

/// Who came.
#[derive(Debug, Default)]
pub(super) struct Side {
    flows: Mutex<Vec<Arc<Flow>>>,
}

impl Side {
    pub(super) fn bytes(&self) -> Vec<u64> {
        self.flows().iter().map(|flow| flow.bytes.get()).collect()
    }

    pub(super) fn set(&self, connection: usize, faults: Faults) {
        self.flows().get(connection).expect("a connection").set(faults);
    }

    fn flows(&self) -> MutexGuard<'_, Vec<Arc<Flow>>> {
        self.flows.lock().expect("no holder panics")
    }
}

/// Takes connections and passes on what they carry.
pub(super) fn forward(shared: &Arc<Shared>, listener: &TcpListener) {
    listener.set_nonblocking(true).unwrap();
    let (mut threads, mut kept) = (Vec::new(), Vec::new());
    while !shared.stop.load(Ordering::Relaxed) {
        match listener.accept() {
            Ok((donor, _)) if shared.tcp_is_blocked.load(Ordering::Relaxed) => kept.push(donor),
            Ok((donor, _)) => {
                let flow = welcome(shared);
                match flow.fate(&shared.network, Way::ToJoiner) {
                    Fate::Open(_) => threads.extend(connect(shared, &flow, donor)),
                    Fate::Silent => kept.push(donor),
                    Fate::Reset => reset(&donor),
                }
            }
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

fn welcome(shared: &Shared) -> Arc<Flow> {
    let mut flows = shared.tcp.flows();
    let flow = Arc::new(Flow::new(&shared.network, flows.len()));
    flows.push(Arc::clone(&flow));
    flow
}

/// Two threads for each direction; a joiner that refuses is refused.
fn connect(shared: &Arc<Shared>, flow: &Arc<Flow>, donor: TcpStream) -> Vec<JoinHandle<()>> {
    let Ok(joiner) = TcpStream::connect(shared.target) else { return Vec::new() };
    for socket in [&donor, &joiner] {
        socket.set_nonblocking(false).unwrap();
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(LOOK)).unwrap();
        socket.set_write_timeout(Some(LOOK)).unwrap();
    }
    let [donor, joiner] = [donor, joiner].map(Arc::new);
    let mut threads = Vec::new();
    for (way, from, to) in [(Way::ToJoiner, &donor, &joiner), (Way::ToDonor, &joiner, &donor)] {
        let under_way = Arc::new(Schedule::new(UNDER_WAY_BYTES));
        let direction = || Direction {
            shared: Arc::clone(shared),
            flow: Arc::clone(flow),
            way,
            from: Arc::clone(from),
            to: Arc::clone(to),
            under_way: Arc::clone(&under_way),
        };
        let (reading, writing) = (direction(), direction());
        threads.push(thread::spawn(move || reading.read()));
        threads.push(thread::spawn(move || writing.write()));
    }
    threads
}

struct Direction {
    shared: Arc<Shared>,
    flow: Arc<Flow>,
    way: Way,
    from: Arc<TcpStream>,
    to: Arc<TcpStream>,
    under_way: Arc<Schedule<Piece>>,
}

/// Something of a stream.
enum Piece {
    Bytes(Vec<u8>),
    /// Its sender has said everything.
    End,
    /// Its sender is gone without a word.
    Broken,
}

impl Direction {
    fn read(self) {
        let mut buffer = vec![0; PIECE_BYTES];
        while self.may_go_on().is_some() {
            let (length, wait) = self.flow.next_piece(&self.shared.network, self.way);
            if !wait.is_zero() {
                // The sender notices by a full buffer, as at any slow link.
                thread::sleep(wait.min(LOOK));
                continue;
            }
            if !self.under_way.has_room(LOOK) {
                continue;
            }
            match (&*self.from).read(&mut buffer[..length.min(PIECE_BYTES)]) {
                Ok(0) => return self.end(Piece::End),
                Ok(read) => {
                    let piece = &mut buffer[..read];
                    let due = self.flow.piece(&self.shared.network, self.way, piece);
                    self.under_way.put(due, read, Piece::Bytes(piece.to_vec()));
                }
                Err(error) if is_nothing_yet(&error) => {}
                Err(_) => return self.end(Piece::Broken),
            }
        }
    }

    /// Nothing comes after this; one entry more than the bound always has room.
    fn end(&self, piece: Piece) {
        let due = self.flow.end(&self.shared.network, self.way);
        self.under_way.put(due, 0, piece);
    }

    fn write(self) {
        while self.may_go_on().is_some() && self.write_next() {}
    }

    /// Passes on what is due; false after the last.
    fn write_next(&self) -> bool {
        let how = match self.under_way.take(LOOK) {
            None => return true,
            Some(Piece::Bytes(piece)) => return self.pass(&piece),
            Some(Piece::End) => Shutdown::Write,
            // One end is gone without a word: so is the other.
            Some(Piece::Broken) => Shutdown::Both,
        };
        drop(self.to.shutdown(how));
        false
    }

    fn pass(&self, mut piece: &[u8]) -> bool {
        while !piece.is_empty() {
            let Some(left) = self.may_go_on() else { return false };
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(piece.len());
            match (&*self.to).write(&piece[..most]) {
                Ok(written) => {
                    self.flow.passed(&self.shared.network, self.way, written);
                    piece = &piece[written..];
                }
                Err(error) if is_nothing_yet(&error) => {}
                Err(_) => {
                    drop(self.from.shutdown(Shutdown::Both));
                    return false;
                }
            }
        }
        true
    }

    /// Waits while nothing shall pass; then how many bytes may, or `None` at the end.
    fn may_go_on(&self) -> Option<u64> {
        loop {
            if self.shared.stop.load(Ordering::Relaxed) {
                return None;
            }
            match self.flow.fate(&self.shared.network, self.way) {
                Fate::Open(bytes) => return Some(bytes),
                Fate::Silent => thread::sleep(LOOK),
                Fate::Reset => {
                    reset(&self.from);
                    reset(&self.to);
                    return None;
                }
            }
        }
    }
}

/// With this, closing the last descriptor of this end sends a reset.
fn reset(end: &TcpStream) {
    set_socket_linger(end, Some(Duration::ZERO)).unwrap();
}

fn is_nothing_yet(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}
