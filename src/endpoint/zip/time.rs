//! Times of entries: as DOS had them, in the local time zone and in steps of two seconds, or in seconds since 1970.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::extra;
use super::format::Header;

const NS: i64 = 1_000_000_000;

/// The years that a DOS date can say.
const YEARS: std::ops::RangeInclusive<i16> = 1980..=2107;

/// Returns the modification time of an entry in nanoseconds since 1970; 0 if it has none that exists.
pub(super) fn time_ns(header: &Header<'_>, zone: &TimeZone) -> i64 {
    match extra::time(header.extra) {
        Some(seconds) => seconds.saturating_mul(NS),
        None => from_dos(header.dos, zone).unwrap_or(0),
    }
}

fn from_dos((time, date): (u16, u16), zone: &TimeZone) -> Option<i64> {
    let bits = |word: u16, from: u32, count: u32| i8::try_from((word >> from) & ((1 << count) - 1)).ok();
    let year = 1980 + i16::try_from(date >> 9).ok()?;
    let (month, day) = (bits(date, 5, 4)?, bits(date, 0, 5)?);
    let (hour, minute, second) = (bits(time, 11, 5)?, bits(time, 5, 6)?, bits(time, 0, 5)? * 2);
    let local = DateTime::new(year, month, day, hour, minute, second, 0).ok()?;
    i64::try_from(zone.to_timestamp(local).ok()?.as_nanosecond()).ok()
}

/// Returns time and date as DOS has them, rounded down, the nearest there is for a time it can't say.
pub(super) fn to_dos(time_ns: i64, zone: &TimeZone) -> (u16, u16) {
    let local =
        Timestamp::from_nanosecond(time_ns.into()).map_or_else(|_| DateTime::MIN, |time| zone.to_datetime(time));
    let local = if local.year() < *YEARS.start() {
        DateTime::constant(*YEARS.start(), 1, 1, 0, 0, 0, 0)
    } else if local.year() > *YEARS.end() {
        DateTime::constant(*YEARS.end(), 12, 31, 23, 59, 58, 0)
    } else {
        local
    };
    let bits = |number: i8, from: u32| u16::from(number.unsigned_abs()) << from;
    let date = ((local.year() - YEARS.start()).unsigned_abs() << 9) | bits(local.month(), 5) | bits(local.day(), 0);
    (bits(local.hour(), 11) | bits(local.minute(), 5) | bits(local.second() / 2, 0), date)
}

/// Returns whole seconds since 1970, rounded down.
pub(super) fn seconds(time_ns: i64) -> i64 {
    time_ns.div_euclid(NS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dos_time_is_local_and_even() {
        let zone = TimeZone::fixed(jiff::tz::offset(8));
        // 2024-04-01 19:33:21 UTC, as a server in Shanghai writes it.
        let dos = to_dos(1_712_000_001_999_000_000, &zone);
        assert_eq!(dos, ((3 << 11) | (33 << 5) | 10, (44 << 9) | (4 << 5) | 2));
        assert_eq!(from_dos(dos, &zone), Some(1_712_000_000_000_000_000));
        assert_eq!(from_dos(dos, &TimeZone::UTC), Some(1_712_028_800_000_000_000));
    }

    #[test]
    fn times_that_dos_cannot_say_become_the_nearest() {
        let zone = TimeZone::UTC;
        assert_eq!(to_dos(0, &zone), (0, (1 << 5) | 1));
        assert_eq!(to_dos(i64::MIN, &zone), (0, (1 << 5) | 1));
        assert_eq!(to_dos(i64::MAX, &zone).1 >> 9, 127);
    }

    #[test]
    fn dates_that_do_not_exist_are_no_times() {
        assert_eq!(from_dos((0, 0), &TimeZone::UTC), None, "month 0");
        assert_eq!(from_dos((31, (1 << 5) | 1), &TimeZone::UTC), None, "second 62");
        assert_eq!(from_dos((0, (2 << 5) | 30), &TimeZone::UTC), None, "30 February");
    }
}
