//! Models: each becomes one without its computed columns, these, and what relates it to them and to tables.

use std::collections::HashSet;

use super::case::{Case, rename_models, required, required_text};
use super::fate::{Difference, Why};
use super::ids::{IdOf, derived};
use super::jackson::{NULL, Object, Value, write};
use crate::platform::kylin::kind::Kind;

/// What the conversion needs to know of a model.
#[derive(Debug)]
pub(super) struct Model {
    /// The id it says to have.
    pub(super) uuid: String,
    /// The tables it reads, in the order of the document, each once.
    pub(super) tables: Vec<String>,
    /// Its computed columns in order.
    pub(super) columns: Vec<Column>,
}

/// A computed column of a model.
#[derive(Debug)]
pub(super) struct Column {
    pub(super) table: String,
    pub(super) name: String,
    /// The id that it has in the whole project.
    pub(super) id: String,
    /// What it says, for comparison.
    pub(super) said: [u8; 16],
}

/// Reads a model.
pub(super) fn read(project: &str, object: &Object<'_>) -> Result<Model, Why> {
    let uuid = required(object, "uuid")?;
    Ok(Model { uuid, tables: tables(object)?, columns: columns(project, object)? })
}

fn tables(object: &Object<'_>) -> Result<Vec<String>, Why> {
    let fact = match object.get("fact_table") {
        Some(Value::Word(NULL)) => None,
        _ => Some(required(object, "fact_table")?),
    };
    let mut tables = Vec::new();
    for (n, join) in elements(object, "join_tables")?.iter().enumerate() {
        let field = || format!("join_tables[{n}].table");
        let table = match join {
            Value::Object(join) => join.get("table").ok_or(Why::Field { field: field(), fault: "missing" })?,
            other => return Err(Why::Field { field: format!("join_tables[{n}]"), fault: other.what() }),
        };
        tables.push(required_text(table, field)?);
    }
    tables.extend(fact);
    let mut seen = HashSet::new();
    let is_first: Vec<bool> = tables.iter().map(|table| seen.insert(table.clone())).collect();
    let mut is_first = is_first.into_iter();
    tables.retain(|_| is_first.next().unwrap_or_default());
    Ok(tables)
}

/// Returns the elements of an array; none if it is absent or null.
pub(super) fn elements<'o, 't>(object: &'o Object<'t>, field: &'static str) -> Result<&'o [Value<'t>], Why> {
    match object.get(field) {
        None | Some(Value::Word(NULL)) => Ok(&[]),
        Some(Value::Array(values)) => Ok(values),
        Some(other) => Err(Why::Field { field: field.to_owned(), fault: other.what() }),
    }
}

fn columns(project: &str, object: &Object<'_>) -> Result<Vec<Column>, Why> {
    let column = |(n, value): (usize, &Value<'_>)| {
        let Value::Object(column) = value else {
            return Err(Why::Field { field: format!("computed_columns[{n}]"), fault: value.what() });
        };
        let text = |name: &str| {
            let field = || format!("computed_columns[{n}].{name}");
            let value = column.get(name).ok_or_else(|| Why::Field { field: field(), fault: "missing" })?;
            required_text(value, field)
        };
        let (table, name) = (text("tableIdentity")?, text("columnName")?);
        let id = derived(IdOf::Column, &[project, &table, &name]);
        Ok(Column { table, name, id, said: said(column) })
    };
    elements(object, "computed_columns")?.iter().enumerate().map(column).collect()
}

/// Sums up what a computed column says, whatever the order. Where a recommendation came from is not part of that.
fn said(column: &Object<'_>) -> [u8; 16] {
    let mut fields: Vec<_> = column
        .fields()
        .filter(|(name, _)| !["uuid", "rec_uuid", "project"].iter().any(|other| name.is(other)))
        .collect();
    fields.sort_unstable_by(|a, b| a.0.cmp(b.0));
    let mut hasher = blake3::Hasher::new();
    for (name, value) in fields {
        hasher.update(name.plain().as_bytes());
        hasher.update(b"\0");
        hasher.update(&write(value, false).bytes);
        hasher.update(b"\0");
    }
    *hasher.finalize().as_bytes().first_chunk().expect("a hash has 32 bytes")
}

/// Converts a model.
pub(super) fn convert(case: &mut Case<'_>, project: &str, file: &str, text: &str) -> Result<(), Why> {
    let mut object = case.object(text)?;
    let model = read(project, &object)?;
    case.claim(Kind::Model, project, &model.uuid)?;
    if model.uuid != file {
        let uuid = &model.uuid;
        case.remark(Difference::Misnamed, format!("`uuid` is `{uuid}`: Kylin takes such a model for broken"));
    }
    let uuid = case.keys.model_id(project, &model.uuid).into_owned();
    let key = case.keys.model_id(project, file).into_owned();
    object.set("uuid", Value::owned(&uuid));
    let mut ids: Vec<&str> = Vec::new();
    for (n, column) in model.columns.iter().enumerate() {
        if case.as_kylin() || !ids.contains(&column.id.as_str()) {
            ids.push(&column.id);
        } else {
            let again = elements(&object, "computed_columns")?.get(n).map(expression);
            twice(case, &model, column, &again.unwrap_or_default());
        }
    }
    object.set("computed_column_uuids", Value::of_texts(ids.iter().copied()));
    let columns = object.remove("computed_columns");
    if case.keys.has_new_ids(project) {
        let mut value = Value::Object(std::mem::take(&mut object));
        rename_models(&mut value, &|id| case.keys.new_model_id(project, id).map(str::to_owned));
        if let Value::Object(renamed) = value {
            object = renamed;
        }
    }
    if matches!(object.get("fact_table"), Some(Value::Word(NULL))) {
        null_fact_table(case, project, &uuid)?;
    }
    case.set_project(&mut object, project);
    case.put(Kind::Model, &key, project, object)?;
    put_columns(case, project, file, &model, columns)?;
    relate_columns(case, project, &uuid, &ids)?;
    relate_tables(case, project, &uuid, &model.tables)
}

/// Returns what a computed column is computed by, as it is shown.
fn expression(column: &Value<'_>) -> String {
    let text = match column {
        Value::Object(column) => column.text("expression"),
        _ => None,
    };
    text.map_or_else(|| "no expression".to_owned(), |text| format!("`{text}`"))
}

/// Says that a column is listed twice, and whether it says the same both times.
fn twice(case: &mut Case<'_>, model: &Model, column: &Column, again: &str) {
    let Column { table, name, id, said } = column;
    let first = model.columns.iter().find(|first| first.id == *id);
    let (difference, end) = match first.is_some_and(|first| first.said == *said) {
        true => (Difference::Twice, String::new()),
        false => {
            let end = format!(" and says something else the second time, {again}; the first is kept");
            (Difference::ColumnText, end)
        }
    };
    case.remark(difference, format!("the computed column `{name}` of `{table}` is listed twice{end}"));
}

fn null_fact_table(case: &mut Case<'_>, project: &str, uuid: &str) -> Result<(), Why> {
    if case.as_kylin() {
        return relate_tables(case, project, uuid, &[NULL.to_owned()]);
    }
    case.remark(Difference::Mended, "`fact_table` is null; Kylin's tool would relate the model to a table `null`");
    Ok(())
}

/// Writes the columns that no other model of the project owns.
fn put_columns(
    case: &mut Case<'_>,
    project: &str,
    file: &str,
    model: &Model,
    values: Option<Value<'_>>,
) -> Result<(), Why> {
    let Some(Value::Array(values)) = values else { return Ok(()) };
    let mut seen: HashSet<&String> = HashSet::new();
    for (column, value) in model.columns.iter().zip(values) {
        let Column { table, name, id, said } = column;
        if !seen.insert(id) {
            continue;
        }
        if let Some(owner) = case.keys.column_owner(id) {
            if owner.said != *said {
                let (owner, lost) = (&owner.model, expression(&value));
                case.remark(
                    Difference::ColumnText,
                    format!(
                        "the computed column `{name}` of `{table}` says something else in the model `{owner}`, and \
                         that is kept; here it is {lost}"
                    ),
                );
            }
            if owner.model != file {
                continue;
            }
        }
        let Value::Object(mut object) = value else { continue };
        if case.as_kylin() {
            as_texts(&mut object);
        }
        object.set("uuid", Value::of(id));
        case.set_project(&mut object, project);
        case.put(Kind::ComputeColumn, id, project, object)?;
    }
    Ok(())
}

/// Turns numbers and truth values into texts.
pub(super) fn as_texts(object: &mut Object<'_>) {
    for (_, value) in object.fields_mut() {
        let text = match value {
            Value::Number(_) => String::from_utf8_lossy(&write(value, true).bytes).trim_matches('"').to_owned(),
            Value::Word(word) if *word != NULL => (*word).to_owned(),
            _ => continue,
        };
        *value = Value::owned(&text);
    }
}

fn relate_columns(case: &mut Case<'_>, project: &str, uuid: &str, ids: &[&str]) -> Result<(), Why> {
    for (n, column) in ids.iter().enumerate() {
        let before = ids[..n].iter().filter(|other| *other == column).count();
        let id = match before {
            0 => derived(IdOf::ColumnRelation, &[project, uuid, column]),
            before => derived(IdOf::ColumnRelation, &[project, uuid, column, &before.to_string()]),
        };
        relate(case, Kind::CcModelRelation, ("cc_uuid", column), uuid, (project, &id))?;
    }
    Ok(())
}

fn relate_tables(case: &mut Case<'_>, project: &str, uuid: &str, tables: &[String]) -> Result<(), Why> {
    for table in tables {
        if let Some(other) = case.keys.spelling(project, table) {
            case.remark(
                Difference::Spelling,
                format!("the model speaks of the table `{table}`, Kylin of `{other}`: it tells upper case from lower"),
            );
        }
        let id = derived(IdOf::TableRelation, &[project, uuid, table]);
        relate(case, Kind::TableModelRelation, ("table_identity", table), uuid, (project, &id))?;
    }
    Ok(())
}

fn relate(
    case: &mut Case<'_>,
    kind: Kind,
    (field, what): (&'static str, &str),
    model: &str,
    (project, id): (&str, &str),
) -> Result<(), Why> {
    let fields = [(field, what), ("model_uuid", model), ("project", project), ("uuid", id)];
    case.put(kind, id, project, fields.map(|(name, text)| (name, Value::of(text))).into_iter().collect())
}
