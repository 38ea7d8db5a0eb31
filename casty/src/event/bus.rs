//! The publisher of events, and its subscriptions.

use std::sync::{
    Arc,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

use tokio::sync::broadcast;

use crate::event::kinds::{ActorPath, DeadLetter, DeadLetterReason, Event};

/// Events kept for a slow subscriber. Beyond that, the subscriber learns how many it missed.
const EVENTS_KEPT: usize = 1024;

/// A subscription to a system's events, from the moment it was made.
#[derive(Debug)]
pub struct Events {
    receiver: broadcast::Receiver<Event>,
    /// Decrements the count when it is dropped.
    _listener: Listener,
}

impl Events {
    /// The next event; `None` once the system has stopped and all events are read.
    ///
    /// # Cancel safety
    /// Safe: an event is either returned or still to come.
    pub async fn next(&mut self) -> Option<Event> {
        match self.receiver.recv().await {
            Ok(event) => Some(event),
            Err(broadcast::error::RecvError::Lagged(missed)) => Some(Event::Missed(missed)),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }

    /// The next event if there is one already.
    pub fn try_next(&mut self) -> Option<Event> {
        match self.receiver.try_recv() {
            Ok(event) => Some(event),
            Err(broadcast::error::TryRecvError::Lagged(missed)) => Some(Event::Missed(missed)),
            Err(_) => None,
        }
    }
}

/// One counted listener.
#[derive(Debug)]
struct Listener(Arc<AtomicUsize>);

impl Drop for Listener {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Publishes events. Costs one atomic load while there is no listener.
#[derive(Debug)]
pub(crate) struct EventBus {
    sender: broadcast::Sender<Event>,
    /// The sender has a count too, but behind a lock that all publishers would share.
    listeners: Arc<AtomicUsize>,
    dead_letters: AtomicU64,
}

impl EventBus {
    pub(crate) fn new() -> Self {
        Self {
            sender: broadcast::Sender::new(EVENTS_KEPT),
            listeners: Arc::default(),
            dead_letters: AtomicU64::new(0),
        }
    }

    pub(crate) fn subscribe(&self) -> Events {
        self.listeners.fetch_add(1, Ordering::Relaxed);
        Events {
            receiver: self.sender.subscribe(),
            _listener: Listener(self.listeners.clone()),
        }
    }

    /// Publishes the event that `event` makes. It is not called while there is no listener.
    pub(crate) fn publish(&self, event: impl FnOnce() -> Event) {
        if self.listeners.load(Ordering::Relaxed) > 0 {
            // An error means that the last listener has left meanwhile.
            let _ = self.sender.send(event());
        }
    }

    pub(crate) fn dead_letter(&self, to: ActorPath, message: &str, reason: DeadLetterReason) {
        self.dead_letters.fetch_add(1, Ordering::Relaxed);
        tracing::debug!(%to, message, %reason, "dead letter");
        self.publish(|| {
            Event::DeadLetter(DeadLetter {
                to,
                message: message.to_owned(),
                reason,
            })
        });
    }

    pub(crate) fn dead_letters(&self) -> u64 {
        self.dead_letters.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path() -> ActorPath {
        ActorPath {
            kind: "Counter".into(),
            id: "a".into(),
        }
    }

    #[tokio::test]
    async fn a_slow_subscriber_is_told_how_much_it_missed() {
        let bus = EventBus::new();
        let mut events = bus.subscribe();
        for _ in 0..EVENTS_KEPT + 10 {
            bus.dead_letter(path(), "m", DeadLetterReason::Full);
        }
        assert!(matches!(events.next().await, Some(Event::Missed(10))));
        assert!(matches!(events.next().await, Some(Event::DeadLetter(_))));
        assert_eq!(bus.dead_letters(), EVENTS_KEPT as u64 + 10);
    }

    #[tokio::test]
    async fn an_event_is_made_only_while_somebody_listens() {
        let bus = EventBus::new();
        bus.publish(|| unreachable!("nobody listens yet"));
        let mut events = bus.subscribe();
        bus.publish(|| Event::ActorStarted(path()));
        assert!(matches!(events.try_next(), Some(Event::ActorStarted(_))));
        drop(events);
        bus.publish(|| unreachable!("nobody listens any more"));
    }

    #[tokio::test]
    async fn the_stream_ends_with_the_bus() {
        let bus = EventBus::new();
        let mut events = bus.subscribe();
        bus.publish(|| Event::ActorStarted(path()));
        drop(bus);
        assert!(matches!(events.next().await, Some(Event::ActorStarted(_))));
        assert!(events.next().await.is_none());
    }
}
