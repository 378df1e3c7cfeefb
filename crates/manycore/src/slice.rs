//! An array that processes share.

use std::fmt;
use std::marker::PhantomData;

use bytemuck::Pod;
use manycore_ipc::heap::Bytes;
use manycore_ipc::{Corrupted, HandleError, Hold, Kind};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::error::CreateError;
use crate::{family, handle};

/// An array of plain data that any number of processes and threads read and write in place.
///
/// It travels as a handle: no element is copied. Elements are copied out and in, one by one or many at a time, and
/// nothing orders what several do at once: a reader may see half of what a writer is just writing. Give each process
/// a part of its own, let an [`Event`](crate::sync::Event) or a queue say what is ready, or take turns by a
/// [`Mutex`](crate::sync::Mutex).
///
/// ```
/// use manycore::{Process, SharedSlice};
///
/// fn square((numbers, from): (SharedSlice<f64>, usize)) {
///     let mut part = [0.0; 500];
///     numbers.read(from, &mut part);
///     numbers.write(from, &part.map(|number| number * number));
/// }
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     manycore::init();
///     let numbers = SharedSlice::from_slice(&[3.0; 1_000])?;
///     let children = [0, 500].map(|from| Process::spawn(square, (numbers.clone(), from)));
///     for child in children {
///         child?.join()?;
///     }
///     assert_eq!(numbers.to_vec(), [9.0; 1_000]);
///     Ok(())
/// }
/// ```
pub struct SharedSlice<T> {
    /// Keeps the bytes alive.
    hold: Hold,
    bytes: Bytes,
    elements: PhantomData<fn(T) -> T>,
}

impl<T: Pod> SharedSlice<T> {
    /// Makes an array of `len` elements, whose bytes are all zero.
    ///
    /// # Errors
    /// When there is not so much shared memory.
    ///
    /// # Panics
    /// When `T` has no size, or its alignment is over 64 bytes.
    #[track_caller]
    pub fn zeroed(len: usize) -> Result<Self, CreateError> {
        assert!(
            size_of::<T>() > 0 && align_of::<T>() <= 64,
            "an element has at least one byte, and an alignment of at most 64"
        );
        let bytes = (len as u64).saturating_mul(size_of::<T>() as u64);
        Ok(Self::of(family::family()?.make_memory(bytes)?)?)
    }

    /// Makes an array with a copy of these elements.
    ///
    /// # Errors
    /// As [`SharedSlice::zeroed`].
    ///
    /// # Panics
    /// As [`SharedSlice::zeroed`].
    #[track_caller]
    pub fn from_slice(elements: &[T]) -> Result<Self, CreateError> {
        let this = Self::zeroed(elements.len())?;
        this.write(0, elements);
        Ok(this)
    }

    fn of(hold: Hold) -> Result<Self, HandleError> {
        let bytes = hold.memory()?;
        if bytes.len() % size_of::<T>() != 0 {
            return Err(Corrupted::new("the memory of an array ends inside an element").into());
        }
        Ok(Self {
            hold,
            bytes,
            elements: PhantomData,
        })
    }

    /// How many elements there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len() / size_of::<T>()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The element at `index`, if there is one.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<T> {
        (index < self.len()).then(|| {
            let mut element = T::zeroed();
            self.read(index, std::slice::from_mut(&mut element));
            element
        })
    }

    /// Makes `element` the one at `index`.
    ///
    /// # Panics
    /// When there is none.
    #[track_caller]
    pub fn set(&self, index: usize, element: T) {
        self.write(index, std::slice::from_ref(&element));
    }

    /// Copies the elements from `at` on into `to`.
    ///
    /// # Panics
    /// When there are not so many.
    #[track_caller]
    pub fn read(&self, at: usize, to: &mut [T]) {
        let start = self.start_of(at, to.len());
        let read = self.bytes.read(start, bytemuck::cast_slice_mut(to));
        read.expect("inside, which was checked");
    }

    /// Copies `from` over the elements from `at` on.
    ///
    /// # Panics
    /// When there are not so many.
    #[track_caller]
    pub fn write(&self, at: usize, from: &[T]) {
        let start = self.start_of(at, from.len());
        self.bytes.write(start, bytemuck::cast_slice(from));
    }

    #[track_caller]
    fn start_of(&self, at: usize, count: usize) -> usize {
        let len = self.len();
        assert!(
            at.checked_add(count).is_some_and(|end| end <= len),
            "{count} elements at {at} are not all in a shared slice of {len}"
        );
        at * size_of::<T>()
    }

    /// A copy of all elements.
    #[must_use]
    pub fn to_vec(&self) -> Vec<T> {
        let mut elements = vec![T::zeroed(); self.len()];
        self.read(0, &mut elements);
        elements
    }

    /// Where the elements lie, for code that uses them in place: aligned for `T`, and there as long as this or a
    /// clone of it.
    ///
    /// Whoever makes a reference of it promises that no process writes there meanwhile.
    #[must_use]
    pub fn as_ptr(&self) -> *mut T {
        self.bytes.address().cast()
    }
}

impl<T> Clone for SharedSlice<T> {
    fn clone(&self) -> Self {
        Self {
            hold: self.hold.clone(),
            bytes: self.bytes,
            elements: PhantomData,
        }
    }
}

impl<T> Serialize for SharedSlice<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        handle::depart(&self.hold)?.serialize(serializer)
    }
}

impl<'de, T: Pod> Deserialize<'de> for SharedSlice<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let hold = handle::arrive(&Deserialize::deserialize(deserializer)?, Kind::Memory)?;
        Self::of(hold).map_err(|error| de::Error::custom(handle::refuse(error)))
    }
}

impl<T: Pod + fmt::Debug> fmt::Debug for SharedSlice<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.to_vec()).finish()
    }
}
