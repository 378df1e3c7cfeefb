//! Starting a fresh program with chosen descriptors.

use std::ffi::{CString, OsString};
use std::io;
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;

/// Starts `program` with these arguments (the first is its own name), this process's environment and
/// no descriptors but the standard ones and `keep`. Returns its process id.
///
/// # Errors
/// When the program cannot be started.
pub fn spawn(program: &Path, arguments: &[OsString], keep: &[RawFd]) -> io::Result<u32> {
    let program = c_string(program.as_os_str().as_bytes())?;
    let arguments = arguments
        .iter()
        .map(|a| c_string(a.as_bytes()))
        .collect::<io::Result<Vec<_>>>()?;
    let environment = std::env::vars_os()
        .map(|(name, value)| c_string(&[name.as_bytes(), b"=", value.as_bytes()].concat()))
        .collect::<io::Result<Vec<_>>>()?;
    let actions = FileActions::keeping(keep)?;
    let argv = pointers(&arguments);
    let envp = pointers(&environment);
    let mut pid = 0;
    // SAFETY: all pointers are to live, NUL-terminated strings and NULL-terminated arrays of them;
    // `actions` was initialised by its constructor; no attributes are given.
    let rc = unsafe {
        libc::posix_spawn(
            &raw mut pid,
            program.as_ptr(),
            &raw const actions.0,
            ptr::null(),
            argv.as_ptr(),
            envp.as_ptr(),
        )
    };
    if rc == 0 {
        Ok(pid.cast_unsigned())
    } else {
        Err(io::Error::from_raw_os_error(rc))
    }
}

fn c_string(bytes: &[u8]) -> io::Result<CString> {
    CString::new(bytes).map_err(|_| io::Error::other("a NUL byte in an argument"))
}

fn pointers(strings: &[CString]) -> Vec<*mut libc::c_char> {
    strings
        .iter()
        .map(|s| s.as_ptr().cast_mut())
        .chain([ptr::null_mut()])
        .collect()
}

struct FileActions(libc::posix_spawn_file_actions_t);

impl FileActions {
    /// Actions that clear the close-on-exec flag of each descriptor: that is what duplicating one
    /// onto itself means here (POSIX, and glibc since 2.29).
    fn keeping(fds: &[RawFd]) -> io::Result<Self> {
        let mut actions = std::mem::MaybeUninit::uninit();
        // SAFETY: a pointer to writable space for the object.
        let rc = unsafe { libc::posix_spawn_file_actions_init(actions.as_mut_ptr()) };
        if rc != 0 {
            return Err(io::Error::from_raw_os_error(rc));
        }
        // SAFETY: initialised by the call above, which succeeded.
        let mut this = Self(unsafe { actions.assume_init() });
        for &fd in fds {
            // SAFETY: the object is initialised; the number is checked when the child runs.
            let rc = unsafe { libc::posix_spawn_file_actions_adddup2(&raw mut this.0, fd, fd) };
            if rc != 0 {
                return Err(io::Error::from_raw_os_error(rc));
            }
        }
        Ok(this)
    }
}

impl Drop for FileActions {
    fn drop(&mut self) {
        // SAFETY: initialised in the constructor, destroyed once.
        unsafe { libc::posix_spawn_file_actions_destroy(&raw mut self.0) };
    }
}
