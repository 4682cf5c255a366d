//! Metadata in databases, on real servers.
//!
//! `servers` starts them, `kylin_db` fills databases as Kylin does, `kylin_client`, `kylin_units` and `kylin_node` do what a running
//! Kylin does there. They know nothing of the library: they are a second opinion on what it reads and writes.

#![allow(dead_code, reason = "the stage offers more than each test needs, and is also used for benches")]

mod backup;
mod connection;
mod consistent;
mod encoding;
mod generations;
mod incremental;
mod kylin_client;
mod kylin_db;
mod kylin_node;
mod kylin_rows;
mod kylin_tables;
mod kylin_units;
mod saving;
mod servers;
mod stage;
mod stage_kylin;
mod stores;
