//! A page that the kernel wipes in the child of every `fork`, also of one made by a raw `clone` that
//! runs no hooks. A process that finds its word zero knows that it is a new one.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous};

use crate::feature::WIPE_ON_FORK;

const PAGE: usize = 4096;

/// What is in the page: zero in a process that has not asked yet.
#[repr(C)]
struct Page {
    id: AtomicU64,
}

static NEXT: AtomicU64 = AtomicU64::new(1);

fn page() -> &'static Page {
    static ADDRESS: OnceLock<&'static Page> = OnceLock::new();
    ADDRESS.get_or_init(|| {
        // SAFETY: a fresh anonymous mapping at an address of the kernel's choice aliases nothing.
        let mapped = unsafe {
            mmap_anonymous(
                std::ptr::null_mut(),
                PAGE,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE,
            )
        };
        let Ok(address) = mapped else {
            return Box::leak(Box::new(Page::new()));
        };
        // SAFETY: `address` is a page of ours whose bytes nobody has used; wiping it loses nothing.
        let wiped = unsafe { madvise(address, PAGE, Advice::LinuxWipeOnFork) };
        if let Err(error) = wiped {
            // The fork hook calls `forget`, which does the same for every fork but a raw clone.
            WIPE_ON_FORK.note(error);
        }
        // SAFETY: the mapping is page-aligned, zeroed (a valid `Page`), never unmapped, and touched
        // through this reference alone.
        unsafe { &*address.cast::<Page>() }
    })
}

impl Page {
    const fn new() -> Self {
        Self { id: AtomicU64::new(0) }
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
