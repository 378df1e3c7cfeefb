//! The types that may be looked at in place in shared memory.

#![allow(unsafe_code)] // one line for each type that may be viewed in place, see SAFETY.md

use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64};

use crate::block::table::{AllocatorHeader, Entry};
use crate::heap::header::Header;
use crate::object::header::{Object, ObjectsHeader};
use crate::registry::slot::{RegistryHeader, Slot};
use crate::wait::Bell;
use crate::word::{Word32, Word64};

/// A type that any bytes are a valid value of and that stays valid while other processes change it.
///
/// # Safety
/// The type is `repr(C)` or `repr(transparent)` and made of atomics (and arrays and structs of them)
/// only: no `bool`, no `enum`, no reference, no padding that matters.
pub unsafe trait Shared: Sync {}

// SAFETY: a transparent wrapper of an atomic.
unsafe impl Shared for Word32 {}
// SAFETY: a transparent wrapper of an atomic.
unsafe impl Shared for Word64 {}
// SAFETY: a transparent wrapper of `Word32`.
unsafe impl Shared for Bell {}
// SAFETY: `repr(C)`, words and the headers below.
unsafe impl Shared for Header {}
// SAFETY: `repr(C)`, words only.
unsafe impl Shared for RegistryHeader {}
// SAFETY: `repr(C)`, words, a bell, and a life word (atomics).
unsafe impl Shared for Slot {}
// SAFETY: `repr(C)`, words and an engine lock (a word).
unsafe impl Shared for ObjectsHeader {}
// SAFETY: `repr(C)`, words only; bodies are views of its `body` words.
unsafe impl Shared for Object {}
// SAFETY: `repr(C)`, words and an engine lock.
unsafe impl Shared for AllocatorHeader {}
// SAFETY: `repr(C)`, words only.
unsafe impl Shared for Entry {}
// SAFETY: `repr(C)`, words, engine locks and bells.
unsafe impl Shared for crate::ring::layout::RingBody {}
// SAFETY: `repr(C)`, words and a transparent wrapper of one.
unsafe impl Shared for crate::lock::user::UserLock {}
// SAFETY: `repr(C)`, words, a transparent wrapper of one, and an engine lock.
unsafe impl Shared for crate::lock::tokens::Tokens {}
// SAFETY: `repr(C)`, words only.
unsafe impl Shared for crate::sync::EventBody {}
// SAFETY: `repr(C)`, words and an engine lock.
unsafe impl Shared for crate::sync::ConditionBody {}
// SAFETY: `repr(C)`, words, a bell and an engine lock.
unsafe impl Shared for crate::sync::BarrierBody {}
// SAFETY: `repr(C)`, words only.
unsafe impl Shared for crate::sync::roll::Entry {}
// SAFETY: `repr(C)`, words and engine locks.
unsafe impl Shared for crate::map::MapBody {}
// SAFETY: `repr(C)`, words only.
unsafe impl Shared for crate::map::layout::TableHead {}
// SAFETY: `repr(C)`, words only.
unsafe impl Shared for crate::object::memory::MemoryBody {}
// SAFETY: `repr(C)`, words and a bell.
unsafe impl Shared for crate::object::group::GroupBody {}
// SAFETY: `repr(C)`, words only.
unsafe impl Shared for crate::object::group::Row {}
// SAFETY: `repr(C)`, words only.
unsafe impl Shared for crate::object::cell::CellHead {}
// SAFETY: an atomic.
unsafe impl Shared for AtomicU8 {}
// SAFETY: an atomic.
unsafe impl Shared for AtomicU16 {}
// SAFETY: an atomic.
unsafe impl Shared for AtomicU32 {}
// SAFETY: an atomic.
unsafe impl Shared for AtomicU64 {}
