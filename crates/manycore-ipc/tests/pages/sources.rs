//! Fault points, functions and files of the repository.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Where the places are listed at which a real process is killed, each in turn.
const KILLS: &str = "crates/manycore-ipc/src/family/tests/faults.rs";

/// All texts of the repository, by their paths from its root.
pub struct Sources {
    texts: Vec<(String, String)>,
}

fn root() -> PathBuf {
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let crates = crate_folder.parent().expect("it is in a folder of crates");
    crates.parent().expect("in the root").to_owned()
}

fn collect(folder: &Path, into: &mut Vec<(String, String)>) {
    let entries = fs::read_dir(folder).expect("a folder of the repository");
    for path in entries.map(|entry| entry.expect("readable").path()) {
        if path.is_dir() {
            collect(&path, into);
            continue;
        }
        let kind = path.extension().and_then(|kind| kind.to_str());
        if matches!(kind, Some("rs" | "py" | "md")) {
            let name = path.strip_prefix(root()).expect("below the root");
            let text = fs::read_to_string(&path).expect("a text");
            into.push((name.display().to_string(), text));
        }
    }
}

/// What stands between quotation marks.
fn literals(text: &str) -> impl Iterator<Item = &str> {
    text.split('"').skip(1).step_by(2)
}

/// The literals of the list `PLACES` in a text.
fn places(text: &str) -> BTreeSet<String> {
    let lists = text
        .split(concat!("const PLACES", ": &[&str] = &["))
        .skip(1);
    let lists = lists.filter_map(|list| list.split("];").next());
    lists.flat_map(literals).map(str::to_owned).collect()
}

impl Sources {
    pub fn read() -> Self {
        let mut texts = Vec::new();
        for folder in ["crates", "tests", "python"] {
            collect(&root().join(folder), &mut texts);
        }
        for page in ["SAFETY.md", "ARCHITECTURE.md"] {
            let text = fs::read_to_string(root().join(page)).expect("a page");
            texts.push((page.into(), text));
        }
        Self { texts }
    }

    pub fn page(&self, name: &str) -> String {
        let found = self.texts.iter().find(|(path, _)| path == name);
        found.expect("there is such a page").1.clone()
    }

    /// Pages that say what a death leaves.
    pub fn protocols(&self) -> Vec<(String, String)> {
        let is_protocol = |(path, _): &&(String, String)| path.ends_with("PROTOCOL.md");
        self.texts.iter().filter(is_protocol).cloned().collect()
    }

    /// Where the sources say that a process may be told to die.
    pub fn fault_points(&self) -> BTreeSet<String> {
        let calls = concat!("fault::", "point(\"");
        let of_file = |text: &str| {
            let found = text.split(calls).skip(1);
            let names = found.filter_map(|rest| rest.split('"').next());
            names.map(str::to_owned).collect::<Vec<_>>()
        };
        self.texts
            .iter()
            .flat_map(|(_, text)| of_file(text))
            .collect()
    }

    /// Where the test kills a real process that must pass every one of them.
    pub fn places_of_all_kills(&self) -> BTreeSet<String> {
        places(&self.page(KILLS))
    }

    /// All files that list places to be killed at.
    pub fn files_with_places(&self) -> Vec<String> {
        let lists = |(_, text): &&(String, String)| !places(text).is_empty();
        let found = self.texts.iter().filter(lists);
        found.map(|(path, _)| path.clone()).collect()
    }

    /// The places that the tests below a folder list.
    pub fn places_below(&self, folder: &str) -> BTreeSet<String> {
        let below = self
            .texts
            .iter()
            .filter(|(path, _)| path.starts_with(folder));
        below.flat_map(|(_, text)| places(text)).collect()
    }

    pub fn places_in(&self, file: &str) -> BTreeSet<String> {
        places(&self.page(file))
    }

    /// Whether there is a function with this name, or beginning with it if it ends in `...`.
    pub fn has_function(&self, name: &str) -> bool {
        let (stem, is_whole) = match name.strip_suffix("...") {
            Some(stem) => (stem, false),
            None => (name, true),
        };
        ["fn ", "def "].iter().any(|keyword| {
            let wanted = format!("{keyword}{stem}");
            let ends = |rest: &str| !is_whole || rest.starts_with(['(', '<']);
            let is_here = |text: &str| text.split(wanted.as_str()).skip(1).any(ends);
            self.texts.iter().any(|(_, text)| is_here(text))
        })
    }

    /// Whether there is a file or, with a slash at the end, a folder of this name, as seen from the root or
    /// from the sources or tests of a crate.
    pub fn has_file(&self, name: &str) -> bool {
        let is_it = |path: &str| match name.strip_suffix('/') {
            Some(folder) => path.contains(&format!("/{folder}/")) || path.starts_with(name),
            None => path == name || path.ends_with(&format!("/{name}")),
        };
        self.texts.iter().any(|(path, _)| is_it(path))
    }
}
