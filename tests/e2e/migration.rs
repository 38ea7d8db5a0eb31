//! Entity state that moves with its shard.

use std::time::SystemTime;

use casty::{EntityRef, prelude::*};
use casty_tests::Counter;

use crate::support::{Logs, cluster, event, eventually, node, shutdown, soon};

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

/// Something found, of an age that not every codec can express.
#[message]
pub(crate) struct Relic {
    made: SystemTime,
    value: u64,
}

#[entity(shards = 8, migrate)]
impl Relic {
    #[init]
    fn found() -> Self {
        let made = SystemTime::UNIX_EPOCH;
        Self { made, value: 0 }
    }

    /// Makes it older than any clock of a computer.
    #[message]
    fn age(&mut self) {
        self.made = SystemTime::UNIX_EPOCH - Duration::from_secs(1);
    }

    #[message]
    fn add(&mut self, amount: u64) -> u64 {
        self.value += amount;
        self.value
    }

    #[message]
    fn node(&self, ctx: &mut Context<Self>) -> String {
        ctx.node_id().to_string()
    }
}

/// A state of any size.
#[message]
#[derive(Default)]
pub(crate) struct Hoard {
    text: String,
}

#[entity(shards = 2, migrate)]
impl Hoard {
    #[message]
    fn fill(&mut self, bytes: usize) {
        self.text = "0123456789abcdef".chars().cycle().take(bytes).collect();
    }

    /// Its size, its end, and the node.
    #[message]
    fn look(&self, ctx: &mut Context<Self>) -> (usize, String, String) {
        let end = self.text.get(self.text.len().saturating_sub(8)..);
        let node = ctx.node_id().to_string();
        (self.text.len(), end.unwrap_or_default().to_owned(), node)
    }
}

/// The same, in more shards.
#[message]
#[derive(Default)]
pub(crate) struct Chest {
    text: String,
}

#[entity(shards = 16, migrate)]
impl Chest {
    /// Small ones stop later than large ones.
    #[on_stop]
    async fn stopped(&mut self) {
        if self.text.len() < 1024 {
            tokio::time::sleep(Duration::from_millis(700)).await;
        }
    }

    #[message]
    fn fill(&mut self, bytes: usize) {
        self.text = "x".repeat(bytes);
    }

    /// Its size, and the node.
    #[message]
    fn look(&self, ctx: &mut Context<Self>) -> (usize, String) {
        (self.text.len(), ctx.node_id().to_string())
    }
}

/// Such a state cannot move, so its entity and the others of its shard stay, with what they have.
/// When its node leaves, it alone is lost, and that is said.
#[tokio::test]
async fn a_state_that_cannot_be_encoded_stays_where_it_is_and_is_missed_only_if_its_node_leaves() {
    let (logs, _logging) = Logs::of_this_thread();
    let nodes = cluster(1).await;
    let relic = |system: &ActorSystem, n: u64| system.entity::<Relic>(format!("r{n}"));
    let is_old = |n: u64| n.is_multiple_of(5);
    for n in 0..32 {
        assert_eq!(relic(&nodes[0], n).add(n).await, Ok(n));
        if is_old(n) {
            relic(&nodes[0], n).age().await.unwrap();
        }
    }
    let seeds = [nodes[0].address()];
    let newcomer = node("newcomer").seeds(seeds).start().await.unwrap();
    let look = async || {
        for n in 0..32 {
            assert_eq!(relic(&newcomer, n).add(0).await, Ok(n), "r{n}");
        }
        logs.with("cannot be encoded")
    };
    let warned = eventually("a move fails", look, |lines| !lines.is_empty()).await;
    assert!(warned[0].contains("entity=r"), "{warned:?}");
    let look = async || {
        let mut moved = 0;
        for n in 0..32 {
            assert_eq!(relic(&newcomer, n).add(0).await, Ok(n), "r{n}");
            let home = relic(&newcomer, n).node().await.unwrap();
            assert!(!is_old(n) || home == "node-0", "r{n} on {home}");
            moved += u64::from(home == "newcomer");
        }
        moved
    };
    eventually("others have moved", look, |moved| *moved > 0).await;
    let mut events = nodes[0].events();
    soon("it leaves", nodes[0].shutdown()).await.unwrap();
    let mut lost = Vec::new();
    for _ in (0..32).filter(|n| is_old(*n)) {
        lost.push(
            event(&mut events, "a loss", |event| match event {
                Event::ActorFailed { who, reason } if reason.contains("cannot be encoded") => {
                    Some(who.id.clone())
                }
                _ => None,
            })
            .await,
        );
    }
    for n in 0..32 {
        let kept = if is_old(n) { 0 } else { n };
        assert_eq!(lost.contains(&format!("r{n}")), is_old(n), "r{n}: {lost:?}");
        let value = soon("an answer", relic(&newcomer, n).add(0)).await;
        assert_eq!(value, Ok(kept), "r{n}");
    }
    shutdown(vec![newcomer]).await;
}

/// A frame holds 8 MiB.
#[tokio::test]
async fn a_state_larger_than_any_frame_moves_whole() {
    const BYTES: usize = 9 * 1024 * 1024 + 8;
    const HOARDS: u64 = 6;
    let mut nodes = cluster(1).await;
    let hoard = |n: u64| nodes[0].entity::<Hoard>(format!("h{n}"));
    for n in 0..HOARDS {
        hoard(n).fill(BYTES).await.unwrap();
    }
    let seeds = [nodes[0].address()];
    let newcomer = node("newcomer").seeds(seeds).start().await.unwrap();
    let look = async || {
        let mut homes = Vec::new();
        for n in 0..HOARDS {
            let (bytes, end, home) = soon("a look", hoard(n).look()).await?;
            assert_eq!((bytes, end.as_str()), (BYTES, "01234567"), "h{n} on {home}");
            homes.push(home);
        }
        Ok::<_, AskError>(homes)
    };
    // Asks that arrive while a large state moves may wait for too long.
    eventually("one has moved", look, |homes| {
        let is_new = |home: &String| home == "newcomer";
        homes.as_ref().is_ok_and(|homes| homes.iter().any(is_new))
    })
    .await;
    nodes.push(newcomer);
    shutdown(nodes).await;
}

/// A large state takes its time, and so do the messages to its shard; not those to other shards.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_shards_do_not_wait_for_a_large_one_to_move() {
    const BYTES: usize = 64 * 1024 * 1024;
    let mut nodes = cluster(1).await;
    let chest = |n: u64| nodes[0].entity::<Chest>(format!("c{n}"));
    let shard = |n: u64| AsRef::<EntityRef<Chest>>::as_ref(&chest(n)).shard().0;
    // Shards move from the last one on.
    let large = (0..10_000).find(|n| shard(*n) == 15).unwrap();
    let small: Vec<u64> = (0..64).filter(|n| shard(*n) != 15).collect();
    chest(large).fill(BYTES).await.unwrap();
    for n in &small {
        chest(*n).fill(8).await.unwrap();
    }
    let seeds = [nodes[0].address()];
    let newcomer = node("newcomer").seeds(seeds).start().await.unwrap();
    let has_moved = async || {
        let mut moved = 0;
        for n in &small {
            let (bytes, home) = soon("a look", chest(*n).look()).await.unwrap();
            assert_eq!(bytes, 8, "c{n} on {home}");
            moved += usize::from(home == "newcomer");
        }
        moved
    };
    let enough = small.len() / 4;
    eventually("small ones have moved", has_moved, |moved| *moved > enough).await;
    // Asks that arrive while the large one moves may wait for too long.
    let look = async || soon("a look", chest(large).look()).await;
    let arrived = Ok((BYTES, "newcomer".to_owned()));
    eventually("the large one arrives", look, |look| *look == arrived).await;
    nodes.push(newcomer);
    shutdown(nodes).await;
}

#[tokio::test]
async fn a_move_says_how_many_entities_begin_afresh_because_their_type_does_not_migrate() {
    let (logs, _logging) = Logs::of_this_thread();
    let mut nodes = cluster(1).await;
    for n in 0..COUNT {
        let counter = nodes[0].entity::<Counter>(format!("c{n}"));
        counter.add(1).await.unwrap();
        nomad(&nodes[0], n).add(n).await.unwrap();
    }
    let seeds = [nodes[0].address()];
    let newcomer = node("newcomer").seeds(seeds).start().await.unwrap();
    let said = async || logs.with("begin afresh on other nodes");
    let said = eventually("it is said", said, |lines| !lines.is_empty()).await;
    let count = |line: &String| {
        let (_, count) = line.split_once("entities=").unwrap();
        count.split(' ').next().unwrap().parse::<u64>().unwrap()
    };
    assert!(
        (1..=COUNT).contains(&said.iter().map(count).sum()),
        "{said:?}"
    );
    let of_counters = said.iter().all(|line| line.contains("kind=\"Counter\""));
    assert!(of_counters, "{said:?}");
    nodes.push(newcomer);
    shutdown(nodes).await;
}
