//! Data for a cluster, and whether two nodes have the same.

use std::collections::BTreeMap;

use super::Node;

/// Tables that `fill_mib` spreads its rows over.
const TABLES: u64 = 4;

/// Bytes of one row: seven pieces, because `RANDOM_BYTES` yields at most 1024 at a time.
const ROW_BYTES: u64 = 7 * 1024;

/// Rows of one transaction, about 14 MiB.
const ROWS_PER_TRANSACTION: u64 = 2048;

/// Tables of schema `mysql` that are the same on all nodes of a cluster. Others (statistics,
/// replication positions, the members of the cluster) are each server's own.
const SYSTEM_TABLES: [&str; 9] = [
    "global_priv",
    "db",
    "tables_priv",
    "columns_priv",
    "procs_priv",
    "proc",
    "event",
    "func",
    "servers",
];

impl Node {
    /// Adds about this many MiB of random, hence incompressible, rows to schema `fill`.
    ///
    /// Beside them it makes an Aria and a MyISAM table: engines that Galera does not replicate,
    /// so their rows reach another node by a full copy only.
    pub fn fill_mib(&self, mib: u64) {
        self.sql(
            "CREATE DATABASE IF NOT EXISTS fill;
             CREATE TABLE IF NOT EXISTS fill.aria (a INT PRIMARY KEY, b TEXT) ENGINE=Aria;
             CREATE TABLE IF NOT EXISTS fill.myisam (a INT PRIMARY KEY, b TEXT) ENGINE=MyISAM;
             REPLACE INTO fill.aria SELECT seq, REPEAT('aria', seq) FROM mysql.seq_1_to_300;
             REPLACE INTO fill.myisam SELECT seq, REPEAT('isam', seq) FROM mysql.seq_1_to_300;",
        );
        let rows_per_table = (mib * 1024 * 1024 / ROW_BYTES / TABLES).max(1);
        let row = ["RANDOM_BYTES(1024)"; 7].join(",");
        for table in 0..TABLES {
            self.sql(&format!(
                "CREATE TABLE IF NOT EXISTS fill.t{table} (id BIGINT AUTO_INCREMENT PRIMARY KEY,
                 k INT NOT NULL, payload BLOB NOT NULL, KEY (k)) ENGINE=InnoDB"
            ));
            let mut left = rows_per_table;
            while left > 0 {
                let rows = left.min(ROWS_PER_TRANSACTION);
                self.sql(&format!(
                    "INSERT INTO fill.t{table} (k, payload)
                     SELECT seq % 1000, CONCAT({row}) FROM mysql.seq_1_to_{rows}"
                ));
                left -= rows;
            }
        }
    }

    /// `CHECKSUM TABLE` of every table that all nodes share, by name, after all that is
    /// committed anywhere in the cluster has been applied here.
    #[must_use]
    pub fn checksum_all_tables(&self) -> BTreeMap<String, String> {
        let tables = self.sql(
            "SELECT CONCAT('`', table_schema, '`.`', table_name, '`')
             FROM information_schema.tables
             WHERE table_type = 'BASE TABLE' AND table_schema NOT IN
             ('mysql', 'sys', 'information_schema', 'performance_schema')",
        );
        let tables = tables.into_iter().map(|row| row[0].clone());
        let system = SYSTEM_TABLES.into_iter().map(|name| format!("`mysql`.`{name}`"));
        let list = tables.chain(system).collect::<Vec<_>>().join(", ");
        let rows = self.sql(&format!("SET SESSION wsrep_sync_wait = 15; CHECKSUM TABLE {list}"));
        let sums: BTreeMap<_, _> =
            rows.into_iter().map(|row| (row[0].clone(), row[1].clone())).collect();
        for (table, sum) in &sums {
            assert!(sum != "NULL", "{}: {table} cannot be read", self.name());
        }
        sums
    }
}

/// Panics unless both nodes have the same tables with the same rows; returns how many.
pub fn assert_same_data(left: &Node, right: &Node) -> usize {
    let (ours, theirs) = (left.checksum_all_tables(), right.checksum_all_tables());
    assert_eq!(ours, theirs, "{} and {} differ", left.name(), right.name());
    ours.len()
}
