//! Something like a data directory as sysbench leaves it, without a server: a few large tables, one redo log, many small files.

use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};

use super::digits::Numbers;
use super::{DataSet, any_bytes, write};
use crate::cancel::Cancel;

/// InnoDB's default page.
const PAGE_BYTES: usize = 16 << 10;

const PAGES_PER_MIB: u32 = (1 << 20) / (16 << 10);

/// Tables take these sizes in turn, until the space is used up. Unit: MiB.
const TABLE_MIB: [u32; 4] = [512, 256, 384, 320];

/// Small files: dictionary, Aria tables, definitions.
const SMALL_FILES: u32 = 240;

/// Largest small file.
const SMALL_BYTES_MAX: u32 = 64 << 10;

/// The end of a large table that InnoDB has reserved and not used: pages of zeros.
const RESERVED_PAGES: u32 = 4 * PAGES_PER_MIB;

/// From here on a table has a reserved end.
const LARGE_PAGES: u32 = 64 * PAGES_PER_MIB;

/// Every so many pages one of the secondary index; its entries are that much smaller.
const SECONDARY_EVERY: u32 = 12;

/// Everything follows from this number and the size.
const SEED: u64 = 0x5353_5400;

/// The data set.
#[derive(Debug)]
pub(crate) struct Synthetic {
    mib: u32,
}

impl Synthetic {
    /// A directory of about `mib` MiB.
    pub(crate) fn new(mib: u32) -> Self {
        Self { mib }
    }

    /// The redo log, and what the tables share the rest of. Unit: MiB.
    fn split(&self) -> (u32, Vec<u32>) {
        const LOG_MIB_MAX: u32 = 96;
        let log = (self.mib / 16).min(LOG_MIB_MAX);
        let (mut left, mut tables) = (self.mib - log, Vec::new());
        for size in TABLE_MIB.into_iter().cycle() {
            let size = size.min(left);
            if size == 0 {
                break;
            }
            tables.push(size);
            left -= size;
        }
        (log, tables)
    }
}

impl DataSet for Synthetic {
    fn name(&self) -> &'static str {
        "datadir-synthetic"
    }

    fn version(&self) -> u32 {
        1
    }

    fn mib(&self) -> u32 {
        self.mib
    }

    fn describe(&self) -> String {
        let (log, tables) = self.split();
        let tables: Vec<_> = tables.iter().map(u32::to_string).collect();
        format!(
            "InnoDB pages of sysbench rows (digits, trailing slack, zero pages at the end of large \
             tables): tables of {} MiB, a redo log of {log} MiB of any bytes, {SMALL_FILES} files \
             up to {} KiB",
            tables.join(", "),
            SMALL_BYTES_MAX >> 10,
        )
    }

    fn bytes(&self) -> u64 {
        (u64::from(self.mib) << 20) + u64::from(SMALL_FILES) * u64::from(SMALL_BYTES_MAX)
    }

    fn generate(&self, into: &Path, _: &Path, cancel: &Cancel) -> Result<()> {
        let (log_mib, tables) = self.split();
        fs::create_dir(into.join("sbtest")).context("cannot create a schema")?;
        for (space, mib) in (1..).zip(&tables) {
            let path = into.join(format!("sbtest/sbtest{space}.ibd"));
            write(&path, |file| table(file, space, mib * PAGES_PER_MIB, cancel))?;
        }
        // A log is as good as incompressible here: its blocks are of any bytes.
        let (seed, bytes) = (SEED ^ u64::from(u32::MAX), u64::from(log_mib) << 20);
        write(&into.join("ib_logfile0"), |file| any_bytes(file, seed, bytes, cancel))?;
        small(into)
    }
}

fn table(file: &mut impl Write, space: u32, pages: u32, cancel: &Cancel) -> Result<()> {
    let mut numbers = Numbers::new(SEED + u64::from(space));
    let used = if pages >= LARGE_PAGES { pages - RESERVED_PAGES } else { pages };
    let mut page = vec![0; PAGE_BYTES];
    let mut row_id = 1;
    for number in 0..pages {
        if number % PAGES_PER_MIB == 0 {
            cancel.check()?;
        }
        page.fill(0);
        if number < used {
            index_page(&mut page, Place { space, number }, &mut row_id, &mut numbers);
        }
        file.write_all(&page)?;
    }
    Ok(())
}

/// Where a page is.
#[derive(Debug, Clone, Copy)]
struct Place {
    space: u32,
    number: u32,
}

/// One page of the clustered or the secondary index; offsets as in InnoDB's `fil0fil.h` and
/// `page0page.h`.
fn index_page(page: &mut [u8], place: Place, row_id: &mut u32, numbers: &mut Numbers) {
    const TRAILER: usize = 8;
    const RECORDS_AT: usize = 120;
    /// A page that was filled in order is left a sixteenth empty.
    const FILL: usize = PAGE_BYTES / 16 * 15;
    const TYPE_INDEX: u16 = 0x45bf;

    let secondary = place.number % SECONDARY_EVERY == SECONDARY_EVERY - 1;
    let (record_bytes, index): (usize, u64) = if secondary { (13, 2) } else { (206, 1) };
    let (mut at, mut records) = (RECORDS_AT, 0_u16);
    let mut key = numbers.below(1 << 20);
    while at + record_bytes <= FILL {
        let record = &mut page[at..at + record_bytes];
        if secondary {
            key += numbers.below(64);
            secondary_record(record, key, numbers);
        } else {
            clustered_record(record, *row_id, numbers);
            *row_id += 1;
        }
        at += record_bytes;
        records += 1;
    }

    let lsn = (1 << 34) + u64::from(place.number) * 17_000 + numbers.next() % 16_384;
    let checksum = numbers.next().to_be_bytes();
    let mut put = |at: usize, bytes: &[u8]| page[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &checksum[..4]);
    put(4, &place.number.to_be_bytes());
    put(8, &place.number.wrapping_sub(1).to_be_bytes());
    put(12, &(place.number + 1).to_be_bytes());
    put(16, &lsn.to_be_bytes());
    put(24, &TYPE_INDEX.to_be_bytes());
    put(34, &place.space.to_be_bytes());
    put(42, &(records | 0x8000).to_be_bytes());
    put(54, &records.to_be_bytes());
    put(66, &(u64::from(place.space) * 2 + index).to_be_bytes());
    put(94, b"\x01\x00\x02\x00\x1binfimum\0\x05\x00\x0b\x00\x00supremum");
    put(PAGE_BYTES - TRAILER, &checksum[..4]);
    put(PAGE_BYTES - TRAILER / 2, &lsn.to_be_bytes()[4..]);
    let slots = usize::from(records / 6);
    for slot in 0..slots {
        let offset = u16::try_from(RECORDS_AT + slot * 6 * record_bytes).unwrap_or(0);
        put(PAGE_BYTES - TRAILER - 2 * (slot + 1), &offset.to_be_bytes());
    }
}

/// `id, k, c CHAR(120), pad CHAR(60)` behind a record header, transaction id and roll pointer.
fn clustered_record(record: &mut [u8], row_id: u32, numbers: &mut Numbers) {
    let key = numbers.below(10_000_000);
    record[..5].copy_from_slice(&[0, 0, 0x10, 0, 0xce]);
    // Signed columns are stored with their sign bit flipped.
    record[5..9].copy_from_slice(&(row_id | 0x8000_0000).to_be_bytes());
    record[9..15].copy_from_slice(&[0, 0, 0, 0, 0x2f, 0x81]);
    record[15..22].copy_from_slice(&(u64::from(row_id) << 8 | 0x80 << 56).to_be_bytes()[..7]);
    record[22..26].copy_from_slice(&(key | 0x8000_0000).to_be_bytes());
    numbers.groups(&mut record[26..146]);
    numbers.groups(&mut record[146..206]);
}

/// `k, id` behind a record header.
fn secondary_record(record: &mut [u8], key: u32, numbers: &mut Numbers) {
    record[..5].copy_from_slice(&[0, 0, 0x10, 0, 0x0d]);
    record[5..9].copy_from_slice(&(key | 0x8000_0000).to_be_bytes());
    record[9..13].copy_from_slice(&(numbers.below(10_000_000) | 0x8000_0000).to_be_bytes());
}

/// Text and then any bytes, in two schemas.
fn small(into: &Path) -> Result<()> {
    let mut numbers = Numbers::new(SEED ^ (1 << 48));
    for schema in ["mysql", "sys"] {
        fs::create_dir(into.join(schema)).context("cannot create a schema")?;
    }
    for index in 0..SMALL_FILES {
        let schema = if index % 3 == 0 { "sys" } else { "mysql" };
        let kind = ["frm", "MAI", "MAD", "ibd"][index as usize % 4];
        // Small ones are more frequent, as in a real dictionary.
        let limit = SMALL_BYTES_MAX >> numbers.below(6);
        let bytes = numbers.below(limit);
        let mut content = vec![0; bytes as usize];
        let (text, any) = content.split_at_mut(numbers.below(bytes + 1) as usize);
        numbers.groups(text);
        numbers.fill(any);
        write(&into.join(format!("{schema}/t{index:03}.{kind}")), |file| {
            Ok(file.write_all(&content)?)
        })?;
    }
    for (name, content) in [("sbtest/db.opt", "default-character-set=utf8mb4\n"), ("flag", "")] {
        write(&into.join(name), |file| Ok(file.write_all(content.as_bytes())?))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Tree;

    #[test]
    fn the_same_bytes_every_time() {
        let cancel = Cancel::default();
        let [one, two] = [(), ()].map(|()| {
            let dir = tempfile::tempdir().unwrap();
            Synthetic::new(4).generate(dir.path(), dir.path(), &cancel).unwrap();
            Tree::read(dir.path(), &cancel).unwrap()
        });
        assert!(one.difference(&two).is_none());
        assert!(one.bytes >= 4 << 20 && one.bytes <= Synthetic::new(4).bytes());
    }

    #[test]
    fn sizes_add_up() {
        for mib in [1, 64, 700, 3072] {
            let (log, tables) = Synthetic::new(mib).split();
            assert_eq!(log + tables.iter().sum::<u32>(), mib);
        }
        assert!(Synthetic::new(3072).split().1.len() > 6);
    }

    #[test]
    fn a_page_looks_like_one_of_innodb() {
        let mut page = vec![0; PAGE_BYTES];
        let place = Place { space: 7, number: 3 };
        let mut row_id = 1;
        index_page(&mut page, place, &mut row_id, &mut Numbers::new(1));
        assert_eq!(page[4..8], 3_u32.to_be_bytes());
        assert_eq!(page[34..38], 7_u32.to_be_bytes());
        assert_eq!(page[20..24], page[PAGE_BYTES - 4..], "low half of the LSN at both ends");
        assert_eq!(page[..4], page[PAGE_BYTES - 8..PAGE_BYTES - 4]);
        assert!(row_id > 60, "{row_id}");
        assert!(page[146..265].iter().all(|byte| byte.is_ascii_digit() || *byte == b'-'));
        assert!(page[15_400..16_000].iter().all(|byte| *byte == 0), "slack");
    }
}
