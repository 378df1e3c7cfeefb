//! How long to look again before sleeping.
//!
//! Waking a process on another core costs its waker about 17 µs and takes about 30 µs. Looking again
//! for a while avoids both when the answer comes soon, and steals a core from whoever would produce
//! the answer when it does not. So the budget adapts: it grows by a quarter when looking paid, halves
//! when it did not, and below 1 µs only every 64th wait looks at all, then as long as it may.
//!
//! A thread that may run on one core only also lets others run on it between its looks: whoever would
//! produce the answer may be one of them, and a `sched_yield` to them costs a third of what it costs to be
//! woken by them. Where another one takes the core for a whole time slice, that costs 4 ms; after that
//! happened it looks without, some thousand times. A thread that may run on several cores never yields.

use std::cell::Cell;
use std::hint::spin_loop;
use std::thread;

use manycore_os::{affinity, clock};

const START_NS: u32 = 20_000;
const MOST_NS: u32 = 60_000;
const LEAST_NS: u32 = 1_000;
/// Longer than a wake-up takes: where two sleep in turns, a look finds that out only if it goes on until
/// the other one is awake.
const PROBE_NS: u32 = MOST_NS;
/// For a thread that may run on one core only, where the other one may have to wait until it is over.
const NARROW_PROBE_NS: u32 = 10_000;
const PROBE_EVERY: u32 = 64;
/// The longest that letting others run may take, or they are no conversation partners.
const LONG_TURN_NS: u64 = 500_000;
/// After one of that length, others are not let run for so many waits.
const KEEP_WAITS: u32 = 8192;

#[derive(Clone, Copy)]
struct Budget {
    ns: u32,
    waits: u32,
    /// Waits to come before others are let run again.
    keep: u32,
    /// Whether this thread may run on one core only, as far as it knows.
    is_narrow: bool,
    /// Whether what it waited for last was there after one turn of others.
    is_prompt: bool,
}

thread_local! {
    static BUDGET: Cell<Budget> =
        const { Cell::new(Budget { ns: START_NS, waits: 0, keep: 0, is_narrow: false, is_prompt: false }) };
}

/// How often to look at something that changes in an instant, if `usual` is often enough: the threads of a
/// model learn nothing from a second look.
pub(crate) fn looks(usual: u32) -> u32 {
    #[cfg(test)]
    if crate::model::is_active() {
        return 1;
    }
    usual
}

/// Looks at `ready` for as long as it has been paying lately; whether it turned true.
pub fn look(mut ready: impl FnMut() -> bool) -> bool {
    if ready() {
        return true;
    }
    if looks(2) < 2 {
        return false;
    }
    let mut budget = BUDGET.get();
    if budget.waits.is_multiple_of(PROBE_EVERY) {
        budget.is_narrow = affinity::allowed_cpus() == 1;
    }
    budget.waits = budget.waits.wrapping_add(1);
    budget.keep = budget.keep.saturating_sub(1);
    let ns = affordable(budget);
    let found = ns > 0
        && if budget.is_narrow && budget.keep == 0 {
            take_turns(ns, &mut budget, &mut ready)
        } else {
            look_for(ns, &mut ready)
        };
    if found {
        budget.ns = adapted(ns, true);
    } else if ns > 0 {
        budget.ns = adapted(budget.ns, false);
    }
    BUDGET.set(budget);
    found
}

/// Lets others run once, if that is likely to be enough; whether it was. For a caller that has more to do
/// before it can wait for longer.
pub fn one_turn(mut ready: impl FnMut() -> bool) -> bool {
    let mut budget = BUDGET.get();
    if !budget.is_prompt || budget.waits.is_multiple_of(PROBE_EVERY) {
        return false; // `look` also asks whether this thread still has one core only
    }
    budget.waits = budget.waits.wrapping_add(1);
    let found = turn(&mut budget, &mut ready);
    budget.is_prompt &= found;
    BUDGET.set(budget);
    found
}

fn affordable(budget: Budget) -> u32 {
    if affinity::online_cpus() < 2 && budget.keep > 0 {
        return 0;
    }
    if budget.ns >= LEAST_NS {
        return budget.ns;
    }
    match budget.waits.is_multiple_of(PROBE_EVERY) {
        true if budget.is_narrow => NARROW_PROBE_NS,
        true => PROBE_NS,
        false => 0,
    }
}

fn adapted(ns: u32, paid: bool) -> u32 {
    if paid {
        (ns + ns / 4 + 1_000).min(MOST_NS)
    } else {
        ns / 2
    }
}

fn take_turns(ns: u32, budget: &mut Budget, ready: &mut impl FnMut() -> bool) -> bool {
    if turn(budget, ready) {
        budget.is_prompt = budget.keep == 0;
        return true;
    }
    let start = clock::now_ns();
    while budget.keep == 0 && clock::now_ns().wrapping_sub(start) <= u64::from(ns) {
        if turn(budget, ready) {
            return true;
        }
    }
    false
}

/// Lets others run on this core once.
fn turn(budget: &mut Budget, ready: &mut impl FnMut() -> bool) -> bool {
    let start = clock::now_ns();
    thread::yield_now();
    if clock::now_ns().wrapping_sub(start) > LONG_TURN_NS {
        budget.keep = KEEP_WAITS;
        budget.is_prompt = false;
    }
    ready()
}

fn look_for(ns: u32, ready: &mut impl FnMut() -> bool) -> bool {
    let start = clock::now_ns();
    loop {
        for _ in 0..8 {
            if ready() {
                return true;
            }
            spin_loop();
        }
        if clock::now_ns().wrapping_sub(start) > u64::from(ns) {
            return false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_that_never_pays_ends_in_rare_probes() {
        let mut ns = START_NS;
        for _ in 0..10 {
            ns = adapted(ns, false);
        }
        assert!(ns < LEAST_NS);
        let after = |waits| Budget {
            ns,
            waits,
            ..BUDGET.get()
        };
        assert_eq!(affordable(after(63)), 0);
        assert_eq!(affordable(after(64)), PROBE_NS);
    }

    #[test]
    fn a_probe_that_pays_makes_the_next_looks_as_long() {
        let lean = Budget {
            ns: 0,
            waits: PROBE_EVERY - 1,
            ..BUDGET.get()
        };
        BUDGET.set(lean);
        let mut looks = 0;
        assert!(look(|| {
            looks += 1;
            looks > 1
        }));
        let after = BUDGET.get();
        assert!(after.ns == MOST_NS || after.keep > 0);
        BUDGET.set(lean);
        assert!(!look(|| false));
        assert_eq!(BUDGET.get().ns, 0);
    }

    #[test]
    fn others_are_let_run_only_by_who_has_one_core_and_only_if_they_answer() {
        let fresh = BUDGET.get();
        assert!(!fresh.is_prompt && !one_turn(|| true));
        let mut prompt = fresh;
        assert!(take_turns(LEAST_NS, &mut prompt, &mut || true));
        assert_eq!(prompt.is_prompt, prompt.keep == 0);
        BUDGET.set(Budget {
            is_prompt: true,
            waits: 1,
            ..fresh
        });
        assert!(!one_turn(|| false) && !one_turn(|| true));
    }

    #[test]
    fn who_once_waited_for_its_core_keeps_it() {
        let mut budget = BUDGET.get();
        budget.keep = KEEP_WAITS;
        let mut looks = 0;
        let found = take_turns(MOST_NS, &mut budget, &mut || {
            looks += 1;
            false
        });
        assert!(!found && looks == 1);
    }

    #[test]
    fn a_budget_that_pays_grows_to_two_wake_ups() {
        let mut ns = 0;
        for _ in 0..100 {
            ns = adapted(ns, true);
        }
        assert_eq!(ns, MOST_NS);
    }
}
