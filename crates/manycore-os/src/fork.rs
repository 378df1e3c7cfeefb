//! Hooks that run around every `fork` of this process, also one made by C code.

use std::sync::Once;

/// What to run around a fork. `prepare` runs in the parent before, `parent` and `child` after it.
#[derive(Clone, Copy)]
pub struct Hooks {
    /// Before the fork, in the forking thread.
    pub prepare: fn(),
    /// After the fork, in the parent's forking thread, also when the fork failed.
    pub parent: fn(),
    /// After the fork, in the child's only thread.
    pub child: fn(),
}

static HOOKS: std::sync::OnceLock<Hooks> = std::sync::OnceLock::new();

extern "C" fn prepare() {
    if let Some(hooks) = HOOKS.get() {
        (hooks.prepare)();
    }
}

extern "C" fn parent() {
    if let Some(hooks) = HOOKS.get() {
        (hooks.parent)();
    }
}

extern "C" fn child() {
    crate::incarnation::forget();
    if let Some(hooks) = HOOKS.get() {
        (hooks.child)();
    }
}

/// Installs the hooks for the life of the process; later calls change nothing.
pub fn install(hooks: Hooks) {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let _ = HOOKS.set(hooks);
        // SAFETY: the three functions are safe to call at any fork, live as long as this image, and
        // this image is never unloaded (its mapping, too, is permanent).
        let rc = unsafe { libc::pthread_atfork(Some(prepare), Some(parent), Some(child)) };
        assert_eq!(rc, 0, "pthread_atfork only fails for want of memory");
    });
}
