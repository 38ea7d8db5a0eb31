//! A configuration that is read: from a file, and from the environment.

use std::{
    fmt::{self, Write as _},
    ops::Range,
    path::{Path, PathBuf},
};

use toml::de::{DeTable, DeValue};

use super::{
    Settings,
    entity::{EntitySection, EntitySettings},
    given::Given,
    keys::{ENTITY_KEYS, Form, KEYS, Key, Value},
};
use crate::infra::printable::Printable;

/// The sections about entity types begin with this: `[entity.Cart]`, `[entity."shop/*"]`.
const ENTITY: &str = "entity";

/// The variables of the environment begin with this.
const PREFIX: &str = "CASTY_";

/// A configuration cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// What is wrong, each with its place: all of it.
    pub problems: Vec<String>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problems.join("; "))
    }
}

impl std::error::Error for ConfigError {}

/// Where a builder gets what the program does not set.
#[derive(Debug)]
pub(crate) enum ConfigSource {
    Environment,
    /// Below the environment.
    File(PathBuf),
}

impl Given {
    /// What a file says, if there is one, and over it the variables of the environment.
    ///
    /// # Errors
    /// The file cannot be read, or something in it, or in a variable, does not fit.
    pub(crate) fn read(
        file: Option<&Path>,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let (mut given, mut problems) = (Self::default(), Vec::new());
        if let Some(path) = file {
            let place = path.display().to_string();
            match std::fs::read_to_string(path) {
                Ok(text) => given.add_file(&place, &text, &mut problems),
                Err(error) => problems.push(format!("{place}: {error}")),
            }
        }
        for (name, text) in variables {
            given.add_variable(&name, &text, &mut problems);
        }
        if problems.is_empty() {
            return Ok(given);
        }
        Err(ConfigError { problems })
    }

    pub(crate) fn add_file(&mut self, place: &str, text: &str, problems: &mut Vec<String>) {
        let line =
            |span: Range<usize>| 1 + text[..span.start.min(text.len())].matches('\n').count();
        let table = match DeTable::parse(text) {
            Ok(table) => table,
            Err(error) => {
                let at = error.span().map_or(1, line);
                problems.push(format!("{place}:{at}: {}", error.message()));
                return;
            }
        };
        for (key, value) in table.get_ref() {
            let (name, at) = (key.get_ref().as_ref(), line(key.span()));
            let DeValue::Table(section) = value.get_ref() else {
                let put = self.put_from_file("", name, value.get_ref());
                problems.extend(put.err().map(|problem| format!("{place}:{at}: {problem}")));
                continue;
            };
            if name == ENTITY {
                for (names, section) in section {
                    let place = format!("{place}:{}", line(names.span()));
                    let names = names.get_ref().to_string();
                    let found = entity_section(names, place, section.get_ref());
                    match found {
                        Ok(section) => self.entities.add(section),
                        Err(found) => problems.extend(found),
                    }
                }
                continue;
            }
            if !KEYS.iter().any(|key| key.section == name) {
                let sections = KEYS.iter().map(|key| key.section);
                let sections = sections.chain([ENTITY]).collect();
                let near = nearest(name, sections);
                let name = Printable(name);
                problems.push(format!("{place}:{at}: there is no section `{name}`{near}"));
                continue;
            }
            for (key, value) in section {
                let at = line(key.span());
                let put = self.put_from_file(name, key.get_ref().as_ref(), value.get_ref());
                problems.extend(put.err().map(|problem| format!("{place}:{at}: {problem}")));
            }
        }
    }

    fn put_from_file(
        &mut self,
        section: &str,
        name: &str,
        value: &DeValue<'_>,
    ) -> Result<(), String> {
        let found = KEYS
            .iter()
            .find(|key| key.section == section && key.name == name);
        let Some(key) = found else {
            if let Some(elsewhere) = KEYS.iter().find(|key| key.name == name) {
                return Err(match elsewhere.section {
                    "" => format!("`{name}` stands before all sections"),
                    section => format!("`{name}` stands in the section `[{section}]`"),
                });
            }
            let names = KEYS.iter().filter(|key| key.section == section);
            let near = nearest(name, names.map(|key| key.name).collect());
            return Err(format!("there is no key `{}`{near}", Printable(name)));
        };
        self.put(key, of_file(key.form, value))
    }

    pub(crate) fn add_variable(&mut self, name: &str, text: &str, problems: &mut Vec<String>) {
        let Some(rest) = name.strip_prefix(PREFIX) else {
            return;
        };
        let Some(key) = KEYS.iter().find(|key| key.variable() == name) else {
            // Others have such variables, too. One that is nearly a key is a mistake.
            let variables = KEYS.iter().map(Key::variable);
            let is_near = |it: &String| rest.len() > 4 && distance(it, name, 2).is_some();
            if let Some(near) = variables.into_iter().find(is_near) {
                problems.push(format!(
                    "the variable {name}: there is none; did you mean {near}?"
                ));
            }
            return;
        };
        if let Err(problem) = self.put(key, of_text(key.form, text)) {
            problems.push(format!("the variable {name}: {problem}"));
        }
    }

    fn put(&mut self, key: &Key, value: Option<Value>) -> Result<(), String> {
        let put = value.and_then(|value| (key.put)(self, value));
        put.ok_or_else(|| format!("`{}` has to be {}", key.name, key.form.example()))
    }
}

/// What a section says of the entity types of these names.
fn entity_section(
    names: String,
    place: String,
    section: &DeValue<'_>,
) -> Result<EntitySection, Vec<String>> {
    let DeValue::Table(section) = section else {
        let what = "it is no section: write `[entity.NAME]`, and keys below it";
        return Err(vec![format!("{place}: `{names}`: {what}")]);
    };
    let (mut settings, mut problems) = (EntitySettings::default(), Vec::new());
    for (key, value) in section {
        let name = key.get_ref().as_ref();
        let Some(key) = ENTITY_KEYS.iter().find(|key| key.name == name) else {
            let near = nearest(name, ENTITY_KEYS.iter().map(|key| key.name).collect());
            problems.push(format!(
                "{place}: `{names}`: there is no key `{name}`{near}"
            ));
            continue;
        };
        let value = of_file(key.form, value.get_ref());
        let put = value.and_then(|value| (key.put)(&mut settings, value));
        if put.is_none() {
            let (name, example) = (key.name, key.form.example());
            problems.push(format!(
                "{place}: `{names}`: `{name}` has to be {example}. {}",
                key.what
            ));
        }
    }
    if problems.is_empty() {
        return Ok(EntitySection {
            names,
            place,
            settings,
        });
    }
    Err(problems)
}

/// What was probably meant, for the end of a message.
pub(crate) fn nearest(name: &str, known: Vec<&str>) -> String {
    let known = known.into_iter().filter(|it| !it.is_empty());
    let near = known.filter_map(|it| Some((distance(it, name, 2.max(it.len() / 3))?, it)));
    let near = near.min();
    near.map_or_else(String::new, |(_, it)| format!("; did you mean `{it}`?"))
}

/// How many characters are different, if no more than `most` are. What is much longer or shorter is
/// not compared: that would take memory for each pair of characters.
fn distance(known: &str, name: &str, most: usize) -> Option<usize> {
    if known.chars().count().abs_diff(name.chars().count()) > most {
        return None;
    }
    let distance = strsim::osa_distance(known, name);
    (distance <= most).then_some(distance)
}

/// A value of a file. `None`: it has another form.
fn of_file(form: Form, value: &DeValue<'_>) -> Option<Value> {
    Some(match (form, value) {
        (Form::Text | Form::Path, DeValue::String(text)) => Value::Text(text.to_string()),
        (Form::Texts, DeValue::Array(array)) => {
            let texts = array.iter().map(|it| match it.get_ref() {
                DeValue::String(text) => Some(text.to_string()),
                _ => None,
            });
            Value::Texts(texts.collect::<Option<_>>()?)
        }
        (Form::Number | Form::Fraction, DeValue::Integer(number)) => {
            of_text(form, &number.to_string())?
        }
        (Form::Fraction, DeValue::Float(number)) => of_text(form, &number.to_string())?,
        (Form::Time, DeValue::String(text)) => of_text(form, text)?,
        _ => return None,
    })
}

/// A value of the environment. `None`: it has another form.
fn of_text(form: Form, text: &str) -> Option<Value> {
    Some(match form {
        Form::Text | Form::Path => Value::Text(text.to_owned()),
        Form::Texts => {
            let texts = text.split(',').map(str::trim);
            let texts = texts.filter(|text| !text.is_empty()).map(str::to_owned);
            Value::Texts(texts.collect())
        }
        Form::Number => Value::Number(text.parse().ok()?),
        Form::Fraction => Value::Fraction(text.parse().ok()?),
        Form::Time => Value::Time(humantime::parse_duration(text).ok()?),
    })
}

/// Reads a file, and the variables of the environment, as
/// [`SystemBuilder::config`](crate::SystemBuilder::config) does, and checks the settings.
///
/// # Errors
/// All that is wrong with them.
pub fn check(file: impl AsRef<Path>) -> Result<(), ConfigError> {
    let given = Given::read(Some(file.as_ref()), environment())?;
    let mut settings = Settings::default();
    given.merge_into(&mut settings);
    settings.check().map_err(|error| ConfigError {
        problems: vec![error.to_string()],
    })
}

/// The variables of the environment that are text.
pub(crate) fn environment() -> Vec<(String, String)> {
    let variables = std::env::vars_os();
    let texts = variables.filter_map(|(name, text)| {
        let (name, text) = (name.into_string(), text.into_string());
        name.ok().zip(text.ok())
    });
    texts.collect()
}

/// A file with all keys, their meanings, variables and defaults, each as a comment.
pub fn defaults() -> String {
    let settings = Settings::default();
    let mut text = String::from(
        "# What is not set by the program is taken from the environment, then from this file.\n",
    );
    let mut section = "";
    for key in KEYS {
        if key.section != section {
            section = key.section;
            let _ = writeln!(text, "\n[{section}]");
        }
        let _ = writeln!(text, "\n# {} {}", key.what, key.variable());
        let default = (key.default)(&settings);
        let _ = match default {
            Some(default) => writeln!(text, "# {} = {default}", key.name),
            None => writeln!(text, "# {} =", key.name),
        };
    }
    text.push_str(
        "\n# Of one entity type, or of several: `*` stands for any text. What the type itself says \
         comes before it.\n# [entity.\"shop/*\"]\n",
    );
    for key in ENTITY_KEYS {
        let _ = writeln!(text, "\n# {}\n# {} =", key.what, key.name);
    }
    text
}

/// A file with these settings.
#[cfg(feature = "fuzzing")]
pub(crate) fn written(settings: &Settings) -> String {
    let (mut text, mut section) = (String::new(), "");
    // Of the other keys the program has no settings.
    let keys = KEYS.iter().filter(|key| !matches!(key.section, "" | "tls"));
    for key in keys {
        if key.section != section {
            section = key.section;
            let _ = writeln!(text, "[{section}]");
        }
        if let Some(value) = (key.default)(settings) {
            let _ = writeln!(text, "{} = {value}", key.name);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str, variables: &[(&str, &str)]) -> Result<Given, ConfigError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("casty.toml");
        std::fs::write(&path, text).unwrap();
        let variables = variables.iter();
        let variables = variables.map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
        Given::read(Some(&path), variables)
    }

    fn problems(text: &str, variables: &[(&str, &str)]) -> Vec<String> {
        let problems = of(text, variables).unwrap_err().problems;
        let after = |problem: String| {
            problem
                .split_once("casty.toml:")
                .map(|(_, it)| it.to_owned())
        };
        problems
            .into_iter()
            .map(|problem| after(problem.clone()).unwrap_or(problem))
            .collect()
    }

    #[test]
    fn the_program_comes_before_the_environment_and_that_before_the_file() {
        let given = of(
            "listen = \"0.0.0.0:1\"\nseeds = [\"a:1\", \"b:2\"]\n\
             [settings]\nlease = \"2s\"\nask_timeout = \"7s\"\ncopies = 5\nmoves_max = 8\n",
            &[
                ("CASTY_LISTEN", "0.0.0.0:2"),
                ("CASTY_ASK_TIMEOUT", "8s"),
                ("CASTY_ROLES", "web, zone:eu"),
                ("CASTY_CLOCK_DRIFT", "0.1"),
                ("CASTY_LOG", "debug"),
                ("HOME", "/"),
            ],
        )
        .unwrap();
        assert_eq!(given.listen.as_deref(), Some("0.0.0.0:2"));
        assert_eq!(
            given.seeds.as_deref(),
            Some(&["a:1".to_owned(), "b:2".to_owned()][..])
        );
        assert_eq!(
            given.roles.as_deref(),
            Some(&["web".to_owned(), "zone:eu".to_owned()][..])
        );
        let mut settings = Settings {
            moves_max: 4,
            ..Settings::default()
        };
        given.merge_into(&mut settings);
        let expected = Settings {
            lease: std::time::Duration::from_secs(2),
            ask_timeout: std::time::Duration::from_secs(8),
            copies: 5,
            moves_max: 4,
            clock_drift: 0.1,
            ..Settings::default()
        };
        assert_eq!(settings, expected);
    }

    #[test]
    fn all_mistakes_are_named_with_their_places_and_what_was_meant() {
        let found = problems(
            "listn = \"x\"\nlease = \"1s\"\n[setings]\n[settings]\nleese = 3\nlease = 3\n\
             copies = 300\nlisten = \"x\"\nbackoff = \"soon\"\n",
            &[("CASTY_LEASSE", "3s"), ("CASTY_COPIES", "many")],
        );
        let mut found = found.into_iter();
        let mut next = || found.next().unwrap();
        let expected = [
            "1: there is no key `listn`; did you mean `listen`?",
            "2: `lease` stands in the section `[settings]`",
            "3: there is no section `setings`; did you mean `settings`?",
        ];
        let mut all: Vec<String> = (0..9).map(|_| next()).collect();
        all.sort();
        for text in expected {
            assert!(all.iter().any(|it| it == text), "{text}: {all:?}");
        }
        for (line, text) in [
            (5, "there is no key `leese`; did you mean `lease`?"),
            (6, "`lease` has to be a time with its unit"),
            (7, "`copies` has to be a whole number"),
            (8, "`listen` stands before all sections"),
            (9, "`backoff` has to be a time with its unit"),
        ] {
            let text = format!("{line}: {text}");
            assert!(
                all.iter().any(|it| it.starts_with(&text)),
                "{text}: {all:?}"
            );
        }
        let all = problems("", &[("CASTY_LEASSE", "3s"), ("CASTY_COPIES", "many")]);
        assert_eq!(
            all[0],
            "the variable CASTY_LEASSE: there is none; did you mean CASTY_LEASE?"
        );
        assert!(
            all[1].starts_with("the variable CASTY_COPIES: `copies` has to be"),
            "{all:?}"
        );
    }

    #[test]
    fn sections_of_entity_types_have_keys_of_their_own() {
        let given = of(
            "[entity.Cart]\nmax_active = 7\n[entity.\"shop/*\"]\npassivate_after = \"5m\"\n",
            &[],
        )
        .unwrap();
        assert_eq!(given.entities.of("Cart").max_active, Some(7));
        let minutes = std::time::Duration::from_mins(5);
        assert_eq!(given.entities.of("shop/a").passivate_after, Some(minutes));
        let found = problems(
            "[entity]\nCart = 3\n[entity.Purse]\nmax_activ = 7\nmailbox = 0\ncopies = 9\n",
            &[],
        );
        assert_eq!(found.len(), 4, "{found:?}");
        for text in [
            "2: `Cart`: it is no section: write `[entity.NAME]`, and keys below it",
            "3: `Purse`: there is no key `max_activ`; did you mean `max_active`?",
            "3: `Purse`: `mailbox` has to be a whole number",
            "3: `Purse`: `copies` has to be a whole number",
        ] {
            assert!(
                found.iter().any(|it| it.starts_with(text)),
                "{text}: {found:?}"
            );
        }
    }

    #[test]
    fn what_is_no_toml_and_what_is_not_there_is_said() {
        let all = problems("a = \n", &[]);
        assert!(all[0].starts_with("1: "), "{all:?}");
        let missing = Given::read(Some(Path::new("/nowhere/casty.toml")), []).unwrap_err();
        assert!(
            missing.to_string().starts_with("/nowhere/casty.toml: "),
            "{missing}"
        );
    }

    #[test]
    fn the_defaults_can_be_read_and_are_those_of_the_settings() {
        let text = defaults();
        let values = text
            .lines()
            .filter(|line| line.starts_with("# ") && line.contains(" = "));
        let mut read = String::new();
        for line in text.lines() {
            let is_default = line.strip_prefix("# ").filter(|line| {
                let name = line.split(" = ").next().unwrap_or_default();
                KEYS.iter().any(|key| key.name == name) && line.contains(" = ")
            });
            read += is_default.unwrap_or(if line.starts_with('[') { line } else { "" });
            read.push('\n');
        }
        assert!(values.count() > 20, "{text}");
        let given = of(&read, &[]).unwrap();
        assert_eq!(given.settings, Settings::default());
        assert_eq!(
            given.merges.len(),
            KEYS.iter()
                .filter(|key| matches!(key.section, "settings" | "limits"))
                .count()
        );
        for key in KEYS {
            assert!(text.contains(&key.variable()), "{}", key.name);
        }
    }
}
