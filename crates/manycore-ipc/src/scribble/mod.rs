//! What a process does while another one scribbles on the heap: for tests and for the fuzzer.
//!
//! A case is a string of bytes. It is decoded to steps, of which each is something that a process may do
//! with a family, or a scribble: a place in the heap and what is written there. The promise is that the
//! process gets errors or answers. It never crashes, loops for ever, takes memory without a bound or
//! reaches outside the heap. All cases run on one small heap, which is put back before each of them.
//!
//! | module | what it is |
//! |---|---|
//! | `input` | bytes as choices |
//! | `world` | the heap: what is in it, and how it is put back |
//! | `place` | where a scribble hits |
//! | `value` | what it writes there |
//! | `step` | what the process does |
//! | `messages` | what it does with rings |
//! | `maps` | what it does with maps |

mod input;
mod maps;
mod messages;
mod place;
mod step;
mod value;
mod world;

#[cfg(test)]
mod tests;

use std::cell::Cell;

use input::Input;
use step::Process;
use world::World;

/// More steps than this say nothing new.
const MOST_STEPS: usize = 64;

thread_local! {
    static RUNNING: Cell<bool> = const { Cell::new(false) };
}

/// Whether the calling thread runs a case. It is alone on the heap then, so whoever else a lock word names
/// does not hold the lock; and nobody has to wait as long as usual to find that out.
pub(crate) fn is_running() -> bool {
    RUNNING.get()
}

/// Runs one case. A panic, a crash or no return is a fault of the engine.
pub fn run(case: &[u8]) {
    let mut world = World::lock();
    world.restore();
    let _running = Running::begin();
    let mut input = Input::new(case);
    let mut process = Process::new(&world);
    process.go_through(&mut input);
    process.finish();
}

struct Running;

impl Running {
    fn begin() -> Self {
        RUNNING.set(true);
        Self
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        RUNNING.set(false);
    }
}
