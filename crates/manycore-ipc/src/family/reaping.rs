//! Cleaning up after dead processes.

use std::ops::Range;

use super::Family;
use crate::block::Blocks;
use crate::error::HandleError;
use crate::fault;
use crate::lock::{Shares, Tokens, UserLock};
use crate::map::Map;
use crate::object::Objects;
use crate::object::header::{Kind, Phase};
use crate::registry::OwnerId;
use crate::ring::Ring;

/// A process that was found dead and cleaned up after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reaped {
    /// Who it was.
    pub owner: OwnerId,
    /// Its pid.
    pub pid: u32,
    /// Whether it went without goodbye.
    pub was_killed: bool,
}
impl Family {
    /// Looks for dead processes and cleans up after them: those that the kernel has marked, or, when
    /// `thoroughly`, every one that is confirmed to have ended. Returns whom it found.
    pub fn reap_dead(&self, thoroughly: bool) -> Vec<Reaped> {
        let registry = self.registry();
        let mut found = Vec::new();
        let Ok(me) = self.me() else { return found };
        for number in registry.used() {
            if thoroughly || registry.seems_dead(number) {
                self.reap_as(me, number, &mut found);
            }
        }
        found
    }

    /// Cleans up after the process in a slot, if it is confirmed to have ended.
    pub fn reap(&self, number: usize) -> Option<Reaped> {
        let mut found = Vec::new();
        self.reap_as(self.me().ok()?, number, &mut found);
        found
            .into_iter()
            .find(|reaped| reaped.owner.slot() == number)
    }

    pub(super) fn reap_as(&self, me: OwnerId, number: usize, found: &mut Vec<Reaped>) {
        let registry = self.registry();
        // Those that were cleaned up after but for what they had claimed or reserved themselves, each of it left
        // by the one before. No recursion: the chain may be as long as the registry.
        let mut chain: Vec<(Reaped, Range<usize>)> = Vec::new();
        let claimed = |number| {
            let reaped = self.claim_and_recover(me, number)?;
            Some((reaped, registry.used()))
        };
        chain.extend(claimed(number));
        while let Some((reaped, others)) = chain.last_mut() {
            // While the slot still names the dead: what it had reserved, or begun to clean up, names it by its
            // slot alone, and would seem to belong to the next process there.
            let left = others.find(|&other| registry.is_left_by(other, reaped.owner.slot()));
            if let Some(other) = left {
                chain.extend(claimed(other));
                continue;
            }
            fault::point("recover.done");
            registry.release(reaped.owner, me);
            found.extend(chain.pop().map(|(reaped, _)| reaped));
        }
    }

    /// Claims a slot whose process is confirmed to have ended, and undoes what that process had half done.
    fn claim_and_recover(&self, me: OwnerId, number: usize) -> Option<Reaped> {
        let registry = self.registry();
        if number == me.slot() {
            return None;
        }
        let (owner, was_killed) = registry.claim_dead(number, me).ok()??;
        let pid = registry.tenancy(number).map_or(0, |tenancy| tenancy.pid);
        // Else it stays claimed, by this process until that ends: it is not reused.
        let is_done = self.recover(owner, pid, was_killed, me).unwrap_or(false);
        is_done.then_some(Reaped {
            owner,
            pid,
            was_killed,
        })
    }

    /// Everything that a dead process may have left. Each step may be done twice. `false` when
    /// something is still to be done, since a process that was stopped has the lock for it.
    pub(super) fn recover(
        &self,
        dead: OwnerId,
        pid: u32,
        was_killed: bool,
        me: OwnerId,
    ) -> Result<bool, HandleError> {
        let (objects, blocks) = (Objects::new(self.heap, me), Blocks::new(self.heap, me));
        let killed = was_killed.then_some(pid);
        let mut is_settled = true;
        objects.for_each_live(|index, stage| match (stage.kind, killed) {
            (Some(Kind::Lock), Some(pid)) => {
                if let Ok(lock) = objects.body::<UserLock>(index) {
                    lock.hand_over(dead, pid);
                }
            }
            (Some(Kind::Semaphore | Kind::RwLock), _) => {
                if let Ok(tokens) = objects.body::<Tokens>(index) {
                    is_settled &= settle_shares(&Shares::new(tokens, index, blocks), dead, killed);
                }
            }
            (Some(Kind::Map), _) => {
                if let Ok(map) = Map::new(index, blocks, objects) {
                    map.settle();
                }
            }
            (Some(kind), _) => self.forget_waiter(index, kind, dead, me),
            (None, _) => {}
        })?;
        fault::point("recover.locks");
        blocks.sweep(dead, |index| self.settle(index, blocks, objects))?;
        fault::point("recover.blocks");
        for (index, kind) in objects.sweep(dead)? {
            self.free_object(&objects, index, kind)?;
        }
        fault::point("recover.objects");
        Ok(is_settled)
    }

    /// Hands a lock over if its holder was killed: also while another process is still cleaning up after that,
    /// which may have been stopped.
    pub(super) fn look_after_holder(&self, lock: &UserLock, holder: u32) {
        let number = OwnerId::from_bits(holder).slot(); // a name has the slot in the same place
        let _ = self.reap(number); // does nothing unless that process is confirmed dead
        if let Some((owner, pid)) = self.registry().killed_in(number) {
            lock.hand_over(owner, pid);
        }
    }

    /// Cleans up behind those that have, or wait for, tokens and were killed: also where another process is
    /// still at it, as in [`Family::look_after_holder`].
    pub(super) fn look_after_shares(&self, shares: &Shares) {
        let registry = self.registry();
        for owner in shares.owners() {
            let number = owner.slot();
            if !registry.may_have_ended(number) {
                continue; // no death without its mark, where there is one
            }
            let _ = self.reap(number); // does nothing unless that process is confirmed dead
            match registry.killed_in(number) {
                Some((killed, pid)) if killed == owner => {
                    settle_shares(shares, owner, Some(pid));
                }
                _ => {}
            }
        }
    }

    fn settle(&self, index: u32, blocks: Blocks, objects: Objects) {
        let is_ring = objects
            .stage(index)
            .is_ok_and(|stage| stage.kind == Some(Kind::Ring) && stage.phase != Phase::Free);
        if let (true, Ok(ring)) = (is_ring, Ring::new(index, blocks, objects)) {
            ring.settle();
        }
    }
}

/// `false` if it is still to be done. What is damaged shows again where it is used.
fn settle_shares(shares: &Shares, dead: OwnerId, killed: Option<u32>) -> bool {
    !shares.may_have(dead) || shares.settle(dead, killed).unwrap_or(true)
}
