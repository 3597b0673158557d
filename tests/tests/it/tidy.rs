//! Rules that no compiler checks: what is allowed where, and that documents and code agree.
//!
//! A rule about sources lists the files in which something is allowed. It fails for any other
//! file, and also when a file on the list does not need to be there any more.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use fastsst_mover::Code;

const CRATES: [&str; 5] = ["proto", "mover", "sst-shim", "benches", "tests"];

/// The sources of what is installed; the rest are tests and measurements.
const PRODUCTS: [&str; 3] = ["proto/src/", "mover/src/", "sst-shim/src/"];

/// This file, which has to name what it forbids.
const THIS: &str = "tests/tests/it/tidy.rs";

#[test]
fn unsafe_code_is_in_one_file() {
    // Nobody runs `proto/bare`: it shows that the protocol builds without std.
    Rule::new("`unsafe`", &["mover/src/disk/uring.rs", "proto/bare/src/lib.rs"])
        .check(&sources(), |code| has_word(code, "unsafe"));
}

#[test]
fn only_the_commit_renames() {
    let calls = ["rename", "renameat", "renameat2", "renameat_with"];
    Rule::new("a rename", &["mover/src/commit.rs", "mover/src/commit/"])
        .check(&products(), |code| calls.iter().any(|call| is_named(code, call)));
}

#[test]
fn standard_output_belongs_to_the_server_and_to_results() {
    Rule::new(
        "standard output",
        &[
            "sst-shim/src/wsrep.rs",
            // Looks whether the server still reads, and writes nothing.
            "sst-shim/src/liveness.rs",
            // One line each: the estimate, the ticket, the hash.
            "mover/src/bin/fastsst/estimate.rs",
            "mover/src/bin/fastsst/receive.rs",
            "mover/src/bin/fastsst/verify.rs",
        ],
    )
    .check(&products(), |code| {
        let is_macro = |name| words(code, name).any(|(_, after)| after.starts_with('!'));
        // `.stdout(...)` says where a child's output goes.
        let mut handles = words(code, "stdout");
        is_macro("println")
            || is_macro("print")
            || handles.any(|(before, after)| !before.ends_with('.') && after.starts_with('('))
    });
}

#[test]
fn only_the_reader_of_option_files_starts_a_program() {
    Rule::new("a child process", &["sst-shim/src/config.rs"]).check(&products(), |code| {
        code.contains("Command::new")
            || code.contains("process::Command")
            || has_word(code, "execve")
    });
}

#[test]
fn every_channel_is_bounded() {
    Rule::new("an unbounded channel", &[]).check(&products(), |code| {
        has_word(code, "unbounded")
            || has_word(code, "unbounded_channel")
            || code.contains("mpsc::channel")
    });
}

#[test]
fn nothing_is_left_for_later() {
    const MARKS: [&str; 5] = ["TODO", "FIXME", "todo!(", "unimplemented!(", "#[ignore"];
    let found: Vec<_> = sources()
        .iter()
        .flat_map(|source| {
            let lines = source.text.lines().enumerate();
            lines.flat_map(move |(number, line)| {
                let marks = MARKS.iter().filter(move |mark| line.contains(**mark));
                marks.map(move |mark| format!("{}:{}: {mark}", source.path, number + 1))
            })
        })
        .collect();
    assert!(found.is_empty(), "do it or remove it:\n{}", found.join("\n"));
}

#[test]
fn every_error_code_has_its_paragraph_for_operators() {
    let manual = read("docs/OPERATIONS.md");
    let declared: Vec<u16> = numbers_of_codes(&read("mover/src/error.rs"));
    let listed: Vec<u16> = Code::ALL.iter().map(|code| code.number()).collect();
    assert_eq!(declared, listed, "the enum Code and Code::ALL in mover/src/error.rs differ");
    let described = sections(&manual, "### E");
    for number in &declared {
        let title = format!("E{number:02} ");
        let text = described.iter().find(|(heading, _)| heading.starts_with(&title));
        let (_, text) = text.unwrap_or_else(|| {
            panic!("docs/OPERATIONS.md has no heading \"### {title}...\", which error.rs declares")
        });
        assert!(text.len() > 40, "docs/OPERATIONS.md says nothing useful about {title}");
    }
    let extra = described.len() - declared.len();
    assert_eq!(
        extra, 0,
        "docs/OPERATIONS.md describes {extra} codes that error.rs does not declare"
    );
}

#[test]
fn every_option_is_documented() {
    let source = read("sst-shim/src/options.rs");
    let (keys, aliases) =
        (first_strings(&source, "const KEYS"), first_strings(&source, "const ALIASES"));
    let manual = read("docs/OPERATIONS.md");
    for key in keys {
        let row = format!("| `{key}` |");
        assert!(
            manual.lines().any(|line| line.starts_with(&row)),
            "[sst] {key} has no row in the table of options in docs/OPERATIONS.md"
        );
    }
    for alias in aliases {
        assert!(
            manual.contains(&format!("`{alias}`")),
            "[sst] {alias}, another name of an option, is not in docs/OPERATIONS.md"
        );
    }
}

#[test]
fn the_readme_names_make_demo_and_make_test() {
    let (readme, makefile) = (read("README.md"), read("Makefile"));
    for target in ["demo", "test"] {
        assert!(
            readme.contains(&format!("make {target}")),
            "README.md does not name `make {target}`"
        );
        assert!(
            makefile.lines().any(|line| line.starts_with(&format!("{target}:"))),
            "README.md names `make {target}`, which the Makefile does not have"
        );
    }
}

#[test]
fn the_steps_of_the_commit_are_those_of_its_document() {
    let document = read("docs/DURABILITY.md");
    let section = document.split("\n## The steps\n").nth(1);
    let section = section.expect("docs/DURABILITY.md has a section \"## The steps\"");
    let documented = documented_steps(section.split("\n## ").next().unwrap_or_default());
    let last = documented.last().copied().unwrap_or(0);
    assert_eq!(
        documented,
        (1..=last).collect::<BTreeSet<_>>(),
        "docs/DURABILITY.md must number its steps 1, 2, 3, ... in a table (| 1 |), a list (1.) or headings"
    );
    let commit = products().into_iter().filter(|it| it.path.starts_with("mover/src/commit"));
    let code: String = commit.map(|it| production(&it.text).to_owned()).collect();
    let named = steps_named(&code, &["step", "steps"]);
    let in_code = &numbered_comments(&code) | &steps_named(&code, &["step"]);
    let (first, end) = (named.first().copied().unwrap_or(0), named.last().copied().unwrap_or(0));
    assert!(
        (1..end).contains(&first) && end <= last,
        "mover/src/commit* speaks of steps {first} to {end}, docs/DURABILITY.md has 1 to {last}"
    );
    for step in documented.range(first..=end) {
        assert!(
            in_code.contains(step),
            "step {step} of docs/DURABILITY.md is not marked in mover/src/commit*, as \"step \
             {step}\" or \"// {step}. ...\""
        );
    }
    for step in &in_code {
        assert!(
            documented.contains(step),
            "mover/src/commit* marks step {step}, which docs/DURABILITY.md does not have"
        );
    }
}

#[test]
fn every_dependency_has_a_reason() {
    let manifest = read("Cargo.toml");
    let missing = without_reason(&manifest);
    assert!(
        missing.is_empty(),
        "no comment above these dependencies in the root Cargo.toml says why they are there: {missing:?}"
    );
    for name in CRATES {
        let path = format!("{name}/Cargo.toml");
        let manifest = read(&path);
        for line in dependency_lines(&manifest, "dependencies]") {
            assert!(
                line.contains("workspace = true"),
                "{path}: {line:?} must come from the root Cargo.toml, where its reason is"
            );
        }
    }
}

#[test]
fn every_document_has_one_title() {
    let documents = fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    for path in documents.filter(|path| path.extension().is_some_and(|it| it == "md")) {
        let text = fs::read_to_string(&path).unwrap();
        let (titles, name) = (titles(&text), path.file_name().unwrap().display());
        assert_eq!(titles.len(), 1, "docs/{name} must have one title (# ...): {titles:?}");
        assert!(text.starts_with("# "), "docs/{name} must begin with its title");
    }
}

/// The rules themselves: each finds what it is for, and nothing in comments and texts.
#[test]
fn the_rules_find_what_they_forbid() {
    let stripped = code_of(concat!(
        "/* unsafe /* println!() */ */ // unsafe\n",
        "let a = \"unsafe \\\" unsafe\"; let b = r#\"unsafe \" unsafe\"#; let c = '\"'; // \"\n",
        "fn f<'a>(x: &'a str) -> char { '\\'' } /// unsafe\n",
        "let d = b\"unsafe\"; unsafely(is_unsafe, r\"unsafe\\\");\n",
    ));
    assert!(!has_word(&stripped, "unsafe"), "{stripped}");
    assert!(stripped.contains("fn f<'a>(x: &'a str) -> char"), "{stripped}");
    assert!(has_word(&code_of("let x = \"a\"; unsafe { f() }"), "unsafe"));
    assert!(is_named("fs::rename(a, b)", "rename") && is_named(".map(fs::rename)", "rename"));
    assert!(!is_named("#[serde(rename = \"x\")]", "rename") && !is_named("renamed(a)", "rename"));

    let rule = Rule::new("x", &["a.rs", "b/"]);
    let found = |paths: &[&str]| {
        let source = |path: &&str| Source {
            path: (*path).to_owned(),
            text: String::new(),
            code: "x".into(),
        };
        rule.violations(&paths.iter().map(source).collect::<Vec<_>>(), |code| code == "x")
    };
    assert_eq!(found(&["a.rs", "b/c.rs"]), Vec::<String>::new());
    assert!(found(&["a.rs", "b/c.rs", "d.rs"])[0].contains("d.rs"));
    assert!(found(&["a.rs"])[0].contains("b/"), "a place that does not need it any more");

    let manifest =
        "[workspace.dependencies]\n# Why.\na = \"1\"\na-b = \"1\"\nc = \"1\"\n[profile]\nd = 1\n";
    assert_eq!(without_reason(manifest), ["c"]);
    assert_eq!(
        documented_steps("| 1 | a |\n2. b\n## Step 3: c\n### 4. d\n10 files\n"),
        (1..=4).collect()
    );
    assert_eq!(numbered_comments("    // 5. This.\n// 6 that\nx // 7. no\n"), [5].into());
    let text = "Steps 4 to 6. step 9: x, steps";
    assert_eq!(steps_named(text, &["step", "steps"]), [4, 5, 6, 9].into());
    assert_eq!(steps_named(text, &["step"]), [9].into());
    assert_eq!(
        numbers_of_codes("pub enum Code {\n  /// No = 4\n  A = 1,\n  B = 99,\n}\n const C = 3,\n"),
        [1, 99]
    );
    assert_eq!(titles("# A\n```\n# no\n```\n## B\n# C\n"), ["# A", "# C"]);
    assert_eq!(production("a\n#[cfg(test)]\nmod tests {\n}\n"), "a\n");
    assert_eq!(production("#[cfg(test)]\nuse x;\na\n"), "#[cfg(test)]\nuse x;\na\n");
}

/// One file, with its text and with what of it is code.
struct Source {
    /// From the root of the workspace.
    path: String,
    text: String,
    /// Without comments and without what is in quotes.
    code: String,
}

/// Something that is allowed in a few places only.
struct Rule {
    what: &'static str,
    /// Files, and directories with a slash at the end.
    allowed: &'static [&'static str],
}

impl Rule {
    const fn new(what: &'static str, allowed: &'static [&'static str]) -> Self {
        Self { what, allowed }
    }

    fn check(&self, sources: &[Source], has: impl Fn(&str) -> bool) {
        assert!(sources.len() > 50, "only {} sources were found", sources.len());
        let violations = self.violations(sources, has);
        assert!(violations.is_empty(), "\n{}", violations.join("\n"));
    }

    fn violations(&self, sources: &[Source], has: impl Fn(&str) -> bool) -> Vec<String> {
        let Self { what, allowed } = self;
        let is_in = |path: &str, place: &str| {
            path == place || place.ends_with('/') && path.starts_with(place)
        };
        let mut violations = Vec::new();
        let mut used = BTreeSet::new();
        for source in sources.iter().filter(|source| has(&source.code)) {
            match allowed.iter().find(|place| is_in(&source.path, place)) {
                Some(place) => drop(used.insert(*place)),
                None => violations
                    .push(format!("{what} in {}; allowed only in {allowed:?}", source.path)),
            }
        }
        // A directory belongs to a file of its name, and may or may not need what that has.
        let twin = |place: &str| {
            sources.iter().any(|it| Some(it.path.as_str()) == file_of(place).as_deref())
        };
        let idle = allowed.iter().filter(|place| !used.contains(*place) && !twin(place));
        violations.extend(
            idle.map(|place| format!("{place} has no {what} any more; take it off the list")),
        );
        violations
    }
}

/// `a/b.rs` for `a/b/`.
fn file_of(directory: &str) -> Option<String> {
    directory.strip_suffix('/').map(|name| format!("{name}.rs"))
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path))
        .unwrap_or_else(|error| panic!("cannot read {path}: {error}"))
}

/// All Rust sources of the workspace but this one.
fn sources() -> Vec<Source> {
    let mut found = Vec::new();
    for name in CRATES {
        collect(&root().join(name), &mut found);
    }
    found.retain(|source| source.path != THIS);
    found
}

/// What of the sources is installed, without the tests inside.
fn products() -> Vec<Source> {
    let is_product =
        |path: &str| PRODUCTS.iter().any(|it| path.starts_with(it)) && !path.ends_with("/tests.rs");
    let mut found = sources();
    found.retain(|source| is_product(&source.path));
    for source in &mut found {
        source.code = code_of(production(&source.text));
    }
    found
}

fn collect(dir: &Path, found: &mut Vec<Source>) {
    let mut entries: Vec<_> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            if path.file_name().is_some_and(|name| name != "target") {
                collect(&path, found);
            }
        } else if path.extension().is_some_and(|it| it == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let path = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
            let code = code_of(&text);
            found.push(Source { path, text, code });
        }
    }
}

/// Everything before the module of tests.
fn production(text: &str) -> &str {
    let end = text
        .find("#[cfg(test)]\nmod tests")
        .or_else(|| text.find("#[cfg(test)]\npub(crate) mod tests"));
    &text[..end.unwrap_or(text.len())]
}

/// Blanks comments, and what is in quotes.
fn code_of(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let is_name = code.chars().next_back().is_some_and(is_name_char);
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if c == '"' {
            quoted(rest, '"')
        } else if c == '\'' {
            // A lifetime has no second quote where a character would have it.
            let end = quoted(rest, '\'');
            let is_char = rest.starts_with("'\\") || rest.chars().nth(2) == Some('\'');
            if is_char { end } else { 0 }
        } else if !is_name
            && (rest.starts_with("r\"") || rest.starts_with("r#") || rest.starts_with("br"))
        {
            raw(rest)
        } else {
            0
        };
        if skipped == 0 {
            code.push(c);
            rest = &rest[c.len_utf8()..];
        } else {
            code.push(' ');
            rest = &rest[skipped..];
        }
    }
    code
}

fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        let rest = &text.as_bytes()[at..];
        let step = match () {
            () if rest.starts_with(b"/*") => (1, 2),
            () if rest.starts_with(b"*/") => (-1, 2),
            () => (0, 1),
        };
        depth += step.0;
        at += step.1;
        if depth == 0 {
            return at;
        }
    }
    text.len()
}

/// Length of a literal between quotes, both included.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Length of a raw text such as `r#"..."#`; 0 if it is none.
fn raw(text: &str) -> usize {
    let start = text.find('r').unwrap_or(0) + 1;
    let hashes = text[start..].bytes().take_while(|byte| *byte == b'#').count();
    let open = start + hashes;
    if !text[open..].starts_with('"') {
        return 0;
    }
    let close = format!("\"{}", "#".repeat(hashes));
    text[open + 1..].find(&close).map_or(text.len(), |end| open + 1 + end + close.len())
}

/// What is before and after each place where `word` stands alone.
fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
    code.match_indices(word).map(|(at, _)| (&code[..at], &code[at + word.len()..])).filter(
        |(before, after)| {
            !before.chars().next_back().is_some_and(is_name_char)
                && !after.chars().next().is_some_and(is_name_char)
        },
    )
}

fn has_word(code: &str, word: &str) -> bool {
    words(code, word).next().is_some()
}

/// Whether a function of this name is called, imported or passed on; not an attribute's key.
fn is_named(code: &str, function: &str) -> bool {
    words(code, function).any(|(_, after)| !after.trim_start().starts_with('='))
}

const fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// Numbers that `enum Code` gives its variants.
fn numbers_of_codes(text: &str) -> Vec<u16> {
    let start = text.find("pub enum Code {").expect("mover/src/error.rs has the enum Code");
    let body = text[start..].split("\n}").next().unwrap_or_default();
    let lines = body.lines().map(str::trim).filter(|line| !line.starts_with("//"));
    lines.filter_map(|line| line.strip_suffix(',')?.split_once(" = ")?.1.parse().ok()).collect()
}

/// Headings that begin so, without their `#`, each with the text below it.
fn sections<'a>(text: &'a str, heading: &str) -> Vec<(&'a str, String)> {
    let mut found: Vec<(&str, String)> = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        if line.starts_with('#') {
            inside = line.starts_with(heading);
            if inside {
                found.push((line.trim_start_matches(['#', ' ']), String::new()));
            }
        } else if let Some((_, text)) = found.last_mut().filter(|_| inside) {
            text.push_str(line);
        }
    }
    found
}

/// The first text of each tuple in a constant array.
fn first_strings<'a>(source: &'a str, constant: &str) -> Vec<&'a str> {
    let start = source.find(constant).unwrap_or_else(|| panic!("options.rs has no {constant}"));
    let body = &source[start..];
    let body = &body[..body.find("];").unwrap_or(body.len())];
    let tuples = body.match_indices("(\"").map(|(at, open)| &body[at + open.len()..]);
    let names = tuples.filter_map(|rest| rest.split_once("\", ").map(|(name, _)| name));
    let names: Vec<_> = names.filter(|name| !name.contains('"')).collect();
    let length = body.split("; ").nth(1).and_then(|rest| rest.split(']').next()?.parse().ok());
    assert_eq!(Some(names.len()), length, "{constant} of options.rs is not understood: {names:?}");
    names
}

/// Numbers of table rows, list items and headings.
fn documented_steps(text: &str) -> BTreeSet<u32> {
    let number = |line: &str| -> Option<u32> {
        if let Some(cell) = line.strip_prefix('|') {
            return cell.split('|').next()?.trim().trim_matches('*').parse().ok();
        }
        let heading = line.trim_start_matches('#');
        let is_heading = heading.len() < line.len();
        let text = heading.trim_start().trim_start_matches("**").trim_start_matches("Step ");
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let follows = &text[digits..];
        (is_heading || follows.starts_with(". ")).then(|| text[..digits].parse().ok())?
    };
    text.lines().filter_map(number).collect()
}

/// Numbers of comments such as `// 5. Directories`.
fn numbered_comments(code: &str) -> BTreeSet<u32> {
    let comments = code.lines().filter_map(|line| line.trim_start().strip_prefix("// "));
    comments.filter_map(|text| text.split_once(". ")?.0.parse().ok()).collect()
}

/// Numbers behind these words: in `step 5`, and all of those in `steps 5 to 7`, `steps 5 and 6`.
fn steps_named(code: &str, forms: &[&str]) -> BTreeSet<u32> {
    let lower = code.to_lowercase();
    let words: Vec<&str> = lower.split_whitespace().collect();
    let number = |word: Option<&&str>| -> Option<u32> {
        word?.trim_matches(|c: char| !c.is_ascii_digit()).parse().ok()
    };
    let mut steps = BTreeSet::new();
    for (at, word) in words.iter().enumerate() {
        let Some(from) = number(words.get(at + 1)).filter(|_| forms.contains(word)) else {
            continue;
        };
        let last = if *word == "steps" { number(words.get(at + 3)) } else { None };
        steps.extend(from..=last.unwrap_or(from));
    }
    steps
}

fn dependency_lines<'a>(manifest: &'a str, table: &'a str) -> impl Iterator<Item = &'a str> {
    let mut inside = false;
    manifest.lines().filter(move |line| {
        if line.starts_with('[') {
            inside = line.ends_with(table);
            return false;
        }
        inside && !line.is_empty() && !line.starts_with('#')
    })
}

/// Dependencies of the workspace with no comment above. One comment may do for several that
/// follow each other: those of one family (`serde`, `serde_json`), or those of the tests.
fn without_reason(manifest: &str) -> Vec<&str> {
    let table = manifest
        .split("[workspace.dependencies]")
        .nth(1)
        .expect("the root Cargo.toml has dependencies");
    let (mut comment, mut family) = (None, None);
    let mut missing = Vec::new();
    for line in table.lines().take_while(|line| !line.starts_with('[')) {
        if let Some(text) = line.strip_prefix('#') {
            (comment, family) = (Some(text.trim()), None);
            continue;
        }
        let Some((name, _)) = line.split_once(" = ") else {
            (comment, family) = (None, None);
            continue;
        };
        let first = name.split(['-', '_']).next();
        let is_covered = family.is_none() || family == first;
        match comment {
            Some(text) if is_covered && !text.is_empty() || text.starts_with("Tests:") => {
                family = first
            }
            Some(_) | None => missing.push(name),
        }
    }
    missing
}

/// Headings of the first level, outside of blocks of code.
fn titles(text: &str) -> Vec<&str> {
    let mut in_block = false;
    let mut titles = Vec::new();
    for line in text.lines() {
        in_block ^= line.starts_with("```");
        if !in_block && line.starts_with("# ") {
            titles.push(line);
        }
    }
    titles
}
