//! Sleeping at several bells.
//!
//! For each of the words the argument of [`bell`](super::bell) holds: all flags are set before any condition is
//! looked at, and the kernel refuses the sleep if any of the words has changed.

use std::sync::atomic::Ordering::SeqCst;

use super::{Bell, GaveUp, Patience, spin};
use crate::fault;
use crate::kernel::{self, Slept};
use crate::word::fence;

/// Waits at several bells until `ready` is true: looks for a while, then sleeps. Returns whether it slept: a
/// wake-up that came here was perhaps the only one for its condition, so that the caller rings on at each bell
/// whose condition is true, unless it takes what came there.
///
/// # Errors
/// When the patience ends first.
pub fn wait_at(
    bells: &[&Bell],
    patience: &mut Patience<'_>,
    mut ready: impl FnMut() -> bool,
) -> Result<bool, GaveUp> {
    if spin::look(&mut ready) {
        return Ok(false);
    }
    let mut slept = None;
    loop {
        // At every turn, also the last one, as for one bell.
        let words: Vec<_> = bells
            .iter()
            .map(|bell| (bell.word(), bell.flag()))
            .collect();
        fence(SeqCst); // pairs with the fence in `Bell::ring_for`: the flags are set before anything is looked at
        fault::point("bells.flagged");
        if ready() {
            return Ok(true);
        }
        patience.after(slept)?;
        let outcome = kernel::sleep_any(&words, patience.slice());
        if outcome == Slept::Woken {
            fault::point("bells.woken");
        }
        slept = Some(outcome);
    }
}
