//! What the owner of a shard does with what is durable, besides new records, is done by all copies:
//! snapshots that are saved, records that are forgotten, entities that are erased.
//!
//! None of that has a position in the log. So the owner numbers it, and sends it to each copy in
//! sync until the copy says that it is done there. That covers what is done under one epoch, to
//! copies that are in sync. For all else there is a comparison: the owner asks each copy, once it
//! is in sync, for a sum over all that is tidied there. If the sum is another one than its own, the
//! copy lists what is tidied, page by page, and each of the two does what the other one has done.
//! That is right in both directions: whatever is tidied in a copy in sync, an owner has tidied, and
//! only what was durable.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use super::StoreId;
use crate::infra::mutants;

/// The bounds of one shard.
#[derive(Clone, Debug)]
pub(crate) struct TidyLimits {
    /// How many things wait for copies, and how many bytes of them. Beyond that only erasures
    /// wait; copies that have not done the rest are compared.
    pub(crate) waiting: usize,
    pub(crate) waiting_bytes: usize,
    /// How many erasures wait.
    pub(crate) erasures: usize,
    /// The pause before something is sent again, which doubles up to `again_max`.
    pub(crate) again: Duration,
    pub(crate) again_max: Duration,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TidyEffect<T> {
    /// The copy answers with [`handle_done`](Tidying::handle_done) once it is durable there.
    Send { to: StoreId, number: u64, tidy: T },
    /// The copy is to say what is tidied after this entity. From the first one, it compares sums.
    Ask {
        to: StoreId,
        after: Option<Arc<str>>,
    },
    /// All copies in sync have done it.
    Everywhere(u64),
}

/// How far a copy is compared with the owner.
#[derive(Debug)]
enum Comparison {
    /// It is to be asked from here on, at this time.
    Due {
        after: Option<Arc<str>>,
        at: Instant,
    },
    /// It was asked, and is asked again at this time.
    Asked {
        after: Option<Arc<str>>,
        at: Instant,
    },
    /// It has answered, and what differs is being read.
    Reading,
    /// What differed up to here is on its way to the copy.
    Mending { after: Option<Arc<str>> },
    /// All that the owner had tidied under earlier epochs, or before the copy came into sync.
    Same,
}

#[derive(Debug)]
struct Compared {
    comparison: Comparison,
    /// How often all of it was compared since it was the same.
    passes: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    Erases,
    /// It may wait for something that a comparison finds: records are forgotten for a snapshot.
    Tidies,
    /// A comparison has found it.
    Mends,
}

#[derive(Debug)]
struct WaitingTidy<T> {
    tidy: T,
    bytes: usize,
    why: Why,
    copies: BTreeSet<StoreId>,
    again_at: Instant,
    pause: Duration,
}

/// The tidying of a shard by its owner, under one epoch.
#[derive(Debug)]
pub(crate) struct Tidying<T> {
    limits: TidyLimits,
    copies: BTreeMap<StoreId, Compared>,
    waiting: BTreeMap<u64, WaitingTidy<T>>,
    last: u64,
    /// How many of them are erasures, and how many neither erase nor mend, with their bytes.
    erasures: usize,
    tidies: usize,
    bytes: usize,
    effects: Vec<TidyEffect<T>>,
}

impl<T: Clone> Tidying<T> {
    pub(crate) fn new(limits: TidyLimits) -> Self {
        Self {
            limits,
            copies: BTreeMap::new(),
            waiting: BTreeMap::new(),
            last: 0,
            erasures: 0,
            tidies: 0,
            bytes: 0,
            effects: Vec::new(),
        }
    }

    pub(crate) fn take_effects(&mut self) -> Vec<TidyEffect<T>> {
        std::mem::take(&mut self.effects)
    }

    /// The other stores in sync. A store that was not is compared; one that is no longer is waited
    /// for no more: it is compared when it comes back.
    pub(crate) fn handle_copies(&mut self, in_sync: &BTreeSet<StoreId>, now: Instant) {
        self.copies.retain(|store, _| in_sync.contains(store));
        for store in in_sync {
            self.copies.entry(*store).or_insert_with(|| Compared {
                comparison: Comparison::Due {
                    after: None,
                    at: now,
                },
                passes: 0,
            });
        }
        let numbers: Vec<_> = self.waiting.keys().copied().collect();
        for number in numbers {
            if let Some(waiting) = self.waiting.get_mut(&number) {
                waiting.copies.retain(|store| in_sync.contains(store));
            }
            self.settle(number);
        }
    }

    /// The owner does something. `None`: too many erasures wait.
    pub(crate) fn add(
        &mut self,
        tidy: T,
        bytes: usize,
        is_erasure: bool,
        now: Instant,
    ) -> Option<u64> {
        if is_erasure && self.erasures >= self.limits.erasures {
            return None;
        }
        let copies = self.copies.keys().copied().collect();
        let why = if is_erasure { Why::Erases } else { Why::Tidies };
        Some(self.send(tidy, bytes, why, copies, now))
    }

    /// What the owner has done, and a copy has not. It goes before the next page is asked for.
    pub(crate) fn mend(&mut self, to: StoreId, tidy: T, bytes: usize, now: Instant) {
        if self.copies.contains_key(&to) {
            self.send(tidy, bytes, Why::Mends, [to].into(), now);
        }
    }

    /// A copy has done it, durably.
    pub(crate) fn handle_done(&mut self, from: StoreId, number: u64, now: Instant) {
        if let Some(waiting) = self.waiting.get_mut(&number) {
            waiting.copies.remove(&from);
            self.settle(number);
        }
        self.go_on(from, now);
    }

    /// All is tidied in the copy that is tidied here.
    pub(crate) fn handle_same(&mut self, from: StoreId) {
        if let Some(copy) = self.copies.get_mut(&from) {
            copy.comparison = Comparison::Same;
            copy.passes = 0;
        }
    }

    /// A page of a copy has come. Whether it is the one that was asked for: then
    /// [`handle_page`](Self::handle_page) follows.
    pub(crate) fn handle_listed(&mut self, from: StoreId, after: Option<&Arc<str>>) -> bool {
        let Some(copy) = self.copies.get_mut(&from) else {
            return false;
        };
        let is_asked = matches!(
            &copy.comparison,
            Comparison::Asked { after: asked, .. } if asked.as_ref() == after
        );
        if is_asked {
            copy.comparison = Comparison::Reading;
            // A pass that was begun before is over, and what it has not mended is found again.
            let former = |waiting: &WaitingTidy<T>| {
                waiting.why == Why::Mends && waiting.copies.contains(&from)
            };
            self.waiting.retain(|_, waiting| !former(waiting));
        }
        is_asked
    }

    /// A page of a copy was compared, and what differs is being [mended](Self::mend). `next`: up
    /// to where; `None` if that was the end.
    pub(crate) fn handle_page(&mut self, from: StoreId, next: Option<Arc<str>>, now: Instant) {
        let Some(copy) = self.copies.get_mut(&from) else {
            return;
        };
        if next.is_some() {
            copy.comparison = Comparison::Mending { after: next };
        } else {
            // What was done meanwhile may have differed for a moment, so not at once.
            let doubled = self.limits.again * 2_u32.saturating_pow(copy.passes.min(16));
            copy.passes += 1;
            copy.comparison = Comparison::Due {
                after: None,
                at: now + doubled.min(self.limits.again_max),
            };
        }
        self.go_on(from, now);
    }

    pub(crate) fn handle_time(&mut self, now: Instant) {
        for (to, copy) in &mut self.copies {
            let (Comparison::Due { after, at } | Comparison::Asked { after, at }) =
                &mut copy.comparison
            else {
                continue;
            };
            if *at <= now {
                let after = after.take();
                if !mutants::on("copies_are_not_compared") {
                    self.effects.push(TidyEffect::Ask {
                        to: *to,
                        after: after.clone(),
                    });
                }
                let at = now + self.limits.again_max.min(self.limits.again * 4);
                copy.comparison = Comparison::Asked { after, at };
            }
        }
        for (number, waiting) in &mut self.waiting {
            if now < waiting.again_at {
                continue;
            }
            waiting.pause = (waiting.pause * 2).min(self.limits.again_max);
            waiting.again_at = now + waiting.pause;
            let (number, tidy) = (*number, &waiting.tidy);
            if mutants::on("what_is_tidied_is_told_once") {
                continue;
            }
            let copies = waiting.copies.iter();
            self.effects.extend(copies.map(|to| TidyEffect::Send {
                to: *to,
                number,
                tidy: tidy.clone(),
            }));
        }
    }

    /// When [`handle_time`](Self::handle_time) is due.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let asks = self
            .copies
            .values()
            .filter_map(|copy| match copy.comparison {
                Comparison::Due { at, .. } | Comparison::Asked { at, .. } => Some(at),
                Comparison::Reading | Comparison::Mending { .. } | Comparison::Same => None,
            });
        let again = self.waiting.values().map(|waiting| waiting.again_at);
        asks.chain(again).min()
    }

    /// The copies that have not done it.
    pub(crate) fn missing(&self, number: u64) -> Vec<StoreId> {
        let waiting = self.waiting.get(&number);
        waiting.map_or_else(Vec::new, |it| it.copies.iter().copied().collect())
    }

    fn send(
        &mut self,
        tidy: T,
        bytes: usize,
        why: Why,
        copies: BTreeSet<StoreId>,
        now: Instant,
    ) -> u64 {
        self.last += 1;
        let number = self.last;
        self.effects
            .extend(copies.iter().map(|to| TidyEffect::Send {
                to: *to,
                number,
                tidy: tidy.clone(),
            }));
        let pause = self.limits.again;
        let waiting = WaitingTidy {
            tidy,
            bytes,
            why,
            copies,
            again_at: now + pause,
            pause,
        };
        match why {
            Why::Erases => self.erasures += 1,
            Why::Tidies => {
                self.tidies += 1;
                self.bytes += bytes;
            }
            // One page at a time for each copy.
            Why::Mends => {}
        }
        self.waiting.insert(number, waiting);
        self.settle(number);
        self.shed(now);
        number
    }

    /// Once all have done it, it waits no longer.
    fn settle(&mut self, number: u64) {
        let is_done = |waiting: &WaitingTidy<T>| waiting.copies.is_empty();
        if self.waiting.get(&number).is_some_and(is_done) {
            self.forget(number);
            self.effects.push(TidyEffect::Everywhere(number));
        }
    }

    fn forget(&mut self, number: u64) -> Option<WaitingTidy<T>> {
        let gone = self.waiting.remove(&number)?;
        match gone.why {
            Why::Erases => self.erasures -= 1,
            Why::Tidies => {
                self.tidies -= 1;
                self.bytes -= gone.bytes;
            }
            Why::Mends => {}
        }
        Some(gone)
    }

    /// Beyond the bounds the oldest waits no more, and the copies that have not done it are
    /// compared.
    fn shed(&mut self, now: Instant) {
        while self.bytes > self.limits.waiting_bytes || self.tidies > self.limits.waiting {
            let mut numbers = self.waiting.iter();
            let oldest = numbers.find(|(number, waiting)| {
                // The last one was sent just now, and may be longer than all that may wait.
                waiting.why == Why::Tidies && **number != self.last
            });
            let Some(gone) = oldest
                .map(|(number, _)| *number)
                .and_then(|it| self.forget(it))
            else {
                return;
            };
            for store in gone.copies {
                if let Some(copy) = self.copies.get_mut(&store) {
                    copy.comparison = Comparison::Due {
                        after: None,
                        at: now + self.limits.again,
                    };
                }
            }
        }
    }

    /// Asks for the next page, once what differed in the last one is done.
    fn go_on(&mut self, from: StoreId, now: Instant) {
        let mut mends = self.waiting.values().filter(|it| it.why == Why::Mends);
        let is_busy = mends.any(|it| it.copies.contains(&from));
        if let Some(copy) = self.copies.get_mut(&from)
            && let Comparison::Mending { after } = &mut copy.comparison
            && !is_busy
        {
            let after = after.take();
            copy.comparison = Comparison::Due { after, at: now };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(number: u128) -> StoreId {
        StoreId(uuid::Uuid::from_u128(number))
    }

    fn limits() -> TidyLimits {
        TidyLimits {
            waiting: 3,
            waiting_bytes: 100,
            erasures: 2,
            again: Duration::from_secs(1),
            again_max: Duration::from_secs(8),
        }
    }

    /// Two copies, which are compared.
    fn compared(now: Instant) -> Tidying<&'static str> {
        let mut tidying = Tidying::new(limits());
        tidying.handle_copies(&[store(1), store(2)].into(), now);
        tidying.handle_time(now);
        for number in [1, 2] {
            let to = store(number);
            tidying.handle_same(to);
        }
        let asked = |effect: &TidyEffect<_>| matches!(effect, TidyEffect::Ask { after: None, .. });
        assert!(tidying.take_effects().iter().all(asked));
        assert_eq!(tidying.deadline(), None);
        tidying
    }

    fn sent(tidying: &mut Tidying<&'static str>) -> Vec<(StoreId, &'static str)> {
        let effects = tidying.take_effects().into_iter();
        let sent = effects.filter_map(|effect| match effect {
            TidyEffect::Send { to, tidy, .. } => Some((to, tidy)),
            _ => None,
        });
        sent.collect()
    }

    #[test]
    fn it_is_sent_until_each_copy_has_done_it() {
        let now = Instant::now();
        let mut tidying = compared(now);
        let number = tidying.add("erase", 0, true, now).expect("room");
        assert_eq!(
            sent(&mut tidying),
            [(store(1), "erase"), (store(2), "erase")]
        );
        tidying.handle_done(store(1), number, now);
        assert_eq!(tidying.take_effects(), []);
        assert_eq!(tidying.missing(number), [store(2)]);
        let mut at = now;
        for seconds in [1, 2, 4, 8, 8] {
            at += Duration::from_secs(seconds);
            assert_eq!(tidying.deadline(), Some(at));
            tidying.handle_time(at);
            assert_eq!(sent(&mut tidying), [(store(2), "erase")]);
        }
        tidying.handle_done(store(2), number, at);
        assert_eq!(tidying.take_effects(), [TidyEffect::Everywhere(number)]);
        assert_eq!(tidying.deadline(), None);
    }

    #[test]
    fn a_copy_that_is_dropped_is_not_waited_for_and_is_compared_when_it_is_back() {
        let now = Instant::now();
        let mut tidying = compared(now);
        let number = tidying.add("erase", 0, true, now).expect("room");
        tidying.handle_done(store(1), number, now);
        tidying.take_effects();
        tidying.handle_copies(&[store(1)].into(), now);
        assert_eq!(tidying.take_effects(), [TidyEffect::Everywhere(number)]);
        tidying.handle_copies(&[store(1), store(2)].into(), now);
        tidying.handle_time(now);
        let (to, after) = (store(2), None);
        assert_eq!(tidying.take_effects(), [TidyEffect::Ask { to, after }]);
    }

    #[test]
    fn pages_follow_each_other_once_what_differs_is_mended() {
        let now = Instant::now();
        let mut tidying = compared(now);
        let (to, ada): (_, Arc<str>) = (store(2), "ada".into());
        tidying.handle_copies(&[store(1)].into(), now);
        tidying.handle_copies(&[store(1), to].into(), now);
        tidying.handle_time(now);
        tidying.take_effects();
        assert!(!tidying.handle_listed(to, Some(&ada)) && tidying.handle_listed(to, None));
        tidying.mend(to, "forget", 10, now);
        tidying.handle_page(to, Some(ada.clone()), now);
        assert_eq!(sent(&mut tidying), [(to, "forget")]);
        tidying.handle_time(now);
        assert_eq!(tidying.take_effects(), [], "it is not done yet");
        tidying.handle_done(to, tidying.last, now);
        tidying.handle_time(now);
        let after = Some(ada.clone());
        let asked = TidyEffect::Ask { to, after };
        assert_eq!(tidying.take_effects(), [TidyEffect::Everywhere(1), asked]);
        // An answer that does not come is asked for again.
        let later = now + Duration::from_secs(4);
        tidying.handle_time(later);
        assert_eq!(tidying.take_effects().len(), 1);
        assert!(!tidying.handle_listed(to, None) && tidying.handle_listed(to, Some(&ada)));
        // After the last page all of it is compared once more, after growing pauses.
        tidying.handle_page(to, None, later);
        assert_eq!(tidying.deadline(), Some(later + Duration::from_secs(1)));
        tidying.handle_page(to, None, later);
        assert_eq!(tidying.deadline(), Some(later + Duration::from_secs(2)));
    }

    #[test]
    fn what_waits_is_bounded_and_what_is_shed_is_compared() {
        let now = Instant::now();
        let mut tidying = compared(now);
        for _ in 0..2 {
            tidying.add("erase", 0, true, now).expect("room");
        }
        assert_eq!(tidying.add("erase", 0, true, now), None);
        for _ in 0..3 {
            tidying.add("forget", 10, false, now).expect("it is shed");
        }
        assert_eq!(tidying.waiting.len(), 5);
        tidying.add("save", 500, false, now).expect("it is shed");
        assert_eq!(
            tidying.waiting.len(),
            3,
            "only the longest, and the erasures"
        );
        tidying.take_effects();
        tidying.handle_time(now + Duration::from_secs(1));
        let asked = |effect: &&TidyEffect<_>| matches!(effect, TidyEffect::Ask { .. });
        assert_eq!(tidying.take_effects().iter().filter(asked).count(), 2);
    }
}
