//! What arguments can say, and how their text is read.

use std::str::FromStr;
use std::time::Duration;

use jiff::civil::{DateTime, Time};
use jiff::{Span, SpanRelativeTo, Timestamp, Zoned};
use metastash::model::log::Moment;
use metastash::model::path::EntryPath;
use metastash::ops::check::Part;
use metastash::repo::snapshot::Reference;

use super::exit::Usage;

/// `SNAP` or `SNAP:PATH`.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// As it was written.
    pub text: String,
    pub snapshot: Reference,
    pub path: Option<EntryPath>,
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (snapshot, path) = match text.split_once(':') {
            None | Some((_, "")) => (text.trim_end_matches(':'), None),
            Some((snapshot, path)) => {
                let path = path.strip_suffix('/').unwrap_or(path);
                (snapshot, Some(EntryPath::new(path.as_bytes()).map_err(|e| e.to_string())?))
            }
        };
        Ok(Self { text: text.to_owned(), snapshot: snapshot.parse()?, path })
    }
}

impl Place {
    /// Returns the path that the text is where a moment says which snapshot is meant.
    pub(crate) fn path_alone(&self) -> Result<EntryPath, Usage> {
        let path = self.text.strip_suffix('/').unwrap_or(&self.text);
        EntryPath::new(path.as_bytes())
            .map_err(|e| Usage(format!("with --at a path is expected, without a snapshot: {e}")))
    }
}

/// Reads a moment: the id of a record of an audit log, or a time, in the local zone unless it names another.
pub(super) fn parse_moment(text: &str) -> Result<Moment, String> {
    parse_moment_at(text, &Zoned::now())
}

fn parse_moment_at(text: &str, now: &Zoned) -> Result<Moment, String> {
    let digits = text.strip_prefix('#').unwrap_or(text);
    if !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return digits.parse().map(Moment::Record).map_err(|_| "the number is too large for a record".to_owned());
    }
    let zone = now.time_zone().clone();
    let in_zone = |time: DateTime| time.to_zoned(zone.clone()).map(|time| time.timestamp());
    // A time with an offset or a zone says all; `Z` and `2026-11-24` are not read as times of the day.
    let timestamp = if let Ok(timestamp) = text.parse::<Timestamp>() {
        Ok(timestamp)
    } else if let Ok(zoned) = text.parse::<Zoned>() {
        Ok(zoned.timestamp())
    } else if let Ok(time) = text.parse::<DateTime>() {
        in_zone(time)
    } else if let Ok(time) = text.parse::<Time>() {
        in_zone(now.date().to_datetime(time))
    } else {
        return Err("the number of a record of the audit log is expected, such as `#4711`, or a time, such as \
                    `2026-11-24 10:00`, `2026-11-24T10:00:00Z` or `10:00`"
            .to_owned());
    };
    timestamp.map(|time| Moment::Time(time.as_millisecond())).map_err(|e| e.to_string())
}

/// Reads the path of a document.
pub(super) fn parse_path(text: &str) -> Result<EntryPath, String> {
    EntryPath::new(text.strip_suffix('/').unwrap_or(text).as_bytes()).map_err(|e| e.to_string())
}

/// A snapshot, or the live store.
#[derive(Debug, Clone)]
pub(crate) enum Side {
    Live,
    Snapshot(Reference),
}

impl FromStr for Side {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "live" { Ok(Self::Live) } else { text.parse().map(Self::Snapshot) }
    }
}

/// Returns a variable of the environment that says something.
pub(super) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

pub(super) fn parse_tag(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("a key, `=` and a value are expected".to_owned()),
    }
}

/// Parses `1/30`, or 0 for none.
pub(super) fn parse_share(text: &str) -> Result<u64, String> {
    let of = match text {
        "0" => Some(0),
        _ => text.strip_prefix("1/").and_then(|of| of.parse().ok()).filter(|of| *of > 0),
    };
    of.ok_or_else(|| "a share such as 1/30 is expected, or 0".to_owned())
}

/// A label must not be taken for anything else that names a snapshot.
pub(super) fn parse_label(text: &str) -> Result<String, String> {
    let problem = if text.is_empty() {
        "it is empty"
    } else if text.contains([':', '/']) || text.chars().any(char::is_control) {
        "`:`, `/` and control characters are not allowed"
    } else if text == "live" || text.starts_with("latest") {
        "`live` and words that begin with `latest` have a meaning already"
    } else if text.len() >= 4 && text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        "it looks like the first digits of an id"
    } else {
        return Ok(text.to_owned());
    };
    Err(problem.to_owned())
}

pub(super) fn parse_part(text: &str) -> Result<Part, String> {
    let numbers = text.split_once('/').and_then(|(number, of)| Some((number.parse().ok()?, of.parse().ok()?)));
    match numbers {
        Some((number, of)) if (1..=of).contains(&number) => Ok(Part { number, of }),
        _ => Err("`N/M` is expected, with N from 1 to M".to_owned()),
    }
}

/// Reads a span of the calendar, such as `2mo 15d`.
pub(super) fn parse_span(text: &str) -> Result<Span, String> {
    let span: Span = text.parse().map_err(|_| format!("{SPAN_EXPECTED}, such as `36h` or `2mo 15d`"))?;
    if span.is_positive() { Ok(span) } else { Err("it must be more than nothing".to_owned()) }
}

/// Reads a duration of a second to a year, in which a day has 24 hours.
pub(super) fn parse_interval(text: &str) -> Result<Duration, String> {
    const SECS_MAX: u64 = 366 * 24 * 60 * 60;
    let expected = || format!("{SPAN_EXPECTED}, such as `5m` or `1h 30m`, from one second to one year");
    let span: Span = text.parse().map_err(|_| expected())?;
    let signed = span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|_| expected())?;
    match Duration::try_from(signed) {
        Ok(interval) if (1..=SECS_MAX).contains(&interval.as_secs()) => Ok(interval),
        _ => Err("it must be from one second to one year".to_owned()),
    }
}

/// Reads a number of percent.
pub(super) fn parse_percent(text: &str) -> Result<u32, String> {
    let number = text.strip_suffix('%').unwrap_or(text).parse().ok();
    number.filter(|percent| *percent <= 100).ok_or_else(|| "`N%` is expected, with N from 0 to 100".to_owned())
}

const SPAN_EXPECTED: &str = "numbers with units are expected";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_that_could_mean_something_else_are_refused() {
        for bad in ["", "a:b", "a/b", "live", "latest~2", "abcd12", "a\nb"] {
            assert!(parse_label(bad).is_err(), "{bad:?}");
        }
        assert!(parse_label("2026-11-22-10-18-49_backup").is_ok());
    }

    #[test]
    fn parts_begin_at_one() {
        assert_eq!(parse_part("3/30"), Ok(Part { number: 3, of: 30 }));
        for bad in ["0/3", "4/3", "3", "a/b", "1/0"] {
            assert!(parse_part(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn moments_are_records_or_times() {
        let now: Zoned = "2026-11-24T12:34:56+01:00[Europe/Berlin]".parse().unwrap();
        let parse = |text: &str| parse_moment_at(text, &now);
        assert_eq!(parse("4711"), Ok(Moment::Record(4711)));
        assert_eq!(parse("#4711"), Ok(Moment::Record(4711)));
        let ten: Timestamp = "2026-11-24T10:00:00+01:00".parse().unwrap();
        for text in [
            "2026-11-24 10:00",
            "2026-11-24T10:00",
            "2026-11-24 10:00:00",
            "2026-11-24T09:00:00Z",
            "2026-11-24 10:00+01:00",
            "2026-11-24T11:00:00[Europe/Athens]",
            "10:00",
            "10:00:00.000",
        ] {
            assert_eq!(parse(text), Ok(Moment::Time(ten.as_millisecond())), "{text}");
        }
        let midnight: Timestamp = "2026-11-23T23:00:00Z".parse().unwrap();
        assert_eq!(parse("2026-11-24"), Ok(Moment::Time(midnight.as_millisecond())));
        for bad in ["", "#", "-5", "#x", "yesterday", "2026-13-01", "99999999999999999999"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn place_splits_at_the_first_colon() {
        let place: Place = "latest:a/b:c/".parse().unwrap();
        assert_eq!(place.path.unwrap().to_string(), "a/b:c");
        assert!("latest".parse::<Place>().unwrap().path.is_none());
        assert!("latest:../x".parse::<Place>().is_err());
    }

    #[test]
    fn intervals_are_neither_too_short_nor_too_long() {
        assert_eq!(parse_interval("5m"), Ok(Duration::from_secs(300)));
        assert_eq!(parse_interval("1h 30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(parse_interval("1d"), Ok(Duration::from_secs(86_400)));
        for bad in ["", "5", "m", "0s", "999ms", "-5m", "1mo", "2y", "5m ago", "99999999h"] {
            assert!(parse_interval(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn spans_go_by_the_calendar() {
        assert!(parse_span("1y 2mo 15d").is_ok());
        for bad in ["", "0d", "-1d", "1d ago", "soon"] {
            assert!(parse_span(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn percents_end_at_a_hundred() {
        assert_eq!((parse_percent("10%"), parse_percent("0"), parse_percent("100%")), (Ok(10), Ok(0), Ok(100)));
        for bad in ["", "%", "101%", "-1%", "1.5%"] {
            assert!(parse_percent(bad).is_err(), "{bad}");
        }
    }
}
