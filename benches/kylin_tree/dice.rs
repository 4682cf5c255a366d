//! Reproducible chance and the calendar.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// One day in milliseconds.
pub const DAY: u64 = 86_400_000;
/// One hour in milliseconds.
pub const HOUR: u64 = 3_600_000;
/// One minute in milliseconds.
pub const MINUTE: u64 = 60_000;
/// The moment the generated tree ends at: 2026-06-01 00:00:00 UTC.
pub const END: u64 = 20_605 * DAY;
/// The moment the generated tree begins at, two years earlier.
pub const START: u64 = END - 730 * DAY;

/// A source of numbers fixed by a seed and a place.
///
/// Ranges are drawn here and not with a crate of distributions: those may change their results from version to
/// version, and a tree must have the same bytes at any time.
pub struct Dice(ChaCha8Rng);

impl Dice {
    /// Returns the numbers that belong to a place below a seed, such as (project, model, purpose).
    pub fn new(seed: u64, place: [u64; 3]) -> Self {
        let mut key = [0; 32];
        for (bytes, number) in key.chunks_exact_mut(8).zip([seed, place[0], place[1], place[2]]) {
            bytes.copy_from_slice(&number.to_le_bytes());
        }
        Self(ChaCha8Rng::from_seed(key))
    }

    /// Returns a number below `bound`, 0 if that is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        let wide = u128::from(self.0.next_u64()) * u128::from(bound);
        u64::try_from(wide >> 64).expect("the upper half of 128 bits has 64")
    }

    /// Returns a number from `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// Returns an index below `len`.
    pub fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).expect("an index below a usize is one")
    }

    /// Returns a count that is mostly near `low` and sometimes near `high`.
    pub fn skewed(&mut self, low: u64, high: u64) -> u64 {
        let draws = [(); 3].map(|()| self.below(high - low + 1));
        low + draws.into_iter().min().unwrap_or(0)
    }

    /// Returns a number of a random magnitude, from `2^low` to `2^(high + 1)`.
    pub fn magnitude(&mut self, low: u64, high: u64) -> u64 {
        let power = 1 << self.between(low, high);
        power + self.below(power)
    }

    /// Returns `value` moved by up to a quarter.
    pub fn about(&mut self, value: u64) -> u64 {
        value - value / 4 + self.below(value / 2 + 1)
    }

    /// Returns whether something that happens in `percent` of the cases happens.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// Returns one of the values.
    pub fn pick<'a, T>(&mut self, values: &'a [T]) -> &'a T {
        &values[self.index(values.len())]
    }

    /// Returns a random uuid; like Kylin's it carries no version bits.
    pub fn uuid(&mut self) -> String {
        let (high, low) = (self.0.next_u64(), self.0.next_u64());
        format!(
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            high >> 32,
            high >> 16 & 0xffff,
            high & 0xffff,
            low >> 48,
            low & 0xffff_ffff_ffff
        )
    }

    /// Returns as many random characters of an alphabet.
    pub fn letters(&mut self, count: usize, alphabet: &[u8]) -> String {
        (0..count).map(|_| char::from(*self.pick(alphabet))).collect()
    }
}

/// A time of UTC in calendar terms.
pub struct Civil {
    year: u64,
    month: u64,
    day: u64,
    second: u64,
}

impl Civil {
    /// Returns the calendar time of epoch milliseconds.
    pub fn of(ms: u64) -> Self {
        // Days are counted from 0000-03-01, so that the leap day is the last of its year.
        let days = ms / DAY + 719_468;
        let (era, of_era) = (days / 146_097, days % 146_097);
        let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year + year / 4 - year / 100);
        let shifted = (5 * of_year + 2) / 153;
        let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
        Self {
            year: year + era * 400 + u64::from(month <= 2),
            month,
            day: of_year - (153 * shifted + 2) / 5 + 1,
            second: ms % DAY / 1000,
        }
    }

    /// Returns `20260531`.
    pub fn compact_day(&self) -> String {
        format!("{}{:02}{:02}", self.year, self.month, self.day)
    }

    /// Returns `20260531235959`.
    pub fn compact(&self) -> String {
        let (h, m, s) = self.clock();
        format!("{}{h:02}{m:02}{s:02}", self.compact_day())
    }

    /// Returns `2026-05-31`.
    pub fn date(&self) -> String {
        format!("{}-{:02}-{:02}", self.year, self.month, self.day)
    }

    /// Returns `2026-05-31 23:59:59`.
    pub fn date_time(&self) -> String {
        let (h, m, s) = self.clock();
        format!("{} {h:02}:{m:02}:{s:02}", self.date())
    }

    fn clock(&self) -> (u64, u64, u64) {
        (self.second / 3600, self.second / 60 % 60, self.second % 60)
    }
}
