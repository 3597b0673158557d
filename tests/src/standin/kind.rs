//! What tells the servers apart. Source: contract 1 to 3, and `sql/wsrep_sst.cc` of each.

/// A server that starts SST scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// MariaDB 10.5: credentials in the environment, no progress lines.
    MariaDb105,
    /// MariaDB 10.11: progress lines.
    MariaDb1011,
    /// MariaDB 11.8: credentials on standard input.
    MariaDb118,
    /// Codership's MySQL 8.0, up to 8.0.35: credentials in the environment.
    MysqlWsrep80,
    /// Codership's MySQL 8.0 since then: credentials on standard input.
    MysqlWsrep80Late,
    /// Percona `XtraDB` Cluster 8.0.
    Pxc80,
    /// Percona `XtraDB` Cluster 8.4.
    Pxc84,
}

/// How a donor's script gets what stood before the `@` of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Credentials {
    /// By `WSREP_SST_OPT_REMOTE_AUTH`.
    Environment,
    /// By lines on standard input, beside the donor's own.
    Input,
    /// Not at all: the request has no `@`. Standard input has the donor's own.
    Nowhere,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::MariaDb105,
        Self::MariaDb1011,
        Self::MariaDb118,
        Self::MysqlWsrep80,
        Self::MysqlWsrep80Late,
        Self::Pxc80,
        Self::Pxc84,
    ];

    /// As the server itself writes it.
    #[must_use]
    pub const fn version(self) -> &'static str {
        match self {
            Self::MariaDb105 => "10.5.23-MariaDB",
            Self::MariaDb1011 => "10.11.19-MariaDB",
            Self::MariaDb118 => "11.8.3-MariaDB",
            Self::MysqlWsrep80 => "8.0.34",
            Self::MysqlWsrep80Late => "8.0.41",
            Self::Pxc80 => "8.0.41-32.1",
            Self::Pxc84 => "8.4.6-6.1",
        }
    }

    pub(super) const fn is_mariadb(self) -> bool {
        matches!(self, Self::MariaDb105 | Self::MariaDb1011 | Self::MariaDb118)
    }

    pub(super) const fn is_pxc(self) -> bool {
        matches!(self, Self::Pxc80 | Self::Pxc84)
    }

    /// Buffer of `fgets` for a donor's lines.
    pub(super) const fn donor_buffer(self) -> usize {
        if self.is_pxc() { 1024 } else { 128 }
    }

    pub(super) const fn credentials(self) -> Credentials {
        match self {
            Self::MariaDb105 | Self::MariaDb1011 | Self::MysqlWsrep80 => Credentials::Environment,
            Self::MariaDb118 | Self::MysqlWsrep80Late => Credentials::Input,
            Self::Pxc80 | Self::Pxc84 => Credentials::Nowhere,
        }
    }

    /// Whether `total` and `complete` are read without being asked for; elsewhere they end the
    /// dialogue, or nobody has asked.
    pub(super) const fn reads_progress(self) -> bool {
        self.is_codership()
    }

    pub(super) const fn is_codership(self) -> bool {
        matches!(self, Self::MysqlWsrep80 | Self::MysqlWsrep80Late)
    }

    /// Whether a character may stand in the address of a request.
    pub(super) fn carries(self, letter: char) -> bool {
        match self {
            Self::MysqlWsrep80 | Self::MysqlWsrep80Late => {
                letter.is_ascii_alphanumeric() || "._-:[]/@".contains(letter)
            }
            Self::Pxc80 | Self::Pxc84 => {
                letter.is_ascii_alphanumeric() || "_:/.[]-".contains(letter)
            }
            Self::MariaDb105 | Self::MariaDb1011 | Self::MariaDb118 => {
                letter.is_ascii_alphanumeric() || "._-:[]/".contains(letter)
            }
        }
    }
}
