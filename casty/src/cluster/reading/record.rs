//! Orders to the flight recorder of the node where an entity lives.

use serde::Serialize;

use super::{
    nodes::Nodes,
    reader::{HistoryReader, of_owner},
    why::owner_of,
};
use crate::{
    cluster::peers::reads::{PastBody, Read, ReadAnswer, RecordOrder, RecorderLook},
    error::StoredError,
    id::{EntityId, ShardId},
    recorder::{Recording, recording::RecordedJournal},
};

/// How many bytes of records a recording has at most.
const JOURNAL_BYTES_MAX: usize = 128 * 1024 * 1024;

/// What the [flight recorder](crate::recorder) has of an entity, in numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RecorderReport {
    /// How many messages it has.
    pub messages: u64,
    /// How many it keeps at least.
    pub messages_kept: u64,
    /// Whether an operator asked for it. Else the type of the entity says `record`.
    pub was_asked_for: bool,
}

/// Has an entity recorded from now on.
pub(crate) async fn begin(
    nodes: &dyn Nodes,
    kind: &str,
    id: &EntityId,
    messages: Option<u32>,
) -> Result<RecorderReport, StoredError> {
    let order = RecordOrder::Begin { turns: messages };
    let look = record(nodes, kind, id, order).await?;
    report(&look).ok_or_else(|| StoredError::Unreachable {
        reason: "an operator has switched it off again".to_owned(),
    })
}

/// Has an entity recorded no more. Returns what is recorded all the same.
pub(crate) async fn end(
    nodes: &dyn Nodes,
    kind: &str,
    id: &EntityId,
) -> Result<Option<RecorderReport>, StoredError> {
    let look = record(nodes, kind, id, RecordOrder::End).await?;
    Ok(report(&look))
}

/// What is recorded of an entity, or was when it `failed` last.
pub(crate) async fn tell(
    nodes: &dyn Nodes,
    kind: &str,
    id: &EntityId,
    failed: bool,
) -> Result<Option<Recording>, StoredError> {
    let order = if failed {
        RecordOrder::TellFailed
    } else {
        RecordOrder::Tell
    };
    let look = record(nodes, kind, id, order).await?;
    opened(look)
}

/// What is recorded of an entity, and what is stored of it.
pub(crate) async fn tell_stored(
    nodes: &dyn Nodes,
    kind: &str,
    id: &EntityId,
) -> Result<Recording, StoredError> {
    let recorded = tell(nodes, kind, id, false).await?;
    let mut reader = HistoryReader::new(kind.to_owned(), id.clone());
    let (mut records, mut bytes, mut too_large) = (Vec::new(), 0, None);
    while too_large.is_none()
        && let Some(page) = reader.next_page(nodes).await?
    {
        for record in page {
            let PastBody::Whole(body) = record.body else {
                too_large = Some(record.seq);
                break;
            };
            bytes += body.len();
            records.push((record.seq, body));
        }
        if bytes > JOURNAL_BYTES_MAX {
            let reason = format!(
                "`{kind}/{id}` has more than {JOURNAL_BYTES_MAX} bytes of records, which is more \
                 than a recording has"
            );
            return Err(StoredError::Unusable { reason });
        }
    }
    let mut recording = match recorded {
        Some(recording) => recording,
        None => Recording::empty(kind, id.as_str(), home_of(nodes, kind, id)?),
    };
    // Read last: what was forgotten meanwhile is in it.
    let look = record(nodes, kind, id, RecordOrder::TellSnapshot).await?;
    recording.journal = Some(RecordedJournal {
        snapshot: look.snapshot,
        records,
        too_large,
    });
    Ok(recording)
}

/// The name of the node where an entity lives.
fn home_of(nodes: &dyn Nodes, kind: &str, id: &EntityId) -> Result<String, StoredError> {
    let owner = match nodes.map()?.as_deref() {
        Some(map) => owner_of(map, kind, id)?.1,
        None => None,
    };
    Ok(owner.map_or_else(
        || "this node".to_owned(),
        |(member, _)| member.node.to_string(),
    ))
}

fn opened(look: RecorderLook) -> Result<Option<Recording>, StoredError> {
    let opened = look.recording.map(|bytes| Recording::from_bytes(&bytes));
    opened
        .transpose()
        .map_err(|error| StoredError::Unreachable {
            reason: format!("its node sends a recording that cannot be read: {error}"),
        })
}

fn report(look: &RecorderLook) -> Option<RecorderReport> {
    let (messages, messages_kept, was_asked_for) = look.ring?;
    Some(RecorderReport {
        messages,
        messages_kept,
        was_asked_for,
    })
}

/// Gives an order, and returns what the recorder has of the entity.
///
/// # Errors
/// No node owns the entity's shard, or its owner gives no answer.
async fn record(
    nodes: &dyn Nodes,
    kind: &str,
    id: &EntityId,
    order: RecordOrder,
) -> Result<RecorderLook, StoredError> {
    id.check()?;
    let shard = match nodes.map()?.as_deref() {
        None => ShardId(0),
        Some(map) => match owner_of(map, kind, id)? {
            (shard, Some(_)) => shard,
            (shard, None) => {
                let reason = format!(
                    "no node owns shard {} of `{kind}`, so there is nothing to record; a message \
                     to the entity gives it a home",
                    shard.0
                );
                return Err(StoredError::Unreachable { reason });
            }
        },
    };
    let read = || Read::Record {
        kind: kind.to_owned(),
        id: id.clone(),
        order,
    };
    match of_owner(nodes, kind, shard, read).await? {
        ReadAnswer::Record(look) => Ok(*look),
        _ => Err(StoredError::Unreachable {
            reason: "the owner of the entity answers something else".to_owned(),
        }),
    }
}
