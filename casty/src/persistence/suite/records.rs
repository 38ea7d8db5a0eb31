//! What is appended, and what is read.

use bytes::Bytes;

use crate::{
    id::{ENTITY_ID_BYTES_MAX, EntityId},
    persistence::{
        Appended, Page, Record,
        suite::fixture::{Fixture, Outcome, ensure, ensure_eq, log, part, record, records},
    },
};

pub(super) async fn dense_positions(fixture: &Fixture) -> Outcome {
    let kind = "suite/dense-positions";
    let one = fixture.open(kind).await?;
    let log = log(kind, 0);
    one.claim(&log, 1, "a").await?;
    let refused = |position| (records(position, position, 1, "x", "astray"), position);
    for (astray, position) in [refused(2), refused(7)] {
        let appended = one.append(&log, 1, astray).await?;
        ensure_eq!(
            appended,
            Appended::Refused,
            "an append at position {position} to an empty log"
        );
    }
    one.write(&log, 1, records(1, 3, 1, "x", "body")).await?;
    for (astray, position) in [refused(1), refused(3), refused(5)] {
        let appended = one.append(&log, 1, astray).await?;
        ensure_eq!(
            appended,
            Appended::Refused,
            "an append at position {position} to a log with head 3"
        );
    }
    let mut gap = records(4, 5, 1, "x", "astray");
    gap[1].position = 6;
    for (astray, what) in [(gap, "with a gap"), (Vec::new(), "of no records")] {
        let appended = one.append(&log, 1, astray).await?;
        ensure_eq!(appended, Appended::Refused, "an append {what}");
    }
    one.write(&log, 1, records(4, 4, 1, "x", "body")).await?;
    let read = one.all_of_log(&log).await?;
    ensure_eq!(read, records(1, 4, 1, "x", "body"), "the log");
    let head = one.claim(&log, 1, "a").await?;
    ensure_eq!(head, 4, "the head");
    Ok(())
}

pub(super) async fn batches(fixture: &Fixture) -> Outcome {
    let kind = "suite/batches";
    let (one, other) = (fixture.open(kind).await?, fixture.open(kind).await?);
    let logs: Vec<_> = (0..6).map(|shard| log(kind, shard)).collect();
    for log in &logs {
        one.claim(log, 7, "a").await?;
    }
    // Shard 5 has an epoch of its own, as shards that came to this node one after the other.
    one.claim(&logs[5], 8, "a").await?;
    other.claim(&logs[2], 9, "b").await?;
    let entity = |shard: usize| format!("entity of shard {shard}");
    let of = |shard: usize, epoch| {
        let made = records(1, 2, epoch, &entity(shard), "body");
        part(&logs[shard], epoch, made)
    };
    // Not in the order of the shards. One part is fenced, and one does not follow its head.
    let astray = part(&logs[3], 7, records(2, 2, 7, &entity(3), "astray"));
    let parts = vec![of(4, 7), of(2, 7), of(0, 7), astray, of(5, 8), of(1, 7)];
    let appended = one.batch(parts).await?;
    let (written, refused) = (Appended::Written, Appended::Refused);
    ensure_eq!(
        appended,
        [written, refused, written, refused, written, written],
        "the answers to a batch with a fenced part and one that does not follow its head"
    );
    for (shard, log) in logs.iter().enumerate() {
        let expected = match shard {
            2 | 3 => Vec::new(),
            5 => records(1, 2, 8, &entity(5), "body"),
            _ => records(1, 2, 7, &entity(shard), "body"),
        };
        let read = other.all_of_log(log).await?;
        ensure_eq!(read, expected, "what the batch left of {log}");
    }
    // What was refused can be written after all, at the head.
    one.write(&logs[3], 7, records(1, 1, 7, &entity(3), "body"))
        .await?;
    let large: Vec<_> = [0, 1]
        .map(|shard| {
            let made = records(3, 402, 7, &entity(shard), "of many");
            part(&logs[shard], 7, made)
        })
        .into();
    ensure_eq!(
        one.batch(large).await?,
        [written, written],
        "a batch of 800 records"
    );
    for shard in [0, 1] {
        let read = other.all_of_log(&logs[shard]).await?;
        ensure_eq!(read.len(), 402, "the records after a batch of 800");
        let of_entity = other.all_of_entity(&logs[shard], &entity(shard)).await?;
        ensure_eq!(of_entity, read, "the records of its only entity");
    }
    Ok(())
}

pub(super) async fn reads(fixture: &Fixture) -> Outcome {
    let kind = "suite/reads";
    let (one, other) = (fixture.open(kind).await?, fixture.open(kind).await?);
    let (log, empty) = (log(kind, 0), log(kind, 1));
    one.claim(&log, 1, "a").await?;
    // Three entities in turn.
    let all: Vec<Record> = (0..30)
        .map(|n| {
            let (entity, seq) = (["x", "y", "z"][n % 3], n as u64 / 3 + 1);
            let body = format!("{entity}{seq}");
            record(n as u64 + 1, 1, entity, seq, &body)
        })
        .collect();
    for some in all.chunks(7) {
        one.write(&log, 1, some.to_vec()).await?;
    }
    for connection in [&one, &other] {
        ensure_eq!(connection.all_of_log(&log).await?, all, "the log");
        for entity in ["x", "y", "z"] {
            let of_it = all.iter().filter(|record| record.entity.as_str() == entity);
            let of_it: Vec<_> = of_it.cloned().collect();
            let read = connection.all_of_entity(&log, entity).await?;
            ensure_eq!(read, of_it, "the records of `{entity}`");
            let tail = connection
                .page_of_entity(&log, entity, 8, Page::default())
                .await?;
            ensure_eq!(tail, of_it[8..], "the records of `{entity}` after the 8th");
        }
        let page = connection.page_of_log(&log, 28, Page::default()).await?;
        ensure_eq!(page, all[28..], "the log after position 28");
        let page = connection.page_of_log(&log, 30, Page::default()).await?;
        ensure_eq!(page, [], "the log after its head");
        let nobody = connection.all_of_entity(&log, "nobody").await?;
        ensure_eq!(nobody, [], "an entity without records");
        ensure_eq!(connection.all_of_log(&empty).await?, [], "an empty log");
    }
    Ok(())
}

pub(super) async fn pages(fixture: &Fixture) -> Outcome {
    const BODY: usize = 1000;
    let kind = "suite/pages";
    let one = fixture.open(kind).await?;
    let log = log(kind, 0);
    one.claim(&log, 1, "a").await?;
    let body = "b".repeat(BODY);
    one.write(&log, 1, records(1, 40, 1, "x", &body)).await?;
    let page = |records, bytes| Page { records, bytes };
    for (page, most) in [
        (page(1, 1 << 20), 1),
        (page(7, 1 << 20), 7),
        (page(100, 5 * BODY), 5),
        (page(100, 0), 1),
        (page(0, 0), 1),
        (page(3, 5 * BODY), 3),
    ] {
        let mut read = Vec::new();
        while read.len() < 40 {
            let after = read.len() as u64;
            let of_log = one.page_of_log(&log, after, page).await?;
            let of_entity = one.page_of_entity(&log, "x", after, page).await?;
            for (found, what) in [(&of_log, "read_log"), (&of_entity, "read_entity")] {
                ensure!(
                    !found.is_empty(),
                    "{what}: nothing after {after} in {page:?}"
                );
                // By bytes it is about as much as the page says.
                let most = if most == page.records || page.records == 0 {
                    most
                } else {
                    most + 1
                };
                ensure!(
                    found.len() <= most,
                    "{what}: {} records of {BODY} bytes in {page:?}",
                    found.len()
                );
            }
            read.extend(of_log);
        }
        ensure_eq!(
            read,
            records(1, 40, 1, "x", &body),
            "the log in pages of {page:?}"
        );
    }
    Ok(())
}

pub(super) async fn bodies(fixture: &Fixture) -> Outcome {
    let kind = "suite/bodies";
    let (one, other) = (fixture.open(kind).await?, fixture.open(kind).await?);
    let log = log(kind, 0);
    one.claim(&log, 1, "a").await?;
    let every_byte: Vec<u8> = (0..=255).collect();
    let large = |size: usize| every_byte.iter().copied().cycle().take(size).collect();
    let bodies: Vec<Vec<u8>> = vec![
        vec![],
        vec![0],
        vec![0; 17],
        vec![255; 3],
        b"text \\x00 ' \" ; --".to_vec(),
        every_byte.clone(),
        large(65_537),
        large(1 << 20),
    ];
    let mut all = Vec::new();
    let times = [0, 1, 4_102_444_800_000].into_iter().cycle();
    for ((body, at), number) in bodies.into_iter().zip(times).zip(1..) {
        let mut made = record(number, 1, "x", number, "");
        made.body = Bytes::from(body);
        made.at = at;
        all.push(made);
    }
    one.write(&log, 1, all.clone()).await?;
    let read = other.all_of_log(&log).await?;
    ensure_eq!(read.len(), all.len(), "the number of records");
    let read_of_entity = other.all_of_entity(&log, "x").await?;
    for (of, read) in [("log", &read), ("entity", &read_of_entity)] {
        for (found, written) in read.iter().zip(&all) {
            // The bodies themselves would fill pages.
            ensure!(
                found == written,
                "read_{of}: a body of {} bytes is not what was written, or another field is not",
                written.body.len()
            );
        }
    }
    let snapshot = crate::persistence::Snapshot {
        seq: 8,
        at: 4_102_444_800_000,
        body: large(1 << 20).into(),
    };
    one.save(&log, 1, "x", &snapshot).await?;
    ensure!(
        other.load(&log, "x").await? == Some(snapshot),
        "a snapshot of 1 MiB is not what was saved"
    );
    Ok(())
}

/// Ids of every kind. Ids that differ are different entities, however alike.
fn odd_ids() -> Vec<String> {
    let longest = "l".repeat(ENTITY_ID_BYTES_MAX);
    let almost = format!("{}m", &longest[1..]);
    let widest = "\u{10ffff}".repeat(ENTITY_ID_BYTES_MAX / 4);
    let mut ids: Vec<String> = [
        " ",
        "  ",
        "a",
        "A",
        "a ",
        " a",
        "\t",
        "\n",
        "\\",
        "\\0",
        "%",
        "_",
        "'",
        "\"",
        "';--",
        "ä",
        "a\u{308}",
        "Ä",
        "ß",
        "ss",
        "ſ",
        "İ",
        "i",
        "ı",
        "\u{200b}",
        "\u{feff}",
        "日本",
        "🦀",
        "\u{1f980}\u{fe0f}",
        "null",
        "NULL",
        "0",
        "00",
        "1e3",
        "{}",
        "a/b",
        "a\u{7f}b",
        "\u{1}",
        "\u{80}",
        "\u{7ff}",
        "\u{800}",
        "\u{ffff}",
        "\u{10000}",
    ]
    .map(str::to_owned)
    .into();
    ids.extend([longest, almost, widest]);
    ids
}

pub(super) async fn ids(fixture: &Fixture) -> Outcome {
    let kind = "suite/ids 'Größe' \"日本\"";
    let (one, other) = (fixture.open(kind).await?, fixture.open(kind).await?);
    let log = log(kind, 0);
    one.claim(&log, 1, "a").await?;
    let ids = odd_ids();
    let all: Vec<_> = ids
        .iter()
        .zip(1..)
        .map(|(id, position)| record(position, 1, id, 1, &format!("body {position}")))
        .collect();
    one.write(&log, 1, all.clone()).await?;
    ensure_eq!(other.all_of_log(&log).await?, all, "the log");
    for (id, record) in ids.iter().zip(&all) {
        let read = other.all_of_entity(&log, id).await?;
        ensure_eq!(read, std::slice::from_ref(record), "the records of {id:?}");
        let saved = super::fixture::snapshot(1, &format!("state of {}", record.position));
        one.save(&log, 1, id, &saved).await?;
    }
    for (id, position) in ids.iter().zip(1..) {
        let saved = super::fixture::snapshot(1, &format!("state of {position}"));
        let loaded = other.load(&log, id).await?;
        ensure_eq!(loaded, Some(saved), "the snapshot of {id:?}");
    }
    let mut in_order: Vec<_> = ids.iter().map(EntityId::new).collect();
    in_order.sort_by(|one, other| one.as_str().as_bytes().cmp(other.as_str().as_bytes()));
    let mut read = Vec::new();
    loop {
        let after: Option<EntityId> = read.last().cloned();
        let after = after.as_ref().map(EntityId::as_str);
        let page = other.entities(&log, after, 7).await?;
        ensure!(
            page.len() <= 7,
            "{} entities where 7 were asked for",
            page.len()
        );
        if page.is_empty() {
            break;
        }
        ensure!(
            read.len() <= ids.len(),
            "pages of entities never end: an entity comes twice"
        );
        read.extend(page.into_iter().map(|found| found.entity));
    }
    ensure_eq!(
        read,
        in_order,
        "the entities in pages, in the order of their ids as bytes"
    );
    Ok(())
}

/// Records of the shard itself: their id is empty, and some of their numbers may be missing.
pub(super) async fn of_the_shard(fixture: &Fixture) -> Outcome {
    let kind = "suite/of-the-shard";
    let (one, other) = (fixture.open(kind).await?, fixture.open(kind).await?);
    let log = log(kind, 0);
    one.claim(&log, 1, "a").await?;
    let all = vec![
        record(1, 1, "x", 1, "of x"),
        record(2, 1, "", 1, "first"),
        record(3, 1, "", 3, "second"),
        record(4, 1, "x", 2, "of x"),
    ];
    one.write(&log, 1, all.clone()).await?;
    ensure_eq!(other.all_of_log(&log).await?, all, "the log");
    let read = other.all_of_entity(&log, "").await?;
    ensure_eq!(read, all[1..3], "the records of the shard itself");
    one.forget(&log, 1, "", 2, true).await?;
    let bodies = other.all_of_entity(&log, "").await?;
    let bodies: Vec<_> = bodies.into_iter().map(|record| record.body).collect();
    ensure_eq!(bodies, ["", "second"], "what is left of them");
    let listed = other.entities(&log, None, 10).await?;
    let listed: Vec<_> = listed.into_iter().map(|found| found.entity).collect();
    ensure_eq!(listed, [EntityId::new("x")], "the entities");
    Ok(())
}
