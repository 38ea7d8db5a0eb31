#![no_main]
#![doc = "See `casty::fuzzing`."]

#[path = "../../tests/fuzzing/memory.rs"]
mod memory;
#[path = "../../tests/fuzzing/types.rs"]
mod types;

libfuzzer_sys::fuzz_target!(
    init: casty::fuzzing::count_allocations(memory::allocated),
    |bytes: &[u8]| types::run("config", bytes)
);
