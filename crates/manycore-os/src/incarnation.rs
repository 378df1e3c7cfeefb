//! A page that the kernel wipes in the child of every `fork`, also of one made by a raw `clone` that
//! runs no hooks. A process that finds its word zero knows that it is a new one.

use std::ptr;
use std::sync::atomic::{
    AtomicPtr, AtomicU64, Ordering::AcqRel, Ordering::Acquire, Ordering::Relaxed,
};

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous};

use crate::feature::WIPE_ON_FORK;

const PAGE: usize = 4096;

/// What is in the page: zero in a process that has not asked yet.
#[repr(C)]
struct Page {
    id: AtomicU64,
}

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
    let mine = map_page().unwrap_or_else(|| Box::leak(Box::new(Page::new())));
    match PAGE_IN_USE.compare_exchange(ptr::null_mut(), mine, AcqRel, Acquire) {
        // SAFETY: made two lines up and never freed.
        Ok(_) => unsafe { &*mine },
        // SAFETY: as in `page`. Another thread was quicker; a page of address space is lost to that race.
        Err(other) => unsafe { &*other },
    }
}

fn map_page() -> Option<*mut Page> {
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
        // The fork hook calls `forget`, which does the same for every fork but a raw clone.
        WIPE_ON_FORK.note(error);
    }
    Some(address.cast())
}

impl Page {
    const fn new() -> Self {
        Self {
            id: AtomicU64::new(0),
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
    let id = page.id.load(Relaxed);
    if id == 0 { claim(page) } else { id }
}

#[cold]
fn claim(page: &Page) -> u64 {
    // `NEXT` is private memory: a child starts from a copy, so what it draws is above its parent's.
    let fresh = NEXT.fetch_add(1, Relaxed);
    match page.id.compare_exchange(0, fresh, Relaxed, Relaxed) {
        Ok(_) => fresh,
        Err(other_thread) => other_thread,
    }
}

/// Does in a forked child what the kernel does where it can: empties the page.
pub fn forget() {
    let page = page();
    page.id.store(0, Relaxed); // a child has one thread here
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_process_keeps_its_number_until_it_forgets_it() {
        let all: Vec<u64> = (0..4)
            .map(|_| std::thread::spawn(super::id))
            .map(|thread| thread.join().expect("no panic"))
            .collect();
        assert!(all.iter().all(|&id| id != 0 && id == all[0]));
    }
}
