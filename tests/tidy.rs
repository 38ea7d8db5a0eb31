//! The direction of dependencies, read from the source: see ARCHITECTURE.md.

#[path = "source/tests.rs"]
mod reader;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use casty_tests::source::{
    Tree,
    circles::circles,
    files_below,
    prose::{WIDTH, is_too_wide},
    surface::{Export, exports},
    uses,
};

/// Each module, and those it may use besides the base.
const MAY_USE: &[(&str, &[&str])] = &[
    ("protocol", &[]),
    ("message", &[]),
    ("transport", &["message"]),
    ("persistence", &["message", "protocol"]),
    ("recorder", &["message"]),
    ("actor", &["message", "protocol", "persistence", "recorder"]),
    (
        "cluster",
        &[
            "message",
            "protocol",
            "transport",
            "persistence",
            "recorder",
            "actor",
        ],
    ),
];

/// What stands above them all, and may be used by none of them.
const TOP: &[&str] = &["system", "admin"];

/// Modules of the public surface that only re-export. Nothing uses them but links in documentation.
const FACADES: &[&str] = &[
    "call", "history", "listing", "member", "remind", "reply", "schedule", "shards", "spy",
];

/// What everybody may use.
const BASE: &[&str] = &["id", "config", "error", "event", "infra", "tie", "trace"];

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
        let files = files_below(&root().join(module)).expect("a source folder");
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
                    known
                        || BASE.contains(&name.as_str())
                        || FACADES.contains(&name.as_str())
                        || name.is_empty(),
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
    for file in files_below(&root().join("protocol")).expect("a source folder") {
        // A folder of tests belongs to them.
        if file.components().any(|part| part.as_os_str() == "tests") {
            continue;
        }
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

#[test]
fn comments_are_wrapped_at_one_width() {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut wrong = Vec::new();
    for folder in [
        "casty",
        "casty-macros",
        "casty-cli",
        "casty-dashboard",
        "casty-log",
        "casty-otel",
        "casty-sql",
        "tests",
        "examples",
        "benches",
    ] {
        for file in files_below(&workspace.join(folder)).expect("a source folder") {
            let source = fs::read_to_string(&file).expect("a source file");
            for (at, line) in source.lines().enumerate() {
                if is_too_wide(line) {
                    wrong.push(format!("{}:{}", file.display(), at + 1));
                }
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "comments wider than {WIDTH}: {}",
        wrong.join("\n")
    );
}

fn tree() -> Tree {
    Tree::read(&root()).expect("casty's source")
}

/// Type names that a layer defines twice, until they are renamed. This list only gets shorter.
const DOUBLES: &[(&str, &str)] = &[];

#[test]
fn a_layer_defines_a_type_name_once() {
    let tree = tree();
    let mut found = Vec::new();
    for layer in tree.layers() {
        for (name, files) in tree.doubles(layer) {
            found.push((layer, name, files.join(" and ")));
        }
    }
    let known = |layer: &str, name: &str| DOUBLES.contains(&(layer, name));
    let mut wrong = Vec::new();
    for (layer, name, files) in &found {
        if !known(layer, name) {
            wrong.push(format!("{layer}: `{name}` is defined twice, in {files}"));
        }
    }
    for (layer, name) in DOUBLES {
        if !found.iter().any(|(l, n, _)| l == layer && n == name) {
            wrong.push(format!(
                "{layer}: `{name}` is no double any more; remove it from the list"
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Files that may use each other in a circle, by the beginnings of their names, and why.
const ONE_THING: &[(&[&str], &str)] = &[
    (
        &[
            "actor/contract.rs",
            "actor/context/mod.rs",
            "actor/cell/mod.rs",
            "actor/cell/admission.rs",
            "actor/cell/run.rs",
            "actor/cell/turn.rs",
            "actor/cell/recorded.rs",
            "actor/cell/stored.rs",
            "actor/context/written.rs",
        ],
        "the contract of an actor: `Actor` names `Context`, which names `Cell`, which names `Actor`",
    ),
    (
        &["actor/cell/life.rs", "actor/cell/permission.rs"],
        "one activation, whatever its type: its end waits, and what it waits for may end it",
    ),
    (
        &["cluster/region/"],
        "one region, whose methods stand in several files",
    ),
    (
        &["system/mod.rs", "system/builder.rs"],
        "`ActorSystem::builder` makes the builder, which makes the system",
    ),
    (
        &[
            "testkit/sim/mod.rs",
            "testkit/sim/faults.rs",
            "testkit/sim/node.rs",
        ],
        "one simulation, whose methods stand in several files",
    ),
    (
        &["testkit/sim/network/"],
        "one simulated network, whose methods stand in several files",
    ),
    (
        &["protocol/map.rs", "protocol/map/"],
        "one map, whose commands stand in several files",
    ),
    (
        &["protocol/membership/"],
        "one machine, whose stages are a file each",
    ),
];

#[test]
fn files_use_each_other_in_no_circle() {
    let tree = tree();
    let mut wrong = Vec::new();
    for layer in tree.layers() {
        let mut found = circles(&uses::within(&tree, layer));
        found.retain(|circle| !is_one_thing(circle));
        for circle in found {
            wrong.push(format!("{layer}: {circle:?}"));
        }
    }
    assert!(
        wrong.is_empty(),
        "`cargo run -p casty-tests --bin casty-count` lists the circles\n{}",
        wrong.join("\n")
    );
}

fn is_one_thing(circle: &BTreeSet<&str>) -> bool {
    ONE_THING.iter().any(|(beginnings, _)| {
        let is_of_it = |file: &&str| beginnings.iter().any(|start| file.starts_with(start));
        circle.iter().all(is_of_it)
    })
}

/// The lines of the longest function.
const FUNCTION_MAX: usize = 100;

/// The lines of the largest file, without its tests.
const FILE_MAX: usize = 800;

#[test]
fn functions_and_files_are_short() {
    let mut wrong = Vec::new();
    for file in &tree().files {
        let lines = file.lines().count();
        if lines > FILE_MAX {
            wrong.push(format!("{}: {lines} lines", file.name));
        }
        for function in file.functions() {
            if function.lines > FUNCTION_MAX {
                let (name, lines) = (function.name, function.lines);
                wrong.push(format!("{}: `{name}` has {lines} lines", file.name));
            }
        }
    }
    assert!(wrong.is_empty(), "too long:\n{}", wrong.join("\n"));
}

/// The arguments of a macro's call, which begin the source.
fn arguments(source: &str) -> &str {
    let (mut depth, mut in_text, mut escaped) = (1, false, false);
    let end = source.find(|next: char| {
        match next {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => in_text = !in_text,
            '(' if !in_text => depth += 1,
            ')' if !in_text => depth -= 1,
            _ => {}
        }
        depth == 0
    });
    &source[..end.unwrap_or(source.len())]
}

/// The texts of the log, without what only developers of casty read.
fn lines_of_the_log(source: &str) -> Vec<String> {
    let levels = ["info", "warn", "error"].map(|level| format!("tracing::{level}!("));
    let calls = levels.iter().flat_map(|level| source.split(level).skip(1));
    let text = |call| {
        // The last literal.
        let text = arguments(call).rsplit('"').nth(1).unwrap_or_default();
        let text = text.replace("\\\n", "").replace('`', "");
        let words: Vec<_> = text.split_whitespace().collect();
        words.join(" ")
    };
    calls.map(text).collect()
}

#[test]
fn the_guide_has_each_line_of_the_log() {
    let guide = root().join("../../docs/logs.md");
    let guide = fs::read_to_string(guide).unwrap();
    let mut missing = Vec::new();
    let mut found = 0;
    for crate_root in [
        "casty",
        "casty-dashboard",
        "casty-log",
        "casty-otel",
        "casty-sql",
    ] {
        let mut folders = vec![root().join("../..").join(crate_root).join("src")];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let source = fs::read_to_string(&path).unwrap();
                for text in lines_of_the_log(without_tests(&source)) {
                    found += 1;
                    if !guide.contains(&format!("| `{text}` |")) {
                        missing.push(format!("{}: {text}", path.display()));
                    }
                }
            }
        }
    }
    assert!(found > 100, "only {found} lines were found");
    assert!(
        missing.is_empty(),
        "docs/logs.md lacks:\n{}",
        missing.join("\n")
    );
}

/// The names at the root of the crate, modules not counted: what the files of an application
/// import. The number may only grow for a name that most applications need.
const ROOT_NAMES_MAX: usize = 25;

#[test]
fn the_root_exports_what_an_application_imports() {
    let exports = exports(&tree());
    let root = exports.iter().filter(|export| export.module.is_empty());
    let names: Vec<&str> = root.map(|export| &*export.name).collect();
    assert!(
        names.len() <= ROOT_NAMES_MAX && !names.is_empty(),
        "the root exports {} names, not at most {ROOT_NAMES_MAX}; give the others a module that \
         says what they are: {names:?}",
        names.len()
    );
}

#[test]
fn a_public_name_has_one_path() {
    let mut paths: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut globs = Vec::new();
    for export in exports(&tree()) {
        let Export {
            module,
            name,
            definition,
        } = &export;
        // The prelude repeats what nearly every file imports.
        if module == "prelude" {
            continue;
        }
        if name == "*" {
            globs.push(export.path());
        }
        // Neither two names for one thing, nor one name for two.
        for key in [definition, name] {
            paths.entry(key.clone()).or_default().insert(export.path());
        }
    }
    assert!(globs.is_empty(), "re-export by name, not by {globs:?}");
    paths.retain(|_, paths| paths.len() > 1);
    assert!(paths.is_empty(), "public by two paths: {paths:#?}");
}

#[test]
fn the_reader_of_imports_sees_groups_and_paths() {
    let source = "use crate::{actor::{a, b}, sync::lock};\nfn f() { crate::error::g() }";
    let names: Vec<String> = used(source).into_iter().collect();
    assert_eq!(names, ["actor", "error", "sync"]);
}
