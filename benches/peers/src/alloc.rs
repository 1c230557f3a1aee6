//! Counts allocations and bytes, while somebody asks for it. The one place with `unsafe`.
#![allow(unsafe_code, reason = "an allocator that counts is the only way to count")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed},
};

struct Counting;

static ON: AtomicBool = AtomicBool::new(false);
static CALLS: AtomicU64 = AtomicU64::new(0);
static LIVE: AtomicI64 = AtomicI64::new(0);

/// While it is off it costs one read of a flag, the same for everybody.
fn count(bytes: i64, calls: u64) {
    if ON.load(Relaxed) {
        CALLS.fetch_add(calls, Relaxed);
        LIVE.fetch_add(bytes, Relaxed);
    }
}

fn size(layout: Layout) -> i64 {
    i64::try_from(layout.size()).unwrap_or(i64::MAX)
}

// SAFETY: every call is handed to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(size(layout), 1);
        // SAFETY: as above.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        count(-size(layout), 0);
        // SAFETY: as above.
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, new: usize) -> *mut u8 {
        count(i64::try_from(new).unwrap_or(i64::MAX) - size(layout), 1);
        // SAFETY: as above.
        unsafe { System.realloc(place, layout, new) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What was allocated in a stretch of the program, by all of its threads.
#[derive(Clone, Copy, Debug)]
pub struct Counted {
    pub calls: u64,
    /// Bytes allocated and not freed; negative if more was freed.
    pub bytes: i64,
}

/// Starts counting from zero.
pub fn start() {
    CALLS.store(0, Relaxed);
    LIVE.store(0, Relaxed);
    ON.store(true, Relaxed);
}

/// What was counted since `start`, which goes on.
pub fn so_far() -> Counted {
    Counted { calls: CALLS.load(Relaxed), bytes: LIVE.load(Relaxed) }
}

/// Stops, and says what was counted.
pub fn stop() -> Counted {
    ON.store(false, Relaxed);
    so_far()
}
