//! How a process ended, and how much memory it had: of a child that nobody has collected, and of any
//! process that somebody else has collected.

use std::fs;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::ioctl::{Opcode, Updater, ioctl, opcode};
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use rustix::time::Timespec;

use crate::feature::PIDFD_INFO;
use crate::process::{Exit, Stat};

/// The end of a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ending {
    /// How it ended.
    pub exit: Exit,
    /// The most memory in bytes that it had at once, or the largest of its own children that it has
    /// collected. What it was before an `exec` counts; so do the pages that it was forked with.
    pub peak_memory: u64,
}

/// What a look at a child finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// It runs.
    Running,
    /// It has ended, and is still to be collected.
    Ended(Ending),
    /// Somebody has collected it, or it was never a child of this process.
    Collected,
}

/// Looks at a child without collecting it.
///
/// With `pidfd`, a later child with the same number is not mistaken for it.
#[must_use]
pub fn look(pid: u32, pidfd: Option<BorrowedFd<'_>>) -> Seen {
    if let Some(fd) = pidfd {
        match wait(libc::P_PIDFD, fd.as_raw_fd().cast_unsigned()) {
            Ok(seen) => return seen,
            Err(Errno::CHILD) => return Seen::Collected,
            Err(_) => {} // older than Linux 5.4
        }
    }
    wait(libc::P_PID, pid).unwrap_or(Seen::Collected)
}

/// Collects a child that has ended; does nothing if somebody else has.
pub fn collect(pid: u32, pidfd: Option<BorrowedFd<'_>>) {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    let by_number = Pid::from_raw(pid.cast_signed()).map(WaitId::Pid);
    let Some(child) = pidfd.map(WaitId::PidFd).or(by_number) else {
        return;
    };
    let _ = waitid(child, options); // it does not wait, so no signal interrupts it
}

/// The C library's `waitid` leaves out what the kernel says about memory.
fn wait(kind: libc::idtype_t, id: u32) -> Result<Seen, Errno> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    let (info_at, usage_at) = (info.as_mut_ptr(), usage.as_mut_ptr());
    // SAFETY: the call's arguments are numbers, and pointers to locals of the types that it fills in.
    let answer = unsafe { libc::syscall(libc::SYS_waitid, kind, id, info_at, options, usage_at) };
    if answer < 0 {
        let error = std::io::Error::last_os_error().raw_os_error();
        return Err(Errno::from_raw_os_error(error.unwrap_or(libc::EIO)));
    }
    // SAFETY: plain numbers, zeroed above or filled in by the kernel: any bytes are a value.
    let info = unsafe { info.assume_init() };
    // SAFETY: as before.
    let usage = unsafe { usage.assume_init() };
    // SAFETY: `waitid` fills in the fields of a child's signal, or leaves the zeros.
    let pid = unsafe { info.si_pid() };
    // SAFETY: as before.
    let status = unsafe { info.si_status() };
    if pid == 0 {
        return Ok(Seen::Running);
    }
    let exit = match info.si_code {
        libc::CLD_EXITED => Exit::Code(status),
        _ => Exit::Signal(status),
    };
    let peak_memory = u64::try_from(usage.ru_maxrss).unwrap_or(0) << 10;
    Ok(Seen::Ended(Ending { exit, peak_memory }))
}

/// How the process `pid`, which is that of this pidfd, ended, also if it was nobody's child here and somebody
/// else has collected it, or is about to: for that this waits, for `at_most`, where the kernel does not tell
/// before. `None` where it does not tell at all.
pub fn told(pid: u32, pidfd: impl AsFd, at_most: Duration) -> Option<Exit> {
    let uncollected = told_of_uncollected(pid, &pidfd);
    if uncollected.is_some() || !PIDFD_INFO.is_present() || !is_collected_within(&pidfd, at_most) {
        return uncollected;
    }
    let mut info = Info {
        mask: INFO_EXIT,
        ..Info::default()
    };
    // SAFETY: the opcode is that of this type's layout, which is the kernel's first one; it is filled in.
    let update = unsafe { Updater::<{ GET_INFO }, Info>::new(&mut info) };
    // SAFETY: the request of a pidfd writes to nothing but the value that it is given; another file
    // refuses it, by its opcode.
    if let Err(error) = unsafe { ioctl(&pidfd, update) } {
        PIDFD_INFO.note(error);
        return None;
    }
    (info.mask & INFO_EXIT != 0).then(|| exit_of(info.exit_code))
}

/// How a process ended that nobody has collected yet.
fn told_of_uncollected(pid: u32, pidfd: impl AsFd) -> Option<Exit> {
    let stat = Stat::of(pid).filter(Stat::has_ended)?;
    // Who may not know is told zero; this can be read by the same processes.
    if stat.exit_status == 0 && fs::read(format!("/proc/{pid}/io")).is_err() {
        return None;
    }
    // The number was not another's meanwhile if it is still that of this one.
    (pid_of(pidfd) == Some(pid)).then(|| exit_of(stat.exit_status))
}

/// The pid of the process of a pidfd, until somebody has collected it.
fn pid_of(pidfd: impl AsFd) -> Option<u32> {
    let fd = pidfd.as_fd().as_raw_fd();
    let about = fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).ok()?;
    let pid = about.lines().find_map(|line| line.strip_prefix("Pid:"))?;
    pid.trim().parse().ok()
}

/// A pidfd hangs up when its process is gone for good: only then the kernel tells how it ended.
fn is_collected_within(pidfd: impl AsFd, at_most: Duration) -> bool {
    let timeout = Timespec {
        tv_sec: i64::try_from(at_most.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(at_most.subsec_nanos()),
    };
    let mut fds = [PollFd::new(&pidfd, PollFlags::empty())];
    matches!(poll(&mut fds, Some(&timeout)), Ok(n) if n > 0)
}

fn exit_of(status: i32) -> Exit {
    match (libc::WIFEXITED(status), libc::WIFSIGNALED(status)) {
        (true, _) => Exit::Code(libc::WEXITSTATUS(status)),
        (_, true) => Exit::Signal(libc::WTERMSIG(status)),
        _ => Exit::Unknown,
    }
}

/// `PIDFD_GET_INFO`.
const GET_INFO: Opcode = opcode::read_write::<Info>(0xFF, 11);
/// `PIDFD_INFO_EXIT`: asks for the exit status, and says that there is one.
const INFO_EXIT: u64 = 1 << 3;

/// `struct pidfd_info`, as long as it was at first.
#[repr(C)]
#[derive(Default)]
struct Info {
    mask: u64,
    control_group: u64,
    /// Ids of the process, its parent, its users and groups.
    ids: [u32; 11],
    exit_code: i32,
}

const _: () = assert!(size_of::<Info>() == 64);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process;
    use std::process::{Child, Command};

    fn run(script: &str) -> Child {
        let mut shell = Command::new("sh");
        shell.args(["-c", script]).spawn().expect("a shell runs")
    }

    fn look_until_ended(child: &Child) -> Ending {
        let pidfd = process::open(child.id()).ok();
        loop {
            match look(child.id(), pidfd.as_ref().map(AsFd::as_fd)) {
                Seen::Running => std::thread::yield_now(),
                Seen::Ended(ending) => return ending,
                Seen::Collected => panic!("nobody has collected it"),
            }
        }
    }

    #[test]
    fn looking_at_a_child_does_not_collect_it() {
        let mut child = run("exit 7");
        let seen = look_until_ended(&child);
        assert_eq!(seen.exit, Exit::Code(7));
        assert!(seen.peak_memory > 1 << 19, "a shell has more than that");
        assert_eq!(look(child.id(), None), Seen::Ended(seen));
        assert_eq!(child.wait().expect("still there").code(), Some(7));
        assert_eq!(look(child.id(), None), Seen::Collected);
    }

    #[test]
    fn a_child_that_runs_has_no_end_and_one_that_is_killed_has_a_signal() {
        let mut child = run("exec sleep 1000");
        assert_eq!(look(child.id(), None), Seen::Running);
        collect(child.id(), None);
        assert_eq!(look(child.id(), None), Seen::Running);
        process::kill(child.id()).expect("ours");
        assert_eq!(look_until_ended(&child).exit, Exit::Signal(9));
        child.wait().expect("ours");
    }

    #[test]
    fn a_child_is_collected_by_its_number_and_by_its_descriptor() {
        let (first, second) = (run("exit 1"), run("exit 2"));
        look_until_ended(&first);
        collect(first.id(), None);
        assert_eq!(look(first.id(), None), Seen::Collected);
        look_until_ended(&second);
        let pidfd = process::open(second.id()).ok();
        let pidfd = pidfd.as_ref().map(AsFd::as_fd);
        collect(second.id(), pidfd);
        assert_eq!(look(second.id(), pidfd), Seen::Collected);
    }

    #[test]
    fn the_kernel_tells_how_a_process_ended_that_somebody_else_has_collected() {
        for (script, exit) in [("exit 7", Exit::Code(7)), ("kill -9 $$", Exit::Signal(9))] {
            let mut child = run(script);
            let Ok(pidfd) = process::open(child.id()) else {
                child.wait().expect("ours");
                return; // no pidfds here
            };
            child.wait().expect("ours");
            let seen = told(child.id(), &pidfd, Duration::from_secs(60));
            assert!(seen == Some(exit) || (seen.is_none() && !tells_exits()));
        }
    }

    #[test]
    fn how_a_process_ended_is_told_before_anybody_has_collected_it() {
        for (script, exit) in [
            ("exit 0", Exit::Code(0)),
            ("exit 7", Exit::Code(7)),
            ("kill -9 $$", Exit::Signal(9)),
        ] {
            let mut child = run(script);
            if let Ok(pidfd) = process::open(child.id()) {
                assert_eq!(pid_of(&pidfd), Some(child.id()));
                look_until_ended(&child);
                assert_eq!(told(child.id(), &pidfd, Duration::ZERO), Some(exit));
                child.wait().expect("ours");
                assert_ne!(pid_of(&pidfd), Some(child.id()));
            } else {
                child.wait().expect("ours"); // no pidfds here
            }
        }
    }

    #[test]
    fn nothing_is_told_of_a_process_that_runs() {
        let mut child = run("exec sleep 1000");
        if let Ok(pidfd) = process::open(child.id()) {
            assert_eq!(told(child.id(), &pidfd, Duration::ZERO), None);
        }
        process::kill(child.id()).expect("ours");
        child.wait().expect("ours");
    }

    /// Since Linux 6.15.
    fn tells_exits() -> bool {
        let release = rustix::system::uname();
        let release = release.release().to_string_lossy().into_owned();
        let mut numbers = release
            .split(['.', '-'])
            .map(|part| part.parse().unwrap_or(0));
        let version: (u32, u32) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        PIDFD_INFO.is_present() && version >= (6, 15)
    }
}
