//! Looks at the cluster for all viewers of a node's page together, and not at all without viewers.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use casty::{ActorSystem, admin::Overview};
use tokio::{
    sync::watch,
    task::AbortHandle,
    time::{MissedTickBehavior, interval},
};

use crate::sample::Sample;

/// The time between two looks.
const EVERY: Duration = Duration::from_secs(2);

/// What viewers are told.
#[derive(Clone, Debug)]
pub(crate) enum Told {
    /// There was no look yet.
    Nothing,
    /// A sample, as JSON.
    Sample(Arc<str>),
    /// Why there is none.
    Trouble(Arc<str>),
}

#[derive(Clone)]
pub(crate) struct Sampler(Arc<Inner>);

struct Inner {
    node: ActorSystem,
    /// The last task that has begun to look. It ends with its last viewer.
    looking: Mutex<Option<Looking>>,
}

struct Looking {
    tell: watch::Sender<Told>,
    task: AbortHandle,
}

impl Sampler {
    pub(crate) fn new(node: ActorSystem) -> Self {
        Self(Arc::new(Inner {
            node,
            looking: Mutex::new(None),
        }))
    }

    /// A viewer. Begins to look if there was none.
    pub(crate) fn view(&self) -> watch::Receiver<Told> {
        let looking = &self.0.looking;
        let mut looking = looking.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Looking { tell, task }) = &*looking {
            // In this order: the last of the others may just go.
            let viewer = tell.subscribe();
            if tell.receiver_count() > 1 && !task.is_finished() {
                return viewer;
            }
        }
        let (tell, viewer) = watch::channel(Told::Nothing);
        let task = tokio::spawn(look(self.0.node.clone(), tell.clone()));
        let task = task.abort_handle();
        *looking = Some(Looking { tell, task });
        viewer
    }
}

/// Looks until no viewer is left.
async fn look(node: ActorSystem, tell: watch::Sender<Told>) {
    let mut before: Option<Overview> = None;
    let mut looks = interval(EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let looking = async {
        loop {
            looks.tick().await;
            let told = match node.overview().await {
                Ok(now) => {
                    let sample = Sample::new(node.node_id().to_string(), &now, before.as_ref());
                    before = Some(now);
                    Told::Sample(sample.json().into())
                }
                Err(error) => Told::Trouble(error.to_string().into()),
            };
            tell.send_replace(told);
        }
    };
    tokio::select! {
        () = looking => {}
        () = tell.closed() => {}
    }
}

#[cfg(test)]
mod tests {
    use casty::testkit::soon;

    use super::*;

    #[tokio::test]
    async fn it_looks_for_all_viewers_and_not_without_one() {
        let node = ActorSystem::local("sampler");
        let sampler = Sampler::new(node);
        let (mut first, second) = (sampler.view(), sampler.view());
        soon("a sample", first.changed()).await.unwrap();
        assert!(matches!(&*first.borrow(), Told::Sample(json) if json.contains("\"findings\":[]")));
        assert!(first.same_channel(&second), "one task tells both");
        let task = sampler
            .0
            .looking
            .lock()
            .unwrap()
            .as_ref()
            .unwrap()
            .task
            .clone();
        drop(first);
        tokio::task::yield_now().await;
        assert!(!task.is_finished());
        drop(second);
        let ended = async {
            while !task.is_finished() {
                tokio::task::yield_now().await;
            }
        };
        soon("it looks no more", ended).await;
        let mut third = sampler.view();
        soon("it looks again", third.changed()).await.unwrap();
    }
}
