//! Metadata in databases, on real servers.
//!
//! `servers` starts them, `kylin_db` fills databases as Kylin does, `kylin_client`, `kylin_units` and `kylin_node` do
//! what a running Kylin does there. They know nothing of the library: they are a second opinion on what it reads and
//! writes.

#![allow(dead_code, reason = "the stage offers more than each test needs, and is also used for benches")]

mod advice;
mod at;
mod backup;
mod beside;
mod conflict;
pub(crate) mod connection;
mod consistent;
mod crash;
mod cross;
pub(crate) mod encoding;
mod generations;
mod incremental;
pub(crate) mod kylin_client;
pub(crate) mod kylin_db;
pub(crate) mod kylin_node;
pub(crate) mod kylin_rows;
pub(crate) mod kylin_tables;
pub(crate) mod kylin_units;
mod limits;
mod meanwhile;
mod migrating;
mod proxy;
mod replaced;
mod restore;
mod restoring;
mod saving;
pub(crate) mod servers;
mod stage;
mod stage_kylin;
mod stores;
mod writers;
