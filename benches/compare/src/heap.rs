//! Counts the bytes of the heap in use, once a case has asked for it.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicBool, AtomicI64, Ordering},
    time::Duration,
};

/// The system's allocator. It counts after [`start`]. Until then each call reads a flag in
/// addition, which is not written meanwhile.
pub(crate) struct Counting;

static COUNTS: AtomicBool = AtomicBool::new(false);
static LIVE: AtomicI64 = AtomicI64::new(0);

/// The number of pauses without a change after which the count is final.
const STILL: u32 = 10;
const PAUSE: Duration = Duration::from_millis(20);
/// The number of pauses after which a side that never stops allocating is read.
const PAUSES_MAX: u32 = 250;

/// Counts from now on.
pub(crate) fn start() {
    COUNTS.store(true, Ordering::SeqCst);
}

/// Bytes allocated since [`start`] and not freed, once no task allocates any more.
pub(crate) async fn live_at_rest() -> i64 {
    let (mut before, mut still) = (LIVE.load(Ordering::SeqCst), 0);
    for _ in 0..PAUSES_MAX {
        tokio::time::sleep(PAUSE).await;
        let live = LIVE.load(Ordering::SeqCst);
        still = if live == before { still + 1 } else { 0 };
        before = live;
        if still == STILL {
            break;
        }
    }
    before
}

fn count(bytes: usize, sign: i64) {
    if COUNTS.load(Ordering::Relaxed) {
        // A layout is never larger than `isize::MAX`.
        LIVE.fetch_add(sign * i64::try_from(bytes).unwrap_or(0), Ordering::Relaxed);
    }
}

#[expect(unsafe_code, reason = "an allocator is, and this one only passes on")]
// SAFETY: each call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 1);
        // SAFETY: as above.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 1);
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(layout.size(), -1);
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(layout.size(), -1);
        count(size, 1);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}
