//! What differs in the content of a document, for `metastash diff --content`

use std::io;

use metastash::model::path::escape;
use metastash::model::pointer::Pointer;
use metastash::ops::diff::{Detail, JsonDifference, Step};
use metastash::platform::kylin::json::Json;
use serde_json::{Map, Value, json};

use super::output::{Colour, Output};

/// Most characters of a value that are shown.
const VALUE_CHARS_MAX: usize = 120;

/// Tells whether a document differs in nothing that is not noise.
pub(crate) fn is_noise_alone(detail: &Detail) -> bool {
    matches!(detail, Detail::Json(found) if found.steps.is_empty() && found.has_noise)
}

/// Prints what differs, below the line of the document.
pub(crate) fn show_detail(detail: &Detail, output: &Output) -> io::Result<()> {
    match detail {
        Detail::Json(found) if found.steps.is_empty() => output.result(match found.has_noise {
            true => "  only noise differs",
            false => "  the same JSON, spelled differently",
        }),
        Detail::Json(JsonDifference { steps, .. }) => steps.iter().try_for_each(|step| show_step(step, output)),
        // Whose lines they are was said.
        Detail::Text(unified) => unified.lines().skip(2).try_for_each(|line| show_line(line, output)),
        Detail::Bytes => output.result("  it is neither JSON nor text"),
        Detail::TooLarge => output.result("  it is too large to be compared"),
        Detail::Unread => Ok(()),
    }
}

fn show_step(step: &Step, output: &Output) -> io::Result<()> {
    let (colour, text) = match step {
        Step::Added { at, value } => (Colour::Green, format!("  + {}: {}", place(at), shortened(value))),
        Step::Removed { at, value } => (Colour::Red, format!("  - {}: {}", place(at), shortened(value))),
        Step::Replaced { at, before, after } => {
            (Colour::Yellow, format!("  ~ {}: {} -> {}", place(at), shortened(before), shortened(after)))
        }
        Step::Moved { from, to } => (Colour::Cyan, format!("  > {} -> {}", place(from), place(to))),
    };
    output.coloured_result(colour, &text)
}

fn show_line(line: &str, output: &Output) -> io::Result<()> {
    // Documents must not speak to the terminal; but tabs are harmless.
    let text = line.split('\t').map(|part| escape(part.as_bytes())).collect::<Vec<_>>().join("\t");
    let text = format!("  {text}");
    match line.as_bytes().first() {
        Some(b'+') => output.coloured_result(Colour::Green, &text),
        Some(b'-') => output.coloured_result(Colour::Red, &text),
        Some(b'@') => output.coloured_result(Colour::Cyan, &text),
        _ => output.result(&text),
    }
}

fn place(pointer: &Pointer) -> String {
    if pointer.parts().is_empty() { "all of it".to_owned() } else { escape(pointer.to_string().as_bytes()) }
}

/// Returns a value for people: its beginning, if it is long.
fn shortened(value: &Json) -> String {
    let text = escape(&value.to_bytes());
    match text.char_indices().nth(VALUE_CHARS_MAX) {
        Some((end, _)) => format!("{}… ({} characters)", &text[..end], text.chars().count()),
        None => text,
    }
}

/// Prints a difference as JSON, with what is known of the content.
pub(crate) fn message(mut fields: Map<String, Value>, detail: Option<&Detail>, output: &Output) -> io::Result<()> {
    let Some(detail) = detail else { return output.message("difference", fields.into()) };
    let kind = match detail {
        Detail::Json(_) => "json",
        Detail::Text(_) => "text",
        Detail::Bytes => "bytes",
        Detail::TooLarge => "too_large",
        Detail::Unread => "unread",
    };
    fields.insert("kind".to_owned(), json!(kind));
    match detail {
        Detail::Json(found) => {
            fields.insert("has_noise".to_owned(), json!(found.has_noise));
            return output.message_with("difference", fields, "patch", &found.patch());
        }
        Detail::Text(unified) => {
            fields.insert("unified".to_owned(), json!(unified));
        }
        Detail::Bytes | Detail::TooLarge | Detail::Unread => {}
    }
    output.message("difference", fields.into())
}
