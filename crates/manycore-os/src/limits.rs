//! How much memory this process may still use: the tightest of the machine and of every control
//! group above the process, versions 1 and 2.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::{Resource, getrlimit};

/// Bytes, as far as the kernel tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// The most that this process and its like may ever use.
    pub total: u64,
    /// What is left of it now.
    pub available: u64,
}

/// What the machine and the control groups leave to this process.
#[must_use]
pub fn memory() -> Memory {
    let machine = machine();
    groups()
        .into_iter()
        .filter_map(|dir| group(&dir))
        .fold(machine, |all, one| Memory {
            total: all.total.min(one.total),
            available: all.available.min(one.available),
        })
}

fn machine() -> Memory {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let field = |name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
            .and_then(|rest| rest.split_ascii_whitespace().next()?.parse::<u64>().ok())
            .map(|kib| kib * 1024)
    };
    let total = field("MemTotal").unwrap_or(1 << 32);
    Memory {
        total,
        available: field("MemAvailable").unwrap_or(total),
    }
}

/// The most address space that this process may have, where that is limited.
#[must_use]
pub fn address_space() -> Option<u64> {
    getrlimit(Resource::As).current
}

/// The memory directories of this process's control groups and of all their ancestors.
fn groups() -> Vec<PathBuf> {
    let text = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let mut found = Vec::new();
    for line in text.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else {
            continue;
        };
        let root = match controllers {
            "" => Path::new("/sys/fs/cgroup"),
            list if list.split(',').any(|c| c == "memory") => Path::new("/sys/fs/cgroup/memory"),
            _ => continue,
        };
        let mut dir = root.join(path.trim_start_matches('/'));
        while dir.starts_with(root) {
            found.push(dir.clone());
            if !dir.pop() {
                break;
            }
        }
    }
    found
}

fn group(dir: &Path) -> Option<Memory> {
    let read = |name: &str| {
        fs::read_to_string(dir.join(name))
            .ok()?
            .trim()
            .parse::<u64>()
            .ok()
    };
    // Above `memory.high` the kernel slows a group down until it hardly moves.
    let version_2 = [read("memory.high"), read("memory.max")];
    let total = version_2.into_iter().flatten().min();
    let total = total.or_else(|| read("memory.limit_in_bytes"))?;
    let used = read("memory.current").or_else(|| read("memory.usage_in_bytes"))?;
    let stat = fs::read_to_string(dir.join("memory.stat")).unwrap_or_default();
    Some(Memory {
        total,
        available: total.saturating_sub(used.saturating_sub(reclaimable(&stat))),
    })
}

/// Bytes of a group's files that are only cached: they count as used, and give way at once. Shared
/// memory is not among them. Version 1 has the sum over the groups below under other names.
fn reclaimable(stat: &str) -> u64 {
    let field = |name: &str| {
        stat.lines().find_map(|line| {
            line.strip_prefix(name)?
                .strip_prefix(' ')?
                .trim()
                .parse::<u64>()
                .ok()
        })
    };
    ["active_file", "inactive_file"]
        .into_iter()
        .filter_map(|name| field(&format!("total_{name}")).or_else(|| field(name)))
        .fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

    #[test]
    fn cached_files_are_no_reason_to_be_full() {
        let version_2 =
            "anon 10\nfile 700\nshmem 100\ninactive_anon 5\nactive_file 200\ninactive_file 400\n";
        assert_eq!(super::reclaimable(version_2), 600);
        let version_1 =
            "active_file 1\ninactive_file 2\ntotal_active_file 30\ntotal_inactive_file 40\n";
        assert_eq!(super::reclaimable(version_1), 70);
        assert_eq!(super::reclaimable(""), 0);
    }

    /// What a group with these files leaves.
    fn left_by(files: &[(&str, &str)]) -> Option<super::Memory> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "manycore-group-{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Relaxed)
        );
        let dir = std::env::temp_dir().join(name);
        std::fs::create_dir(&dir).expect("a new folder");
        for (file, text) in files {
            std::fs::write(dir.join(file), text).expect("a new file");
        }
        let memory = super::group(&dir);
        std::fs::remove_dir_all(&dir).expect("ours");
        memory
    }

    #[test]
    fn groups_of_both_versions_are_understood() {
        let memory = |total, available| Some(super::Memory { total, available });
        let version_1 = [
            ("memory.limit_in_bytes", "1000\n"),
            ("memory.usage_in_bytes", "900\n"),
            ("memory.stat", "total_inactive_file 300\ntotal_shmem 500\n"),
        ];
        assert_eq!(left_by(&version_1), memory(1000, 400));
        let version_2 = [
            ("memory.max", "1000\n"),
            ("memory.high", "max\n"),
            ("memory.current", "900\n"),
            ("memory.stat", "inactive_file 300\nshmem 500\n"),
        ];
        assert_eq!(left_by(&version_2), memory(1000, 400));
        let slowed = [("memory.high", "700\n")];
        let files: Vec<_> = version_2
            .into_iter()
            .filter(|(name, _)| *name != "memory.high")
            .chain(slowed)
            .collect();
        assert_eq!(left_by(&files), memory(700, 100));
        let unlimited = [("memory.max", "max\n"), ("memory.current", "900\n")];
        assert_eq!(left_by(&unlimited), None);
        assert_eq!(left_by(&[]), None, "the root of version 2");
    }

    #[test]
    fn some_memory_is_left() {
        let memory = super::memory();
        assert!(memory.total >= memory.available);
        assert!(memory.available > 1 << 20);
    }
}
