//! Any text is refused or round-trips.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| recurrence::fuzz_entry::parser(text));
