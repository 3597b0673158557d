//! Patterns of file names: `*` for any characters, `%` for one digit, all else for itself.

/// Whether the whole name matches.
pub(crate) fn matches(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern.split_first(), name.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => (0..=name.len()).any(|skip| matches(rest, &name[skip..])),
        (Some((b'%', pattern)), Some((digit, name))) => {
            digit.is_ascii_digit() && matches(pattern, name)
        }
        (Some((expected, pattern)), Some((letter, name))) => {
            expected == letter && matches(pattern, name)
        }
        (None, Some(_)) | (Some(_), None) => false,
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn stars_and_digits() {
        let matches =
            |pattern: &str, name: &str| super::matches(pattern.as_bytes(), name.as_bytes());
        assert!(matches("*.%%%%%%*", "mysql-bin.000001"));
        assert!(matches("*.%%%%%%*", "mysql-bin.1000001"));
        assert!(!matches("*.%%%%%%*", "mysql-bin.00001"));
        assert!(matches("core", "core") && !matches("core", "core2") && !matches("core", "cor"));
        assert!(matches("ddl_recovery*.log", "ddl_recovery-backup.log"));
        assert!(matches("*", "") && !matches("%", "") && !matches("", "x"));
    }
}
