//! Any recurrence is sorted, has each moment once, keeps to its budget and says the same whichever way it is asked.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| recurrence::fuzz_entry::iterator(bytes));
