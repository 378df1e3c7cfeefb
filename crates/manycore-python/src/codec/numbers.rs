//! Numbers, flags and `None`: what has no parts, and a queue passes on without Python code.

use pyo3::prelude::*;
use pyo3::types::{PyBool, PyFloat, PyInt};

use super::{FALSE, FLOAT, INT, NONE, TRUE, Unsupported};

/// Whether an encoding is that of a number, a flag or `None`.
#[inline]
pub fn is_number(encoded: &[u8]) -> bool {
    matches!(encoded, [INT | FLOAT | NONE | TRUE | FALSE, ..])
}

/// Appends a number, a flag or `None`; `false` when the value is none of them.
///
/// # Errors
/// [`Unsupported`] if it is a number that is too long.
#[inline]
pub fn encode_number(value: &Bound<'_, PyAny>, out: &mut impl Sink) -> Result<bool, Unsupported> {
    if let Ok(int) = value.cast_exact::<PyInt>() {
        let number: i64 = int.extract().map_err(|_| Unsupported)?;
        out.tagged(INT, number.to_le_bytes());
    } else if let Ok(float) = value.cast_exact::<PyFloat>() {
        out.tagged(FLOAT, float.value().to_le_bytes());
    } else if value.is_none() {
        out.tag(NONE);
    } else if let Ok(flag) = value.cast_exact::<PyBool>() {
        out.tag(if flag.is_true() { TRUE } else { FALSE });
    } else {
        return Ok(false);
    }
    Ok(true)
}

/// The number, the flag or `None` that `encoded` is, and nothing else is. As in [`crate::decoding`], which takes 10 ns more.
#[inline]
pub fn decode_number<'py>(py: Python<'py>, encoded: &[u8]) -> Option<Bound<'py, PyAny>> {
    match encoded {
        [INT, number @ ..] => {
            let number = i64::from_le_bytes(number.try_into().ok()?);
            Some(number.into_pyobject(py).ok()?.into_any())
        }
        [FLOAT, number @ ..] => {
            let number = f64::from_le_bytes(number.try_into().ok()?);
            Some(PyFloat::new(py, number).into_any())
        }
        [NONE] => Some(py.None().into_bound(py)),
        [flag @ (TRUE | FALSE)] => Some(PyBool::new(py, *flag == TRUE).to_owned().into_any()),
        _ => None,
    }
}

/// What numbers are appended to.
pub trait Sink {
    /// Appends a tag and the eight bytes that it announces.
    fn tagged(&mut self, tag: u8, bytes: [u8; 8]);
    /// Appends a tag that says it all.
    fn tag(&mut self, tag: u8);
}

impl Sink for Vec<u8> {
    #[inline]
    fn tagged(&mut self, tag: u8, bytes: [u8; 8]) {
        self.extend_from_slice(&both(tag, bytes));
    }

    #[inline]
    fn tag(&mut self, tag: u8) {
        self.push(tag);
    }
}

/// Bytes of an encoding, at most.
const LONGEST: usize = 9;

/// The encoding of one number.
#[derive(Default)]
pub struct Number {
    bytes: [u8; LONGEST],
    len: usize,
}

impl Number {
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

impl Sink for Number {
    #[inline]
    fn tagged(&mut self, tag: u8, bytes: [u8; 8]) {
        (self.bytes, self.len) = (both(tag, bytes), LONGEST);
    }

    #[inline]
    fn tag(&mut self, tag: u8) {
        (self.bytes, self.len) = ([tag; LONGEST], 1);
    }
}

#[inline]
fn both(tag: u8, bytes: [u8; 8]) -> [u8; LONGEST] {
    let mut both = [tag; LONGEST];
    both[1..].copy_from_slice(&bytes);
    both
}
