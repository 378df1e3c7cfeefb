//! The native encoding of small plain values.
//!
//! `None`, `bool`, `int` (64 bits), `float`, `str`, `bytes`, `bytearray`, and tuples, lists and dicts of them, all
//! of the exact built-in types, are encoded here, in 5 to 60 ns. Everything else is pickled, and so is
//! whatever pickle would bring back in another shape: pickle keeps the *identity* of strings and
//! bytes that occur twice in one object, so a container in which one does is not encoded here. Long `bytes` and
//! `bytearray` objects travel outside, and the encoding only says that they are next there. NumPy's arrays
//! are dealt with in [`array`].

use manycore_ipc::ring::record::MOST_BLOCKS;
use pyo3::buffer::PyUntypedBuffer;
use pyo3::prelude::*;
use pyo3::types::{
    PyBool, PyByteArray, PyBytes, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple,
};

use crate::array;
use crate::buffer;
use crate::keys;
use crate::outside::{self, Part, Received};

const NONE: u8 = b'N';
const TRUE: u8 = b'T';
const FALSE: u8 = b'F';
const INT: u8 = b'i';
const FLOAT: u8 = b'd';
const STR: u8 = b's';
const BYTES: u8 = b'b';
const BYTES_OUTSIDE: u8 = b'B';
const ARRAY: u8 = b'a';
const ARRAY_OUTSIDE: u8 = b'A';
const TUPLE: u8 = b't';
const LIST: u8 = b'l';
const DICT: u8 = b'm';

/// More strings and bytes than this in one container are left to pickle's hash table.
const MOST_MEMOIZED: usize = 16;
const _: () = assert!(MOST_MEMOIZED + 1 < MOST_BLOCKS); // what travels outside is memoized, too
/// Longer containers than this are pickled: pickle is as quick there.
const MOST_ITEMS: usize = 4096;

/// The value is one that pickle must encode. What was appended meanwhile is to be cut off.
#[derive(Debug)]
pub struct Unsupported;

impl From<()> for Unsupported {
    fn from((): ()) -> Self {
        Self
    }
}

/// Appends the encoding of `value`, and to `parts` what of it travels outside.
///
/// # Errors
/// [`Unsupported`] when pickle must do it.
#[inline]
pub fn encode(
    value: &Bound<'_, PyAny>,
    out: &mut Vec<u8>,
    parts: &mut Vec<Part>,
) -> Result<(), Unsupported> {
    let mut seen = Seen::new(parts);
    if encode_scalar(value, out, &mut seen)? {
        return Ok(());
    }
    if let Ok(tuple) = value.cast_exact::<PyTuple>() {
        begin(TUPLE, tuple.len(), out)?;
        return tuple
            .iter_borrowed()
            .try_for_each(|item| item_of(&item, out, &mut seen));
    }
    if let Ok(list) = value.cast_exact::<PyList>() {
        begin(LIST, list.len(), out)?;
        return list
            .iter()
            .try_for_each(|item| item_of(&item, out, &mut seen));
    }
    if let Ok(dict) = value.cast_exact::<PyDict>() {
        begin(DICT, dict.len(), out)?;
        return dict.iter().try_for_each(|(key, item)| {
            item_of(&key, out, &mut seen)?;
            item_of(&item, out, &mut seen)
        });
    }
    encode_buffer(value, out, &mut seen)
}

fn begin(tag: u8, len: usize, out: &mut Vec<u8>) -> Result<(), Unsupported> {
    if len > MOST_ITEMS {
        return Err(Unsupported);
    }
    out.push(tag);
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
    encode_buffer(item, out, seen)
}

/// Objects whose identity pickle would keep, and those of them that travel outside.
struct Seen<'a> {
    addresses: [usize; MOST_MEMOIZED],
    count: usize,
    parts: &'a mut Vec<Part>,
}

impl<'a> Seen<'a> {
    #[inline]
    fn new(parts: &'a mut Vec<Part>) -> Self {
        Self {
            addresses: [0; MOST_MEMOIZED],
            count: 0,
            parts,
        }
    }

    #[inline]
    fn first_time(&mut self, value: &Bound<'_, PyAny>) -> Result<(), Unsupported> {
        let address = value.as_ptr() as usize;
        let (known, rest) = self.addresses.split_at_mut(self.count);
        match rest.first_mut() {
            Some(free) if !known.contains(&address) => {
                *free = address;
                self.count += 1;
                Ok(())
            }
            _ => Err(Unsupported),
        }
    }
}

/// Appends a value without parts; `false` when it is none.
#[inline]
fn encode_scalar(
    value: &Bound<'_, PyAny>,
    out: &mut Vec<u8>,
    seen: &mut Seen<'_>,
) -> Result<bool, Unsupported> {
    if let Ok(int) = value.cast_exact::<PyInt>() {
        let Ok(number) = int.extract::<i64>() else {
            return Err(Unsupported);
        };
        out.push(INT);
        out.extend_from_slice(&number.to_le_bytes());
    } else if let Ok(text) = value.cast_exact::<PyString>() {
        seen.first_time(value)?;
        let Ok(text) = text.to_str() else {
            return Err(Unsupported);
        }; // lone surrogates
        out.push(STR);
        sized(text.as_bytes(), out)?;
    } else if let Ok(float) = value.cast_exact::<PyFloat>() {
        out.push(FLOAT);
        out.extend_from_slice(&float.value().to_le_bytes());
    } else if value.is_none() {
        out.push(NONE);
    } else if let Ok(flag) = value.cast_exact::<PyBool>() {
        out.push(if flag.is_true() { TRUE } else { FALSE });
    } else if let Ok(bytes) = value.cast_exact::<PyBytes>() {
        seen.first_time(value)?;
        if bytes.as_bytes().len() >= outside::LEAST {
            return Ok(send_outside(bytes, out, seen));
        }
        out.push(BYTES);
        sized(bytes.as_bytes(), out)?;
    } else {
        return Ok(false);
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
        return array::encode(value, out, seen.parts);
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

/// Appends bytes behind their length.
pub fn sized(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Unsupported> {
    let Ok(len) = u32::try_from(bytes.len()) else {
        return Err(Unsupported);
    };
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(bytes);
    Ok(())
}

/// Builds the value that `bytes` encode, with what has travelled outside, if anything has.
///
/// # Errors
/// A Python error when an object cannot be made, or when the bytes are damaged.
pub fn decode<'py>(
    py: Python<'py>,
    bytes: &[u8],
    parts: Option<&mut Received<'_>>,
) -> PyResult<Bound<'py, PyAny>> {
    let mut reader = Reader { bytes, parts };
    let value = reader.value(py)?;
    if reader.bytes.is_empty() {
        Ok(value)
    } else {
        Err(damaged())
    }
}

/// What bytes are that encode nothing.
pub fn damaged() -> PyErr {
    crate::errors::corrupted("a message's encoding is damaged")
}

/// What is left of an encoding.
pub struct Reader<'a, 'b> {
    bytes: &'a [u8],
    parts: Option<&'a mut Received<'b>>,
}

impl<'a, 'b> Reader<'a, 'b> {
    /// The message's parts outside its payload; one without any says that it has some only if it is damaged.
    pub fn parts(&mut self) -> PyResult<&mut Received<'b>> {
        self.parts.as_deref_mut().ok_or_else(damaged)
    }

    /// The next bytes.
    #[inline]
    pub fn take(&mut self, len: usize) -> PyResult<&'a [u8]> {
        let (head, rest) = self.bytes.split_at_checked(len).ok_or_else(damaged)?;
        self.bytes = rest;
        Ok(head)
    }

    /// As many bytes as the caller's array has.
    #[inline]
    pub fn array<const N: usize>(&mut self) -> PyResult<[u8; N]> {
        let (head, rest) = self.bytes.split_first_chunk::<N>().ok_or_else(damaged)?;
        self.bytes = rest;
        Ok(*head)
    }

    /// The length of a container.
    #[inline]
    fn count(&mut self) -> PyResult<usize> {
        let count = self.len()?;
        if count <= MOST_ITEMS {
            Ok(count)
        } else {
            Err(damaged())
        }
    }

    /// A length.
    #[inline]
    pub fn len(&mut self) -> PyResult<usize> {
        Ok(u32::from_le_bytes(self.array()?) as usize)
    }

    #[inline]
    fn value<'py>(&mut self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let [tag] = self.array()?;
        match tag {
            TUPLE => {
                let items = self.items(py)?;
                Ok(PyTuple::new(py, items)?.into_any())
            }
            LIST => {
                let items = self.items(py)?;
                Ok(PyList::new(py, items)?.into_any())
            }
            DICT => {
                let dict = PyDict::new(py);
                for _ in 0..self.count()? {
                    let key = self.key(py)?;
                    let [tag] = self.array()?;
                    dict.set_item(key, self.scalar(py, tag)?)?;
                }
                Ok(dict.into_any())
            }
            tag => self.scalar(py, tag),
        }
    }

    /// A key of a dict.
    #[inline]
    fn key<'py>(&mut self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let [tag] = self.array()?;
        if tag == STR {
            let len = self.len()?;
            let key = keys::key(py, self.take(len)?).map_err(|_| damaged())?;
            Ok(key.into_any())
        } else {
            self.scalar(py, tag)
        }
    }

    fn text(&mut self) -> PyResult<&'a str> {
        let len = self.len()?;
        std::str::from_utf8(self.take(len)?).map_err(|_| damaged())
    }

    fn items<'py>(&mut self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let count = self.count()?;
        let mut items = Vec::with_capacity(count);
        for _ in 0..count {
            let [tag] = self.array()?;
            items.push(self.scalar(py, tag)?);
        }
        Ok(items)
    }

    #[inline]
    fn scalar<'py>(&mut self, py: Python<'py>, tag: u8) -> PyResult<Bound<'py, PyAny>> {
        Ok(match tag {
            INT => i64::from_le_bytes(self.array()?)
                .into_pyobject(py)?
                .into_any(),
            FLOAT => PyFloat::new(py, f64::from_le_bytes(self.array()?)).into_any(),
            NONE => py.None().into_bound(py),
            TRUE => PyBool::new(py, true).to_owned().into_any(),
            FALSE => PyBool::new(py, false).to_owned().into_any(),
            STR => PyString::new(py, self.text()?).into_any(),
            BYTES => {
                let len = self.len()?;
                PyBytes::new(py, self.take(len)?).into_any()
            }
            tag => self.buffer(py, tag)?,
        })
    }

    /// What travels outside, or can be written.
    #[cold]
    fn buffer<'py>(&mut self, py: Python<'py>, tag: u8) -> PyResult<Bound<'py, PyAny>> {
        Ok(match tag {
            BYTES_OUTSIDE => self.parts()?.bytes(py)?.into_any(),
            ARRAY_OUTSIDE => self.parts()?.bytearray(py)?.into_any(),
            ARRAY => {
                let len = self.len()?;
                PyByteArray::new(py, self.take(len)?).into_any()
            }
            tag if array::is_array(tag) => array::decode(py, tag, self)?,
            _ => return Err(damaged()),
        })
    }
}
