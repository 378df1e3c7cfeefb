//! Classes whose instances consist of a dict and nothing else.
//!
//! Whether they do is `object.__reduce_ex__`'s to say, and cannot change in the life of a class. What of its answer
//! can change is not kept here.

use std::sync::{Mutex, PoisonError};

use pyo3::prelude::*;
use pyo3::types::{PyType, PyWeakrefMethods, PyWeakrefReference};

/// How many classes are known, each in the one place that its address leads to.
const PLACES: usize = 64;

/// Locked with the interpreter held only, and nothing inside runs Python code: so a fork finds it free.
static KNOWN: Mutex<[Option<Known>; PLACES]> = Mutex::new([const { None }; PLACES]);

struct Known {
    address: usize,
    /// Weak, so that a class that nobody uses any more can go.
    class: Py<PyWeakrefReference>,
}

/// Whether a class has been [noted](note), and was not forgotten.
pub fn is_known(class: &Bound<'_, PyType>) -> bool {
    let address = class.as_ptr() as usize;
    let known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    known[place_of(address)]
        .as_ref()
        .filter(|known| known.address == address)
        .and_then(|known| known.class.bind(class.py()).upgrade())
        .is_some_and(|found| found.is(class)) // and not another one that lies where it lay
}

/// Notes that instances of a class consist of a dict and nothing else.
///
/// # Errors
/// When there is no memory for it.
pub fn note(class: &Bound<'_, PyType>) -> PyResult<()> {
    let address = class.as_ptr() as usize;
    let class = PyWeakrefReference::new(class)?.unbind();
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let old = known[place_of(address)].replace(Known { address, class });
    drop(known);
    drop(old);
    Ok(())
}

fn place_of(address: usize) -> usize {
    ((address as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 58) as usize // the golden ratio
}
