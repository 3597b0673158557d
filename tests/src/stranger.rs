//! Peers made by hand: they speak the protocol's bytes and keep its rules only as far as the test
//! wants.
//!
//! ```text
//! as_donor(&ticket, async |mut donor| { donor.begin().await; donor.say(...).await; ... })
//! let joiner = Joiner::start(async |mut guest| { guest.hear().await; ... });
//! ```
//!
//! Each peer has an event loop of its own that runs only as long as the closure does.

use std::net::Ipv4Addr;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use fastsst_mover::net::{
    Acceptor, Connection, FrameReader, FrameWriter, Identity, Link, Listener, NetOptions, Reader,
    Writer, connect,
};
use fastsst_mover::{Error, Transport};
use fastsst_proto::auth::proof;
use fastsst_proto::chunk::{HEADER_BYTES, all_pages};
use fastsst_proto::frame::{DeclKind, Declaration, Hello};
use fastsst_proto::hash::chunk_hash;
use fastsst_proto::lane::{JoinerSide, donor_check_welcome, donor_hello, joiner_welcome};
use fastsst_proto::types::chunk_len;
use fastsst_proto::{
    ChunkHeader, ChunkIndex, ChunkRef, Encoding, Entry, EntryKind, Exporter, Features, FileId,
    Frame, Generation, LaneId, PageMask, Refusal, RelPath, Role, RootIndex, Scope, Secret, Ticket,
    TransferId,
};
use tokio::time::timeout;

/// Longer than any answer takes; what does not come within it never does.
const PATIENCE: Duration = Duration::from_secs(20);

/// Name of the one root of a plain transfer.
const ROOT: &str = "data";

/// What a stand-in joiner's ticket has as its token.
const TOKEN: [u8; 16] = [0x6b; 16];

/// Runs a hand-made donor that has connected with this ticket and said nothing yet.
pub fn as_donor<T>(ticket: &str, act: impl AsyncFnOnce(Donor) -> T) -> T {
    let ticket = Ticket::parse(ticket).expect("a ticket");
    event_loop(async {
        let dialled = connect(&ticket.host, ticket.port, ticket.pin, &NetOptions::default()).await;
        let connection = dialled.expect("the joiner answers").connection;
        act(Donor { ticket, transfer: TransferId::default(), talk: Talk::over(connection) }).await
    })
}

/// A connection, frame by frame.
#[derive(Debug)]
pub struct Talk {
    reader: FrameReader<Reader>,
    writer: FrameWriter<Writer>,
    link: Link,
    exporter: Exporter,
}

/// A hand-made donor.
#[derive(Debug)]
pub struct Donor {
    ticket: Ticket,
    transfer: TransferId,
    /// The control connection.
    pub talk: Talk,
}

impl Talk {
    fn over(connection: Connection) -> Self {
        let Connection { exporter, reader, writer, link, .. } = connection;
        let (reader, writer) = (FrameReader::new(reader), FrameWriter::new(writer));
        Self { reader, writer, link, exporter }
    }

    /// Says something; a peer that is gone already is no error.
    pub async fn say(&mut self, frame: &Frame) {
        let mut bytes = Vec::new();
        fastsst_proto::frame::encode(frame, &mut bytes);
        self.say_bytes(bytes).await;
    }

    /// Says something that need not be a frame; a peer that is gone already is no error.
    pub async fn say_bytes(&mut self, bytes: Vec<u8>) {
        drop(self.writer.write_all(&mut [Bytes::from(bytes)]).await);
    }

    /// Ends its own direction, in the middle of whatever was said.
    pub async fn stop_talking(&mut self) {
        drop(timeout(PATIENCE, self.writer.finish()).await.expect("the peer takes everything"));
    }

    /// The next frame that says something: heartbeats, and what the peer waits for, are left out.
    ///
    /// # Errors
    /// The peer has ended the connection, or sent what is no frame.
    pub async fn hear(&mut self) -> Result<Frame, Error> {
        loop {
            let frame = timeout(PATIENCE, self.reader.read_frame()).await.expect("an answer");
            match frame? {
                Some(Frame::Heartbeat { .. } | Frame::LimitedBy(_)) => {}
                Some(frame) => return Ok(frame),
                None => return Err(self.link.closed().await),
            }
        }
    }

    /// The next frame, which is a heartbeat.
    pub async fn hear_heartbeat(&mut self) {
        let frame = timeout(PATIENCE, self.reader.read_frame()).await.expect("a heartbeat");
        let frame = frame.expect("a connection");
        assert!(matches!(frame, Some(Frame::Heartbeat { .. })), "{frame:?}");
    }

    /// The next chunk of a lane; its content is dropped.
    pub async fn hear_chunk(&mut self) -> ChunkRef {
        let header = timeout(PATIENCE, self.reader.read_header()).await.expect("a chunk");
        let header = header.expect("a lane").expect("a chunk before the end");
        assert!(header.is_chunk(), "{header:?}");
        let mut chunk = vec![0; header.body_len()];
        self.reader.read_exact(&mut chunk).await.expect("the rest of it");
        ChunkHeader::decode(&chunk[..HEADER_BYTES]).expect("a header").at
    }

    /// Listens until the peer has ended the connection; returns its last word, if it had one.
    pub async fn hear_end(&mut self) -> Option<Refusal> {
        loop {
            match self.hear().await {
                Ok(Frame::Refuse(refusal) | Frame::Abort(refusal)) => return Some(refusal),
                Ok(_) => {}
                Err(_) => return None,
            }
        }
    }

    /// Why the peer stops; whatever else it says before is left out.
    pub async fn hear_why(&mut self) -> Refusal {
        loop {
            match self.hear().await {
                Ok(Frame::Refuse(refusal) | Frame::Abort(refusal)) => return refusal,
                Ok(_) => {}
                Err(error) => panic!("it stopped without a word: {error}"),
            }
        }
    }
}

impl Donor {
    /// Introduces itself, and hears that the joiner does.
    pub async fn hello(&mut self) {
        self.say_hello(1).await;
        let answer = self.talk.hear().await.expect("an answer to Hello");
        let Ticket { token, .. } = &self.ticket;
        let welcome = donor_check_welcome(&answer, token, &self.talk.exporter, &Scope::Control);
        self.transfer = welcome.expect("a Welcome").transfer;
        self.talk.reader.peer_is_proven();
    }

    /// Introduces itself as a release with this major version.
    pub async fn say_hello(&mut self, major: u16) {
        let scope = Scope::Control;
        let proof = proof(&self.ticket.token, &self.talk.exporter, Role::Donor, &scope);
        let (features, software) = (Features::SUPPORTED, "stranger".to_owned());
        self.talk.say(&Frame::Hello(Hello { major, features, scope, proof, software })).await;
    }

    /// Declares a transfer of so many bytes over one lane.
    pub async fn declare(&mut self, bytes: u64) {
        let declaration = Declaration {
            kind: DeclKind::Full,
            roots: vec![ROOT.to_owned()],
            properties: Vec::new(),
            bytes_estimate: bytes,
            files_estimate: 1,
            lanes: 1,
            capture: "none".to_owned(),
        };
        self.talk.say(&Frame::Declare(declaration)).await;
    }

    /// Everything up to the joiner's consent.
    pub async fn begin(&mut self) {
        self.hello().await;
        self.declare(0).await;
        let answer = self.talk.hear().await.expect("an answer to Declare");
        assert!(matches!(answer, Frame::Accept(_)), "{answer:?}");
    }

    /// Declares entries.
    pub async fn entries(&mut self, entries: Vec<Entry>) {
        self.talk.say(&Frame::Entries(entries)).await;
    }

    /// Declares one entry whose path, on the wire, is replaced by one of the same length that no
    /// [`RelPath`] can hold.
    pub async fn entry_at(&mut self, entry: Entry, path: &[u8]) {
        let good = entry.path.as_bytes().to_vec();
        assert_eq!(good.len(), path.len());
        let mut bytes = Vec::new();
        fastsst_proto::frame::encode(&Frame::Entries(vec![entry]), &mut bytes);
        let at = bytes.windows(good.len()).position(|window| window == good).expect("the path");
        bytes[at..at + path.len()].copy_from_slice(path);
        self.talk.say_bytes(bytes).await;
    }

    /// Opens lane 0.
    pub async fn lane(&mut self) -> Talk {
        let lane = LaneId(0);
        self.talk.say(&Frame::LaneOffer { lane, source_port: 0 }).await;
        let answer = self.talk.hear().await.expect("an answer to LaneOffer");
        assert_eq!(answer, Frame::LaneReady { lane, own_socket: false });
        let Ticket { host, port, pin, token } = &self.ticket;
        let dialled = connect(host, *port, *pin, &NetOptions::default()).await;
        let mut talk = Talk::over(dialled.expect("the joiner answers").connection);
        talk.say(&donor_hello(token, &talk.exporter, self.transfer, lane, "stranger")).await;
        let answer = talk.hear().await.expect("an answer to Hello");
        let scope = Scope::Lane { transfer: self.transfer, lane };
        donor_check_welcome(&answer, token, &talk.exporter, &scope).expect("a Welcome");
        talk.reader.peer_is_proven();
        talk
    }
}

/// An entry of the one root; the number 0 is free for others.
#[must_use]
pub fn entry(id: u32, path: &str, kind: EntryKind) -> Entry {
    Entry {
        id: FileId(id),
        generation: Generation(0),
        root: RootIndex(0),
        path: RelPath::parse(path.as_bytes()).expect("a path"),
        kind,
        size: 0,
        mode: if kind == EntryKind::Directory { 0o755 } else { 0o644 },
        uid: rustix::process::getuid().as_raw(),
        gid: rustix::process::getgid().as_raw(),
        mtime_s: 1_700_000_000,
        mtime_ns: 1,
        sparse: false,
        link_target: None,
    }
}

/// A file of so many bytes.
#[must_use]
pub fn file(id: u32, path: &str, size: u64) -> Entry {
    Entry { size, ..entry(id, path, EntryKind::File) }
}

/// A symbolic or hard link.
#[must_use]
pub fn link(id: u32, path: &str, kind: EntryKind, target: &[u8]) -> Entry {
    Entry { link_target: Some(target.to_vec()), ..entry(id, path, kind) }
}

/// The chunk of a file that is no larger than one, as an honest donor sends it.
#[must_use]
pub fn chunk(id: u32, content: &[u8]) -> ChunkHeader {
    let (size, index) = (content.len() as u64, ChunkIndex(0));
    let plain_len = chunk_len(size, index);
    assert_eq!(u64::from(plain_len), size, "a file of one chunk");
    ChunkHeader {
        at: ChunkRef { file: FileId(id), generation: Generation(0), chunk: index },
        encoding: Encoding::Raw,
        plain_len,
        payload_len: plain_len,
        sent: all_pages(plain_len),
        zero: PageMask::NONE,
        hash: chunk_hash(size, index, content),
    }
}

/// The bytes of a chunk on a lane.
#[must_use]
pub fn chunk_frame(header: &ChunkHeader, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    header.encode_frame(&mut bytes);
    bytes.extend_from_slice(payload);
    bytes
}

/// A hand-made joiner that serves one connection on a thread of its own.
#[derive(Debug)]
pub struct Joiner<T> {
    /// What a donor needs to reach it.
    pub ticket: String,
    thread: JoinHandle<T>,
}

/// The donor that came to a [`Joiner`].
#[derive(Debug)]
pub struct Guest {
    token: Secret,
    acceptor: Acceptor,
    /// The control connection.
    pub talk: Talk,
}

impl<T: Send + 'static> Joiner<T> {
    /// Listens on UDP, and lets `act` deal with the first donor that comes.
    pub fn start(act: impl AsyncFnOnce(Guest) -> T + Send + 'static) -> Self {
        Self::over(Transport::Quic, act)
    }

    /// Listens, and lets `act` deal with the first donor that comes.
    pub fn over(transport: Transport, act: impl AsyncFnOnce(Guest) -> T + Send + 'static) -> Self {
        let identity = Identity::generate().expect("a key");
        let address = (Ipv4Addr::LOCALHOST, 0).into();
        let net = NetOptions { transport, ..NetOptions::default() };
        let listener = Listener::bind(address, &identity, &net).expect("a port");
        let (port, token) = (listener.local_addr().port(), Secret::from_bytes(TOKEN));
        let ticket = Ticket::from_parts("127.0.0.1", port, identity.pin(), token.clone());
        let ticket = ticket.expect("parts of a ticket").to_text().as_str().to_owned();
        let thread = std::thread::spawn(move || {
            event_loop(async {
                let acceptor = listener.start().expect("a socket");
                let incoming = timeout(PATIENCE, acceptor.accept()).await.expect("a donor");
                let incoming = incoming.expect("a socket").complete(PATIENCE).await;
                let talk = Talk::over(incoming.expect("a donor that goes on"));
                act(Guest { token, acceptor, talk }).await
            })
        });
        Self { ticket, thread }
    }

    /// What `act` returned.
    pub fn join(self) -> T {
        self.thread.join().expect("the stand-in joiner has not failed")
    }
}

impl Guest {
    /// Hears the donor's `Hello`.
    pub async fn hear_hello(&mut self) -> Hello {
        let heard = self.talk.hear().await.expect("a Hello");
        let Frame::Hello(hello) = heard else { panic!("{heard:?}") };
        hello
    }

    /// The answer of an honest joiner that knows `token`.
    #[must_use]
    pub fn welcome(&self, token: &Secret) -> Frame {
        joiner_welcome(token, &self.talk.exporter, &Scope::Control, &side(TransferId([1; 16])))
    }

    /// The next frame of a kind; others are dropped.
    pub async fn hear_until(&mut self, is_wanted: impl Fn(&Frame) -> bool) -> Frame {
        loop {
            let frame = self.talk.hear().await.expect("a donor");
            if is_wanted(&frame) {
                return frame;
            }
        }
    }

    /// Takes the lane that comes next.
    pub async fn lane(&mut self) -> Talk {
        let incoming = timeout(PATIENCE, self.acceptor.accept()).await.expect("a lane");
        let incoming = incoming.expect("a socket").complete(PATIENCE).await;
        let mut lane = Talk::over(incoming.expect("a lane that goes on"));
        let heard = lane.hear().await.expect("a Hello");
        let Frame::Hello(Hello { scope, .. }) = heard else { panic!("{heard:?}") };
        let Scope::Lane { transfer, .. } = scope else { panic!("{scope:?}") };
        lane.say(&joiner_welcome(&self.token, &lane.exporter, &scope, &side(transfer))).await;
        lane.reader.peer_is_proven();
        lane
    }

    /// Is an honest joiner until the donor is proven.
    pub async fn greet(&mut self) {
        self.hear_hello().await;
        let welcome = self.welcome(&self.token.clone());
        self.talk.say(&welcome).await;
        self.talk.reader.peer_is_proven();
    }
}

/// A joiner without an earlier copy.
fn side(transfer: TransferId) -> JoinerSide {
    let features = Features::SUPPORTED.without(Features::DELTA);
    JoinerSide { transfer, features, software: "stranger".to_owned() }
}

fn event_loop<T>(work: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().expect("an event loop").block_on(work)
}
