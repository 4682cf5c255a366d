//! Documents that stay what they are: they say which project they belong to, and have another key.

use std::borrow::Cow;

use super::case::{Case, is, new_name, rename_models, required};
use super::fate::{Difference, Why};
use super::ids::{IdOf, derived};
use super::jackson::{Object, Value};
use super::model::elements;
use super::rule::{Global, InProject};
use super::{KYLIN_VERSION, Keys};
use crate::platform::kylin::kind::Kind;
use crate::platform::kylin::layout::GLOBAL;

const SUFFIX: &str = ".json";

impl Global {
    /// Returns the kind of the document in the new layout.
    pub(super) const fn kind(self) -> Kind {
        match self {
            Self::User => Kind::UserInfo,
            Self::UserGroup => Kind::UserGroup,
            Self::UserAcl => Kind::UserGlobalAcl,
            Self::ObjectAcl => Kind::ObjectAcl,
            Self::LogicalView => Kind::LogicalView,
            Self::ResourceGroup => Kind::ResourceGroup,
            Self::HistorySourceUsage => Kind::HistorySourceUsage,
        }
    }

    /// Returns the field that says what the key is, of those whose names may end in anything.
    const fn key_field(self) -> Option<&'static str> {
        match self {
            Self::User | Self::UserAcl => Some("username"),
            Self::UserGroup => Some("group_name"),
            _ => None,
        }
    }
}

impl InProject {
    /// Returns the kind of the document in the new layout.
    pub(super) const fn kind(self) -> Kind {
        match self {
            Self::Table => Kind::TableInfo,
            Self::TableExd => Kind::TableExd,
            Self::Kafka => Kind::KafkaConfig,
            Self::Jar => Kind::JarInfo,
            Self::JobStats => Kind::JobStats,
            Self::QueryRecord => Kind::QueryRecord,
        }
    }

    /// Returns what ids are of, for a kind whose documents may get a new `uuid`.
    pub(super) const fn id_of(self) -> Option<IdOf> {
        match self {
            Self::Table => Some(IdOf::Table),
            Self::TableExd => Some(IdOf::TableExd),
            Self::Kafka => Some(IdOf::Kafka),
            Self::Jar | Self::JobStats | Self::QueryRecord => None,
        }
    }
}

/// Tells whether the survey must look into a global document to know its key, or that it is one: a user may be called
/// `x.json`, and names that differ in case are one to Kylin, so that one that is broken must not get it.
pub(super) fn is_claimed_by_content(kind: Global, file: &str) -> bool {
    matches!(kind, Global::User | Global::UserGroup) || (kind == Global::UserAcl && file.ends_with(SUFFIX))
}

/// Returns the key of a global document.
pub(super) fn global_key<'n>(kind: Global, file: &'n str, object: Option<&Object<'_>>) -> &'n str {
    let says_so = kind.key_field().and_then(|field| object?.get(field)).is_some_and(|name| is(name, file));
    match file.strip_suffix(SUFFIX) {
        Some(key) if !says_so => key,
        _ => file,
    }
}

/// Converts a global document.
pub(super) fn convert_global(case: &mut Case<'_>, global: Global, file: &str, text: &str) -> Result<(), Why> {
    let mut object = case.object(text)?;
    let key = global_key(global, file, (!case.as_kylin()).then_some(&object));
    case.claim(global.kind(), "", key)?;
    if matches!(global, Global::ObjectAcl | Global::LogicalView) && !file.ends_with(SUFFIX) {
        case.remark(Difference::KylinDrops, "Kylin's tool drops it, since its name does not end in `.json`");
    }
    case.set_project(&mut object, GLOBAL);
    case.put(global.kind(), key, GLOBAL, object)
}

/// Converts the groups of Kylin 4.
pub(super) fn convert_groups(case: &mut Case<'_>, text: &str) -> Result<(), Why> {
    let object = case.object(text)?;
    let groups = groups(&object)?;
    case.remark(Difference::KylinStops, "all groups in one document: Kylin's tool stops at it");
    let time = case.time_ms().to_string();
    for group in &groups {
        if let Err(Why::Taken { by, .. }) = case.claim(Kind::UserGroup, "", group) {
            case.remark(Difference::Twice, format!("the group `{group}` has a document of its own, `{by}`"));
            continue;
        }
        let fields = [
            ("uuid", Value::owned(&derived(IdOf::UserGroup, &[group]))),
            ("last_modified", Value::Number("0".into())),
            ("create_time", Value::Number(time.as_str().into())),
            ("version", Value::of(KYLIN_VERSION)),
            ("group_name", Value::of(group)),
            ("project", Value::of(GLOBAL)),
        ];
        case.put(Kind::UserGroup, group, GLOBAL, fields.into_iter().collect())?;
    }
    Ok(())
}

/// Returns the groups of Kylin 4, each once.
pub(super) fn groups(object: &Object<'_>) -> Result<Vec<String>, Why> {
    if object.get("groups").is_none() {
        return Err(Why::Field { field: "groups".to_owned(), fault: "missing" });
    }
    let mut groups: Vec<String> = Vec::new();
    for (n, group) in elements(object, "groups")?.iter().enumerate() {
        let Value::Text(group) = group else {
            return Err(Why::Field { field: format!("groups[{n}]"), fault: group.what() });
        };
        let group = group.plain().into_owned();
        new_name(Kind::UserGroup, &group)?;
        // Groups that differ in case are one to Kylin.
        if !groups.iter().any(|other| Keys::folded(Kind::UserGroup, other) == Keys::folded(Kind::UserGroup, &group)) {
            groups.push(group);
        }
    }
    Ok(groups)
}

/// Converts a document of a project that only gets another key.
pub(super) fn convert_in_project(
    case: &mut Case<'_>,
    kind: InProject,
    (project, rest): (&str, &str),
    text: &str,
) -> Result<(), Why> {
    let mut object = case.object(text)?;
    let mut key = format!("{project}.{rest}");
    if matches!(kind, InProject::JobStats | InProject::QueryRecord) {
        // Of two with the same key, Kylin's tool loses one.
        if case.as_kylin() && case.claim(kind.kind(), "", rest).is_ok() {
            key = rest.to_owned();
        } else {
            case.remark(Difference::Key, format!("Kylin's tool calls it `{rest}`, and Kylin 5 does not find it"));
        }
    }
    if kind == InProject::QueryRecord && !case.as_kylin() && object.get("username").is_none() {
        object.set("username", Value::of(rest));
        case.remark(Difference::Mended, "`username` is added, by which Kylin 5 finds it");
    }
    if let Some(id) = kind.id_of().and_then(|_| case.keys.table_id(kind, project, rest)) {
        object.set("uuid", Value::owned(id));
        case.remark(Difference::NewId, "a document of another project has the same `uuid`; nothing refers to it");
    }
    case.set_project(&mut object, project);
    case.put(kind.kind(), &key, project, object)
}

/// Converts the blacklist of a project.
pub(super) fn convert_blacklist(case: &mut Case<'_>, project: &str, text: &str) -> Result<(), Why> {
    let mut object = case.object(text)?;
    let says = if case.as_kylin() { GLOBAL } else { project };
    if !case.as_kylin() {
        case.remark(Difference::Key, "Kylin's tool says `_global` for its project, and Kylin 5 does not find it");
    }
    case.set_project(&mut object, says);
    case.put(Kind::SqlBlacklist, project, says, object)
}

/// Returns the key of a parser without its project: the class.
pub(super) fn class_of(object: &Object<'_>, file: &str) -> String {
    object.text("class_name").filter(|class| !class.is_empty()).map_or_else(|| file.to_owned(), Cow::into_owned)
}

/// Converts a parser.
pub(super) fn convert_parser(case: &mut Case<'_>, project: &str, file: &str, text: &str) -> Result<(), Why> {
    let mut object = case.object(text)?;
    let class = class_of(&object, file);
    let key = format!("{project}.{class}");
    case.claim(Kind::DataParser, project, &class)?;
    if object.get("class_name").is_none() {
        case.remark(Difference::Key, format!("it has no `class_name`, so Kylin's tool calls it `{project}.null`"));
    }
    case.set_project(&mut object, project);
    case.put(Kind::DataParser, &key, project, object)
}

/// Converts the permissions of a user or group on the tables of a project.
pub(super) fn convert_acl(
    case: &mut Case<'_>,
    project: &str,
    (is_group, name): (bool, &str),
    text: &str,
) -> Result<(), Why> {
    let mut object = case.object(text)?;
    case.set_project(&mut object, project);
    case.put(Kind::Acl, &format!("{project}.{}.{name}", if is_group { "g" } else { "u" }), project, object)
}

/// Converts an index plan. Its key is what it says, not what it is called.
pub(super) fn convert_index_plan(case: &mut Case<'_>, project: &str, file: &str, text: &str) -> Result<(), Why> {
    let mut object = case.object(text)?;
    let old = required(&object, "uuid")?;
    case.claim(Kind::IndexPlan, project, &old)?;
    if old != file {
        case.remark(Difference::Misnamed, format!("`uuid` is `{old}`, and the document is now called so"));
    }
    let uuid = case.keys.model_id(project, &old).into_owned();
    object.set("uuid", Value::owned(&uuid));
    case.set_project(&mut object, project);
    case.put(Kind::IndexPlan, &uuid, project, object)
}

/// Converts what joins a streaming model and a batch model.
pub(super) fn convert_fusion_model(case: &mut Case<'_>, project: &str, file: &str, text: &str) -> Result<(), Why> {
    let object = case.object(text)?;
    let mut object = renamed(case, project, object);
    case.set_project(&mut object, project);
    let key = case.keys.model_id(project, file).into_owned();
    case.put(Kind::FusionModel, &key, project, object)
}

/// Converts a streaming job, whose id is that of its model and what it does.
pub(super) fn convert_streaming_job(case: &mut Case<'_>, project: &str, job: &str, text: &str) -> Result<(), Why> {
    let object = case.object(text)?;
    case.claim(Kind::StreamingJob, project, job)?;
    let mut object = renamed(case, project, object);
    let key = job_id(case.keys, project, job);
    if key != job && object.get("uuid").is_some_and(|uuid| is(uuid, job)) {
        object.set("uuid", Value::owned(&key));
    }
    case.set_project(&mut object, project);
    case.put(Kind::StreamingJob, &key, project, object)
}

/// Splits the id of a job into that of its model and what it does.
pub(super) fn split_job(job: &str) -> (&str, &str) {
    job.split_at(job.rfind('_').unwrap_or(job.len()))
}

fn job_id(keys: &Keys, project: &str, job: &str) -> String {
    let (model, does) = split_job(job);
    format!("{}{does}", keys.model_id(project, model))
}

/// Converts recommendations in a package of models: whatever they are, they are put into an object.
pub(super) fn convert_recommendations(case: &mut Case<'_>, project: &str, model: &str, text: &str) -> Result<(), Why> {
    let mut items = case.value(text)?;
    if case.keys.has_new_ids(project) {
        rename_models(&mut items, &|id| case.keys.new_model_id(project, id).map(str::to_owned));
    }
    let uuid = case.keys.model_id(project, model).into_owned();
    let fields = [("uuid", Value::of(&uuid)), ("project", Value::of(project)), ("rec_items", items)];
    case.put(Kind::TmpRec, &format!("{project}.{uuid}"), project, fields.into_iter().collect())
}

/// Gives the models that an object names the ids that they have now.
fn renamed<'t>(case: &Case<'_>, project: &str, object: Object<'t>) -> Object<'t> {
    if !case.keys.has_new_ids(project) {
        return object;
    }
    let mut value = Value::Object(object);
    rename_models(&mut value, &|id| case.keys.new_model_id(project, id).map(str::to_owned));
    match value {
        Value::Object(object) => object,
        _ => Object::default(),
    }
}
