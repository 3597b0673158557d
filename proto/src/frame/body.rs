//! Bodies of the frames, dispatched by type.

use alloc::vec::Vec;

use super::{Accept, Declaration, Finish, Frame, Have, Refusal, compare, lists, ty};
use crate::bottleneck::Bottleneck;
use crate::codec::{Reader, put_u16, put_u32, put_u64};
use crate::error::WireError;
use crate::limits::LANES_MAX;
use crate::root::RootHash;
use crate::types::{FileId, LaneId};

pub(super) fn encode(frame: &Frame, out: &mut Vec<u8>) {
    match frame {
        Frame::Hello(hello) => hello.encode(out),
        Frame::Welcome(welcome) => welcome.encode(out),
        Frame::Refuse(refusal) | Frame::Abort(refusal) => refusal.encode(out),
        Frame::Declare(declaration) => declaration.encode(out),
        Frame::Accept(accept) => put_u16(out, accept.lanes),
        Frame::LaneOffer { lane, source_port } => {
            put_u16(out, lane.0);
            put_u16(out, *source_port);
        }
        Frame::LaneReady { lane, own_socket } => {
            put_u16(out, lane.0);
            out.push(u8::from(*own_socket));
        }
        Frame::Entries(entries) => lists::put_entries(out, entries),
        Frame::Gone(files) => lists::put_gone(out, files),
        Frame::ManifestEnd { entries, bytes } => {
            put_u64(out, *entries);
            put_u64(out, *bytes);
        }
        Frame::Durable(files)
        | Frame::Lacks(files)
        | Frame::Seek(files)
        | Frame::SameFiles(files) => lists::put_files(out, files),
        Frame::Finish(finish) => finish.encode(out),
        Frame::Committed { root_hash } => out.extend_from_slice(&root_hash.0),
        Frame::BypassAck | Frame::Bye => {}
        Frame::Heartbeat { bytes, files, phase } => {
            put_u64(out, *bytes);
            put_u64(out, *files);
            out.push(*phase);
        }
        Frame::Ack(chunks) | Frame::Again(chunks) => lists::put_acks(out, chunks),
        Frame::Have(have) => have.encode(out),
        Frame::HaveEnd { file, generation } => {
            put_u32(out, file.0);
            put_u16(out, generation.0);
        }
        Frame::LimitedBy(bottleneck) => out.push(bottleneck.number()),
        Frame::Compare(asked) => compare::put_asked(out, asked),
        Frame::HaveFiles(files) => compare::put_have_files(out, files),
        Frame::Same(chunks) => lists::put_same(out, chunks),
    }
}

pub(super) fn decode(ty: u8, reader: &mut Reader<'_>) -> Result<Frame, WireError> {
    Ok(match ty {
        ty::REFUSE => Frame::Refuse(Refusal::decode(reader)?),
        ty::ABORT => Frame::Abort(Refusal::decode(reader)?),
        ty::DECLARE => Frame::Declare(Declaration::decode(reader)?),
        ty::ACCEPT => Frame::Accept(Accept::decode(reader)?),
        ty::LANE_OFFER => Frame::LaneOffer { lane: read_lane(reader)?, source_port: reader.u16()? },
        ty::LANE_READY => {
            Frame::LaneReady { lane: read_lane(reader)?, own_socket: read_bool(reader)? }
        }
        ty::ENTRIES => Frame::Entries(lists::read_entries(reader)?),
        ty::GONE => Frame::Gone(lists::read_gone(reader)?),
        ty::MANIFEST_END => Frame::ManifestEnd { entries: reader.u64()?, bytes: reader.u64()? },
        ty::DURABLE => Frame::Durable(lists::read_files(reader)?),
        ty::FINISH => Frame::Finish(Finish::decode(reader)?),
        ty::COMMITTED => Frame::Committed { root_hash: RootHash(reader.array()?) },
        ty::HEARTBEAT => {
            Frame::Heartbeat { bytes: reader.u64()?, files: reader.u64()?, phase: reader.u8()? }
        }
        ty::ACK => Frame::Ack(lists::read_acks(reader)?),
        ty::HAVE => Frame::Have(Have::decode(reader)?),
        ty::HAVE_END => Frame::HaveEnd {
            file: FileId(reader.u32()?),
            generation: crate::chunk::read_generation(reader)?,
        },
        ty::LIMITED_BY => Frame::LimitedBy(Bottleneck::from_number(reader.u8()?)),
        ty::COMPARE => Frame::Compare(compare::read_asked(reader)?),
        ty::LACKS => Frame::Lacks(lists::read_files(reader)?),
        ty::HAVE_FILES => Frame::HaveFiles(compare::read_have_files(reader)?),
        ty::SEEK => Frame::Seek(lists::read_files(reader)?),
        ty::SAME => Frame::Same(lists::read_same(reader)?),
        ty::SAME_FILES => Frame::SameFiles(lists::read_files(reader)?),
        ty::AGAIN => Frame::Again(lists::read_acks(reader)?),
        _ => return Err(WireError::UnknownType { ty }),
    })
}

pub(super) fn read_lane(reader: &mut Reader<'_>) -> Result<LaneId, WireError> {
    let lane = reader.u16()?;
    if lane < LANES_MAX {
        Ok(LaneId(lane))
    } else {
        Err(WireError::BadValue { what: "lane number" })
    }
}

fn read_bool(reader: &mut Reader<'_>) -> Result<bool, WireError> {
    match reader.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(WireError::BadValue { what: "flag" }),
    }
}
