//! A datadir whose parts lie in directories of their own, as its options say.

use std::fs;
use std::path::Path;

use super::machine::give;

/// Options, and the beginnings of the names of the files that they place.
const PARTS: [(&str, &str); 4] = [
    ("innodb_data_home_dir", "ibdata"),
    ("innodb_log_group_home_dir", "ib_logfile"),
    ("innodb_undo_directory", "undo"),
    ("aria_log_dir_path", "aria_log"),
];

/// Moves the parts of a datadir that no server uses to where `option` says.
pub(super) fn out(datadir: &Path, option: impl Fn(&str) -> Option<String>) {
    for (name, beginning) in PARTS {
        let Some(home) = option(name).map(|value| datadir.join(value)) else { continue };
        fs::create_dir_all(&home).unwrap();
        give(&home);
        for entry in fs::read_dir(datadir).unwrap().map(Result::unwrap) {
            let file = entry.file_name().into_string().expect("plain names");
            if file.starts_with(beginning) && entry.file_type().unwrap().is_file() {
                fs::rename(entry.path(), home.join(file)).unwrap();
            }
        }
    }
    for file in ["log_bin", "log_bin_index"].into_iter().filter_map(option) {
        let directory = datadir.join(file).parent().expect("a directory").to_owned();
        fs::create_dir_all(&directory).unwrap();
        give(&directory);
    }
}
