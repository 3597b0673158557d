//! The numbers of the frame types.

/// [`super::Frame::Hello`].
pub const HELLO: u8 = 0x01;
/// [`super::Frame::Welcome`].
pub const WELCOME: u8 = 0x02;
/// [`super::Frame::Refuse`].
pub const REFUSE: u8 = 0x03;
/// [`super::Frame::Abort`].
pub const ABORT: u8 = 0x04;
/// [`super::Frame::Declare`].
pub const DECLARE: u8 = 0x05;
/// [`super::Frame::Accept`].
pub const ACCEPT: u8 = 0x06;
/// [`super::Frame::LaneOffer`].
pub const LANE_OFFER: u8 = 0x07;
/// [`super::Frame::LaneReady`].
pub const LANE_READY: u8 = 0x08;
/// [`super::Frame::Entries`].
pub const ENTRIES: u8 = 0x09;
/// [`super::Frame::Gone`].
pub const GONE: u8 = 0x0a;
/// [`super::Frame::ManifestEnd`].
pub const MANIFEST_END: u8 = 0x0b;
/// [`super::Frame::Durable`].
pub const DURABLE: u8 = 0x0c;
/// [`super::Frame::Finish`].
pub const FINISH: u8 = 0x0d;
/// [`super::Frame::Committed`].
pub const COMMITTED: u8 = 0x0e;
/// [`super::Frame::BypassAck`].
pub const BYPASS_ACK: u8 = 0x0f;
/// [`super::Frame::Bye`].
pub const BYE: u8 = 0x10;
/// A chunk on a lane; see [`crate::chunk`].
pub const CHUNK: u8 = 0x20;
/// [`super::Frame::Ack`].
pub const ACK: u8 = 0x21;
/// Set in the types an end may skip.
pub const OPTIONAL: u8 = 0x80;
/// [`super::Frame::Heartbeat`].
pub const HEARTBEAT: u8 = 0x81;
/// [`super::Frame::Have`].
pub const HAVE: u8 = 0x82;
/// [`super::Frame::HaveEnd`].
pub const HAVE_END: u8 = 0x83;
/// [`super::Frame::LimitedBy`].
pub const LIMITED_BY: u8 = 0x84;

/// [`super::Frame::Compare`].
pub const COMPARE: u8 = 0x85;
/// [`super::Frame::Lacks`].
pub const LACKS: u8 = 0x86;
/// [`super::Frame::HaveFiles`].
pub const HAVE_FILES: u8 = 0x87;
/// [`super::Frame::Seek`].
pub const SEEK: u8 = 0x88;
/// [`super::Frame::Same`].
pub const SAME: u8 = 0x89;
/// [`super::Frame::SameFiles`].
pub const SAME_FILES: u8 = 0x8a;
/// [`super::Frame::Again`].
pub const AGAIN: u8 = 0x8b;

/// Every type with its name in the specification.
pub const ALL: [(u8, &str); 29] = [
    (HELLO, "Hello"),
    (WELCOME, "Welcome"),
    (REFUSE, "Refuse"),
    (ABORT, "Abort"),
    (DECLARE, "Declare"),
    (ACCEPT, "Accept"),
    (LANE_OFFER, "LaneOffer"),
    (LANE_READY, "LaneReady"),
    (ENTRIES, "Entries"),
    (GONE, "Gone"),
    (MANIFEST_END, "ManifestEnd"),
    (DURABLE, "Durable"),
    (FINISH, "Finish"),
    (COMMITTED, "Committed"),
    (BYPASS_ACK, "BypassAck"),
    (BYE, "Bye"),
    (CHUNK, "Chunk"),
    (ACK, "Ack"),
    (HEARTBEAT, "Heartbeat"),
    (HAVE, "Have"),
    (HAVE_END, "HaveEnd"),
    (LIMITED_BY, "LimitedBy"),
    (COMPARE, "Compare"),
    (LACKS, "Lacks"),
    (HAVE_FILES, "HaveFiles"),
    (SEEK, "Seek"),
    (SAME, "Same"),
    (SAME_FILES, "SameFiles"),
    (AGAIN, "Again"),
];
