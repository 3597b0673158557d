//! Writes what `make install` installs beside the programs: manual pages and completions of shells.
//!
//! ```text
//! wsrep_sst_fastsst --help | manual DIR
//! ```
//!
//! It is an example, not a part of `fastsst`, so that the program carries no code for this. The pages
//! of `fastsst` come from its arguments, that of `wsrep_sst_fastsst` from its own text.

use std::fs;
use std::io::{self, Read};
use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;

#[path = "../src/bin/fastsst/args.rs"]
#[expect(dead_code, reason = "only the declaration of the arguments is used, not their values")]
mod args;

#[path = "../src/bin/fastsst/certificates.rs"]
#[expect(dead_code, reason = "only the declaration of the arguments is used, not their values")]
mod certificates;

/// Name of the shim, whose page is of section 8: programs that people do not start.
const SHIM: &str = "wsrep_sst_fastsst";

fn main() -> anyhow::Result<()> {
    let directory = std::env::args_os().nth(1);
    let directory = directory.ok_or_else(|| anyhow::anyhow!("usage: manual DIR < help"))?;
    let directory = Path::new(&directory);
    let mut help = String::new();
    io::stdin().read_to_string(&mut help)?;

    let section = |name| -> io::Result<_> {
        let path = directory.join(name);
        fs::create_dir_all(&path)?;
        Ok(path)
    };
    clap_mangen::generate_to(args::Args::command(), section("man1")?)?;
    fs::write(section("man8")?.join(format!("{SHIM}.8")), shim_page(&help))?;
    let completions = section("completions")?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut args::Args::command(), "fastsst", &completions)?;
    }
    Ok(())
}

/// A page whose text is what `--help` prints, line by line.
fn shim_page(help: &str) -> String {
    let (title, text) = help.split_once("\n\n").unwrap_or(("", help));
    let summary = title.split_once(": ").map_or(title, |(_, summary)| summary);
    let version = env!("CARGO_PKG_VERSION");
    let mut page = format!(
        ".TH {SHIM} 8 \"\" \"fastsst {version}\"\n.SH NAME\n{SHIM} \\- {}\n.SH DESCRIPTION\n.nf\n",
        escaped(summary)
    );
    for line in text.trim_end().lines() {
        // A line that begins with a dot or a quote would be a request.
        page.push_str(if line.starts_with(['.', '\'']) { "\\&" } else { "" });
        page.push_str(&escaped(line));
        page.push('\n');
    }
    page.push_str(".fi\n.SH SEE ALSO\n.BR fastsst (1)\n");
    page
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\e").replace('-', "\\-")
}
