//! Apache Kylin 5: its documents, how files name them, and the url under which they are found.
//!
//! There are two generations of layouts, before and after the refactoring of August 2024 (KYLIN-5945): *old* (5.0-alpha
//! and 5.0-beta) and *new* (5.0.0 and later).

pub mod content;
pub mod detect;
pub mod kind;
pub mod layout;
