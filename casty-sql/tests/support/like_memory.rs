//! A store does what `Memory` does: both are given the same random work.

use std::collections::BTreeMap;

use casty::{
    id::{EntityId, Epoch},
    persistence::{Append, Appended, ClaimError, Journal, Memory, Page, Snapshot},
};

use super::{Random, all, kinds, log, record};

const SHARDS_USED: u64 = 3;
/// Ids that need care in SQL: they are not in the order of a language, and have odd bytes.
const ENTITIES: [&str; 7] = ["a", "B", "ä", "a\0b", "a\x01b", "it's", "\u{1F600}"];

/// What the test knows of a log, as its owner would.
#[derive(Default)]
struct Known {
    epoch: Epoch,
    head: u64,
    seqs: BTreeMap<&'static str, u64>,
}

/// Does `steps` random things to `store` and to `Memory`, and compares all answers.
pub(crate) async fn compare(store: &dyn Journal, seed: u64, steps: u32) {
    let memory = Memory::new();
    let mut random = Random::new(seed);
    let kinds = kinds();
    assert_eq!(store.open(&kinds).await, memory.open(&kinds).await);
    let mut logs: Vec<Known> = (0..SHARDS_USED).map(|_| Known::default()).collect();
    for step in 0..steps {
        let context = format!("seed {seed}, step {step}");
        match random.below(10) {
            0 => claim(store, &memory, &mut random, &mut logs, &context).await,
            1..=4 => append(store, &memory, &mut random, &mut logs, &context).await,
            5 => save(store, &memory, &mut random, &logs, &context).await,
            6 => forget(store, &memory, &mut random, &logs, &context).await,
            _ => read(store, &memory, &mut random, &context).await,
        }
    }
    for shard in 0..SHARDS_USED {
        let log = log(u32::try_from(shard).expect("small"));
        let (stored, expected) = (all(store, &log).await, all(&memory, &log).await);
        assert_eq!(stored, expected, "seed {seed}");
    }
}

async fn claim(
    store: &dyn Journal,
    memory: &Memory,
    random: &mut Random,
    logs: &mut [Known],
    context: &str,
) {
    let shard = random.below(SHARDS_USED);
    let known = &mut logs[usize::try_from(shard).expect("small")];
    // Mostly later ones, up to those with the upper bit; sometimes the same or an earlier one.
    let epoch = match random.below(6) {
        0 => known.epoch,
        1 => Epoch(known.epoch.0.saturating_sub(random.below(3))),
        2 => Epoch(known.epoch.0 | 1 << (56 + random.below(8))),
        _ => Epoch(known.epoch.0 + 1 + random.below(3)),
    };
    let owner = ["node-1#1", "node\0-2"][usize::from(random.below(4) == 0)];
    // Epoch 0 is the one of a log that was never claimed.
    let epoch = epoch.max(Epoch(1));
    let log = log(u32::try_from(shard).expect("small"));
    let expected = memory.claim(&log, epoch, owner).await;
    let claimed = store.claim(&log, epoch, owner).await;
    assert_eq!(claimed, expected, "claim at {context}");
    match claimed {
        Ok(head) => {
            known.epoch = epoch;
            assert_eq!(head, known.head, "{context}");
        }
        Err(ClaimError::Fenced { epoch, .. }) => assert_eq!(epoch, known.epoch),
        Err(error) => panic!("{error} at {context}"),
    }
}

async fn append(
    store: &dyn Journal,
    memory: &Memory,
    random: &mut Random,
    logs: &mut [Known],
    context: &str,
) {
    let (mut batch, mut written) = (Vec::new(), Vec::new());
    for (shard, known) in (0..).zip(logs.iter()) {
        if random.below(3) == 0 || known.epoch == Epoch(0) {
            continue;
        }
        // Sometimes a part has an earlier epoch, or does not follow the head.
        let epoch = Epoch(known.epoch.0 - u64::from(random.below(8) == 0));
        let first = known.head + 1 + u64::from(random.below(8) == 0);
        let mut seqs = known.seqs.clone();
        let most = if random.below(6) == 0 { 300 } else { 5 };
        let count = 1 + random.below(most);
        let records = (first..first + count).map(|position| {
            let index = usize::try_from(random.below(ENTITIES.len() as u64)).expect("small");
            let entity = ENTITIES[index];
            let seq = seqs.entry(entity).or_default();
            *seq += 1;
            record(position, epoch, entity, *seq)
        });
        let records: Vec<_> = records.collect();
        written.push((shard, first + count - 1, seqs));
        let log = log(shard);
        batch.push(Append {
            log,
            epoch,
            records,
        });
    }
    let expected = memory.append(batch.clone()).await;
    let appended = store.append(batch).await;
    assert_eq!(appended, expected, "append at {context}");
    for (answer, (shard, head, seqs)) in appended.expect("an answer").iter().zip(written) {
        if *answer == Appended::Written {
            let known = &mut logs[shard as usize];
            known.head = head;
            known.seqs = seqs;
        }
    }
}

/// A log, an entity of it, and its last number.
fn some<'a>(random: &mut Random, logs: &'a [Known]) -> Option<(u32, &'a Known, EntityId, u64)> {
    let shard = random.below(SHARDS_USED);
    let known = &logs[usize::try_from(shard).expect("small")];
    let index = usize::try_from(random.below(known.seqs.len().max(1) as u64)).expect("small");
    let (entity, seq) = known.seqs.iter().nth(index)?;
    let shard = u32::try_from(shard).expect("small");
    Some((shard, known, EntityId::new(entity), *seq))
}

async fn save(
    store: &dyn Journal,
    memory: &Memory,
    random: &mut Random,
    logs: &[Known],
    context: &str,
) {
    let Some((shard, known, entity, seq)) = some(random, logs) else {
        return;
    };
    let snapshot = Snapshot {
        seq: seq.saturating_sub(random.below(4)),
        at: 5,
        body: format!("snapshot of {context}").into_bytes().into(),
    };
    let epoch = Epoch(known.epoch.0 - u64::from(random.below(5) == 0));
    let log = log(shard);
    let expected = memory.save(&log, epoch, &entity, snapshot.clone()).await;
    let saved = store.save(&log, epoch, &entity, snapshot).await;
    assert_eq!(saved, expected, "save at {context}");
}

async fn forget(
    store: &dyn Journal,
    memory: &Memory,
    random: &mut Random,
    logs: &[Known],
    context: &str,
) {
    let Some((shard, known, entity, seq)) = some(random, logs) else {
        return;
    };
    let through = seq.saturating_sub(random.below(4));
    let snapshot = random.below(2) == 0;
    let epoch = Epoch(known.epoch.0 - u64::from(random.below(5) == 0));
    let log = log(shard);
    let expected = memory.forget(&log, epoch, &entity, through, snapshot).await;
    let forgotten = store.forget(&log, epoch, &entity, through, snapshot).await;
    assert_eq!(forgotten, expected, "forget at {context}");
}

async fn read(store: &dyn Journal, memory: &Memory, random: &mut Random, context: &str) {
    let log = log(u32::try_from(random.below(SHARDS_USED)).expect("small"));
    let index = usize::try_from(random.below(ENTITIES.len() as u64)).expect("small");
    let entity = EntityId::new(ENTITIES[index]);
    let after = random.below(50);
    let page = Page {
        records: usize::try_from(random.below(20)).expect("small"),
        bytes: usize::try_from(random.below(300)).expect("small"),
    };
    assert_eq!(
        store.read_log(&log, after, page).await,
        memory.read_log(&log, after, page).await,
        "read_log at {context}"
    );
    assert_eq!(
        store.read_entity(&log, &entity, after, page).await,
        memory.read_entity(&log, &entity, after, page).await,
        "read_entity at {context}"
    );
    assert_eq!(
        store.load(&log, &entity).await,
        memory.load(&log, &entity).await,
        "load at {context}"
    );
    let (after, limit) = (
        Some(&entity).filter(|_| random.below(2) == 0),
        1 + page.records,
    );
    assert_eq!(
        store.entities(&log, after, limit).await,
        memory.entities(&log, after, limit).await,
        "entities at {context}"
    );
}
