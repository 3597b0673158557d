//! `[sst] cpat`: which further files of a data directory belong to the node.
//!
//! The stock scripts hand the value to `find -regex`, so it is an Emacs expression matched
//! against the whole path: `\(`, `\)` and `\|` are operators, `(`, `)` and `|` are themselves.

use std::path::Path;

use regex_lite::Regex;

/// A compiled `cpat`.
#[derive(Debug, Clone)]
pub(crate) struct KeepPattern(Regex);

impl KeepPattern {
    /// Compiles the pattern. Errors: what is wrong with it, for the operator.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("use a pattern as for find -regex".to_owned());
        }
        Regex::new(&format!("^(?s:{})$", translate(text)))
            .map(Self)
            .map_err(|error| format!("{error}; use a pattern as for find -regex"))
    }

    /// Whether the pattern matches `name` in the directory, as the stock scripts would see it.
    pub(crate) fn matches(&self, datadir: &Path, name: &str) -> bool {
        self.0.is_match(&format!("{}/{name}", datadir.display()))
    }
}

/// From the Emacs syntax of `find` to the usual one.
fn translate(emacs: &str) -> String {
    let mut usual = String::with_capacity(emacs.len());
    let mut letters = emacs.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => match letters.next() {
                Some(operator @ ('(' | ')' | '|')) => usual.push(operator),
                Some(other) => usual.extend(['\\', other]),
                None => usual.push('\\'),
            },
            '(' | ')' | '|' | '{' | '}' => usual.extend(['\\', letter]),
            _ => usual.push(letter),
        }
    }
    usual
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_of_the_stock_script_works() {
        let text = r".*\.pem$\|.*galera\.cache$\|.*RPM_UPGRADE_\(MARKER\|HISTORY\)$";
        let pattern = KeepPattern::parse(text).unwrap();
        let kept = |name| pattern.matches(Path::new("/var/lib/mysql"), name);
        assert!(kept("ca.pem") && kept("galera.cache") && kept("RPM_UPGRADE_MARKER"));
        assert!(!kept("ca.pem.old") && !kept("ibdata1") && !kept("RPM_UPGRADE_X"));
    }

    #[test]
    fn the_whole_path_has_to_match() {
        let pattern = KeepPattern::parse("/d/keep.*").unwrap();
        assert!(pattern.matches(Path::new("/d"), "keep1"));
        assert!(!pattern.matches(Path::new("/x/d"), "keep1"));
    }

    #[test]
    fn a_broken_pattern_is_an_error() {
        for text in ["", r"\(", "[a", "*"] {
            assert!(KeepPattern::parse(text).is_err(), "{text}");
        }
    }
}
