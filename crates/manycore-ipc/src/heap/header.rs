//! The first page: what makes a mapping a heap of this family and version.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use manycore_os::mapping::{self, Mapping, PAGE};
use manycore_os::{limits, process};

use super::layout::{LEAST, Layout, MOST, SLOTS};
use super::view::Heap;
use crate::block::table::{AllocatorHeader, Entry};
use crate::error::FamilyError;
use crate::object::header::{Object, ObjectsHeader};
use crate::registry::slot::{RegistryHeader, Slot};
use crate::word::Word64;

/// "manycore" in ASCII.
const MAGIC: u64 = u64::from_be_bytes(*b"manycore");
/// Raised with every change of the layout.
const VERSION: u64 = 7;

/// See the module.
#[repr(C, align(64))]
pub struct Header {
    magic: Word64,
    version: Word64,
    abi: Word64,
    family: Word64,
    pid_namespace: Word64,
    len: Word64,
    limit: Word64,
    spare: Word64,
    /// Of the registry.
    pub registry: RegistryHeader,
    /// Of the object table.
    pub objects: ObjectsHeader,
    /// Of the block allocator.
    pub allocator: AllocatorHeader,
}

const _: () = assert!(size_of::<Header>() <= PAGE);

impl Header {
    /// The number that tells this family from all others.
    #[must_use]
    pub fn family(&self) -> u64 {
        self.family.load(Relaxed) // written once, before the heap is shared
    }

    /// The PID namespace of the family's processes; zero where it could not be read.
    pub(crate) fn pid_namespace(&self) -> u64 {
        self.pid_namespace.load(Relaxed) // as `family`
    }

    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn set_limit(&self, bytes: u64) {
        self.limit.store(bytes, Relaxed);
    }

    #[cfg(test)]
    pub(crate) fn pretend_pid_namespace(&self, number: u64) {
        self.pid_namespace.store(number, Relaxed);
    }

    /// The most bytes that may be backed by memory; zero when only the machine sets a limit.
    #[must_use]
    pub fn limit(&self) -> u64 {
        self.limit.load(Relaxed) // as `family`
    }
}

/// A number that differs between builds whose shared structures could differ.
fn abi() -> u64 {
    let sizes = [
        size_of::<Header>(),
        size_of::<Slot>(),
        size_of::<Object>(),
        size_of::<Entry>(),
    ];
    let pointer = (size_of::<usize>() as u64) << 56;
    let libc = u64::from(cfg!(target_env = "gnu")) << 48;
    sizes.iter().fold(pointer | libc, |hash, &size| {
        hash.wrapping_mul(8191).wrapping_add(size as u64)
    })
}

/// A new heap: `MANYCORE_HEAP_RESERVE` bytes of address space, else twice the memory that this process
/// may use, rounded up to a power of two, and at most a quarter of a limited address space; half of it, and so
/// on, where that is refused.
///
/// # Errors
/// When not even the least heap can be mapped.
pub fn create() -> Result<&'static Heap, FamilyError> {
    let wanted = size_from_environment("MANYCORE_HEAP_RESERVE");
    let mut len = wanted.unwrap_or_else(usual_reserve) as usize;
    len = len.clamp(LEAST, MOST).next_power_of_two();
    loop {
        match create_with(len) {
            Err(FamilyError::Os(error)) if len > LEAST && is_refusal(&error) => len /= 2,
            other => return other,
        }
    }
}

/// Twice the memory there is; of a limited address space a quarter, for the program has its needs, too.
fn usual_reserve() -> u64 {
    let reserve = limits::memory().total.saturating_mul(2);
    match limits::address_space() {
        Some(most) => reserve.min(most / 4 / 2), // it is rounded up
        None => reserve,
    }
}

fn is_refusal(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc_errno::ENOMEM | libc_errno::EFBIG | libc_errno::EINVAL)
    )
}

/// The error numbers that mean "not that much", from `<errno.h>` of Linux.
mod libc_errno {
    pub(super) const ENOMEM: i32 = 12;
    pub(super) const EINVAL: i32 = 22;
    pub(super) const EFBIG: i32 = 27;
}

/// A new heap of exactly `len` bytes of address space.
///
/// # Errors
/// When the system refuses, or the length makes no heap.
pub fn create_with(len: usize) -> Result<&'static Heap, FamilyError> {
    let layout = layout(len)?;
    let mapping = Mapping::create(len)?;
    mapping.back(0, layout.registry + SLOTS * size_of::<Slot>())?;
    let heap = Heap::new(mapping, layout);
    let header = heap.header();
    header.version.store(VERSION, Relaxed);
    header.abi.store(abi(), Relaxed);
    header.family.store(process::random() | 1, Relaxed);
    header
        .pid_namespace
        .store(process::pid_namespace(), Relaxed);
    header.len.store(len as u64, Relaxed);
    header.limit.store(
        size_from_environment("MANYCORE_HEAP_LIMIT").unwrap_or(0),
        Relaxed,
    );
    crate::block::initialise(heap)?;
    // Release pairs with the Acquire in `attach`: who sees the magic number sees all of the above.
    header.magic.store(MAGIC, Release);
    Ok(heap)
}

/// The heap of the family that this descriptor was inherited from.
///
/// # Errors
/// When it is no heap, or that of another version, architecture or PID namespace.
pub fn attach(fd: OwnedFd) -> Result<&'static Heap, FamilyError> {
    let heap = mapped(Mapping::attach(fd)?)?;
    check(heap)?;
    Ok(heap)
}

/// The heap of another family, to look at: nothing may be written there. It has to pass [`check`] each time; it stays
/// mapped if it does not.
///
/// # Errors
/// When it is no sealed file of the length of a heap. It is not mapped then.
pub(crate) fn look_at(fd: OwnedFd) -> Result<&'static Heap, FamilyError> {
    layout(mapping::sealed_len(&fd)?)?;
    mapped(Mapping::look_at(fd)?)
}

fn mapped(mapping: Mapping) -> Result<&'static Heap, FamilyError> {
    let layout = layout(mapping.len())?;
    Ok(Heap::new(mapping, layout))
}

fn layout(len: usize) -> Result<Layout, FamilyError> {
    Layout::new(len).ok_or(FamilyError::Foreign("its length makes no heap"))
}

/// Whether what was mapped is a heap that this process understands, and whose processes it can ask the kernel about.
///
/// # Errors
/// When it is no heap, not yet one, or that of another version, architecture or PID namespace.
pub(crate) fn check(heap: &'static Heap) -> Result<(), FamilyError> {
    let header = heap.header();
    // Acquire pairs with the Release in `create_with`.
    if header.magic.load(Acquire) != MAGIC || header.len.load(Relaxed) != heap.layout().len as u64 {
        return Err(FamilyError::Foreign("the inherited file is not a heap"));
    }
    if header.version.load(Relaxed) != VERSION || header.abi.load(Relaxed) != abi() {
        return Err(FamilyError::Foreign("it has another layout version"));
    }
    if header.pid_namespace() != process::pid_namespace() {
        return Err(FamilyError::OtherNamespace);
    }
    Ok(())
}

/// A number of bytes from the environment; suffixes K, M, G, T are powers of 1024.
fn size_from_environment(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    let text = text.trim();
    let (digits, unit) = match text.char_indices().last()? {
        (at, 'k' | 'K') => (text.get(..at)?, 1 << 10),
        (at, 'm' | 'M') => (text.get(..at)?, 1 << 20),
        (at, 'g' | 'G') => (text.get(..at)?, 1 << 30),
        (at, 't' | 'T') => (text.get(..at)?, 1 << 40),
        _ => (text, 1),
    };
    digits.trim().parse::<u64>().ok()?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_mapping_is_recognised_as_the_same_family() {
        let heap = create_with(LEAST).expect("a small heap");
        let again = attach(heap.mapping().duplicate().expect("open")).expect("the same");
        assert_eq!(heap.header().family(), again.header().family());
    }

    #[test]
    fn a_heap_of_another_version_is_refused() {
        let heap = create_with(LEAST).expect("a small heap");
        heap.header().version.store(VERSION + 1, Relaxed);
        assert!(attach(heap.mapping().duplicate().expect("open")).is_err());
    }

    #[test]
    fn a_heap_of_another_pid_namespace_is_refused_also_by_who_only_looks() {
        let heap = create_with(LEAST).expect("a small heap");
        heap.header().pretend_pid_namespace(1);
        let inherited = || heap.mapping().duplicate().expect("open");
        assert!(matches!(
            attach(inherited()),
            Err(FamilyError::OtherNamespace)
        ));
        let seen = look_at(inherited()).expect("a heap by its length");
        assert!(matches!(check(seen), Err(FamilyError::OtherNamespace)));
        heap.header()
            .pretend_pid_namespace(process::pid_namespace());
        check(seen).expect("it is here now");
    }
}
