//! What the parts of a transfer cost by themselves, without a disk and without a network: hashing,
//! looking for zeros, compressing, frames. `cargo bench -p fastsst-benches`, or `make bench-micro`.

use std::hint::black_box;
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput};
use fastsst_proto::chunk::{ChunkHeader, Encoding, HEADER_BYTES, all_pages};
use fastsst_proto::frame::{self, FRAME_HEADER_BYTES, Frame};
use fastsst_proto::hash::{ChunkHash, FileTree, chunk_hash, page_hashes};
use fastsst_proto::limits::{ACKS_PER_FRAME_MAX, CHUNK_BYTES, CHUNK_BYTES_U64, PAGE_BYTES};
use fastsst_proto::manifest::{Entry, EntryKind};
use fastsst_proto::path::RelPath;
use fastsst_proto::types::{ChunkIndex, ChunkRef, FileId, Generation, PageMask, RootIndex};

/// A file in which a chunk is one of many.
const FILE_BYTES: u64 = 1 << 30;

const CHUNK: u32 = 1 << 20;
const _: () = assert!(CHUNK as usize == CHUNK_BYTES);

/// Levels of zstd that a transfer may use.
const LEVELS: [i32; 5] = [-7, -5, -1, 1, 3];

/// Entries of a frame that is neither empty nor full.
const ENTRIES: u32 = 1000;

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(700))
        .without_plots()
        .configure_from_args();
    hashing(&mut criterion);
    zeros(&mut criterion);
    compression(&mut criterion);
    frames(&mut criterion);
    criterion.final_summary();
}

/// The hash that both ends compute of every chunk, and the tree over a file.
fn hashing(criterion: &mut Criterion) {
    let data = any_bytes();
    let mut group = criterion.benchmark_group("hash");
    group.throughput(Throughput::Bytes(CHUNK_BYTES_U64));
    group.bench_function("chunk", |b| {
        b.iter(|| chunk_hash(FILE_BYTES, ChunkIndex(3), black_box(&data)));
    });
    group.bench_function("pages of a chunk", |b| {
        b.iter(|| page_hashes(FILE_BYTES, ChunkIndex(3), black_box(&data)));
    });
    let chunks = u32::try_from(FILE_BYTES / CHUNK_BYTES_U64).unwrap_or(0);
    group.throughput(Throughput::Elements(u64::from(chunks)));
    let in_order: Vec<u32> = (0..chunks).collect();
    // As lanes deliver them: a few ahead of the others.
    let by_lanes: Vec<u32> = in_order.chunks(4).flat_map(|few| few.iter().rev().copied()).collect();
    for (name, order) in [("tree in order", in_order), ("tree by lanes", by_lanes)] {
        group.bench_function(name, |b| b.iter(|| tree(black_box(&order))));
    }
    group.finish();
}

fn tree(order: &[u32]) -> bool {
    let mut tree = FileTree::new(FILE_BYTES);
    let all_new =
        order.iter().all(|chunk| tree.insert(ChunkIndex(*chunk), ChunkHash([7; 32])).is_ok());
    all_new && tree.finish().is_some()
}

/// Which pages are nothing but zeros, and the header that says so.
fn zeros(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("zero pages");
    group.throughput(Throughput::Bytes(CHUNK_BYTES_U64));
    for (name, data) in [("of rows", rows()), ("of zeros", vec![0; CHUNK_BYTES])] {
        group.bench_function(name, |b| b.iter(|| zero_pages(black_box(&data))));
        group.bench_function(BenchmarkId::new("and header", name), |b| {
            b.iter(|| {
                let zero = zero_pages(black_box(&data));
                let mut out = Vec::with_capacity(FRAME_HEADER_BYTES + HEADER_BYTES);
                header(zero).encode_frame(&mut out);
                out
            });
        });
    }
    group.finish();
}

/// The plainest way that the compiler makes fast: all bytes of a page or'ed together.
fn zero_pages(data: &[u8]) -> PageMask {
    let mut zero = PageMask::NONE;
    for (page, bytes) in (0..).zip(data.chunks(PAGE_BYTES)) {
        if bytes.chunks(256).all(|few| few.iter().fold(0, |or, byte| or | byte) == 0) {
            zero = zero | PageMask::page(page);
        }
    }
    zero
}

fn header(zero: PageMask) -> ChunkHeader {
    let sent = all_pages(CHUNK) & !zero;
    ChunkHeader {
        at: ChunkRef { file: FileId(7), generation: Generation(0), chunk: ChunkIndex(3) },
        encoding: Encoding::Raw,
        plain_len: CHUNK,
        payload_len: sent.count() * 16_384,
        sent,
        zero,
        hash: ChunkHash([7; 32]),
    }
}

/// zstd on what InnoDB writes and on what does not compress, one chunk at a time.
fn compression(criterion: &mut Criterion) {
    for (name, data) in [("rows", rows()), ("any bytes", any_bytes())] {
        let mut group = criterion.benchmark_group(format!("zstd, {name}"));
        group.throughput(Throughput::Bytes(CHUNK_BYTES_U64));
        for level in LEVELS {
            one_level(&mut group, level, &data);
        }
        group.finish();
    }
}

fn one_level(group: &mut BenchmarkGroup<'_, WallTime>, level: i32, data: &[u8]) {
    let Ok(mut compressor) = zstd::bulk::Compressor::new(level) else { return };
    let Ok(mut decompressor) = zstd::bulk::Decompressor::new() else { return };
    let mut out = Vec::with_capacity(zstd::zstd_safe::compress_bound(data.len()));
    group.bench_function(BenchmarkId::new("compress", level), |b| {
        b.iter(|| {
            out.clear();
            compressor.compress_to_buffer(black_box(data), &mut out)
        });
    });
    let mut plain = Vec::with_capacity(data.len());
    group.bench_function(BenchmarkId::new("decompress", level), |b| {
        b.iter(|| {
            plain.clear();
            decompressor.decompress_to_buffer(black_box(&out), &mut plain)
        });
    });
}

/// What is said besides the data.
fn frames(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("frame");
    let mut encoded = Vec::new();
    header(PageMask::NONE).encode(&mut encoded);
    group.throughput(Throughput::Elements(1));
    group.bench_function("chunk header, encode", |b| {
        let header = header(PageMask::NONE);
        let mut out = Vec::with_capacity(HEADER_BYTES);
        b.iter(|| {
            out.clear();
            black_box(&header).encode(&mut out);
        });
    });
    group.bench_function("chunk header, decode", |b| {
        b.iter(|| ChunkHeader::decode(black_box(&encoded)));
    });
    let acks = (0..u32::try_from(ACKS_PER_FRAME_MAX).unwrap_or(0)).map(|chunk| ChunkRef {
        file: FileId(7),
        generation: Generation(0),
        chunk: ChunkIndex(chunk),
    });
    let acks: Vec<_> = acks.collect();
    let entries: Vec<_> = (0..ENTRIES).filter_map(entry).collect();
    let sizes = [acks.len(), entries.len()];
    let both = [("ack", Frame::Ack(acks)), ("entries", Frame::Entries(entries))];
    for ((name, frame), elements) in both.into_iter().zip(sizes) {
        group.throughput(Throughput::Elements(elements as u64));
        let mut encoded = Vec::new();
        frame::encode(&frame, &mut encoded);
        let ty = frame.ty();
        group.bench_function(format!("{name}, encode"), |b| {
            let mut out = Vec::with_capacity(encoded.len());
            b.iter(|| {
                out.clear();
                frame::encode(black_box(&frame), &mut out);
            });
        });
        group.bench_function(format!("{name}, decode"), |b| {
            b.iter(|| frame::decode_body(ty, black_box(&encoded[FRAME_HEADER_BYTES..])));
        });
    }
    group.finish();
}

fn entry(id: u32) -> Option<Entry> {
    let path = RelPath::parse(format!("sbtest/partition{id:06}.ibd").as_bytes()).ok()?;
    Some(Entry {
        id: FileId(id),
        generation: Generation(0),
        root: RootIndex(0),
        path,
        kind: EntryKind::File,
        size: 1 << 20,
        mode: 0o640,
        uid: 110,
        gid: 110,
        mtime_s: 1_700_000_000,
        mtime_ns: 0,
        sparse: false,
        link_target: None,
    })
}

/// SplitMix64, as the data sets have it.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

fn any_bytes() -> Vec<u8> {
    let mut state = 1;
    (0..CHUNK_BYTES / 8).flat_map(|_| next(&mut state).to_le_bytes()).collect()
}

/// Pages of sysbench rows: 26 bytes of header and keys, 180 of digits in groups of eleven, and a
/// sixteenth of slack at the end of each page.
fn rows() -> Vec<u8> {
    const ROW: usize = 206;
    const KEYS: usize = 26;
    let (mut state, mut data) = (2, vec![0; CHUNK_BYTES]);
    for page in data.chunks_mut(PAGE_BYTES) {
        for row in page[120..PAGE_BYTES / 16 * 15].chunks_exact_mut(ROW) {
            row[9..15].copy_from_slice(&next(&mut state).to_le_bytes()[..6]);
            for group in row[KEYS..].chunks_mut(12) {
                let mut number = next(&mut state);
                for digit in &mut *group {
                    *digit = b'0' + (number % 10).to_le_bytes()[0];
                    number /= 10;
                }
                group[11] = b'-';
            }
        }
    }
    data
}
