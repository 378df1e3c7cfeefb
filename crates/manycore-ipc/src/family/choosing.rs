//! Waiting for the first of several rings.

use manycore_os::Deadline;

use super::Family;
use crate::ring::Ring;
use crate::wait::{Bell, GaveUp, Patience, several};

impl Family {
    /// Waits until one of these rings has a message, or will never have one any more; which one, beginning with
    /// number `first`. Another consumer may be quicker. Producers are looked after as in
    /// [`Hold::get`](super::Hold::get).
    ///
    /// # Errors
    /// When the patience ends first, or there is no ring.
    pub fn wait_for_any(
        &self,
        rings: &[Ring],
        first: usize,
        patience: &mut Patience<'_>,
    ) -> Result<usize, GaveUp> {
        let look_after = |thoroughly| {
            for ring in rings {
                let _ = self.look_after_producers(ring, thoroughly); // what is corrupted, `get` meets too
            }
        };
        let find = || {
            let numbers = (0..rings.len()).map(|n| (first % rings.len() + n) % rings.len());
            numbers.into_iter().find(|&n| rings[n].is_ready())
        };
        if let Some(found) = find() {
            return Ok(found);
        }
        look_after(false);
        let until = patience.until();
        if until == Deadline::PASSED {
            return find().ok_or(GaveUp::TimedOut); // who tries does not spin
        }
        let mut tick = || {
            look_after(true);
            patience.tick().is_ok()
        };
        let bells: Vec<&Bell> = rings.iter().map(Ring::items_bell).collect();
        let mut found = None;
        let waited = several::wait_at(&bells, &mut Patience::new(until, &mut tick), || {
            found = find();
            found.is_some()
        });
        if let Err(GaveUp::TimedOut) = waited {
            look_after(true); // a wait that was shorter than a slice has not looked
            found = find();
        }
        if waited != Ok(false) {
            // The caller may leave what is there to others, who may sleep.
            for ring in rings.iter().filter(|ring| ring.is_ready()) {
                ring.announce();
            }
        }
        match waited {
            Err(gave_up) if found.is_none() => Err(gave_up),
            _ => found.ok_or(GaveUp::TimedOut),
        }
    }
}
