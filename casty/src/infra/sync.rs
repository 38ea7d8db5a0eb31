//! Small helpers around the standard library's locks.

use std::{
    ops::{Deref, DerefMut},
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Locks a mutex. Poison is ignored: no critical section of casty leaves broken data behind when it
/// panics.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A mutex with a rank. A thread that holds one may lock only those of a greater rank, so that no
/// two threads can wait for each other.
///
/// Debug builds check the order at each lock and panic where it is violated. Release builds do not
/// even store the rank.
#[derive(Debug)]
pub(crate) struct Ranked<T> {
    #[cfg(debug_assertions)]
    rank: u8,
    mutex: Mutex<T>,
}

impl<T> Ranked<T> {
    #[cfg_attr(
        not(debug_assertions),
        expect(unused_variables, reason = "checked in debug builds")
    )]
    pub(crate) const fn new(rank: u8, value: T) -> Self {
        Self {
            #[cfg(debug_assertions)]
            rank,
            mutex: Mutex::new(value),
        }
    }

    /// Locks it. A poisoned mutex counts as sound, as for [`lock`].
    ///
    /// # Panics
    /// In debug builds, if this thread holds a mutex of the same or a greater rank.
    pub(crate) fn lock(&self) -> RankedGuard<'_, T> {
        // Before the mutex: a wrong order is to panic, not to wait for ever.
        #[cfg(debug_assertions)]
        let held = held::Held::enter(self.rank);
        RankedGuard {
            guard: lock(&self.mutex),
            #[cfg(debug_assertions)]
            _held: held,
        }
    }
}

/// Access to what a [`Ranked`] guards.
#[derive(Debug)]
pub(crate) struct RankedGuard<'a, T> {
    guard: MutexGuard<'a, T>,
    #[cfg(debug_assertions)]
    _held: held::Held,
}

impl<T> Deref for RankedGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T> DerefMut for RankedGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
    }
}

/// The ranks that the present thread holds.
#[cfg(debug_assertions)]
mod held {
    use std::cell::RefCell;

    thread_local! {
        static RANKS: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    }

    /// One rank is held for as long as this lives.
    #[derive(Debug)]
    pub(super) struct Held(u8);

    impl Held {
        pub(super) fn enter(rank: u8) -> Self {
            RANKS.with_borrow_mut(|ranks| {
                if let Some(held) = ranks.iter().max()
                    && *held >= rank
                {
                    panic!("lock order: rank {rank} is locked while rank {held} is held");
                }
                ranks.push(rank);
            });
            Self(rank)
        }
    }

    impl Drop for Held {
        fn drop(&mut self) {
            RANKS.with_borrow_mut(|ranks| {
                if let Some(at) = ranks.iter().rposition(|rank| *rank == self.0) {
                    ranks.swap_remove(at);
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_may_be_locked_in_their_order_and_again_once_they_are_free() {
        let (first, second) = (Ranked::new(1, ()), Ranked::new(2, 0));
        let holds_first = first.lock();
        *second.lock() += 1;
        let holds_second = second.lock();
        assert_eq!(*holds_second, 1);
        // Out of order: what counts is what is still held.
        drop(holds_first);
        drop(holds_second);
        drop(first.lock());
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "rank 1 is locked while rank 2 is held")]
    fn a_lesser_rank_under_a_greater_one_panics() {
        let (first, second) = (Ranked::new(1, ()), Ranked::new(2, ()));
        let _second = second.lock();
        drop(first.lock());
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "rank 1 is locked while rank 1 is held")]
    fn the_same_rank_twice_panics() {
        let (one, other) = (Ranked::new(1, ()), Ranked::new(1, ()));
        let _one = one.lock();
        drop(other.lock());
    }
}
