//! `[sst] compressor`: a shell filter of the stock scripts, read for what it is meant to do.
//!
//! Nothing is run: the words are looked at, and the nearest value of `compress` is taken.

use fastsst_mover::Compress;

/// zstd's own default level, and what gzip's default comes closest to.
const USUAL: i32 = 3;

/// What lz4 and other fast compressors come closest to.
const FAST: i32 = -1;

/// What xz and bzip2 are asked for: size, whatever it costs.
const SMALL: i32 = 9;

/// The value of `compress` that comes closest to a filter; `None` for a filter nobody knows.
pub(super) fn nearest_compress(filter: &str) -> Option<Compress> {
    let mut words = filter.split_whitespace();
    let program = words.next()?;
    let program = program.rsplit('/').next().unwrap_or(program);
    let options: Vec<&str> = words.collect();
    Some(match program {
        "cat" | "none" => Compress::None,
        "zstd" | "zstdmt" | "pzstd" => Compress::Zstd(zstd_level(&options)),
        "lz4" | "lzop" | "lzf" | "snzip" | "qpress" => Compress::Zstd(FAST),
        "gzip" | "pigz" => Compress::Zstd(match digits(&options) {
            Some(level) if level <= 3 => 1,
            _ => USUAL,
        }),
        "xz" | "pxz" | "bzip2" | "pbzip2" | "lbzip2" | "lzma" => Compress::Zstd(SMALL),
        _ => return None,
    })
}

/// `-N`, or `--fast[=N]`, within what `compress` accepts.
fn zstd_level(options: &[&str]) -> i32 {
    let fast = options.iter().find_map(|option| option.strip_prefix("--fast"));
    let level = match fast {
        Some(level) => -level.strip_prefix('=').and_then(|n| n.parse().ok()).unwrap_or(1),
        None => digits(options).unwrap_or(USUAL),
    };
    level.clamp(*Compress::LEVELS.start(), *Compress::LEVELS.end())
}

/// The number of an option such as `-9`.
fn digits(options: &[&str]) -> Option<i32> {
    let number = |option: &&str| option.strip_prefix('-')?.parse::<u16>().ok().map(i32::from);
    options.iter().rev().find_map(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_become_the_nearest_level() {
        for (filter, expected) in [
            ("zstd -5", "zstd:5"),
            ("/usr/bin/zstd -T0 --ultra -22", "zstd:19"),
            ("zstd --fast=4", "zstd:-4"),
            ("zstd --fast", "zstd:-1"),
            ("zstdmt", "zstd:3"),
            ("lz4", "zstd:-1"),
            ("gzip -1", "zstd:1"),
            ("pigz -p4", "zstd:3"),
            ("gzip", "zstd:3"),
            ("xz -e", "zstd:9"),
            ("cat", "none"),
        ] {
            let found = nearest_compress(filter).map(|compress| compress.to_string());
            assert_eq!(found.as_deref(), Some(expected), "{filter}");
        }
        for unknown in ["", "my-filter -3", "openssl enc"] {
            assert_eq!(nearest_compress(unknown), None, "{unknown}");
        }
    }
}
