//! What a repository is set to when it is created, once and for all.

/// Shortest time between marking a pack as unused and deleting it, unless a repository says otherwise: one day.
pub const GRACE_SECS: u64 = 24 * 60 * 60;

/// The configuration of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Tells repositories apart.
    pub id: [u8; 16],
    /// When it was created, in milliseconds since 1970.
    pub created_ms: i64,
    /// Shortest time between marking a pack as unused and deleting it. A backup that takes longer than half of it
    /// looks again before it commits.
    pub grace_secs: u64,
}
