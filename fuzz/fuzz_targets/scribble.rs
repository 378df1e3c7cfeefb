//! See `manycore_ipc::scribble`.
#![no_main]

libfuzzer_sys::fuzz_target!(|case: &[u8]| manycore_ipc::scribble::run(case));
