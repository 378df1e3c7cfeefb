//! Taking a value out.

use std::sync::atomic::Ordering::{Relaxed, Release};

use super::layout::{KEPT, STRIPES};
use super::set::When;
use super::stripe::{Freed, Key, Map, MapError, Open, Released};
use super::table::{EMPTY, Found, GONE, Table};
use crate::block::State;
use crate::error::Corrupted;
use crate::fault;
use crate::ring::Message;
use crate::wait::Patience;

impl Map {
    /// Removes a key and its value, which is moved out as a message that was received if `into` is there. `false` if
    /// the key has none, or not the one that was asked for.
    ///
    /// # Errors
    /// When the patience ends first, or the map's bytes make no sense.
    #[inline]
    pub fn remove(
        &self,
        key: &Key<'_>,
        when: When,
        into: Option<&mut Message>,
        patience: &mut Patience<'_>,
    ) -> Result<bool, MapError> {
        let removed = self.try_remove(key, when, into, patience)?;
        self.trim(removed.unwrap_or_default());
        Ok(removed.is_some())
    }

    /// Removes a key and its value, and leaves the trimming to the caller. `None` if there is none.
    ///
    /// # Errors
    /// As for [`Map::remove`].
    #[inline]
    pub fn try_remove(
        &self,
        key: &Key<'_>,
        when: When,
        mut into: Option<&mut Message>,
        patience: &mut Patience<'_>,
    ) -> Result<Option<Freed>, MapError> {
        if let Some(into) = into.as_deref_mut() {
            into.clear();
        }
        let mut released = Released::default();
        let is_removed = {
            let (open, _guard) = self.open_for(key, patience)?;
            let Some(table) = open.table()? else {
                return Ok(None);
            };
            let found = table.find(key)?.found;
            let found = found.filter(|it| when.is_true_of(Some(it)));
            if let Some(found) = &found {
                open.take_out(&table, found, into, &mut released)?;
                open.drop_if_empty(&table, &mut released)?;
            }
            found.is_some()
        };
        let freed = self.finish(&released)?;
        Ok(is_removed.then_some(freed))
    }

    /// Removes all entries, one stripe after the other.
    ///
    /// # Errors
    /// As for [`Map::remove`].
    pub fn clear(&self, patience: &mut Patience<'_>) -> Result<(), MapError> {
        for number in 0..STRIPES {
            let mut released = Released::default();
            let cleared = {
                let (open, _guard) = self.open(number, patience)?;
                open.clear(&mut released)
            };
            let freed = self.finish(&released)?;
            self.trim(freed);
            cleared?;
        }
        Ok(())
    }
}

impl Open<'_> {
    fn clear(&self, released: &mut Released) -> Result<(), Corrupted> {
        let Some(table) = self.table()? else {
            return Ok(());
        };
        table.for_each(|found| self.take_out(&table, &found, None, released))?;
        self.drop_if_empty(&table, released)
    }

    /// Gives a long table back that has no entries.
    fn drop_if_empty(&self, table: &Table, released: &mut Released) -> Result<(), Corrupted> {
        if table.head.live.load(Relaxed) == 0 && table.len() > KEPT {
            self.replace_table(None)?;
            released.has_freed = true;
        }
        Ok(())
    }

    /// Removes an entry. Its blocks are taken over for `into`, or freed.
    fn take_out(
        &self,
        table: &Table,
        found: &Found,
        into: Option<&mut Message>,
        released: &mut Released,
    ) -> Result<(), Corrupted> {
        let (head, record) = (table.head, found.record);
        let mut into = into;
        if let Some(into) = into.as_deref_mut() {
            self.copy_payload(table, found, into)?;
            if record.blocks != 0 {
                into.blocks = self.blocks_of(table, found)?;
            }
        }
        if record.blocks != 0 {
            head.retired.store(found.at, Relaxed); // published by the commit
        }
        // In front of an empty slot nobody has to be led on.
        let leads_nowhere = table.word(found.slot + 1)? == EMPTY;
        let left = if leads_nowhere { EMPTY } else { GONE };
        // Release: the commit; pairs with the Acquire in `Table::word`.
        table.slot(found.slot)?.store(left, Release);
        fault::point("map.removed");
        let used = head.used.load(Relaxed);
        let used = used.saturating_sub(u64::from(leads_nowhere));
        head.used.store(used, Relaxed);
        let live = head.live.load(Relaxed).saturating_sub(1);
        head.live.store(live, Relaxed);
        let live_bytes = head.live_bytes.load(Relaxed);
        head.live_bytes
            .store(live_bytes.saturating_sub(record.total()), Relaxed);
        match into {
            None => self.let_go(table, found, released),
            Some(into) => self.hand_over(table, found, into),
        }
    }

    /// Makes the blocks of a record that was removed this process's, and its handles a message's.
    fn hand_over(&self, table: &Table, found: &Found, into: &mut Message) -> Result<(), Corrupted> {
        for n in 0..found.record.handles {
            into.handles.push(table.handle(found, n)?);
        }
        let (me, blocks) = (self.me(), &self.map.blocks);
        for &block in &into.blocks {
            let is_lent = |run: crate::block::table::Run| run.state == State::InFlight;
            if !blocks.change(block, is_lent, State::Held, me)? {
                return Err(Corrupted::new("a map's value has lost its block"));
            }
            fault::point("map.claimed");
        }
        if found.record.blocks != 0 {
            table.head.retired.store(0, Release); // as in `let_go`
        }
        Ok(())
    }
}
