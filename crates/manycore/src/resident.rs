//! A value that lives in shared memory, encoded.

use std::marker::PhantomData;

use manycore_ipc::object::cell::Cell;
use manycore_ipc::{Family, Hold, Kind};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{CreateError, ValueError};
use crate::{codec, handle};

/// Bytes that are set aside at least: so much fits without a block of its own.
const LEAST: usize = 160;

/// A value in shared memory. Whoever uses it has the lock that guards it; a process that is killed while it writes
/// leaves the value that was there before.
pub(crate) struct Resident<T> {
    memory: Hold,
    value: PhantomData<fn(T) -> T>,
}

impl<T: Serialize> Resident<T> {
    /// Room is set aside for values of `capacity` bytes, encoded, and of twice the size of the first.
    pub(crate) fn new(
        family: &'static Family,
        value: &T,
        capacity: usize,
    ) -> Result<Self, CreateError> {
        let encoded = codec::encode_resting(value).map_err(ValueError::from)?;
        let capacity = capacity.max(encoded.bytes.len() * 2).max(LEAST);
        let this = Self {
            memory: family.make_memory(Cell::bytes_for(capacity))?,
            value: PhantomData,
        };
        this.write_encoded(&encoded.bytes)?; // nobody else knows it yet
        Ok(this)
    }

    /// Puts another value in its place.
    pub(crate) fn write(&self, value: &T) -> Result<(), ValueError> {
        self.write_encoded(&codec::encode_resting(value)?.bytes)
    }
}

impl<T: DeserializeOwned> Resident<T> {
    /// A copy of the value.
    pub(crate) fn read(&self) -> Result<T, ValueError> {
        Self::decode(self.read_encoded()?)
    }

    /// What [`Resident::read_encoded`] gave, as a value: needs no lock.
    pub(crate) fn decode(bytes: Vec<u8>) -> Result<T, ValueError> {
        let value = codec::decode(&bytes);
        codec::keep_spare(bytes);
        Ok(value?)
    }
}

impl<T> Resident<T> {
    fn cell(&self) -> Result<Cell, ValueError> {
        let heap = self.memory.family().heap();
        Ok(Cell::new(heap, self.memory.memory()?)?)
    }

    /// A copy of the value as it lies there.
    pub(crate) fn read_encoded(&self) -> Result<Vec<u8>, ValueError> {
        let mut bytes = codec::spare();
        self.cell()?.read(&mut bytes)?;
        Ok(bytes)
    }

    /// Puts a value that was encoded to rest in its place.
    pub(crate) fn write_encoded(&self, bytes: &[u8]) -> Result<(), ValueError> {
        let cell = self.cell()?;
        if cell.write(bytes)? {
            return Ok(());
        }
        Err(ValueError::TooLarge {
            len: bytes.len(),
            capacity: cell.capacity(),
        })
    }
}

impl<T> Clone for Resident<T> {
    fn clone(&self) -> Self {
        Self {
            memory: self.memory.clone(),
            value: PhantomData,
        }
    }
}

impl<T> Serialize for Resident<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        handle::depart(&self.memory)?.serialize(serializer)
    }
}

impl<'de, T> Deserialize<'de> for Resident<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self {
            memory: handle::arrive(&Deserialize::deserialize(deserializer)?, Kind::Memory)?,
            value: PhantomData,
        })
    }
}
