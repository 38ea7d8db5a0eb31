//! A bounded queue with a fair way to wait for room. Pure: no task, no lock.
//!
//! A sender that finds no room parks its item here, behind the items that were parked before. What
//! moves from the parked items into the queue does so in order, so no later sender overtakes an
//! earlier one. Parked items take no more memory than their senders would hold while they wait.

use std::collections::VecDeque;

/// How to find a parked item again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket(u64);

pub(crate) struct Mailbox<T, W> {
    queue: VecDeque<T>,
    capacity: usize,
    // Boxed: most mailboxes are never full, and an idle one should be small.
    parked: Option<Box<Parked<T, W>>>,
}

/// An item that is parked, with its waiter.
type ParkedItem<T, W> = (Ticket, T, W);

struct Parked<T, W> {
    items: VecDeque<ParkedItem<T, W>>,
    next: u64,
    /// With so many items the parked ones are looked through.
    looked_at: usize,
}

/// With so many parked items they are looked through for the first time.
const LOOKED_AT_MIN: usize = 256;

impl<T, W> Mailbox<T, W> {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            queue: VecDeque::new(),
            capacity: capacity.max(1),
            parked: None,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.parked.is_none()
    }

    /// How many items wait, for room or to be taken.
    pub(crate) fn len(&self) -> usize {
        let parked = self.parked.as_ref();
        self.queue.len() + parked.map_or(0, |parked| parked.items.len())
    }

    /// Queues `item`. Returns it if there is no room, or if another sender waits for room already.
    pub(crate) fn offer(&mut self, item: T) -> Result<(), T> {
        if self.queue.len() < self.capacity && self.parked.is_none() {
            self.queue.push_back(item);
            Ok(())
        } else {
            Err(item)
        }
    }

    /// Queues `item` in a full queue, at the cost of the item that waited longest, which is
    /// returned.
    pub(crate) fn replace_oldest(&mut self, item: T) -> T {
        match self.queue.pop_front() {
            Some(oldest) => {
                self.queue.push_back(item);
                oldest
            }
            None => item,
        }
    }

    /// Queues `item`, or parks it until there is room; then [`take`](Self::take) returns `waiter`.
    ///
    /// `None` if there was room. An item is never parked beside an empty queue: the run would take
    /// the mailbox for empty.
    pub(crate) fn park(&mut self, item: T, waiter: impl FnOnce() -> W) -> Option<Ticket> {
        let item = self.offer(item).err()?;
        let parked = self.parked.get_or_insert_with(|| {
            Box::new(Parked {
                items: VecDeque::new(),
                next: 0,
                looked_at: LOOKED_AT_MIN,
            })
        });
        let ticket = Ticket(parked.next);
        parked.next += 1;
        parked.items.push_back((ticket, item, waiter()));
        Some(ticket)
    }

    /// Takes a parked item back; `None` if it has moved into the queue.
    pub(crate) fn withdraw(&mut self, ticket: Ticket) -> Option<T> {
        let parked = self.parked.as_mut()?;
        let at = parked
            .items
            .binary_search_by_key(&ticket.0, |(ticket, ..)| ticket.0)
            .ok()?;
        let (_, item, _) = parked.items.remove(at)?;
        if parked.items.is_empty() {
            self.parked = None;
        }
        Some(item)
    }

    /// Takes back the parked items that are not wanted any more, and their waiters. Looks only if
    /// there are many, and twice as many as remained after the last look: on the average an item is
    /// looked at twice.
    pub(crate) fn purge(&mut self, is_unwanted: impl Fn(&T) -> bool) -> VecDeque<ParkedItem<T, W>> {
        let mut unwanted = VecDeque::new();
        let Some(parked) = &mut self.parked else {
            return unwanted;
        };
        if parked.items.len() < parked.looked_at {
            return unwanted;
        }
        // Of functions that other parts of the mailbox need as well: this is compiled for each
        // type.
        for _ in 0..parked.items.len() {
            let Some(item) = parked.items.pop_front() else {
                break;
            };
            if is_unwanted(&item.1) {
                unwanted.push_back(item);
            } else {
                parked.items.push_back(item);
            }
        }
        parked.looked_at = LOOKED_AT_MIN.max(parked.items.len() * 2);
        if parked.items.is_empty() {
            self.parked = None;
        }
        unwanted
    }

    /// Moves at most `budget` items to the end of `into`, and parked items into the room this
    /// makes. Their waiters go to `admitted`.
    pub(crate) fn take(&mut self, budget: usize, into: &mut VecDeque<T>, admitted: &mut Vec<W>) {
        if into.is_empty() && self.queue.len() <= budget {
            std::mem::swap(into, &mut self.queue);
        } else {
            let count = budget.min(self.queue.len());
            into.extend(self.queue.drain(..count));
        }
        self.refill(admitted);
    }

    fn refill(&mut self, admitted: &mut Vec<W>) {
        let Some(parked) = self.parked.as_mut() else {
            return;
        };
        while self.queue.len() < self.capacity {
            let Some((_, item, waiter)) = parked.items.pop_front() else {
                break;
            };
            self.queue.push_back(item);
            admitted.push(waiter);
        }
        if parked.items.is_empty() {
            self.parked = None;
        }
    }

    /// Empties the mailbox, parked items last.
    pub(crate) fn drain(&mut self, admitted: &mut Vec<W>) -> VecDeque<T> {
        let mut items = std::mem::take(&mut self.queue);
        if let Some(parked) = self.parked.take() {
            for (_, item, waiter) in parked.items {
                items.push_back(item);
                admitted.push(waiter);
            }
        }
        items
    }

    /// Gives the queue's memory back if it has grown and is empty.
    pub(crate) fn shrink(&mut self) {
        if self.queue.is_empty() {
            self.queue = VecDeque::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::actor::cell::mailbox::*;

    fn taken(mailbox: &mut Mailbox<u32, u32>, budget: usize) -> (Vec<u32>, Vec<u32>) {
        let (mut items, mut admitted) = (VecDeque::new(), Vec::new());
        mailbox.take(budget, &mut items, &mut admitted);
        (items.into(), admitted)
    }

    #[test]
    fn a_full_mailbox_gives_the_item_back() {
        let mut mailbox = Mailbox::<_, u32>::new(2);
        assert_eq!(mailbox.offer(1), Ok(()));
        assert_eq!(mailbox.offer(2), Ok(()));
        assert_eq!(mailbox.offer(3), Err(3));
    }

    #[test]
    fn nobody_overtakes_a_parked_item() {
        let mut mailbox = Mailbox::new(1);
        mailbox.offer(1).unwrap();
        mailbox.park(2, || 20);
        mailbox.park(3, || 30);
        assert_eq!(taken(&mut mailbox, 10), (vec![1], vec![20]));
        // There is room for one, and 3 waits: a newcomer has to queue up behind it.
        assert_eq!(mailbox.offer(4), Err(4));
        assert_eq!(taken(&mut mailbox, 10), (vec![2], vec![30]));
        assert_eq!(taken(&mut mailbox, 10), (vec![3], vec![]));
        assert_eq!(mailbox.offer(4), Ok(()));
    }

    #[test]
    fn an_item_is_not_parked_where_there_is_room() {
        let mut mailbox = Mailbox::new(1);
        assert_eq!(mailbox.park(1, || 10), None);
        assert_eq!(taken(&mut mailbox, 1), (vec![1], vec![]));
    }

    #[test]
    fn a_withdrawn_item_is_gone_and_does_not_hold_up_others() {
        let mut mailbox = Mailbox::new(1);
        mailbox.offer(1).unwrap();
        let ticket = mailbox.park(2, || 20).unwrap();
        mailbox.park(3, || 30);
        assert_eq!(mailbox.withdraw(ticket), Some(2));
        assert_eq!(mailbox.withdraw(ticket), None);
        assert_eq!(taken(&mut mailbox, 1), (vec![1], vec![30]));
        assert_eq!(taken(&mut mailbox, 1), (vec![3], vec![]));
        assert!(mailbox.is_empty());
    }

    #[test]
    fn parked_items_that_nobody_wants_are_found_once_there_are_many() {
        let mut mailbox = Mailbox::new(1);
        mailbox.offer(0).unwrap();
        for item in 1..256 {
            mailbox.park(item, || item);
        }
        let odd = |item: &u32| item % 2 == 1;
        assert!(mailbox.purge(odd).is_empty(), "they are few");
        mailbox.park(256, || 256);
        let purged = mailbox.purge(odd);
        assert_eq!(purged.len(), 128);
        assert_eq!((purged[1].1, purged[1].2), (3, 3));
        for item in 257..384 {
            mailbox.park(item, || item);
        }
        assert!(mailbox.purge(|_| true).is_empty(), "not twice as many");
        let (mut items, mut admitted) = (VecDeque::new(), Vec::new());
        mailbox.take(1, &mut items, &mut admitted);
        assert_eq!((items[0], &admitted[..]), (0, &[2][..]), "the order stays");
        mailbox.park(384, || 384);
        mailbox.park(385, || 385);
        assert_eq!(mailbox.purge(|_| true).len(), 256);
        assert_eq!(mailbox.len(), 1, "what was in the queue stays");
    }

    #[test]
    fn the_oldest_gives_way() {
        let mut mailbox = Mailbox::<_, u32>::new(2);
        mailbox.offer(1).unwrap();
        mailbox.offer(2).unwrap();
        assert_eq!(mailbox.replace_oldest(3), 1);
        assert_eq!(taken(&mut mailbox, 10), (vec![2, 3], vec![]));
    }

    proptest! {
        /// Against a plain model: everything that went in comes out once, in order of arrival.
        #[test]
        fn nothing_is_lost_doubled_or_reordered(
            capacity in 1usize..5,
            steps in proptest::collection::vec((0u8..3, 1usize..4), 0..200),
        ) {
            let mut mailbox = Mailbox::<u32, u32>::new(capacity);
            let (mut next, mut out, mut admitted) = (0, VecDeque::new(), Vec::new());
            let mut parked = Vec::new();
            let mut withdrawn = Vec::new();
            for (step, n) in steps {
                match step {
                    0 => {
                        let item = next;
                        next += 1;
                        parked.extend(mailbox.park(item, || item));
                    }
                    1 => {
                        let before = out.len();
                        mailbox.take(n, &mut out, &mut admitted);
                        prop_assert!(out.len() > before || mailbox.is_empty());
                    }
                    _ => if let Some(ticket) = parked.pop() {
                        withdrawn.extend(mailbox.withdraw(ticket));
                    },
                }
                prop_assert!(mailbox.queue.len() <= capacity);
            }
            out.extend(mailbox.drain(&mut admitted));
            let expected: Vec<u32> = (0..next).filter(|n| !withdrawn.contains(n)).collect();
            prop_assert_eq!(Vec::from(out), expected);
        }
    }
}
