//! Values as bytes and back.

use std::cell::Cell;

use manycore_ipc::{Handle, Hold};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{DecodeError, EncodeError};
use crate::handle;

/// A buffer up to this size is kept for the thread's next message.
const KEPT: usize = 256 << 10;

thread_local! {
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// An encoded value, and holds on the objects whose handles are in it.
#[derive(Debug, Default)]
pub(crate) struct Encoded {
    pub(crate) bytes: Vec<u8>,
    pub(crate) holds: Vec<Hold>,
}

impl Encoded {
    /// The handles, for the sender to count.
    pub(crate) fn handles(&self) -> Vec<Handle> {
        self.holds.iter().map(Hold::handle).collect()
    }
}

impl Drop for Encoded {
    fn drop(&mut self) {
        keep_spare(std::mem::take(&mut self.bytes));
    }
}

/// An empty buffer, with the memory of one that this thread has used before.
pub(crate) fn spare() -> Vec<u8> {
    let mut bytes = SPARE.try_with(Cell::take).unwrap_or_default(); // fails while the thread ends
    bytes.clear();
    bytes
}

/// Takes a buffer back for the thread's next message.
pub(crate) fn keep_spare(bytes: Vec<u8>) {
    if (1..=KEPT).contains(&bytes.capacity()) {
        let _ = SPARE.try_with(|spare| spare.set(bytes)); // as in `spare`
    }
}

/// Encodes a value that is about to travel.
pub(crate) fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Encoded, EncodeError> {
    let (bytes, holds) = handle::collected(|| postcard::to_extend(value, spare()));
    Ok(Encoded {
        bytes: bytes.map_err(|error| encode_error::<T>(&error))?,
        holds,
    })
}

/// Encodes a value that stays where it is put, so that nothing in it may need to be kept alive.
pub(crate) fn encode_resting<T: Serialize + ?Sized>(value: &T) -> Result<Encoded, EncodeError> {
    let bytes = handle::refused(|| postcard::to_extend(value, spare()));
    Ok(Encoded {
        bytes: bytes.map_err(|error| encode_error::<T>(&error))?,
        holds: Vec::new(),
    })
}

/// Decodes a value. Objects whose handles are in it must be held until this returns.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    postcard::from_bytes(bytes).map_err(|error| decode_error::<T>(&error))
}

#[cold]
fn encode_error<T: ?Sized>(error: &postcard::Error) -> EncodeError {
    EncodeError {
        what: std::any::type_name::<T>(),
        why: reason(error),
    }
}

#[cold]
fn decode_error<T: ?Sized>(error: &postcard::Error) -> DecodeError {
    DecodeError {
        what: std::any::type_name::<T>(),
        why: reason(error),
    }
}

fn reason(error: &postcard::Error) -> String {
    use postcard::Error::{
        SerdeDeCustom, SerdeSerCustom, SerializeSeqLengthUnknown, WontImplement,
    };
    let refusal = handle::take_refusal(); // also when it is not the reason: it must not be the next one's
    match error {
        SerdeSerCustom | SerdeDeCustom if refusal.is_some() => refusal.unwrap_or_default(),
        SerdeSerCustom => "its `Serialize` implementation returned an error".into(),
        SerdeDeCustom => "its `Deserialize` implementation returned an error".into(),
        SerializeSeqLengthUnknown => {
            "it has a sequence whose length is not known in advance: collect it first".into()
        }
        WontImplement => "it needs a format that describes itself, as untagged enums and \
                          `serde_json::Value` do: send a type of known shape"
            .into(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_survives_its_bytes() {
        let value = (7_u8, "text".to_owned(), vec![Some(1.5_f64), None]);
        let encoded = encode(&value).unwrap();
        assert!(encoded.holds.is_empty());
        assert_eq!(
            decode::<(u8, String, Vec<Option<f64>>)>(&encoded.bytes).unwrap(),
            value
        );
    }

    #[test]
    fn an_error_names_the_type_and_the_reason() {
        let error = decode::<(u64, String)>(&[1]).unwrap_err().to_string();
        assert!(error.contains("(u64, alloc::string::String)"), "{error}");
        struct Stubborn;
        impl Serialize for Stubborn {
            fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
                Err(serde::ser::Error::custom("no"))
            }
        }
        let error = encode(&Stubborn).unwrap_err().to_string();
        assert!(
            error.contains("Stubborn") && error.contains("`Serialize`"),
            "{error}"
        );
    }
}
