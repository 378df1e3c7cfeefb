//! Handles that travel, and objects that nobody holds any more.

use super::{Family, Hold};
use crate::block::Blocks;
use crate::error::HandleError;
use crate::fault;
use crate::lock::Tokens;
use crate::map::Map;
use crate::object::Objects;
use crate::object::header::{Handle, Kind};
use crate::object::memory::MemoryBody;
use crate::ring::Ring;

impl Family {
    /// Holds the object that a handle names.
    ///
    /// # Errors
    /// When it is gone, of another kind, or of another family.
    pub fn hold(&'static self, handle: Handle, kind: Kind) -> Result<Hold, HandleError> {
        let objects = self.objects()?; // not under the lock, which registering takes too
        let mut counts = self.holdings.lock();
        objects.attach(handle, kind)?;
        Ok(Hold::counted(self, handle, kind, objects.me(), &mut counts))
    }

    /// Counts handles that are about to travel in a message.
    ///
    /// # Errors
    /// When one leads nowhere.
    pub fn send(&self, handles: &[Handle]) -> Result<(), HandleError> {
        let objects = self.objects()?;
        for (n, handle) in handles.iter().enumerate() {
            if let Err(error) = objects.send(handle.index) {
                self.unsend(handles.get(..n).unwrap_or_default());
                return Err(error.into());
            }
            fault::point("handle.sent");
        }
        Ok(())
    }

    /// Takes back the counting of a message that was not sent.
    pub fn unsend(&self, handles: &[Handle]) {
        if let Ok(objects) = self.objects() {
            for handle in handles {
                let _ = objects.arrived(handle.index); // counted by `send`, so the index is good
            }
        }
    }

    /// Takes over the handles of a message that was received. Keep the result until the message has
    /// been decoded: what the decoder does not hold by then is let go.
    ///
    /// # Errors
    /// When one leads nowhere; the others are let go then.
    pub fn receive(&'static self, handles: &[(u32, u32)]) -> Result<Vec<Hold>, HandleError> {
        if handles.is_empty() {
            return Ok(Vec::new());
        }
        let mut held = Vec::with_capacity(handles.len());
        let mut outcome = Ok(());
        for &(index, generation) in handles {
            match self.receive_one(Handle {
                family: self.number(),
                index,
                generation,
            }) {
                Ok(hold) => held.push(hold),
                Err(error) => outcome = Err(error), // and on: the others are counted too
            }
        }
        outcome.map(|()| held)
    }

    fn receive_one(&'static self, handle: Handle) -> Result<Hold, HandleError> {
        let objects = self.objects()?;
        let kind = objects.stage(handle.index)?.kind.ok_or(HandleError::Gone)?;
        let hold = self.hold(handle, kind)?; // an object that is gone was not counted by this handle
        fault::point("handle.held");
        objects.arrived(handle.index)?;
        Ok(hold)
    }

    /// Frees objects that nobody holds any more.
    ///
    /// # Errors
    /// When the table is corrupted.
    pub fn free_buried(&self) -> Result<(), HandleError> {
        let objects = self.objects()?;
        let mut is_any_freed = false;
        while objects.has_buried() {
            let Some((index, kind)) = objects.pop_buried()? else {
                break;
            };
            self.free_object(&objects, index, kind)?;
            is_any_freed = true;
        }
        if is_any_freed {
            Blocks::new(self.heap, objects.me()).trim()?; // a queue may have been full of messages
        }
        Ok(())
    }

    pub(super) fn free_object(
        &self,
        objects: &Objects,
        index: u32,
        kind: Kind,
    ) -> Result<(), HandleError> {
        let blocks = Blocks::new(self.heap, objects.me()); // not through `me`: see `make_room`
        match kind {
            Kind::Ring => Ring::new(index, blocks, *objects)?.drain()?,
            Kind::Memory => {
                if let Some(block) = objects.body::<MemoryBody>(index)?.block() {
                    // Only if it is this object's, as in `Ring::drain`.
                    blocks.free_if_bound(block, index, u64::MAX);
                }
            }
            Kind::Group => blocks.free_bound_to(index)?,
            Kind::Condition | Kind::Barrier => Self::free_roll(objects, &blocks, index, kind)?,
            Kind::Semaphore | Kind::RwLock => {
                if let Some(block) = objects.body::<Tokens>(index)?.block() {
                    blocks.free_if_bound(block, index, u64::MAX); // as above
                }
            }
            Kind::Map => {
                Map::new(index, blocks, *objects)?.drain();
                blocks.free_bound_to(index)?;
            }
            Kind::Lock | Kind::Source | Kind::End | Kind::Event => {}
        }
        fault::point("object.emptied");
        Ok(objects.freed(index)?)
    }
}
