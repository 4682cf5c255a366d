//! Changes to the text of documents, one member a line.
//!
//! Documents are edited as text so that all that did not change keeps its bytes, as it does when Kylin reads and
//! writes a document; parsing and printing again would depend on a parser that keeps the order of members.

use super::dice::{Civil, Dice};

/// Returns the text with those numbers replaced for which `new` has another value; it is given key and number.
pub fn renumber(text: &str, mut new: impl FnMut(&str, u64) -> Option<u64>) -> String {
    let mut out = String::with_capacity(text.len() + 64);
    for line in text.split_inclusive('\n') {
        let replaced = number_in(line).and_then(|(key, start, end)| {
            let value = new(key, line[start..end].parse().ok()?)?;
            Some(format!("{}{value}{}", &line[..start], &line[end..]))
        });
        out.push_str(replaced.as_deref().unwrap_or(line));
    }
    out
}

/// Returns the key of a line and where its number begins and ends, be it in quotes or not.
fn number_in(line: &str) -> Option<(&str, usize, usize)> {
    let open = line.find('"')? + 1;
    let close = open + line[open..].find('"')?;
    let rest = line[close + 1..].trim_start().strip_prefix(':')?;
    let value = rest.trim_start().trim_start_matches('"');
    let start = line.len() - value.len();
    let digits = value.bytes().take_while(u8::is_ascii_digit).count();
    let ends = value[digits..].trim_start_matches('"').trim_start_matches(',').trim_end();
    (digits > 0 && ends.is_empty()).then_some((&line[open..close], start, start + digits))
}

/// Returns the first string value of a key.
pub fn text_of<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let after = &text[text.find(&format!("\"{key}\""))? + key.len() + 2..];
    let value = after.trim_start().strip_prefix(':')?.trim_start().strip_prefix('"')?;
    value.split('"').next()
}

/// Returns the first number of a key.
pub fn number_of(text: &str, key: &str) -> Option<u64> {
    let after = &text[text.find(&format!("\"{key}\""))? + key.len() + 2..];
    let value = after.trim_start().strip_prefix(':')?.trim_start();
    value.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// Returns the text of an array of plain values, without its brackets.
pub fn array_of<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let after = &text[text.find(&format!("\"{key}\""))?..];
    let (open, close) = (after.find('[')? + 1, after.find(']')?);
    after.get(open..close)
}

/// Returns the document as it is after a day's work on it.
pub fn modified(kind: &str, text: &str, dice: &mut Dice, at: u64) -> String {
    let edited = renumber(text, |key, old| match (kind, key) {
        (_, "last_modified" | "last_build_time" | "last_modify_time" | "check_time") => Some(at),
        (_, "snapshot_last_modified" | "last_query_time" | "last_data_refresh_time") if old > 0 => Some(at),
        (_, "query_hit_count" | "hit_count") => Some(old + dice.below(400)),
        ("LAYOUT", "rows" | "byte_size") => dice.chance(35).then(|| dice.about(old)),
        ("SEGMENT", "source_count" | "source_bytes_size") => Some(dice.about(old)),
        ("SEGMENT", column) if column.contains('.') => dice.chance(50).then(|| dice.about(old)),
        ("TABLE_INFO", "snapshot_total_rows" | "last_snapshot_size") => Some(dice.about(old)),
        ("TABLE_EXD", "total_rows" | "cardinality" | "original_size") => Some(dice.about(old)),
        ("JOB_STATS", "count") => Some(old + 1),
        ("JOB_STATS", "total_duration" | "total_byte_size") => Some(old + dice.magnitude(16, 30)),
        ("USER_INFO", "wrong_time") => Some((old + 1) % 4),
        ("MODEL", "semantic_version" | "recommendations_count") => Some(old + dice.below(3)),
        (_, "row_count" | "storage_size" | "current_capacity") => Some(dice.about(old)),
        (_, day) if day.len() == 13 && day.starts_with('1') => Some(old + dice.below(9)),
        _ => None,
    });
    match kind {
        "LAYOUT" if dice.chance(30) => with_another(&edited, "layout_instances", dice, at),
        "TABLE_INFO" if dice.chance(15) => with_another(&edited, "columns", dice, at),
        "MODEL" => edited.replacen(
            "\"description\" : \"\"",
            &format!("\"description\" : \"checked on {}\"", Civil::of(at).date()),
            1,
        ),
        _ => edited,
    }
}

/// Returns the document with one more object at the end of an array: the last one, with other values.
fn with_another(text: &str, key: &str, dice: &mut Dice, at: u64) -> String {
    let Some(start) = text.find(&format!("\"{key}\" : [ {{")) else {
        return text.to_owned();
    };
    let Some(end) = text[start..].find("\n  } ]").map(|end| start + end) else {
        return text.to_owned();
    };
    // Past `"key" : [ {`.
    let first = start + key.len() + 8;
    let last = text[first..end].rfind("\n  }, {").map_or(first, |last| first + last + 7);
    let mut added = renumber(&text[last..end], |key, old| match key {
        "layout_id" => Some(old + 10_000),
        "id" => Some(old + 1),
        "create_time" => Some(at),
        "rows" | "byte_size" => Some(dice.about(old)),
        _ => None,
    });
    if let Some(name) = text_of(&added, "name") {
        let (old, new) = (name.to_owned(), format!("ADDED_{}", dice.below(1_000_000)));
        added = added.replace(&old, &new).replace(&old.to_lowercase(), &new.to_lowercase());
    }
    format!("{}\n  }}, {{{added}{}", &text[..end], &text[end..])
}

/// Returns the end of a segment's range, in time or as a stream counts it.
pub fn end_of(segment: &str) -> Option<u64> {
    number_of(segment, "date_range_end").or_else(|| number_of(segment, "source_offset_end"))
}

/// Returns the segment that begins at `start`, made like another of its model.
pub fn next_segment(last: &str, uuid: &str, start: u64, dice: &mut Dice, at: u64) -> String {
    let old_start = number_of(last, "date_range_start").or_else(|| number_of(last, "source_offset_start"));
    let old_start = old_start.unwrap_or(0);
    // An unbounded segment ends at the largest number there is.
    let shift = start.saturating_sub(old_start);
    let end = end_of(last).unwrap_or(start).saturating_add(shift);
    let rows = number_of(last, "source_count").unwrap_or(0);
    let mut next = renumber(last, |key, old| match key {
        "date_range_start" | "date_range_end" | "source_offset_start" | "source_offset_end" => {
            Some(old.saturating_add(shift))
        }
        "create_time_utc" | "last_build_time" => Some(at),
        "source_count" | "source_bytes_size" => Some(dice.about(old)),
        // Only numbers of things that keep coming are so large.
        "min" | "max" if old > 1_000_000 => Some(old + rows),
        column if column.contains('.') => Some(dice.about(old)),
        _ => None,
    });
    if let Some(old) = text_of(last, "uuid") {
        next = next.replace(old, uuid);
    }
    if let Some(old) = text_of(last, "name") {
        let name = format!("{}_{}", Civil::of(start).compact(), Civil::of(end).compact());
        next = next.replacen(old, &name, 1);
    }
    next.replace(&Civil::of(old_start).date(), &Civil::of(start).date())
}

/// Returns the layouts of a new segment, as another segment of its model has them.
pub fn next_layout(last: &str, uuid: &str, dice: &mut Dice, at: u64) -> String {
    let mut next = renumber(last, |key, old| match key {
        "last_modified" | "create_time" => Some(at),
        "rows" | "byte_size" | "source_rows" => Some(dice.about(old)),
        _ => None,
    });
    if let Some(old) = text_of(last, "uuid") {
        next = next.replace(old, uuid);
    }
    let job = text_of(last, "build_job_id").and_then(|job| job.get(..36));
    match job {
        Some(job) => next.replace(job, &dice.uuid()),
        None => next,
    }
}
