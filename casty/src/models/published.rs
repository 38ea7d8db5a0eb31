//! Homes of shards change while senders look them up: see `ShardRegion::change_homes`.

use std::sync::Arc;

use shuttle::{sync::Mutex, thread};

use crate::infra::{concurrent::lock, published::Published};

/// The value that travels to an owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    Message,
    Fence,
}

/// The queue of a link.
type Link = Arc<Mutex<Vec<Sent>>>;

/// Messages of each sender.
const MESSAGES: usize = 2;

const SENDERS: usize = 2;

pub(super) fn program() {
    let links: [Link; 3] = Default::default();
    let home = Arc::new(Published::new(links[0].clone()));
    let senders: Vec<_> = (0..SENDERS)
        .map(|_| {
            let home = home.clone();
            thread::spawn(move || {
                for _ in 0..MESSAGES {
                    let link = home.load();
                    lock(&link).push(Sent::Message);
                }
            })
        })
        .collect();
    for next in &links[1..] {
        let before = home.swap(next.clone());
        Published::wait_for_readers(&before);
        lock(&before).push(Sent::Fence);
    }
    for sender in senders {
        sender.join().expect("it ends");
    }
    let queues = links.map(|link| lock(&link).clone());
    for queue in &queues[..2] {
        let fence = queue.iter().position(|sent| *sent == Sent::Fence);
        assert_eq!(fence, Some(queue.len() - 1), "behind the fence: {queue:?}");
    }
    let messages = queues.iter().flatten();
    let messages = messages.filter(|sent| **sent == Sent::Message).count();
    assert_eq!(messages, SENDERS * MESSAGES);
}
