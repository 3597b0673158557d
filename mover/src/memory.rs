//! What the C library does with memory that was freed.

/// Larger than any block that is allocated again and again, and below the 32 MiB up to which
/// glibc adapts (`DEFAULT_MMAP_THRESHOLD_MAX`, mallopt(3)).
const LESSON_BYTES: usize = 31 << 20;

/// Keeps freed memory for the next use instead of giving it back to the kernel; to be called once,
/// by a program that transfers, before it starts threads.
///
/// QUIC allocates and frees a block for every datagram, up to 64 KiB on loopback. By default glibc
/// returns freed memory above 128 KiB to the kernel, which clears it again for the next datagram:
/// a third of a receiving lane's time was page faults. glibc learns otherwise by itself when a
/// large block that was mapped is freed: blocks of that size are no longer mapped one by one, and
/// twice that size may lie idle (`M_MMAP_THRESHOLD` in mallopt(3)). Other C libraries ignore this.
pub fn keep_freed_memory() {
    drop(std::hint::black_box(vec![0_u8; LESSON_BYTES]));
}
