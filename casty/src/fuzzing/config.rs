//! A file of configuration, and the environment.

use super::check::{is_same, is_short, sparing};
use crate::config::{Settings, file, given::Given};

/// A file. Its lines `CASTY_NAME=TEXT` are variables of the environment besides.
pub fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let lines = text.lines().filter_map(|line| line.split_once('='));
    let variables = lines.filter(|(name, _)| name.starts_with("CASTY_"));
    for variables in [Vec::new(), variables.collect()] {
        let (given, problems) = sparing(bytes.len(), || read(text, &variables));
        problems.iter().for_each(is_short);
        let mut settings = Settings::default();
        given.merge_into(&mut settings);
        if let Err(error) = settings.check() {
            is_short(&error);
            continue;
        }
        // Settings that are allowed can be written, and read again as the same.
        let (again, problems) = read(&file::written(&settings), &[]);
        assert!(problems.is_empty(), "{problems:?}");
        let mut same = Settings::default();
        again.merge_into(&mut same);
        is_same(&settings, &same);
    }
}

fn read(text: &str, variables: &[(&str, &str)]) -> (Given, Vec<String>) {
    let (mut given, mut problems) = (Given::default(), Vec::new());
    given.add_file("casty.toml", text, &mut problems);
    for (name, text) in variables {
        given.add_variable(name, text, &mut problems);
    }
    (given, problems)
}
