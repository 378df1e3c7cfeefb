//! Identity, death and signals of processes.

use std::ffi::{CStr, CString};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
pub use rustix::process::Signal;
use rustix::process::{
    Pid, PidfdFlags, Resource, Rlimit, WaitId, WaitIdOptions, pidfd_open, waitid,
};
use rustix::time::Timespec;

use crate::feature::{CHILDREN, PIDFD};

/// A process, told apart from a later one with the same number by its start time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The process id in this PID namespace.
    pub pid: u32,
    /// Clock ticks after boot at which it started; zero when `/proc` could not be read.
    pub start: u64,
}

impl Identity {
    /// The calling process.
    #[must_use]
    pub fn of_self() -> Self {
        Self::of(std::process::id())
    }

    /// The process that has this number now.
    #[must_use]
    pub fn of(pid: u32) -> Self {
        let start = start_time(pid).unwrap_or(0);
        Self { pid, start }
    }
}

/// The calling thread's id; that of a process's main thread is the process id.
#[must_use]
pub fn current_thread() -> u32 {
    rustix::thread::gettid()
        .as_raw_nonzero()
        .get()
        .cast_unsigned()
}

/// The process that a thread belongs to; `None` where the kernel does not tell, also because there is no
/// such thread.
#[must_use]
pub fn of_thread(tid: u32) -> Option<u32> {
    let own = fs::read_link("/proc/self").ok()?;
    if own.to_str()?.parse() != Ok(std::process::id()) {
        return None; // a `/proc` of another PID namespace
    }
    let text = fs::read_to_string(format!("/proc/{tid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Tgid:"))?;
    line.trim().parse().ok()
}

/// The children that the calling thread has forked and nobody has collected; `None` where the kernel
/// does not list them. One may be missing if another was collected meanwhile, and those of a thread that
/// has ended become another's.
#[must_use]
pub fn children_of_this_thread() -> Option<Vec<u32>> {
    if !CHILDREN.is_present() {
        return None;
    }
    let text = fs::read_to_string("/proc/thread-self/children").ok()?;
    text.split_ascii_whitespace()
        .map(|pid| pid.parse().ok())
        .collect()
}

/// One-letter state (`R`, `S`, `T`, `t`, `D`, `Z` ...) of a process or thread.
#[must_use]
pub fn state(id: u32) -> Option<char> {
    Stat::of(id).map(|stat| stat.state)
}

fn start_time(pid: u32) -> Option<u64> {
    Stat::of(pid).map(|stat| stat.start)
}

/// What is asked of `/proc/ID/stat`, of one moment: the process may be collected between two looks.
pub(crate) struct Stat {
    state: char,
    threads: u32,
    start: u64,
    /// What `wait` will say of one that has ended: zero too where that is not for this process to know.
    pub(crate) exit_status: i32,
}

impl Stat {
    pub(crate) fn of(id: u32) -> Option<Self> {
        // 52 numbers and a name of at most 64 bytes, which the kernel gives in one piece: every fork reads this.
        let mut text = [0; 2048];
        let length = File::open(format!("/proc/{id}/stat"))
            .ok()?
            .read(&mut text)
            .ok()?;
        let text = String::from_utf8_lossy(&text[..length]);
        let (_, fields) = text.rsplit_once(')')?; // the command name may itself contain spaces
        let mut fields = fields.split_ascii_whitespace();
        let state = fields.next()?.chars().next()?;
        let threads = fields.nth(16)?.parse().ok()?;
        let start = fields.nth(1)?.parse().ok()?;
        let exit_status = fields.nth(29).and_then(|it| it.parse().ok()).unwrap_or(0);
        Some(Self {
            state,
            threads,
            start,
            exit_status,
        })
    }

    /// A process whose first thread has ended looks like one that has ended, but for the others.
    pub(crate) fn has_ended(&self) -> bool {
        matches!(self.state, 'Z' | 'X') && self.threads <= 1
    }

    /// Whether this is a later process that has the number of that one.
    fn is_another(&self, id: Identity) -> bool {
        id.start != 0 && self.start != id.start
    }
}

/// Whether the kernel says that this process has ended. `false` means alive or not known.
#[must_use]
pub fn has_ended(id: Identity) -> bool {
    match open(id.pid) {
        Ok(fd) if ended_within(&fd, Duration::ZERO) => true,
        Ok(_) => is_another(id),
        Err(error) if error == Errno::SRCH => true,
        Err(_) => ended_by_proc(id),
    }
}

/// The pid is alive, but it is that of a later process.
fn is_another(id: Identity) -> bool {
    Stat::of(id.pid).is_some_and(|stat| stat.is_another(id))
}

fn ended_by_proc(id: Identity) -> bool {
    let Some(pid) = Pid::from_raw(id.pid.cast_signed()) else {
        return true;
    };
    match Stat::of(id.pid) {
        Some(stat) => stat.has_ended() || stat.is_another(id),
        None => rustix::process::test_kill_process(pid) == Err(Errno::SRCH) || is_ended_child(pid),
    }
}

/// What the kernel says of a child without a descriptor: this process may be out of them.
fn is_ended_child(pid: Pid) -> bool {
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    matches!(waitid(WaitId::Pid(pid), look), Ok(Some(_)))
}

/// A descriptor that becomes readable when process `pid` has ended.
///
/// # Errors
/// `SRCH` when there is no such process; another error when the kernel does not offer pidfds.
pub fn open(pid: u32) -> Result<OwnedFd, Errno> {
    if !PIDFD.is_present() {
        return Err(Errno::NOSYS);
    }
    let pid = Pid::from_raw(pid.cast_signed()).ok_or(Errno::SRCH)?;
    pidfd_open(pid, PidfdFlags::empty()).inspect_err(|error| {
        if *error != Errno::INVAL {
            PIDFD.note(*error);
        }
    })
}

/// Whether the process of this pidfd ends within `at_most`.
pub fn ended_within(pidfd: impl AsFd, at_most: Duration) -> bool {
    let timeout = Timespec {
        tv_sec: i64::try_from(at_most.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(at_most.subsec_nanos()),
    };
    let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
    matches!(poll(&mut fds, Some(&timeout)), Ok(n) if n > 0)
}

/// Sends `SIGKILL` to a process; that it has ended already is no error.
///
/// # Errors
/// When the process belongs to somebody else.
pub fn kill(pid: u32) -> io::Result<()> {
    send(pid, Signal::KILL)
}

/// Sends a signal to a process; that it has ended already is no error.
///
/// # Errors
/// When the process belongs to somebody else.
pub fn send(pid: u32, signal: Signal) -> io::Result<()> {
    let Some(pid) = Pid::from_raw(pid.cast_signed()) else {
        return Ok(());
    };
    match rustix::process::kill_process(pid, signal) {
        Ok(()) | Err(Errno::SRCH) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Ends the calling process at once, as `kill -9` from outside would.
pub fn kill_self() -> ! {
    let _ = kill(std::process::id());
    loop {
        std::thread::park();
    }
}

/// Stops the calling process, as `kill -STOP` from outside would, until somebody lets it go on.
pub fn stop_self() {
    let _ = send(std::process::id(), Signal::STOP);
}

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It exited with this status.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
    /// Somebody else collected its status.
    Unknown,
}

/// Collects a child's status: `None` while it runs. Blocks when `block` is set.
///
/// # Errors
/// Only for a `pid` that is not a valid number.
pub fn reap(pid: u32, block: bool) -> io::Result<Option<Exit>> {
    let target = Pid::from_raw(pid.cast_signed()).ok_or(io::ErrorKind::InvalidInput)?;
    let options = if block {
        rustix::process::WaitOptions::empty()
    } else {
        rustix::process::WaitOptions::NOHANG
    };
    loop {
        match rustix::process::waitpid(Some(target), options) {
            Ok(None) => return Ok(None),
            Ok(Some((_, status))) => {
                let code = status.exit_status().map(Exit::Code);
                let signal = status.terminating_signal().map(Exit::Signal);
                return Ok(code.or(signal).or(Some(Exit::Unknown)));
            }
            Err(Errno::INTR) => {}
            Err(_) => return Ok(Some(Exit::Unknown)),
        }
    }
}

/// The calling thread's name. A process is known by that of its first thread.
///
/// # Errors
/// When the kernel does not tell.
pub fn thread_name() -> io::Result<CString> {
    Ok(rustix::thread::name()?)
}

/// Gives the calling thread a name, of which the kernel keeps 15 bytes.
///
/// # Errors
/// When the kernel refuses.
pub fn rename_thread(name: &CStr) -> io::Result<()> {
    Ok(rustix::thread::set_name(name)?)
}

/// Makes a worker the first to go when memory runs out, and its death quick: raises its
/// `oom_score_adj` by 300 and sets its soft core-dump limit to zero. Best effort.
pub fn volunteer_for_oom() {
    let path = "/proc/self/oom_score_adj";
    let current = fs::read_to_string(path)
        .ok()
        .and_then(|t| t.trim().parse::<i32>().ok());
    let _ = fs::write(path, (current.unwrap_or(0) + 300).min(1000).to_string());
    let core = rustix::process::getrlimit(Resource::Core);
    let _ = rustix::process::setrlimit(
        Resource::Core,
        Rlimit {
            current: Some(0),
            maximum: core.maximum,
        },
    );
}

/// A number for this PID namespace: processes that share it can tell each other's death by pid.
#[must_use]
pub fn pid_namespace() -> u64 {
    use std::os::unix::fs::MetadataExt;
    fs::metadata("/proc/self/ns/pid").map_or(0, |m| m.ino())
}

/// 64 random bits from the kernel.
#[must_use]
pub fn random() -> u64 {
    let mut bytes = [0_u8; 8];
    // SAFETY: the pointer and the length describe the local array.
    let n = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    if n == 8 {
        u64::from_ne_bytes(bytes)
    } else {
        crate::clock::now_ns() ^ (u64::from(std::process::id()) << 32)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

    use super::*;
    use crate::fork::{By, in_child};

    #[test]
    fn this_process_has_not_ended() {
        let me = Identity::of_self();
        assert!(me.start > 0);
        assert!(!has_ended(me));
        assert!(
            has_ended(Identity {
                start: me.start + 1,
                ..me
            }),
            "a later process has my number"
        );
    }

    #[test]
    fn a_thread_is_known_by_its_process() {
        assert_eq!(of_thread(current_thread()), Some(std::process::id()));
        let elsewhere = std::thread::spawn(|| (current_thread(), of_thread(current_thread())));
        let (tid, pid) = elsewhere.join().expect("no panic");
        assert_ne!(tid, std::process::id());
        assert_eq!(pid, Some(std::process::id()));
        assert_eq!(of_thread(1), Some(1));
        assert_eq!(of_thread(u32::MAX), None);
    }

    #[test]
    fn a_child_is_listed_for_the_thread_that_started_it_until_it_is_collected() {
        let Some(before) = children_of_this_thread() else {
            return; // not on this kernel
        };
        let mut child = std::process::Command::new("true").spawn().expect("runs");
        let with = children_of_this_thread().expect("listed a moment ago");
        assert!(!before.contains(&child.id()) && with.contains(&child.id()));
        let elsewhere = std::thread::spawn(children_of_this_thread);
        assert!(
            !elsewhere
                .join()
                .expect("no panic")
                .expect("listed")
                .contains(&child.id())
        );
        child.wait().expect("ours");
        let after = children_of_this_thread().expect("listed a moment ago");
        assert!(!after.contains(&child.id()));
    }

    #[test]
    fn a_process_lives_without_its_first_thread() {
        let pid = in_child(By::Fork, || {
            std::thread::spawn(|| std::thread::sleep(Duration::MAX));
            // SAFETY: ends this thread alone, which holds nothing that the other needs.
            unsafe { libc::syscall(libc::SYS_exit, 0) };
            unreachable!("it has ended")
        });
        let id = Identity {
            pid: pid.expect("a process"),
            start: 0,
        };
        while state(id.pid) != Some('Z') {
            std::thread::yield_now();
        }
        assert!(!has_ended(id));
        assert!(!ended_by_proc(id));
        kill(id.pid).expect("ours");
        assert_eq!(reap(id.pid, true).expect("ours"), Some(Exit::Signal(9)));
        assert!(ended_by_proc(id));
    }

    #[test]
    fn the_end_of_a_child_shows_without_a_descriptor() {
        let sleeper = || std::process::Command::new("sleep").arg("1000").spawn();
        let mut child = sleeper().expect("sleep runs");
        let pid = Pid::from_child(&child);
        assert!(!is_ended_child(pid));
        child.kill().expect("ours");
        while !is_ended_child(pid) {
            std::thread::yield_now();
        }
        child.wait().expect("not collected by looking");
        assert!(!is_ended_child(pid), "not known any more");
    }

    #[test]
    fn a_killed_child_has_ended_before_and_after_it_is_reaped() {
        let mut child = std::process::Command::new("sleep")
            .arg("1000")
            .spawn()
            .expect("sleep runs");
        let id = Identity {
            pid: child.id(),
            start: start_time(child.id()).expect("alive"),
        };
        assert!(!has_ended(id));
        kill(id.pid).expect("our own child");
        match open(id.pid) {
            Ok(pidfd) => assert!(ended_within(&pidfd, Duration::from_secs(60))),
            Err(_) => while !ended_by_proc(id) {}, // no pidfds here
        }
        assert!(has_ended(id));
        assert!(ended_by_proc(id));
        child.wait().expect("ours");
        assert!(has_ended(id));
        assert!(ended_by_proc(id));
    }

    #[test]
    fn a_process_that_has_ended_does_not_live_while_it_is_reaped() {
        for _ in 0..200 {
            let mut child = std::process::Command::new("true").spawn().expect("it runs");
            let id = Identity::of(child.id());
            while !is_ended_child(Pid::from_child(&child)) {
                std::thread::yield_now();
            }
            let is_reaped = AtomicBool::new(false);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    child.wait().expect("ours");
                    is_reaped.store(true, SeqCst);
                });
                while !is_reaped.load(SeqCst) {
                    assert!(ended_by_proc(id));
                }
            });
        }
    }

    #[test]
    fn a_process_lives_on_when_its_main_thread_has_ended() {
        // SAFETY: the child runs no code of this test but the next lines, which take no lock that another
        // thread may have held.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            std::thread::spawn(|| {
                loop {
                    std::thread::park();
                }
            });
            // SAFETY: ends the calling thread, whose stack nobody refers to.
            unsafe { libc::syscall(libc::SYS_exit, 0) };
        }
        let id = Identity {
            pid: pid.cast_unsigned(),
            start: 0,
        };
        while state(id.pid) != Some('Z') {
            std::thread::yield_now();
        }
        let seen = (ended_by_proc(id), has_ended(id));
        kill(id.pid).expect("our own child");
        reap(id.pid, true).expect("ours");
        assert_eq!(seen, (false, false));
        assert!(ended_by_proc(id) && has_ended(id));
    }
}
