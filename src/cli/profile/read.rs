//! What is in the file of a profile: each setting is tried as an argument of its command.

use std::path::Path;

use anyhow::Result;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, Command};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Profile, Setting, WITHOUT_SETTINGS, built, hooks, may_be_set, option};
use crate::cli::exit::Refusal;

/// A table or value, with where it is.
type Value<'a> = Spanned<DeValue<'a>>;

/// The text that is read.
struct Text<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Text<'_> {
    fn line(&self, offset: usize) -> usize {
        self.text.as_bytes()[..offset.min(self.text.len())].iter().filter(|byte| **byte == b'\n').count() + 1
    }

    fn refuse(&self, offset: usize, what: &str, hint: impl Into<String>) -> anyhow::Error {
        let message = format!("{}:{}: {what}", self.path.display(), self.line(offset));
        Refusal { message, hint: hint.into(), code: 2 }.into()
    }
}

/// Reads a profile.
///
/// # Errors
/// When any of it is not understood.
pub(super) fn read(path: &Path, text: &str, command: &Command) -> Result<Profile> {
    let source = Text { path, text };
    let root = DeTable::parse(text).map_err(|error| {
        let offset = error.span().map_or(0, |span| span.start);
        source.refuse(offset, error.message(), "a profile is TOML: see https://toml.io")
    })?;
    let command = built(command);
    let mut profile = Profile { path: Some(path.to_owned()), ..Profile::default() };
    for (name, value) in root.get_ref() {
        let offset = name.span().start;
        match (name.get_ref().as_ref(), value.get_ref()) {
            ("hooks", DeValue::Table(table)) => profile.hooks = read_hooks(&source, table)?,
            (name, DeValue::Table(table)) => {
                let inner = known_command(&source, &command, name, offset)?;
                for (key, value) in table {
                    let setting = read_setting(&source, inner, key, value)?;
                    try_out(&source, &command, name, &setting, key.span().start)?;
                    profile.settings.push(Setting { command: Some(name.to_owned()), ..setting });
                }
            }
            (key, _) => {
                let is_global = option(&command, key).is_some_and(Arg::is_global_set);
                if !is_global && command.get_subcommands().any(|inner| option(inner, key).is_some()) {
                    let hint =
                        "options of a command stand in its table, such as `[forget]`, before which nothing else is";
                    return Err(source.refuse(offset, &format!("`{key}` is an option of some commands only"), hint));
                }
                let setting = read_setting(&source, &command, name, value)?;
                try_out(&source, &command, "stats", &setting, offset)?;
                profile.settings.push(setting);
            }
        }
    }
    profile.settings.sort_by_key(|setting| setting.line);
    Ok(profile)
}

fn known_command<'c>(source: &Text<'_>, command: &'c Command, name: &str, offset: usize) -> Result<&'c Command> {
    match command.find_subcommand(name) {
        Some(inner) if !WITHOUT_SETTINGS.contains(&name) => Ok(inner),
        Some(_) => Err(source.refuse(offset, &format!("`{name}` takes no settings"), "leave that table out")),
        None => {
            let names = command.get_subcommands().map(Command::get_name);
            let names: Vec<&str> = names.filter(|name| !WITHOUT_SETTINGS.contains(name) && *name != "help").collect();
            let hint = format!("a table is `hooks` or one of the commands: {}", names.join(", "));
            Err(source.refuse(offset, &format!("there is no command `{name}`"), hint))
        }
    }
}

fn read_setting(
    source: &Text<'_>,
    command: &Command,
    key: &Spanned<std::borrow::Cow<'_, str>>,
    value: &Value<'_>,
) -> Result<Setting> {
    let (name, offset) = (key.get_ref().as_ref(), key.span().start);
    if !may_be_set(name) {
        let hint = "give it on the command line of the run that it is meant for";
        return Err(source.refuse(offset, &format!("`{name}` is nothing for a profile"), hint));
    }
    let is_flag = option(command, name).is_some_and(|arg| matches!(arg.get_action(), ArgAction::SetTrue));
    let is_list = option(command, name).is_some_and(|arg| matches!(arg.get_action(), ArgAction::Append));
    let one = |value: &Value<'_>| match value.get_ref() {
        DeValue::String(text) => Ok(text.to_string()),
        DeValue::Integer(number) if number.radix() == 10 => Ok(number.as_str().to_owned()),
        DeValue::Boolean(is_set) if is_flag => Ok(is_set.to_string()),
        _ => {
            let hint = "a value is text in quotes, a whole number, true or false, or a list of these in brackets";
            Err(source.refuse(value.span().start, &format!("`{name}` can't be set to this"), hint))
        }
    };
    if is_flag && !matches!(value.get_ref(), DeValue::Boolean(_)) {
        return Err(source.refuse(
            value.span().start,
            &format!("`{name}` is true or false"),
            "write it without quotes",
        ));
    }
    let values = match value.get_ref() {
        DeValue::Array(values) if is_list => values.iter().map(one).collect::<Result<_>>()?,
        _ => vec![one(value)?],
    };
    Ok(Setting { command: None, key: name.to_owned(), values, line: source.line(offset) })
}

/// Parses a setting as if it were an argument: who it comes from makes no difference to what is allowed.
fn try_out(source: &Text<'_>, command: &Command, name: &str, setting: &Setting, offset: usize) -> Result<()> {
    let is_flag = |value: &String| value == "true" || value == "false";
    let takes_none = command
        .find_subcommand(name)
        .and_then(|inner| option(inner, &setting.key))
        .is_some_and(|arg| matches!(arg.get_action(), ArgAction::SetTrue));
    let argument = |value: &String| match takes_none && is_flag(value) {
        true => format!("--{}", setting.key),
        false => format!("--{}={value}", setting.key),
    };
    let words = ["metastash".to_owned(), name.to_owned()].into_iter().chain(setting.values.iter().map(argument));
    let Err(error) = command.clone().try_get_matches_from(words) else { return Ok(()) };
    match error.kind() {
        // That all that the command needs is there, is seen when it is run.
        ErrorKind::MissingRequiredArgument | ErrorKind::ArgumentConflict | ErrorKind::MissingSubcommand => Ok(()),
        ErrorKind::UnknownArgument => {
            let hint = match error.get(ContextKind::SuggestedArg) {
                Some(ContextValue::String(similar)) => format!("is `{}` meant?", similar.trim_start_matches('-')),
                _ => format!("a key is the long name of an option: `metastash {name} --help` lists them"),
            };
            Err(source.refuse(offset, &format!("unknown key `{}`", setting.key), hint))
        }
        _ => {
            let text = error.to_string();
            let first = text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
            let hint = format!("`metastash {name} --help` says what it takes");
            Err(source.refuse(offset, &first, hint))
        }
    }
}

fn read_hooks(source: &Text<'_>, table: &DeTable<'_>) -> Result<hooks::Hooks> {
    let mut hooks = hooks::Hooks::default();
    for (key, value) in table {
        let place = match key.get_ref().as_ref() {
            "before" => &mut hooks.before,
            "after" => &mut hooks.after,
            "on-failure" => &mut hooks.on_failure,
            other => {
                let hint = "there are `before`, `after` and `on-failure`";
                return Err(source.refuse(key.span().start, &format!("unknown hook `{other}`"), hint));
            }
        };
        match value.get_ref() {
            DeValue::String(line) if !line.trim().is_empty() => *place = Some(line.to_string()),
            _ => {
                let hint = "it is a command line for `sh`, in quotes";
                return Err(source.refuse(
                    value.span().start,
                    &format!("`{}` can't be set to this", key.get_ref()),
                    hint,
                ));
            }
        }
    }
    Ok(hooks)
}
