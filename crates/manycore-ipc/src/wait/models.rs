//! The bell in every order of two or three threads' steps.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use manycore_os::Deadline;

use super::{Bell, GaveUp, Patience, Search, several};
use crate::crash::{for_every_death, run_and_count, run_until_death};
use crate::model::{Model, kernel, spawn};
use crate::word::Word64;

/// Things to take, and a bell that is rung when there are more.
#[derive(Default)]
struct Shop {
    bell: Bell,
    things: Word64,
    search: Search,
}

impl Shop {
    fn new() -> &'static Self {
        Box::leak(Box::default())
    }

    fn bring(&self) {
        self.things.fetch_add(1, Release); // pairs with the Acquire in `take_one`
        self.bell.ring();
    }

    /// Takes one if there is one.
    fn take_one(&self) -> bool {
        let mut there = self.things.load(Acquire);
        while there > 0 {
            match self
                .things
                .compare_exchange(there, there - 1, AcqRel, Relaxed)
            {
                Ok(_) => return true,
                Err(_) if crate::crash::is_dead() => return false,
                Err(found) => there = found,
            }
        }
        false
    }

    /// Waits for one and takes it, as consumers of a ring do.
    fn take(&self, until: Deadline) -> Result<(), GaveUp> {
        let mut tick = || true;
        let mut patience = Patience::new(until, &mut tick);
        let mut slept = false;
        while !self.take_one() {
            slept |= self
                .bell
                .wait(&mut patience, || self.things.load(Acquire) > 0)?;
        }
        if slept && self.things.load(Acquire) > 0 {
            self.bell.ring();
        }
        Ok(())
    }
}

/// The same with one customer at a time that looks before it sleeps, as the workers of a pool do.
impl Shop {
    fn bring_to_searchers(&self) {
        self.things.fetch_add(1, Release); // pairs with the Acquire in `take_one`
        self.bell.ring_unless(|| self.search.is_on_or_wakes());
    }

    fn search_and_take(&self) -> Result<(), GaveUp> {
        let mut tick = || true;
        let mut patience = Patience::new(Deadline::NEVER, &mut tick);
        let ready = || self.things.load(Acquire) > 0;
        let mut slept = false;
        while !self.take_one() {
            self.search.wait(&self.bell, &mut patience, &ready)?;
            slept = true;
        }
        if slept && ready() {
            self.bell.ring();
        }
        Ok(())
    }
}

#[test]
#[ignore = "a model"]
fn who_searches_misses_nothing() {
    let shop = Shop::new();
    Model::exhaustive().explore(move || {
        let searcher = spawn(move || shop.search_and_take());
        shop.bring_to_searchers();
        assert_eq!(searcher.join(), Ok(()));
    });
}

#[test]
#[ignore = "a model"]
fn what_a_searcher_leaves_is_for_who_sleeps() {
    let shop = Shop::new();
    Model::with_interruptions(2).explore(move || {
        let searchers = [(); 2].map(|()| spawn(move || shop.search_and_take()));
        shop.bring_to_searchers();
        shop.bring_to_searchers();
        for searcher in searchers {
            assert_eq!(searcher.join(), Ok(()));
        }
    });
}

#[test]
#[ignore = "a model"]
fn what_one_that_naps_leaves_is_for_who_sleeps() {
    let shop = Shop::new();
    Model::with_interruptions(1).explore(move || {
        let searchers = [(); 3].map(|()| spawn(move || shop.search_and_take()));
        for _ in 0..3 {
            shop.bring_to_searchers();
        }
        for searcher in searchers {
            assert_eq!(searcher.join(), Ok(()));
        }
    });
}

#[test]
#[ignore = "a model"]
fn a_lost_wake_up_is_impossible() {
    let shop = Shop::new();
    Model::exhaustive().explore(move || {
        let sleeper = spawn(move || shop.take(Deadline::NEVER));
        shop.bring();
        assert_eq!(sleeper.join(), Ok(()));
    });
}

#[test]
#[ignore = "a model"]
fn two_sleepers_are_both_woken_for_two_things() {
    let shop = Shop::new();
    Model::with_interruptions(2).explore(move || {
        let sleepers = [(); 2].map(|()| spawn(move || shop.take(Deadline::NEVER)));
        shop.bring();
        shop.bring();
        for sleeper in sleepers {
            assert_eq!(sleeper.join(), Ok(()));
        }
    });
}

#[test]
#[ignore = "a model"]
fn who_gives_up_takes_no_wake_up_from_another_with_it() {
    let shop = Shop::new();
    Model::with_interruptions(3).explore(move || {
        let patient = spawn(move || shop.take(Deadline::NEVER));
        let hasty = spawn(move || shop.take(Deadline::PASSED));
        shop.bring();
        if hasty.join() == Ok(()) {
            shop.bring(); // the first one was for it
        }
        assert_eq!(patient.join(), Ok(()));
    });
}

#[test]
#[ignore = "a model"]
fn a_ringer_that_wakes_all_leaves_nobody_asleep() {
    let shop = Shop::new();
    Model::with_interruptions(3).explore(move || {
        let look = move || {
            let mut tick = || true;
            let mut patience = Patience::new(Deadline::NEVER, &mut tick);
            shop.bell
                .wait(&mut patience, || shop.things.load(Acquire) > 0)
        };
        let sleepers = [(); 2].map(|()| spawn(look));
        shop.things.store(1, Release);
        shop.bell.ring_all();
        for sleeper in sleepers {
            assert!(sleeper.join().is_ok());
        }
    });
}

#[test]
#[ignore = "a model"]
fn a_wake_up_given_to_a_dying_sleeper_is_made_up_for_when_the_slice_ends() {
    let shop = Shop::new();
    Model::with_interruptions(2).explore(move || {
        let mortal = spawn(move || {
            kernel::die_when_woken();
            let outcome = run_until_death(u64::MAX, || shop.take(Deadline::NEVER));
            kernel::end_slices();
            outcome
        });
        let sleeper = spawn(move || shop.take(Deadline::NEVER));
        shop.bring();
        shop.bring(); // one of the two is for the other, whoever came first
        assert_eq!(sleeper.join(), Ok(()));
        shop.bring(); // and should the mortal one be asleep still, it dies of this
        mortal.join();
    });
}

#[test]
#[ignore = "a model"]
fn a_ringer_that_dies_at_any_step_delays_sleepers_by_a_slice_at_most() {
    for_every_death(|stores, deaths| {
        let shop = Shop::new();
        Model::exhaustive().explore(move || {
            let mortal = spawn(move || {
                let done = run_and_count(stores, deaths, || shop.bring());
                kernel::end_slices();
                done
            });
            let has_died = mortal.join().is_none();
            let has_brought = shop.things.load(Acquire) == 1;
            assert!(has_brought || has_died);
            if has_brought {
                assert_eq!(shop.take(Deadline::NEVER), Ok(()));
            }
        });
    });
}

impl Shop {
    fn has_any(&self) -> bool {
        self.things.load(Acquire) > 0
    }
}

/// Waits until there is something in one of these shops, and says so to others at its bell: it takes nothing.
fn look_in(shops: [&'static Shop; 2], until: Deadline) -> Result<(), GaveUp> {
    let mut tick = || true;
    let mut patience = Patience::new(until, &mut tick);
    let bells = shops.map(|shop| &shop.bell);
    let waited = several::wait_at(&bells, &mut patience, || {
        shops.iter().any(|shop| shop.has_any())
    });
    if waited != Ok(false) {
        let ready = shops.iter().filter(|shop| shop.has_any());
        ready.for_each(|shop| shop.bell.ring());
    }
    waited.map(drop)
}

#[test]
#[ignore = "a model"]
fn who_sleeps_at_two_bells_misses_neither() {
    for at in 0..2 {
        let shops = [Shop::new(), Shop::new()];
        Model::exhaustive().explore(move || {
            let sleeper = spawn(move || look_in(shops, Deadline::NEVER));
            shops[at].bring();
            assert_eq!(sleeper.join(), Ok(()));
        });
    }
}

#[test]
#[ignore = "a model"]
fn who_sleeps_at_two_bells_keeps_no_news_from_who_sleeps_at_one_of_them() {
    let shops = [Shop::new(), Shop::new()];
    Model::with_interruptions(2).explore(move || {
        let chooser = spawn(move || look_in(shops, Deadline::NEVER));
        let sleeper = spawn(move || shops[1].take(Deadline::NEVER));
        shops[0].bring();
        shops[1].bring();
        assert_eq!((chooser.join(), sleeper.join()), (Ok(()), Ok(())));
    });
}

#[test]
#[ignore = "a model"]
fn who_gives_up_at_two_bells_takes_no_wake_up_from_another_with_it() {
    let shops = [Shop::new(), Shop::new()];
    Model::with_interruptions(2).explore(move || {
        let sleeper = spawn(move || shops[0].take(Deadline::NEVER));
        let hasty = spawn(move || look_in(shops, Deadline::PASSED));
        shops[0].bring();
        let _ = hasty.join();
        assert_eq!(sleeper.join(), Ok(()));
    });
}
