//! An allocator that counts.
//!
//! It counts for each thread alone, so tests that run at the same time do not see each other. A
//! test therefore runs everything that it measures on one thread.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

/// The system's allocator, counting. Make it the program's:
///
/// ```
/// use casty_benches::counting::{Counting, counts};
///
/// #[global_allocator]
/// static ALLOCATOR: Counting = Counting;
///
/// let before = counts();
/// let kept = Box::new(7_u64);
/// assert_eq!(counts().allocations, before.allocations + 1);
/// assert_eq!(counts().live_bytes, before.live_bytes + 8);
/// drop(kept);
/// ```
#[derive(Debug)]
pub struct Counting;

/// The allocations of a thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Allocations so far. A reallocation counts as another one.
    pub allocations: u64,
    /// Bytes allocated and not yet freed. Below zero on a thread that frees memory of another
    /// thread.
    pub live_bytes: i64,
}

thread_local! {
    // Without a destructor, so that counting works until the very end of the thread.
    static COUNTS: Cell<Counts> = const { Cell::new(Counts { allocations: 0, live_bytes: 0 }) };
}

/// The counts of this thread.
pub fn counts() -> Counts {
    COUNTS.get()
}

#[expect(
    clippy::cast_possible_wrap,
    reason = "no layout has more than `isize::MAX` bytes"
)]
fn count(allocations: u64, taken: usize, given_back: usize) {
    let Counts {
        allocations: before,
        live_bytes,
    } = COUNTS.get();
    COUNTS.set(Counts {
        allocations: before + allocations,
        live_bytes: live_bytes + taken as i64 - given_back as i64,
    });
}

#[expect(
    unsafe_code,
    reason = "an allocator is unsafe to write; everything is left to the system's"
)]
// SAFETY: each call goes to `System` unchanged; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(1, layout.size(), 0);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(0, 0, layout.size());
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(1, layout.size(), 0);
        // SAFETY: the caller's promise.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(1, size, layout.size());
        // SAFETY: the caller's promise.
        unsafe { System.realloc(at, layout, size) }
    }
}
