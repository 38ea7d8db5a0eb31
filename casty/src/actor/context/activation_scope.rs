//! The scope of an activation: children, timers, work and watches, all of which end with it.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::{
    runtime::Handle,
    task::{AbortHandle, JoinSet},
};

use crate::actor::{
    context::watch::{Watch, WatchId},
    handle::{AnyCell, ChildEvent},
};

#[derive(Default)]
pub(crate) struct ActivationScope {
    pub(crate) children: Vec<Child>,
    pub(crate) timers: JoinSet<()>,
    pub(crate) work: JoinSet<()>,
    pub(crate) watches: Vec<Watch>,
}

pub(crate) struct Child {
    pub(crate) number: u64,
    pub(crate) cell: Arc<dyn AnyCell>,
}

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

    pub(crate) fn handle_child(&mut self, number: u64, event: &ChildEvent, all_for_one: bool) {
        let ends = !matches!(event, ChildEvent::Restarts);
        if ends {
            self.children.retain(|child| child.number != number);
        }
        if !all_for_one {
            return;
        }
        for sibling in self.children.iter().filter(|child| child.number != number) {
            match event {
                ChildEvent::Restarts => sibling.cell.clone().restart(),
                ChildEvent::Fails => drop(sibling.cell.clone().close()),
                ChildEvent::Ended | ChildEvent::Escalates(_) => {}
            }
        }
    }

    /// Whether this watch is still wanted; it is not any more after this.
    pub(crate) fn take_watch(&mut self, id: WatchId) -> bool {
        let before = self.watches.len();
        self.watches.retain(|watch| watch.id != id);
        self.watches.len() < before
    }

    /// Ends work, timers and watches. Returns the children, which are still to be closed.
    pub(crate) fn end(&mut self) -> Vec<Arc<dyn AnyCell>> {
        self.timers.abort_all();
        self.work.abort_all();
        for watch in self.watches.drain(..) {
            watch.cancel();
        }
        self.children.drain(..).map(|child| child.cell).collect()
    }
}
