//! Handles of queues and values inside messages.
//!
//! A queue or a value is encoded as the handle of its object. While a message is encoded, the thread
//! collects a hold on each object that it meets: the sender counts these as in flight, and keeps them
//! alive until it has.

use std::cell::{Cell, RefCell};

use manycore_ipc::{Handle, HandleError, Hold, Kind};
use serde::{Deserialize, Serialize, de, ser};

use crate::family;

thread_local! {
    /// What the message being encoded has met so far; `None` while none is.
    static TRAVELLING: RefCell<Option<Vec<Hold>>> = const { RefCell::new(None) };
    /// Why a handle was refused. The codec's own errors carry no text.
    static REFUSED: Cell<Option<String>> = const { Cell::new(None) };
}

/// Puts back what an outer message has collected, also when a `Serialize` implementation panics.
struct Outer(Option<Vec<Hold>>);

impl Drop for Outer {
    fn drop(&mut self) {
        TRAVELLING.set(self.0.take());
    }
}

/// Runs `encode` and returns, with its result, holds on all objects that it met.
pub(crate) fn collected<R>(encode: impl FnOnce() -> R) -> (R, Vec<Hold>) {
    let _outer = Outer(TRAVELLING.replace(Some(Vec::new())));
    let result = encode();
    (result, TRAVELLING.take().unwrap_or_default())
}

/// Runs `encode`, in which no handle may occur: nobody would count it.
pub(crate) fn refused<R>(encode: impl FnOnce() -> R) -> R {
    let _outer = Outer(TRAVELLING.replace(None));
    encode()
}

/// Why the last handle was refused on this thread, if one was since the last call.
pub(crate) fn take_refusal() -> Option<String> {
    REFUSED.take()
}

/// A handle as it is encoded.
#[derive(Serialize, Deserialize)]
pub(crate) struct Wire {
    family: u64,
    index: u32,
    generation: u32,
}

impl From<Handle> for Wire {
    fn from(handle: Handle) -> Self {
        let Handle {
            family,
            index,
            generation,
        } = handle;
        Self {
            family,
            index,
            generation,
        }
    }
}

impl Wire {
    /// The handle, for who only looks at the object.
    pub(crate) fn handle(&self) -> Handle {
        let Self {
            family,
            index,
            generation,
        } = *self;
        Handle {
            family,
            index,
            generation,
        }
    }
}

/// What is encoded for a held object.
pub(crate) fn depart<E: ser::Error>(hold: &Hold) -> Result<Wire, E> {
    hold.check().map_err(|error| E::custom(refuse(error)))?;
    let is_message =
        TRAVELLING.with_borrow_mut(|met| met.as_mut().map(|met| met.push(hold.clone())).is_some());
    if !is_message {
        let why = "queues and values travel only in the arguments, results and queue messages of \
                   manycore: nowhere else are they kept alive";
        REFUSED.set(Some(why.to_owned()));
        return Err(E::custom(why));
    }
    Ok(hold.handle().into())
}

/// Keeps why a handle cannot travel for the error that the user sees.
pub(crate) fn refuse(error: HandleError) -> HandleError {
    REFUSED.set(Some(error.to_string()));
    error
}

/// Holds the object that was encoded.
pub(crate) fn arrive<E: de::Error>(wire: &Wire, kind: Kind) -> Result<Hold, E> {
    let held = match family::existing() {
        Some(family) => family.hold(wire.handle(), kind),
        None => Err(HandleError::OtherFamily), // this process has none at all
    };
    held.map_err(|error| E::custom(refuse(error)))
}

/// Lets a type travel that is a hold on an object of this kind.
macro_rules! travels {
    ($type:ident as $kind:ident) => {
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                $crate::handle::depart(&self.hold)?.serialize(serializer)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let wire = serde::Deserialize::deserialize(deserializer)?;
                Ok(Self {
                    hold: $crate::handle::arrive(&wire, manycore_ipc::Kind::$kind)?,
                })
            }
        }
    };
}
pub(crate) use travels;
