//! Keys as bytes: those of equal keys are equal.
//!
//! `1`, `1.0` and `True` are one key in Python, and so are `0.0` and `-0.0`: a number without a fraction is encoded as
//! an `int`, whatever its type. What does not encode like that is no key here.

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyFloat, PyInt, PyString, PyTuple};

use crate::codec::{BYTES, DEEPEST, FLOAT, INT, NONE, STR, TUPLE};
use crate::decoding::damaged;
use crate::keys;

/// An `int` of more than 64 bits.
const LONG: u8 = b'I';

/// Appends the encoding of a key.
///
/// # Errors
/// When it is none.
#[inline]
pub fn encode(key: &Bound<'_, PyAny>, out: &mut Vec<u8>) -> PyResult<()> {
    if let Ok(text) = key.cast_exact::<PyString>() {
        if let Ok(text) = text.to_str() {
            return sized(STR, text.as_bytes(), out);
        }
        let options = (
            intern!(key.py(), "utf-8"),
            intern!(key.py(), "surrogatepass"),
        );
        let bytes = text.call_method1(intern!(key.py(), "encode"), options)?;
        return sized(STR, bytes.cast::<PyBytes>()?.as_bytes(), out);
    }
    if key.is_exact_instance_of::<PyInt>() {
        return encode_int(key, out);
    }
    encode_other(key, out, 0)
}

fn encode_other(key: &Bound<'_, PyAny>, out: &mut Vec<u8>, depth: usize) -> PyResult<()> {
    if let Ok(bytes) = key.cast_exact::<PyBytes>() {
        return sized(BYTES, bytes.as_bytes(), out);
    }
    if let Ok(flag) = key.cast_exact::<PyBool>() {
        number(INT, i64::from(flag.is_true()).to_le_bytes(), out);
        return Ok(());
    }
    if let Ok(float) = key.cast_exact::<PyFloat>() {
        return encode_float(float, out);
    }
    if key.is_none() {
        out.push(NONE);
        return Ok(());
    }
    match key.cast_exact::<PyTuple>() {
        Ok(tuple) if depth < DEEPEST => encode_tuple(tuple, out, depth),
        _ => Err(no_key(key)),
    }
}

fn encode_tuple(tuple: &Bound<'_, PyTuple>, out: &mut Vec<u8>, depth: usize) -> PyResult<()> {
    out.push(TUPLE);
    out.extend_from_slice(&(tuple.len() as u32).to_le_bytes()); // too many are too long in any case
    for item in tuple.iter_borrowed() {
        if item.is_exact_instance_of::<PyTuple>() {
            encode_other(&item, out, depth + 1)?;
        } else {
            encode(&item, out)?;
        }
    }
    Ok(())
}

/// Why an object is no key.
fn no_key(key: &Bound<'_, PyAny>) -> PyErr {
    let class = key.get_type();
    let name = class
        .name()
        .map_or_else(|_| "?".into(), |name| name.to_string());
    PyTypeError::new_err(format!(
        "a key of a SharedDict has to be a str, bytes, int, float, bool, None, or a tuple of such keys, at most \
         {DEEPEST} deep, and of that very type: not {name}"
    ))
}

fn sized(tag: u8, bytes: &[u8], out: &mut Vec<u8>) -> PyResult<()> {
    let Ok(len) = u32::try_from(bytes.len()) else {
        return Err(PyValueError::new_err("a key of 4 GiB or more is too long"));
    };
    out.push(tag);
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(bytes);
    Ok(())
}

fn number(tag: u8, bytes: [u8; 8], out: &mut Vec<u8>) {
    out.push(tag);
    out.extend_from_slice(&bytes);
}

fn encode_int(int: &Bound<'_, PyAny>, out: &mut Vec<u8>) -> PyResult<()> {
    if let Ok(short) = int.extract::<i64>() {
        number(INT, short.to_le_bytes(), out);
        return Ok(());
    }
    let py = int.py();
    let bits: usize = int.call_method0(intern!(py, "bit_length"))?.extract()?;
    let options = pyo3::types::PyDict::new(py);
    options.set_item(intern!(py, "signed"), true)?;
    let shape = (bits / 8 + 1, intern!(py, "little")); // the fewest bytes, with a sign
    let bytes = int.call_method(intern!(py, "to_bytes"), shape, Some(&options))?;
    sized(LONG, bytes.cast::<PyBytes>()?.as_bytes(), out)
}

fn encode_float(float: &Bound<'_, PyFloat>, out: &mut Vec<u8>) -> PyResult<()> {
    let value = float.value();
    if value.is_nan() {
        return Err(PyValueError::new_err(
            "nan is no key of a SharedDict: it equals nothing, so it would never be found",
        ));
    }
    if value.is_finite() && value.fract() == 0.0 {
        return encode_int(&float.call_method0(intern!(float.py(), "__int__"))?, out);
    }
    number(FLOAT, value.to_le_bytes(), out);
    Ok(())
}

/// The key that these bytes encode.
///
/// # Errors
/// When they encode none.
pub fn decode<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    let mut left = bytes;
    let key = decode_next(py, &mut left, 0)?;
    if left.is_empty() {
        Ok(key)
    } else {
        Err(damaged())
    }
}

fn decode_next<'py>(
    py: Python<'py>,
    left: &mut &[u8],
    depth: usize,
) -> PyResult<Bound<'py, PyAny>> {
    let [tag] = take(left)?;
    Ok(match tag {
        STR => decode_text(py, next_sized(left)?)?,
        BYTES => PyBytes::new(py, next_sized(left)?).into_any(),
        INT => i64::from_le_bytes(take(left)?)
            .into_pyobject(py)?
            .into_any(),
        FLOAT => PyFloat::new(py, f64::from_le_bytes(take(left)?)).into_any(),
        NONE => py.None().into_bound(py),
        LONG => decode_long(py, next_sized(left)?)?,
        TUPLE if depth <= DEEPEST => {
            let count = u32::from_le_bytes(take(left)?) as usize;
            if count > left.len() {
                return Err(damaged());
            }
            let items: PyResult<Vec<_>> = (0..count)
                .map(|_| decode_next(py, left, depth + 1))
                .collect();
            PyTuple::new(py, items?)?.into_any()
        }
        _ => return Err(damaged()),
    })
}

fn take<const N: usize>(left: &mut &[u8]) -> PyResult<[u8; N]> {
    let (head, rest) = left.split_first_chunk::<N>().ok_or_else(damaged)?;
    *left = rest;
    Ok(*head)
}

fn next_sized<'a>(left: &mut &'a [u8]) -> PyResult<&'a [u8]> {
    let len = u32::from_le_bytes(take(left)?) as usize;
    let (head, rest) = left.split_at_checked(len).ok_or_else(damaged)?;
    *left = rest;
    Ok(head)
}

fn decode_text<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    if let Ok(text) = keys::key(py, bytes) {
        return Ok(text.into_any());
    }
    let options = (intern!(py, "utf-8"), intern!(py, "surrogatepass"));
    let text = PyBytes::new(py, bytes).call_method1(intern!(py, "decode"), options);
    text.map_err(|_| damaged())
}

fn decode_long<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    let options = pyo3::types::PyDict::new(py);
    options.set_item(intern!(py, "signed"), true)?;
    let encoded = (PyBytes::new(py, bytes), intern!(py, "little"));
    py.get_type::<PyInt>()
        .call_method(intern!(py, "from_bytes"), encoded, Some(&options))
}
