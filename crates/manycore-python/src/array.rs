//! NumPy arrays in the native encoding, where pickle takes ten times as long for a small one.
//!
//! Only what leaves no doubt how it arrives: exactly `numpy.ndarray`, of numbers, contiguous and writable. It is
//! read by the buffer protocol; the binding does not need NumPy, but who receives an array does.
//!
//! ```text
//! byte order | kind | bytes of an item | C or F | dimensions, one byte | each of them | length, bytes
//! ```
//!
//! Length and bytes are missing where they travel outside.

use std::ffi::CStr;

use pyo3::buffer::PyUntypedBuffer;
use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyByteArray, PyDict, PyTuple, PyType};

use crate::buffer;
use crate::codec::{Unsupported, sized};
use crate::decoding::{Reader, damaged};
use crate::imported::imported;
use crate::outside::{self, Part};
use crate::reducers;

const INSIDE: u8 = b'n';
const OUTSIDE: u8 = b'O';
const NATIVE_ORDER: u8 = if cfg!(target_endian = "little") {
    b'<'
} else {
    b'>'
};

/// Whether a tag is one of [`encode`].
pub fn is_array(tag: u8) -> bool {
    matches!(tag, INSIDE | OUTSIDE)
}

/// Whether a value is an array.
pub fn is_one(value: &Bound<'_, PyAny>) -> bool {
    class(value.py()).is_some_and(|class| value.get_type().is(class))
}

/// Appends an array.
///
/// # Errors
/// [`Unsupported`] when pickle must do it.
#[cold]
pub fn encode(
    value: &Bound<'_, PyAny>,
    out: &mut Vec<u8>,
    parts: &mut Vec<Part>,
) -> Result<(), Unsupported> {
    let py = value.py();
    let is_ours = |error: PyErr| drop(error); // such as of dates, which have no format: pickle says it again
    if reducers::has_one(&value.get_type()).map_err(is_ours)?
        || has_metadata(value).map_err(is_ours)?
    {
        return Err(Unsupported);
    }
    let buffer = PyUntypedBuffer::get(value).map_err(is_ours)?;
    let is_c = buffer.is_c_contiguous();
    let Some((order, kind)) = describe(buffer.format()) else {
        return Err(Unsupported);
    };
    let (Ok(size), Ok(dimensions)) = (
        u8::try_from(buffer.item_size()),
        u8::try_from(buffer.dimensions()),
    ) else {
        return Err(Unsupported);
    };
    if !is_number(kind, size) || buffer.readonly() || !(is_c || buffer.is_fortran_contiguous()) {
        return Err(Unsupported);
    }
    let is_inside = buffer.len_bytes() < outside::LEAST;
    let layout = if is_c { b'C' } else { b'F' };
    let tag = if is_inside { INSIDE } else { OUTSIDE };
    out.extend_from_slice(&[tag, order, kind, size, layout, dimensions]);
    for &length in buffer.shape() {
        out.extend_from_slice(&(length as u64).to_le_bytes());
    }
    if is_inside {
        buffer::with_bytes(&buffer, py, |bytes| sized(bytes, out)).map_err(is_ours)??;
    } else {
        parts.push(Part::Buffer(buffer));
    }
    Ok(())
}

/// Builds an array whose tag has been read.
///
/// # Errors
/// When NumPy cannot be imported, or the encoding is damaged.
#[cold]
pub fn decode<'py>(
    py: Python<'py>,
    tag: u8,
    reader: &mut Reader<'_, '_>,
) -> PyResult<Bound<'py, PyAny>> {
    static CLASS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let [order, kind, size, layout, dimensions] = reader.array()?;
    let is_known = b"<>".contains(&order) && is_number(kind, size) && b"CF".contains(&layout);
    let mut shape = Vec::with_capacity(dimensions.into());
    let mut bytes = Some(usize::from(size)).filter(|_| is_known);
    for _ in 0..dimensions {
        let length = usize::try_from(u64::from_le_bytes(reader.array()?)).map_err(|_| damaged())?;
        bytes = bytes.and_then(|bytes| bytes.checked_mul(length));
        shape.push(length);
    }
    let data = if tag == INSIDE {
        let len = reader.len()?;
        PyByteArray::new(py, reader.take(len)?).into_any()
    } else {
        reader.parts()?.buffer(py)?
    };
    if bytes != Some(data.len()?) {
        return Err(damaged());
    }
    let class = imported(&CLASS, py, "numpy", "ndarray")?;
    let kind = format!("{}{}{size}", order as char, kind as char);
    let shape = PyTuple::new(py, shape)?;
    let layout = (layout as char).to_string();
    let made = class.call1((shape, kind, data, 0, py.None(), layout));
    // Such as of more dimensions than there can be.
    made.map_err(|error| match error.is_instance_of::<PyValueError>(py) {
        true => damaged(),
        false => error,
    })
}

/// `numpy.ndarray`, if there is one: who has an array has imported NumPy.
fn class(py: Python<'_>) -> Option<&Py<PyType>> {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    static MODULES: PyOnceLock<Py<PyDict>> = PyOnceLock::new();
    if let Some(class) = CLASS.get(py) {
        return Some(class);
    }
    let modules = imported(&MODULES, py, "sys", "modules").ok()?;
    let numpy = modules.get_item(intern!(py, "numpy")).ok()??;
    let class = numpy.getattr("ndarray").ok()?.cast_into::<PyType>().ok()?;
    let _ = CLASS.set(py, class.unbind()); // or somebody else did
    CLASS.get(py)
}

fn has_metadata(array: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = array.py();
    let dtype = array.getattr(intern!(py, "dtype"))?;
    Ok(!dtype.getattr(intern!(py, "metadata"))?.is_none())
}

/// Whether NumPy may have numbers of a kind and size.
fn is_number(kind: u8, size: u8) -> bool {
    match kind {
        b'b' => size == 1,
        b'i' | b'u' => matches!(size, 1 | 2 | 4 | 8),
        b'f' => matches!(size, 2 | 4 | 8 | 12 | 16),
        b'c' => matches!(size, 8 | 16 | 24 | 32),
        _ => false,
    }
}

/// Byte order and kind of a number, in NumPy's letters. Types of one kind and size are one type after a pickle, too.
fn describe(format: &CStr) -> Option<(u8, u8)> {
    let (order, letters) = match format.to_bytes() {
        [order @ (b'<' | b'>'), letters @ ..] => (*order, letters),
        letters => (NATIVE_ORDER, letters),
    };
    let kind = match letters {
        b"?" => b'b',
        b"b" | b"h" | b"i" | b"l" | b"q" => b'i',
        b"B" | b"H" | b"I" | b"L" | b"Q" => b'u',
        b"e" | b"f" | b"d" | b"g" => b'f',
        b"Zf" | b"Zd" | b"Zg" => b'c',
        _ => return None,
    };
    Some((order, kind))
}
