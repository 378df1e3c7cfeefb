//! Threads, as locks know them.

use std::cell::Cell;

/// A number for this thread that no other thread of this process has while it lives.
pub(crate) fn this_thread() -> u64 {
    thread_local! {
        static HERE: Cell<u8> = const { Cell::new(0) };
    }
    HERE.with(|here| std::ptr::from_ref(here).addr() as u64)
}
