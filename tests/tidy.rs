//! The direction of dependencies, read from the source: see ARCHITECTURE.md.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Each module, and those it may use besides the base.
const MAY_USE: &[(&str, &[&str])] = &[
    ("protocol", &[]),
    ("message", &[]),
    ("transport", &["message"]),
    ("actor", &["message", "protocol"]),
    ("cluster", &["message", "protocol", "transport", "actor"]),
];

/// What stands above them all, and may be used by none of them.
const TOP: &[&str] = &["system", "admin"];

/// What everybody may use.
const BASE: &[&str] = &["id", "config", "error", "event", "infra", "tie"];

fn sources(under: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(under).expect("a source folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

/// The first path segments after `crate::` in a file, those in `use crate::{...}` included.
fn used(source: &str) -> BTreeSet<String> {
    let mut used = BTreeSet::new();
    for (at, _) in source.match_indices("crate::") {
        // `pub(crate)` and `extern crate` do not match; `$crate` and `::casty` are not used here.
        let rest = &source[at + "crate::".len()..];
        let segments: Vec<&str> = match rest.strip_prefix('{') {
            None => vec![rest],
            Some(group) => top_level(group),
        };
        for segment in segments {
            let name: String = segment
                .trim()
                .chars()
                .take_while(|c| c.is_alphanumeric() || *c == '_')
                .collect();
            // Types are re-exports that doc links name.
            if !name.starts_with(char::is_uppercase) {
                used.insert(name);
            }
        }
    }
    used
}

/// The comma-separated parts of a group, up to its closing brace.
fn top_level(group: &str) -> Vec<&str> {
    let (mut depth, mut start, mut parts) = (0_u32, 0, Vec::new());
    for (at, character) in group.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth == 0 => {
                parts.push(&group[start..at]);
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&group[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts
}

/// A file without its tests, which may use what they like.
fn without_tests(source: &str) -> &str {
    let starts = [
        "#[cfg(test)]\nmod tests",
        "#[cfg(test)]\npub(crate) mod tests",
    ];
    let end = starts.iter().filter_map(|start| source.find(start)).min();
    &source[..end.unwrap_or(source.len())]
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../casty/src")
}

#[test]
fn dependencies_point_one_way() {
    let mut wrong = Vec::new();
    for (module, allowed) in MAY_USE {
        let mut files = Vec::new();
        sources(&root().join(module), &mut files);
        assert!(!files.is_empty(), "no module `{module}`");
        for file in files {
            let source = fs::read_to_string(&file).expect("a source file");
            for name in used(without_tests(&source)) {
                let known =
                    MAY_USE.iter().any(|(other, _)| *other == name) || TOP.contains(&name.as_str());
                let fine = name == *module || allowed.contains(&name.as_str());
                if known && !fine {
                    wrong.push(format!("{}: uses `{name}`", file.display()));
                }
                assert!(
                    known || BASE.contains(&name.as_str()) || name.is_empty(),
                    "{}: `crate::{name}` is in no layer; add it to this test",
                    file.display()
                );
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn machines_know_no_socket_task_or_clock() {
    let mut files = Vec::new();
    sources(&root().join("protocol"), &mut files);
    for file in files {
        let source = fs::read_to_string(&file).expect("a source file");
        let code = without_tests(&source);
        for banned in [
            "Instant::now",
            "SystemTime",
            "rand::",
            "tokio::spawn",
            "async fn",
            "tokio::net",
        ] {
            assert!(!code.contains(banned), "{}: `{banned}`", file.display());
        }
    }
}

/// The width of code and comments. rustfmt keeps that of code.
const WIDTH: usize = 100;

#[test]
fn comments_are_wrapped_at_one_width() {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut files = Vec::new();
    for folder in ["casty", "casty-macros", "casty-cli", "tests", "examples"] {
        sources(&workspace.join(folder), &mut files);
    }
    let mut wrong = Vec::new();
    for file in files {
        let source = fs::read_to_string(&file).expect("a source file");
        for (at, line) in source.lines().enumerate() {
            let comment = line.trim_start();
            // Tables cannot be wrapped, nor can addresses.
            let may_be_wider = comment.contains("| ") || comment.contains("://");
            let is_comment = comment.starts_with("//");
            if is_comment && !may_be_wider && line.chars().count() > WIDTH {
                wrong.push(format!("{}:{}", file.display(), at + 1));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "comments wider than {WIDTH}: {}",
        wrong.join("\n")
    );
}

#[test]
fn the_reader_of_imports_sees_groups_and_paths() {
    let source = "use crate::{actor::{a, b}, sync::lock};\nfn f() { crate::error::g() }";
    let names: Vec<String> = used(source).into_iter().collect();
    assert_eq!(names, ["actor", "error", "sync"]);
}
