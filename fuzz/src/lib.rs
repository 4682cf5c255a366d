//! The targets of the fuzzer: `scripts/fuzz.sh` runs them, `docs/testing.md` tells more.

#[path = "../../tests/it/fuzzed/decoders.rs"]
pub mod decoders;
