//! `metastash config`

use std::fmt::Write as _;

use anyhow::Result;
use clap::{ArgAction, ArgMatches, Args, Command};
use comfy_table::Table;
use comfy_table::presets::NOTHING;
use serde_json::json;

use super::exit::{Code, Usage};
use super::output::Output;
use super::profile::{self, Profile, built, has_password, is_explicit};

#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    /// All options of this command, also those that are not set
    #[arg(value_name = "COMMAND")]
    pub command: Option<String>,
}

/// A setting that holds.
struct Row {
    command: Option<String>,
    key: String,
    values: Vec<String>,
    origin: String,
}

pub(crate) fn run(
    args: &ConfigArgs,
    command: &Command,
    matches: &ArgMatches,
    profile: &Profile,
    output: &Output,
) -> Result<Code> {
    let command = built(command);
    let mut rows = Vec::new();
    for arg in command.get_arguments().filter(|arg| arg.is_global_set()) {
        let Some(key) = arg.get_long() else { continue };
        if is_explicit(matches, arg.get_id().as_str()) {
            let is_flag = matches!(arg.get_action(), ArgAction::SetTrue);
            let id = arg.get_id().as_str();
            let values = match is_flag {
                true => matches.get_one::<bool>(id).map(ToString::to_string).into_iter().collect(),
                false => matches
                    .get_raw(id)
                    .into_iter()
                    .flatten()
                    .map(|value| value.to_string_lossy().into_owned())
                    .collect(),
            };
            rows.push(Row { command: None, key: key.to_owned(), values, origin: explicit(arg, matches) });
        } else {
            rows.extend(row(None, arg, profile, args.command.is_some()));
        }
    }
    let chosen = match &args.command {
        Some(name) => {
            let found = command.find_subcommand(name);
            vec![found.ok_or_else(|| Usage(format!("there is no command `{name}`")))?]
        }
        None => command.get_subcommands().collect(),
    };
    for inner in chosen {
        let own = inner.get_arguments().filter(|arg| !arg.is_global_set() && arg.get_long().is_some());
        rows.extend(own.filter_map(|arg| row(Some(inner.get_name()), arg, profile, args.command.is_some())));
    }
    show(&rows, profile, output)
}

/// Returns what holds of an option that is not given here: the environment goes before the profile.
fn row(command: Option<&str>, arg: &clap::Arg, profile: &Profile, with_unset: bool) -> Option<Row> {
    let key = arg.get_long().filter(|key| !matches!(*key, "help" | "version"))?;
    let make = |values: Vec<String>, origin: String| {
        Some(Row { command: command.map(str::to_owned), key: key.to_owned(), values, origin })
    };
    let variable = arg.get_env().and_then(|name| Some((name, std::env::var_os(name)?)));
    if let Some((name, value)) = variable {
        return make(vec![value.to_string_lossy().into_owned()], format!("environment, {}", name.to_string_lossy()));
    }
    let path = profile.path.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
    if let Some(setting) = profile.setting(command, key) {
        return make(setting.values.clone(), format!("profile, {path}:{}", setting.line));
    }
    let defaults: Vec<String> = arg.get_default_values().iter().map(|v| v.to_string_lossy().into_owned()).collect();
    let is_flag = matches!(arg.get_action(), ArgAction::SetTrue);
    if !defaults.is_empty() && (with_unset || !is_flag) {
        return make(defaults, "built in".to_owned());
    }
    if with_unset { make(Vec::new(), "not set".to_owned()) } else { None }
}

fn explicit(arg: &clap::Arg, matches: &ArgMatches) -> String {
    match (matches.value_source(arg.get_id().as_str()), arg.get_env()) {
        (Some(clap::parser::ValueSource::EnvVariable), Some(name)) => {
            format!("environment, {}", name.to_string_lossy())
        }
        _ => "command line".to_owned(),
    }
}

fn show(rows: &[Row], profile: &Profile, output: &Output) -> Result<Code> {
    let mut table = Table::new();
    table.load_preset(NOTHING);
    for row in rows {
        // A password is nobody's business, whoever asks.
        let shown: Vec<String> = row.values.iter().map(|value| concealed(value)).collect();
        let name = row.command.as_ref().map_or_else(|| row.key.clone(), |command| format!("{command}.{}", row.key));
        table.add_row([name, if shown.is_empty() { "-".to_owned() } else { shown.join(", ") }, row.origin.clone()]);
        let fields = json!({"command": row.command, "key": row.key, "values": shown, "origin": row.origin});
        output.message("setting", fields)?;
    }
    let mut text = match (&profile.path, profile::folder()) {
        (Some(path), _) => format!("Profile: {}", path.display()),
        (None, Some(folder)) => format!("Profile: none ({} would be read)", folder.join("default.toml").display()),
        (None, None) => "Profile: none".to_owned(),
    };
    for (name, line) in profile.hooks.lines() {
        let _ = write!(text, "\nHook {name}: {line}");
        output.message("hook", json!({"name": name, "line": line}))?;
    }
    output.message("profile", json!({"path": profile.path}))?;
    output.say(&text)?;
    output.result(&table.trim_fmt())?;
    Ok(Code::Done)
}

/// Returns a value without the password that it may hold.
fn concealed(value: &str) -> String {
    if has_password(value) { "(with a password, not shown)".to_owned() } else { value.to_owned() }
}
