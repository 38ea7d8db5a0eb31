//! What the owner of a shard does besides records, on its way to the copies: see
//! [`Tidying`](crate::protocol::copies::Tidying), which decides.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use casty_log::{LogId, ReadError, Reader};
use tokio::{sync::oneshot, time::Instant};

use super::message::{StoreMessage, TidiedEntity, Tidy};
use crate::{
    id::Epoch,
    persistence::{
        JournalError,
        local::{OpenDirectory, blocking, unavailable},
    },
    protocol::copies::{
        CopiesView, LogPoint, StopOwning, StoreId, TidyEffect, TidyLimits, Tidying,
    },
};

/// The bounds of one shard.
const LIMITS: TidyLimits = TidyLimits {
    waiting: 1024,
    waiting_bytes: 128 << 10,
    erasures: 1024,
    again: Duration::from_millis(500),
    again_max: Duration::from_secs(30),
};

/// How long an erasure waits for the copies before the caller learns which ones have not done it.
/// They go on being told.
const ERASED_WITHIN: Duration = Duration::from_secs(5);

/// How much a page of what is tidied has, about.
const LISTED_MAX: usize = 256;
const LISTED_BYTES: usize = 128 << 10;

/// How many bytes are read at a time of what differs, but for one entity.
const MENDED_BYTES: usize = 64 << 10;

pub(super) type TidyAnswer = oneshot::Sender<Result<(), JournalError>>;

/// An erasure that is not answered.
struct Erasing {
    answer: TidyAnswer,
    is_here: bool,
    is_everywhere: bool,
    until: Instant,
}

/// The tidying of a shard that this store owns.
pub(super) struct Tidies {
    epoch: Epoch,
    machine: Tidying<Tidy>,
    erasing: BTreeMap<u64, Erasing>,
    /// When [`handle_time`](Self::handle_time) is due.
    deadline: Option<Instant>,
}

/// What differs between the owner and a copy.
pub(super) struct Differing {
    /// What the copy has to do, in the order of the ids.
    pub(super) mend: Vec<Arc<str>>,
    /// What the owner has to do.
    pub(super) fetch: Vec<Arc<str>>,
    /// Up to where they were compared. `None` if that was the end.
    pub(super) next: Option<Arc<str>>,
}

/// What was read of what is tidied, for another store.
pub(super) struct TidiesRead {
    pub(super) id: LogId,
    pub(super) epoch: Epoch,
    pub(super) to: StoreId,
    pub(super) why: Why,
    pub(super) read: Result<(Vec<Tidy>, Option<Arc<str>>), ReadError>,
}

/// What it is read for.
pub(super) enum Why {
    /// The owner mends a copy, which was compared up to this entity, or to the end.
    Mends(Option<Arc<str>>),
    /// The owner has asked for it.
    Fetched,
}

impl std::fmt::Debug for Tidies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tidies")
            .field("epoch", &self.epoch)
            .field("machine", &self.machine)
            .finish_non_exhaustive()
    }
}

impl Tidies {
    pub(super) fn new(epoch: Epoch) -> Self {
        Self {
            epoch,
            machine: Tidying::new(LIMITS),
            erasing: BTreeMap::new(),
            deadline: None,
        }
    }

    pub(super) fn epoch(&self) -> Epoch {
        self.epoch
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    pub(super) fn handle_view(&mut self, me: StoreId, view: &CopiesView, now: Instant) {
        let mut others = view.in_sync.clone();
        others.remove(&me);
        self.machine.handle_copies(&others, now);
    }

    /// Something is done in all copies. `None`: too many erasures wait for them.
    pub(super) fn add(&mut self, tidy: Tidy, now: Instant) -> Option<u64> {
        let is_erasure = matches!(tidy, Tidy::Erase { .. });
        let bytes = tidy.weight();
        self.machine.add(tidy, bytes, is_erasure, now)
    }

    /// An erasure is answered once it is done in all copies.
    pub(super) fn answer(&mut self, number: u64, answer: TidyAnswer, now: Instant) {
        let erasing = Erasing {
            answer,
            is_here: false,
            is_everywhere: false,
            until: now + ERASED_WITHIN,
        };
        self.erasing.insert(number, erasing);
    }

    /// An erasure is done here, or has failed here.
    pub(super) fn handle_erased(&mut self, number: u64, done: Result<(), JournalError>) {
        if let Some(erasing) = self.erasing.get_mut(&number) {
            erasing.is_here = true;
        }
        match done {
            Ok(()) => self.settle(number),
            Err(error) => {
                if let Some(erasing) = self.erasing.remove(&number) {
                    // The caller may be gone.
                    let _ = erasing.answer.send(Err(error));
                }
            }
        }
    }

    pub(super) fn handle_done(&mut self, from: StoreId, number: u64, now: Instant) {
        self.machine.handle_done(from, number, now);
    }

    pub(super) fn handle_same(&mut self, from: StoreId) {
        self.machine.handle_same(from);
    }

    /// Compares a page of a copy with what is tidied here. `None` if it was not asked for.
    pub(super) fn handle_listed(
        &mut self,
        from: StoreId,
        after: Option<&Arc<str>>,
        (entities, is_last): (Vec<TidiedEntity>, bool),
        (reader, id): (&Reader, LogId),
    ) -> Option<Differing> {
        if !self.machine.handle_listed(from, after) {
            return None;
        }
        let end = entities.last().map(|last| last.entity.clone());
        let mut theirs: BTreeMap<_, _> = entities
            .into_iter()
            .map(|it| (it.entity.clone(), it))
            .collect();
        let (mut mend, mut fetch) = (Vec::new(), Vec::new());
        let (own, is_all) = list(reader, id, after.map(|after| &**after));
        // As far as both have said what they have.
        let own_end = own.last().map(|last| last.entity.clone());
        let upto = [(end, is_last), (own_end, is_all)]
            .into_iter()
            .filter(|(_, is_all)| !is_all)
            .filter_map(|(end, _)| end)
            .min();
        let is_compared = |entity: &Arc<str>| upto.as_ref().is_none_or(|upto| entity <= upto);
        for ours in own.into_iter().filter(|ours| is_compared(&ours.entity)) {
            let their = theirs.remove(&ours.entity);
            if TidiedEntity::lacks(their.as_ref(), &ours) {
                mend.push(ours.entity.clone());
            }
            if let Some(their) = their
                && TidiedEntity::lacks(Some(&ours), &their)
            {
                fetch.push(their.entity);
            }
        }
        fetch.extend(theirs.into_keys().filter(is_compared));
        Some(Differing {
            mend,
            fetch,
            next: upto,
        })
    }

    /// What differs in a copy was read. `next`: up to where it was compared, or read.
    pub(super) fn handle_mended(
        &mut self,
        to: StoreId,
        tidies: Vec<Tidy>,
        next: Option<Arc<str>>,
        now: Instant,
    ) {
        for tidy in tidies {
            let bytes = tidy.weight();
            self.machine.mend(to, tidy, bytes, now);
        }
        self.machine.handle_page(to, next, now);
    }

    /// `names`: the nodes that have these stores.
    pub(super) fn handle_time(&mut self, now: Instant, names: impl Fn(StoreId) -> String) {
        self.machine.handle_time(now);
        let late = self
            .erasing
            .extract_if(.., |_, erasing| erasing.until <= now);
        for (number, erasing) in late {
            let missing: BTreeSet<_> = self.machine.missing(number).into_iter().collect();
            let missing: Vec<_> = missing.into_iter().map(&names).collect();
            let reason = if missing.is_empty() {
                "the disk of this node is slow".to_owned()
            } else {
                let nodes = missing.join(", ");
                format!(
                    "it is erased, except that what is stored at {nodes} is not known to be; that \
                     will be erased as soon as it can be reached"
                )
            };
            let _ = erasing.answer.send(Err(unavailable(reason)));
        }
    }

    /// The messages to other stores that follow.
    pub(super) fn take_messages(
        &mut self,
        durable: Option<LogPoint>,
        (reader, id): (&Reader, LogId),
    ) -> Vec<(StoreId, StoreMessage)> {
        let mut messages = Vec::new();
        let epoch = self.epoch;
        for effect in self.machine.take_effects() {
            match (effect, durable) {
                (TidyEffect::Everywhere(number), _) => {
                    if let Some(erasing) = self.erasing.get_mut(&number) {
                        erasing.is_everywhere = true;
                    }
                    self.settle(number);
                }
                (TidyEffect::Send { to, number, tidy }, Some(durable)) => {
                    let message = StoreMessage::Tidy {
                        epoch,
                        durable,
                        number,
                        tidy,
                    };
                    messages.push((to, message));
                }
                (TidyEffect::Ask { to, after }, Some(durable)) => {
                    let sum = reader.tidied(id);
                    let message = StoreMessage::List {
                        epoch,
                        durable,
                        sum,
                        after,
                    };
                    messages.push((to, message));
                }
                // Nothing leaves at present. It is sent again later.
                (TidyEffect::Send { .. } | TidyEffect::Ask { .. }, None) => {}
            }
        }
        let erasing = self.erasing.values().map(|erasing| erasing.until);
        self.deadline = erasing.chain(self.machine.deadline()).min();
        messages
    }

    /// The shard is not owned any more.
    pub(super) fn stop(self, why: StopOwning) {
        for (_, erasing) in self.erasing {
            let reason = format!(
                "it is not known whether it is erased in all copies: {why}; the next owner of the \
                 shard sees to it"
            );
            let _ = erasing.answer.send(Err(unavailable(reason)));
        }
    }

    fn settle(&mut self, number: u64) {
        let is_done = |erasing: &Erasing| erasing.is_here && erasing.is_everywhere;
        if self.erasing.get(&number).is_some_and(is_done)
            && let Some(erasing) = self.erasing.remove(&number)
        {
            let _ = erasing.answer.send(Ok(()));
        }
    }
}

/// A page of what is tidied in a store, and whether it is the last one.
pub(super) fn list(reader: &Reader, id: LogId, after: Option<&str>) -> (Vec<TidiedEntity>, bool) {
    let tidied = reader.tidied_after(id, after, LISTED_MAX);
    let mut is_last = tidied.len() < LISTED_MAX;
    let (mut bytes, mut entities) = (0, Vec::with_capacity(tidied.len()));
    for found in tidied {
        bytes += found.entity.len();
        if bytes > LISTED_BYTES && !entities.is_empty() {
            is_last = false;
            break;
        }
        entities.push(TidiedEntity {
            entity: found.entity,
            forgotten: found.forgotten,
            snapshot: found.snapshot,
        });
    }
    (entities, is_last)
}

/// What another store has to do to have the same of these entities, about so many bytes of it; and
/// after which entity it ends, if it is not all.
pub(super) async fn read(
    directory: Arc<OpenDirectory>,
    id: LogId,
    entities: Vec<Arc<str>>,
) -> Result<(Vec<Tidy>, Option<Arc<str>>), ReadError> {
    let read = blocking(move || read_here(directory.engine.reader(), id, entities));
    read.await
        .unwrap_or_else(|error| Err(ReadError::Io(error.to_string())))
}

fn read_here(
    reader: &Reader,
    id: LogId,
    entities: Vec<Arc<str>>,
) -> Result<(Vec<Tidy>, Option<Arc<str>>), ReadError> {
    let (mut tidies, mut bytes) = (Vec::new(), 0);
    for entity in entities {
        // Both as of one moment: without a snapshot, what is forgotten is erased.
        let Some(found) = reader.tidied_of(id, &entity) else {
            continue;
        };
        let mut through = found.forgotten;
        if found.snapshot.is_some() {
            // Erased meanwhile: the copy is told of that by itself.
            let Some(snapshot) = reader.snapshot(id, &entity)? else {
                continue;
            };
            through = through.min(snapshot.seq);
            tidies.push(Tidy::Save {
                entity: entity.clone(),
                seq: snapshot.seq,
                at: snapshot.at,
                body: snapshot.body,
            });
        }
        if through > 0 {
            let entity = entity.clone();
            tidies.push(match found.snapshot {
                None => Tidy::Erase { entity, through },
                Some(_) => Tidy::Forget { entity, through },
            });
        }
        bytes += tidies.iter().rev().take(2).map(Tidy::weight).sum::<usize>();
        if bytes > MENDED_BYTES {
            return Ok((tidies, Some(entity)));
        }
    }
    Ok((tidies, None))
}
