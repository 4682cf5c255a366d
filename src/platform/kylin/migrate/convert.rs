//! The second pass: one document of the old layout becomes those of the new.

use super::case::{Case, broken, kept};
use super::fate::{Fate, Why};
use super::jackson::decode;
use super::rule::{Form, Rule, rule_of};
use super::{Converted, Difference, Dropped, Keys, dataflow, model, plain, system};
use crate::model::path::EntryPath;

/// Converts a document.
pub(super) fn convert(keys: &Keys, name: &EntryPath, content: &[u8], time_ns: i64) -> Converted {
    let nothing = |fate| Converted { documents: Vec::new(), fate, remarks: Vec::new() };
    let form = match rule_of(name) {
        Rule::Drop(rule) => return nothing(Fate::Dropped { rule }),
        Rule::Convert(Form::Image) if !keys.options().as_kylin => {
            return nothing(Fate::Dropped { rule: Dropped::Image });
        }
        Rule::Keep(why) => {
            let document = kept(name, content, time_ns);
            let fate = Fate::Unknown { why, kept_at: document.name.to_string() };
            return Converted { documents: vec![document], fate, remarks: Vec::new() };
        }
        Rule::Convert(form) => form,
    };
    if content.is_empty() && form != Form::Identity {
        return broken(name, content, time_ns, Why::Empty, Vec::new());
    }
    let mut case = Case::new(keys, name, time_ns);
    let outcome = match form {
        Form::Identity => system::convert_identity(&mut case, keys.options(), content),
        Form::Version => system::convert_version(&mut case, content),
        form => decode(content).and_then(|(text, encoding)| {
            if let Some(encoding) = encoding {
                case.remark(Difference::Encoding, format!("it is {encoding}"));
            }
            convert_text(&mut case, form, &text, content)
        }),
    };
    case.finish(outcome, content)
}

fn convert_text(case: &mut Case<'_>, form: Form<'_>, text: &str, content: &[u8]) -> Result<(), Why> {
    match form {
        Form::Identity | Form::Version => Ok(()),
        Form::Image => system::convert_image(case, text),
        Form::AclVersion => system::convert_acl_version(case, text),
        Form::Project { project, is_inside } => system::convert_project(case, (project, is_inside), text, content),
        Form::Global { kind, file } => plain::convert_global(case, kind, file, text),
        Form::UserGroups => plain::convert_groups(case, text),
        Form::SqlBlacklist { project } => plain::convert_blacklist(case, project, text),
        Form::Model { project, model } => model::convert(case, project, model, text),
        Form::Dataflow { project, model } => dataflow::convert(case, project, model, text),
        Form::IndexPlan { project, model } => plain::convert_index_plan(case, project, model, text),
        Form::Details { project, model, segment } => dataflow::convert_details(case, project, (model, segment), text),
        Form::FusionModel { project, model } => plain::convert_fusion_model(case, project, model, text),
        Form::StreamingJob { project, job } => plain::convert_streaming_job(case, project, job, text),
        Form::Recommendations { project, model } => plain::convert_recommendations(case, project, model, text),
        Form::Parser { project, class } => plain::convert_parser(case, project, class, text),
        Form::Acl { project, is_group, name } => plain::convert_acl(case, project, (is_group, name), text),
        Form::InProject { kind, project, key } => plain::convert_in_project(case, kind, (project, key), text),
    }
}
