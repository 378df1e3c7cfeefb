//! How long to look again before sleeping.
//!
//! Waking a process on another core costs its waker about 17 µs and takes about 30 µs. Looking again
//! for a while avoids both when the answer comes soon, and steals a core from whoever would produce
//! the answer when it does not. So the budget adapts: it grows by a quarter when looking paid, halves
//! when it did not, and below 1 µs only every 64th wait looks at all. It never yields: with busy
//! workers on every core a `sched_yield` costs 4 ms.

use std::cell::Cell;
use std::hint::spin_loop;

use manycore_os::{affinity, clock};

const START_NS: u32 = 20_000;
const MOST_NS: u32 = 60_000;
const LEAST_NS: u32 = 1_000;
const PROBE_NS: u32 = 10_000;
const PROBE_EVERY: u32 = 64;

#[derive(Clone, Copy)]
struct Budget {
    ns: u32,
    waits: u32,
}

thread_local! {
    static BUDGET: Cell<Budget> = const { Cell::new(Budget { ns: START_NS, waits: 0 }) };
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
    budget.waits = budget.waits.wrapping_add(1);
    let ns = affordable(budget);
    let found = ns > 0 && look_for(ns, &mut ready);
    if ns > 0 {
        budget.ns = adapted(budget.ns, found);
    }
    BUDGET.set(budget);
    found
}

fn affordable(budget: Budget) -> u32 {
    if affinity::online_cpus() < 2 {
        return 0;
    }
    if budget.ns >= LEAST_NS {
        return budget.ns;
    }
    if budget.waits.is_multiple_of(PROBE_EVERY) {
        PROBE_NS
    } else {
        0
    }
}

fn adapted(ns: u32, paid: bool) -> u32 {
    if paid {
        (ns + ns / 4 + 1_000).min(MOST_NS)
    } else {
        ns / 2
    }
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
        if affinity::online_cpus() > 1 {
            assert_eq!(affordable(Budget { ns, waits: 63 }), 0);
            assert_eq!(affordable(Budget { ns, waits: 64 }), PROBE_NS);
        }
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
