#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| metastash_fuzz::decoders::zip(bytes));
