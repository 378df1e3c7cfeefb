//! What a reader-writer lock is made of its tokens: who reads has one of them, who writes has all.
//!
//! A writer that waits says so in a word, and no process begins to read before it has written; one that reads
//! already may read more, so that it does not wait for itself. The word names the process, so that one
//! which is killed while it waits keeps nobody out.
//!
//! All is changed under the lock of the shares. Who has to wait sets WAITERS under it, too, so who changes
//! something for sleepers afterwards wakes them: all of them, since it may be many that can go on.

use std::sync::atomic::Ordering::{Relaxed, Release};

use super::shares::{Share, Shares};
use super::tokens::{DIED, MOST, WAITERS, value_of};
use super::{Acquired, Guard};
use crate::block::allocator::Taken;
use crate::error::{Corrupted, HandleError};
use crate::kernel::Slept;
use crate::wait::{GaveUp, Patience};

/// What one wants to do with what a reader-writer lock guards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Look at it, beside others.
    Read,
    /// Change it, alone.
    Write,
}

impl Access {
    fn tokens(self) -> u32 {
        match self {
            Self::Read => 1,
            Self::Write => MOST,
        }
    }
}

/// What came of one attempt.
enum Entered {
    Done(Acquired),
    /// Not yet: sleep while the bell is this.
    Not(u32),
    NeedsBlock,
}

impl Shares {
    /// Begins to read or write, sleeping until it may. A writer that was killed is reported to all who come, up
    /// to and with the next writer.
    ///
    /// # Errors
    /// When the patience ends first; when there is no room for the shares, or the heap is corrupted.
    pub(crate) fn enter(
        &self,
        access: Access,
        patience: &mut Patience<'_>,
        mut look_after: impl FnMut(),
        make_block: &mut dyn FnMut() -> Result<Taken, HandleError>,
    ) -> Result<Result<Acquired, GaveUp>, HandleError> {
        let (mut block, mut slept) = (None, None);
        let entered = loop {
            if slept == Some(Slept::TimedOut) {
                look_after();
            }
            match self.enter_or_flag(access, patience, &mut block) {
                Ok(Err(gave_up)) => break Ok(Err(gave_up)),
                Ok(Ok(Entered::Done(acquired))) => break Ok(Ok(acquired)),
                Ok(Ok(Entered::NeedsBlock)) => match make_block() {
                    Ok(taken) => block = Some(taken),
                    Err(error) => break Err(error),
                },
                Ok(Ok(Entered::Not(rung))) => {
                    if let Err(error) = patience.after(slept) {
                        break Ok(Err(error));
                    }
                    slept = Some(self.tokens.sleep(rung, patience));
                }
                Err(error) => break Err(error.into()),
            }
        };
        if let Some(unused) = block {
            self.discard(unused);
        }
        if access == Access::Write && !matches!(entered, Ok(Ok(_))) {
            self.wait_no_more()?;
        }
        entered
    }

    /// Begins to read or write if it may without a sleep, and there is a place to note it.
    ///
    /// # Errors
    /// When the heap is corrupted.
    pub fn try_enter(&self, access: Access) -> Result<Option<Acquired>, HandleError> {
        let Some(_guard) = self.try_lock()? else {
            return Ok(None);
        };
        let share = self.own_place(&mut None)?;
        match share.filter(|&share| self.may_enter(access, share)) {
            Some(share) => Ok(self.admit(access, share)?),
            None => Ok(None),
        }
    }

    fn enter_or_flag(
        &self,
        access: Access,
        patience: &mut Patience<'_>,
        block: &mut Option<Taken>,
    ) -> Result<Result<Entered, GaveUp>, Corrupted> {
        let _guard = match self.lock(patience)? {
            Ok(guard) => guard,
            Err(gave_up) => return Ok(Err(gave_up)),
        };
        let Some(share) = self.own_place(block)? else {
            return Ok(Ok(Entered::NeedsBlock));
        };
        if self.may_enter(access, share) {
            if let Some(acquired) = self.admit(access, share)? {
                return Ok(Ok(Entered::Done(acquired)));
            }
        }
        if access == Access::Write {
            self.tokens.writer.store(self.me().bits(), Release); // pairs with the Acquire in `owners`
        }
        let rung = self.tokens.rung();
        self.tokens.flag();
        Ok(Ok(Entered::Not(rung)))
    }

    fn may_enter(&self, access: Access, share: Share) -> bool {
        let value = self.tokens.value();
        match access {
            Access::Read => {
                let does_writer_wait = self.tokens.writer.load(Relaxed) != 0; // under the lock
                value > 0 && (share.count > 0 || !does_writer_wait)
            }
            Access::Write => value == MOST,
        }
    }

    fn admit(&self, access: Access, share: Share) -> Result<Option<Acquired>, Corrupted> {
        let (count, writes) = (access.tokens(), access == Access::Write);
        let pid = self.tokens.dead.load(Relaxed) as u32; // under the lock
        if writes {
            // Another that waits as well says so again when it is woken. Relaxed: under the lock.
            self.tokens.writer.store(0, Relaxed);
        }
        let ends_report = if writes { DIED } else { 0 };
        let before = self.commit(share, share.count.saturating_add(count), |state| {
            (value_of(state) >= count).then(|| (state - u64::from(count)) & !ends_report)
        })?;
        Ok(before.map(|before| match before & DIED {
            0 => Acquired::Clean,
            _ => Acquired::HolderDied(pid),
        }))
    }

    /// Says that this process does not wait to write any more. Where a process that was stopped has the lock, without
    /// it: who has just seen the word looks again after a slice.
    fn wait_no_more(&self) -> Result<(), Corrupted> {
        let (writer, me) = (&self.tokens.writer, self.me().bits());
        if writer.load(Relaxed) != me {
            return Ok(()); // it has not come so far; only its own process writes its name
        }
        let guard = self.lock_for_a_turn()?;
        // Relaxed: nothing is read by it, and who finds it cleared has the lock, or a slice.
        if writer.compare_exchange(me, 0, Relaxed, Relaxed).is_err() {
            return Ok(());
        }
        let before = self.tokens.state();
        drop(guard);
        self.tell(before, u32::MAX); // who reads may begin
        Ok(())
    }

    /// Ends reading or writing; `false` when this process does not.
    ///
    /// # Errors
    /// When the patience ends before it is the caller's turn; when the heap is corrupted.
    pub fn leave(
        &self,
        access: Access,
        patience: &mut Patience<'_>,
    ) -> Result<Result<bool, GaveUp>, HandleError> {
        match self.lock(patience)? {
            Ok(guard) => self.leave_inside(guard, access).map(Ok),
            Err(gave_up) => Ok(Err(gave_up)),
        }
    }

    /// The same if that needs no sleep.
    ///
    /// # Errors
    /// When the heap is corrupted.
    pub fn leave_at_once(&self, access: Access) -> Result<Option<bool>, HandleError> {
        let guard = self.try_lock()?;
        guard
            .map(|guard| self.leave_inside(guard, access))
            .transpose()
    }

    fn leave_inside(&self, guard: Guard<'_>, access: Access) -> Result<bool, HandleError> {
        let is_such = |share: &Share| match access {
            Access::Read => (1..MOST).contains(&share.count),
            Access::Write => share.count == MOST,
        };
        let Some(share) = self.share_of(self.me())?.filter(is_such) else {
            return Ok(false);
        };
        let count = access.tokens();
        // If a reader is left, it keeps out whom it has kept out.
        let is_last = self.tokens.value().saturating_add(count) == MOST;
        let cleared = if is_last { WAITERS } else { 0 };
        let before = self.put_back(share, count, (cleared, 0))?;
        drop(guard);
        self.tell(before & cleared, u32::MAX);
        Ok(true)
    }

    /// Ends reading or writing in the middle of the work: of a writer, everybody is told as if this process, with
    /// its pid, had been killed.
    ///
    /// # Errors
    /// As [`Shares::leave`].
    pub fn abandon(
        &self,
        pid: u32,
        patience: &mut Patience<'_>,
    ) -> Result<Result<(), GaveUp>, HandleError> {
        match self.lock(patience)? {
            Ok(guard) => Ok(Ok(self.settle_inside(guard, self.me(), Some(pid))?)),
            Err(gave_up) => Ok(Err(gave_up)),
        }
    }

    /// How many read, in all processes, and whether somebody writes.
    #[must_use]
    pub fn readers_and_writer(&self) -> (u32, bool) {
        match self.tokens.value() {
            0 => (0, true),
            value => (MOST - value, false),
        }
    }

    /// Whether a writer was killed, and none has come since: its pid.
    #[must_use]
    pub fn dead_writer(&self) -> Option<u32> {
        let died = self.tokens.state() & DIED != 0;
        died.then(|| self.tokens.dead.load(Relaxed) as u32) // noted before the state said so
    }
}
