//! What is done: which shapes of queue and crew, which deaths, without which kernel features.

use std::time::Instant;

use manycore_ipc::Family;
use manycore_os::{feature, limits};

use crate::burden::{Burden, CoreFolder};
use crate::execution::{self, Way};
use crate::report::{EARLY_STEPS, Report};
use crate::round::{Bound, Crew, Round};
use crate::watchdog;

/// One run of this program.
pub(crate) struct Campaign {
    pub(crate) name: String,
    /// Kernel features that it does without.
    pub(crate) deny: &'static str,
    deeds: Deeds,
}

/// What happens to members, in turn.
enum Deeds {
    /// Each of these in turn, over all shapes, so often in all; the second number is for the short cut.
    Strikes(&'static [Way], usize, usize),
    /// Members with as much memory as this, killed; the second number is for the short cut.
    Large(usize, usize),
    /// The same, dumping their core.
    Dumps(usize, usize),
}

use Way::{
    AtPlace, DumpInside, Fault, Kill, KillInside, KillMany, KillStopped, Pause, PauseInside,
};

const KILLS: &[Way] = &[Kill, Fault, KillMany];
const STOPS: &[Way] = &[KillInside, Pause, PauseInside, KillStopped, Fault];
const ALL: &[Way] = &[
    Kill,
    KillInside,
    Fault,
    PauseInside,
    KillMany,
    AtPlace,
    AtPlace,
];
const PLACES: &[Way] = &[AtPlace];

/// How often a member whose death takes long is stopped to catch it inside a lock.
const PERSISTENT: u32 = 3_000;
/// Strikes in one round: few enough for its journal.
const IN_A_ROUND: usize = 25;

pub(crate) fn all() -> Vec<Campaign> {
    let campaign = |name: &str, deny: &'static str, deeds: Deeds| {
        let name = format!("soak::{name}");
        Campaign { name, deny, deeds }
    };
    let denying = |feature: &'static str, short: usize| {
        campaign(
            &format!("without_{feature}"),
            feature,
            Deeds::Strikes(ALL, 300, short),
        )
    };
    let mut campaigns = vec![
        campaign("kills", "", Deeds::Strikes(KILLS, 2_000, 27)),
        campaign("stops", "", Deeds::Strikes(STOPS, 900, 9)),
        campaign("places", "", Deeds::Strikes(PLACES, 600, 9)),
        campaign("large", "", Deeds::Large(2 << 10, 256)),
        campaign("dumps", "", Deeds::Dumps(512, 64)),
    ];
    campaigns.extend(feature::names().map(|name| denying(name, 2)));
    campaigns.push(denying("all", 9));
    campaigns
}

/// Every shape of crew on every kind of queue.
fn shapes() -> Vec<Crew> {
    let crews = [(3, 3), (4, 2), (2, 4)];
    let bounds = [Bound::Nothing, Bound::Messages(16), Bound::Bytes(128 << 10)];
    let crew = |bound, (producers, consumers)| Crew {
        producers,
        consumers,
        bound,
    };
    bounds
        .into_iter()
        .flat_map(|bound| crews.map(|numbers| crew(bound, numbers)))
        .collect()
}

/// Whether all of it is to be done.
fn is_long() -> bool {
    std::env::var("MANYCORE_SOAK").is_ok_and(|length| length == "long")
}

impl Campaign {
    pub(crate) fn run(&self) {
        let began = Instant::now();
        let family = Family::create().unwrap();
        family.link_life().unwrap();
        watchdog::start();
        let mut stage = Stage {
            family,
            report: Report::default(),
        };
        match self.deeds {
            Deeds::Strikes(ways, long, short) => {
                stage.strikes(ways, if is_long() { long } else { short });
            }
            Deeds::Large(long, short) => stage.large(if is_long() { long } else { short }),
            Deeds::Dumps(long, short) => stage.dumps(if is_long() { long } else { short }),
        }
        stage.report.conclude(&self.name, began.elapsed());
    }
}

struct Stage {
    family: &'static Family,
    report: Report,
}

impl Stage {
    fn strikes(&mut self, ways: &[Way], count: usize) {
        let mut ways = ways.iter().cycle();
        let mut shapes = shapes().into_iter().cycle();
        let in_a_round = IN_A_ROUND.min(count.div_ceil(9));
        let mut left = count;
        while left > 0 {
            let mut round = Round::begin(self.family, shapes.next().unwrap());
            for _ in 0..left.min(in_a_round) {
                round.strike(*ways.next().unwrap(), &mut self.report);
            }
            left -= left.min(in_a_round);
            round.finish(&mut self.report);
        }
    }

    /// The kernel marks a dead process's locks before it takes its memory down.
    fn large(&mut self, mebibytes: usize) {
        let needed = (mebibytes as u64) << 21; // twice as much
        if limits::memory().available < needed {
            return println!("SKIPPED: there are no {mebibytes} MiB of memory for one process");
        }
        self.burdened(&Burden::memory(mebibytes), KillInside);
        let went_on = self.report.counted(EARLY_STEPS);
        // Where the kernel takes less to take the memory down than others to wake up, this says nothing.
        if is_long() {
            assert_eq!(went_on, 8, "some waited until the memory was down");
        }
    }

    /// Who dumps its core ends afterwards: others wait for the lock meanwhile.
    fn dumps(&mut self, mebibytes: usize) {
        let folder = CoreFolder::new();
        self.burdened(&Burden::dumped(mebibytes, folder.path()), DumpInside);
        let least = (mebibytes as u64) << 20;
        match folder.largest_core() {
            Some(bytes) => assert!(
                (least..least + (64 << 20)).contains(&bytes),
                "{bytes} bytes"
            ),
            None => println!("SKIPPED: the system does not write core files where a process is"),
        }
    }

    fn burdened(&mut self, burden: &Burden, way: Way) {
        for bound in [Bound::Nothing, Bound::Messages(16)] {
            let shape = Crew {
                producers: 2,
                consumers: 2,
                bound,
            };
            let mut round = Round::begin(self.family, shape);
            for seat in [0, 2] {
                round.burden(seat, burden.clone());
                watchdog::expect(format!("the burdened member in seat {seat}"));
                round.until(|round| round.is_at_work(seat));
                execution::catch_inside(&round, &round.members[seat], PERSISTENT);
                round.strike_at(&[seat], way, &mut self.report);
            }
            round.finish(&mut self.report);
        }
    }
}
