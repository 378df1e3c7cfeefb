//! Keys of dicts, and names, that were received before.
//!
//! Messages of one kind have the same keys, and a string that is there already has been hashed. Names of attributes are
//! interned, as pickle does it; keys are not, since some interpreters never forget what is. So equal keys, of several
//! messages or of several dicts in one, are mostly one string, which cannot be told but by `is`. Other strings are not
//! looked up here: they stay as many as were sent.

use std::str::{self, Utf8Error};

use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::gil_cell::GilCell;

/// Longer keys are made anew.
const LONGEST: usize = 24;
/// How many keys are kept, each in the one place that its bytes lead to.
const PLACES: usize = 256;

static KEYS: GilCell<[Option<Key>; PLACES]> = GilCell::new([const { None }; PLACES]);

struct Key {
    bytes: Packed,
    text: Py<PyString>,
    is_interned: bool,
}

/// The string with this text, which is going to be a key.
///
/// # Errors
/// When it is no text.
#[inline]
pub fn key<'py>(py: Python<'py>, text: &[u8]) -> Result<Bound<'py, PyString>, Utf8Error> {
    known_or(py, text, false)
}

/// The string with this text, interned.
///
/// # Errors
/// When it is no text.
#[inline]
pub fn name<'py>(py: Python<'py>, text: &[u8]) -> Result<Bound<'py, PyString>, Utf8Error> {
    known_or(py, text, true)
}

#[inline]
fn known_or<'py>(
    py: Python<'py>,
    text: &[u8],
    is_interned: bool,
) -> Result<Bound<'py, PyString>, Utf8Error> {
    let make = if is_interned {
        PyString::intern
    } else {
        PyString::new
    };
    if text.len() > LONGEST {
        return Ok(make(py, str::from_utf8(text)?));
    }
    let bytes = Packed::from(text);
    let place = bytes.hash() as usize % PLACES;
    let known = KEYS.with(py, |keys| {
        let is_it = |key: &&Key| key.bytes == bytes && (key.is_interned || !is_interned);
        let known = keys[place].as_ref().filter(is_it)?;
        Some(known.text.bind(py).clone())
    });
    if let Some(known) = known.flatten() {
        return Ok(known);
    }
    let made = make(py, str::from_utf8(text)?);
    let new = Key {
        bytes,
        text: made.clone().unbind(),
        is_interned,
    };
    drop(KEYS.with(py, |keys| keys[place].replace(new))); // the old one, outside
    Ok(made)
}

/// All of a text that is not longer than [`LONGEST`]; and of a longer one its length, its beginning and its end.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Packed {
    len: usize,
    /// The first bytes, the last ones, and those behind the first. They overlap in short texts.
    words: [u64; 3],
}

impl From<&[u8]> for Packed {
    #[inline]
    fn from(text: &[u8]) -> Self {
        let words = if let (Some(first), Some(last)) =
            (text.first_chunk::<8>(), text.last_chunk::<8>())
        {
            let middle = (text.len() > 16).then(|| text[8..].first_chunk()).flatten();
            [*first, *last, middle.copied().unwrap_or_default()].map(u64::from_le_bytes)
        } else if let (Some(first), Some(last)) = (text.first_chunk::<4>(), text.last_chunk::<4>())
        {
            [*first, *last, [0; 4]].map(|four| u64::from(u32::from_le_bytes(four)))
        } else {
            let byte = |at: usize| text.get(at).copied().map_or(0, u64::from);
            [byte(0), byte(1), byte(2)]
        };
        Self {
            len: text.len(),
            words,
        }
    }
}

impl Packed {
    /// A number for it, evenly distributed in its last byte.
    #[inline]
    pub fn hash(&self) -> u64 {
        let [first, last, _] = self.words;
        let sum = (first ^ last.rotate_left(32)).wrapping_add(self.len as u64);
        sum.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56 // the golden ratio
    }
}
