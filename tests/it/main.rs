//! The tests of the library and of the command, one module for each promise or room.

#![allow(clippy::unwrap_used, reason = "a test whose stage can't be set up should fail where that is noticed")]

mod absent;
mod arrows;
mod at;
mod cli;
mod conformance;
mod copy;
mod counts;
mod crash;
mod crowd;
mod damage;
mod diff;
mod directory;
mod disk;
mod failing;
mod find;
mod forget;
mod formats;
mod formats_database;
mod fuzzed;
mod guards;
mod interleave;
mod kylin;
mod leaves;
mod mending;
mod migrate_pairs;
mod power;
mod progress;
mod prune;
mod reading;
mod retention;
mod roundtrip;
mod scale;
mod shape;
mod sql;
mod support;
mod tar;
mod way_out;
mod writers;
mod zip;
