//! How long the others stood still.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::member::Role;

/// The others go on within this time of a confirmed death.
const PROMISED: Duration = Duration::from_millis(100);

/// What one campaign has seen.
#[derive(Default)]
pub(crate) struct Report {
    counts: BTreeMap<String, u64>,
    pauses: [Vec<Duration>; 2],
    deaths: Vec<Duration>,
}

/// Steps of survivors between a kill and the confirmed death, at most one of each role.
pub(crate) const EARLY_STEPS: &str = "first steps before the death was confirmed";

impl Report {
    /// Counts something.
    pub(crate) fn count(&mut self, what: impl Into<String>, by: u64) {
        *self.counts.entry(what.into()).or_default() += by;
    }

    /// How often something was counted.
    pub(crate) fn counted(&self, what: &str) -> u64 {
        self.counts.get(what).copied().unwrap_or_default()
    }

    /// It took so long from a kill to the confirmed death.
    pub(crate) fn death(&mut self, took: Duration) {
        self.deaths.push(took);
    }

    /// After a confirmed death it took so long until a survivor of this role made a step.
    pub(crate) fn pause(&mut self, role: Role, pause: Duration) {
        self.pauses[role as usize].push(pause);
    }

    /// Prints it, and compares it with what was promised. Of few deaths the worst ones do not count, and
    /// of many the worst one in a hundred: a busy machine is not the engine's fault.
    pub(crate) fn conclude(mut self, campaign: &str, took: Duration) {
        println!("\n{campaign}, {:.1} s", took.as_secs_f64());
        for (what, count) in &self.counts {
            println!("  {count:>9} {what}");
        }
        print_times("from a kill to the confirmed death", &mut self.deaths);
        for (role, pauses) in [Role::Producer, Role::Consumer]
            .into_iter()
            .zip(&mut self.pauses)
        {
            print_times(&format!("until a surviving {role:?} went on"), pauses);
            if pauses.is_empty() {
                continue;
            }
            let judged = at(pauses, if pauses.len() < 200 { 90 } else { 99 });
            assert!(judged <= PROMISED, "{role:?}s stood still for {judged:?}");
        }
    }
}

fn print_times(what: &str, times: &mut [Duration]) {
    times.sort_unstable();
    if let Some(worst) = times.last() {
        let (median, p99) = (at(times, 50), at(times, 99));
        println!("  {what}: median {median:.2?}, p99 {p99:.2?}, worst {worst:.2?}");
    }
}

/// The time that so many percent do not exceed. Of sorted ones.
fn at(times: &[Duration], percent: usize) -> Duration {
    times[(times.len() - 1) * percent / 100]
}
