//! Every limit of the protocol: name, unit, why this number, what happens when it is reached.
//!
//! A decoder compares a length with its limit before it allocates, so that a peer decides neither
//! how much memory nor how much time it costs us.

/// Smallest piece of a file that is compared, masked or left out.
///
/// Unit: bytes. Why: InnoDB's default page, and a whole number of file-system blocks, so a page
/// can be punched out as a hole.
pub const PAGE_BYTES: usize = 16 * 1024;

/// Piece of a file that is hashed, sent, acknowledged and written as one.
///
/// Unit: bytes of plain content. Why: large enough that the header is noise and a direct write is
/// efficient; small enough that 256 of them are the whole memory budget.
/// Reached: a longer chunk is a wire error.
pub const CHUNK_BYTES: usize = 1024 * 1024;

/// [`CHUNK_BYTES`] for arithmetic with file sizes.
pub const CHUNK_BYTES_U64: u64 = CHUNK_BYTES as u64;

/// Pages of a full chunk.
///
/// Unit: pages. Why: a page mask is one `u64`.
pub const PAGES_PER_CHUNK: usize = 64;

/// Largest payload of a chunk frame.
///
/// Unit: bytes. Why: compression that does not shrink is not used.
pub const CHUNK_PAYLOAD_BYTES_MAX: usize = CHUNK_BYTES;

/// Largest body of a control frame.
///
/// Unit: bytes. Why: one read buffer of the size the data path uses anyway.
/// Reached: a session splits its lists over several frames; a decoder refuses.
pub const FRAME_BODY_BYTES_MAX: usize = 1024 * 1024;

/// Largest body of the frames a peer can send before it has proven anything.
///
/// Unit: bytes. Why: what an unauthenticated peer can make us allocate.
/// Reached: the connection is closed.
pub const HELLO_BODY_BYTES_MAX: usize = 512;

/// Longest relative path.
///
/// Unit: bytes. Why: Linux `PATH_MAX`. Reached: the entry is an error at either end.
pub const PATH_BYTES_MAX: usize = 4096;

/// Longest component of a path, and longest root name.
///
/// Unit: bytes. Why: Linux `NAME_MAX`. Reached: an error.
pub const NAME_BYTES_MAX: usize = 255;

/// Deepest path.
///
/// Unit: components. Why: data directories are two or three deep; this bounds recursion.
/// Reached: an error.
pub const PATH_DEPTH_MAX: usize = 128;

/// Longest target of a symbolic link.
///
/// Unit: bytes. Why: Linux `PATH_MAX`. Reached: an error.
pub const LINK_TARGET_BYTES_MAX: usize = 4096;

/// Largest area for entry attributes of later releases.
///
/// Unit: bytes. Why: the length field has 16 bits; 64 KiB is also the largest xattr value.
pub const ENTRY_EXTRAS_BYTES_MAX: usize = u16::MAX as usize;

/// Most entries in one frame.
///
/// Unit: entries. Why: a reader handles them in one turn. Reached: a session splits.
pub const ENTRIES_PER_FRAME_MAX: usize = 4096;

/// Most file numbers in one `Gone` or `Durable` frame.
///
/// Unit: files. Why: as [`ENTRIES_PER_FRAME_MAX`]. Reached: a session splits.
pub const FILES_PER_FRAME_MAX: usize = 4096;

/// Most chunks one `Ack` frame names.
///
/// Unit: chunks. Why: an acknowledgement that waits for more delays the donor's memory.
/// Reached: the joiner sends another frame.
pub const ACKS_PER_FRAME_MAX: usize = 256;

/// Most chunks one `Have` frame describes.
///
/// Unit: chunks. Why: 544 bytes each, so that the frame stays below its limit.
pub const HAVE_CHUNKS_PER_FRAME_MAX: usize = 1024;

/// Most chunks one `Same` frame names.
///
/// Unit: chunks. Why: as [`FILES_PER_FRAME_MAX`]. Reached: a session splits.
pub const SAME_CHUNKS_PER_FRAME_MAX: usize = 4096;

/// Most chunks and files the joiner has described and the donor has not decided about.
///
/// Unit: chunks (a file described by its hash counts as one). Why: the donor keeps 544 bytes of
/// each and the joiner 2 KiB, so this is what comparing costs in memory, 4 and 16 MiB; and it is
/// how far the joiner may read ahead, 8 GiB.
/// Reached: the joiner waits; a donor that is told of more ends the transfer.
pub const UNDECIDED_MAX: usize = 8192;

/// Most entries of one transfer, gone ones included.
///
/// Unit: entries. Why: each end keeps some hundred bytes for each. Reached: the transfer fails.
pub const FILES_MAX: u64 = 10_000_000;

/// Largest file.
///
/// Unit: bytes. Why: ext4's limit; a chunk number still fits 32 bits.
pub const FILE_BYTES_MAX: u64 = 16 << 40;

/// Most bytes of content in one transfer.
///
/// Unit: bytes. Why: sums cannot overflow. Reached: the transfer fails.
pub const TOTAL_BYTES_MAX: u64 = 1 << 50;

/// Most times one file is sent again.
///
/// Unit: generations. Why: a file that changes more often will not settle; the donor must use
/// another capture. Reached: the transfer fails.
pub const GENERATION_MAX: u16 = 1000;

/// Most lanes.
///
/// Unit: lanes. Why: one thread and one socket each. Reached: the declaration is refused.
pub const LANES_MAX: u16 = 64;

/// Most roots of one transfer.
///
/// Unit: roots. Why: a server has about ten directory options, and tables may each have a directory
/// of their own. Reached: the declaration is refused.
pub const ROOTS_MAX: usize = 128;

/// Most properties of one declaration.
///
/// Unit: properties. Why: one for each root, and some about the server. Reached: the declaration is
/// refused.
pub const PROPERTIES_MAX: usize = 192;

/// Longest key of a property.
///
/// Unit: bytes. Reached: the declaration is refused.
pub const PROPERTY_KEY_BYTES_MAX: usize = 64;

/// Longest value of a property.
///
/// Unit: bytes. Why: holds a path. Reached: the declaration is refused.
pub const PROPERTY_VALUE_BYTES_MAX: usize = 4096;

/// Longest replication position.
///
/// Unit: bytes. Why: a UUID, a sequence number and a GTID list. Reached: an error.
pub const POSITION_BYTES_MAX: usize = 512;

/// Longest text of a refusal.
///
/// Unit: bytes. Why: one log line. Reached: the text is cut when it is encoded.
pub const REFUSAL_TEXT_BYTES_MAX: usize = 1024;

/// Longest software name and version.
///
/// Unit: bytes of printable ASCII. Reached: the text is cut when it is encoded.
pub const SOFTWARE_BYTES_MAX: usize = 64;

/// Longest name of a capture.
///
/// Unit: bytes of printable ASCII. Reached: the declaration is refused.
pub const CAPTURE_BYTES_MAX: usize = 32;

/// Longest ticket.
///
/// Unit: bytes. Why: the longest host name and the fixed parts. Reached: the ticket is refused.
pub const TICKET_BYTES_MAX: usize = 512;

/// Most chunks of one lane that are sent and not acknowledged.
///
/// Unit: chunks. Why: 1 GiB in flight covers 80 Gbit/s at 100 ms. Only their names are kept.
/// Reached: the lane waits.
pub const UNACKED_CHUNKS_PER_LANE_MAX: usize = 1024;

/// Time between two heartbeats.
///
/// Unit: milliseconds.
pub const HEARTBEAT_INTERVAL_MS: u64 = 1_000;

/// Silence after which the peer is taken to be gone.
///
/// Unit: milliseconds. Why: eight lost heartbeats; shorter than Galera's own timeouts.
/// Reached: the session fails, the next attempt resumes.
pub const PEER_SILENCE_MS: u64 = 8_000;

/// Time a peer has to authenticate.
///
/// Unit: milliseconds. Why: several round trips over a bad link. Reached: the session fails.
pub const HANDSHAKE_MS: u64 = 10_000;

const _: () = assert!(PAGE_BYTES * PAGES_PER_CHUNK == CHUNK_BYTES);
const _: () = assert!(PAGES_PER_CHUNK == u64::BITS as usize);
const _: () = assert!(FILE_BYTES_MAX.div_ceil(CHUNK_BYTES_U64) <= u32::MAX as u64);
const _: () = assert!(FILES_MAX <= u32::MAX as u64);
const _: () = assert!(FILE_BYTES_MAX <= TOTAL_BYTES_MAX);
const _: () = assert!(HAVE_CHUNKS_PER_FRAME_MAX * 544 + 64 <= FRAME_BODY_BYTES_MAX);
const _: () = assert!(FILES_PER_FRAME_MAX * 38 + 4 <= FRAME_BODY_BYTES_MAX);
const _: () = assert!(SAME_CHUNKS_PER_FRAME_MAX * 10 + 4 <= FRAME_BODY_BYTES_MAX);
const _: () = assert!(ROOTS_MAX <= u8::MAX as usize); // a root number is one byte
const _: () = assert!(LANES_MAX as u32 <= u64::BITS); // offered lanes are a u64 mask
const _: () = assert!(HEARTBEAT_INTERVAL_MS * 4 <= PEER_SILENCE_MS);
const _: () = assert!(
    PROPERTIES_MAX * (PROPERTY_KEY_BYTES_MAX + PROPERTY_VALUE_BYTES_MAX + 4)
        + ROOTS_MAX * (NAME_BYTES_MAX + 2)
        + 4096
        <= FRAME_BODY_BYTES_MAX
);
const _: () = assert!(
    PATH_BYTES_MAX + LINK_TARGET_BYTES_MAX + ENTRY_EXTRAS_BYTES_MAX + 64 <= FRAME_BODY_BYTES_MAX
);
const _: () = assert!(PATH_BYTES_MAX <= u16::MAX as usize);
const _: () = assert!(REFUSAL_TEXT_BYTES_MAX <= u16::MAX as usize);
