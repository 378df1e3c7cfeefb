//! A report in words.

use std::fmt::{self, Display, Formatter};
use std::time::Duration;

use super::members::Member;
use super::report::Report;
use super::things::{
    Barrier, Detail, Holders, Lock, Place, Queue, RwLock, Semaphore, Thing, Worker,
};
use crate::object::Kind;
use crate::registry::slot::Status;

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (used, backed) = self.memory;
        writeln!(
            f,
            "family {:x}: {} of shared memory in use, {} kept",
            self.family,
            Bytes(used),
            Bytes(backed)
        )?;
        writeln!(f, "\nprocesses")?;
        for member in &self.members {
            self.write_member(f, member)?;
        }
        type Choice = fn(&Detail) -> bool;
        let sections: [(&str, Choice); 7] = [
            ("locks", |it| matches!(it, Detail::Lock(_))),
            ("semaphores and reader-writer locks", |it| {
                matches!(it, Detail::Semaphore(_) | Detail::RwLock(_))
            }),
            ("events, conditions and barriers", |it| {
                matches!(
                    it,
                    Detail::Event(_) | Detail::Condition(_) | Detail::Barrier(_)
                )
            }),
            ("queues", |it| matches!(it, Detail::Queue(_))),
            ("pools", |it| matches!(it, Detail::Group(_))),
            ("dicts", |it| matches!(it, Detail::Map)),
            ("memory", |it| matches!(it, Detail::Memory(_))),
        ];
        for (title, is_in) in sections {
            let things = self.things.iter().filter(|thing| is_in(&thing.detail));
            let mut things = things.peekable();
            if things.peek().is_some() {
                writeln!(f, "\n{title}")?;
            }
            for thing in things {
                self.write_thing(f, thing)?;
            }
        }
        Ok(())
    }
}

impl Report {
    fn write_member(&self, f: &mut Formatter<'_>, member: &Member) -> fmt::Result {
        let state = match (member.status, member.state) {
            (Status::Killed, _) => "was killed",
            (Status::Left | Status::Gone, Some('Z') | None) => "has ended",
            (Status::Left | Status::Gone, _) => "is ending",
            (_, None) => "is gone",
            (_, Some('T' | 't')) => "is stopped",
            (_, Some('Z' | 'X')) => "has ended, and its parent has not asked",
            _ => "runs",
        };
        writeln!(f, "  {:>8}  {state}: {}", member.pid, member.command)?;
        let Some(asleep) = &member.asleep else {
            if member.state.is_some_and(|state| !"ZX".contains(state)) {
                writeln!(
                    f,
                    "            what its threads wait for cannot be seen by this user"
                )?;
            }
            return Ok(());
        };
        for sleeper in asleep {
            let thread = sleeper.thread;
            writeln!(
                f,
                "            thread {thread} waits {}",
                Waits(self, sleeper.at)
            )?;
        }
        Ok(())
    }

    fn write_thing(&self, f: &mut Formatter<'_>, thing: &Thing) -> fmt::Result {
        write!(f, "  {:>8}  ", Name(thing).to_string())?;
        self.write_detail(f, &thing.detail)?;
        match &thing.holders[..] {
            [] => write!(f, "; known to nobody")?,
            holders => write!(f, "; known to {}", self.processes(holders))?,
        }
        match thing.in_flight {
            0 => writeln!(f),
            times => writeln!(f, "; {times} times in messages or dicts"),
        }
    }

    fn write_detail(&self, f: &mut Formatter<'_>, detail: &Detail) -> fmt::Result {
        match detail {
            Detail::Lock(lock) => self.write_lock(f, lock),
            Detail::Queue(queue) => write_queue(f, queue),
            Detail::Barrier(barrier) => self.write_barrier(f, barrier),
            Detail::Memory(bytes) => write!(f, "{}", Bytes(*bytes)),
            Detail::Group(workers) => self.write_workers(f, workers),
            Detail::Event(true) => write!(f, "set"),
            Detail::Event(false) => write!(f, "not set"),
            Detail::Condition(waiting) if waiting.is_empty() => write!(f, "nobody waits"),
            Detail::Condition(waiting) => write!(f, "waited for by {}", self.processes(waiting)),
            Detail::Semaphore(semaphore) => self.write_semaphore(f, semaphore),
            Detail::RwLock(lock) => self.write_rw_lock(f, lock),
            Detail::Map => write!(f, "there"),
            Detail::Other(_) => Ok(()),
        }
    }

    fn write_workers(&self, f: &mut Formatter<'_>, workers: &[Worker]) -> fmt::Result {
        let all = workers.iter().map(|worker| {
            let process = self.process(worker.slot);
            match worker.runs_for {
                Some(time) => format!("{process} (has run a task for {})", Seconds(time)),
                None => process,
            }
        });
        write!(f, "workers: {}", all.collect::<Vec<_>>().join(", "))
    }

    fn write_lock(&self, f: &mut Formatter<'_>, lock: &Lock) -> fmt::Result {
        match lock.holder {
            None => write!(f, "free")?,
            Some(slot) => write!(f, "held by {}", self.process(slot))?,
        }
        if let Some((thread, times)) = lock.owner {
            write!(f, ", thread {thread}, {times} times")?;
        }
        if let Some(pid) = lock.dead_holder {
            write!(f, ", its holder {pid} was killed")?;
        }
        if lock.is_to_be_repaired {
            write!(f, ", to be repaired")?;
        }
        if lock.is_awaited {
            write!(f, ", waited for")?;
        }
        if let Some(time) = lock.held_for {
            write!(f, ", held for at least {}", Seconds(time))?;
        }
        Ok(())
    }

    fn write_semaphore(&self, f: &mut Formatter<'_>, semaphore: &Semaphore) -> fmt::Result {
        write!(f, "{} tokens", semaphore.tokens)?;
        let holders = &semaphore.holders;
        if !holders.shares.is_empty() {
            write!(f, ", held by {}", self.shares(&holders.shares))?;
        }
        write_wait(f, holders)
    }

    fn write_rw_lock(&self, f: &mut Formatter<'_>, lock: &RwLock) -> fmt::Result {
        let holders = &lock.holders;
        match (lock.readers, lock.is_written) {
            (_, true) => {
                let writers: Vec<_> = holders.shares.iter().map(|it| it.0).collect();
                write!(f, "written by {}", self.processes(&writers))?;
            }
            (0, false) => write!(f, "free")?,
            (readers, false) => {
                let by = self.shares(&holders.shares);
                write!(f, "read, {readers} times: by {by}")?;
            }
        }
        if let Some(pid) = lock.dead_writer {
            write!(f, ", its writer {pid} was killed")?;
        }
        write_wait(f, holders)
    }

    fn write_barrier(&self, f: &mut Formatter<'_>, barrier: &Barrier) -> fmt::Result {
        write!(f, "{} of {} have come", barrier.come, barrier.parties)?;
        if barrier.is_broken {
            write!(f, ", broken")?;
        }
        if !barrier.waiting.is_empty() {
            write!(f, ": {}", self.processes(&barrier.waiting))?;
        }
        Ok(())
    }

    fn processes(&self, slots: &[usize]) -> String {
        let all: Vec<_> = slots.iter().map(|slot| self.process(*slot)).collect();
        all.join(", ")
    }

    /// Processes, and how many tokens each has.
    fn shares(&self, shares: &[(usize, u32)]) -> String {
        let all = shares.iter().map(|&(slot, count)| match count {
            1 => self.process(slot),
            count => format!("{} ({count} times)", self.process(slot)),
        });
        all.collect::<Vec<_>>().join(", ")
    }

    /// The process in a slot.
    fn process(&self, slot: usize) -> String {
        let found = self.members.iter().find(|member| member.slot == slot);
        found.map_or_else(
            || "a process that is gone".to_owned(),
            |member| member.pid.to_string(),
        )
    }

    fn name(&self, index: u32) -> String {
        let thing = self.things.iter().find(|thing| thing.index == index);
        thing.map_or_else(
            || format!("object {index}"),
            |thing| Name(thing).to_string(),
        )
    }
}

fn write_queue(f: &mut Formatter<'_>, queue: &Queue) -> fmt::Result {
    let stats = &queue.stats;
    write!(f, "{} items", stats.put.saturating_sub(stats.got))?;
    if queue.max_messages > 0 {
        write!(f, " of {} at most", queue.max_messages)?;
    }
    write!(
        f,
        " ({} put, {} got, {} at most so far)",
        stats.put, stats.got, stats.high_water
    )?;
    if queue.is_closed {
        write!(f, ", shut down")?;
    }
    for (thread, what) in queue.busy.iter().zip(["putting", "getting"]) {
        if let Some(thread) = thread {
            write!(f, ", thread {thread} is {what}")?;
        }
    }
    Ok(())
}

fn write_wait(f: &mut Formatter<'_>, holders: &Holders) -> fmt::Result {
    if holders.is_awaited {
        write!(f, ", waited for")?;
    }
    match holders.awaited_for {
        Some(time) => write!(f, ", for at least {}", Seconds(time)),
        None => Ok(()),
    }
}

/// How a thing is called.
struct Name<'a>(&'a Thing);

impl Display for Name<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let kind = match self.0.detail {
            Detail::Queue(_) => "queue",
            Detail::Lock(_) => "lock",
            Detail::Memory(_) => "memory",
            Detail::Group(_) => "pool",
            Detail::Event(_) => "event",
            Detail::Condition(_) => "condition",
            Detail::Barrier(_) => "barrier",
            Detail::Semaphore(_) => "semaphore",
            Detail::RwLock(_) => "rwlock",
            Detail::Map => "dict",
            Detail::Other(Kind::Source | Kind::End) => "producers",
            Detail::Other(_) => "object",
        };
        write!(f, "{kind} {}.{}", self.0.index, self.0.generation)
    }
}

/// What a thread waits for.
struct Waits<'a>(&'a Report, Place);

impl Display for Waits<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self(report, place) = self;
        match place {
            Place::Message(index) => write!(f, "for an item of {}", report.name(*index)),
            Place::Room(index) => write!(f, "for room in {}", report.name(*index)),
            Place::Done(index) => write!(f, "in join() of {}", report.name(*index)),
            Place::Turn(index) => write!(f, "for its turn at {}", report.name(*index)),
            Place::Lock(index) => write!(f, "for {}", report.name(*index)),
            Place::Pool(index) => write!(f, "for news of {}", report.name(*index)),
            Place::Object(index) => write!(f, "at {}", report.name(*index)),
            Place::Tables => write!(f, "for its turn at the tables of the engine"),
        }
    }
}

/// A number of bytes, with the unit that suits it.
struct Bytes(u64);

impl Display for Bytes {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (mut value, mut unit) = (self.0 as f64, "B");
        for larger in ["KiB", "MiB", "GiB", "TiB"] {
            if value < 1024.0 {
                break;
            }
            (value, unit) = (value / 1024.0, larger);
        }
        if unit == "B" {
            write!(f, "{} B", self.0)
        } else {
            write!(f, "{value:.1} {unit}")
        }
    }
}

/// A time, as exactly as it is known.
struct Seconds(Duration);

impl Display for Seconds {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} s", self.0.as_secs_f64())
    }
}
