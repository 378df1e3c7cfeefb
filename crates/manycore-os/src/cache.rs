//! Hints to the processor about cache lines.

/// Asks for the cache line of a value, to write to it soon.
///
/// What several processors write to in turns has to come from the last one each time, and the first access
/// waits for that. Asked for in time, it comes while there is other work. This is only a hint: nothing is
/// read or written.
#[inline]
pub fn fetch_to_write<T>(value: &T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch changes nothing that a program can see, and never faults. A processor that does not
    // know this one does nothing. It is spelled out since compilers make the one for reading of it.
    unsafe {
        std::arch::asm!(
            "prefetchw [{address}]",
            address = in(reg) std::ptr::from_ref(value),
            options(nostack, preserves_flags, readonly)
        );
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = value;
}
