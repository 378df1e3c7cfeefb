//! A message on its way from one stage to the next.

use manycore_ipc::block::BlockRef;
use manycore_ipc::ring::{Message, Outgoing, PutError, Ring};
use manycore_ipc::wait::Patience;
use manycore_ipc::{Corrupted, Family, Handle, HandleError};
use manycore_os::Deadline;

use super::outlet::Weigh;

/// A message that is in no ring. Its blocks are this process's, its handles count as in flight; dropping
/// it frees and uncounts them.
pub struct Parcel {
    family: &'static Family,
    /// What the payload is, for the receiver.
    pub kind: u8,
    payload: Vec<u8>,
    blocks: Vec<BlockRef>,
    handles: Vec<Handle>,
    /// Whose the handles are, if there are any. A forked copy has not counted them.
    process: u32,
}

impl Parcel {
    /// What was received, or was made ready to be sent.
    #[must_use]
    pub fn new(
        family: &'static Family,
        kind: u8,
        payload: Vec<u8>,
        blocks: Vec<BlockRef>,
        handles: Vec<Handle>,
    ) -> Self {
        let process = match handles.as_slice() {
            [] => 0,
            _ => std::process::id(),
        };
        Self {
            family,
            kind,
            payload,
            blocks,
            handles,
            process,
        }
    }

    /// Takes over a message that was received.
    #[must_use]
    pub fn received(family: &'static Family, message: &mut Message) -> Self {
        let handle = |(index, generation)| Handle {
            family: family.number(),
            index,
            generation,
        };
        let handles = message.handles.drain(..).map(handle).collect();
        let payload = message.payload.as_slice().into(); // as long as it has to be
        let blocks = std::mem::take(&mut message.blocks);
        Self::new(family, message.header.kind, payload, blocks, handles)
    }

    /// Puts it into a ring without a bound.
    ///
    /// # Errors
    /// When there is no room in the heap; it is lost then.
    pub fn put(mut self, ring: &Ring, tag: u64) -> Result<(), PutError> {
        let message = Outgoing {
            kind: self.kind,
            tag,
            blocks: &self.blocks,
            handles: &self.handles,
            payload: &self.payload,
        };
        if !ring.put_at_once(&message) {
            let mut go_on = || true;
            ring.put(&message, &mut Patience::new(Deadline::NEVER, &mut go_on))?;
        }
        self.blocks.clear();
        self.handles.clear();
        Ok(())
    }

    /// The message, to be decoded, which frees its blocks.
    #[must_use]
    pub fn into_message(mut self) -> Message {
        let mut message = Message::default();
        message.header.kind = self.kind;
        message.payload = std::mem::take(&mut self.payload);
        message.blocks = std::mem::take(&mut self.blocks);
        message.handles = std::mem::take(&mut self.handles)
            .into_iter()
            .map(|handle| (handle.index, handle.generation))
            .collect();
        message
    }

    /// A copy from which the message can be made again, however the first one ends.
    ///
    /// # Errors
    /// When a block or a handle makes no sense.
    pub fn keep(&self) -> Result<Kept, HandleError> {
        let blocks = self.family.blocks()?;
        let copy = |&block: &BlockRef| -> Result<Vec<u8>, Corrupted> {
            let (bytes, mut copy) = (blocks.bytes(block)?, Vec::new());
            bytes.append_to(0, bytes.len(), &mut copy)?;
            Ok(copy)
        };
        let copies = self.blocks.iter().map(copy).collect::<Result<_, _>>()?;
        self.family.send(&self.handles)?;
        let handles = Parcel::new(
            self.family,
            self.kind,
            self.payload.clone(),
            Vec::new(),
            self.handles.clone(),
        );
        Ok(Kept {
            parcel: handles,
            blocks: copies,
        })
    }

    /// The payload, if it is all of the message and no longer than that.
    #[must_use]
    pub fn short_payload(&self, most: usize) -> Option<&[u8]> {
        let is_short =
            self.blocks.is_empty() && self.handles.is_empty() && self.payload.len() <= most;
        is_short.then_some(&self.payload)
    }
}

impl Weigh for Parcel {
    fn bytes(&self) -> u64 {
        self.payload.len() as u64 + self.blocks.iter().map(|block| block.len).sum::<u64>()
    }
}

impl Drop for Parcel {
    fn drop(&mut self) {
        if !self.blocks.is_empty() {
            if let Ok(blocks) = self.family.blocks() {
                for &block in &self.blocks {
                    blocks.free(block);
                }
            }
        }
        if !self.handles.is_empty() && self.process == std::process::id() {
            self.family.unsend(&self.handles);
        }
    }
}

/// A copy of a message: all but the blocks, and what these held, in memory of this process's own.
pub struct Kept {
    parcel: Parcel,
    blocks: Vec<Vec<u8>>,
}

impl Kept {
    /// The message, once more; the copy stays.
    ///
    /// # Errors
    /// When there is no room in the heap.
    pub fn again(&self) -> Result<Parcel, HandleError> {
        let family = self.parcel.family;
        family.send(&self.parcel.handles)?;
        let mut parcel = Parcel::new(
            family,
            self.parcel.kind,
            self.parcel.payload.clone(),
            Vec::new(),
            self.parcel.handles.clone(),
        );
        for bytes in &self.blocks {
            let taken = family.take_block(bytes.len() as u64)?;
            parcel.blocks.push(taken.block);
            family.blocks()?.fill(&taken, 0, bytes)?;
        }
        Ok(parcel)
    }
}
