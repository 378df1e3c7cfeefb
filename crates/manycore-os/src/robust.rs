//! Telling the kernel which lock word to mark when this thread dies.
//!
//! The kernel's robust-futex interface gives every thread a list head, registered by the C library
//! at thread start. Beside the list, the head has one field for the lock that the thread is just
//! taking or releasing, `list_op_pending`. When the thread ends, however it ends, the kernel looks at
//! that word too: if it holds the thread's id, it becomes `OWNER_DIED` and one sleeper is woken; if it
//! is free, one sleeper is woken, in case the wake-up had been given to the dying thread
//! (`Documentation/locking/robust-futex-ABI.rst`; the second rule since Linux 5.4).
//!
//! An engine lock is held for well under a microsecond and never nested, so its whole tenure fits into
//! that field: nothing is linked, and no address is ever stored in shared memory. The head stays the C
//! library's; it uses the field only inside its own robust-mutex calls and clears it afterwards.

use std::cell::Cell;
use std::ffi::c_void;
use std::io;
use std::marker::PhantomData;
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst, compiler_fence};

use rustix::io::Errno;

use crate::feature::ROBUST_LIST;
use crate::incarnation;

/// The bit that the kernel sets in the word of a thread that died.
pub const OWNER_DIED: u32 = 0x4000_0000;
/// The bit that asks for a wake-up on release, and on death.
pub const WAITERS: u32 = 0x8000_0000;
/// The bits that hold the owner's thread id.
pub const TID: u32 = 0x3fff_ffff;

/// `struct robust_list_head` of the kernel's ABI.
#[repr(C)]
struct Head {
    list: *mut c_void,
    futex_offset: isize,
    pending: *mut c_void,
}

#[derive(Clone, Copy)]
struct Known {
    incarnation: u64,
    tid: u32,
    head: *mut Head,
}

thread_local! {
    static KNOWN: Cell<Known> = const {
        Cell::new(Known { incarnation: 0, tid: 0, head: ptr::null_mut() })
    };
}

/// This thread, as the owner of a lock word. Not `Send`: it is only true on its own thread.
#[derive(Clone, Copy)]
pub struct Holder {
    tid: u32,
    head: *mut Head,
    here: PhantomData<*mut ()>,
}

impl Holder {
    /// The calling thread.
    #[inline(always)]
    #[must_use]
    pub fn current() -> Self {
        let known = KNOWN.get();
        let known = if known.incarnation == incarnation::id() {
            known
        } else {
            ask_kernel()
        };
        Self {
            tid: known.tid,
            head: known.head,
            here: PhantomData,
        }
    }

    /// The thread id to store in the word.
    #[inline]
    #[must_use]
    pub fn tid(&self) -> u32 {
        self.tid
    }

    /// From here to [`Holder::retract`], the death of this thread marks `word` or passes on its
    /// wake-up. Replaces an earlier announcement: engine locks do not nest.
    #[inline]
    pub fn announce(&self, word: &AtomicU32) {
        if self.head.is_null() {
            return;
        }
        debug_assert!(!self.is_announced(), "engine locks never nest");
        let entry = word.as_ptr().cast::<u8>().wrapping_offset(-self.offset());
        self.set_pending(entry.cast());
    }

    /// Ends what [`Holder::announce`] began.
    #[inline]
    pub fn retract(&self) {
        if !self.head.is_null() {
            self.set_pending(ptr::null_mut());
        }
    }

    /// Whether a death now would be noticed by the kernel's marking. Where a sandbox refuses the
    /// interface, owners are found dead by their thread ids alone.
    #[must_use]
    pub fn is_robust(&self) -> bool {
        !self.head.is_null()
    }

    fn offset(&self) -> isize {
        // SAFETY: `head` is not null (checked by the callers), so it is the head that the C library
        // registered for this thread; it lives in the thread's control block as long as the thread.
        unsafe { (*self.head).futex_offset }
    }

    fn is_announced(&self) -> bool {
        // SAFETY: as in `offset`.
        unsafe { !(*self.head).pending.is_null() }
    }

    #[inline]
    fn set_pending(&self, entry: *mut c_void) {
        // The only reader is the kernel, when this very thread ends: program order is enough, and the
        // fences hold the compiler to it.
        compiler_fence(SeqCst);
        // SAFETY: as in `offset`; the field is written by this thread alone.
        let field = unsafe { &raw mut (*self.head).pending };
        // SAFETY: `field` is valid and aligned, being a field of the live head.
        unsafe { field.write_volatile(entry) };
        compiler_fence(SeqCst);
    }
}

#[cold]
fn ask_kernel() -> Known {
    let tid = rustix::thread::gettid().as_raw_nonzero().get() as u32;
    let known = Known {
        incarnation: incarnation::id(),
        tid,
        head: registered_head().unwrap_or(ptr::null_mut()),
    };
    KNOWN.set(known);
    known
}

/// The list head that the C library has registered for this thread.
fn registered_head() -> Option<*mut Head> {
    if !ROBUST_LIST.is_present() {
        return None;
    }
    let mut head: *mut Head = ptr::null_mut();
    let mut len: usize = 0;
    // SAFETY: the kernel writes one pointer and one length through valid pointers to locals.
    let rc = unsafe { libc::syscall(libc::SYS_get_robust_list, 0, &raw mut head, &raw mut len) };
    if rc != 0 {
        ROBUST_LIST.note(Errno::from_io_error(&io::Error::last_os_error())?);
        return None;
    }
    (len == size_of::<Head>()).then_some(head)
}

/// Whether the kernel says that no thread with this id runs in this PID namespace: there is none, or
/// it has ended and only its status is left. `false` also where the kernel does not tell, and when the
/// id was reused.
#[must_use]
pub fn thread_has_ended(tid: u32) -> bool {
    let Some(pid) = rustix::process::Pid::from_raw(tid.cast_signed()) else {
        return true;
    };
    // `kill` takes the id of any thread. A missing `/proc` would not do: it says nothing about threads.
    let is_gone = || rustix::process::test_kill_process(pid) == Err(Errno::SRCH);
    is_gone()
        || match crate::process::state(tid) {
            Some(state) => matches!(state, 'Z' | 'X'),
            None => is_gone(), // it may have been collected since
        }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::SeqCst;

    use super::*;

    #[test]
    fn a_thread_that_ends_while_announcing_leaves_owner_died() {
        if !ROBUST_LIST.is_present() {
            return;
        }
        let word: &'static AtomicU32 = Box::leak(Box::new(AtomicU32::new(0)));
        std::thread::spawn(move || {
            let holder = Holder::current();
            assert_eq!(holder.is_robust(), ROBUST_LIST.is_present());
            holder.announce(word);
            word.store(holder.tid(), SeqCst);
        })
        .join()
        .expect("the thread ends by itself");
        if !ROBUST_LIST.is_present() {
            return; // nobody marks it: whoever waits finds out
        }
        // The join may return a moment before the kernel has walked the dead thread's list.
        while word.load(SeqCst) & TID != 0 {
            std::hint::spin_loop();
        }
        assert_eq!(word.load(SeqCst), OWNER_DIED);
    }

    #[test]
    fn a_retracted_word_is_left_alone() {
        let word: &'static AtomicU32 = Box::leak(Box::new(AtomicU32::new(0)));
        std::thread::spawn(move || {
            let holder = Holder::current();
            holder.announce(word);
            word.store(holder.tid(), SeqCst);
            holder.retract();
        })
        .join()
        .expect("the thread ends by itself");
        assert_ne!(word.load(SeqCst) & TID, 0);
    }

    #[test]
    fn a_thread_is_told_from_one_that_ended() {
        let (tell, hear) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let _ = tell.send(Holder::current().tid());
            std::thread::park();
        });
        let tid = hear.recv().expect("it sends first");
        assert!(
            !thread_has_ended(tid),
            "the id of a thread that is not its process's first"
        );
        thread.thread().unpark();
        thread.join().expect("it ends by itself");
        while !thread_has_ended(tid) {
            std::hint::spin_loop(); // the join may return a moment before the kernel is done
        }
    }

    #[test]
    fn a_process_of_which_only_the_status_is_left_has_ended() {
        let mut child = std::process::Command::new("true").spawn().expect("runs");
        while !thread_has_ended(child.id()) {
            std::hint::spin_loop();
        }
        assert_eq!(
            crate::process::state(child.id()),
            Some('Z'),
            "not collected yet"
        );
        child.wait().expect("ours");
        assert!(thread_has_ended(child.id()));
        assert!(thread_has_ended(0));
    }
}
