//! Snapshots, what is forgotten, and what is left of it.

use crate::persistence::{
    StoredEntity,
    suite::fixture::{Fixture, Outcome, ensure_eq, log, record, records, snapshot},
};

pub(super) async fn snapshots(fixture: &Fixture) -> Outcome {
    let kind = "suite/snapshots";
    let (one, other) = (fixture.open(kind).await?, fixture.open(kind).await?);
    let (log, elsewhere) = (log(kind, 0), log(kind, 1));
    for log in [&log, &elsewhere] {
        one.claim(log, 1, "a").await?;
        one.write(log, 1, records(1, 9, 1, "x", "body")).await?;
    }
    one.write(&log, 1, vec![record(10, 1, "y", 1, "body")])
        .await?;
    ensure_eq!(one.load(&log, "x").await?, None, "before any snapshot");
    let (fifth, seventh) = (snapshot(5, "the 5th"), snapshot(7, "the 7th"));
    one.save(&log, 1, "x", &fifth).await?;
    for (entity, log) in [("y", &log), ("x", &elsewhere), ("nobody", &log)] {
        let loaded = other.load(log, entity).await?;
        ensure_eq!(loaded, None, "`{entity}` of {log}, without a snapshot");
    }
    one.save(&log, 1, "x", &seventh).await?;
    ensure_eq!(
        other.load(&log, "x").await?,
        Some(seventh.clone()),
        "the later snapshot"
    );
    let again = snapshot(7, "the 7th again");
    for (stale, what) in [(&fifth, "earlier"), (&again, "of the same record")] {
        one.save(&log, 1, "x", stale).await?;
        let loaded = other.load(&log, "x").await?;
        ensure_eq!(
            loaded,
            Some(seventh.clone()),
            "after a snapshot that is {what}"
        );
    }
    other.claim(&log, 3, "b").await?;
    let ninth = snapshot(9, "the 9th");
    for epoch in [1, 2, 4] {
        one.save(&log, epoch, "x", &ninth).await?;
        let loaded = other.load(&log, "x").await?;
        ensure_eq!(
            loaded,
            Some(seventh.clone()),
            "after a snapshot under epoch {epoch}, while epoch 3 stands"
        );
    }
    other.save(&log, 3, "x", &ninth).await?;
    ensure_eq!(
        one.load(&log, "x").await?,
        Some(ninth),
        "under the epoch of the claim"
    );
    let read = one.all_of_entity(&log, "x").await?;
    ensure_eq!(
        read,
        records(1, 9, 1, "x", "body"),
        "the records, which a snapshot leaves alone"
    );
    Ok(())
}

pub(super) async fn forget(fixture: &Fixture) -> Outcome {
    let kind = "suite/forget";
    let (one, other) = (fixture.open(kind).await?, fixture.open(kind).await?);
    let log = log(kind, 0);
    one.claim(&log, 1, "a").await?;
    let mut all = records(1, 6, 1, "x", "of x");
    all.push(record(7, 1, "y", 1, "of y"));
    one.write(&log, 1, all.clone()).await?;
    let fourth = snapshot(4, "the 4th");
    one.save(&log, 1, "x", &fourth).await?;
    other.claim(&log, 2, "b").await?;
    one.forget(&log, 1, "x", 6, true).await?;
    ensure_eq!(
        other.all_of_log(&log).await?,
        all,
        "after something is forgotten under an earlier epoch"
    );
    ensure_eq!(
        other.load(&log, "x").await?,
        Some(fourth.clone()),
        "the same"
    );

    other.forget(&log, 2, "x", 3, true).await?;
    for record in &mut all[..3] {
        record.body.clear();
    }
    ensure_eq!(
        one.all_of_log(&log).await?,
        all,
        "the log, after three bodies of `x` are forgotten"
    );
    let of_x = one.all_of_entity(&log, "x").await?;
    ensure_eq!(of_x, all[..6], "the records of `x` after that");
    ensure_eq!(
        one.load(&log, "x").await?,
        Some(fourth.clone()),
        "a snapshot that contains later records than those forgotten"
    );
    other.forget(&log, 2, "x", 4, false).await?;
    all[3].body.clear();
    ensure_eq!(one.all_of_log(&log).await?, all, "after the fourth");
    ensure_eq!(
        one.load(&log, "x").await?,
        Some(fourth),
        "the snapshot, which was to be kept"
    );
    other.forget(&log, 2, "x", 4, true).await?;
    ensure_eq!(one.load(&log, "x").await?, None, "the snapshot, forgotten");
    for seq in [3, 4] {
        one.save(&log, 2, "x", &snapshot(seq, "late")).await?;
        let loaded = other.load(&log, "x").await?;
        ensure_eq!(
            loaded,
            None,
            "a snapshot as of record {seq}, which is forgotten"
        );
    }
    other.forget(&log, 2, "nobody", 4, true).await?;

    // The entity goes on: its numbers do.
    other
        .write(&log, 2, vec![record(8, 2, "x", 7, "anew")])
        .await?;
    all.push(record(8, 2, "x", 7, "anew"));
    ensure_eq!(one.all_of_log(&log).await?, all, "after a further record");
    let anew = snapshot(7, "anew");
    other.save(&log, 2, "x", &anew).await?;
    ensure_eq!(
        one.load(&log, "x").await?,
        Some(anew),
        "a snapshot after one that was forgotten"
    );
    Ok(())
}

pub(super) async fn entities(fixture: &Fixture) -> Outcome {
    let kind = "suite/entities";
    let (one, other) = (fixture.open(kind).await?, fixture.open(kind).await?);
    let (log, elsewhere) = (log(kind, 0), log(kind, 1));
    one.claim(&log, 1, "a").await?;
    one.claim(&elsewhere, 1, "a").await?;
    let names: Vec<String> = (0..20).map(|n| format!("entity-{n:02}")).collect();
    let mut written = Vec::new();
    for seq in 1..=2 {
        // Not in the order of their ids.
        for name in names.iter().rev() {
            let position = written.len() as u64 + 1;
            written.push(record(position, 1, name, seq, "body"));
        }
    }
    one.write(&log, 1, written.clone()).await?;
    one.write(&elsewhere, 1, vec![record(1, 1, "entity-05x", 1, "body")])
        .await?;
    let stored = |name: &str| {
        let last = written
            .iter()
            .rfind(|record| record.entity.as_str() == name);
        last.map(|last| StoredEntity {
            entity: last.entity.clone(),
            seq: last.seq,
            at: last.at,
        })
    };
    let all: Vec<_> = names.iter().filter_map(|name| stored(name)).collect();
    let some = |from: usize, to: usize| all[from..to].to_vec();
    for (after, limit, expected) in [
        (None, 100, some(0, 20)),
        (None, 6, some(0, 6)),
        (Some("entity-05"), 6, some(6, 12)),
        (Some("entity-05x"), 6, some(6, 12)),
        (Some("entity-17"), 6, some(18, 20)),
        (Some("entity-19"), 6, vec![]),
        (Some("a"), 1, some(0, 1)),
        (Some("z"), 1, vec![]),
    ] {
        let found = other.entities(&log, after, limit).await?;
        ensure_eq!(found, expected, "{limit} entities after {after:?}");
    }
    // Forgotten as a whole, in part, and with a snapshot that stays.
    one.forget(&log, 1, "entity-00", 2, true).await?;
    one.forget(&log, 1, "entity-01", 1, true).await?;
    one.save(&log, 1, "entity-02", &snapshot(2, "state"))
        .await?;
    one.forget(&log, 1, "entity-02", 2, false).await?;
    let found = other.entities(&log, None, 100).await?;
    ensure_eq!(
        found,
        some(1, 20),
        "the entities, one of which is forgotten as a whole"
    );
    let found = other.entities(&log, None, 2).await?;
    ensure_eq!(found, some(1, 3), "two of them");
    let found = other.entities(&elsewhere, None, 2).await?;
    let names: Vec<_> = found.iter().map(|found| found.entity.as_str()).collect();
    ensure_eq!(names, ["entity-05x"], "those of another log");
    Ok(())
}
