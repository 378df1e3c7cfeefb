//! Who may still put into a ring, so that its consumers learn that nobody will.

use super::{Family, Hold};
use crate::error::HandleError;
use crate::fault;
use crate::object::group::Row;
use crate::object::header::Phase;
use crate::object::holders::is_of;
use crate::object::{Handle, Kind};
use crate::ring::{GetError, Message, Ring};
use crate::wait::{Patience, spin};
use manycore_os::Deadline;

/// An open end of a ring, for putting. When all have been dropped, or the processes that had them have ended,
/// whoever gets from the ring is told so once it is empty ([`GetError::Ended`]). A clone is another one. It
/// is the process's own: in a forked child the copy is none, and putting through it an error.
#[derive(Clone, Debug)]
pub struct Producer {
    source: Hold, // the first to be dropped
    ring: LastCall,
}

/// Tells those that wait at a ring if the producer that was just let go of was the last.
#[derive(Clone, Debug)]
struct LastCall(Hold);

impl Drop for LastCall {
    fn drop(&mut self) {
        fault::point("source.closed");
        #[cfg(test)]
        if crate::crash::is_dead() {
            return;
        }
        // Who is not registered, as the child of a raw `clone`, has let go of nothing.
        if self.0.family().member().is_some() {
            if let Ok(ring) = self.0.ring() {
                ring.announce_end();
            }
        }
    }
}

impl Producer {
    /// The producer whose handles have come in a message.
    ///
    /// # Errors
    /// When the holds are not a ring's and its source's.
    pub fn of(ring: Hold, source: Hold) -> Result<Self, HandleError> {
        let is_source = matches!(source.kind(), Kind::Source | Kind::End);
        if !is_source || ring.ring()?.source() != Some(source.handle()) {
            return Err(HandleError::OtherKind);
        }
        let ring = LastCall(ring);
        Ok(Self { source, ring })
    }

    /// The ring, to put into.
    ///
    /// # Errors
    /// When the producer is another process's.
    #[inline]
    pub fn ring(&self) -> Result<Ring, HandleError> {
        self.source.check()?;
        self.ring.0.ring()
    }

    /// A hold on the ring, whose handle travels in messages together with that of the source.
    #[must_use]
    pub fn queue(&self) -> &Hold {
        &self.ring.0
    }

    /// What the processes with an open producer hold.
    #[must_use]
    pub fn source(&self) -> &Hold {
        &self.source
    }
}

impl Family {
    /// Opens a producer of a ring: of the present stream, or of a new one if that is over.
    ///
    /// # Errors
    /// When there is no such ring, or no room.
    pub fn open_producer(&'static self, queue: &Hold) -> Result<Producer, HandleError> {
        self.open(queue, Kind::Source)
    }

    /// Opens an end of a pipe: a producer that forked children have as well, as they have descriptors.
    ///
    /// # Errors
    /// As for [`Family::open_producer`].
    pub fn open_end(&'static self, ring: &Hold) -> Result<Producer, HandleError> {
        self.open(ring, Kind::End)
    }

    fn open(&'static self, queue: &Hold, kind: Kind) -> Result<Producer, HandleError> {
        let ring = queue.ring()?;
        let with = |source| {
            let ring = LastCall(queue.clone());
            Producer { source, ring }
        };
        loop {
            let named = ring.source_name();
            let source = named.handle(self.number());
            match source.map(|source| self.hold(source, kind)) {
                // Held, so that it is not over, and nobody names another one.
                Some(Ok(source)) => return Ok(with(source)),
                None | Some(Err(HandleError::Gone | HandleError::OtherKind)) => {}
                Some(Err(error)) => return Err(error),
            }
            let source = self.make(kind, |_, _| Ok(()))?;
            fault::point("source.made");
            if ring.name_source(named, source.handle()) {
                fault::point("source.named");
                return Ok(with(source));
            }
        }
    }

    /// Cleans up behind processes that had a producer of this ring open and were killed, as
    /// [`Family::look_after`] does, and wakes all consumers if the stream is over: the caller, too, does not begin
    /// another sleep then.
    pub(super) fn look_after_producers(
        &self,
        ring: &Ring,
        thoroughly: bool,
    ) -> Result<(), HandleError> {
        if let Some(source) = ring.source() {
            self.look_after(source, thoroughly)?;
            ring.announce_end();
        }
        Ok(())
    }

    /// Cleans up behind processes that held a source and were killed: those that the kernel has marked, or, when
    /// `thoroughly`, every one that is confirmed to have ended.
    pub(super) fn look_after(&self, source: Handle, thoroughly: bool) -> Result<(), HandleError> {
        let (objects, registry) = (self.objects()?, self.registry());
        let stage = objects.stage(source.index)?;
        match stage.phase {
            Phase::Live if is_of(stage, source.generation) => {
                for number in objects.holder_slots(source.index)? {
                    if thoroughly || registry.may_have_ended(number) {
                        self.reap(number);
                    }
                }
                objects.bury_if_unheld(source.index)?; // who let go last may have died over this
            }
            // By a process that was stopped over it, or killed: as a sweep would, this one looks itself.
            Phase::Buried if is_of(stage, source.generation) => {
                objects.revive(source.index, stage)?;
                objects.bury_if_unheld(source.index)?;
            }
            _ => {}
        }
        Ok(())
    }
}

impl Hold {
    /// Gets a message from the object as a ring, which is given, if there is one and nothing stands in the way, as
    /// [`Ring::get_at_once`] does. When messages had better gather first, [`Hold::get`] has to be called.
    #[inline(always)]
    pub fn get_at_once(&self, ring: &Ring, into: &mut Message, row: Option<&Row>) -> bool {
        let is_delayed = ring.has_taken_all_known() && self.pace.lets_gather();
        !is_delayed && ring.get_at_once(into, row)
    }

    /// Gets a message as [`Ring::get_at_once`] does, once others had a turn on this core, if that is likely to bring
    /// one: for who has to let go of something before it can wait for longer.
    pub fn get_after_a_turn(&self, ring: &Ring, into: &mut Message) -> bool {
        spin::one_turn(|| !ring.is_empty()) && ring.get_at_once(into, None)
    }

    /// Whether all that produced for the object, as a ring, have closed or were killed.
    ///
    /// # Errors
    /// When it is none.
    pub fn is_over(&self) -> Result<bool, HandleError> {
        let ring = self.ring()?;
        self.family().look_after_producers(&ring, false)?;
        Ok(ring.is_over()?)
    }

    /// Gets a message from the object as a ring, as [`Ring::get`] does, and notices within a slice that the
    /// last process with a producer was killed. Who only tries does not spin.
    ///
    /// # Errors
    /// When it is none, or why there is no message.
    pub fn get(
        &self,
        into: &mut Message,
        row: Option<&Row>,
        patience: &mut Patience<'_>,
    ) -> Result<Result<(), GetError>, HandleError> {
        let (family, ring, until) = (self.family(), self.ring()?, patience.until());
        if until != Deadline::PASSED && ring.has_taken_all_known() && self.pace.lets_gather() {
            self.pace.gather(&ring);
        }
        if ring.seems_empty() {
            family.look_after_producers(&ring, false)?;
            // The end first: what was put before it is seen after it.
            if until == Deadline::PASSED && ring.end()?.is_none() && ring.is_empty() {
                return Ok(Err(GetError::Empty));
            }
        }
        let mut tick = || {
            let _ = family.look_after_producers(&ring, true); // what is corrupted, `get` meets too
            patience.tick().is_ok()
        };
        let outcome = ring.get(into, row, &mut Patience::new(until, &mut tick));
        if outcome != Err(GetError::Empty) || until == Deadline::PASSED || ring.source().is_none() {
            return Ok(outcome);
        }
        // A wait that was shorter than a slice has not looked.
        family.look_after_producers(&ring, true)?;
        Ok(ring.get(into, row, &mut Patience::new(until, &mut || true)))
    }
}
