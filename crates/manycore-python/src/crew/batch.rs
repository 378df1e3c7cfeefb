//! Short tasks of one job that are handed out together, so that the workers' lines of memory are waited for once.

use std::ops::Range;

use manycore_ipc::ring::Outgoing;

/// The most tasks that are handed out together: the first of them waits for the last to be encoded.
const MOST_TASKS: usize = 16;
/// Nor more, once they are so many bytes.
const MOST_BYTES: usize = 4 << 10;

/// Tasks that have been encoded.
#[derive(Default)]
pub(super) struct Batch {
    bytes: Vec<u8>,
    pub(super) tasks: Vec<Task>,
}

/// One of them.
pub(super) struct Task {
    pub(super) index: usize,
    pub(super) kind: u8,
    /// Once it is open.
    pub(super) tag: Option<u64>,
    /// Where its message lies.
    pub(super) bytes: Range<usize>,
}

impl Batch {
    pub(super) fn add(&mut self, index: usize, message: &Outgoing<'_>) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(message.payload);
        self.tasks.push(Task {
            index,
            kind: message.kind,
            tag: None,
            bytes: start..self.bytes.len(),
        });
    }

    pub(super) fn is_full(&self) -> bool {
        self.tasks.len() == MOST_TASKS || self.bytes.len() >= MOST_BYTES
    }

    pub(super) fn clear(&mut self) {
        self.tasks.clear();
        self.bytes.clear();
    }

    pub(super) fn payload(&self, task: &Task) -> &[u8] {
        self.bytes.get(task.bytes.clone()).unwrap_or_default()
    }

    /// The messages of the tasks up to the first that is not open.
    pub(super) fn messages(&self) -> impl Iterator<Item = Outgoing<'_>> {
        self.tasks.iter().map_while(|task| {
            Some(Outgoing {
                kind: task.kind,
                tag: task.tag?,
                payload: self.payload(task),
                ..Outgoing::default()
            })
        })
    }
}
