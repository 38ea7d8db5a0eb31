//! A transition table as a diagram's source text.

use std::fmt::{self, Write};

use super::{Behavior, Group, HandlerRow, Otherwise, State};

/// The name in tables for the target of a transition that ends the actor.
const STOP: &str = "Stop";

impl Behavior {
    /// The source of a [Mermaid](https://mermaid.js.org/syntax/stateDiagram.html) diagram, which
    /// many sites draw in Markdown.
    ///
    /// States that share a name are drawn within one. A message of a timer has its time behind it,
    /// `hammer (after 30s)`, one that only the actor sends is `(internal)`, and a guard stands in
    /// brackets, `bid [may_bid]`. An event of an event-sourced machine is an `(event)`.
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
    /// draws it. It shows what that of [`mermaid`](Self::mermaid) shows.
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
        for (index, _) in self.within(None) {
            self.write_mermaid_group(out, index, 1)?;
        }
        if let Some(initial) = self.states.first() {
            writeln!(out, "    [*] --> {}", self.mermaid_id(initial.name))?;
        }
        for row in self.handlers {
            for target in row.targets {
                let label = label(row);
                let (from, message) = (self.mermaid_id(row.state), Mermaid(&label));
                let to = if *target == STOP {
                    "[*]".to_owned()
                } else {
                    self.mermaid_id(target)
                };
                writeln!(out, "    {from} --> {to}: {message}")?;
            }
        }
        for state in self.states {
            // Mermaid takes a state to be where its note is.
            if self.group_of(state.name).is_none() {
                self.write_mermaid_note(out, state, 1)?;
            }
        }
        Ok(())
    }

    fn write_mermaid_group(&self, out: &mut String, index: usize, depth: usize) -> fmt::Result {
        let indent = "    ".repeat(depth);
        let Some(group) = self.groups.get(index) else {
            return Ok(());
        };
        if is_plain(group.name) {
            writeln!(out, "{indent}state {} {{", group.name)?;
        } else {
            let name = Mermaid(group.name);
            writeln!(out, "{indent}state \"{name}\" as g{index} {{")?;
        }
        for (inner, _) in self.within(Some(index)) {
            self.write_mermaid_group(out, inner, depth + 1)?;
        }
        for state in self.states {
            if self.group_of(state.name) == Some(index) {
                writeln!(out, "{indent}    {}", self.mermaid_id(state.name))?;
                self.write_mermaid_note(out, state, depth + 1)?;
            }
        }
        writeln!(out, "{indent}}}")
    }

    fn write_mermaid_note(&self, out: &mut String, state: &State, depth: usize) -> fmt::Result {
        let remarks = self.remarks(state);
        if remarks.is_empty() {
            return Ok(());
        }
        let indent = "    ".repeat(depth);
        let name = self.mermaid_id(state.name);
        writeln!(out, "{indent}note right of {name}")?;
        for remark in remarks {
            writeln!(out, "{indent}    {}", Mermaid(&remark))?;
        }
        writeln!(out, "{indent}end note")
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
        for (index, _) in self.within(None) {
            self.write_dot_group(out, index, 1)?;
        }
        for state in self.states {
            if self.group_of(state.name).is_none() {
                self.write_dot_state(out, state, 1)?;
            }
        }
        if let Some(initial) = self.states.first() {
            writeln!(out, "    \"[start]\" -> \"{}\";", Dot(initial.name))?;
        }
        for row in self.handlers {
            for target in row.targets {
                let target = if *target == STOP { "[stop]" } else { target };
                let label = label(row);
                let (from, to, message) = (Dot(row.state), Dot(target), Dot(&label));
                writeln!(out, "    \"{from}\" -> \"{to}\" [label=\"{message}\"];")?;
            }
        }
        out.write_str("}\n")
    }

    fn write_dot_group(&self, out: &mut String, index: usize, depth: usize) -> fmt::Result {
        let indent = "    ".repeat(depth);
        let Some(group) = self.groups.get(index) else {
            return Ok(());
        };
        // Graphviz draws a frame around what has this prefix.
        writeln!(out, "{indent}subgraph cluster_{index} {{")?;
        let name = Dot(group.name);
        writeln!(out, "{indent}    label=\"{name}\"; style=rounded;")?;
        for (inner, _) in self.within(Some(index)) {
            self.write_dot_group(out, inner, depth + 1)?;
        }
        for state in self.states {
            if self.group_of(state.name) == Some(index) {
                self.write_dot_state(out, state, depth + 1)?;
            }
        }
        writeln!(out, "{indent}}}")
    }

    fn write_dot_state(&self, out: &mut String, state: &State, depth: usize) -> fmt::Result {
        let (indent, name) = ("    ".repeat(depth), Dot(state.name));
        write!(out, "{indent}\"{name}\" [label=\"{name}")?;
        for remark in self.remarks(state) {
            write!(out, "\\n{}", Dot(&remark))?;
        }
        out.write_str("\"];\n")
    }

    /// The groups that are drawn within a group and not deeper, or within none.
    fn within(&self, outer: Option<usize>) -> impl Iterator<Item = (usize, &Group)> {
        let groups = self.groups.iter().enumerate();
        groups.filter(move |(index, group)| {
            let around = self.innermost(|other, of| {
                let holds = group.states.iter().all(|state| of.states.contains(state));
                let is_larger = of.states.len() > group.states.len();
                holds && (is_larger || (of.states.len() == group.states.len() && other < *index))
            });
            around == outer
        })
    }

    /// The group that a state is drawn in.
    fn group_of(&self, state: &str) -> Option<usize> {
        self.innermost(|_, group| group.states.contains(&state))
    }

    /// The smallest of these groups. Of two with the same states, the later one is the inner one.
    fn innermost(&self, is_one: impl Fn(usize, &Group) -> bool) -> Option<usize> {
        let groups = self.groups.iter().enumerate().rev();
        let these = groups.filter(|(index, group)| is_one(*index, group));
        let innermost = these.min_by_key(|(_, group)| group.states.len());
        innermost.map(|(index, _)| index)
    }

    /// The notes of a state: the messages that stay in it, and what happens to all others.
    fn remarks(&self, state: &State) -> Vec<String> {
        let stays =
            |row: &&HandlerRow| row.state == state.name && row.targets.is_empty() && !row.event;
        let messages: Vec<_> = self.handlers.iter().filter(stays).map(label).collect();
        let mut remarks = Vec::new();
        if !messages.is_empty() {
            remarks.push(format!("stays: {}", messages.join(", ")));
        }
        for policy in [Otherwise::Reject, Otherwise::Ignore, Otherwise::Stash] {
            let these = state.exceptions.iter().filter(|(_, of)| *of == policy);
            let names: Vec<_> = these.map(|(name, _)| *name).collect();
            if !names.is_empty() {
                remarks.push(format!("{policy}: {}", names.join(", ")));
            }
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

/// A message, where it comes from if not from outside, and what is asked first.
fn label(row: &HandlerRow) -> String {
    let mut label = row.message.to_owned();
    // Writing to a string cannot fail.
    let _ = match row.timer {
        Some(timer) => write!(label, " ({timer})"),
        None if row.internal => write!(label, " (internal)"),
        None if row.event => write!(label, " (event)"),
        None => Ok(()),
    };
    if let Some(guard) = row.guard {
        let _ = write!(label, " [{guard}]");
    }
    label
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

    /// Groups within groups, timers, guards, and messages with a policy of their own.
    const AUCTION: Behavior = Behavior::new(
        "Auction",
        &[
            State::new("Draft", Some(Otherwise::Reject)),
            State::new("Open", None),
            State::new("Extended", None),
            State::new("Sold", Some(Otherwise::Reject)).with_exceptions(&[
                ("open", Otherwise::Stash),
                ("view", Otherwise::Stash),
                ("withdraw", Otherwise::Ignore),
            ]),
        ],
        &[
            HandlerRow::new("Draft", "open", &["Open"], "()"),
            HandlerRow::new("Open", "bid", &["Extended"], "u64").with_guard("may_bid"),
            HandlerRow::new("Open", "hammer", &["Sold"], "()")
                .internal()
                .with_timer("after 30s"),
            HandlerRow::new("Extended", "bid", &[], "u64").with_guard("may_bid"),
            HandlerRow::new("Extended", "call", &[], "()")
                .internal()
                .with_timer("every 4s"),
            HandlerRow::new("Extended", "withdrawn", &["Draft"], "()").internal(),
        ],
    )
    .with_groups(&[
        Group::new("Live", &["Open", "Extended"]),
        Group::new("Ever Begun", &["Open", "Extended", "Sold"]),
    ]);

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
    fn mermaid_shows_groups_timers_guards_and_policies_of_single_messages() {
        assert_eq!(
            AUCTION.mermaid(),
            "\
stateDiagram-v2
    state \"Ever Begun\" as g1 {
        state Live {
            Open
            Extended
            note right of Extended
                stays: bid [may_bid], call (every 4s)
            end note
        }
        Sold
        note right of Sold
            ignore: withdraw
            stash: open, view
            otherwise: reject
        end note
    }
    [*] --> Draft
    Draft --> Open: open
    Open --> Extended: bid [may_bid]
    Open --> Sold: hammer (after 30s)
    Extended --> Draft: withdrawn (internal)
    note right of Draft
        otherwise: reject
    end note
"
        );
    }

    #[test]
    fn dot_shows_groups_timers_guards_and_policies_of_single_messages() {
        assert_eq!(
            AUCTION.dot(),
            r#"digraph "Auction" {
    rankdir=LR;
    node [shape=box, style=rounded];
    "[start]" [shape=point, label=""];
    subgraph cluster_1 {
        label="Ever Begun"; style=rounded;
        subgraph cluster_0 {
            label="Live"; style=rounded;
            "Open" [label="Open"];
            "Extended" [label="Extended\nstays: bid [may_bid], call (every 4s)"];
        }
        "Sold" [label="Sold\nignore: withdraw\nstash: open, view\notherwise: reject"];
    }
    "Draft" [label="Draft\notherwise: reject"];
    "[start]" -> "Draft";
    "Draft" -> "Open" [label="open"];
    "Open" -> "Extended" [label="bid [may_bid]"];
    "Open" -> "Sold" [label="hammer (after 30s)"];
    "Extended" -> "Draft" [label="withdrawn (internal)"];
}
"#
        );
    }

    #[test]
    fn events_are_the_transitions_of_an_event_sourced_machine() {
        const ORDER: Behavior = Behavior::new(
            "Order",
            &[State::new("Open", None), State::new("Paid", None)],
            &[
                HandlerRow::new("Open", "pay", &[], "()"),
                HandlerRow::new("Open", "noted", &[], "()").event(),
                HandlerRow::new("Open", "paid", &["Paid"], "()").event(),
            ],
        );
        assert_eq!(
            ORDER.mermaid(),
            "\
stateDiagram-v2
    [*] --> Open
    Open --> Paid: paid (event)
    note right of Open
        stays: pay
    end note
"
        );
    }

    #[test]
    fn groups_of_the_same_states_are_drawn_once_each() {
        const DOOR: Behavior =
            Behavior::new("Door", &[State::new("Open", None)], &[]).with_groups(&[
                Group::new("Outer", &["Open"]),
                Group::new("Inner", &["Open"]),
            ]);
        assert_eq!(
            DOOR.mermaid(),
            "\
stateDiagram-v2
    state Outer {
        state Inner {
            Open
        }
    }
    [*] --> Open
"
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
