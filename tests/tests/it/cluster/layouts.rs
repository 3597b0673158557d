//! Data in every place that options allow, different on the two nodes; tables of every kind.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use fastsst_tests::cluster::{Cluster, Node, assert_same_data};
use fastsst_tests::pki::{Issued, Pki};

use super::JOIN;

/// Where a part lies: in the datadir, below it, or outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Datadir,
    Below,
    Outside,
}

/// Whether and where a node writes binary logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Log {
    Off,
    Datadir,
    Outside,
}

/// How a node is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    Mysqld,
    Suffix,
    CommandLine,
}

/// How the nodes know each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tls {
    /// By key and token of the transfer alone.
    Own,
    /// By an authority too, that the servers have for their clients.
    Ca,
    /// And by the joiner's address.
    Identity,
}

use At::{Below, Datadir, Outside};

/// System tablespace, redo log, undo, Aria, binary log, by which way.
type Side = (At, At, At, At, Log, By);

/// Donor, joiner, certificates of both.
type Row = (Side, Side, Tls);

/// Every pair of places of a part at donor and joiner is in some row, and of the columns of one
/// side most pairs: `pairs_are_covered` checks the first.
const ROWS: [Row; 9] = [
    (
        (Outside, Datadir, Outside, Datadir, Log::Outside, By::CommandLine),
        (Below, Below, Outside, Below, Log::Off, By::Suffix),
        Tls::Ca,
    ),
    (
        (Datadir, Datadir, Outside, Outside, Log::Off, By::Mysqld),
        (Below, Datadir, Below, Datadir, Log::Off, By::CommandLine),
        Tls::Own,
    ),
    (
        (Below, Outside, Below, Outside, Log::Outside, By::Mysqld),
        (Outside, Below, Below, Outside, Log::Outside, By::Mysqld),
        Tls::Ca,
    ),
    (
        (Outside, Below, Below, Datadir, Log::Off, By::Suffix),
        (Datadir, Outside, Outside, Outside, Log::Outside, By::CommandLine),
        Tls::Identity,
    ),
    (
        (Below, Outside, Datadir, Datadir, Log::Datadir, By::Mysqld),
        (Datadir, Datadir, Outside, Datadir, Log::Outside, By::Suffix),
        Tls::Own,
    ),
    (
        (Datadir, Below, Below, Outside, Log::Datadir, By::CommandLine),
        (Datadir, Below, Datadir, Below, Log::Datadir, By::CommandLine),
        Tls::Ca,
    ),
    (
        (Outside, Below, Datadir, Below, Log::Outside, By::Suffix),
        (Outside, Datadir, Datadir, Outside, Log::Datadir, By::Suffix),
        Tls::Own,
    ),
    (
        (Datadir, Outside, Outside, Below, Log::Datadir, By::Suffix),
        (Outside, Outside, Datadir, Below, Log::Off, By::Mysqld),
        Tls::Identity,
    ),
    (
        (Below, Datadir, Datadir, Below, Log::Off, By::CommandLine),
        (Below, Outside, Below, Datadir, Log::Datadir, By::Mysqld),
        Tls::Identity,
    ),
];

/// Names with what belongs to them.
type Named = Vec<(&'static str, String)>;

/// The options of a side, and where each file must be then, relative to the node's directory.
fn options(side: Side) -> (Named, Named) {
    let (home, redo, undo, aria, log, _) = side;
    let parts = [
        ("innodb_data_home_dir", "home", "ibdata1", home),
        ("innodb_log_group_home_dir", "redo", "ib_logfile0", redo),
        ("innodb_undo_directory", "undo", "undo001", undo),
        ("aria_log_dir_path", "aria", "aria_log_control", aria),
    ];
    let (mut options, mut files) = (Vec::new(), Vec::new());
    for (option, name, file, at) in parts {
        match at {
            Datadir => files.push((file, format!("data/{file}"))),
            Below => {
                options.push((option, name.to_owned()));
                files.push((file, format!("data/{name}/{file}")));
            }
            Outside => {
                options.push((option, format!("{{node}}/parts/{name}")));
                files.push((file, format!("parts/{name}/{file}")));
            }
        }
    }
    match log {
        Log::Off => {}
        Log::Datadir => options.push(("log_bin", "binlog".to_owned())),
        Log::Outside => {
            options.push(("log_bin", "{node}/logs/binlog".to_owned()));
            options.push(("log_bin_index", "{node}/lists/all".to_owned()));
        }
    }
    (options, files)
}

/// For encrypted tables: number and key, as `file_key_management` wants them.
const KEYS: &str = "1;a7addd9adea9978fda19f21e6be987880e68ac92632ca052e5bb42b1a506939a\n";

fn cluster_of(row: Row, keys: &Path, pki: &Pki) -> Cluster {
    let keys = keys.display().to_string();
    let mut builder = Cluster::builder()
        .option("mysqld", "innodb_undo_tablespaces", "2")
        .option("mysqld", "plugin_load_add", "ha_archive;file_key_management")
        .option("mysqld", "file_key_management_filename", &keys);
    let Issued { chain, key } = pki.issue(&["127.0.0.1"], 3000);
    builder = match row.2 {
        Tls::Own => builder,
        Tls::Ca => builder
            .option("mysqld", "ssl_ca", &pki.ca())
            .option("mysqld", "ssl_cert", &chain)
            .option("mysqld", "ssl_key", &key),
        Tls::Identity => builder
            .option("sst", "ssl-mode", "VERIFY_IDENTITY")
            .option("sst", "tca", &pki.ca())
            .option("sst", "tcert", &chain)
            .option("sst", "tkey", &key),
    };
    for (node, side) in [(0, row.0), (1, row.1)] {
        if side.5 == By::Suffix {
            builder = builder.argument(node, "--defaults-group-suffix=.own");
        }
        for (option, value) in options(side).0 {
            builder = match side.5 {
                By::Mysqld => builder.node_option(node, "mysqld", option, &value),
                By::Suffix => builder.node_option(node, "mysqld.own", option, &value),
                By::CommandLine => builder.argument(node, &format!("--{option}={value}")),
            };
        }
    }
    builder.start(2)
}

/// Joins, writes on both sides, and joins again on top of what is there.
fn joins(row: Row) {
    let mut keys = tempfile::NamedTempFile::new().unwrap();
    keys.write_all(KEYS.as_bytes()).unwrap();
    fs::set_permissions(keys.path(), fs::Permissions::from_mode(0o644)).unwrap();
    let pki = Pki::default();
    let cluster = cluster_of(row, keys.path(), &pki);
    let [donor, joiner] = cluster.nodes();
    // A server changes the number of its undo tablespaces only after a slow shutdown.
    donor.sql("SET GLOBAL innodb_fast_shutdown = 0");
    donor.stop();
    donor.bootstrap();
    donor.wait_synced(JOIN);
    make_a_zoo(donor);
    for round in ["first", "again"] {
        joiner.start();
        joiner.wait_synced(JOIN);
        assert_same_zoo(donor, joiner);
        assert_in_place(donor, row.0);
        assert_in_place(joiner, row.1);
        if row.0.4 != Log::Off && row.1.4 != Log::Off {
            let state = "SELECT @@gtid_binlog_state";
            assert_eq!(donor.sql_value(state), joiner.sql_value(state), "{row:?} {round}");
        }
        joiner.sql("INSERT INTO zoo.plain (b) VALUES ('by the joiner')");
        joiner.stop();
        donor.sql("DELETE FROM zoo.plain WHERE a % 7 = 0");
        // Without a position it needs a whole transfer.
        fs::remove_file(joiner.datadir().join("grastate.dat")).unwrap();
    }
}

/// Every file is where its option says and nowhere else, and no staging is left.
fn assert_in_place(node: &Node, side: Side) {
    let base = node.datadir().parent().expect("the node's directory").to_owned();
    let mut found = BTreeSet::new();
    list(&base, &base, &mut found);
    for (file, expected) in options(side).1 {
        let places: Vec<_> = found.iter().filter(|path| is_named(path, file)).collect();
        assert_eq!(places, [&expected], "{}: {side:?}", node.name());
    }
    let left: Vec<_> = found.iter().filter(|path| path.contains(".fastsst")).collect();
    assert!(left.is_empty(), "{}: {left:?}", node.name());
    node.assert_no_markers();
}

fn is_named(path: &str, name: &str) -> bool {
    path.rsplit('/').next() == Some(name)
}

fn list(base: &Path, directory: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        let path = entry.path();
        let relative = path.strip_prefix(base).expect("below").to_string_lossy().into_owned();
        found.insert(relative);
        if entry.file_type().unwrap().is_dir() {
            list(base, &path, found);
        }
    }
}

/// Tables of every kind that a full copy has to bring over.
fn make_a_zoo(node: &Node) {
    node.sql(
        "CREATE DATABASE zoo; USE zoo;
         CREATE TABLE plain (a INT AUTO_INCREMENT PRIMARY KEY, b TEXT, FULLTEXT (b));
         INSERT INTO plain (b) SELECT CONCAT('word', seq) FROM mysql.seq_1_to_2000;
         CREATE TABLE parts (a INT PRIMARY KEY, b INT) PARTITION BY HASH (a) PARTITIONS 4;
         INSERT INTO parts SELECT seq, seq FROM mysql.seq_1_to_1000;
         CREATE TABLE zipped (a INT PRIMARY KEY, b TEXT) ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=4;
         INSERT INTO zipped SELECT seq, REPEAT('z', 200) FROM mysql.seq_1_to_1000;
         CREATE TABLE holes (a INT PRIMARY KEY, b TEXT) PAGE_COMPRESSED=1;
         INSERT INTO holes SELECT seq, REPEAT('h', 500) FROM mysql.seq_1_to_2000;
         CREATE TABLE secret (a INT PRIMARY KEY, b TEXT) ENCRYPTED=YES;
         INSERT INTO secret SELECT seq, REPEAT('s', 300) FROM mysql.seq_1_to_1000;
         CREATE TABLE isam (a INT PRIMARY KEY) ENGINE=MyISAM;
         INSERT INTO isam VALUES (1), (2);
         CREATE TABLE aria (a INT PRIMARY KEY) ENGINE=Aria;
         INSERT INTO aria VALUES (3), (4);
         CREATE TABLE csv (a INT NOT NULL) ENGINE=CSV;
         INSERT INTO csv VALUES (5), (6);
         CREATE TABLE old (a INT) ENGINE=ARCHIVE;
         INSERT INTO old VALUES (7), (8);
         CREATE TABLE versions (a INT PRIMARY KEY) WITH SYSTEM VERSIONING;
         INSERT INTO versions VALUES (9); UPDATE versions SET a = 10;
         CREATE SEQUENCE numbers START 17 INCREMENT BY 0; SELECT NEXTVAL(numbers);
         CREATE VIEW looks AS SELECT a FROM plain;
         CREATE TRIGGER fires BEFORE INSERT ON isam FOR EACH ROW SET NEW.a = NEW.a + 1;",
    );
    for odd in ["with space", "ünï", "d.o.t", "hash#tag", "a/b", "core", "-dash"] {
        node.sql(&format!(
            "CREATE DATABASE `{odd}`; CREATE TABLE `{odd}`.`{odd}` (a INT PRIMARY KEY);
             INSERT INTO `{odd}`.`{odd}` VALUES (1)"
        ));
    }
}

fn assert_same_zoo(donor: &Node, joiner: &Node) {
    assert_same_data(donor, joiner);
    let queries = [
        "SELECT COUNT(*), SUM(a) FROM zoo.versions FOR SYSTEM_TIME ALL",
        "SELECT next_not_cached_value, start_value FROM zoo.numbers",
        "SELECT COUNT(*) FROM zoo.looks",
        "SELECT trigger_name FROM information_schema.triggers WHERE trigger_schema = 'zoo'",
        "SELECT COUNT(*) FROM zoo.plain WHERE MATCH (b) AGAINST ('word17')",
        "SELECT GROUP_CONCAT(schema_name ORDER BY 1) FROM information_schema.schemata
         WHERE schema_name NOT IN ('redo', 'undo', 'home', 'aria')",
    ];
    for query in queries {
        assert_eq!(donor.sql(query), joiner.sql(query), "{query}");
    }
    let tables = donor.sql(
        "SELECT CONCAT('`', table_schema, '`.`', table_name, '`') FROM information_schema.tables
         WHERE engine IS NOT NULL AND table_type IN ('BASE TABLE', 'SYSTEM VERSIONED')
         AND table_schema NOT IN ('mysql', 'sys', 'information_schema', 'performance_schema')",
    );
    let list: Vec<_> = tables.into_iter().map(|row| row[0].clone()).collect();
    for row in joiner.sql(&format!("CHECK TABLE {}", list.join(", "))) {
        let (kind, text) = (&row[2], &row[3]);
        assert!(kind != "error" && !text.contains("orrupt"), "{row:?}");
    }
}

#[test]
fn pairs_are_covered() {
    let (mut parts, mut ways) = (BTreeSet::new(), BTreeSet::new());
    let mut with_tls = BTreeSet::new();
    for (donor, joiner, tls) in ROWS {
        let columns = |side: Side| [side.0, side.1, side.2, side.3].map(|at| format!("{at:?}"));
        for (part, (from, to)) in columns(donor).into_iter().zip(columns(joiner)).enumerate() {
            parts.insert((part, from, to));
        }
        ways.insert((format!("{:?}", donor.4), format!("{:?}", joiner.4)));
        let sides = [("donor", donor), ("joiner", joiner)];
        for (side, (_, _, _, _, log, by)) in sides {
            with_tls.insert(format!("{side} {log:?} {tls:?}"));
            with_tls.insert(format!("{side} {by:?} {tls:?}"));
        }
    }
    assert_eq!(parts.len(), 4 * 9, "every part from everywhere to everywhere");
    assert_eq!(ways.len(), 9, "every kind of binary log to every kind");
    assert!(with_tls.len() >= 29, "certificates with nearly all of the rest: {with_tls:?}");
}

#[test]
fn nodes_with_layouts_of_their_own_join_1() {
    ROWS[..3].iter().for_each(|row| joins(*row));
}

#[test]
fn nodes_with_layouts_of_their_own_join_2() {
    ROWS[3..6].iter().for_each(|row| joins(*row));
}

#[test]
fn nodes_with_layouts_of_their_own_join_3() {
    ROWS[6..].iter().for_each(|row| joins(*row));
}
