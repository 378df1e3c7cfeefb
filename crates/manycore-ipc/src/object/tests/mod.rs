//! Nothing that is held is freed, nothing that nobody holds stays, whoever died.
//!
//! | module | what it is |
//! |---|---|
//! | [`deaths`] | death in place of every store |
//! | [`races`] | what others do in between, and words that were scribbled on |

mod deaths;
mod races;

use std::collections::HashSet;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use crate::crash::{interrupted, run_until_death};
use crate::error::HandleError;
use crate::heap::header::create_with;
use crate::heap::layout::LEAST;
use crate::object::header::{Handle, KINDS, Phase};
use crate::object::{Kind, Objects};
use crate::registry::{OwnerId, Registry};

impl Objects {
    /// Checks that nothing is half made or half freed, and that the lists name every free object once.
    /// Returns the living.
    pub(crate) fn audit(&self) -> Vec<u32> {
        let audited = self.locked(|this| {
            let (mut free, mut living) = (HashSet::new(), Vec::new());
            for index in 0..this.used() {
                let stage = this.stage(index).expect("sound");
                match stage.phase {
                    Phase::Free => {
                        assert!(free.insert((stage.kind.map(|kind| kind as usize), index)))
                    }
                    Phase::Live => living.push(index),
                    phase => panic!("object {index} is left {phase:?}"),
                }
            }
            for kind in 0..KINDS {
                let mut at = this.header().free[kind].load(Relaxed);
                while let Some(index) = at.checked_sub(1) {
                    assert!(
                        free.remove(&(Some(kind), index)),
                        "{index} is listed wrongly or twice"
                    );
                    at = this.object(index).expect("inside").next.load(Relaxed) as u32;
                }
            }
            assert!(free.is_empty(), "free, but on no list: {free:?}");
            assert_eq!(this.header().buried.load(Relaxed), 0);
            living
        });
        audited.expect("sound")
    }

    /// Frees, as the layer above does, what needs no emptying.
    pub(crate) fn free_all(&self, orphans: Vec<(u32, Kind)>) {
        for (index, _) in orphans {
            self.freed(index).expect("sound");
        }
        while let Some((index, _)) = self.pop_buried().expect("sound") {
            self.freed(index).expect("sound");
        }
    }

    fn sweep_all(&self, dead: OwnerId) {
        self.free_all(self.sweep(dead).expect("sound"));
    }

    fn make_live(&self) -> Handle {
        let handle = self.make(Kind::Lock).expect("room");
        self.publish(handle).expect("just made");
        handle
    }
}

/// The same table on behalf of three imaginary processes.
fn three() -> [Objects; 3] {
    let heap = create_with(LEAST).expect("a small heap");
    [0x1001, 0x1002, 0x1003].map(|owner| Objects::new(heap, OwnerId::from_bits(owner)))
}
