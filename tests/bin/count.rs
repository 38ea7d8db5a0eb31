//! Prints figures of casty's source: `cargo run -p casty-tests --bin casty-count [-- FOLDER]`.
//!
//! FOLDER is a checkout of casty; without it, the one that the program was built from. So the same
//! program counts any commit.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::ExitCode,
};

use casty_tests::source::{
    File, Tree,
    circles::circles,
    prose::{Prose, WIDTH, is_too_wide},
    uses,
};

/// How many of the longest functions, and of the largest structs, are printed.
const LONGEST: usize = 8;

/// Functions longer than this are counted.
const LONG: usize = 100;

fn main() -> ExitCode {
    let root = std::env::args_os().nth(1).map(PathBuf::from);
    let root = root.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join(".."));
    match Tree::read(&root.join("casty/src")) {
        Ok(tree) => {
            sizes(&tree);
            circles_of_files(&tree);
            doubles(&tree);
            structs(&tree);
            prose(&tree);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{}: {error}", root.display());
            ExitCode::FAILURE
        }
    }
}

fn sizes(tree: &Tree) {
    let mut files: Vec<_> = tree
        .files
        .iter()
        .map(|file| (file.lines().count(), &*file.name))
        .collect();
    files.sort_unstable();
    let lines: usize = files.iter().map(|(lines, _)| lines).sum();
    let median = files.get(files.len() / 2).map_or(0, |(lines, _)| *lines);
    println!("## Files and functions, without tests\n");
    println!("files {}, lines {lines}, median file {median}", files.len());
    let largest: Vec<_> = files.iter().rev().take(LONGEST).collect();
    println!("largest files:");
    for (lines, name) in largest {
        println!("  {lines} {name}");
    }
    let mut functions: Vec<_> = tree
        .files
        .iter()
        .flat_map(|file| {
            let functions = file.functions().into_iter();
            functions.map(|function| (function.lines, function.name, &*file.name))
        })
        .collect();
    functions.sort_unstable_by(|one, other| other.cmp(one));
    let long = functions.iter().filter(|(lines, ..)| *lines > LONG).count();
    println!(
        "functions {}, longer than {LONG} lines: {long}",
        functions.len()
    );
    println!("longest functions:");
    for (lines, name, file) in functions.iter().take(LONGEST) {
        println!("  {lines} {name} in {file}");
    }
}

fn circles_of_files(tree: &Tree) {
    println!("\n## Circles of files within a layer\n");
    for layer in tree.layers() {
        let graph = uses::within(tree, layer);
        let found = circles(&graph);
        let sizes: Vec<_> = found
            .iter()
            .map(|circle| circle.len().to_string())
            .collect();
        let sizes = if sizes.is_empty() {
            "none".to_owned()
        } else {
            sizes.join(" and ")
        };
        println!("{layer}: {sizes} of {} files", graph.len());
        for circle in found {
            let names: Vec<_> = circle.into_iter().collect();
            println!("  {}", names.join(", "));
        }
    }
}

fn doubles(tree: &Tree) {
    println!("\n## Type names that a layer defines more than once\n");
    let mut within = 0;
    for layer in tree.layers() {
        for (name, files) in tree.doubles(layer) {
            within += 1;
            println!("  {name}: {}", files.join(", "));
        }
    }
    let mut across: BTreeMap<String, usize> = BTreeMap::new();
    for name in tree.files.iter().flat_map(File::types) {
        *across.entry(name).or_default() += 1;
    }
    let across = across.values().filter(|count| **count > 1).count();
    println!("{within} within a layer, {across} within the crate");
}

fn structs(tree: &Tree) {
    let mut structs: Vec<_> = tree
        .files
        .iter()
        .flat_map(|file| {
            let structs = file.structs().into_iter();
            structs.map(|of| (of.fields, of.locks, of.name, &*file.name))
        })
        .collect();
    structs.sort_unstable_by(|one, other| other.cmp(one));
    let locks: usize = structs.iter().map(|(_, locks, ..)| locks).sum();
    println!("\n## The largest structs\n");
    for (fields, locks, name, file) in structs.iter().take(LONGEST) {
        println!("  {name}: {fields} fields, {locks} locks, in {file}");
    }
    println!("fields with a lock in all structs: {locks}");
}

fn prose(tree: &Tree) {
    let mut prose = Prose::default();
    let mut wide = 0;
    for file in &tree.files {
        prose.add(file);
        wide += file.lines().filter(|(_, line)| is_too_wide(line)).count();
    }
    println!("\n## Comments\n");
    println!("comments {}, words {}", prose.comments, prose.words);
    println!(
        "of 1,000 words: {:.1} are who, whoever, whose or whom, {:.1} are nobody",
        prose.of_thousand(prose.who),
        prose.of_thousand(prose.nobody)
    );
    println!(
        "comments that begin with who, whoever or whose: {}, with what: {}, with it, they, that or the same: {}",
        prose.begin_with_who, prose.begin_with_what, prose.begin_with_it
    );
    println!("lines of comment wider than {WIDTH}: {wide}");
}
