//! Instances of plain classes in the native encoding, where pickle looks up so much by name.
//!
//! Only what pickle would bring back as `cls.__new__(cls)` with a dict as its state. Who decides that is the object's
//! `__reduce_ex__`, which is asked each time, as by pickle; but only if that is `object`'s, so that no reducer of
//! the program's runs twice when pickle has to do it after all.
//!
//! ```text
//! length, module | length, qualified name | number of attributes | each name and value
//! ```

use pyo3::exceptions::PyAttributeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict, PyString, PyTuple, PyType};

use crate::codec::sized;
use crate::decoding::Reader;
use crate::imported::imported;
use crate::{attribute, calling, class_names, layouts, reducers, slots};

/// Appends the name of an object's class, and returns its state; `None` when pickle must do it.
///
/// # Errors
/// What the object's own code raises.
pub fn encode<'py>(
    value: &Bound<'py, PyAny>,
    out: &mut Vec<u8>,
) -> PyResult<Option<Bound<'py, PyDict>>> {
    let class = value.get_type();
    if !is_plain(&class)? {
        return Ok(None);
    }
    let Some(name) = Name::of(&class)? else {
        return Ok(None);
    };
    if layouts::encode_name(&class, &name.module, &name.qualified, out) {
        return attributes(value, &class);
    }
    let start = out.len();
    for name in [&name.module, &name.qualified] {
        if sized(name.to_str()?.as_bytes(), out).is_err() {
            return Ok(None);
        }
    }
    let state = reduced_state(value, &class)?;
    if state.is_some() {
        layouts::note(&class, name.module, name.qualified, &out[start..])?;
    }
    Ok(state)
}

/// Whether instances of a class are reduced as `object` does it.
fn is_plain(class: &Bound<'_, PyType>) -> PyResult<bool> {
    static REDUCE_EX: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    static REDUCE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    static GET_STATE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    static GET_ATTRIBUTE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = class.py();
    if !has_plain_class(class) {
        return Ok(false); // it may find anything anywhere
    }
    let is_objects = |cell: &'static PyOnceLock<Py<PyAny>>, name: &Bound<'_, PyString>| {
        let own = class.getattr(name)?;
        if cell.get(py).is_none() {
            let objects = py.get_type::<PyAny>().getattr(name)?.unbind();
            let _ = cell.set(py, objects); // or somebody else did
        }
        PyResult::Ok(cell.get(py).is_some_and(|objects| own.is(objects)))
    };
    Ok(is_objects(&REDUCE, intern!(py, "__reduce__"))?
        && is_objects(&REDUCE_EX, intern!(py, "__reduce_ex__"))?
        && is_objects(&GET_STATE, intern!(py, "__getstate__"))?
        && (slots::has_plain_attributes(class)
            || is_objects(&GET_ATTRIBUTE, intern!(py, "__getattribute__"))?)
        && !reducers::has_one(class)?)
}

/// Whether a class is of no class of its own, and no class of classes either.
fn has_plain_class(class: &Bound<'_, PyType>) -> bool {
    class.get_type().is(class.py().get_type::<PyType>())
}

/// What [`reduced_state`] returns, for an object whose layout is known: what can still make a difference.
fn attributes<'py>(
    value: &Bound<'py, PyAny>,
    class: &Bound<'py, PyType>,
) -> PyResult<Option<Bound<'py, PyDict>>> {
    let py = value.py();
    let arguments = [
        intern!(py, "__getnewargs_ex__"),
        intern!(py, "__getnewargs__"),
    ];
    if attribute::has_any(value, &arguments)? || !value.getattr(intern!(py, "__class__"))?.is(class)
    {
        return Ok(None);
    }
    let state = value.getattr(intern!(py, "__dict__"))?;
    // An empty one is no state.
    Ok(state
        .cast_into_exact::<PyDict>()
        .ok()
        .filter(|state| !state.is_empty()))
}

/// What an object's own reduction says that its attributes are; `None` if it says more than that.
fn reduced_state<'py>(
    value: &Bound<'py, PyAny>,
    class: &Bound<'py, PyType>,
) -> PyResult<Option<Bound<'py, PyDict>>> {
    static NEW_OBJECT: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = value.py();
    let reduced = calling::call_method(value, intern!(py, "__reduce_ex__"), (5,))?;
    let Ok(reduced) = reduced.cast_exact::<PyTuple>() else {
        return Ok(None);
    };
    if reduced.len() != 5 {
        return Ok(None);
    }
    let new_object = imported(&NEW_OBJECT, py, "copyreg", "__newobj__")?;
    let arguments = reduced.get_borrowed_item(1)?;
    let is_class_alone = arguments
        .cast_exact::<PyTuple>()
        .is_ok_and(|it| it.len() == 1 && it.get_borrowed_item(0).is_ok_and(|it| it.is(class)));
    let is_state_alone = reduced.get_borrowed_item(3)?.is_none()
        && reduced.get_borrowed_item(4)?.is_none()
        && reduced.get_borrowed_item(0)?.is(new_object);
    let says_its_class = value.getattr(intern!(py, "__class__"))?.is(class);
    if !(is_class_alone && is_state_alone && says_its_class) {
        return Ok(None);
    }
    Ok(reduced.get_item(2)?.cast_into_exact::<PyDict>().ok())
}

/// Under which names a class is found.
struct Name<'py> {
    module: Bound<'py, PyString>,
    qualified: Bound<'py, PyString>,
}

impl<'py> Name<'py> {
    /// The name of a class that really is found there.
    fn of(class: &Bound<'py, PyType>) -> PyResult<Option<Self>> {
        let py = class.py();
        let module = class.getattr(intern!(py, "__module__"))?;
        let (Ok(module), Ok(qualified)) = (
            module.cast_into_exact::<PyString>(),
            class.qualname()?.into_any().cast_into_exact::<PyString>(),
        ) else {
            return Ok(None);
        };
        if module.to_str()? == "builtins" {
            return Ok(None); // functions, for instance
        }
        let name = Self { module, qualified };
        Ok(name.look_up()?.filter(|it| it.is(class)).map(|_| name))
    }

    /// What has this name now; `None` also if that is still to be imported.
    fn look_up(&self) -> PyResult<Option<Bound<'py, PyAny>>> {
        static MODULES: PyOnceLock<Py<PyDict>> = PyOnceLock::new();
        let py = self.module.py();
        let modules = imported(&MODULES, py, "sys", "modules")?;
        let Some(mut found) = modules.get_item(&self.module)? else {
            return Ok(None);
        };
        let path = self.qualified.to_str()?;
        if !path.contains('.') {
            return get(&found, &self.qualified);
        }
        for name in path.split('.') {
            match get(&found, &PyString::new(py, name))? {
                Some(part) => found = part,
                None => return Ok(None),
            }
        }
        Ok(Some(found))
    }
}

/// The class whose name is next, as pickle finds it: imported if need be.
fn class<'py>(py: Python<'py>, reader: &mut Reader<'_, '_>) -> PyResult<Bound<'py, PyType>> {
    static AUDIT: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let event = class_names::event(py, reader.sized()?, reader.sized()?)?;
    let name = Name {
        module: event.get_item(1)?.cast_into::<PyString>()?,
        qualified: event.get_item(2)?.cast_into::<PyString>()?,
    };
    let found = name.look_up()?;
    if let Some(Ok(class)) = found.map(|it| it.cast_into::<PyType>()) {
        imported(&AUDIT, py, "sys", "audit")?.call1(event)?;
        return Ok(class);
    }
    // What pickle would do, or say: `STACK_GLOBAL`, then `NEWOBJ` to see whether it is a class.
    let mut global = Vec::from(*b"\x80\x05");
    for name in [&name.module, &name.qualified] {
        global.push(b'X');
        sized(name.to_str()?.as_bytes(), &mut global).expect("was in a message");
    }
    global.push(b'\x93');
    let found = loads(py, &[&global, b".".as_slice()].concat())?;
    match found.cast_into::<PyType>() {
        Ok(class) => Ok(class),
        Err(error) => {
            loads(py, &[&global, b")\x81.".as_slice()].concat())?;
            Err(error.into())
        }
    }
}

fn get<'py>(
    object: &Bound<'py, PyAny>,
    name: &Bound<'py, PyString>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    if let Ok(module) = object.cast_exact::<PyModule>()
        && let Some(found) = module.dict().get_item(name)?
    {
        return Ok(Some(found)); // there are no classes among the few attributes that come before these
    }
    match object.getattr(name) {
        Err(error) if error.is_instance_of::<PyAttributeError>(object.py()) => Ok(None),
        found => found.map(Some),
    }
}

fn loads<'py>(py: Python<'py>, pickled: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    static LOADS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let loads = imported(&LOADS, py, "pickle", "loads")?;
    calling::call(loads, (PyBytes::new(py, pickled),))
}

/// Builds an instance.
///
/// # Errors
/// What its class, or the look-up of that, raises; or when the encoding is damaged.
pub fn decode<'py>(py: Python<'py>, reader: &mut Reader<'_, '_>) -> PyResult<Bound<'py, PyAny>> {
    let class = class(py, reader)?;
    let usual = has_plain_class(&class).then(|| slots::made_by_object(&class));
    let made = match usual.flatten() {
        Some(made) => made?,
        None => class.getattr(intern!(py, "__new__"))?.call1((&class,))?,
    };
    let set_state = intern!(py, "__setstate__");
    if attribute::has_any(&made, &[set_state])? {
        let state = PyDict::new(py);
        read_attributes(reader, &state)?;
        calling::call_method(&made, set_state, (state,))?;
        return Ok(made);
    }
    match made
        .getattr(intern!(py, "__dict__"))?
        .cast_into_exact::<PyDict>()
    {
        Ok(dict) => read_attributes(reader, &dict)?,
        Err(other) => {
            let state = PyDict::new(py);
            read_attributes(reader, &state)?;
            let other = other.into_inner();
            for (name, value) in state {
                other.set_item(name, value)?;
            }
        }
    }
    Ok(made)
}

fn read_attributes(reader: &mut Reader<'_, '_>, into: &Bound<'_, PyDict>) -> PyResult<()> {
    let py = into.py();
    for _ in 0..reader.count()? {
        let name = reader.tagged_name(py)?;
        into.set_item(name, reader.item(py)?)?;
    }
    Ok(())
}
