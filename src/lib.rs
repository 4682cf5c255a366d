//! Backs up, compares and restores the metadata of data platforms.
//!
//! A *store* (a directory of documents, for now) is read by a [`endpoint`], and kept as a *snapshot* in a
//! [`repo::Repository`] whose bytes lie in a [`storage`]. The operations in [`ops`] join the two. `docs/design.md` is the
//! map; `docs/format.md` says what is stored.
//!
//! The library neither prints nor exits nor reads the environment; what is worth telling while an operation runs goes
//! to a [`monitor::Monitor`].

pub mod endpoint;
pub mod model;
pub mod monitor;
pub mod ops;
pub mod platform;
pub mod repo;
pub mod storage;
