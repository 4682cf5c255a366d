//! What was built of a model: dataflows, which lose their segments to documents of their own, and the details of these.

use std::collections::HashMap;

use super::case::{Case, new_name, required, required_text};
use super::fate::{Difference, Why};
use super::jackson::{Object, Value};
use super::model::elements;
use crate::platform::kylin::kind::Kind;

/// What the conversion needs to know of a dataflow.
#[derive(Debug)]
pub(super) struct Dataflow {
    /// The id it says to have, that of its model.
    pub(super) uuid: String,
    /// Its segments in order.
    pub(super) segments: Vec<Segment>,
}

/// A segment of a dataflow.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) id: String,
    /// It may have data: it is not just being built.
    pub(super) is_ready: bool,
    /// It is the same as one before, word for word.
    is_repeated: bool,
}

/// Reads a dataflow.
pub(super) fn read(object: &Object<'_>) -> Result<Dataflow, Why> {
    let uuid = required(object, "uuid")?;
    let values = elements(object, "segments")?;
    let mut segments = Vec::with_capacity(values.len());
    let mut places: HashMap<String, usize> = HashMap::new();
    for (n, value) in values.iter().enumerate() {
        let Value::Object(segment) = value else {
            return Err(Why::Field { field: format!("segments[{n}]"), fault: value.what() });
        };
        let field = || format!("segments[{n}].id");
        let id = segment.get("id").ok_or_else(|| Why::Field { field: field(), fault: "missing" })?;
        let id = required_text(id, field)?;
        new_name(Kind::Segment, &id)?;
        let is_repeated = match places.get(&id) {
            Some(place) if values[*place] == *value => true,
            Some(_) => return Err(Why::Field { field: field(), fault: "that of another segment too" }),
            None => false,
        };
        places.insert(id.clone(), n);
        let is_ready = segment.text("status").is_none_or(|status| status != "NEW");
        segments.push(Segment { id, is_ready, is_repeated });
    }
    Ok(Dataflow { uuid, segments })
}

/// Converts a dataflow.
pub(super) fn convert(case: &mut Case<'_>, project: &str, file: &str, text: &str) -> Result<(), Why> {
    let mut object = case.object(text)?;
    let dataflow = read(&object)?;
    case.claim(Kind::Dataflow, project, &dataflow.uuid)?;
    if dataflow.uuid != file {
        let uuid = &dataflow.uuid;
        case.remark(Difference::Misnamed, format!("`uuid` is `{uuid}`: Kylin takes such a dataflow for broken"));
    }
    let uuid = case.keys.model_id(project, &dataflow.uuid).into_owned();
    let key = case.keys.model_id(project, file).into_owned();
    object.set("uuid", Value::owned(&uuid));
    let values = object.remove("segments");
    case.set_project(&mut object, project);
    let mut segments = Vec::new();
    let values = if let Some(Value::Array(values)) = values { values } else { Vec::new() };
    for (segment, value) in dataflow.segments.iter().zip(values) {
        match value {
            Value::Object(value) if !segment.is_repeated => {
                let id = case.keys.segment_id(project, &dataflow.uuid, &segment.id).into_owned();
                segments.push((id, value));
            }
            _ => case.remark(Difference::Twice, format!("the segment `{}` is listed twice", segment.id)),
        }
    }
    object.set("segment_uuids", Value::of_texts(segments.iter().map(|(id, _)| id.as_str())));
    case.put(Kind::Dataflow, &key, project, object)?;
    for (id, mut segment) in segments {
        segment.remove("id");
        segment.set("uuid", Value::owned(&id));
        segment.set("model_uuid", Value::owned(&uuid));
        case.set_project(&mut segment, project);
        case.put(Kind::Segment, &id, project, segment)?;
    }
    Ok(())
}

/// Converts the details of a segment.
pub(super) fn convert_details(
    case: &mut Case<'_>,
    project: &str,
    (model, segment): (&str, &str),
    text: &str,
) -> Result<(), Why> {
    let mut object = case.object(text)?;
    let id = case.keys.segment_id(project, model, segment).into_owned();
    let dataflow = case.keys.model_id(project, model).into_owned();
    for (field, new, by_name) in [("dataflow", &dataflow, model), ("uuid", &id, segment)] {
        let old = object.set(field, Value::owned(new));
        if let Some(old) = old.as_ref().and_then(Value::text).filter(|old| *old != by_name) {
            case.remark(Difference::Overwritten, format!("`{field}` was `{old}`, and is `{new}` by its name"));
        }
    }
    case.set_project(&mut object, project);
    case.put(Kind::Layout, &id, project, object)
}
