//! How fast clusters form: `cargo bench -p casty-benches --bench forming`.
//!
//! Each node is a process of its own. The time is measured from the start of the first process
//! until every node sees all members Up. The benchmark prints the median of the rounds.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use casty::ActorSystem;

type AnyError = Box<dyn std::error::Error>;

const ROUNDS: usize = 5;

fn main() -> Result<(), AnyError> {
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| a != "--bench")
        .collect();
    if let [serve, members, seeds @ ..] = &arguments[..]
        && serve == "serve"
    {
        return node(members.parse()?, seeds);
    }
    println!("| nodes | median | slowest |\n|---|---|---|");
    for nodes in [2, 5] {
        let mut times = Vec::new();
        for _ in 0..ROUNDS {
            times.push(form(nodes)?);
        }
        times.sort_unstable();
        println!(
            "| {nodes} | {:?} | {:?} |",
            times[ROUNDS / 2],
            times[ROUNDS - 1]
        );
    }
    Ok(())
}

#[tokio::main]
async fn node(members: usize, seeds: &[String]) -> Result<(), AnyError> {
    use tokio::io::AsyncReadExt;
    let node = ActorSystem::builder("forming").seeds(seeds).start().await?;
    println!("{}", node.address());
    node.wait_for(members).await?;
    println!("formed");
    let _ = tokio::io::stdin().read_to_end(&mut Vec::new()).await;
    Ok(node.shutdown().await?)
}

struct Node {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Node {
    fn start(members: usize, seed: Option<&str>) -> Result<Self, AnyError> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["serve", &members.to_string()])
            .args(seed)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let lines = BufReader::new(child.stdout.take().ok_or("no output")?).lines();
        Ok(Self { child, lines })
    }

    fn line(&mut self) -> Result<String, AnyError> {
        Ok(self.lines.next().ok_or("a node ended early")??)
    }
}

fn form(members: usize) -> Result<Duration, AnyError> {
    #[expect(
        clippy::disallowed_methods,
        reason = "a benchmark measures wall-clock time"
    )]
    let started = Instant::now();
    let mut first = Node::start(members, None)?;
    let seed = first.line()?;
    let mut nodes = vec![first];
    for _ in 1..members {
        nodes.push(Node::start(members, Some(&seed))?);
    }
    for node in nodes.iter_mut().skip(1) {
        node.line()?;
    }
    for node in &mut nodes {
        let said = node.line()?;
        if said != "formed" {
            return Err(format!("a node said `{said}`").into());
        }
    }
    let took = started.elapsed();
    // The founder last.
    for mut node in nodes.into_iter().rev() {
        drop(node.child.stdin.take());
        node.child.wait()?;
    }
    Ok(took)
}
