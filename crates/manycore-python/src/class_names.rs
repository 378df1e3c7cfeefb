//! Names of classes that were received before.
//!
//! Each is kept as the arguments of the audit event that goes with looking it up, in the one place that its bytes
//! lead to.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::decoding::damaged;
use crate::gil_cell::GilCell;
use crate::keys::{self, Packed};

/// How many are kept.
const PLACES: usize = 64;
/// Longer ones are made anew.
const LONGEST: usize = 256;

static KNOWN: GilCell<[Option<Known>; PLACES]> = GilCell::new([const { None }; PLACES]);

struct Known {
    module: Box<[u8]>,
    qualified: Box<[u8]>,
    event: Py<PyTuple>,
}

/// What `sys.audit` is told when a class is looked up: `"pickle.find_class"`, its module and its qualified name.
///
/// # Errors
/// When one of them is no text.
pub fn event<'py>(
    py: Python<'py>,
    module: &[u8],
    qualified: &[u8],
) -> PyResult<Bound<'py, PyTuple>> {
    let place = place_of(module, qualified);
    let known = KNOWN.with(py, |all| {
        let is_it = |it: &&Known| *it.module == *module && *it.qualified == *qualified;
        let known = all[place].as_ref().filter(is_it)?;
        Some(known.event.bind(py).clone())
    });
    if let Some(known) = known.flatten() {
        return Ok(known);
    }
    let name = |text| keys::name(py, text).map_err(|_| damaged());
    let names = (
        intern!(py, "pickle.find_class"),
        name(module)?,
        name(qualified)?,
    );
    let event = names.into_pyobject(py)?;
    if module.len() + qualified.len() <= LONGEST {
        let new = Known {
            module: module.into(),
            qualified: qualified.into(),
            event: event.clone().unbind(),
        };
        drop(KNOWN.with(py, |all| all[place].replace(new))); // the old one, outside
    }
    Ok(event)
}

/// Classes of one module differ in the ends of their names more than in all else.
fn place_of(module: &[u8], qualified: &[u8]) -> usize {
    Packed::from(qualified)
        .hash()
        .wrapping_add(module.len() as u64) as usize
        % PLACES
}
