#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| twinlock_decoders::grant_record(bytes));
