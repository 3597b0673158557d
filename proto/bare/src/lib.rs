//! A program without a standard library that uses the protocol.
//!
//! It is built, never run. What it calls is a sample of everything that allocates, hashes or
//! formats, so that the linker has to find all of it.

#![no_std]

extern crate alloc;

use alloc::string::String;
use alloc::vec::Vec;
use core::alloc::{GlobalAlloc, Layout};
use core::panic::PanicInfo;

use fastsst_proto::frame::{decode_body, encode};
use fastsst_proto::{
    ChunkHash, ChunkIndex, DonorSession, Exporter, Features, FileTree, JoinerSession, JoinerSide,
    Millis, PageKey, Secret, Ticket, TransferId, delta, hash,
};

/// Runs a handshake and hashes a chunk; returns how many bytes that took on the wire.
#[unsafe(no_mangle)]
pub extern "C" fn fastsst_proto_bare() -> usize {
    let token = Secret::from_bytes([1; 16]);
    let now = Millis(0);
    let mut donor = DonorSession::new(now, &token, Exporter([2; 32]), String::from("bare"));
    let transfer = TransferId([3; 16]);
    let side = JoinerSide { transfer, features: Features::SUPPORTED, software: String::new() };
    let mut joiner = JoinerSession::new(now, &token, Exporter([2; 32]), side);
    let mut wire = Vec::new();
    while let Some(frame) = donor.poll_transmit() {
        encode(&frame, &mut wire);
        if let Ok(Some(frame)) = decode_body(frame.ty(), wire.get(5..).unwrap_or_default()) {
            drop(joiner.handle_frame(now, frame));
        }
    }
    let mut tree = FileTree::new(3);
    let inserted = tree.insert(ChunkIndex(0), hash::chunk_hash(3, ChunkIndex(0), b"abc"));
    let known = usize::from(inserted.is_ok() && tree.finish().is_some());
    let pages = hash::page_hashes(3, ChunkIndex(0), b"abc");
    let have = delta::describe(ChunkHash([4; 32]), &pages, &PageKey::new(&transfer));
    let known = known + have.pages.len();
    let ticket = Ticket::from_parts("::1", 4444, [0; 32], token);
    wire.len() + known + ticket.map_or(0, |ticket| ticket.to_text().len())
}

/// An allocator that has no memory: nothing here is run.
struct NoMemory;

// SAFETY: `alloc` always reports failure by a null pointer, which the contract allows; so no
// pointer is ever handed out, and `dealloc` can be called with none.
unsafe impl GlobalAlloc for NoMemory {
    unsafe fn alloc(&self, _: Layout) -> *mut u8 {
        core::ptr::null_mut()
    }

    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}

#[global_allocator]
static ALLOCATOR: NoMemory = NoMemory;

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    loop {}
}
