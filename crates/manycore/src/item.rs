//! One message of a queue or a channel: a value, or plain bytes.

use manycore_ipc::Hold;
use manycore_ipc::ring::Message;
use manycore_ipc::wait::Patience;
use manycore_os::Deadline;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{RecvError, SendError};
use crate::{codec, launch, transport};

/// What the records of this interface are marked with.
const ITEM: u8 = 1;

/// Sends a copy of a value.
pub(crate) fn send<T: Serialize>(
    ring: &Hold,
    value: &T,
    patience: &mut Patience<'_>,
) -> Result<(), SendError> {
    let encoded = codec::encode(value)?;
    let handles = encoded.handles();
    let sent = transport::send(ring, ITEM, 0, &handles, &encoded.bytes, patience);
    Ok(sent?)
}

/// Sends a copy of bytes as they are.
pub(crate) fn send_bytes(
    ring: &Hold,
    bytes: &[u8],
    patience: &mut Patience<'_>,
) -> Result<(), SendError> {
    Ok(transport::send(ring, ITEM, 0, &[], bytes, patience)?)
}

/// Receives a value.
pub(crate) fn recv<T: DeserializeOwned>(ring: &Hold, until: Deadline) -> Result<T, RecvError> {
    let mut message = Message {
        payload: codec::spare(),
        ..Message::default()
    };
    let decoded = match receive(ring, &mut message, until) {
        Ok(_holds) => codec::decode(&message.payload).map_err(RecvError::from),
        Err(error) => Err(error),
    };
    codec::keep_spare(message.payload);
    decoded
}

/// Receives bytes in place of what is in `into`, whose memory is used again. Empty when there are none.
pub(crate) fn recv_bytes(
    ring: &Hold,
    into: &mut Vec<u8>,
    until: Deadline,
) -> Result<(), RecvError> {
    into.clear();
    let mut message = Message {
        payload: std::mem::take(into),
        ..Message::default()
    };
    let received = receive(ring, &mut message, until);
    *into = message.payload;
    if received.is_err() {
        into.clear();
    }
    received.map(drop)
}

/// Receives a message; the holds on what is in it are to be kept until it is decoded.
fn receive(ring: &Hold, into: &mut Message, until: Deadline) -> Result<Vec<Hold>, RecvError> {
    let mut look = || {
        launch::look_after_starting();
        true
    };
    let received = transport::recv(ring, into, None, &mut Patience::new(until, &mut look));
    if matches!(received, Err(transport::RecvError::Empty)) {
        launch::look_after_starting(); // for the next time
    }
    Ok(received?)
}
