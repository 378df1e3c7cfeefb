//! What makes a death another one than usual: much memory to take down or to dump, a named place.

use std::path::{Path, PathBuf};
use std::process::Command;

/// What makes the death of a member another one than usual.
#[derive(Clone, Debug, Default)]
pub(crate) struct Burden {
    mebibytes: usize,
    /// Where its core is dumped.
    folder: Option<PathBuf>,
    /// Where in the engine it dies by itself.
    place: Option<String>,
}

/// As much as the shell may, a process that it becomes may dump.
const RAISE_LIMIT: &str = r#"ulimit -S -c "$(ulimit -H -c)" && exec "$0" "$@""#;

impl Burden {
    /// Private memory, all of it touched.
    pub(crate) fn memory(mebibytes: usize) -> Self {
        Self {
            mebibytes,
            ..Self::default()
        }
    }

    /// The same, dumped into this folder.
    pub(crate) fn dumped(mebibytes: usize, folder: &Path) -> Self {
        Self {
            folder: Some(folder.to_owned()),
            ..Self::memory(mebibytes)
        }
    }

    /// Death at a named place.
    pub(crate) fn at(place: String) -> Self {
        Self {
            place: Some(place),
            ..Self::default()
        }
    }

    pub(crate) fn mebibytes(&self) -> usize {
        self.mebibytes
    }

    pub(crate) fn is_dumped(&self) -> bool {
        self.folder.is_some()
    }

    /// A run of `program` that bears it.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = match &self.folder {
            None => Command::new(program),
            Some(folder) => {
                let mut shell = Command::new("sh");
                shell.args(["-c", RAISE_LIMIT]).arg(program);
                shell.current_dir(folder);
                shell
            }
        };
        if let Some(place) = &self.place {
            command.env("MANYCORE_FAULT", place);
        }
        command
    }

    /// Memory of that size, touched.
    pub(crate) fn touch(mebibytes: usize) -> Vec<u8> {
        vec![1; mebibytes << 20]
    }
}

/// A folder for core files that goes with everything in it.
pub(crate) struct CoreFolder(PathBuf);

impl CoreFolder {
    pub(crate) fn new() -> Self {
        let path = std::env::temp_dir().join(format!("manycore-cores-{}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Bytes of the largest core file in it, if the system writes core files there.
    pub(crate) fn largest_core(&self) -> Option<u64> {
        let files = std::fs::read_dir(&self.0).unwrap();
        files.map(|it| it.unwrap().metadata().unwrap().len()).max()
    }
}

impl Drop for CoreFolder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}
