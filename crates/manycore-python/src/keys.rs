//! Keys of dicts, and names, that were received before.
//!
//! Messages of one kind have the same keys, and a string that is there already has been hashed. They are
//! interned, as pickle does it with names of attributes. So equal keys, of several messages or of several dicts in one,
//! are one string, which cannot be told but by `is`. Other strings are not looked up here: they stay as many as were sent.

use std::str::{self, Utf8Error};
use std::sync::{Mutex, PoisonError};

use pyo3::prelude::*;
use pyo3::types::PyString;

/// Longer keys are made anew.
const LONGEST: usize = 24;
/// How many keys are kept, each in the one place that its bytes lead to.
const PLACES: usize = 256;

/// Locked with the interpreter held only, and nothing inside runs Python code: so a fork finds it free.
static KEYS: Mutex<[Option<Key>; PLACES]> = Mutex::new([const { None }; PLACES]);

struct Key {
    len: usize,
    bytes: [u8; LONGEST],
    text: Py<PyString>,
}

impl Key {
    fn is(&self, text: &[u8]) -> bool {
        self.bytes.get(..self.len) == Some(text)
    }
}

/// The string with this text, which is going to be a key.
///
/// # Errors
/// When it is no text.
pub fn key<'py>(py: Python<'py>, text: &[u8]) -> Result<Bound<'py, PyString>, Utf8Error> {
    let len = text.len();
    let mut bytes = [0; LONGEST];
    let Some(start) = bytes.get_mut(..len) else {
        return Ok(PyString::new(py, str::from_utf8(text)?));
    };
    let mut keys = KEYS.lock().unwrap_or_else(PoisonError::into_inner);
    let place = &mut keys[place_of(text)];
    if let Some(known) = place.as_ref().filter(|key| key.is(text)) {
        return Ok(known.text.bind(py).clone());
    }
    start.copy_from_slice(text);
    let made = PyString::intern(py, str::from_utf8(text)?);
    let text = made.clone().unbind();
    let old = place.replace(Key { len, bytes, text });
    drop(keys);
    drop(old);
    Ok(made)
}

/// The string with this text, interned however long it is.
///
/// # Errors
/// When it is no text.
pub fn name<'py>(py: Python<'py>, text: &[u8]) -> Result<Bound<'py, PyString>, Utf8Error> {
    if text.len() > LONGEST {
        return Ok(PyString::intern(py, str::from_utf8(text)?));
    }
    key(py, text)
}

/// Where a text belongs: a sum of its beginning, its end and its length.
fn place_of(text: &[u8]) -> usize {
    let (first, last) = match (text.first_chunk::<8>(), text.last_chunk::<8>()) {
        (Some(first), Some(last)) => (u64::from_le_bytes(*first), u64::from_le_bytes(*last)),
        _ => text.iter().fold((0, 0), |(first, last), &byte| {
            (first << 8 | u64::from(byte), last)
        }),
    };
    let sum = (first ^ last.rotate_left(32)).wrapping_add(text.len() as u64);
    (sum.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as usize // the golden ratio
}
