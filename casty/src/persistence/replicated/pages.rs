//! Pages of records that are read for a copy.

use std::{collections::BTreeSet, sync::Arc};

use casty_log::{LogId, Page, ReadError, Reader};

use super::body::{CopiedBody, Forgotten};
use crate::{
    id::Epoch,
    infra::mutants,
    persistence::local::{OpenDirectory, blocking},
    protocol::copies::CopiedRecord,
};

/// How many records a page has at most.
const RECORDS: usize = 4096;

/// The records of a log after a position, about so many bytes. Those that are forgotten say what
/// stands for them.
pub(super) async fn read(
    directory: Arc<OpenDirectory>,
    log: LogId,
    after: u64,
    bytes: usize,
) -> Result<Vec<CopiedRecord>, ReadError> {
    let page = Page {
        records: RECORDS,
        bytes,
    };
    let read = blocking(move || read_bounded(directory.engine.reader(), log, after, page));
    read.await
        .unwrap_or_else(|error| Err(ReadError::Io(error.to_string())))
}

/// Snapshots count too: with fewer records there are fewer of them.
fn read_bounded(
    reader: &Reader,
    log: LogId,
    after: u64,
    mut page: Page,
) -> Result<Vec<CopiedRecord>, ReadError> {
    loop {
        let copied = read_here(reader, log, after, page)?;
        let bytes: usize = copied.iter().map(|record| record.body.len()).sum();
        if copied.len() <= 1 || bytes / 4 <= page.bytes.max(copied.len() * 64) {
            return Ok(copied);
        }
        page.records = copied.len() / 2;
    }
}

fn read_here(
    reader: &Reader,
    log: LogId,
    after: u64,
    page: Page,
) -> Result<Vec<CopiedRecord>, ReadError> {
    let records = reader.read_log(log, after, page)?;
    let mut said = BTreeSet::new();
    let mut copied = Vec::with_capacity(records.len());
    // From the last one: it speaks for the earlier ones of its entity.
    for record in records.into_iter().rev() {
        let as_it_is = mutants::on("what_is_forgotten_is_copied_as_it_is");
        let forgotten = if !record.body.is_empty() || as_it_is {
            None
        } else if !said.insert(record.entity.clone()) {
            Some(Forgotten::Later)
        } else {
            // Later than the record, or as late: a record is forgotten when a snapshot has it.
            let snapshot = reader.snapshot(log, &record.entity)?;
            let contains = snapshot.filter(|snapshot| snapshot.seq >= record.seq);
            Some(contains.map_or(Forgotten::Erased, Forgotten::Snapshot))
        };
        let body = CopiedBody {
            seq: record.seq,
            at: record.at,
            entity: record.entity,
            body: record.body,
            forgotten,
        };
        copied.push(CopiedRecord {
            epoch: Epoch(record.epoch),
            body: body.encode(),
        });
    }
    copied.reverse();
    Ok(copied)
}
