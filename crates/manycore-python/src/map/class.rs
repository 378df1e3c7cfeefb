//! The class.
//!
//! What Python does with values (encoding, decoding, comparing, adding) is done with no lock held: a value has a
//! number, and what was made of it is put in if that is still its number.

use std::cell::Cell;
use std::sync::{Mutex, PoisonError};

use manycore_ipc::map::{Cursor, Freed, Got, Map, MapError, Set, When};
use manycore_ipc::ring::Message;
use manycore_ipc::wait::Patience;
use manycore_ipc::{Hold, Kind};
use manycore_os::Deadline;
use pyo3::exceptions::PyKeyError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::key;
use super::walk::{MapIterator, What};
use crate::errors::{self, Error};
use crate::family::{self, Parts};
use crate::message::{self, Encoded};
use crate::queue::with_message;
use crate::wait::detached;

/// Space of this length is kept for the next key.
const KEPT: usize = 4 << 10;

/// A map from keys to values that all processes of a family share.
#[pyclass(subclass, frozen, mapping, module = "manycore._engine")]
pub struct SharedMap {
    hold: Hold,
    /// Where `popitem` has found something last. Locked with the interpreter held only: so a fork finds it free.
    popped: Mutex<Cursor>,
}

/// Does something with the map; if another process is at it, without the interpreter.
pub(super) fn act<R: Send>(
    py: Python<'_>,
    mut action: impl FnMut(&mut Patience<'_>) -> Result<R, MapError> + Send,
) -> PyResult<R> {
    let mut go_on = || true;
    match action(&mut Patience::new(Deadline::PASSED, &mut go_on)) {
        Err(MapError::Busy) => {
            let (result, raised) = detached(py, Deadline::NEVER, action);
            result.map_err(|error| errors::from_map(error, raised))
        }
        result => result.map_err(|error| errors::from_map(error, None)),
    }
}

/// Gives memory back, if that is due, without the interpreter.
#[inline]
fn trim(py: Python<'_>, map: &Map, freed: Freed) {
    if freed.is_any() {
        py.detach(|| map.trim(freed));
    }
}

thread_local! {
    /// Space for a key that is used again: another one than that of values, which are encoded meanwhile.
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Runs `f` with the bytes of a key.
#[inline]
fn with_key<R>(key: &Bound<'_, PyAny>, f: impl FnOnce(&[u8]) -> PyResult<R>) -> PyResult<R> {
    let mut bytes = SPARE.take();
    bytes.clear();
    let result = key::encode(key, &mut bytes).and_then(|()| f(&bytes));
    if bytes.capacity() <= KEPT {
        SPARE.set(bytes);
    }
    result
}

impl SharedMap {
    #[inline]
    pub(super) fn map(&self) -> Result<Map, Error> {
        Ok(self.hold.map()?)
    }

    /// Looks a key up. The value, and its number.
    pub(super) fn fetch<'py>(
        &self,
        py: Python<'py>,
        key: &[u8],
    ) -> PyResult<Option<(Bound<'py, PyAny>, u64)>> {
        with_message(|message| {
            let Some(serial) = self.copy(py, key, message)? else {
                return Ok(None);
            };
            let value = message::decode(py, self.hold.family(), message, 0)?;
            Ok(Some((value, serial)))
        })
    }

    /// The object that a plain value encodes.
    pub(super) fn decode<'py>(
        &self,
        py: Python<'py>,
        value: &Message,
    ) -> PyResult<Bound<'py, PyAny>> {
        message::decode(py, self.hold.family(), value, 0)
    }

    #[inline]
    fn copy(&self, py: Python<'_>, key: &[u8], message: &mut Message) -> PyResult<Option<u64>> {
        let map = self.map()?;
        let key = map
            .key(key)
            .map_err(|error| errors::from_map(error, None))?;
        let mut go_on = || true;
        let mut at_once = Patience::new(Deadline::PASSED, &mut go_on);
        match map.try_get(&key, &[], message, &mut at_once) {
            Ok(Got::Done(serial)) => Ok(serial),
            Ok(Got::NeedsBlocks(_)) | Err(MapError::Busy) => {
                let family = self.hold.family();
                let (result, raised) = detached(py, Deadline::NEVER, |patience| {
                    family.with_room(MapError::is_full, || map.get(&key, message, patience))
                });
                result.map_err(|error| errors::from_map(error, raised))
            }
            Err(error) => Err(errors::from_map(error, None)),
        }
    }

    /// Puts a value in; `false` if it is not the case that was asked for.
    #[inline]
    fn store(&self, key: &[u8], value: &Bound<'_, PyAny>, when: When) -> PyResult<bool> {
        let py = value.py();
        let map = self.map()?;
        let key = map
            .key(key)
            .map_err(|error| errors::from_map(error, None))?;
        let mut encoded = Encoded::new();
        encoded.object(value)?;
        if let Some(plain) = encoded.plain() {
            let mut go_on = || true;
            let mut at_once = Patience::new(Deadline::PASSED, &mut go_on);
            match map.try_set(&key, &plain, when, &mut None, &mut at_once) {
                Ok(Set::Done(freed)) => {
                    trim(py, &map, freed);
                    return Ok(true);
                }
                Ok(Set::Refused) => return Ok(false),
                Ok(Set::NeedsTable(_)) | Err(MapError::Busy) => {}
                Err(error) => return Err(errors::from_map(error, None)),
            }
        }
        let ready = encoded.ready(py, self.hold.family())?;
        let (result, raised) = detached(py, Deadline::NEVER, |patience| {
            ready.store(&map, &key, when, patience)
        });
        result.map_err(|error| errors::from_map(error, raised))
    }

    /// Removes a key; its value. One that cannot be decoded stays.
    fn take<'py>(&self, py: Python<'py>, key: &[u8]) -> PyResult<Option<Bound<'py, PyAny>>> {
        loop {
            let Some((value, serial)) = self.fetch(py, key)? else {
                return Ok(None);
            };
            if self.remove(py, key, When::Unchanged(serial))? {
                return Ok(Some(value));
            }
        }
    }

    fn remove(&self, py: Python<'_>, key: &[u8], when: When) -> PyResult<bool> {
        let map = self.map()?;
        let key = map
            .key(key)
            .map_err(|error| errors::from_map(error, None))?;
        let removed = act(py, |patience| map.try_remove(&key, when, patience))?;
        trim(py, &map, removed.unwrap_or_default());
        Ok(removed.is_some())
    }

    /// The key of some entry, from a place on.
    fn any_key(&self, py: Python<'_>, cursor: &mut Cursor) -> PyResult<Option<Vec<u8>>> {
        let (map, mut entries) = (self.map()?, Vec::new());
        loop {
            let before = *cursor;
            if !act(py, |it| map.scan(cursor, false, &mut entries, it))? {
                return Ok(None);
            }
            if let Some(entry) = entries.pop() {
                *cursor = before; // there may be more
                return Ok(Some(entry.key));
            }
        }
    }

    fn popped(&self) -> std::sync::MutexGuard<'_, Cursor> {
        self.popped.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl SharedMap {
    /// A new map; or, with `handle`, one that exists.
    #[new]
    #[pyo3(signature = (*, handle=None))]
    fn new(handle: Option<Parts>) -> Result<Self, Error> {
        let hold = match handle {
            Some(parts) => family::hold(parts, Kind::Map)?,
            None => family::family()?.make_map()?,
        };
        Ok(Self {
            hold,
            popped: Mutex::default(),
        })
    }

    /// Family, index and generation: what a pickle of this map consists of.
    #[getter]
    fn handle(&self) -> Parts {
        message::note_handle(self.hold.handle())
    }

    fn __getitem__<'py>(&self, key: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let found = with_key(key, |bytes| self.fetch(key.py(), bytes))?;
        match found {
            Some((value, _)) => Ok(value),
            None => Err(PyKeyError::new_err(key.clone().unbind())),
        }
    }

    fn __setitem__(&self, key: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        with_key(key, |bytes| self.store(bytes, value, When::Always))?;
        Ok(())
    }

    fn __delitem__(&self, key: &Bound<'_, PyAny>) -> PyResult<()> {
        if with_key(key, |bytes| self.remove(key.py(), bytes, When::Always))? {
            Ok(())
        } else {
            Err(PyKeyError::new_err(key.clone().unbind()))
        }
    }

    fn __contains__(&self, key: &Bound<'_, PyAny>) -> PyResult<bool> {
        let map = self.map()?;
        with_key(key, |bytes| {
            let key_of = map
                .key(bytes)
                .map_err(|error| errors::from_map(error, None))?;
            act(key.py(), |patience| map.contains(&key_of, patience))
        })
    }

    fn __len__(&self, py: Python<'_>) -> PyResult<usize> {
        let map = self.map()?;
        Ok(act(py, |patience| map.len(patience))? as usize)
    }

    fn __iter__(slf: &Bound<'_, Self>) -> MapIterator {
        MapIterator::new(slf, What::Keys)
    }

    /// Iterates over values.
    fn _values(slf: &Bound<'_, Self>) -> MapIterator {
        MapIterator::new(slf, What::Values)
    }

    /// Iterates over pairs of a key and a value.
    fn _items(slf: &Bound<'_, Self>) -> MapIterator {
        MapIterator::new(slf, What::Items)
    }

    /// The value of `key`, or `default`.
    #[pyo3(signature = (key, default=None))]
    fn get<'py>(
        &self,
        key: &Bound<'py, PyAny>,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let found = with_key(key, |bytes| self.fetch(key.py(), bytes))?;
        Ok(found.map(|(value, _)| value).or(default))
    }

    /// The value of `key`, which is `default` from now on if it had none. Of several processes that do this at once,
    /// one sets its default, and all return that one.
    #[pyo3(signature = (key, default=None))]
    fn setdefault<'py>(
        &self,
        key: &Bound<'py, PyAny>,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = key.py();
        let default = default.unwrap_or_else(|| py.None().into_bound(py));
        with_key(key, |bytes| {
            loop {
                if let Some((value, _)) = self.fetch(py, bytes)? {
                    return Ok(value);
                }
                if self.store(bytes, &default, When::Absent)? {
                    return Ok(default);
                }
            }
        })
    }

    /// Removes `key` and returns its value; `default`, if it is given, where there is none.
    ///
    /// Raises:
    ///     KeyError: When there is neither.
    #[pyo3(signature = (key, *default))]
    fn pop<'py>(
        &self,
        key: &Bound<'py, PyAny>,
        default: &Bound<'py, PyTuple>,
    ) -> PyResult<Bound<'py, PyAny>> {
        if default.len() > 1 {
            let given = default.len() + 1;
            let text = format!("pop expected at most 2 arguments, got {given}");
            return Err(pyo3::exceptions::PyTypeError::new_err(text));
        }
        match with_key(key, |bytes| self.take(key.py(), bytes))? {
            Some(value) => Ok(value),
            None if default.is_empty() => Err(PyKeyError::new_err(key.clone().unbind())),
            None => default.get_item(0),
        }
    }

    /// Removes some entry and returns it as a pair of key and value.
    ///
    /// Raises:
    ///     KeyError: When there is none.
    fn popitem<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
        let map = self.map()?;
        let mut cursor = *self.popped();
        // What was set before the walk began, if it has begun at the start.
        let mut before = None;
        let mut missed = (Vec::new(), 0, 0);
        loop {
            if cursor == Cursor::default() {
                before = Some(act(py, |patience| map.writes(patience))?);
            }
            while let Some(key) = self.any_key(py, &mut cursor)? {
                *self.popped() = cursor;
                if let Some(value) = self.take(py, &key)? {
                    return Ok((key::decode(py, &key)?, value));
                }
                // Others have removed it; or, if it is met again and again and nothing was set, it is damaged.
                let writes = act(py, |patience| map.writes(patience))?;
                missed = match missed {
                    (again, the_same, times) if again == key && the_same == writes => {
                        (key, writes, times + 1)
                    }
                    _ => (key, writes, 0),
                };
                if missed.2 > 1 {
                    return Err(errors::corrupted("a dict's entry is not found by its key"));
                }
            }
            // Where nothing was set meanwhile, all that was passed is as empty as it was then.
            if before.is_some() && before == Some(act(py, |patience| map.writes(patience))?) {
                return Err(PyKeyError::new_err("popitem(): dictionary is empty"));
            }
            cursor = Cursor::default();
        }
    }

    /// Removes all entries that are there.
    fn clear(&self, py: Python<'_>) -> PyResult<()> {
        let map = self.map()?;
        let (result, raised) = detached(py, Deadline::NEVER, |patience| map.clear(patience));
        result.map_err(|error| errors::from_map(error, raised))
    }

    /// Adds `by` to the value of `key` and returns the sum; a key without a value counts from `initial`. What others
    /// add at the same time is not lost.
    #[pyo3(signature = (key, by=None, initial=None), text_signature = "($self, key, by=1, initial=0)")]
    fn incr<'py>(
        &self,
        key: &Bound<'py, PyAny>,
        by: Option<Bound<'py, PyAny>>,
        initial: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = key.py();
        let number = |given: Option<Bound<'py, PyAny>>, usual: i64| match given {
            Some(number) => Ok(number),
            None => usual.into_pyobject(py).map(Bound::into_any),
        };
        let (by, initial) = (number(by, 1)?, number(initial, 0)?);
        with_key(key, |bytes| {
            loop {
                let (old, when) = match self.fetch(py, bytes)? {
                    Some((value, serial)) => (value, When::Unchanged(serial)),
                    None => (initial.clone(), When::Absent),
                };
                let sum = old.add(&by)?;
                if self.store(bytes, &sum, when)? {
                    return Ok(sum);
                }
            }
        })
    }

    /// Makes `new` the value of `key` if that is equal to `expected`; whether it was. A key without a value equals
    /// nothing.
    fn compare_and_set(
        &self,
        key: &Bound<'_, PyAny>,
        expected: &Bound<'_, PyAny>,
        new: &Bound<'_, PyAny>,
    ) -> PyResult<bool> {
        with_key(key, |bytes| {
            loop {
                let Some((value, serial)) = self.fetch(key.py(), bytes)? else {
                    return Ok(false);
                };
                if !value.eq(expected)? {
                    return Ok(false);
                }
                if self.store(bytes, new, When::Unchanged(serial))? {
                    return Ok(true);
                }
            }
        })
    }
}
