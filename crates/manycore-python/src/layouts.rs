//! Classes whose instances consist of a dict and nothing else.
//!
//! Whether they do is `object.__reduce_ex__`'s to say, and cannot change in the life of a class. What of its answer
//! can change is not kept here. A class is noted with its name as it is encoded, for as long as it has that name.

use pyo3::prelude::*;
use pyo3::types::{PyString, PyType, PyWeakrefMethods, PyWeakrefReference};

use crate::gil_cell::GilCell;

/// How many classes are known, each in the one place that its address leads to.
const PLACES: usize = 64;

static KNOWN: GilCell<[Option<Known>; PLACES]> = GilCell::new([const { None }; PLACES]);

struct Known {
    address: usize,
    /// Weak, so that a class that nobody uses any more can go.
    class: Py<PyWeakrefReference>,
    module: Py<PyString>,
    qualified: Py<PyString>,
    encoded: Box<[u8]>,
}

/// Appends the encoded name of a class that has been [noted](note) with it; `false` if there is none, or not any more.
pub fn encode_name(
    class: &Bound<'_, PyType>,
    module: &Bound<'_, PyString>,
    qualified: &Bound<'_, PyString>,
    out: &mut Vec<u8>,
) -> bool {
    let (py, address) = (class.py(), class.as_ptr() as usize);
    let encoded = KNOWN.with(py, |all| {
        let known = all[place_of(address)].as_ref()?;
        let is_it = known.address == address
            && known.module.is(module)
            && known.qualified.is(qualified)
            && (known.class.bind(py).upgrade()).is_some_and(|found| found.is(class)); // not another in its place
        is_it.then(|| out.extend_from_slice(&known.encoded))
    });
    encoded.flatten().is_some()
}

/// Notes that instances of a class consist of a dict and nothing else, and how its name is encoded.
///
/// # Errors
/// When there is no memory for it.
pub fn note(
    class: &Bound<'_, PyType>,
    module: Bound<'_, PyString>,
    qualified: Bound<'_, PyString>,
    encoded: &[u8],
) -> PyResult<()> {
    let address = class.as_ptr() as usize;
    let new = Known {
        address,
        class: PyWeakrefReference::new(class)?.unbind(),
        module: module.unbind(),
        qualified: qualified.unbind(),
        encoded: encoded.into(),
    };
    drop(KNOWN.with(class.py(), |all| all[place_of(address)].replace(new))); // the old one, outside
    Ok(())
}

fn place_of(address: usize) -> usize {
    ((address as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 58) as usize // the golden ratio
}
