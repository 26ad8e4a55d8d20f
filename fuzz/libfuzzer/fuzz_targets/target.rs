//! A fuzzer of the target that is called as the program is.

#![no_main]
#![forbid(unsafe_code)]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kexen_fuzz::run(env!("CARGO_BIN_NAME"), data));
