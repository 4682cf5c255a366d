//! What time it is: by the machine's clock, which a test can put forward.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The machine's clock. Clones go together; a new one shows the time of the machine.
#[derive(Debug, Clone, Default)]
pub struct Clock {
    ahead_ms: Arc<AtomicU64>,
}

impl Clock {
    /// Returns the time.
    pub fn now(&self) -> SystemTime {
        SystemTime::now() + self.ahead()
    }

    /// Returns the time in milliseconds since 1970.
    pub fn now_ms(&self) -> i64 {
        unix_ms(self.now())
    }

    /// Returns by how much it was put forward.
    pub fn ahead(&self) -> Duration {
        Duration::from_millis(self.ahead_ms.load(Ordering::SeqCst))
    }

    /// Puts it forward: for tests, in which days pass.
    pub fn pass(&self, time: Duration) {
        let time_ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self.ahead_ms.fetch_add(time_ms, Ordering::SeqCst);
    }
}

/// Returns a time in milliseconds since 1970; 0 when it is before that.
pub fn unix_ms(time: SystemTime) -> i64 {
    i64::try_from(time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()).unwrap_or(i64::MAX)
}

/// Returns a time in nanoseconds since 1970; 0 when it is before that.
pub fn unix_ns(time: SystemTime) -> i64 {
    i64::try_from(time.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_go_together() {
        let clock = Clock::default();
        let other = clock.clone();
        let before = other.now();
        clock.pass(Duration::from_secs(3600));
        assert!(other.now().duration_since(before).unwrap() >= Duration::from_secs(3600));
        assert_eq!(other.ahead(), Duration::from_secs(3600));
    }
}
