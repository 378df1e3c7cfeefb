//! Whether another process still has a file mapped, and where.

use std::fs;
use std::ops::Range;

use rustix::fs::{major, minor};

/// Whether process `pid` maps a file, named by device and inode, that this process maps. `None` where the
/// kernel does not tell, not even of this process, or the other has no memory any more.
#[must_use]
pub fn has_mapped(pid: u32, file: (u64, u64)) -> Option<bool> {
    let theirs = is_listed(pid, file);
    if theirs == Some(false) && is_listed(std::process::id(), file) != Some(true) {
        return None; // this system names files in another way
    }
    theirs
}

fn is_listed(pid: u32, file: (u64, u64)) -> Option<bool> {
    ranges(pid, file).map(|ranges| !ranges.is_empty())
}

/// A part of a file that a process has mapped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its addresses there.
    pub addresses: Range<u64>,
    /// Where in the file it begins.
    pub offset: u64,
}

/// The parts of a file, named by device and inode, that process `pid` maps. `None` where the kernel does not tell,
/// or the process has no memory any more.
#[must_use]
pub fn ranges(pid: u32, (device, inode): (u64, u64)) -> Option<Vec<Part>> {
    let bytes = fs::read(format!("/proc/{pid}/maps")).ok()?;
    let text = String::from_utf8_lossy(&bytes); // names of files may be anything
    let device = format!("{:02x}:{:02x}", major(device), minor(device));
    let part = |line: &str| {
        // address permissions offset device inode path
        let mut fields = line.split_ascii_whitespace();
        let (first, last) = fields.next()?.split_once('-')?;
        let offset = fields.nth(1)?;
        let is_it = fields.next()? == device && fields.next()?.parse() == Ok(inode);
        let [first, last, offset] = [first, last, offset].map(|it| u64::from_str_radix(it, 16));
        let addresses = first.ok()?..last.ok()?;
        is_it.then_some(Part {
            addresses,
            offset: offset.ok()?,
        })
    };
    (!text.is_empty()).then(|| text.lines().filter_map(part).collect())
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;
    use crate::mapping::Mapping;

    #[test]
    fn a_program_does_not_map_what_the_one_before_it_did() {
        let file = Mapping::create(1 << 16).expect("a small file").file();
        assert_eq!(has_mapped(std::process::id(), file), Some(true));
        let mut other = Command::new("cat")
            .stdin(Stdio::piped())
            .spawn()
            .expect("runs");
        assert_eq!(has_mapped(other.id(), file), Some(false));
        assert_eq!(has_mapped(other.id(), (file.0, 0)), None, "not mapped here");
        drop(other.stdin.take());
        while crate::process::state(other.id()) != Some('Z') {
            std::thread::yield_now();
        }
        assert_eq!(has_mapped(other.id(), file), None);
        other.wait().expect("ours");
        assert_eq!(has_mapped(other.id(), file), None);
    }
}
