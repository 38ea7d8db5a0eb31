//! Entities that send to each other and are reminded, on a store that is their only memory: their
//! systems end and begin again, and their nodes die.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use casty::{
    persistence::Journal,
    prelude::*,
    remind::Remind,
    testkit::{STEP_LIMIT, cluster_of, eventually, shutdown},
};

/// Whether desks take papers, and bells ring. While it is not, their handlers fail.
#[derive(Clone, Default)]
struct Open(Arc<AtomicBool>);

impl Open {
    fn check(&self) {
        assert!(self.0.load(Ordering::SeqCst), "on purpose");
    }
}

/// A desk hands papers to other desks, and files what it takes and what is settled.
#[message]
#[derive(Default)]
pub(crate) struct Desk {
    given: Vec<u64>,
    taken: Vec<u64>,
    /// The place of each paper among those of the desk that took it.
    settled: Vec<(u64, usize)>,
    /// Outcomes that are no place.
    unanswered: Vec<String>,
}

#[entity(event_sourced, shards = 8, snapshot_every = 7, retain = "snapshot")]
impl Desk {
    #[message]
    fn give(&self, paper: u64, to: DeskRef) -> Effect<Self> {
        let given = Effect::persist(DeskEvent::Given { paper });
        given.send_for(to.take(paper), move |outcome| DeskMsg::Settle {
            paper,
            outcome,
        })
    }

    #[message]
    fn take(&self, paper: u64, ctx: &mut Context<Self>) -> Effect<Self, usize> {
        ctx.resource::<Open>().check();
        let line = format!("{} took {paper}", ctx.entity_id());
        let taken = Effect::persist(DeskEvent::Taken { paper });
        let taken = taken.send(ctx.entity::<Archive>("archive").file(line));
        taken.reply(|desk: &Self| desk.taken.len())
    }

    #[message]
    fn settle(&self, paper: u64, outcome: Outcome<usize>, ctx: &mut Context<Self>) -> Effect<Self> {
        let line = format!("{} settled {paper}", ctx.entity_id());
        let settled = Effect::persist(match outcome.result() {
            Ok(place) => DeskEvent::Settled { paper, place },
            Err(why) => DeskEvent::LeftOpen {
                why: why.to_string(),
            },
        });
        settled.send(ctx.entity::<Archive>("archive").file(line))
    }

    #[message]
    fn report(&self) -> DeskReport {
        assert_eq!(self.unanswered, Vec::<String>::new());
        DeskReport {
            given: self.given.clone(),
            taken: self.taken.clone(),
            settled: self.settled.clone(),
        }
    }

    #[event]
    fn given(&mut self, paper: u64) {
        self.given.push(paper);
    }

    #[event]
    fn taken(&mut self, paper: u64) {
        self.taken.push(paper);
    }

    #[event]
    fn settled(&mut self, paper: u64, place: usize) {
        self.settled.push((paper, place));
    }

    #[event]
    fn left_open(&mut self, why: String) {
        self.unanswered.push(why);
    }
}

#[message]
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct DeskReport {
    given: Vec<u64>,
    taken: Vec<u64>,
    settled: Vec<(u64, usize)>,
}

/// It rings when it is reminded, and files that.
#[message]
#[derive(Default)]
pub(crate) struct Bell {
    rung: u64,
    polished: u64,
    /// The places of what was filed.
    filed: Vec<usize>,
}

#[entity(durable, shards = 4, snapshot_every = 3, retain = "snapshot")]
impl Bell {
    #[message]
    fn set(&mut self, seconds: u64, ctx: &mut Context<Self>) {
        let once = Remind::after(Duration::from_secs(seconds));
        ctx.remind("once", once, BellMsg::Ring { times: 1 });
    }

    /// Each second, as many times.
    #[message]
    fn repeat(&mut self, times: u64, ctx: &mut Context<Self>) {
        let every = Remind::every(Duration::from_secs(1));
        ctx.remind("again", every, BellMsg::Ring { times });
    }

    #[message]
    fn polish(&mut self) {
        self.polished += 1;
    }

    #[message]
    fn ring(&mut self, times: u64, ctx: &mut Context<Self>) {
        ctx.resource::<Open>().check();
        self.rung += 1;
        if self.rung == times {
            ctx.forget("again");
        }
        let line = format!("{} rang {}", ctx.entity_id(), self.rung);
        let filed = ctx.entity::<Archive>("archive").file(line);
        ctx.send_for(filed, |outcome| BellMsg::Filed { outcome });
    }

    #[message]
    fn filed(&mut self, outcome: Outcome<usize>) {
        self.filed
            .push(outcome.result().expect("an archive answers"));
    }

    #[message]
    fn report(&self) -> (u64, Vec<usize>) {
        (self.rung, self.filed.clone())
    }
}

/// What has happened, in order. Tests ask it alone until all of that has.
#[message]
#[derive(Default)]
pub(crate) struct Archive {
    lines: Vec<String>,
}

#[entity(durable, shards = 4, snapshot_every = 50)]
impl Archive {
    #[message]
    fn file(&mut self, line: String) -> usize {
        self.lines.push(line);
        self.lines.len()
    }

    #[message]
    fn lines(&self) -> Vec<String> {
        self.lines.clone()
    }
}

const DESKS: u64 = 4;
/// Bells that ring once, and bells that ring several times.
const BELLS: u64 = 3;
const TIMES: u64 = 3;

/// A paper has the number of the desk that gives it, and its place among those of that desk.
const PAPERS_MAX: u64 = 10_000;

fn builder(journal: impl Journal, open: &Open) -> casty::SystemBuilder {
    ActorSystem::builder("office")
        .journal(journal)
        .resource(open.clone())
}

/// The desk that gives papers. Another desk takes them: a desk that fails pauses, and could not
/// give any meanwhile.
fn giver(system: &ActorSystem, number: u64) -> DeskRef {
    system.entity::<Desk>(format!("giver-{number}"))
}

fn taker(system: &ActorSystem, number: u64) -> DeskRef {
    system.entity::<Desk>(format!("taker-{number}"))
}

/// Each giver gives these papers, one after the other, to all takers in turn. What is not answered
/// is asked again by its key.
async fn give(system: &ActorSystem, papers: std::ops::Range<u64>) {
    let desks = (0..DESKS).map(|number| {
        let papers = papers.clone();
        async move {
            for paper in papers {
                let to = taker(system, (number + paper) % DESKS);
                let paper = number * PAPERS_MAX + paper;
                let given = giver(system, number).give(paper, to);
                let given = given.key(format!("paper {paper}")).retry_for(STEP_LIMIT);
                given.await.expect("given");
            }
        }
    });
    futures_util::future::join_all(desks).await;
}

/// Sets all bells. The records that say so are soon part of a snapshot, and of what the shards have
/// noted, alone.
async fn set(system: &ActorSystem) {
    let bells = (0..BELLS).map(|number| async move {
        let once = system.entity::<Bell>(format!("once-{number}"));
        let set = once.set(number + 1).key("set").retry_for(STEP_LIMIT);
        set.await.expect("set");
        let again = system.entity::<Bell>(format!("again-{number}"));
        let set = again.repeat(TIMES).key("set").retry_for(STEP_LIMIT);
        set.await.expect("set");
        for _ in 0..70 {
            for bell in [&once, &again] {
                let polished = bell.polish().retry_for(STEP_LIMIT);
                polished.await.expect("polished");
            }
        }
    });
    futures_util::future::join_all(bells).await;
}

async fn lines(system: &ActorSystem) -> Vec<String> {
    let archive = system.entity::<Archive>("archive");
    let lines = archive.lines().retry_for(STEP_LIMIT);
    lines.await.expect("the lines")
}

/// Waits until all is filed, and compares it with what the desks and the bells have. `papers`: how
/// many each desk has given.
async fn check(system: &ActorSystem, papers: u64) {
    let rings = BELLS + BELLS * TIMES;
    let enough = 2 * DESKS * papers + rings;
    let look = || lines(system);
    let filed = |lines: &Vec<String>| lines.len() as u64 >= enough;
    let lines = eventually("all is filed", look, filed).await;
    let mut once = BTreeSet::new();
    let twice: Vec<_> = lines.iter().filter(|line| !once.insert(*line)).collect();
    assert!(twice.is_empty(), "filed again: {twice:?}");
    assert_eq!(lines.len() as u64, enough);
    let of = |who: &str, what: &str| {
        let start = format!("{who} {what} ");
        let of = lines.iter().filter_map(|line| line.strip_prefix(&start));
        of.map(|number| number.parse().expect("a number"))
            .collect::<Vec<u64>>()
    };
    let mut taken = Vec::new();
    for number in 0..DESKS {
        let report = taker(system, number).report().retry_for(STEP_LIMIT);
        taken.push(report.await.expect("a report").taken);
    }
    for (number, taken) in (0..DESKS).zip(&taken) {
        // One shard sends these lines to one entity, so they are in order.
        let name = format!("taker-{number}");
        assert_eq!(of(&name, "took"), *taken, "{name}");
        // And each desk takes the papers of another one in order.
        for from in 0..DESKS {
            let is_from = |paper: &&u64| **paper / PAPERS_MAX == from;
            let found: Vec<_> = taken.iter().filter(is_from).copied().collect();
            let sent = (0..papers).filter(|paper| (from + paper) % DESKS == number);
            let sent: Vec<_> = sent.map(|paper| from * PAPERS_MAX + paper).collect();
            assert_eq!(found, sent, "from {from} to {number}");
        }
    }
    for number in 0..DESKS {
        let name = format!("giver-{number}");
        let report = giver(system, number).report().retry_for(STEP_LIMIT);
        let report = report.await.expect("a report");
        let own = |paper| number * PAPERS_MAX + paper;
        assert_eq!(report.given, (0..papers).map(own).collect::<Vec<_>>());
        let settled: Vec<_> = report.settled.iter().map(|(paper, _)| *paper).collect();
        assert_eq!(of(&name, "settled"), settled, "{name}");
        assert_eq!(settled.len() as u64, papers, "{name}");
        for (paper, place) in &report.settled {
            let to = (number + paper % PAPERS_MAX) % DESKS;
            let taken = &taken[usize::try_from(to).expect("a few")];
            assert_eq!(taken[place - 1], *paper, "{name} knows another place");
        }
    }
    check_bells(system, of, &lines).await;
}

async fn check_bells(system: &ActorSystem, of: impl Fn(&str, &str) -> Vec<u64>, lines: &[String]) {
    for number in 0..BELLS {
        for (kind, times) in [("once", 1), ("again", TIMES)] {
            let name = format!("{kind}-{number}");
            let all: Vec<u64> = (1..=times).collect();
            assert_eq!(of(&name, "rang"), all, "{name}");
            let bell = system.entity::<Bell>(name.as_str());
            let look = || async { bell.report().retry_for(STEP_LIMIT).await.expect("a report") };
            let has_heard = |report: &(u64, Vec<usize>)| report.1.len() as u64 >= times;
            let (rung, filed) = eventually("it knows what is filed", look, has_heard).await;
            assert_eq!(rung, times, "{name}");
            for (place, count) in filed.iter().zip(all) {
                assert_eq!(lines[place - 1], format!("{name} rang {count}"));
            }
        }
    }
}

/// Sends and reminders on a store from which systems start again, each of which ends with something
/// to be done. After the last start only the archive is asked.
pub(crate) async fn all_is_taken_once_after_restarts<J: Journal>(connect: impl AsyncFn() -> J) {
    let open = Open::default();
    let start = async || {
        let system = builder(connect().await, &open).start_local();
        system.expect("started")
    };
    // Nothing is taken in the first two systems: all of it has to be found in the store. There is
    // so much of it that the shards of the givers have noted what is left.
    let system = start().await;
    set(&system).await;
    give(&system, 0..80).await;
    system.shutdown().await.expect("ended");
    let system = start().await;
    give(&system, 80..100).await;
    assert_eq!(lines(&system).await, Vec::<String>::new());
    system.shutdown().await.expect("ended");
    // From here on, some of it is under way when a system ends.
    open.0.store(true, Ordering::SeqCst);
    for round in 5..8 {
        let system = start().await;
        give(&system, round * 20..(round + 1) * 20).await;
        system.shutdown().await.expect("ended");
    }
    let system = start().await;
    check(&system, 160).await;
    system.shutdown().await.expect("ended");
    // Nor does another one find anything that is left.
    let system = start().await;
    give(&system, 160..161).await;
    check(&system, 161).await;
    system.shutdown().await.expect("ended");
}

/// The same of nodes that share the store: one of two dies, and the other one has its shards.
pub(crate) async fn all_is_taken_once_after_a_node_died<J: Journal>(connect: impl AsyncFn() -> J) {
    let open = Open::default();
    open.0.store(true, Ordering::SeqCst);
    let mut stores = vec![connect().await, connect().await];
    let node = |number| {
        let store = stores.remove(0);
        builder(store, &open).node_id(format!("node-{number}"))
    };
    let mut nodes = cluster_of(2, node).await;
    set(&nodes[0]).await;
    give(&nodes[0], 0..20).await;
    drop(nodes.remove(1));
    give(&nodes[0], 20..40).await;
    check(&nodes[0], 40).await;
    shutdown(nodes).await;
}
