//! Values from their native encoding: see [`crate::codec`].

use pyo3::prelude::*;
use pyo3::types::{PyBool, PyByteArray, PyBytes, PyDict, PyFloat, PyList, PyString, PyTuple};

use crate::codec::{
    ARRAY, ARRAY_OUTSIDE, BYTES, BYTES_OUTSIDE, DEEPEST, DICT, DICT_OF_SHAPE, FALSE, FLOAT,
    INSTANCE, INT, LIST, MOST_ITEMS, NONE, STR, TRUE, TUPLE,
};
use crate::outside::Received;
use crate::{array, instance, keys, shapes};

/// Builds the value that `bytes` encode, with what has travelled outside, if anything has.
///
/// # Errors
/// A Python error when an object cannot be made, or when the bytes are damaged.
pub fn decode<'py>(
    py: Python<'py>,
    bytes: &[u8],
    parts: Option<&mut Received<'_>>,
) -> PyResult<Bound<'py, PyAny>> {
    let mut reader = Reader {
        bytes,
        parts,
        depth: 0,
    };
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
    depth: usize,
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
    pub fn count(&mut self) -> PyResult<usize> {
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

    /// A text behind its length.
    #[inline]
    pub fn text(&mut self) -> PyResult<&'a str> {
        std::str::from_utf8(self.sized()?).map_err(|_| damaged())
    }

    /// Bytes behind their length.
    #[inline]
    pub fn sized(&mut self) -> PyResult<&'a [u8]> {
        let len = self.len()?;
        self.take(len)
    }

    /// A text that has probably been received before, where any value might be.
    pub fn tagged_name<'py>(&mut self, py: Python<'py>) -> PyResult<Bound<'py, PyString>> {
        match self.array()? {
            [STR] => keys::name(py, self.sized()?).map_err(|_| damaged()),
            _ => Err(damaged()),
        }
    }

    #[inline]
    fn value<'py>(&mut self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let [tag] = self.array()?;
        match tag {
            TUPLE | LIST | DICT | DICT_OF_SHAPE => self.container(py, tag),
            tag => self.scalar(py, tag),
        }
    }

    #[inline]
    fn container<'py>(&mut self, py: Python<'py>, tag: u8) -> PyResult<Bound<'py, PyAny>> {
        Ok(match tag {
            TUPLE => PyTuple::new(py, self.items(py)?)?.into_any(),
            LIST => PyList::new(py, self.items(py)?)?.into_any(),
            DICT_OF_SHAPE => {
                let len = u16::from_le_bytes(self.array()?).into();
                let (keys, dict) = shapes::shape(py, self.take(len)?)?;
                for key in keys.iter_borrowed() {
                    dict.set_item(key, self.item(py)?)?;
                }
                dict.into_any()
            }
            _ => {
                let dict = PyDict::new(py);
                for _ in 0..self.count()? {
                    let key = self.key(py)?;
                    dict.set_item(key, self.item(py)?)?;
                }
                dict.into_any()
            }
        })
    }

    /// What lies in a container.
    #[inline]
    pub fn item<'py>(&mut self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let [tag] = self.array()?;
        self.scalar(py, tag)
    }

    /// A key of a dict.
    #[inline]
    fn key<'py>(&mut self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let [tag] = self.array()?;
        if tag != STR {
            return self.scalar(py, tag);
        }
        let key = keys::key(py, self.sized()?).map_err(|_| damaged())?;
        Ok(key.into_any())
    }

    /// A container in another one, or an instance.
    fn nested<'py>(&mut self, py: Python<'py>, tag: u8) -> PyResult<Bound<'py, PyAny>> {
        if self.depth == DEEPEST {
            return Err(damaged());
        }
        self.depth += 1;
        let value = match tag {
            INSTANCE => instance::decode(py, self)?,
            tag => self.container(py, tag)?,
        };
        self.depth -= 1;
        Ok(value)
    }

    fn items<'py>(&mut self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let count = self.count()?;
        let mut items = Vec::with_capacity(count);
        for _ in 0..count {
            items.push(self.item(py)?);
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
            BYTES => PyBytes::new(py, self.sized()?).into_any(),
            tag => self.other(py, tag)?,
        })
    }

    /// What has parts, travels outside, or can be written.
    #[inline(never)]
    fn other<'py>(&mut self, py: Python<'py>, tag: u8) -> PyResult<Bound<'py, PyAny>> {
        Ok(match tag {
            TUPLE | LIST | DICT | DICT_OF_SHAPE | INSTANCE => self.nested(py, tag)?,
            BYTES_OUTSIDE => self.parts()?.bytes(py)?.into_any(),
            ARRAY_OUTSIDE => self.parts()?.bytearray(py)?.into_any(),
            ARRAY => PyByteArray::new(py, self.sized()?).into_any(),
            tag if array::is_array(tag) => array::decode(py, tag, self)?,
            _ => return Err(damaged()),
        })
    }
}
