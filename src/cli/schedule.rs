//! When the next run of `watch` is due.

use std::time::{Duration, Instant, SystemTime};

/// A failing run is tried again at least this often, unless runs are rarer anyway.
const BACK_OFF_MAX: Duration = Duration::from_secs(60 * 60);
/// How often a wait looks at the clocks, and at whether it should end.
const TICK: Duration = Duration::from_millis(200);

/// How long it is from the beginning of one run to that of the next.
#[derive(Debug, Clone)]
pub(crate) struct Schedule {
    every: Duration,
    jitter_percent: u32,
    /// Runs that failed since the last that did not.
    failures: u32,
}

impl Schedule {
    pub(crate) fn new(every: Duration, jitter_percent: u32) -> Self {
        Self { every, jitter_percent, failures: 0 }
    }

    /// Takes note of a run that ended.
    pub(crate) fn note(&mut self, is_success: bool) {
        self.failures = if is_success { 0 } else { self.failures.saturating_add(1) };
    }

    /// Returns the time to the next run. A first failure is tried again as if nothing had happened; each that follows doubles
    /// the pause. `random` decides how much is added, so that many machines do not begin at once for ever.
    pub(crate) fn pause(&self, random: u32) -> Duration {
        let doubled = 2_u32.saturating_pow(self.failures.saturating_sub(1));
        let longest = self.every.max(BACK_OFF_MAX);
        let pause = self.every.saturating_mul(doubled).min(longest);
        pause + pause.mul_f64(f64::from(self.jitter_percent) / 100.0 * f64::from(random) / f64::from(u32::MAX))
    }
}

/// A moment by two clocks: one that does not jump, and one that goes on while the machine sleeps.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    clock: Instant,
    wall: SystemTime,
}

impl Moment {
    pub(crate) fn now() -> Self {
        Self { clock: Instant::now(), wall: SystemTime::now() }
    }

    /// Returns how long ago it was: what the clock says that went further.
    pub(crate) fn elapsed(&self) -> Duration {
        self.clock.elapsed().max(self.wall.elapsed().unwrap_or_default())
    }

    /// Waits until it is `pause` ago, or `is_over` says that nobody waits any more. Tells whether it waited to the end.
    pub(crate) fn wait(&self, pause: Duration, is_over: impl Fn() -> bool) -> bool {
        while !is_over() {
            let left = pause.saturating_sub(self.elapsed());
            if left.is_zero() {
                return true;
            }
            // Not longer: no signal ends a sleep, and one that began before the machine slept would not know of that.
            std::thread::sleep(left.min(TICK));
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    fn pauses(schedule: &mut Schedule, failures: usize) -> Vec<u64> {
        let pause = |_| {
            schedule.note(false);
            schedule.pause(0).as_secs()
        };
        (0..failures).map(pause).collect()
    }

    #[test]
    fn failures_double_the_pause_to_an_hour_until_one_succeeds() {
        let mut schedule = Schedule::new(secs(300), 0);
        assert_eq!(schedule.pause(0), secs(300));
        assert_eq!(pauses(&mut schedule, 6), [300, 600, 1200, 2400, 3600, 3600]);
        assert_eq!(pauses(&mut schedule, 100).last(), Some(&3600));
        schedule.note(true);
        assert_eq!(schedule.pause(0), secs(300));
        assert_eq!(pauses(&mut schedule, 2), [300, 600]);
    }

    #[test]
    fn rare_runs_are_not_tried_more_often() {
        assert_eq!(pauses(&mut Schedule::new(secs(7200), 0), 3), [7200, 7200, 7200]);
    }

    #[test]
    fn jitter_only_adds() {
        let schedule = Schedule::new(secs(100), 10);
        assert_eq!(schedule.pause(0), secs(100));
        assert_eq!(schedule.pause(u32::MAX), secs(110));
        assert!((secs(104)..secs(106)).contains(&schedule.pause(u32::MAX / 2)));
    }

    #[test]
    fn wait_ends_when_it_is_time_or_over() {
        let began = Moment::now();
        assert!(began.wait(Duration::from_millis(30), || false));
        assert!(began.elapsed() >= Duration::from_millis(30));
        assert!(!Moment::now().wait(secs(3600), || began.elapsed() > Duration::from_millis(100)));
        assert!(!Moment::now().wait(Duration::ZERO, || true));
        assert!(began.elapsed() < secs(30));
    }

    #[test]
    fn wait_follows_the_wall_clock() {
        // As after an hour in which the machine slept.
        let began = Moment { clock: Instant::now(), wall: SystemTime::now() - secs(3600) };
        assert!(began.wait(secs(3600), || false));
        assert!(Moment::now().elapsed() < secs(30));
    }
}
