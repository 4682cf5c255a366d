//! The tests of the library and of the command, one module for each promise or room.

#![allow(clippy::unwrap_used, reason = "a test whose stage can't be set up should fail where that is noticed")]

mod arrows;
mod at;
mod cli;
mod conformance;
mod counts;
mod crash;
mod damage;
mod directory;
mod forget;
mod formats;
mod formats_database;
mod guards;
mod kylin;
mod migrate_pairs;
mod retention;
mod roundtrip;
mod sql;
mod support;
mod tar;
mod way_out;
mod writers;
mod zip;
