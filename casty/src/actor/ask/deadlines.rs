//! Deadlines of asks, without a timer for each.
//!
//! Starting a timer takes a lock and may wake the thread that drives the clock, and most asks are
//! answered long before their deadline. So one task watches all deadlines, to the millisecond: it
//! sleeps until the earliest recorded deadline, and then checks whether that ask is still waiting.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

use crate::infra::{
    concurrent::{Mutex, lock, spawn_on},
    wall_clock::whole_millis,
};

/// Milliseconds since the system began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Tick(u64);

impl std::ops::Add<Duration> for Tick {
    type Output = Self;

    fn add(self, after: Duration) -> Self {
        Self(self.0.saturating_add(whole_millis(after)))
    }
}

/// A holder of a deadline that may move.
pub(crate) trait Expires: Send + Sync {
    /// It was noted for this moment. Returns the next one to note it for, if there is any.
    fn expire(&self, noted: Tick, now: Tick) -> Option<Tick>;
}

/// The deadlines of one system.
pub(crate) struct Deadlines {
    born: Instant,
    handle: tokio::runtime::Handle,
    noted: Mutex<Noted>,
    /// An ask was noted for an earlier moment than all others.
    sooner: Notify,
}

struct Noted {
    by_tick: BTreeMap<Tick, Vec<Weak<dyn Expires>>>,
    watched: bool,
    /// Nothing watches over deadlines any more.
    ended: bool,
}

impl Deadlines {
    /// `handle`: where they are watched over.
    pub(crate) fn new(handle: tokio::runtime::Handle) -> Arc<Self> {
        Arc::new(Self {
            born: Instant::now(),
            handle,
            noted: Mutex::new(Noted {
                by_tick: BTreeMap::new(),
                // In a model, time passes by `pass` alone.
                watched: cfg!(feature = "model"),
                ended: false,
            }),
            sooner: Notify::new(),
        })
    }

    /// The first moment that is not over yet.
    pub(crate) fn now(&self) -> Tick {
        Tick(whole_millis(
            self.born.elapsed() + Duration::from_nanos(999_999),
        ))
    }

    /// Checks `who` at this moment. Returns whether that will happen: not once deadlines have
    /// [ended](Self::end).
    #[must_use]
    pub(crate) fn note(self: &Arc<Self>, at: Tick, who: Weak<dyn Expires>) -> bool {
        let mut noted = lock(&self.noted);
        if noted.ended {
            return false;
        }
        let first = noted.by_tick.first_key_value().map(|(tick, _)| *tick);
        noted.by_tick.entry(at).or_default().push(who);
        if !std::mem::replace(&mut noted.watched, true) {
            drop(noted);
            // Ends when no deadline is left.
            spawn_on(&self.handle, self.clone().watch());
        } else if first.is_none_or(|first| at < first) {
            self.sooner.notify_one();
        }
        true
    }

    /// No time passes here any more, since the tokio runtime has ended: all deadlines are over.
    pub(crate) fn end(&self) {
        let all = {
            let mut noted = lock(&self.noted);
            noted.ended = true;
            std::mem::take(&mut noted.by_tick)
        };
        for (tick, who) in all {
            for who in who.iter().filter_map(Weak::upgrade) {
                who.expire(tick, Tick(u64::MAX));
            }
        }
    }

    async fn watch(self: Arc<Self>) {
        loop {
            let first = {
                let mut noted = lock(&self.noted);
                let Some((tick, _)) = noted.by_tick.first_key_value() else {
                    noted.watched = false;
                    return;
                };
                self.born + Duration::from_millis(tick.0)
            };
            tokio::select! {
                biased;
                () = tokio::time::sleep_until(first) => {}
                () = self.sooner.notified() => continue,
            }
            self.expire(Tick(whole_millis(self.born.elapsed())));
        }
    }

    /// Asks all that are noted for a moment until `now`.
    fn expire(&self, now: Tick) {
        let due = {
            let mut noted = lock(&self.noted);
            let later = noted.by_tick.split_off(&Tick(now.0 + 1));
            std::mem::replace(&mut noted.by_tick, later)
        };
        for (tick, all) in due {
            for who in all {
                let next = who.upgrade().and_then(|who| who.expire(tick, now));
                if let Some(next) = next {
                    lock(&self.noted).by_tick.entry(next).or_default().push(who);
                }
            }
        }
    }
}

#[cfg(feature = "model")]
impl Deadlines {
    /// A moment comes that is so far away.
    pub(crate) fn pass(&self, after: Duration) {
        self.expire(Tick(whole_millis(after)));
    }
}

#[cfg(test)]
mod tests {
    use crate::actor::ask::deadlines::*;

    #[derive(Default)]
    struct Log(Mutex<Vec<(Tick, Instant)>>);

    impl Expires for Log {
        fn expire(&self, noted: Tick, _: Tick) -> Option<Tick> {
            lock(&self.0).push((noted, Instant::now()));
            None
        }
    }

    #[tokio::test(start_paused = true)]
    async fn everybody_is_asked_at_its_moment_also_if_that_is_before_all_others() {
        let (deadlines, begun) = (
            Deadlines::new(tokio::runtime::Handle::current()),
            Instant::now(),
        );
        let log = Arc::new(Log::default());
        let weak = || -> Weak<dyn Expires> {
            let weak: Weak<Log> = Arc::downgrade(&log);
            weak
        };
        for millis in [500, 30, 200] {
            let tick = deadlines.now() + Duration::from_millis(millis);
            assert!(deadlines.note(tick, weak()));
            tokio::task::yield_now().await;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        let asked: Vec<_> = lock(&log.0).iter().map(|(_, at)| *at - begun).collect();
        assert_eq!(asked, [30, 200, 500].map(Duration::from_millis));
        assert!(!lock(&deadlines.noted).watched, "nobody is noted any more");
        assert!(deadlines.note(deadlines.now(), weak()));
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(lock(&log.0).len(), 4);
    }
}
