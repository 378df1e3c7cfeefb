//! The life word: the kernel's mark that the thread which stands for a process has ended.
//!
//! It is a robust POSIX mutex that the main thread locks once and never releases. The kernel walks
//! the robust list early in a process's exit, long before a large address space is torn down, so the
//! mark appears 0.1 to 2 ms after `SIGKILL`. It is a *hint*: other threads of the process may still be
//! on their way out, or go on, and an `exec` marks it as well.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Acquire};

use crate::feature::ROBUST_LIST;
use crate::robust::{OWNER_DIED, TID};

#[cfg(target_env = "gnu")]
const LOCK_WORD: usize = 0;
#[cfg(not(target_env = "gnu"))]
const LOCK_WORD: usize = 1;

/// Space for one life word in shared memory. Any bytes are a valid value.
#[repr(C, align(64))]
pub struct LifeWord {
    raw: [AtomicU64; 8],
}

const _: () = assert!(size_of::<libc::pthread_mutex_t>() <= size_of::<LifeWord>());

impl LifeWord {
    /// Links the word into the calling thread's robust list; from now on it tells of that thread's
    /// end. The caller owns the slot that the word is in. Returns `false` where that is refused.
    pub fn link(&self) -> bool {
        if !ROBUST_LIST.is_present() {
            return false;
        }
        let mutex = self.raw.as_ptr().cast_mut().cast::<libc::pthread_mutex_t>();
        let mut attributes = std::mem::MaybeUninit::<libc::pthread_mutexattr_t>::uninit();
        let attributes = attributes.as_mut_ptr();
        // SAFETY: `attributes` points to writable space for the object.
        if unsafe { libc::pthread_mutexattr_init(attributes) } != 0 {
            return false;
        }
        // SAFETY: `attributes` was initialised by the call above.
        let shared =
            unsafe { libc::pthread_mutexattr_setpshared(attributes, libc::PTHREAD_PROCESS_SHARED) };
        // SAFETY: as above.
        let robust =
            unsafe { libc::pthread_mutexattr_setrobust(attributes, libc::PTHREAD_MUTEX_ROBUST) };
        if shared != 0 || robust != 0 {
            return false;
        }
        // SAFETY: the memory is large enough (asserted above), aligned, mapped for ever, and only the
        // slot's owner initialises it.
        if unsafe { libc::pthread_mutex_init(mutex, attributes) } != 0 {
            return false;
        }
        // SAFETY: initialised one line up, by this thread.
        unsafe { libc::pthread_mutex_lock(mutex) == 0 }
    }

    /// What the kernel says.
    #[must_use]
    pub fn seems_dead(&self) -> bool {
        // Acquire pairs with the kernel's release of the word at the thread's end.
        self.word().load(Acquire) & OWNER_DIED != 0
    }

    /// Whether a live or dying thread is linked to the word at all.
    #[must_use]
    pub fn is_linked(&self) -> bool {
        self.word().load(Acquire) & (OWNER_DIED | TID) != 0
    }

    fn word(&self) -> &AtomicU32 {
        let words = self.raw.as_ptr().cast::<AtomicU32>();
        // SAFETY: `LOCK_WORD` is 0 or 1, inside the 64 bytes of `raw`.
        let word = unsafe { words.add(LOCK_WORD) };
        // SAFETY: aligned, inside `self`, and atomics have no invalid values.
        unsafe { &*word }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fresh() -> &'static LifeWord {
        Box::leak(Box::new(LifeWord {
            raw: [const { AtomicU64::new(0) }; 8],
        }))
    }

    #[test]
    fn the_end_of_the_linking_thread_shows() {
        let word = fresh();
        assert!(!word.is_linked());
        if !ROBUST_LIST.is_present() {
            return assert!(!word.link());
        }
        std::thread::spawn(move || {
            assert!(word.link());
            assert!(word.is_linked());
            assert!(!word.seems_dead());
        })
        .join()
        .expect("the thread ends by itself");
        while !word.seems_dead() {
            std::hint::spin_loop();
        }
    }
}
