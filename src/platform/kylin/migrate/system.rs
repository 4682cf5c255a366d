//! What is about the store as a whole: its identity, its version, and the documents of projects.

use super::case::{Case, is};
use super::fate::{Difference, Why};
use super::ids::{IdOf, derived};
use super::jackson::{NULL, Object, Value, decode, read};
use super::model::as_texts;
use super::{KYLIN_VERSION, Options};
use crate::platform::kylin::kind::Kind;

/// Converts the document of a project: it is copied, after a look whether it is one.
pub(super) fn convert_project(
    case: &mut Case<'_>,
    (project, is_inside): (&str, bool),
    text: &str,
    content: &[u8],
) -> Result<(), Why> {
    let read = read(text)?;
    let Value::Object(object) = read.value else { return Err(Why::NoObject) };
    case.claim(Kind::Project, "", project)?;
    if read.bytes_after > 0 {
        let after = read.bytes_after;
        case.remark(Difference::TextAfter, format!("{after} bytes follow after the JSON, and are copied with it"));
    }
    if is_inside {
        case.remark(Difference::KylinStops, "the document of a project in its own folder: Kylin's tool stops at it");
    }
    if object.get("name").is_some_and(|name| !is(name, project)) {
        case.remark(Difference::Misnamed, "its `name` is another than that of its document, which is what Kylin takes");
    }
    case.put_bytes(Kind::Project, project, Some(project), content.to_vec())
}

/// How the identity of a store was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Identity {
    /// As Kylin writes it.
    AsKylin(String),
    /// Otherwise, but there is no doubt about it.
    Otherwise(String),
}

/// Reads the identity of a store: Java's modified UTF-8 after its length in two bytes; or a UUID and nothing else, as
/// text or in JSON.
pub(super) fn identity(content: &[u8]) -> Option<Identity> {
    if let [high, low, rest @ ..] = content
        && usize::from(u16::from_be_bytes([*high, *low])) == rest.len()
        && let Some(text) = modified_utf8(rest).filter(|text| !text.trim().is_empty())
    {
        return Some(Identity::AsKylin(text));
    }
    let (text, _) = decode(content).ok()?;
    if let Some(uuid) = as_uuid(&text) {
        return Some(Identity::Otherwise(uuid.to_owned()));
    }
    let found = match read(&text).ok().filter(|read| read.bytes_after == 0)?.value {
        Value::Text(text) => as_uuid(&text.plain()).map(str::to_owned),
        Value::Object(object) => in_object(&object),
        _ => None,
    };
    found.map(Identity::Otherwise)
}

/// The UUID that an object tells: as Kylin 5 keeps it in `str`, or else in `uuid`.
fn in_object(object: &Object<'_>) -> Option<String> {
    let uuid = |field| object.text(field).and_then(|text| as_uuid(&text).map(str::to_owned));
    uuid("str").or_else(|| uuid("uuid"))
}

fn as_uuid(text: &str) -> Option<&str> {
    let text = text.trim();
    let is_right = |(n, byte): (usize, u8)| match n {
        8 | 13 | 18 | 23 => byte == b'-',
        _ => byte.is_ascii_hexdigit(),
    };
    (text.len() == 36 && text.bytes().enumerate().all(is_right)).then_some(text)
}

/// Decodes what Java's `writeUTF` wrote: NUL is two bytes, and what UTF-8 needs four bytes for is two times three.
fn modified_utf8(bytes: &[u8]) -> Option<String> {
    let mut units = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    let low = |byte: u8| (byte & 0xc0 == 0x80).then_some(u16::from(byte & 0x3f));
    loop {
        let (unit, next) = match *rest {
            [] => return String::from_utf16(&units).ok(),
            [a @ 1..=0x7f, ref next @ ..] => (u16::from(a), next),
            [a @ 0xc0..=0xdf, b, ref next @ ..] => (u16::from(a & 0x1f) << 6 | low(b)?, next),
            [a @ 0xe0..=0xef, b, c, ref next @ ..] => (u16::from(a & 0x0f) << 12 | low(b)? << 6 | low(c)?, next),
            _ => return None,
        };
        units.push(unit);
        rest = next;
    }
}

/// Converts the identity of the store.
pub(super) fn convert_identity(case: &mut Case<'_>, options: &Options, content: &[u8]) -> Result<(), Why> {
    let uuid = match identity(content) {
        Some(Identity::AsKylin(uuid)) => uuid,
        Some(Identity::Otherwise(uuid)) => {
            case.remark(Difference::Identity, "it is not written as Kylin does; Kylin's tool would invent a new one");
            uuid
        }
        None if options.new_identity => {
            let hash = blake3::hash(content).to_hex();
            case.remark(Difference::Identity, "it can't be read, so the store has a new one");
            derived(IdOf::Identity, &[&hash])
        }
        None => return Err(Why::Identity),
    };
    put_text(case, "UUID", &uuid, &uuid)
}

/// Converts the version of Kylin that wrote the store.
pub(super) fn convert_version(case: &mut Case<'_>, content: &[u8]) -> Result<(), Why> {
    let (text, _) = decode(content)?;
    let version = text.trim();
    if version.is_empty() {
        return Err(Why::Empty);
    }
    put_text(case, "VERSION", &derived(IdOf::Version, &[version]), version)
}

fn put_text(case: &mut Case<'_>, name: &'static str, uuid: &str, text: &str) -> Result<(), Why> {
    let time = case.time_ms().to_string();
    let fields = [
        ("uuid", Value::of(uuid)),
        ("last_modified", Value::Number("0".into())),
        ("create_time", Value::Number(time.as_str().into())),
        ("version", Value::of(KYLIN_VERSION)),
        ("str", Value::of(text)),
        ("name", Value::of(name)),
    ];
    case.put_system(name, fields.into_iter().collect())
}

/// Converts the place in the audit log as Kylin's tool does.
pub(super) fn convert_image(case: &mut Case<'_>, text: &str) -> Result<(), Why> {
    let mut object = case.object(text)?;
    let offset = object.remove("offset").unwrap_or(Value::Word(NULL));
    case.put_system("_image", [("offset", offset)].into_iter().collect())
}

/// Converts the mark that permissions are of the current version.
pub(super) fn convert_acl_version(case: &mut Case<'_>, text: &str) -> Result<(), Why> {
    let mut object = case.object(text)?;
    let name = Value::of("acl_version");
    if case.as_kylin() {
        as_texts(&mut object);
        let mut sorted = Object::default();
        // The order in which Java's hash map has them.
        for field in ["acl_version", "create_time", "name", "mvcc", "uuid", "last_modified", "version"] {
            match field {
                "name" => drop(sorted.set(field, Value::of("acl_version"))),
                field => drop(object.remove(field).map(|value| sorted.set(field, value))),
            }
        }
        let rest: Vec<_> = object.fields().map(|(name, value)| (name.clone(), value.clone())).collect();
        rest.into_iter().filter(|(name, _)| !name.is("name")).for_each(|(name, value)| sorted.push(name, value));
        return case.put_system("acl_version", sorted);
    }
    object.set("name", name);
    case.put_system("acl_version", object)
}
