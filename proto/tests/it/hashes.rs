//! Chunks in any order hash like the whole file.

use fastsst_proto::hash::{
    chunk_from_pages, chunk_hash, page_hash, page_hashes, zero_chunk_hash, zero_page_hash,
};
use fastsst_proto::types::{chunk_count, chunk_len};
use fastsst_proto::*;
use proptest::prelude::*;

use crate::survives;

const MIB: usize = 1 << 20;

fn content(size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    bytes
}

fn chunks(bytes: &[u8]) -> Vec<(ChunkIndex, ChunkHash)> {
    let hash = |(index, plain): (usize, &[u8])| {
        let chunk = ChunkIndex(u32::try_from(index).unwrap());
        assert_eq!(chunk_len(bytes.len() as u64, chunk) as usize, plain.len());
        (chunk, chunk_hash(bytes.len() as u64, chunk, plain))
    };
    bytes.chunks(MIB).enumerate().map(hash).collect()
}

fn tree(size: usize, chunks: &[(ChunkIndex, ChunkHash)]) -> Option<FileHash> {
    let mut tree = FileTree::new(size as u64);
    for (done, (chunk, hash)) in chunks.iter().enumerate() {
        assert_eq!(tree.missing(), chunk_count(size as u64) - done as u64);
        tree.insert(*chunk, *hash).unwrap();
    }
    tree.finish()
}

fn whole(bytes: &[u8]) -> Option<FileHash> {
    Some(FileHash(*blake3::hash(bytes).as_bytes()))
}

/// Sizes around every boundary of the tree: page, chunk, powers of two of chunks.
fn sizes() -> Vec<usize> {
    let mut sizes = vec![0, 1, 1023, 1024, 1025, 16383, 16384, 16385, 3 * 16384 + 7];
    for chunks in [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17] {
        sizes.extend([chunks * MIB - 1, chunks * MIB, chunks * MIB + 1, chunks * MIB + 16384]);
    }
    sizes
}

#[test]
fn forwards_backwards_and_interleaved_equal_ordinary_blake3() {
    let all = content(18 * MIB);
    for size in sizes() {
        let bytes = &all[..size];
        let mut order = chunks(bytes);
        assert_eq!(tree(size, &order), whole(bytes), "{size} forwards");
        order.reverse();
        assert_eq!(tree(size, &order), whole(bytes), "{size} backwards");
        let (odd, even): (Vec<_>, Vec<_>) =
            order.into_iter().partition(|(chunk, _)| chunk.0 % 2 == 1);
        assert_eq!(tree(size, &[odd, even].concat()), whole(bytes), "{size} interleaved");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn any_order_equals_ordinary_blake3(
        (size, order) in (0..9 * MIB).prop_flat_map(|size| {
            let count = size.div_ceil(MIB);
            (Just(size), Just((0..count).collect::<Vec<_>>()).prop_shuffle())
        })
    ) {
        let bytes = content(size);
        let chunks = chunks(&bytes);
        let order: Vec<_> = order.iter().map(|index| chunks[*index]).collect();
        prop_assert_eq!(tree(size, &order), whole(&bytes));
    }

    #[test]
    fn a_missing_chunk_is_no_hash(count in 1usize..40, missing in any::<prop::sample::Index>()) {
        let mut tree = FileTree::new((count * MIB) as u64);
        for index in (0..count).filter(|index| *index != missing.index(count)) {
            tree.insert(ChunkIndex(index as u32), ChunkHash([1; 32])).unwrap();
        }
        prop_assert_eq!(tree.missing(), 1);
        prop_assert_eq!(tree.finish(), None);
    }
}

#[test]
fn a_tree_of_many_chunks_has_the_shape_of_blake3() {
    // Nodes alone, without the content: chunk nodes of a file of zeros are computed, so sizes
    // with many levels stay cheap to compare with the ordinary hash.
    for count in [31, 32, 33, 63, 64, 65] {
        let size = count * MIB + 5;
        let mut hasher = blake3::Hasher::new();
        let mut tree = FileTree::new(size as u64);
        for index in 0..=count {
            let chunk = ChunkIndex(index as u32);
            tree.insert(chunk, zero_chunk_hash(size as u64, chunk)).unwrap();
        }
        std::io::Write::write_all(&mut Zeros(&mut hasher), &vec![0; size]).unwrap();
        assert_eq!(tree.finish().unwrap().0, *hasher.finalize().as_bytes());
    }
}

/// Feeds a hasher in pieces.
struct Zeros<'a>(&'a mut blake3::Hasher);

impl std::io::Write for Zeros<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn chunks_outside_and_chunks_twice_are_errors() {
    let mut tree = FileTree::new(3 * MIB as u64);
    let hash = ChunkHash([1; 32]);
    assert_eq!(tree.insert(ChunkIndex(3), hash), Err(TreeError::OutOfRange));
    assert_eq!(tree.insert(ChunkIndex(2), hash), Ok(()));
    assert_eq!(tree.insert(ChunkIndex(2), hash), Err(TreeError::Duplicate), "ahead of the others");
    assert_eq!(tree.missing(), 2);
    assert_eq!(tree.insert(ChunkIndex(0), hash), Ok(()));
    assert_eq!(tree.insert(ChunkIndex(0), hash), Err(TreeError::Duplicate));
    assert_eq!(FileTree::new(0).insert(ChunkIndex(0), hash), Err(TreeError::OutOfRange));
}

#[test]
fn the_first_hash_of_a_chunk_stays() {
    let bytes = content(2 * MIB);
    let chunks = chunks(&bytes);
    let later = (ChunkIndex(1), ChunkHash([9; 32]));
    let mut tree = FileTree::new(bytes.len() as u64);
    tree.insert(chunks[1].0, chunks[1].1).unwrap();
    assert_eq!(tree.insert(later.0, later.1), Err(TreeError::Duplicate));
    tree.insert(chunks[0].0, chunks[0].1).unwrap();
    assert_eq!(tree.finish(), whole(&bytes));
}

#[test]
fn zeros_need_no_buffer() {
    for size in sizes() {
        let bytes = vec![0; size];
        for (chunk, hash) in chunks(&bytes) {
            assert_eq!(zero_chunk_hash(size as u64, chunk), hash, "{size} {chunk:?}");
        }
    }
}

#[test]
fn page_nodes_merge_into_the_chunk_node() {
    let all = content(18 * MIB);
    for size in sizes() {
        for (index, plain) in all[..size].chunks(MIB).enumerate() {
            let chunk = ChunkIndex(index as u32);
            let pages = page_hashes(size as u64, chunk, plain);
            let expected = chunk_hash(size as u64, chunk, plain);
            assert_eq!(
                chunk_from_pages(size as u64, chunk, &pages),
                Some(expected),
                "{size} {index}"
            );
            assert_eq!(chunk_from_pages(size as u64, chunk, &pages[1..]), None);
        }
    }
}

#[test]
fn lengths_that_fit_no_tree_do_not_panic() {
    for (size, len) in [(0, 0), (5 * MIB, 0), (5 * MIB, 2 * MIB), (MIB, 3 * MIB), (5 * MIB, 7)] {
        let bytes = vec![1; len];
        survives(chunk_hash(size as u64, ChunkIndex(u32::MAX), &bytes));
        survives(chunk_hash(size as u64, ChunkIndex(3), &bytes));
        survives(page_hashes(size as u64, ChunkIndex(3), &bytes));
    }
    survives(zero_chunk_hash(1, ChunkIndex(7)));
    survives(zero_chunk_hash(0, ChunkIndex(0)));
}

#[test]
fn a_page_of_have_is_keyed_by_the_transfer() {
    let page = page_hashes(5, ChunkIndex(0), b"hello")[0];
    let a = PageKey::new(&TransferId([1; 16]));
    let b = PageKey::new(&TransferId([2; 16]));
    assert_ne!(a.of(&page), b.of(&page));
    assert_eq!(format!("{a:?}"), "PageKey(..)", "a key is not printed");
}

#[test]
fn a_page_alone_hashes_like_the_page_among_others() {
    let all = content(2 * MIB + 16384 + 9);
    for size in [1, 16384, 16385, 3 * 16384 + 7, MIB, MIB + 1, all.len()] {
        let zeros = vec![0; size];
        for (chunk, plain) in (0..).map(ChunkIndex).zip(all[..size].chunks(MIB)) {
            let pages = page_hashes(size as u64, chunk, plain);
            let len = plain.len();
            let zero = page_hashes(size as u64, chunk, &zeros[..len]);
            for (number, content) in (0..).zip(plain.chunks(16384)) {
                let page = page_hash(size as u64, chunk, (number, content));
                assert_eq!(page, pages[number as usize], "{size} {chunk:?} {number}");
                let page = zero_page_hash(size as u64, chunk, number);
                assert_eq!(page, zero[number as usize], "{size} {chunk:?} {number} zero");
            }
        }
    }
}
