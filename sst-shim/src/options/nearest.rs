//! The known name that somebody who wrote an unknown one may have meant.

/// Letters that may differ, one for each so many of the name. Why: `lane` is close to `lanes`,
/// but `time` is not close to `type`.
const LETTERS_FOR_ONE_MISTAKE: usize = 3;

/// Mistakes that are taken for one slip, however long the name is.
const MISTAKES_MAX: usize = 4;

/// The closest of the known names, if any is close enough to be suggested.
pub(super) fn nearest(
    name: &str,
    known: impl Iterator<Item = &'static str>,
) -> Option<&'static str> {
    let name = name.to_ascii_lowercase();
    let allowed = (name.len() / LETTERS_FOR_ONE_MISTAKE).clamp(1, MISTAKES_MAX);
    known
        .map(|candidate| (strsim::damerau_levenshtein(&name, candidate), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min()
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn slips_are_understood_and_other_words_are_not() {
        let known = ["sst-idle-timeout", "sst-initial-timeout", "lanes", "rlimit", "time"];
        let suggested = |name| nearest(name, known.into_iter());
        assert_eq!(suggested("sst-idle-timout"), Some("sst-idle-timeout"));
        assert_eq!(suggested("sst-idel-timeout"), Some("sst-idle-timeout"));
        assert_eq!(suggested("idle-timeout"), Some("sst-idle-timeout"));
        assert_eq!(suggested("lane"), Some("lanes"));
        assert_eq!(suggested("RLIMIT"), Some("rlimit"));
        assert_eq!(suggested("frobnicate"), None);
        assert_eq!(suggested("x"), None);
    }
}
