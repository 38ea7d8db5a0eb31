//! Puts a population under load for a while: `casty-soak [--entities N] [--seconds N] [--senders
//! N]`.
//!
//! Messages go to random entities. One message in a hundred panics, others stop or passivate their
//! entity, and idle entities passivate by themselves. The program prints what it measures, and
//! fails if the books do not balance or if memory grows.

use std::{sync::atomic::Ordering, time::Duration};

use casty::prelude::*;
use casty_tests::population::{Books, Odds, Patient, Sender};
use tokio::time::Instant;

struct Plan {
    entities: u32,
    seconds: u64,
    senders: u32,
}

fn plan() -> Result<Plan, String> {
    let mut plan = Plan {
        entities: 100_000,
        seconds: 60,
        senders: 8,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(option) = arguments.next() {
        let value = arguments.next().ok_or(format!("{option} needs a number"))?;
        let number: u32 = value
            .parse()
            .map_err(|_| format!("{option} needs a number, not `{value}`"))?;
        match option.as_str() {
            "--entities" => plan.entities = number.max(1),
            "--seconds" => plan.seconds = u64::from(number.max(3)),
            "--senders" => plan.senders = number.max(1),
            _ => {
                return Err(format!(
                    "unknown option `{option}`; there are --entities, --seconds, --senders"
                ));
            }
        }
    }
    Ok(plan)
}

/// Resident memory of this process, in MiB.
fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    kib.map_or(f64::NAN, |kib| kib / 1024.0)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let plan = plan()?;
    // The panics are intended, and many.
    std::panic::set_hook(Box::new(|_| ()));
    let system = ActorSystem::local("soak");
    let books = Books::of(0, false);
    let begun = Instant::now();
    let end = begun + Duration::from_secs(plan.seconds);
    let odds = Odds {
        panic: 10,
        stop: 10,
        sleep: 10,
        dawdle: 1,
    };
    let mut senders = tokio::task::JoinSet::new();
    for sender in 0..plan.senders {
        let sender = Sender {
            run: 0,
            sender,
            seed: 0,
            entities: plan.entities,
            odds,
        };
        let sending = sender.send::<Patient>(system.clone(), move |_| Instant::now() < end);
        senders.spawn(sending);
    }

    println!(
        "{:>8} {:>12} {:>10} {:>12}",
        "second", "messages", "MiB", "dead letters"
    );
    let mut samples = Vec::new();
    let mut ticks = tokio::time::interval(Duration::from_secs((plan.seconds / 12).max(1)));
    while Instant::now() < end {
        ticks.tick().await;
        let memory = resident();
        samples.push(memory);
        println!(
            "{:>8.0} {:>12} {memory:>10.1} {:>12}",
            begun.elapsed().as_secs_f64(),
            books.sent.load(Ordering::Relaxed),
            system.dead_letters()
        );
    }
    while let Some(sent) = senders.join_next().await {
        sent?;
    }
    system.shutdown().await?;

    let balance = books.balance(system.dead_letters());
    println!(
        "sent {:?} = handled {:?} + refused {:?} + dead letters {}; difference {balance}",
        books.sent,
        books.handled,
        books.refused,
        system.dead_letters()
    );
    // The first third warms up.
    let warm = &samples[samples.len() / 3..];
    let (first, last) = (warm[0], warm[warm.len() - 1]);
    println!("memory from {first:.1} to {last:.1} MiB");
    if balance != 0 {
        return Err("messages are missing, or were counted twice".into());
    }
    if last > first * 1.2 + 8.0 {
        return Err("memory grows".into());
    }
    Ok(())
}
