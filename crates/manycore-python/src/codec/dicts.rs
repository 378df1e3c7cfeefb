//! Dicts, and the attributes of instances, without a new reference to each key and value.
#![allow(unsafe_code)] // the binding takes one

use std::ptr::null_mut;

use pyo3::Borrowed;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use super::{
    DICT, DICT_OF_SHAPE, Seen, Unsupported, count, encode_nested, encode_scalar, encode_text,
};
use crate::shapes;

/// Appends a dict.
#[inline]
pub fn encode_dict(
    dict: &Bound<'_, PyDict>,
    out: &mut Vec<u8>,
    seen: &mut Seen<'_>,
) -> Result<(), Unsupported> {
    let outside = std::mem::replace(&mut seen.is_in_dict, true);
    let mut pairs = Pairs::of(dict);
    if encode_shape(dict, out, seen)? {
        while let Some((_, value)) = pairs.next() {
            encode_value(value, out, seen)?;
        }
    } else {
        encode_pairs(&mut pairs, out, seen)?;
    }
    seen.is_in_dict = outside;
    pairs.end()
}

/// Appends the keys of a dict; `false` when they are no strings, or long: then nothing is appended.
#[inline]
fn encode_shape(
    dict: &Bound<'_, PyDict>,
    out: &mut Vec<u8>,
    seen: &mut Seen<'_>,
) -> Result<bool, Unsupported> {
    let (start, seen_before) = (out.len(), seen.count);
    out.extend_from_slice(&[DICT_OF_SHAPE, 0, 0]);
    let keys_start = out.len();
    let mut pairs = Pairs::of(dict);
    while let Some((key, _)) = pairs.next() {
        let Ok(text) = key.cast_exact::<PyString>() else {
            return Ok(cut(out, start, seen, seen_before));
        };
        let text = text.to_str().map_err(|_| Unsupported)?; // lone surrogates
        let Ok(len) = u8::try_from(text.len()) else {
            return Ok(cut(out, start, seen, seen_before));
        };
        seen.first_time(&key)?;
        out.push(len);
        out.extend_from_slice(text.as_bytes());
    }
    let len = out.len() - keys_start;
    if len > shapes::LONGEST {
        return Ok(cut(out, start, seen, seen_before));
    }
    out[start + 1..keys_start].copy_from_slice(&(len as u16).to_le_bytes());
    Ok(true)
}

/// Forgets what was appended and seen since then.
#[cold]
fn cut(out: &mut Vec<u8>, start: usize, seen: &mut Seen<'_>, seen_before: usize) -> bool {
    out.truncate(start);
    seen.count = seen_before;
    false
}

/// Appends keys and values of any kind.
#[inline(never)]
fn encode_pairs(
    pairs: &mut Pairs<'_, '_>,
    out: &mut Vec<u8>,
    seen: &mut Seen<'_>,
) -> Result<(), Unsupported> {
    out.push(DICT);
    count(pairs.left, out)?;
    while let Some((key, value)) = pairs.next() {
        if encode_scalar(&key, out, seen)? {
            encode_value(value, out, seen)?;
        } else {
            let (key, value) = (key.to_owned(), value.to_owned());
            encode_nested(&key, out, seen)?;
            encode_value(value.as_borrowed(), out, seen)?;
        }
    }
    Ok(())
}

/// Appends an instance's dict. Among special names, there may be one that says how to pickle it.
pub fn encode_attributes(
    state: &Bound<'_, PyDict>,
    out: &mut Vec<u8>,
    seen: &mut Seen<'_>,
) -> Result<(), Unsupported> {
    let outside = std::mem::replace(&mut seen.is_in_dict, true);
    let mut pairs = Pairs::of(state);
    count(pairs.left, out)?;
    while let Some((name, value)) = pairs.next() {
        let Ok(text) = name.cast_exact::<PyString>() else {
            return Err(Unsupported);
        };
        if encode_text(&text, out, seen)?.starts_with("__") {
            return Err(Unsupported);
        }
        encode_value(value, out, seen)?;
    }
    seen.is_in_dict = outside;
    pairs.end()
}

#[inline]
fn encode_value(
    value: Borrowed<'_, '_, PyAny>,
    out: &mut Vec<u8>,
    seen: &mut Seen<'_>,
) -> Result<(), Unsupported> {
    if encode_scalar(&value, out, seen)? {
        return Ok(());
    }
    encode_nested(&value.to_owned(), out, seen)
}

/// The keys and values of a dict, which are its own.
///
/// What is lent is good for as long as no Python code runs, which could take it out of the dict. Here it is looked at by
/// functions that run none, unless they fail (an error that is made may start the collector), and is not used
/// after; or by others when there is a reference to it.
struct Pairs<'a, 'py> {
    dict: &'a Bound<'py, PyDict>,
    position: ffi::Py_ssize_t,
    left: usize,
}

impl<'a, 'py> Pairs<'a, 'py> {
    fn of(dict: &'a Bound<'py, PyDict>) -> Self {
        Self {
            dict,
            position: 0,
            left: dict.len(),
        }
    }

    #[inline]
    fn next(&mut self) -> Option<(Borrowed<'a, 'py, PyAny>, Borrowed<'a, 'py, PyAny>)> {
        self.left = self.left.checked_sub(1)?;
        let next = self.any_next();
        if next.is_none() {
            self.left += 1; // fewer than there were
        }
        next
    }

    #[inline]
    fn any_next(&mut self) -> Option<(Borrowed<'a, 'py, PyAny>, Borrowed<'a, 'py, PyAny>)> {
        let (mut key, mut value) = (null_mut(), null_mut());
        let dict = self.dict.as_ptr();
        // SAFETY: a dict that lives, in an interpreter that is held, and pointers to live locals. It may have been changed.
        if unsafe { ffi::PyDict_Next(dict, &mut self.position, &mut key, &mut value) } == 0 {
            return None;
        }
        let py = self.dict.py();
        // SAFETY: a key that the dict has; as said above.
        let key = unsafe { Borrowed::from_ptr(py, key) };
        // SAFETY: likewise.
        let value = unsafe { Borrowed::from_ptr(py, value) };
        Some((key, value))
    }

    /// An error unless these were all.
    fn end(mut self) -> Result<(), Unsupported> {
        if self.left == 0 && self.any_next().is_none() {
            Ok(())
        } else {
            Err(Unsupported) // it was changed after all
        }
    }
}
