//! A cluster in simulated time, under one seed: `cargo run --example simulate -- [SEED]`
//!
//! Tests of your own entities look like this: plain code that starts nodes, breaks connections, and
//! asserts. Two runs with the same seed are the same, message by message.

use casty::{prelude::*, testkit::Sim};

/// Counts votes.
#[derive(Default)]
struct Ballot {
    votes: u64,
}

#[entity(shards = 12)]
impl Ballot {
    #[message]
    fn vote(&mut self) -> u64 {
        self.votes += 1;
        self.votes
    }

    #[message]
    fn node(&self, ctx: &mut Context<Self>) -> String {
        ctx.node_id().to_string()
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let seed = match std::env::args().nth(1) {
        Some(seed) => seed
            .parse()
            .map_err(|_| format!("`{seed}` is not a seed: write a number"))?,
        None => 1,
    };
    let (hash, votes) = election(seed);
    let (again, _) = election(seed);
    println!(
        "seed {seed}: {votes} votes counted; the same again: {}",
        hash == again
    );
    Ok(())
}

/// An election while the network breaks. Every acknowledged vote must be counted.
fn election(seed: u64) -> (u64, u64) {
    let mut sim = Sim::new(seed);
    for name in ["north", "east", "west"] {
        sim.start(name);
    }
    sim.until_up(3);
    // Finds a ballot that lives on the node `west`.
    let ballot = sim.on("north", |system| async move {
        for n in 0.. {
            let id = format!("ballot-{n}");
            if system.entity::<Ballot>(&id).node().await == Ok("west".to_owned()) {
                return id;
            }
        }
        unreachable!("one of them lives there")
    });

    let (mut acknowledged, mut attempted) = (0, 0);
    for round in 0..30 {
        match round {
            10 => sim.partition("east", "west"),
            20 => sim.heal(),
            _ => {}
        }
        for voter in ["north", "east"] {
            let id = ballot.clone();
            let vote = sim.on(voter, |system| async move {
                let ballot = system.entity::<Ballot>(id);
                ballot.vote().timeout(Duration::from_millis(500)).await
            });
            attempted += 1;
            acknowledged += u64::from(vote.is_ok());
        }
    }
    sim.run_for(Duration::from_secs(10));
    let counted = sim.on("west", |system| async move {
        // One more vote: its answer is the number of votes.
        system.entity::<Ballot>(ballot).vote().await
    });
    let counted = counted.expect("its own node reaches it") - 1;
    assert!(
        (acknowledged..=attempted).contains(&counted),
        "seed {seed}: {acknowledged} acknowledged, {counted} counted, {attempted} attempted"
    );
    (sim.trace_hash(), counted)
}
