//! A page that the kernel wipes in the child of every `fork`, also of one made by a raw `clone` that
//! runs no hooks. A process that finds its word zero knows that it is a new one. Where the kernel cannot
//! wipe, every look compares the process id, which costs a system call.

use std::ptr;
use std::sync::atomic::{
    AtomicPtr, AtomicU32, AtomicU64, Ordering::AcqRel, Ordering::Acquire, Ordering::Relaxed,
};

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous};

use crate::feature::WIPE_ON_FORK;

const PAGE: usize = 4096;

/// What is in the page: zeros in a process that has not asked yet.
#[repr(C)]
struct Page {
    /// `pid:32 | number:32`. The pid is zero where the kernel wipes the page.
    word: AtomicU64,
    /// Not zero where it does not: then only the pid tells a process from its parent, at each look.
    asks_pid: AtomicU32,
}

const NUMBER: u64 = 0xffff_ffff;

static NEXT: AtomicU64 = AtomicU64::new(1);

/// The page in use. Not a `OnceLock`: a fork while another thread initialises one would leave it locked
/// for ever in the child.
static PAGE_IN_USE: AtomicPtr<Page> = AtomicPtr::new(ptr::null_mut());

#[inline]
fn page() -> &'static Page {
    // Acquire pairs with the Release of the exchange in `first_page`.
    let page = PAGE_IN_USE.load(Acquire);
    if page.is_null() {
        return first_page();
    }
    // SAFETY: not null, so it is what `first_page` stored: a zeroed (a valid) `Page` that is never freed.
    unsafe { &*page }
}

#[cold]
fn first_page() -> &'static Page {
    let mine = map_page().unwrap_or_else(|| Box::leak(Box::new(Page::that_nobody_wipes())));
    match PAGE_IN_USE.compare_exchange(ptr::null_mut(), mine, AcqRel, Acquire) {
        // SAFETY: made two lines up and never freed.
        Ok(_) => unsafe { &*mine },
        // SAFETY: as in `page`. Another thread was quicker; a page of address space is lost to that race.
        Err(other) => unsafe { &*other },
    }
}

/// A page that the kernel wipes, if it can.
fn map_page() -> Option<*mut Page> {
    if !WIPE_ON_FORK.is_present() {
        return None;
    }
    // SAFETY: a fresh anonymous mapping at an address of the kernel's choice aliases nothing.
    let mapped = unsafe {
        mmap_anonymous(
            ptr::null_mut(),
            PAGE,
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::PRIVATE,
        )
    };
    let address = mapped.ok()?;
    // SAFETY: `address` is a page of ours whose bytes nobody has used; wiping it loses nothing.
    let wiped = unsafe { madvise(address, PAGE, Advice::LinuxWipeOnFork) };
    if let Err(error) = wiped {
        WIPE_ON_FORK.note(error);
        return None; // a page of address space is lost
    }
    Some(address.cast())
}

impl Page {
    const fn that_nobody_wipes() -> Self {
        Self {
            word: AtomicU64::new(0),
            asks_pid: AtomicU32::new(1),
        }
    }

    /// What the word says of the calling process, beside its number.
    fn pid(&self) -> u64 {
        // Relaxed: written before the page was published, and by nobody but the wiping kernel since.
        if self.asks_pid.load(Relaxed) == 0 {
            0
        } else {
            u64::from(std::process::id())
        }
    }
}

/// A number that differs from that of every ancestor process. Threads cache what they know about
/// themselves under it.
#[inline]
#[must_use]
pub fn id() -> u64 {
    let page = page();
    // Relaxed: the value only names this process; no other memory is published through it.
    let word = page.word.load(Relaxed);
    if word.wrapping_sub(1) < NUMBER {
        word // a number without a pid: the kernel wipes it
    } else {
        id_slow(page, word)
    }
}

#[cold]
fn id_slow(page: &Page, word: u64) -> u64 {
    if word == 0 || word >> 32 != page.pid() {
        claim(page, word)
    } else {
        word & NUMBER
    }
}

fn claim(page: &Page, found: u64) -> u64 {
    // `NEXT` is private memory: a child starts from a copy, so what it draws is above its parent's.
    let fresh = NEXT.fetch_add(1, Relaxed) & NUMBER;
    let word = page.pid() << 32 | fresh;
    match page.word.compare_exchange(found, word, Relaxed, Relaxed) {
        Ok(_) => fresh,
        Err(by_another_thread) => by_another_thread & NUMBER,
    }
}

/// Does in a forked child what the kernel does where it can: empties the page.
pub fn forget() {
    let page = page();
    page.word.store(0, Relaxed); // a child has one thread here
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use crate::fork::{By, in_child};
    use crate::process::{Exit, reap};

    #[test]
    fn a_process_keeps_its_number_until_it_forgets_it() {
        let all: Vec<u64> = (0..4)
            .map(|_| std::thread::spawn(super::id))
            .map(|thread| thread.join().expect("no panic"))
            .collect();
        assert!(all.iter().all(|&id| id != 0 && id == all[0]));
    }

    #[test]
    fn a_child_that_no_hook_saw_has_another_number() {
        let own = super::id();
        let child = in_child(By::RawClone, || {
            i32::from(super::id() > own && super::id() == super::id())
        });
        let exit = reap(child.expect("a process"), true).expect("ours");
        assert_eq!(exit, Some(Exit::Code(1)));
        assert_eq!(super::id(), own);
    }

    #[test]
    fn it_has_also_where_the_kernel_wipes_nothing() {
        let name = "incarnation::tests::a_child_that_no_hook_saw_has_another_number";
        let denied = Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", name, "--quiet"])
            .env("MANYCORE_DENY", "wipe_on_fork")
            .output()
            .expect("it starts");
        assert!(denied.status.success(), "{denied:?}");
    }
}
