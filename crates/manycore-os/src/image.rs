//! Naming a function of this executable so that another process of the same executable can call it.
//!
//! A function travels as its distance from where the main program is loaded, and a checksum of that, in
//! one word. The receiving process runs the same file (`/proc/self/exe`), proves it by the [`build_id`],
//! and accepts only words that are whole, with distances that fall into executable code of the main program.

use std::ffi::c_void;
use std::os::unix::fs::MetadataExt;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering::Acquire, Ordering::Release};

/// A function that takes encoded arguments and returns an encoded result.
pub type Entry = fn(&[u8]) -> Vec<u8>;

/// A word for where `entry` lies in the main program; `None` for a function of a shared library.
#[must_use]
pub fn offset_of(entry: Entry) -> Option<u64> {
    let address = entry as usize;
    let main = main_program()?;
    let offset = address
        .checked_sub(main.load)
        .filter(|_| main.is_code(address))?;
    u32::try_from(offset).ok().map(with_checksum)
}

/// A word that came through memory which others may scribble on is not believed without the checksum: any
/// other word names some place in the middle of a function.
fn with_checksum(offset: u32) -> u64 {
    let word = u64::from(offset);
    // The multipliers of MurmurHash3's finalizer: each bit of the offset changes about half of the sum.
    let mixed = (word + 1).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let mixed = (mixed ^ (mixed >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    word | (mixed >> 32) << 32
}

/// The function that [`offset_of`] named, in a process with the same [`build_id`].
#[must_use]
pub fn resolve(word: u64) -> Option<Entry> {
    let main = main_program()?;
    let offset = word as u32; // the rest is its checksum
    let address = main.load.checked_add(usize::try_from(offset).ok()?)?;
    if with_checksum(offset) != word || !main.is_code(address) {
        return None;
    }
    // SAFETY: the caller compared build ids, so the address is where the same program has the
    // function that `offset_of` was given, whose type was `Entry`; it lies in executable code. The word is
    // one that `offset_of` made: its checksum is right.
    Some(unsafe { std::mem::transmute::<usize, Entry>(address) })
}

/// The value of a type without size: what a plain function or a closure without captures is.
///
/// # Panics
/// Does not compile, rather, for a type that has a size.
#[must_use]
pub fn plain_function<F: Copy + 'static>() -> F {
    const {
        assert!(
            size_of::<F>() == 0,
            "only plain functions travel to other processes: this closure captures variables (or is \
             a function pointer); pass what it captures as an argument instead"
        );
    }
    // SAFETY: `F` has no bytes, so any aligned pointer is good to read it from. It is `Copy`, so
    // making one more of it breaks no promise of its type.
    unsafe { ptr::NonNull::<F>::dangling().read() }
}

/// A number for this executable: a hash of its GNU build id, else of the file's identity.
#[must_use]
pub fn build_id() -> u64 {
    let note = main_program().and_then(|main| main.build_id.clone());
    let bytes = note.unwrap_or_else(|| {
        let meta = std::fs::metadata("/proc/self/exe").ok();
        meta.map_or_else(Vec::new, |m| {
            format!("{} {} {}", m.ino(), m.size(), m.mtime_nsec()).into()
        })
    });
    // FNV-1a: the parameters are those of the published 64-bit variant.
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

struct Program {
    load: usize,
    code: Vec<(usize, usize)>,
    build_id: Option<Vec<u8>>,
}

impl Program {
    fn is_code(&self, address: usize) -> bool {
        self.code
            .iter()
            .any(|&(start, end)| (start..end).contains(&address))
    }
}

/// The main program; it stays where it was loaded.
fn main_program() -> Option<&'static Program> {
    // Not a `OnceLock`: a fork while another thread initialises one would leave it locked in the child.
    static MAIN: AtomicPtr<Program> = AtomicPtr::new(ptr::null_mut());
    // Acquire pairs with the Release below.
    let known = MAIN.load(Acquire);
    // SAFETY: null, or what was leaked below.
    if let Some(program) = unsafe { known.as_ref() } {
        return Some(program);
    }
    let mut found: Option<Program> = None;
    // SAFETY: `first` matches the expected signature and gets the pointer to `found` back, which
    // outlives the call.
    unsafe { libc::dl_iterate_phdr(Some(first), (&raw mut found).cast()) };
    // Leaked on purpose, once for each thread that came first.
    let program = Box::leak(Box::new(found?));
    MAIN.store(program, Release);
    Some(program)
}

/// Describes the first object of the list, which is the main program, and stops there.
unsafe extern "C" fn first(
    info: *mut libc::dl_phdr_info,
    _size: libc::size_t,
    out: *mut c_void,
) -> libc::c_int {
    // SAFETY: the loader passes a valid description for the time of the call.
    let info = unsafe { &*info };
    // SAFETY: the loader's array of program headers has `dlpi_phnum` entries.
    let headers = unsafe { std::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum as usize) };
    let load = info.dlpi_addr as usize;
    let code = headers
        .iter()
        .filter(|h| h.p_type == libc::PT_LOAD && h.p_flags & libc::PF_X != 0)
        .map(|h| {
            (
                load + h.p_vaddr as usize,
                load + (h.p_vaddr + h.p_memsz) as usize,
            )
        })
        .collect();
    let notes = headers.iter().filter(|h| h.p_type == libc::PT_NOTE);
    let build_id = notes.filter_map(|h| {
        let start = (load + h.p_vaddr as usize) as *const u8;
        // SAFETY: a PT_NOTE segment of the running program is mapped and never written.
        gnu_build_id(unsafe { std::slice::from_raw_parts(start, h.p_memsz as usize) })
    });
    let program = Program {
        load,
        code,
        build_id: build_id.into_iter().next(),
    };
    // SAFETY: `out` is the pointer to the local of `main_program`.
    unsafe { *out.cast::<Option<Program>>() = Some(program) };
    1
}

/// Finds the note of type 3 by "GNU" in a note segment (ELF gABI, "Note Section").
fn gnu_build_id(mut notes: &[u8]) -> Option<Vec<u8>> {
    const NT_GNU_BUILD_ID: u32 = 3;
    loop {
        let word = |at: usize| Some(u32::from_ne_bytes(notes.get(at..at + 4)?.try_into().ok()?));
        let (name_len, desc_len, kind) = (word(0)? as usize, word(4)? as usize, word(8)?);
        let desc_at = 12 + name_len.next_multiple_of(4);
        let desc = notes.get(desc_at..desc_at + desc_len)?;
        if kind == NT_GNU_BUILD_ID && notes.get(12..12 + name_len)? == b"GNU\0" {
            return Some(desc.to_vec());
        }
        notes = notes.get(desc_at + desc_len.next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn double(bytes: &[u8]) -> Vec<u8> {
        bytes.iter().map(|b| b * 2).collect()
    }

    #[test]
    fn a_function_is_found_again_by_its_offset() {
        let offset = offset_of(double).expect("in the main program");
        let same = resolve(offset).expect("code");
        assert_eq!(same(&[1, 2]), [2, 4]);
    }

    #[test]
    fn an_offset_outside_the_code_is_refused() {
        for offset in [0, u32::MAX] {
            assert!(resolve(with_checksum(offset)).is_none());
        }
    }

    #[test]
    fn a_word_that_was_scribbled_on_names_no_function() {
        let good = offset_of(double).expect("in the main program");
        let nearby = (1..4096).map(|bytes| good + bytes);
        let flipped = (0..64).map(|bit| good ^ (1 << bit));
        for word in nearby.chain(flipped).chain([0, u64::MAX]) {
            assert!(resolve(word).is_none(), "{word:#x} for {good:#x}");
        }
    }

    #[test]
    fn the_build_id_is_stable() {
        assert_eq!(build_id(), build_id());
    }
}
