//! Makes one list of the messages, or of the events, that the functions of all states declare.

use proc_macro2::Ident;

use super::{
    docs,
    model::{Event, Message},
};
use crate::errors::Errors;

/// A message or an event, as one function declares it.
pub(super) trait Declared: Clone {
    /// In errors.
    const WORDS: Words;

    fn form(&self) -> &Message;

    fn form_mut(&mut self) -> &mut Message;

    /// In what two functions for it differ, and how each is.
    fn difference(&self, other: &Self) -> Option<Difference>;
}

/// The words of errors.
pub(super) struct Words {
    noun: &'static str,
    /// The name that has to be unique.
    name: &'static str,
    /// What happens if it is not.
    confused: &'static str,
    /// Where another is written.
    option: &'static str,
}

type Difference = (&'static str, String, String);

/// Leaves out the functions of one block that make a variant for the second time.
pub(super) fn distinct<T: Declared, F>(
    functions: &mut Vec<F>,
    declared: impl Fn(&F) -> &T,
    errors: &mut Errors,
) {
    let mut seen: Vec<T> = Vec::with_capacity(functions.len());
    functions.retain(|function| {
        let second = declared(function);
        let mut before = seen.iter();
        let Some(first) = before.find(|first| first.form().variant == second.form().variant) else {
            seen.push(second.clone());
            return true;
        };
        // The compiler reports two functions of one name.
        is_renamed(first, second, errors);
        false
    });
}

/// Whether another function makes the same variant. Reports it.
fn is_renamed<T: Declared>(first: &T, second: &T, errors: &mut Errors) -> bool {
    let (first, second) = (first.form(), second.form());
    let is_renamed = first.ident != second.ident;
    if is_renamed {
        errors.at(
            &second.ident,
            format!(
                "`{}` and `{}` both make the variant `{}` of the {} enum: rename one of them",
                first.ident,
                second.ident,
                second.variant,
                T::WORDS.noun
            ),
        );
    }
    is_renamed
}

/// What the states read so far declare.
pub(super) struct Union<T> {
    /// Each with the state in which it was first seen.
    found: Vec<(T, String)>,
}

impl<T: Declared> Union<T> {
    pub(super) fn new() -> Self {
        Self { found: Vec::new() }
    }

    pub(super) fn into_found(self) -> Vec<T> {
        self.found.into_iter().map(|(found, _)| found).collect()
    }

    /// Adds what a function of the state `here` declares. Whether it is the same as in the states
    /// before, which is reported if it is not.
    pub(super) fn admits(&mut self, second: &T, here: &Ident, errors: &mut Errors) -> bool {
        let variant = &second.form().variant;
        let mut found = self.found.iter_mut();
        let Some((first, there)) = found.find(|(first, _)| first.form().variant == *variant) else {
            self.found.push((second.clone(), here.to_string()));
            return true;
        };
        if is_renamed(first, second, errors) {
            return false;
        }
        if let Some(difference) = first.difference(second) {
            let forms = (first.form(), second.form());
            differs::<T>(forms, (there, here), &difference, errors);
            return false;
        }
        let (first, second) = (first.form_mut(), second.form());
        if first.docs.is_empty() {
            first.docs.clone_from(&second.docs);
        }
        if first.deprecated.is_none() {
            first.deprecated.clone_from(&second.deprecated);
        }
        true
    }
}

/// Reports that something is not the same in two states.
fn differs<T: Declared>(
    (first, second): (&Message, &Message),
    (there, here): (&str, &Ident),
    (what, one, other): &Difference,
    errors: &mut Errors,
) {
    let noun = T::WORDS.noun;
    let article = if noun.starts_with('e') { "an" } else { "a" };
    errors.at(
        &first.ident,
        format!(
            "`{}` has {what} {one} here, in `{there}`, and {other} in `{here}`",
            first.ident
        ),
    );
    errors.at(
        &second.ident,
        format!(
            "`{}` has {what} {other} here, in `{here}`, and {one} in `{there}`: \
             {article} {noun} is the same in every state. Make them alike, or rename one",
            second.ident
        ),
    );
}

/// Reports names that two of them have. What is internal has none.
pub(super) fn names<T: Declared>(all: &[T], errors: &mut Errors) {
    let Words {
        noun,
        name: kind,
        confused,
        option,
    } = T::WORDS;
    for (index, second) in all.iter().map(Declared::form).enumerate() {
        let mut before = all[..index].iter().map(Declared::form);
        let Some(first) = before.find(|first| {
            !first.internal && !second.internal && first.wire_name == second.wire_name
        }) else {
            continue;
        };
        let name = &second.wire_name;
        errors.at(
            &first.ident,
            format!(
                "two {noun}s have the {kind} `{name}`, this one and `{}`",
                second.ident
            ),
        );
        errors.at(
            &second.ident,
            format!(
                "two {noun}s have the {kind} `{name}`, this one and `{}`: {confused}. \
                 Give one of them another name with `{option}`",
                first.ident
            ),
        );
    }
}

/// A part of a declaration, and how it is shown.
type Shown<'a, T> = (&'static str, &'a dyn Fn(&T) -> String);

/// The first of these in which two differ.
fn first_difference<T>((first, second): (&T, &T), shown: &[Shown<'_, T>]) -> Option<Difference> {
    shown.iter().find_map(|(what, show)| {
        let (one, other) = (show(first), show(second));
        (one != other).then_some((*what, one, other))
    })
}

fn arguments(message: &Message) -> String {
    let shown = docs::arguments(message);
    if shown.is_empty() {
        "()".to_owned()
    } else {
        format!("`{shown}`")
    }
}

fn name(message: &Message) -> String {
    format!("`{}`", message.wire_name)
}

impl Declared for Message {
    const WORDS: Words = Words {
        noun: "message",
        name: "wire name",
        confused: "the receiver could not tell them apart",
        option: "#[message(name = \"..\")]",
    };

    fn form(&self) -> &Message {
        self
    }

    fn form_mut(&mut self) -> &mut Message {
        self
    }

    fn difference(&self, other: &Self) -> Option<Difference> {
        let reply = |message: &Self| format!("`{}`", docs::reply(&message.reply));
        let timeout = |message: &Self| match message.timeout {
            None => "of the system".to_owned(),
            Some(timeout) => format!("of {timeout:?}"),
        };
        let visibility = |message: &Self| {
            let shown = if message.internal {
                "an internal message"
            } else {
                "a public one"
            };
            shown.to_owned()
        };
        first_difference(
            (self, other),
            &[
                ("the arguments", &arguments),
                ("the reply", &reply),
                ("the wire name", &name),
                ("the timeout", &timeout),
                ("the visibility of", &visibility),
            ],
        )
    }
}

impl Declared for Event {
    const WORDS: Words = Words {
        noun: "event",
        name: "stored name",
        confused: "what is stored could be either",
        option: "#[event(name = \"..\")]",
    };

    fn form(&self) -> &Message {
        &self.form
    }

    fn form_mut(&mut self) -> &mut Message {
        &mut self.form
    }

    fn difference(&self, other: &Self) -> Option<Difference> {
        first_difference(
            (self, other),
            &[
                ("the arguments", &|event: &Self| arguments(&event.form)),
                ("the stored name", &|event: &Self| name(&event.form)),
                ("the version", &|event: &Self| event.version.to_string()),
            ],
        )
    }
}
