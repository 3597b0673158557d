//! What the server was told, wherever it was told it.

use crate::args::Args;
use crate::config::Config;
use crate::server_args::ServerArgs;

/// The server's options by precedence (contract 6.2): given to the script, in the environment,
/// on the server's command line, in its option files.
#[derive(Debug)]
pub(crate) struct Settings<'a> {
    explicit: &'a ServerArgs,
    command_line: &'a ServerArgs,
    files: &'a ServerArgs,
    environment: fn(&str) -> Option<String>,
}

/// Environment variables that stand for an option.
const VARIABLES: [(&str, &str); 3] = [
    ("innodb-data-home-dir", "INNODB_DATA_HOME_DIR"),
    ("innodb-log-group-home-dir", "INNODB_LOG_GROUP_HOME"),
    ("innodb-undo-directory", "INNODB_UNDO_DIR"),
];

impl<'a> Settings<'a> {
    pub(crate) fn new(args: &'a Args, config: &'a Config) -> Self {
        Self {
            explicit: &args.explicit,
            command_line: &args.server_args,
            files: &config.server,
            environment: |name| std::env::var(name).ok(),
        }
    }

    /// The value of an option, not empty.
    pub(crate) fn value(&self, name: &str) -> Option<String> {
        self.explicit
            .value(name)
            .map(str::to_owned)
            .or_else(|| self.of_environment(name))
            .or_else(|| self.command_line.value(name).map(str::to_owned))
            .or_else(|| self.files.value(name).map(str::to_owned))
    }

    /// The value of the first of several names of one option.
    pub(crate) fn first_value(&self, names: &[&str]) -> Option<String> {
        names.iter().find_map(|name| self.value(name))
    }

    /// Whether an option is there at all, with or without a value.
    pub(crate) fn is_set(&self, name: &str) -> bool {
        [self.explicit, self.command_line, self.files].iter().any(|given| given.is_set(name))
    }

    /// Whether the script was given a value of its own.
    pub(crate) fn is_told(&self, name: &str) -> bool {
        self.explicit.value(name).is_some()
    }

    fn of_environment(&self, name: &str) -> Option<String> {
        let (_, variable) = VARIABLES.iter().find(|(option, _)| *option == name)?;
        let value = (self.environment)(variable)?;
        let value = value.trim();
        (!value.is_empty() && value != "(null)").then(|| value.to_owned())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Settings that come from an option file and the script's own arguments only.
    pub(crate) fn settings<'a>(files: &'a ServerArgs, explicit: &'a ServerArgs) -> Settings<'a> {
        Settings { explicit, command_line: &EMPTY, files, environment: |_| None }
    }

    static EMPTY: std::sync::LazyLock<ServerArgs> = std::sync::LazyLock::new(ServerArgs::default);

    #[test]
    fn the_precedence_is_that_of_the_stock_scripts() {
        let explicit = ServerArgs::parse_lines("--log-bin=script\n");
        let command_line =
            ServerArgs::parse_lines("--log-bin=args\n--innodb-undo-directory=args\n--socket=args");
        let files = ServerArgs::parse_lines("--log-bin=file\n--socket=file\n--port=1\n--log-error");
        let settings = Settings {
            explicit: &explicit,
            command_line: &command_line,
            files: &files,
            environment: |name| (name == "INNODB_UNDO_DIR").then(|| " env ".to_owned()),
        };
        assert_eq!(settings.value("log-bin").as_deref(), Some("script"));
        assert_eq!(settings.value("innodb-undo-directory").as_deref(), Some("env"));
        assert_eq!(settings.value("socket").as_deref(), Some("args"));
        assert_eq!(settings.value("port").as_deref(), Some("1"));
        assert!(settings.value("log-error").is_none());
        assert_eq!(settings.first_value(&["nothing", "port"]).as_deref(), Some("1"));
    }
}
