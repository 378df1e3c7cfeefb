//! From the last letting-go to the freeing of an object. Takes no lock until the freeing.
//!
//! ```text
//! Live -> Buried(n) -> Condemned(p) -> on the list -> Freeing(q) -> Free
//!    ^-------'
//! ```
//!
//! `Buried` is undecided: its owner looks once more whether somebody holds the object. Each burial has a
//! number, so that whoever attaches the object meanwhile can call it off with one exchange, and the
//! owner's decision, another exchange, fails then.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};

use super::header::{Kind, Phase, Stage};
use super::table::Objects;
use crate::error::Corrupted;
use crate::fault;
use crate::registry::OwnerId;
use crate::word::fence;

impl Objects {
    pub(crate) fn bury_if_unheld(&self, index: u32) -> Result<(), Corrupted> {
        loop {
            // Pairs with itself in another process: who let go has cleared its bit (or counted down) before, and
            // who called its burial off has made the object live before. The second one to pass here sees that
            // of the first, so one of them finds the object live and unheld.
            fence(SeqCst);
            let stage = self.stage(index)?;
            if stage.phase != Phase::Live || self.is_held(index)? || !self.bury(index, stage)? {
                return Ok(());
            }
        }
    }

    /// Buries a live object. Returns whether the burial was called off by its own second look, so that
    /// whoever let go meanwhile, and found the object not live, has left the rest to this caller.
    pub(crate) fn bury(&self, index: u32, live: Stage) -> Result<bool, Corrupted> {
        let object = self.object(index)?;
        let number = object.burials.fetch_add(1, Relaxed) as u32; // unique by itself; published by the exchange
        let buried = Stage {
            phase: Phase::Buried,
            owner: OwnerId::new(self.me.slot(), number),
            ..live
        };
        if object
            .state
            .compare_exchange(live.encode(), buried.encode(), SeqCst, Relaxed)
            .is_err()
        {
            return Ok(false); // somebody else was quicker
        }
        fault::point("object.buried");
        fence(SeqCst); // pairs with the fence in `attach_for`: the phase is set before the bits are read
        if self.is_held(index)? {
            self.revive(index, buried)?;
            return Ok(true);
        }
        let condemned = Stage {
            phase: Phase::Condemned,
            owner: self.me,
            ..live
        };
        if object
            .state
            .compare_exchange(buried.encode(), condemned.encode(), AcqRel, Relaxed)
            .is_ok()
        {
            fault::point("object.condemned");
            self.push_condemned(index)?;
        }
        Ok(false)
    }

    /// Calls a burial off, if it is still undecided. For who holds the object, or looks again.
    pub(crate) fn revive(&self, index: u32, buried: Stage) -> Result<(), Corrupted> {
        let live = Stage {
            phase: Phase::Live,
            owner: OwnerId::NOBODY,
            ..buried
        };
        // SeqCst: ordered against the bits that others clear before they read the phase.
        let _ = self.object(index)?.state.compare_exchange(
            buried.encode(),
            live.encode(),
            SeqCst,
            Relaxed,
        );
        Ok(())
    }

    fn push_condemned(&self, index: u32) -> Result<(), Corrupted> {
        let (object, list) = (self.object(index)?, &self.header().buried);
        let mut top = list.load(Relaxed); // checked by the exchange
        loop {
            object.next.store(top, Relaxed); // published by the exchange
            // Release pairs with the Acquire in `pop_buried`.
            match list.compare_exchange(top, u64::from(index) + 1, Release, Relaxed) {
                Ok(_) => return Ok(()),
                #[cfg(test)]
                Err(_) if crate::crash::is_dead() => return Ok(()),
                Err(found) => top = found,
            }
        }
    }

    /// Whether there is anything for [`Objects::pop_buried`].
    #[must_use]
    pub fn has_buried(&self) -> bool {
        self.header().buried.load(Relaxed) != 0 // a hint
    }

    /// Takes over the freeing of one object that nobody holds.
    ///
    /// # Errors
    /// When the table is corrupted.
    pub fn pop_buried(&self) -> Result<Option<(u32, Kind)>, Corrupted> {
        self.locked(|this| {
            let list = &this.header().buried;
            for _ in 0..=this.used() {
                // Acquire pairs with the Release in `push_condemned`.
                let top = list.load(Acquire);
                let Some(index) = top.checked_sub(1) else {
                    return Ok(None);
                };
                let index = u32::try_from(index).unwrap_or(u32::MAX); // refused by the next line
                let stage = this.stage(index)?;
                let object = this.object(index)?;
                let next = object.next.load(Relaxed);
                let is_due = matches!(stage.phase, Phase::Condemned | Phase::Freeing);
                if is_due {
                    // Before it leaves the list: a death here leaves it on top, and the next one takes over.
                    let freeing = Stage {
                        phase: Phase::Freeing,
                        owner: this.me,
                        ..stage
                    };
                    object.state.store(freeing.encode(), Release);
                    fault::point("object.marked");
                }
                // Only the lock's owner pops, so the top can only be covered, never replaced.
                if list.compare_exchange(top, next, AcqRel, Relaxed).is_err() {
                    continue;
                }
                fault::point("object.freeing");
                if let (true, Some(kind)) = (is_due, stage.kind) {
                    return Ok(Some((index, kind)));
                }
            }
            Err(Corrupted::new("the list of the buried does not end"))
        })?
    }

    /// Clears what a dead process held, and takes over what it was making or freeing. Returns those
    /// objects.
    ///
    /// # Errors
    /// When the table is corrupted.
    pub fn sweep(&self, dead: OwnerId) -> Result<Vec<(u32, Kind)>, Corrupted> {
        let mut orphans = Vec::new();
        for index in 0..self.used() {
            self.clear_holder(index, dead)?;
            // Also without a bit to clear: it may have died between letting go and burying.
            self.bury_if_unheld(index)?;
            let stage = self.stage(index)?;
            let is_orphan = match stage.phase {
                // What it saw died with it: whoever let go meanwhile has left the rest to it.
                Phase::Buried if stage.owner.slot() == dead.slot() => {
                    self.revive(index, stage)?;
                    self.bury_if_unheld(index)?;
                    false
                }
                Phase::Making => stage.owner == dead,
                // What is on the list is freed by who pops it, also if it was marked already.
                Phase::Condemned | Phase::Freeing => {
                    stage.owner == dead && !self.is_listed(index)?
                }
                _ => false,
            };
            if is_orphan {
                orphans.extend(self.take_over(index, stage)?.map(|kind| (index, kind)));
            }
        }
        Ok(orphans)
    }

    fn take_over(&self, index: u32, stage: Stage) -> Result<Option<Kind>, Corrupted> {
        let freeing = Stage {
            phase: Phase::Freeing,
            owner: self.me,
            ..stage
        };
        let state = &self.object(index)?.state;
        let won = state
            .compare_exchange(stage.encode(), freeing.encode(), AcqRel, Relaxed)
            .is_ok();
        Ok(stage.kind.filter(|_| won))
    }

    fn is_listed(&self, index: u32) -> Result<bool, Corrupted> {
        self.locked(|this| {
            let mut at = this.header().buried.load(Acquire); // as in `pop_buried`
            for _ in 0..=this.used() {
                match at.checked_sub(1) {
                    None => return Ok(false),
                    Some(found) if found == u64::from(index) => return Ok(true),
                    Some(found) => {
                        let found = u32::try_from(found).unwrap_or(u32::MAX); // refused by the next line
                        at = this.object(found)?.next.load(Relaxed); // under the lock, nobody pops
                    }
                }
            }
            Err(Corrupted::new("the list of the buried is a circle"))
        })?
    }
}
