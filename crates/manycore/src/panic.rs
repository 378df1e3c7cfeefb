//! Catching a panic together with what it said and where.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use serde::{Deserialize, Serialize};

/// A panic that was caught in another process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Panic {
    /// What it said.
    pub(crate) message: String,
    /// `file:line:column`; `None` when the program has replaced the panic hook.
    pub(crate) location: Option<String>,
}

thread_local! {
    static IS_CATCHING: Cell<bool> = const { Cell::new(false) };
    static LOCATION: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Runs `operation`; a panic in it is reported as usual and then returned.
pub(crate) fn catch<R>(operation: impl FnOnce() -> R) -> Result<R, Panic> {
    install_hook();
    let was_catching = IS_CATCHING.replace(true);
    LOCATION.take();
    // What the operation left half done is dropped with it: the caller only learns that it panicked.
    let outcome = panic::catch_unwind(AssertUnwindSafe(operation));
    IS_CATCHING.set(was_catching);
    outcome.map_err(|payload| Panic {
        message: message_of(&*payload),
        location: LOCATION.take(),
    })
}

/// The place of a panic is known to the hook only.
fn install_hook() {
    // Not a `Once`: a fork while another thread installs would leave it locked for ever in the child. Who
    // comes second may panic before the hook is there, and not learn where.
    static IS_INSTALLED: AtomicBool = AtomicBool::new(false);
    if IS_INSTALLED.load(Relaxed) || IS_INSTALLED.swap(true, Relaxed) {
        return; // a flag that guards no other memory
    }
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if IS_CATCHING.get() {
            note_location(info);
        }
        usual(info);
    }));
}

fn note_location(info: &PanicHookInfo<'_>) {
    LOCATION.set(info.location().map(ToString::to_string));
}

fn message_of(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&'static str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a panic whose payload is not text")
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_says_what_and_where() {
        let line = line!() + 1;
        let caught = catch(|| panic!("number {}", 7)).unwrap_err();
        assert_eq!(caught.message, "number 7");
        assert!(
            caught
                .location
                .unwrap()
                .contains(&format!("panic.rs:{line}:"))
        );
        assert_eq!(catch(|| 1), Ok(1));
    }

    #[test]
    fn any_payload_is_caught() {
        let caught = catch(|| panic::panic_any(7_u8)).unwrap_err();
        assert!(caught.message.contains("not text"));
    }
}
