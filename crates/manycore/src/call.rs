//! Calling a function in another process by its type.
//!
//! What travels is the place of [`call`], made for one function type, argument type and result type.
//! In the other process it makes the function out of nothing: a plain function, or a closure without
//! captures, is a value of a type without size.

use std::cell::{Cell, RefCell};

use manycore_ipc::Hold;
use manycore_os::image::{self, Entry};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::codec::{self, Encoded};
use crate::error::DecodeError;
use crate::panic::{self, Panic};

thread_local! {
    /// The arguments of the call that is about to begin. Not passed by reference, so that they are
    /// freed before the function runs.
    static ARGUMENTS: RefCell<Option<Encoded>> = const { RefCell::new(None) };
    /// Holds on the objects in the result of the call that has just ended.
    static RESULT_HOLDS: Cell<Vec<Hold>> = const { Cell::new(Vec::new()) };
}

/// What an answer decodes to: the function's result, or why there is none though it did not panic.
type Answer<R> = Result<R, String>;

/// The entry that calls `F`.
pub(crate) fn entry<F, A, R>() -> Entry
where
    F: Fn(A) -> R + Copy + 'static,
    A: DeserializeOwned,
    R: Serialize,
{
    call::<F, A, R>
}

/// The entry that calls this function.
pub(crate) fn entry_of<F, A, R>(_: F) -> Entry
where
    F: Fn(A) -> R + Copy + 'static,
    A: DeserializeOwned,
    R: Serialize,
{
    entry::<F, A, R>()
}

/// Calls an entry of this program; returns the encoded answer.
///
/// # Errors
/// What the function panicked with.
pub(crate) fn run(entry: Entry, arguments: Encoded) -> Result<Encoded, Panic> {
    ARGUMENTS.set(Some(arguments));
    let bytes = panic::catch(|| entry(&[]))?;
    Ok(Encoded {
        bytes,
        holds: RESULT_HOLDS.take(),
    })
}

/// The result in an answer, or why there is none.
pub(crate) fn result<R: DeserializeOwned>(answer: &Encoded) -> Answer<R> {
    codec::decode::<Answer<R>>(&answer.bytes).unwrap_or_else(|error| Err(error.to_string()))
}

/// The answer of a call whose result cannot be delivered.
pub(crate) fn refusal(why: String) -> Encoded {
    codec::encode(&Answer::<()>::Err(why)).expect("text can always be encoded")
}

fn call<F, A, R>(_: &[u8]) -> Vec<u8>
where
    F: Fn(A) -> R + Copy + 'static,
    A: DeserializeOwned,
    R: Serialize,
{
    let function = image::plain_function::<F>();
    match decoded_arguments::<A>() {
        Ok(arguments) => answered(&Ok(function(arguments))),
        Err(error) => answered::<R>(&Err(format!("its arguments did not arrive: {error}"))),
    }
}

fn decoded_arguments<A: DeserializeOwned>() -> Result<A, DecodeError> {
    let arguments = ARGUMENTS.take().unwrap_or_default();
    codec::decode(&arguments.bytes)
}

fn answered<R: Serialize>(answer: &Answer<R>) -> Vec<u8> {
    let mut encoded = codec::encode(answer).unwrap_or_else(|error| refusal(error.to_string()));
    RESULT_HOLDS.set(std::mem::take(&mut encoded.holds));
    std::mem::take(&mut encoded.bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn length(text: String) -> usize {
        text.len()
    }

    #[test]
    fn a_function_and_a_closure_are_called_by_their_type() {
        let arguments = || codec::encode("four").unwrap();
        let answer = run(entry_of(length), arguments()).unwrap();
        assert_eq!(result::<usize>(&answer), Ok(4));
        let answer = run(entry_of(|text: String| text + "!"), arguments()).unwrap();
        assert_eq!(result::<String>(&answer), Ok("four!".to_owned()));
    }

    #[test]
    fn a_panic_and_bad_arguments_are_told_apart() {
        let boom = entry_of(|number: u8| assert!(number != 1, "boom"));
        let panic = run(boom, codec::encode(&1_u8).unwrap()).unwrap_err();
        assert_eq!(panic.message, "boom");
        let answer = run(boom, Encoded::default()).unwrap();
        assert!(result::<()>(&answer).unwrap_err().contains("arguments"));
    }
}
