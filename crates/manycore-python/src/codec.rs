//! The native encoding of small plain values.
//!
//! `None`, `bool`, `int` (64 bits), `float`, `str`, `bytes`, `bytearray`, and tuples, lists and dicts of them and of
//! each other, some levels deep, all of the exact built-in types, are encoded here, in 5 to 60 ns for each level.
//! Everything else is pickled, and so is whatever pickle would bring back in another shape: pickle keeps the
//! *identity* of strings, bytes and containers that occur twice in one object, so an object in which one does is not
//! encoded here. Long `bytes` and `bytearray` objects travel outside, and the encoding only says that they are next
//! there. NumPy's arrays are dealt with in [`array`], instances of plain classes in [`instance`].

mod dicts;
mod numbers;

use manycore_ipc::ring::record::MOST_BLOCKS;
use pyo3::buffer::PyUntypedBuffer;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyDict, PyList, PyString, PyTuple};

use crate::array;
use crate::buffer;
use crate::instance;
use crate::outside::{self, Part};
use dicts::{encode_attributes, encode_dict};

pub use numbers::{Number, decode_number, encode_number, is_number};

pub const NONE: u8 = b'N';
pub const TRUE: u8 = b'T';
pub const FALSE: u8 = b'F';
pub const INT: u8 = b'i';
pub const FLOAT: u8 = b'd';
pub const STR: u8 = b's';
pub const BYTES: u8 = b'b';
pub const BYTES_OUTSIDE: u8 = b'B';
pub const ARRAY: u8 = b'a';
pub const ARRAY_OUTSIDE: u8 = b'A';
pub const TUPLE: u8 = b't';
pub const LIST: u8 = b'l';
pub const DICT: u8 = b'm';
pub const DICT_OF_SHAPE: u8 = b'M';
pub const INSTANCE: u8 = b'o';

/// More strings, bytes and containers than this in one object are left to pickle's hash table.
const MOST_MEMOIZED: usize = 32;
/// Usually there are no more.
const FEW_MEMOIZED: usize = 8;
const _: () = assert!(MOST_MEMOIZED + 1 < MOST_BLOCKS); // what travels outside is memoized, too
/// Longer containers than this are pickled: pickle is as quick there.
pub const MOST_ITEMS: usize = 4096;
/// Containers that lie deeper in others are left to pickle: here each level takes some of the stack.
pub const DEEPEST: usize = 8;

/// The value is one that pickle must encode. What was appended meanwhile is to be cut off.
#[derive(Debug, PartialEq, Eq)]
pub struct Unsupported;

impl From<()> for Unsupported {
    fn from((): ()) -> Self {
        Self
    }
}

/// Appends the encoding of `value`, and to `parts` what of it travels outside. `false` when pickle must do it.
///
/// # Errors
/// What a signal handler has raised meanwhile.
#[inline]
pub fn encode(
    value: &Bound<'_, PyAny>,
    out: &mut Vec<u8>,
    parts: &mut Vec<Part>,
) -> PyResult<bool> {
    match encode_number(value, out) {
        Ok(false) => encode_with_identity(value, out, parts),
        encoded => Ok(encoded.is_ok()),
    }
}

/// Appends a value that may have parts, whose identity counts.
fn encode_with_identity(
    value: &Bound<'_, PyAny>,
    out: &mut Vec<u8>,
    parts: &mut Vec<Part>,
) -> PyResult<bool> {
    let mut seen = Seen::new(value, parts);
    let encoded = match encode_scalar(value, out, &mut seen) {
        Ok(false) => encode_container(value, out, &mut seen),
        encoded => encoded.map(drop),
    };
    match seen.interruption {
        None => Ok(encoded.is_ok()),
        Some(error) => Err(error),
    }
}

/// Appends a container, or what [`encode_buffer`] does.
#[inline]
fn encode_container(
    value: &Bound<'_, PyAny>,
    out: &mut Vec<u8>,
    seen: &mut Seen<'_>,
) -> Result<(), Unsupported> {
    if let Ok(tuple) = value.cast_exact::<PyTuple>() {
        begin(TUPLE, tuple.len(), out)?;
        return tuple
            .iter_borrowed()
            .try_for_each(|item| item_of(&item, out, seen));
    }
    if let Ok(list) = value.cast_exact::<PyList>() {
        let len = list.len();
        begin(LIST, len, out)?;
        list.iter().try_for_each(|item| item_of(&item, out, seen))?;
        return if list.len() < len {
            Err(Unsupported) // an import ran the collector, and that a finalizer
        } else {
            Ok(())
        };
    }
    if let Ok(dict) = value.cast_exact::<PyDict>() {
        return encode_dict(dict, out, seen);
    }
    encode_buffer(value, out, seen)
}

fn begin(tag: u8, len: usize, out: &mut Vec<u8>) -> Result<(), Unsupported> {
    out.push(tag);
    count(len, out)
}

fn count(len: usize, out: &mut Vec<u8>) -> Result<(), Unsupported> {
    if len > MOST_ITEMS {
        return Err(Unsupported);
    }
    out.extend_from_slice(&(len as u32).to_le_bytes());
    Ok(())
}

#[inline]
fn item_of(
    item: &Bound<'_, PyAny>,
    out: &mut Vec<u8>,
    seen: &mut Seen<'_>,
) -> Result<(), Unsupported> {
    if encode_scalar(item, out, seen)? {
        return Ok(());
    }
    encode_nested(item, out, seen)
}

/// Appends what lies in a container and may be one itself.
#[inline(never)]
fn encode_nested(
    item: &Bound<'_, PyAny>,
    out: &mut Vec<u8>,
    seen: &mut Seen<'_>,
) -> Result<(), Unsupported> {
    let tuple = item.cast_exact::<PyTuple>();
    let is_container = tuple.is_ok()
        || item.is_exact_instance_of::<PyList>()
        || item.is_exact_instance_of::<PyDict>();
    if !is_container {
        return encode_buffer(item, out, seen);
    }
    let is_only_one = tuple.is_ok_and(|tuple| tuple.is_empty()); // there is one empty tuple
    if !is_only_one {
        seen.first_time(item)?;
    }
    if seen.depth == DEEPEST || item.as_ptr() as usize == seen.outermost {
        return Err(Unsupported);
    }
    seen.depth += 1;
    encode_container(item, out, seen)?;
    seen.depth -= 1;
    Ok(())
}

/// Objects whose identity pickle would keep, and those of them that travel outside.
struct Seen<'a> {
    /// The first of them: to clear room for all takes as long as to encode a number.
    few: [usize; FEW_MEMOIZED],
    many: Vec<usize>,
    count: usize,
    /// The address of the whole, which may lie in itself.
    outermost: usize,
    /// In how many containers within the outermost.
    depth: usize,
    /// Whether a dict is being gone through, and must not change: no Python code may run.
    is_in_dict: bool,
    /// What a signal handler has raised.
    interruption: Option<PyErr>,
    parts: &'a mut Vec<Part>,
}

impl<'a> Seen<'a> {
    #[inline]
    fn new(whole: &Bound<'_, PyAny>, parts: &'a mut Vec<Part>) -> Self {
        Self {
            few: [0; FEW_MEMOIZED],
            many: Vec::new(),
            count: 0,
            outermost: whole.as_ptr() as usize,
            depth: 0,
            is_in_dict: false,
            interruption: None,
            parts,
        }
    }

    #[inline]
    fn first_time(&mut self, value: &Bound<'_, PyAny>) -> Result<(), Unsupported> {
        let address = value.as_ptr() as usize;
        let (few, rest) = self.few.split_at_mut(self.count.min(FEW_MEMOIZED));
        if few.contains(&address) {
            return Err(Unsupported);
        }
        match rest.first_mut() {
            Some(free) => *free = address,
            None => self.first_of_many(address)?,
        }
        self.count += 1;
        Ok(())
    }

    #[cold]
    fn first_of_many(&mut self, address: usize) -> Result<(), Unsupported> {
        self.many.truncate(self.count - FEW_MEMOIZED);
        if self.count == MOST_MEMOIZED || self.many.contains(&address) {
            return Err(Unsupported);
        }
        self.many.push(address);
        Ok(())
    }
}

/// Appends a value without parts; `false` when it is none.
#[inline]
fn encode_scalar(
    value: &Bound<'_, PyAny>,
    out: &mut Vec<u8>,
    seen: &mut Seen<'_>,
) -> Result<bool, Unsupported> {
    if let Ok(text) = value.cast_exact::<PyString>() {
        encode_text(text, out, seen)?;
    } else if let Ok(bytes) = value.cast_exact::<PyBytes>() {
        seen.first_time(value)?;
        if bytes.as_bytes().len() >= outside::LEAST {
            return Ok(send_outside(bytes, out, seen));
        }
        out.push(BYTES);
        sized(bytes.as_bytes(), out)?;
    } else {
        return encode_number(value, out);
    }
    Ok(true)
}

#[cold]
fn send_outside(bytes: &Bound<'_, PyBytes>, out: &mut Vec<u8>, seen: &mut Seen<'_>) -> bool {
    out.push(BYTES_OUTSIDE);
    seen.parts.push(Part::Bytes(bytes.clone().unbind()));
    true
}

/// Appends a value of a type whose bytes can be written.
#[cold]
fn encode_buffer(
    value: &Bound<'_, PyAny>,
    out: &mut Vec<u8>,
    seen: &mut Seen<'_>,
) -> Result<(), Unsupported> {
    seen.first_time(value)?;
    let Ok(array) = value.cast_exact::<PyByteArray>() else {
        return if encode_instance(value, out, seen)? {
            Ok(())
        } else if array::is_one(value) {
            array::encode(value, out, seen.parts)
        } else {
            Err(Unsupported)
        };
    };
    if array.len() < outside::LEAST {
        out.push(ARRAY);
        return buffer::with_array_bytes(array, |bytes| sized(bytes, out));
    }
    let buffer = PyUntypedBuffer::get(array).map_err(|_| Unsupported)?;
    out.push(ARRAY_OUTSIDE);
    seen.parts.push(Part::Buffer(buffer));
    Ok(())
}

/// Appends an instance of a plain class; `false` if it is none, or in a place where its class's code must not run.
fn encode_instance(
    value: &Bound<'_, PyAny>,
    out: &mut Vec<u8>,
    seen: &mut Seen<'_>,
) -> Result<bool, Unsupported> {
    if seen.is_in_dict || seen.depth == DEEPEST {
        return Ok(false);
    }
    let start = out.len();
    out.push(INSTANCE);
    let state = match instance::encode(value, out) {
        Ok(Some(state)) => state,
        Ok(None) => {
            out.truncate(start);
            return Ok(false);
        }
        Err(error) => {
            // Pickle will say it again; what interrupts the program is said once.
            seen.interruption =
                Some(error).filter(|it| !it.is_instance_of::<PyException>(value.py()));
            return Err(Unsupported);
        }
    };
    seen.first_time(&state)?;
    seen.depth += 1;
    encode_attributes(&state, out, seen)?;
    seen.depth -= 1;
    Ok(true)
}

/// Appends a text, and returns it.
#[inline]
fn encode_text<'a>(
    text: &'a Bound<'_, PyString>,
    out: &mut Vec<u8>,
    seen: &mut Seen<'_>,
) -> Result<&'a str, Unsupported> {
    seen.first_time(text)?;
    let text = text.to_str().map_err(|_| Unsupported)?; // lone surrogates
    out.push(STR);
    sized(text.as_bytes(), out)?;
    Ok(text)
}

/// Appends bytes behind their length.
pub fn sized(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Unsupported> {
    let Ok(len) = u32::try_from(bytes.len()) else {
        return Err(Unsupported);
    };
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(bytes);
    Ok(())
}
