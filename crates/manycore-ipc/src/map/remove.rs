//! Taking a value out.

use std::sync::atomic::Ordering::{Relaxed, Release};

use super::layout::{KEPT, STRIPES};
use super::set::When;
use super::stripe::{Freed, Key, Map, MapError, Open, Released};
use super::table::{EMPTY, Found, GONE, Table};
use crate::error::Corrupted;
use crate::fault;
use crate::wait::Patience;

impl Map {
    /// Removes a key and its value. `false` if the key has none, or not the one that was asked for.
    ///
    /// # Errors
    /// When the patience ends first, or the map's bytes make no sense.
    #[inline]
    pub fn remove(
        &self,
        key: &Key<'_>,
        when: When,
        patience: &mut Patience<'_>,
    ) -> Result<bool, MapError> {
        let removed = self.try_remove(key, when, patience)?;
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
        patience: &mut Patience<'_>,
    ) -> Result<Option<Freed>, MapError> {
        let mut released = Released::default();
        let is_removed = {
            let (open, _guard) = self.open_for(key, patience)?;
            let Some(table) = open.table()? else {
                return Ok(None);
            };
            let found = table.find(key)?.found;
            let found = found.filter(|it| when.is_true_of(Some(it)));
            if let Some(found) = &found {
                open.take_out(&table, found, &mut released)?;
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
        table.for_each(|found| self.take_out(&table, &found, released))?;
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

    /// Removes an entry, and frees its blocks.
    fn take_out(
        &self,
        table: &Table,
        found: &Found,
        released: &mut Released,
    ) -> Result<(), Corrupted> {
        let (head, record) = (table.head, found.record);
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
        self.let_go(table, found, released)
    }
}
