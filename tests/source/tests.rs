//! The reader of sources, with sources made up.

use std::collections::BTreeSet;

use casty_tests::source::{
    Function, Tree,
    circles::{Graph, circles},
    surface::exports,
    uses,
};

fn tree(sources: &[(&str, &str)]) -> Tree {
    let owned = |(name, text): &(&str, &str)| ((*name).to_owned(), (*text).to_owned());
    let tree = Tree::parse(sources.iter().map(owned).collect());
    tree.unwrap_or_else(|(name, error)| panic!("{name}: {error}"))
}

#[test]
fn tests_do_not_count() {
    let tree = tree(&[
        (
            "lib.rs",
            "fn a() {\n}\n#[cfg(test)]\nmod tests {\nfn b() {}\n}\n",
        ),
        ("map.rs", "#[cfg(test)]\nmod tests;\nstruct Map;"),
        ("map/tests.rs", "struct Map;"),
    ]);
    let names: Vec<_> = tree.files.iter().map(|file| &*file.name).collect();
    assert_eq!(names, ["lib.rs", "map.rs"]);
    assert_eq!(tree.files[0].lines().count(), 2);
    let function = |name: &str, lines| Function {
        name: name.to_owned(),
        lines,
    };
    assert_eq!(tree.files[0].functions(), [function("a", 2)]);
}

#[test]
fn a_double_is_a_name_that_a_layer_defines_twice() {
    let tree = tree(&[
        ("actor/a.rs", "struct Place; mod inner { enum Slot {} }"),
        ("actor/b.rs", "trait Place {} trait Slot {} struct Own;"),
        ("cluster/c.rs", "struct Own;"),
    ]);
    let doubles = tree.doubles("actor");
    let names: Vec<_> = doubles.keys().map(String::as_str).collect();
    assert_eq!(names, ["Place", "Slot"]);
    assert_eq!(doubles["Place"], ["actor/a.rs", "actor/b.rs"]);
    assert!(tree.doubles("cluster").is_empty());
}

#[test]
fn locks_are_counted_wherever_they_stand_in_a_type() {
    let tree = tree(&[(
        "lib.rs",
        "struct Node { a: Mutex<u8>, b: Vec<std::sync::RwLock<u8>>, c: MutexGuard<'a, u8> }",
    )]);
    let structs = tree.files[0].structs();
    assert_eq!((structs[0].fields, structs[0].locks), (3, 2));
}

#[test]
fn circles_are_found_whole_and_apart() {
    let edges = [
        ("a", "b"),
        ("b", "c"),
        ("c", "a"),
        ("c", "d"),
        ("d", "e"),
        ("e", "d"),
        ("f", "a"),
        ("f", "f"),
    ];
    let mut graph = Graph::new();
    for (from, to) in edges {
        graph.entry(from).or_default().insert(to);
    }
    let expected: [BTreeSet<&str>; 2] = [["a", "b", "c"].into(), ["d", "e"].into()];
    assert_eq!(circles(&graph), expected);
}

/// The uses among the files of the layer `room`.
fn used(sources: &[(&str, &str)]) -> Vec<(String, Vec<String>)> {
    let tree = tree(sources);
    let graph = uses::within(&tree, "room");
    let owned = |used: &BTreeSet<&str>| used.iter().map(|name| (*name).to_owned()).collect();
    graph
        .iter()
        .filter(|(_, used)| !used.is_empty())
        .map(|(file, used)| ((*file).to_owned(), owned(used)))
        .collect()
}

fn edge(from: &str, to: &str) -> Vec<(String, Vec<String>)> {
    vec![(from.to_owned(), vec![to.to_owned()])]
}

#[test]
fn a_re_export_is_followed_to_the_file_that_defines() {
    let lib = ("lib.rs", "mod room;");
    let room = (
        "room/mod.rs",
        "mod a; mod b; pub use a::Thing; pub use self::b::*;",
    );
    let thing = ("room/a.rs", "pub struct Thing;");
    let imports = "use crate::room::Thing;";
    assert_eq!(
        used(&[lib, room, thing, ("room/b.rs", imports)]),
        edge("room/b.rs", "room/a.rs")
    );
    let by_path = "fn f() { spawn!(crate::room::Thing::new()); }";
    assert_eq!(
        used(&[lib, room, thing, ("room/b.rs", by_path)]),
        edge("room/b.rs", "room/a.rs")
    );
    let by_module = "use super::a; fn f(_: a::Thing) {}";
    assert_eq!(
        used(&[lib, room, thing, ("room/b.rs", by_module)]),
        edge("room/b.rs", "room/a.rs")
    );
    let from_glob = [
        lib,
        room,
        ("room/a.rs", "use crate::room::Other;"),
        ("room/b.rs", "struct Other;"),
    ];
    assert_eq!(used(&from_glob), edge("room/a.rs", "room/b.rs"));
    let only_tests = "#[cfg(test)] mod tests { use crate::room::Thing; }";
    assert_eq!(used(&[lib, room, thing, ("room/b.rs", only_tests)]), []);
}

#[test]
fn a_call_is_followed_to_the_file_of_the_method() {
    let lib = ("lib.rs", "mod room;");
    let room = (
        "room/mod.rs",
        "mod a; mod b; struct Thing { inner: Arc<Other>, count: u8 }",
    );
    let method = (
        "room/a.rs",
        "use crate::room::Thing; impl Thing { fn settle(&self) {} fn get(&self) {} }",
    );
    let expected = [
        edge("room/a.rs", "room/mod.rs"),
        edge("room/b.rs", "room/a.rs"),
    ]
    .concat();
    let calls = ("room/b.rs", "fn f(x: &X) { x.settle() }");
    assert_eq!(used(&[lib, room, method, calls]), expected);
    let of_std = ("room/b.rs", "fn f(x: &X) { x.get(); x.settle }");
    assert_eq!(used(&[lib, room, method, of_std]), expected[..1]);
    let of_self = ("room/b.rs", "impl Thing { fn f(&self) { self.get() } }");
    assert_eq!(used(&[lib, room, method, of_self]), expected);
    let other = ("room/a.rs", "struct Other; impl Other { fn get(&self) {} }");
    let of_field = (
        "room/b.rs",
        "impl Thing { fn f(&self) { self.inner.get(); self.count.get() } }",
    );
    assert_eq!(
        used(&[lib, room, other, of_field]),
        edge("room/b.rs", "room/a.rs")
    );
}

#[test]
fn an_export_is_followed_to_its_definition() {
    let tree = tree(&[
        (
            "lib.rs",
            "pub mod error; mod infra; pub use error::send::AskError as Ask; pub use other::Outside;
             pub(crate) use error::JoinError; #[doc(hidden)] pub mod private { pub struct Hidden; }
             pub mod facade { pub use crate::{error::JoinError, infra::*}; pub fn own() {} }",
        ),
        (
            "error/mod.rs",
            "pub(crate) mod send; pub(crate) use self::send::AskError; pub struct JoinError;",
        ),
        ("error/send.rs", "pub enum AskError {}"),
        ("infra.rs", "pub struct Unreachable;"),
    ]);
    let exports = exports(&tree);
    let found: Vec<_> = exports
        .iter()
        .map(|export| (export.path(), &*export.definition))
        .collect();
    let expected = [
        ("Ask", "error/send.rs::AskError"),
        ("Outside", "other::Outside"),
        ("error::JoinError", "error/mod.rs::JoinError"),
        ("facade::*", "crate::infra"),
        ("facade::JoinError", "error/mod.rs::JoinError"),
        ("facade::own", "lib.rs::own"),
    ];
    assert_eq!(
        found,
        expected.map(|(path, definition)| (path.to_owned(), definition))
    );
}
