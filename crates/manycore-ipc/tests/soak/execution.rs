//! The ways in which a process is stopped and killed.

use std::time::Duration;

use manycore_os::Deadline;
use manycore_os::process::{self, Signal};

use crate::member::Member;
use crate::round::Round;

/// What is done to a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// `SIGKILL`, anywhere.
    Kill,
    /// `SIGSEGV`, anywhere.
    Fault,
    /// Stopped anywhere, and continued.
    Pause,
    /// Stopped inside an engine lock, and continued.
    PauseInside,
    /// Stopped anywhere, and killed.
    KillStopped,
    /// Stopped inside an engine lock, and killed.
    KillInside,
    /// Stopped inside an engine lock, and killed, and others soon afterwards, over the repair.
    KillMany,
    /// By itself, at a named place of the engine; see [`Round::arm`].
    AtPlace,
    /// Stopped inside an engine lock, and made to dump its core.
    DumpInside,
}

/// How often a member is stopped to catch it inside a lock.
const TRIES: u32 = 100;
/// How long a member may take to the place where it shall die.
const PASSES_WITHIN: Duration = Duration::from_millis(200);

impl Way {
    /// Whether the member does not live on.
    pub(crate) fn is_deadly(self) -> bool {
        !matches!(self, Self::Pause | Self::PauseInside)
    }

    fn stops_inside(self) -> bool {
        matches!(
            self,
            Self::PauseInside | Self::KillInside | Self::KillMany | Self::DumpInside
        )
    }

    /// Before the end of it: stops the member if it is to be stopped. Returns the lock that it was caught
    /// in.
    pub(crate) fn prepare(self, round: &Round, member: &Member) -> Option<&'static str> {
        match self {
            Self::Kill | Self::Fault | Self::AtPlace => return None,
            Self::Pause | Self::KillStopped => stop(member.pid()),
            Self::PauseInside | Self::KillInside | Self::KillMany | Self::DumpInside => {
                catch_inside(round, member, TRIES);
            }
        }
        if self.stops_inside() || !self.is_deadly() {
            round.pass(Duration::from_millis(20)); // until others wait for it
        }
        round.lock_held_by(member.pid())
    }

    /// Does it. Returns when the member goes on or is confirmed to have ended.
    pub(crate) fn carry_out(self, member: &mut Member) {
        match self {
            Self::Pause | Self::PauseInside => {
                process::send(member.pid(), Signal::CONT).unwrap();
                return;
            }
            Self::Fault => {
                // Rust's own handler lets the first one pass that was not caused by an instruction.
                while member.child.try_wait().unwrap().is_none() {
                    process::send(member.pid(), Signal::SEGV).unwrap();
                    std::thread::park_timeout(Duration::from_micros(20));
                }
            }
            Self::AtPlace => {
                let soon = Deadline::after(PASSES_WITHIN);
                while member.child.try_wait().unwrap().is_none() && !soon.has_passed() {
                    std::thread::park_timeout(Duration::from_micros(20));
                }
                member.child.kill().unwrap(); // one that has not come there
            }
            Self::DumpInside => {
                // Of the signals that dump a core, one that nobody handles: it ends the process right here.
                process::send(member.pid(), Signal::ABORT).unwrap();
                process::send(member.pid(), Signal::CONT).unwrap();
            }
            Self::Kill | Self::KillStopped | Self::KillInside | Self::KillMany => {
                member.child.kill().unwrap();
            }
        }
        let status = member.child.wait().unwrap();
        assert_eq!(
            status.code(),
            None,
            "{:?} {} ended by itself: {status}",
            member.role,
            member.seat
        );
    }
}

/// Stops a member, and continues and stops it again until it is inside an engine lock. It may be stopped
/// already.
pub(crate) fn catch_inside(round: &Round, member: &Member, tries: u32) {
    for _ in 1..tries {
        stop(member.pid());
        if round.lock_held_by(member.pid()).is_some() {
            return;
        }
        process::send(member.pid(), Signal::CONT).unwrap();
        round.pass(Duration::from_micros(100));
    }
    stop(member.pid());
}

/// Stops a process and returns when it has stopped.
fn stop(pid: u32) {
    process::send(pid, Signal::STOP).unwrap();
    while process::state(pid) != Some('T') {
        std::thread::park_timeout(Duration::from_micros(10));
    }
}
