//! Eight state machines, each in a file of its own.
//!
//! `cargo run --example machines -- elevator` prints the diagram of one as Mermaid, and
//! `cargo run --example machines -- count` the lines of each.

#![expect(unreachable_pub, reason = "written as a library would write it")]
#![expect(
    clippy::module_inception,
    reason = "a machine has a file of its own name"
)]
#![allow(
    clippy::redundant_closure_for_method_calls,
    reason = "tests send what a closure names"
)]

mod auction;
mod breaker;
mod document;
mod elevator;
mod game;
mod session;
mod subscription;
mod twin;

use std::process::ExitCode;

use casty::behavior::Behavior;

/// Answers as a request wants: stands for a real service.
#[derive(Default)]
pub struct Echo;

impl breaker::Backend for Echo {
    async fn call(&self, request: String) -> Result<String, String> {
        if request == "fail" {
            return Err(request);
        }
        Ok(request)
    }
}

casty::host!(breaker::Breaker<Echo> as "machines/breaker/echo");

/// A machine of this example.
struct Example {
    name: &'static str,
    behavior: Behavior,
    source: &'static str,
    /// How many lines it took before states could share what they have in common.
    before: usize,
}

fn examples() -> [Example; 8] {
    let example = |name, behavior, source, before| Example {
        name,
        behavior,
        source,
        before,
    };
    let breaker = breaker::Breaker::<Echo>::behavior();
    [
        example(
            "auction",
            auction::Auction::behavior(),
            include_str!("auction.rs"),
            208,
        ),
        example(
            "session",
            session::Session::behavior(),
            include_str!("session.rs"),
            181,
        ),
        example(
            "elevator",
            elevator::Elevator::behavior(),
            include_str!("elevator.rs"),
            228,
        ),
        example(
            "document",
            document::Document::behavior(),
            include_str!("document.rs"),
            196,
        ),
        example(
            "subscription",
            subscription::Subscription::behavior(),
            include_str!("subscription.rs"),
            177,
        ),
        example("game", game::Game::behavior(), include_str!("game.rs"), 185),
        example("breaker", breaker, include_str!("breaker.rs"), 89),
        example("twin", twin::Twin::behavior(), include_str!("twin.rs"), 102),
    ]
}

impl Example {
    /// The lines of the machine and of its types, without blanks, comments and tests.
    fn lines(&self) -> usize {
        let machine = self.source.split("#[cfg(test)]").next().unwrap_or_default();
        let lines = machine.lines().map(str::trim);
        lines
            .filter(|line| !line.is_empty() && !line.starts_with("//"))
            .count()
    }
}

fn main() -> ExitCode {
    let argument = std::env::args().nth(1).unwrap_or_default();
    let examples = examples();
    if argument == "count" {
        for example in &examples {
            let (name, before, lines) = (example.name, example.before, example.lines());
            println!("{name:12} {before:4} {lines:4}");
        }
        return ExitCode::SUCCESS;
    }
    if let Some(example) = examples.iter().find(|example| example.name == argument) {
        print!("{}", example.behavior.mermaid());
        return ExitCode::SUCCESS;
    }
    let names = examples.map(|example| example.name).join("|");
    eprintln!("usage: cargo run --example machines -- {names}|count");
    ExitCode::from(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The diagram in the docs of a module.
    fn documented(source: &str) -> String {
        let docs = source.lines().map_while(|line| line.strip_prefix("//!"));
        let docs = docs.map(|line| line.strip_prefix(' ').unwrap_or(line));
        let diagram = docs.skip_while(|line| *line != "```mermaid").skip(1);
        let diagram = diagram.take_while(|line| *line != "```");
        diagram.flat_map(|line| [line, "\n"]).collect()
    }

    #[test]
    fn the_docs_of_each_machine_show_its_diagram() {
        for example in examples() {
            let diagram = example.behavior.mermaid();
            assert_eq!(documented(example.source), diagram, "{}", example.name);
        }
    }

    #[test]
    fn each_machine_is_shorter_by_a_quarter_than_before_states_could_share() {
        for example in examples() {
            let (lines, most) = (example.lines(), example.before * 3 / 4);
            assert!(lines <= most, "{}: {lines} lines, of {most}", example.name);
        }
    }

    #[test]
    fn the_page_on_elevators_shows_the_one_of_the_example() {
        let page = include_str!("../../docs/elevator.md");
        let source = include_str!("elevator.rs");
        let machine = source.split("\n#[cfg(test)]").next().unwrap_or_default();
        let is_docs = |line: &&str| line.starts_with("//!") || line.is_empty();
        let machine: Vec<_> = machine.lines().skip_while(is_docs).collect();
        let block = format!("```rust\n{}\n```\n", machine.join("\n"));
        assert!(page.contains(&block), "the page should have\n{block}");
    }
}
