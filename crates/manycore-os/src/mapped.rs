//! Whether another process still has a file mapped.

use std::fs;

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

fn is_listed(pid: u32, (device, inode): (u64, u64)) -> Option<bool> {
    let bytes = fs::read(format!("/proc/{pid}/maps")).ok()?;
    let text = String::from_utf8_lossy(&bytes); // names of files may be anything
    let device = format!("{:02x}:{:02x}", major(device), minor(device));
    let is_it = |line: &str| {
        // address permissions offset device inode path
        let mut fields = line.split_ascii_whitespace().skip(3);
        fields.next() == Some(&*device)
            && fields.next().and_then(|field| field.parse().ok()) == Some(inode)
    };
    (!text.is_empty()).then(|| text.lines().any(is_it))
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
