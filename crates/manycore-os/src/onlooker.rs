//! What can be learned of another process without touching it: where it keeps its heap, and what its threads
//! sleep for.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, open};

use crate::mapping::NAME;

/// A thread that sleeps in the kernel, until a word in memory changes or it is woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sleeper {
    /// The thread.
    pub thread: u32,
    /// The address of the word, in its process.
    pub address: u64,
}

/// Opens the heap's file of a process, to read.
///
/// # Errors
/// When there is no such process, it has no heap, or it may not be looked at.
pub fn open_heap(pid: u32) -> io::Result<OwnedFd> {
    // By descriptor; or, if the program has closed that, by mapping, which takes more rights.
    let mut outcome = Err(io::ErrorKind::NotFound.into());
    for kind in ["fd", "map_files"] {
        match heap_in(&PathBuf::from(format!("/proc/{pid}/{kind}"))) {
            Ok(Some(path)) => return open_to_read(&path),
            Ok(None) => {}
            Err(error) if kind == "fd" => return Err(error),
            Err(error) => outcome = Err(error),
        }
    }
    outcome
}

/// Opens a file, which need not be the one that its name promises: so it may be one that others have to write first.
fn open_to_read(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    Ok(open(path, flags, Mode::empty())?)
}

fn heap_in(folder: &Path) -> io::Result<Option<PathBuf>> {
    let name = format!("/memfd:{NAME}");
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        // One that is gone by now is none.
        let target = fs::read_link(&path).unwrap_or_default();
        if target.to_string_lossy().starts_with(&name) {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

/// The threads of a process that sleep at one word.
///
/// # Errors
/// When there is no such process, or it may not be looked at.
pub fn sleepers(pid: u32) -> io::Result<Vec<Sleeper>> {
    let mut sleepers = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/task"))? {
        let path = entry?.path();
        let thread = path
            .file_name()
            .and_then(|name| name.to_str()?.parse().ok());
        match fs::read_to_string(path.join("syscall")) {
            Ok(text) => sleepers.extend(
                thread
                    .zip(futex_in(&text))
                    .map(|(thread, address)| Sleeper { thread, address }),
            ),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {} // it has ended
            Err(error) => return Err(error),
        }
    }
    Ok(sleepers)
}

/// The word of a thread whose system call is this: its number, then its arguments in hexadecimal.
fn futex_in(text: &str) -> Option<u64> {
    let mut fields = text.split_ascii_whitespace();
    let number: libc::c_long = fields.next()?.parse().ok()?;
    if number != libc::SYS_futex {
        return None;
    }
    let digits = fields.next()?.strip_prefix("0x")?;
    u64::from_str_radix(digits, 16).ok()
}

/// The command line of a process; empty where the kernel does not tell.
#[must_use]
pub fn command(pid: u32) -> String {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words = bytes
        .split(|&byte| byte == 0)
        .filter(|word| !word.is_empty());
    let words: Vec<_> = words.map(String::from_utf8_lossy).collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
    use std::time::Duration;

    use super::*;
    use crate::mapping::Mapping;
    use crate::{channel, futex, mapped, process};

    #[test]
    fn the_heap_of_a_process_is_found_and_cannot_be_written() {
        let _heap = Mapping::create(1 << 16).expect("a small file");
        let pid = std::process::id();
        let found = open_heap(pid).expect("this one, or another test's");
        let file = channel::identity(&found).expect("open");
        assert_eq!(mapped::has_mapped(pid, file), Some(true));
        assert!(rustix::io::write(&found, b"x").is_err());
        assert_eq!(Mapping::look_at(found).expect("a heap").file(), file);
    }

    #[test]
    fn a_process_without_a_heap_has_none_and_one_that_is_not_there_neither() {
        let mut other = std::process::Command::new("sleep")
            .arg("100")
            .spawn()
            .expect("runs");
        while !command(other.id()).starts_with("sleep") {
            std::thread::yield_now(); // still this program
        }
        assert!(open_heap(other.id()).is_err());
        other.kill().expect("ours");
        other.wait().expect("ours");
        assert!(open_heap(other.id()).is_err());
        assert!(sleepers(other.id()).is_err());
        assert_eq!(command(other.id()), "");
    }

    #[test]
    fn a_named_pipe_in_the_place_of_a_heap_is_not_waited_for() {
        let path = std::env::temp_dir().join(format!("manycore-pipe-{}", std::process::id()));
        let kind = rustix::fs::FileType::Fifo;
        let mode = Mode::RUSR | Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &path, kind, mode, 0).expect("a new name");
        let opened = open_to_read(&path);
        fs::remove_file(&path).expect("ours");
        assert!(Mapping::look_at(opened.expect("at once")).is_err());
    }

    #[test]
    fn a_thread_that_sleeps_at_a_word_is_found() {
        let word: &'static AtomicU32 = Box::leak(Box::new(AtomicU32::new(0)));
        let sleeper = std::thread::spawn(|| {
            let thread = process::current_thread();
            while word.load(SeqCst) == 0 {
                let _ = futex::wait(word, 0, Duration::from_secs(1));
            }
            thread
        });
        let address = word.as_ptr().addr() as u64;
        let found = loop {
            let all = match sleepers(std::process::id()) {
                Ok(all) => all,
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
                    word.store(1, SeqCst);
                    futex::wake(word, 1);
                    return; // this system tells nobody
                }
            };
            if let Some(found) = all.into_iter().find(|it| it.address == address) {
                break found;
            }
            std::thread::yield_now();
        };
        word.store(1, SeqCst);
        futex::wake(word, 1);
        assert_eq!(sleeper.join().expect("no panic"), found.thread);
    }
}
