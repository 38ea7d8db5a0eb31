//! The corpora of the fuzz targets, and changes of them: what has to hold of all bytes from
//! outside. `casty::fuzzing` says what that is.

#![expect(clippy::unwrap_used, reason = "tests")]

mod memory;
mod types;

use std::{
    fs,
    panic::{self, AssertUnwindSafe},
    path::{Path, PathBuf},
};

use rand::{RngExt, SeedableRng, rngs::StdRng};

/// How many changes of its corpus each target sees. `CASTY_FUZZ_CHANGES` is another number.
const CHANGES: usize = 3000;

/// The longest file of a corpus, the most files of one, and the most bytes of all.
const FILE_BYTES_MAX: usize = 4096;
const FILES_MAX: usize = 40;
const BYTES_MAX: usize = 300 * 1024;

fn folder(target: &str) -> PathBuf {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
    fuzz.join(target)
}

/// The files of a corpus, by their names.
fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let files = fs::read_dir(folder(target)).unwrap();
    let paths = files.map(|file| file.unwrap().path());
    let mut files: Vec<_> = paths
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect();
    files.sort();
    files
}

/// One to three changes: bits that flip, bytes that become others, an end that is cut off, or a
/// part that comes from another input.
fn changed(input: &[u8], other: &[u8], rng: &mut StdRng) -> Vec<u8> {
    /// Bytes at which forms and lengths begin and end.
    const BYTES: &[u8] = &[
        0, 1, 0x7f, 0x80, 0x91, 0xc0, 0xc1, 0xd4, 0xd9, 0xdd, 0xdf, 0xff,
    ];
    let mut out = input.to_vec();
    for _ in 0..rng.random_range(1..4) {
        let at = rng.random_range(0..=out.len());
        match rng.random_range(0..6) {
            0 if at < out.len() => out[at] ^= 1 << rng.random_range(0..8),
            1 if at < out.len() => out[at] = rng.random(),
            2 if at < out.len() => out[at] = BYTES[rng.random_range(0..BYTES.len())],
            3 => out.truncate(at),
            4 => out.insert(at, BYTES[rng.random_range(0..BYTES.len())]),
            _ => {
                let from = rng.random_range(0..=other.len());
                let end = rng.random_range(from..=other.len());
                let until = (at + rng.random_range(0..=end - from)).min(out.len());
                out.splice(at..until, other[from..end].iter().copied());
            }
        }
    }
    out
}

/// Says with which input a property does not hold.
fn holds(target: &str, input: &[u8], from: &Path) {
    let run = AssertUnwindSafe(|| types::run(target, input));
    let holds = panic::catch_unwind(run).is_ok();
    assert!(
        holds,
        "target `{target}`, from {}: {input:02x?}",
        from.display()
    );
}

fn replay(target: &str) {
    casty::fuzzing::count_allocations(memory::allocated);
    let corpus = corpus(target);
    assert!(!corpus.is_empty(), "`{target}` has a corpus");
    for (path, input) in &corpus {
        holds(target, input, path);
    }
    let changes = std::env::var("CASTY_FUZZ_CHANGES");
    let changes = changes.map_or(CHANGES, |number| number.parse().unwrap());
    let mut rng = StdRng::seed_from_u64(17);
    for _ in 0..changes {
        let (path, input) = &corpus[rng.random_range(0..corpus.len())];
        let (_, other) = &corpus[rng.random_range(0..corpus.len())];
        holds(target, &changed(input, other, &mut rng), path);
    }
}

macro_rules! replayed {
    ($($target:ident)*) => {
        $(
            #[test]
            fn $target() {
                replay(stringify!($target));
            }
        )*

        const REPLAYED: &[&str] = &[$(stringify!($target)),*];
    };
}

replayed! {
    config envelope event frame gossip handshake identity journal_record map_command message
    replicated segment
}

#[test]
fn each_target_has_a_fuzzer_and_is_replayed() {
    let names: Vec<&str> = types::TARGETS.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, REPLAYED);
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/fuzz_targets");
    let files = fs::read_dir(fuzz).unwrap();
    let mut files: Vec<String> = files
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    let expected: Vec<String> = names.iter().map(|name| format!("{name}.rs")).collect();
    assert_eq!(files, expected);
}

#[test]
fn the_corpora_are_small() {
    let mut bytes = 0;
    for (target, _) in types::TARGETS {
        let corpus = corpus(target);
        assert!(
            corpus.len() <= FILES_MAX,
            "{target}: {} files",
            corpus.len()
        );
        for (path, input) in corpus {
            assert!(input.len() < FILE_BYTES_MAX, "{}", path.display());
            bytes += input.len();
        }
    }
    assert!(bytes <= BYTES_MAX, "{bytes} bytes");
}

/// `CASTY_WRITE_CORPUS=1` adds them.
#[test]
fn what_casty_writes_is_in_the_corpora() {
    for (target, _) in types::TARGETS {
        let folder = folder(target);
        if std::env::var_os("CASTY_WRITE_CORPUS").is_some() {
            fs::create_dir_all(&folder).unwrap();
            for (number, seed) in types::seeds_of(target).iter().enumerate() {
                fs::write(folder.join(format!("seed-{number:02}")), seed).unwrap();
            }
        }
        let corpus = corpus(target);
        for seed in types::seeds_of(target) {
            assert!(
                corpus.iter().any(|(_, input)| *input == seed),
                "`{target}` has another form: `CASTY_WRITE_CORPUS=1 cargo test -p casty-tests --test fuzzing`"
            );
        }
    }
}
