//! Options in the form `mariadbd` takes them: from its command line or from an option file.

/// Options in the order given; names without dashes in front, with `-` for `_`, without `loose-`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ServerArgs(Vec<(String, Option<String>)>);

impl ServerArgs {
    /// Reads the server's own command line. `--` ends it.
    pub(crate) fn parse(words: impl IntoIterator<Item = String>) -> Self {
        let mut args = Self::default();
        let mut words = words.into_iter().peekable();
        while let Some(word) = words.next() {
            if word == "--" {
                break;
            }
            if let Some(long) = word.strip_prefix("--") {
                // A word without dashes after an option can only be its value.
                let following = match long.contains('=') {
                    true => None,
                    false => words.next_if(|next| !next.starts_with('-')),
                };
                args.push_option(long, following);
            } else if let Some(short) = word.strip_prefix("-h") {
                let value = match short.is_empty() {
                    true => words.next_if(|next| !next.starts_with('-')),
                    false => Some(short.to_owned()),
                };
                args.push("datadir".to_owned(), value);
            }
        }
        args
    }

    /// Reads what `my_print_defaults` prints: one `--name[=value]` a line.
    pub(crate) fn parse_lines(text: &str) -> Self {
        let mut args = Self::default();
        for option in text.lines().filter_map(|line| line.strip_prefix("--")) {
            args.push_option(option, None);
        }
        args
    }

    fn push_option(&mut self, option: &str, following: Option<String>) {
        let (name, value) = match option.split_once('=') {
            Some((name, value)) => (name, Some(value.trim().to_owned())),
            None => (option, following),
        };
        let name = name.trim().replace('_', "-");
        self.push(name.strip_prefix("loose-").unwrap_or(&name).to_owned(), value);
    }

    pub(crate) fn push(&mut self, name: String, value: Option<String>) {
        self.0.push((name, value));
    }

    /// The last value of an option that is not empty.
    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        let given = self.iter().filter(|(given, value)| *given == name && !value.is_empty());
        given.map(|(_, value)| value).last()
    }

    /// Whether an option is there at all, with or without a value.
    pub(crate) fn is_set(&self, name: &str) -> bool {
        self.0.iter().any(|(given, _)| given == name)
    }

    /// Names and values in the order given; an option without a value has an empty one.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_deref().unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_normalised_and_the_last_value_wins() {
        let text = "--loose_log_error=/a\n--log-error=/b = c\n--log-bin\n--datadir=\nnoise\n";
        let args = ServerArgs::parse_lines(text);
        assert_eq!(args.value("log-error"), Some("/b = c"));
        assert_eq!(args.value("log-bin"), None);
        assert!(args.is_set("log-bin") && !args.is_set("socket"));
        assert_eq!(args.value("datadir"), None);
    }

    #[test]
    fn a_value_may_follow_as_a_word() {
        let words = ["--datadir", "/a", "-h/b", "--log-bin", "--socket=/s", "--", "--datadir=/c"];
        let args = ServerArgs::parse(words.map(str::to_owned));
        assert_eq!(args.value("datadir"), Some("/b"));
        assert!(args.is_set("log-bin"));
        assert_eq!(args.value("socket"), Some("/s"));
    }
}
