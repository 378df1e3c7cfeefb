//! Whether an object has an attribute, without making an error only to say that it has not.
#![allow(unsafe_code)] // the limited API has no safe call for it

use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyString;

use crate::imported::imported;
use crate::slots;

/// Whether an object has one of these attributes.
///
/// # Errors
/// What the object's own `__getattr__` raises.
pub fn has_any(object: &Bound<'_, PyAny>, names: &[&Bound<'_, PyString>]) -> PyResult<bool> {
    static HAS_ATTRIBUTE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = object.py();
    if slots::has_plain_attributes(&object.get_type())
        || !is_found(object, intern!(py, "__getattr__"))
    {
        return Ok(names.iter().any(|name| is_found(object, name)));
    }
    let has_attribute = imported(&HAS_ATTRIBUTE, py, "builtins", "hasattr")?;
    for name in names {
        if has_attribute.call1((object, name))?.is_truthy()? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The same for one, of an object that does not itself say what it has: errors are taken for a no.
fn is_found(object: &Bound<'_, PyAny>, name: &Bound<'_, PyString>) -> bool {
    // SAFETY: both are objects that live, in an interpreter that this thread is attached to.
    unsafe { ffi::PyObject_HasAttr(object.as_ptr(), name.as_ptr()) == 1 }
}
