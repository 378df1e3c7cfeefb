//! Going through all entries, while others change them.
//!
//! Entries are visited in the order of their hashes, some at a time, each under the stripe's lock: so an entry that is
//! there all the time is visited once, however often the table is replaced meanwhile. What comes or goes meanwhile may
//! be visited or not.

use super::layout::STRIPES;
use super::stripe::{Map, MapError, Open};
use super::table::EMPTY;
use crate::error::Corrupted;
use crate::ring::Message;
use crate::wait::Patience;

/// Slots that are visited at a time.
const SPAN: u32 = 5;

/// How far a walk is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    stripe: usize,
    /// The least hash that has not been visited.
    from: u64,
}

/// An entry that was visited.
#[derive(Debug, Default)]
pub struct Entry {
    /// The key.
    pub key: Vec<u8>,
    /// The value, if it has neither blocks nor handles; others have to be got by their key.
    pub value: Option<Message>,
}

impl Map {
    /// Appends the next entries to `to`; `false` when there are no more.
    ///
    /// # Errors
    /// When the patience ends first, or the map's bytes make no sense.
    pub fn scan(
        &self,
        cursor: &mut Cursor,
        has_values: bool,
        to: &mut Vec<Entry>,
        patience: &mut Patience<'_>,
    ) -> Result<bool, MapError> {
        if cursor.stripe >= STRIPES {
            return Ok(false);
        }
        let next = {
            let (open, _guard) = self.open(cursor.stripe, patience)?;
            open.visit(cursor.from, has_values, to)?
        };
        *cursor = match next {
            Some(from) => Cursor { from, ..*cursor },
            None => Cursor {
                stripe: cursor.stripe + 1,
                from: 0,
            },
        };
        Ok(true)
    }
}

impl Open<'_> {
    /// Visits some entries, from this hash on; the hash to go on with, if the stripe goes on.
    fn visit(
        &self,
        from: u64,
        has_values: bool,
        to: &mut Vec<Entry>,
    ) -> Result<Option<u64>, Corrupted> {
        let Some(table) = self.table()? else {
            return Ok(None);
        };
        let next = match table.log2.checked_sub(SPAN) {
            None | Some(0) => None,
            Some(fewer) => from.checked_add(1 << (64 - fewer)),
        };
        let home = table.home(from);
        for n in 0..table.slots() {
            let word = table.word(home + n)?;
            // Who belongs here lies here, or behind, up to the next slot that is empty.
            if word == EMPTY && n >= 1 << SPAN {
                break;
            }
            let Some(found) = table.entry(home + n, word)? else {
                continue;
            };
            let hash = found.record.hash;
            if hash < from || next.is_some_and(|next| hash >= next) {
                continue;
            }
            let (mut entry, record) = (Entry::default(), found.record);
            table.append(&found, record.key_at(), record.key, &mut entry.key)?;
            if has_values && record.blocks == 0 && record.handles == 0 {
                let value = entry.value.insert(Message::default());
                self.copy_payload(&table, &found, value)?;
            }
            to.push(entry);
        }
        Ok(next)
    }
}
