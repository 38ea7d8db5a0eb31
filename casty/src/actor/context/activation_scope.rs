//! The scope of an activation: children, timers, work and watches, all of which end with it.

#[cfg(feature = "testkit")]
use std::time::Duration;
use std::{
    any::Any,
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use futures_util::future::BoxFuture;
use tokio::{
    runtime::Handle,
    task::{AbortHandle, JoinSet},
    time::Instant,
};

use crate::{
    actor::{
        context::{
            luggage::{Luggage, Travels},
            watch::{Watch, WatchId, WatchedKey},
        },
        handle::{AnyCell, ChildEvent},
        runtime::Runtime,
        storage::Storing,
    },
    error::Failure,
};

#[derive(Default)]
pub(crate) struct ActivationScope {
    /// By their numbers.
    children: BTreeMap<u64, Arc<dyn AnyCell>>,
    pub(crate) timers: JoinSet<()>,
    pub(crate) work: JoinSet<()>,
    /// The timers of the present state, by their messages' names.
    state_timers: Vec<StateTimer>,
    /// The timers that may go along if the actor moves.
    travelling: Vec<Arc<dyn Travels>>,
    /// How many of them there are before it is worth a look which are over.
    reap_at: usize,
    watches: BTreeMap<WatchId, Watch>,
    watched: HashMap<WatchedKey, WatchId>,
    /// Promises of a stored entity to askers, each of a type of its own, by their numbers.
    pub(crate) promises: BTreeMap<u64, Box<dyn Any + Send>>,
    /// What a stored entity writes. With the run, while there is one.
    pub(crate) storing: Option<Box<Storing>>,
    /// Why a stored entity could not be read, if it could not.
    pub(crate) unread: Option<Box<Failure>>,
}

struct StateTimer {
    message: &'static str,
    timer: Arc<dyn Travels>,
    task: AbortHandle,
}

/// The fewest timers that are looked at.
const REAP_MIN: usize = 32;

impl ActivationScope {
    /// Begins a task. Boxed, so that tokio's code for it does not depend on the actor's type.
    pub(crate) fn begin(
        tasks: &mut JoinSet<()>,
        task: BoxFuture<'static, ()>,
        handle: &Handle,
    ) -> AbortHandle {
        Self::reap(tasks);
        tasks.spawn_on(task, handle)
    }

    /// Forgets tasks that have ended, so that those of a long activation do not pile up.
    fn reap(tasks: &mut JoinSet<()>) {
        while tasks.try_join_next().is_some() {}
    }

    /// Whether there is work whose result is awaited.
    pub(crate) fn is_working(&mut self) -> bool {
        Self::reap(&mut self.work);
        !self.work.is_empty()
    }

    /// A timer that goes along if the actor moves.
    pub(crate) fn takes_along(&mut self, timer: Arc<dyn Travels>) {
        if self.travelling.len() >= self.reap_at.max(REAP_MIN) {
            self.travelling.retain(|timer| !timer.is_over());
            self.reap_at = self.travelling.len() * 2;
        }
        self.travelling.push(timer);
    }

    pub(crate) fn has_state_timer(&self, message: &str) -> bool {
        let mut timers = self.state_timers.iter();
        timers.any(|timer| timer.message == message)
    }

    pub(crate) fn add_state_timer(
        &mut self,
        message: &'static str,
        timer: Arc<dyn Travels>,
        task: AbortHandle,
    ) {
        self.state_timers.push(StateTimer {
            message,
            timer,
            task,
        });
    }

    /// The timers of the state that are still to come: the message of each, and the time that is
    /// left.
    #[cfg(feature = "testkit")]
    pub(crate) fn state_timers(&self, now: Instant) -> Vec<(&'static str, Duration)> {
        let timers = self.state_timers.iter().filter(|it| !it.timer.is_over());
        timers
            .map(|it| (it.message, it.timer.due().saturating_duration_since(now)))
            .collect()
    }

    /// The state has been left.
    pub(crate) fn end_state_timers(&mut self) {
        for StateTimer { timer, task, .. } in self.state_timers.drain(..) {
            timer.cancel();
            task.abort();
        }
    }

    /// What goes along if the actor moves now, and the count of what cannot.
    pub(crate) fn pack(&mut self, runtime: &Arc<Runtime>) -> Luggage {
        Self::reap(&mut self.work);
        let mut luggage = Luggage {
            timers: Vec::new(),
            ended: self.work.len(),
        };
        let now = Instant::now();
        for timer in self.travelling.iter().filter(|timer| !timer.is_over()) {
            match timer.pack(now, runtime) {
                Some(packed) => luggage.timers.push(packed),
                None => luggage.ended += 1,
            }
        }
        luggage
    }

    pub(crate) fn adopt(&mut self, child: Arc<dyn AnyCell>, number: u64) {
        self.children.insert(number, child);
    }

    pub(crate) fn handle_child(&mut self, number: u64, event: &ChildEvent, all_for_one: bool) {
        if !matches!(event, ChildEvent::Restarts) {
            self.children.remove(&number);
        }
        // Only a failure concerns the others: there may be many.
        let concerns_all = matches!(event, ChildEvent::Restarts | ChildEvent::Fails);
        if !all_for_one || !concerns_all {
            return;
        }
        for (_, sibling) in self.children.iter().filter(|(child, _)| **child != number) {
            match event {
                ChildEvent::Restarts => sibling.clone().restart(),
                _ => drop(sibling.clone().close()),
            }
        }
    }

    /// Adds the watch that `begin` makes, unless that actor is watched already.
    pub(crate) fn watch(&mut self, id: WatchId, key: WatchedKey, begin: impl FnOnce() -> Watch) {
        if !self.watched.contains_key(&key) {
            // The watch is known here before the answer can come: a run handles signals later.
            self.watches.insert(id, begin());
            self.watched.insert(key, id);
        }
    }

    pub(crate) fn unwatch(&mut self, key: &WatchedKey) {
        let watch = self.watched.remove(key);
        if let Some(watch) = watch.and_then(|id| self.watches.remove(&id)) {
            watch.cancel();
        }
    }

    /// Whether this watch is still wanted; it is not any more after this.
    pub(crate) fn take_watch(&mut self, id: WatchId) -> bool {
        let watch = self.watches.remove(&id);
        if let Some(watch) = &watch {
            self.watched.remove(&watch.key);
        }
        watch.is_some()
    }

    /// Ends work, timers and watches. Returns the children, which are still to be closed.
    pub(crate) fn end(&mut self) -> Vec<Arc<dyn AnyCell>> {
        self.timers.abort_all();
        self.work.abort_all();
        for watch in std::mem::take(&mut self.watches).into_values() {
            watch.cancel();
        }
        std::mem::take(&mut self.children).into_values().collect()
    }
}
