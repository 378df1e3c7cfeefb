//! Integers in shared memory that change by single instructions: the operations of `Value` and of `atomic`.
//!
//! Most of them are added to the classes by [`crate::method`]; what is here is what they do.

use manycore_ipc::object::integer::Integer;
use pyo3::exceptions::{PyOverflowError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBool;

use crate::buffer::Memory;

/// How the bits of a number are read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// With a sign.
    Signed,
    /// Without one.
    Unsigned,
    /// Zero or one, as C's `bool`.
    Flag,
}

/// An integer of a C type. It takes what the type would take, and wraps as it does.
#[derive(Clone, Copy)]
pub struct Number {
    word: Integer,
    size: u32,
    /// See [`Reading`].
    pub reading: Reading,
}

impl Number {
    /// The integer at a position of some memory, of a type that `ctypes` names by this letter.
    pub fn new(memory: &Memory, at: usize, size: usize, letter: char) -> PyResult<Self> {
        let reading = match letter {
            'b' | 'h' | 'i' | 'l' | 'q' => Reading::Signed,
            'B' | 'H' | 'I' | 'L' | 'Q' => Reading::Unsigned,
            '?' => Reading::Flag,
            _ => return Err(PyValueError::new_err("not the letter of an integer")),
        };
        let Some(word) = memory.integer(at, size)? else {
            return Err(PyValueError::new_err(format!(
                "there is no aligned integer of {size} bytes at {at} in this memory"
            )));
        };
        Ok(Self {
            word,
            size: size as u32, // at most eight, checked by the memory
            reading,
        })
    }

    /// What bits mean that have a sign.
    #[inline]
    pub fn signed(self, bits: u64) -> i64 {
        let unused = u64::BITS - 8 * self.size;
        (bits << unused).cast_signed() >> unused
    }

    /// What bits are in Python.
    pub fn object(self, py: Python<'_>, bits: u64) -> PyResult<Bound<'_, PyAny>> {
        Ok(match self.reading {
            Reading::Signed => self.signed(bits).into_pyobject(py)?.into_any(),
            Reading::Unsigned => bits.into_pyobject(py)?.into_any(),
            Reading::Flag => PyBool::new(py, bits != 0).to_owned().into_any(),
        })
    }

    /// The bits of what Python has, as the C type would convert it.
    pub fn bits(self, value: &Bound<'_, PyAny>) -> PyResult<u64> {
        match self.reading {
            Reading::Flag => Ok(value.is_truthy()?.into()),
            _ => summand(value),
        }
    }

    /// The present bits.
    #[inline]
    pub fn load(self) -> u64 {
        self.word.load()
    }

    /// Sets all bits, as a plain assignment in C would.
    #[inline]
    pub fn put(self, new: u64) {
        self.word.put(new);
    }

    /// Sets all bits; what they were.
    #[inline]
    pub fn exchange(self, new: u64) -> u64 {
        self.word.exchange(new)
    }

    /// Adds; what it was.
    #[inline]
    pub fn fetch_add(self, summand: u64) -> u64 {
        match self.reading {
            Reading::Flag => self.add_to_flag(summand),
            _ => self.word.fetch_add(summand),
        }
    }

    /// Subtracts; what it was.
    #[inline]
    pub fn fetch_sub(self, subtrahend: u64) -> u64 {
        self.fetch_add(subtrahend.wrapping_neg())
    }

    #[cold]
    fn add_to_flag(self, summand: u64) -> u64 {
        self.change_flag(|was| Some(u64::from(was).wrapping_add(summand) != 0))
    }

    /// Makes of a flag what `change` says, if it says something; the bits that it was. Whatever is not zero is true:
    /// other code may have stored it.
    fn change_flag(self, change: impl Fn(bool) -> Option<bool>) -> u64 {
        let mut was = self.word.load();
        while let Some(new) = change(was != 0) {
            match self.word.compare_exchange(was, new.into()) {
                found if found == was => break,
                found => was = found,
            }
        }
        was
    }

    /// Sets it to `new` if it is `expected`; what it was.
    pub fn compare_exchange<'py>(
        self,
        expected: &Bound<'py, PyAny>,
        new: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (old, bits) = (self.bits(expected)?, self.bits(new)?);
        let was = match self.reading {
            Reading::Flag => self.change_flag(|was| (was == (old != 0)).then_some(bits != 0)),
            _ => self.word.compare_exchange(old, bits),
        };
        self.object(new.py(), was)
    }
}

/// The lowest 64 bits of an integer.
pub fn summand(number: &Bound<'_, PyAny>) -> PyResult<u64> {
    match number.extract::<i64>() {
        Ok(number) => Ok(number.cast_unsigned()),
        Err(error) if error.is_instance_of::<PyOverflowError>(number.py()) => long(number),
        Err(error) => Err(error),
    }
}

#[cold]
fn long(number: &Bound<'_, PyAny>) -> PyResult<u64> {
    let index = number.call_method0("__index__")?;
    index.call_method1("__and__", (u64::MAX,))?.extract()
}

/// An object that is, or has, an integer in shared memory.
pub trait HasNumber {
    /// The integer, if there is one.
    fn number(&self) -> Option<Number>;
}

/// What is raised when there is none.
pub fn no_number() -> PyErr {
    PyTypeError::new_err("only an integer in shared memory changes in one step")
}

/// An integer in shared memory that many processes may change at once. Each operation is one step: none sees
/// another half done, and all agree on their order.
#[pyclass(subclass, frozen, module = "manycore._engine")]
pub struct SharedInteger {
    memory: Py<Memory>, // keeps the number
    at: usize,
    letter: char,
    number: Number,
}

impl HasNumber for SharedInteger {
    #[inline]
    fn number(&self) -> Option<Number> {
        Some(self.number)
    }
}

#[pymethods]
impl SharedInteger {
    /// The integer of `size` bytes at position `at` of `memory`, of the type that `ctypes` names by `letter`.
    #[new]
    fn new(memory: Bound<'_, Memory>, at: usize, size: usize, letter: char) -> PyResult<Self> {
        let number = Number::new(memory.get(), at, size, letter)?;
        Ok(Self {
            memory: memory.unbind(),
            at,
            letter,
            number,
        })
    }

    /// What it was made of.
    fn _place(&self, py: Python<'_>) -> (Py<Memory>, usize, u32, char) {
        let memory = self.memory.clone_ref(py);
        (memory, self.at, self.number.size, self.letter)
    }

    /// Sets it to `new` if it is `expected`; returns what it was, which is `expected` if it was set.
    #[pyo3(signature = (expected, new, /))]
    fn compare_exchange<'py>(
        &self,
        expected: &Bound<'py, PyAny>,
        new: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.number.compare_exchange(expected, new)
    }
}
