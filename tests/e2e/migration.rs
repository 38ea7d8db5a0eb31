//! Entity state that moves with its shard.

use casty::prelude::*;

use crate::support::{cluster, eventually, node, shutdown, soon};

/// A counter that migrates.
#[message]
#[derive(Default)]
pub(crate) struct Nomad {
    value: u64,
    starts: u32,
    stops: u32,
}

#[entity(shards = 32, migrate)]
impl Nomad {
    #[on_start]
    fn started(&mut self) {
        self.starts += 1;
    }

    #[on_stop]
    fn stopped(&mut self) {
        self.stops += 1;
    }

    #[message]
    fn add(&mut self, amount: u64) -> u64 {
        self.value += amount;
        self.value
    }

    /// Value, starts, stops, node.
    #[message]
    fn look(&self, ctx: &mut Context<Self>) -> (u64, u32, u32, String) {
        (
            self.value,
            self.starts,
            self.stops,
            ctx.node_id().to_string(),
        )
    }
}

/// A lamp that is on or off, and migrates.
#[entity(shards = 16, migrate)]
pub(crate) mod lamp {
    use super::*;

    #[state(initial)]
    #[message]
    #[derive(Default)]
    pub(crate) struct Off;

    #[state]
    #[message]
    pub(crate) struct On {
        brightness: u8,
    }

    #[behavior(otherwise = reject)]
    impl Off {
        #[message]
        fn switch_on(self, brightness: u8) -> On {
            On { brightness }
        }

        #[message]
        fn brightness(&self) -> u8 {
            0
        }
    }

    #[behavior(otherwise = reject)]
    impl On {
        #[message]
        fn switch_off(self) -> Off {
            Off
        }

        #[message]
        fn brightness(&self) -> u8 {
            self.brightness
        }
    }
}

/// Checks that its one sender's notes arrive in order, on every node it moves to.
#[message]
#[derive(Default)]
pub(crate) struct Scroll {
    next: u64,
    out_of_order: u64,
}

#[entity(shards = 2, migrate)]
impl Scroll {
    #[message]
    fn note(&mut self, number: u64) {
        self.out_of_order += u64::from(number != self.next);
        self.next = number + 1;
    }

    /// How many notes, how many out of order, and the node.
    #[message]
    fn look(&self, ctx: &mut Context<Self>) -> (u64, u64, String) {
        (self.next, self.out_of_order, ctx.node_id().to_string())
    }
}

const COUNT: u64 = 100;

fn nomad(system: &ActorSystem, n: u64) -> NomadRef {
    system.entity::<Nomad>(format!("n{n}"))
}

#[tokio::test]
async fn state_survives_the_leave_of_its_node() {
    let mut nodes = cluster(3).await;
    for n in 0..COUNT {
        assert_eq!(nomad(&nodes[0], n).add(n).await, Ok(n));
    }
    for n in 0..16 {
        let lamp = nodes[0].entity::<Lamp>(format!("l{n}"));
        lamp.switch_on(n).await.unwrap();
    }
    let leaver = nodes.pop().unwrap();
    soon("it leaves", leaver.shutdown()).await.unwrap();
    let mut moved = 0;
    for n in 0..COUNT {
        let (value, starts, stops, home) =
            soon("it looks", nomad(&nodes[0], n).look()).await.unwrap();
        assert_eq!((value, starts), (n, stops + 1), "n{n} on {home}");
        assert_ne!(home, "node-2");
        moved += stops;
    }
    assert!(moved > 0, "nobody lived on the node that left");
    for n in 0..16 {
        let lamp = nodes[0].entity::<Lamp>(format!("l{n}"));
        assert_eq!(soon("it shines", lamp.brightness()).await, Ok(n));
    }
    shutdown(nodes).await;
}

/// A used reference remembers where its entity lives; a fresh reference looks it up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_sender_is_heard_in_order_through_old_and_new_references_while_a_shard_moves() {
    const SCROLLS: usize = 2_000;
    let mut nodes = cluster(1).await;
    let system = nodes[0].clone();
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let scroll = |system: &ActorSystem, n: usize| system.entity::<Scroll>(format!("s{n}"));
    let telling = tokio::spawn(async move {
        let kept: Vec<_> = (0..SCROLLS).map(|n| scroll(&system, n)).collect();
        let mut told = 0;
        while !*stopped.borrow() {
            for (n, kept) in kept.iter().enumerate() {
                kept.note(told).tell().await.unwrap();
                scroll(&system, n).note(told + 1).tell().await.unwrap();
                kept.note(told + 2).tell().await.unwrap();
            }
            told += 3;
        }
        told
    });
    let seeds = [nodes[0].address()];
    let newcomer = node("newcomer").seeds(seeds).start().await.unwrap();
    let homes = || async {
        let mut homes = Vec::new();
        for n in 0..8 {
            homes.push(scroll(&newcomer, n).look().await.unwrap().2);
        }
        homes
    };
    eventually("a shard has moved", homes, |homes| {
        homes.iter().any(|home| home == "newcomer")
    })
    .await;
    stop.send(true).unwrap();
    let told = telling.await.unwrap();
    for n in 0..SCROLLS {
        let (noted, out_of_order, home) = scroll(&nodes[0], n).look().await.unwrap();
        assert_eq!((noted, out_of_order), (told, 0), "s{n} on {home}");
    }
    nodes.push(newcomer);
    shutdown(nodes).await;
}

/// Both sides keep asking while a third node joins and leaves again: no ask is lost, and none
/// counts twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newcomer_takes_its_share_with_their_state_under_load() {
    let mut nodes = cluster(2).await;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let asking: Vec<_> = nodes
        .iter()
        .map(|system| {
            let (system, stopped) = (system.clone(), stopped.clone());
            tokio::spawn(async move {
                let mut rounds = 0;
                while !*stopped.borrow() {
                    for n in 0..COUNT {
                        nomad(&system, n).add(1).await.unwrap();
                    }
                    rounds += 1;
                }
                rounds
            })
        })
        .collect();
    let seeds = [nodes[0].address()];
    let newcomer = node("newcomer").seeds(seeds).start().await.unwrap();
    soon("it joins", newcomer.wait_for(3)).await.unwrap();
    let here = || async {
        let mut here = 0;
        for n in 0..COUNT {
            let (.., home) = nomad(&newcomer, n).look().await.unwrap();
            here += u64::from(home == "newcomer");
        }
        here
    };
    eventually("it has its share", here, |here| *here > COUNT / 5).await;
    soon("it leaves", newcomer.shutdown()).await.unwrap();
    stop.send(true).unwrap();
    let mut rounds = 0;
    for asking in asking {
        rounds += soon("the askers", asking).await.unwrap();
    }
    assert!(rounds > 0);
    for n in 0..COUNT {
        assert_eq!(nomad(&nodes[0], n).add(0).await, Ok(rounds), "n{n}");
    }
    let founder = nodes.remove(0);
    // The founder's own entities move when it leaves as well.
    soon("it leaves", founder.shutdown()).await.unwrap();
    for n in 0..COUNT {
        assert_eq!(nomad(&nodes[0], n).add(0).await, Ok(rounds), "n{n}");
    }
    shutdown(nodes).await;
}
