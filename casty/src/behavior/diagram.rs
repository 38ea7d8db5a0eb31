//! A transition table as a diagram's source text.

use std::fmt::{self, Write};

use super::{Behavior, HandlerRow, State};

/// The name in tables for the target of a transition that ends the actor.
const STOP: &str = "Stop";

impl Behavior {
    /// The source of a [Mermaid](https://mermaid.js.org/syntax/stateDiagram.html) diagram, which
    /// many sites draw in Markdown.
    ///
    /// The order is that of the table. A diagram that is kept in a file so changes only if the
    /// behavior does.
    pub fn mermaid(&self) -> String {
        // Writing to a string cannot fail.
        let mut out = String::new();
        let _ = self.write_mermaid(&mut out);
        out
    }

    /// The source of a [Graphviz](https://graphviz.org/doc/info/lang.html) diagram; `dot -Tsvg`
    /// draws it.
    pub fn dot(&self) -> String {
        let mut out = String::new();
        let _ = self.write_dot(&mut out);
        out
    }

    fn write_mermaid(&self, out: &mut String) -> fmt::Result {
        out.write_str("stateDiagram-v2\n")?;
        for (index, state) in self.states.iter().enumerate() {
            if !is_plain(state.name) {
                let name = Mermaid(state.name);
                writeln!(out, "    state \"{name}\" as s{index}")?;
            }
        }
        if let Some(initial) = self.states.first() {
            writeln!(out, "    [*] --> {}", self.mermaid_id(initial.name))?;
        }
        for row in self.handlers {
            for target in row.targets {
                let (from, message) = (self.mermaid_id(row.state), Mermaid(row.message));
                let to = if *target == STOP {
                    "[*]".to_owned()
                } else {
                    self.mermaid_id(target)
                };
                writeln!(out, "    {from} --> {to}: {message}")?;
            }
        }
        for state in self.states {
            let remarks = self.remarks(state);
            if remarks.is_empty() {
                continue;
            }
            writeln!(out, "    note right of {}", self.mermaid_id(state.name))?;
            for remark in remarks {
                writeln!(out, "        {}", Mermaid(&remark))?;
            }
            out.write_str("    end note\n")?;
        }
        Ok(())
    }

    /// The identifier of a state: its name, unless Mermaid gives the name another meaning.
    fn mermaid_id(&self, name: &str) -> String {
        match self.states.iter().position(|state| state.name == name) {
            Some(index) if !is_plain(name) => format!("s{index}"),
            _ => name.to_owned(),
        }
    }

    fn write_dot(&self, out: &mut String) -> fmt::Result {
        writeln!(out, "digraph \"{}\" {{", Dot(self.name))?;
        out.write_str("    rankdir=LR;\n    node [shape=box, style=rounded];\n")?;
        // No state has such a name.
        out.write_str("    \"[start]\" [shape=point, label=\"\"];\n")?;
        let targets = || self.handlers.iter().flat_map(|row| row.targets);
        if targets().any(|target| *target == STOP) {
            out.write_str("    \"[stop]\" [shape=doublecircle, label=\"\", width=0.15];\n")?;
        }
        for state in self.states {
            let name = Dot(state.name);
            write!(out, "    \"{name}\" [label=\"{name}")?;
            for remark in self.remarks(state) {
                write!(out, "\\n{}", Dot(&remark))?;
            }
            out.write_str("\"];\n")?;
        }
        if let Some(initial) = self.states.first() {
            writeln!(out, "    \"[start]\" -> \"{}\";", Dot(initial.name))?;
        }
        for row in self.handlers {
            for target in row.targets {
                let target = if *target == STOP { "[stop]" } else { target };
                let (from, to, message) = (Dot(row.state), Dot(target), Dot(row.message));
                writeln!(out, "    \"{from}\" -> \"{to}\" [label=\"{message}\"];")?;
            }
        }
        out.write_str("}\n")
    }

    /// The notes of a state: the messages that stay in it, and what happens to all others.
    fn remarks(&self, state: &State) -> Vec<String> {
        let stays = |row: &&HandlerRow| row.state == state.name && row.targets.is_empty();
        let messages: Vec<_> = self
            .handlers
            .iter()
            .filter(stays)
            .map(|row| row.message)
            .collect();
        let mut remarks = Vec::new();
        if !messages.is_empty() {
            remarks.push(format!("stays: {}", messages.join(", ")));
        }
        if let Some(otherwise) = state.otherwise {
            remarks.push(format!("otherwise: {otherwise}"));
        }
        if let Some(internal) = state.internal {
            remarks.push(format!("other internal messages: {internal}"));
        }
        remarks
    }
}

/// Whether Mermaid reads a word as the name of a state.
fn is_plain(name: &str) -> bool {
    const KEYWORDS: [&str; 9] = [
        "as",
        "class",
        "classDef",
        "default",
        "direction",
        "end",
        "note",
        "state",
        "style",
    ];
    let is_word = name
        .chars()
        .all(|letter| letter.is_ascii_alphanumeric() || letter == '_');
    is_word && !KEYWORDS.iter().any(|word| word.eq_ignore_ascii_case(name))
}

/// Text for Mermaid, which writes characters of its own as `#59;`.
struct Mermaid<'a>(&'a str);

impl fmt::Display for Mermaid<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for letter in self.0.chars() {
            match letter {
                '#' | ';' | '"' | '<' | '>' | '%' | '\\' => write!(f, "#{};", u32::from(letter))?,
                control if control.is_control() => f.write_char(' ')?,
                plain => f.write_char(plain)?,
            }
        }
        Ok(())
    }
}

/// Text between the quotes of a DOT string.
struct Dot<'a>(&'a str);

impl fmt::Display for Dot<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for letter in self.0.chars() {
            match letter {
                '"' | '\\' => write!(f, "\\{letter}")?,
                control if control.is_control() => f.write_char(' ')?,
                plain => f.write_char(plain)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::behavior::Otherwise;

    const CART: Behavior = Behavior::new(
        "Cart",
        &[
            State::new("Empty", Some(Otherwise::Reject)),
            State::new("Active", None),
            State::new("CheckedOut", Some(Otherwise::Reject)).with_internal(Otherwise::Ignore),
        ],
        &[
            HandlerRow::new("Empty", "add_item", &["Active"], "()"),
            HandlerRow::new("Empty", "total", &[], "f64"),
            HandlerRow::new("Active", "add_item", &[], "()"),
            HandlerRow::new(
                "Active",
                "remove",
                &["Active", "Empty"],
                "Result<(), String>",
            ),
            HandlerRow::new("Active", "checkout", &["CheckedOut"], "Receipt"),
            HandlerRow::new("Active", "total", &[], "f64"),
            HandlerRow::new("CheckedOut", "close", &["Stop"], "()"),
        ],
    );

    /// Names that are syntax where they are not escaped.
    const ODD: Behavior = Behavior::new(
        "Odd\"",
        &[State::new("End", None), State::new("Über", None)],
        &[
            HandlerRow::new("End", "a: \"b\"; #c\nd", &["Über"], "()"),
            HandlerRow::new("Über", "back\\", &["End"], "()"),
            HandlerRow::new("Über", "x;y", &[], "()"),
        ],
    );

    #[test]
    fn mermaid_shows_transitions_and_what_stays() {
        assert_eq!(
            CART.mermaid(),
            "\
stateDiagram-v2
    [*] --> Empty
    Empty --> Active: add_item
    Active --> Active: remove
    Active --> Empty: remove
    Active --> CheckedOut: checkout
    CheckedOut --> [*]: close
    note right of Empty
        stays: total
        otherwise: reject
    end note
    note right of Active
        stays: add_item, total
    end note
    note right of CheckedOut
        otherwise: reject
        other internal messages: ignore
    end note
"
        );
    }

    #[test]
    fn dot_shows_transitions_and_what_stays() {
        assert_eq!(
            CART.dot(),
            r#"digraph "Cart" {
    rankdir=LR;
    node [shape=box, style=rounded];
    "[start]" [shape=point, label=""];
    "[stop]" [shape=doublecircle, label="", width=0.15];
    "Empty" [label="Empty\nstays: total\notherwise: reject"];
    "Active" [label="Active\nstays: add_item, total"];
    "CheckedOut" [label="CheckedOut\notherwise: reject\nother internal messages: ignore"];
    "[start]" -> "Empty";
    "Empty" -> "Active" [label="add_item"];
    "Active" -> "Active" [label="remove"];
    "Active" -> "Empty" [label="remove"];
    "Active" -> "CheckedOut" [label="checkout"];
    "CheckedOut" -> "[stop]" [label="close"];
}
"#
        );
    }

    #[test]
    fn mermaid_escapes_names() {
        assert_eq!(
            ODD.mermaid(),
            "\
stateDiagram-v2
    state \"End\" as s0
    state \"Über\" as s1
    [*] --> s0
    s0 --> s1: a: #34;b#34;#59; #35;c d
    s1 --> s0: back#92;
    note right of s1
        stays: x#59;y
    end note
"
        );
    }

    #[test]
    fn dot_escapes_names() {
        assert_eq!(
            ODD.dot(),
            r#"digraph "Odd\"" {
    rankdir=LR;
    node [shape=box, style=rounded];
    "[start]" [shape=point, label=""];
    "End" [label="End"];
    "Über" [label="Über\nstays: x;y"];
    "[start]" -> "End";
    "End" -> "Über" [label="a: \"b\"; #c d"];
    "Über" -> "End" [label="back\\"];
}
"#
        );
    }
}
