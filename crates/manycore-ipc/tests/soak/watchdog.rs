//! What everybody was doing when nothing moved any more.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use manycore_ipc::{Family, Hold};

use crate::round::Round;

/// What takes longer than this hangs.
const HANGS: Duration = Duration::from_secs(60);

/// What there is to look at.
struct Scene {
    queue: Hold,
    pids: Vec<(String, u32)>,
}

static SCENE: Mutex<Option<Scene>> = Mutex::new(None);

static EXPECT: OnceLock<Sender<String>> = OnceLock::new();

/// Ends the program when what is expected does not come; its members go with it.
pub(crate) fn start() {
    let (expect, expected) = channel();
    EXPECT.set(expect).unwrap();
    std::thread::spawn(move || {
        let mut what = String::new();
        loop {
            match expected.recv_timeout(HANGS) {
                Ok(next) => what = next,
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {
                    eprintln!("\nhangs, waiting for {what}");
                    describe();
                    std::process::abort();
                }
            }
        }
    });
}

/// From now on this is waited for.
pub(crate) fn expect(what: String) {
    EXPECT.get().unwrap().send(what).unwrap();
}

/// Looks at this round if nothing moves any more.
pub(crate) fn look_at(round: &Round) {
    let pids = round
        .members
        .iter()
        .map(|it| (format!("{:?} {}", it.role, it.seat), it.pid()));
    *SCENE.lock().unwrap() = Some(Scene {
        queue: round.queue.clone(),
        pids: pids.collect(),
    });
}

/// Lets go of what it looked at.
pub(crate) fn forget() {
    *SCENE.lock().unwrap() = None;
}

/// Prints the state of the queue, of the locks, of the registry and of every process. Takes no lock.
fn describe() {
    let scene = SCENE.lock().unwrap();
    let Some(scene) = scene.as_ref() else { return };
    describe_queue(&scene.queue);
    describe_heap(scene.queue.family());
    let own = [("this process".to_owned(), std::process::id())];
    for (what, pid) in scene.pids.iter().chain(&own) {
        eprintln!("{what}, process {pid}");
        for file in ["stat", "wchan", "syscall"] {
            let text = std::fs::read_to_string(format!("/proc/{pid}/{file}"));
            eprintln!(
                "  {file}: {}",
                text.unwrap_or_else(|error| error.to_string()).trim()
            );
        }
    }
}

fn describe_queue(queue: &Hold) {
    let ring = queue.ring().unwrap();
    let body = ring.body();
    for (name, side) in [("put", &body.put), ("get", &body.get)] {
        let words = (side.position.load(Relaxed), side.peer.load(Relaxed));
        let owner = side.lock.owner();
        eprintln!("{name} lock {:?}, owner {owner:?}", side.lock);
        eprintln!("  position {:#x}, peer {:#x}", words.0, words.1);
    }
    eprintln!(
        "items {:?}, space {:?}, {} messages",
        body.items,
        body.space,
        ring.len()
    );
}

fn describe_heap(family: &Family) {
    let (header, registry) = (family.heap().header(), family.registry());
    for (name, lock) in [
        ("blocks", &header.allocator.lock),
        ("objects", &header.objects.lock),
    ] {
        eprintln!("{name} lock {lock:?}, owner {:?}", lock.owner());
    }
    for slot in registry.used() {
        eprintln!("slot {slot}: {:?}", registry.tenancy(slot));
    }
}
