//! Profiles: files of settings that hold where neither the command line nor the environment says otherwise.
//!
//! A setting is an option of a command, by its long name. What options there are, which values they take and which do not go
//! together is asked of the definition of the command line itself, so there is nothing to keep in step.

mod hooks;
mod read;

use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};

pub(crate) use hooks::Hooks;

use super::exit::{Refusal, Usage};

/// Name of the profile that is read when none is asked for.
const DEFAULT: &str = "default";

/// Commands that are asked for what they do once, and take no settings.
const WITHOUT_SETTINGS: [&str; 4] = ["metastore", "config", "completions", "man"];

/// Options that say yes to something, or what one run is about: a file must not say that for all runs to come.
const NOT_FOR_FILES: [&str; 17] = [
    "after-truncate",
    "at",
    "create-tables",
    "dry-run",
    "force",
    "forget-unreadable",
    "fresh-uuids",
    "help",
    "json",
    "label",
    "new-identity",
    "no-checkpoint",
    "profile",
    "rename-built",
    "salvage",
    "undo",
    "version",
];

/// A setting of a profile.
#[derive(Debug, Clone)]
pub(crate) struct Setting {
    /// The command that it is for, or all.
    pub command: Option<String>,
    /// The long name of the option.
    pub key: String,
    /// What it is set to: several values only of an option that can be repeated.
    pub values: Vec<String>,
    /// Where it is set.
    pub line: usize,
}

/// What a file says.
#[derive(Debug, Default)]
pub(crate) struct Profile {
    /// The file, if there is one.
    pub path: Option<PathBuf>,
    pub settings: Vec<Setting>,
    pub hooks: Hooks,
}

impl Profile {
    /// Reads the profile that the arguments, or the environment, ask for; the default one, if there is one, when they don't.
    ///
    /// # Errors
    /// When it is not there or wrong in any way.
    pub(crate) fn load(command: &Command, matches: &ArgMatches) -> Result<Self> {
        let name = matches.get_one::<String>("profile").map(String::as_str);
        if matches.subcommand_name().is_some_and(|name| WITHOUT_SETTINGS.contains(&name) && name != "config") {
            return match matches.value_source("profile") {
                Some(ValueSource::CommandLine) => {
                    let command = matches.subcommand_name().unwrap_or_default();
                    Err(Usage(format!("`{command}` takes no profile")).into())
                }
                _ => Ok(Self::default()),
            };
        }
        let path = match name {
            Some("") => return Ok(Self::default()),
            Some(path) if path.contains('/') => PathBuf::from(path),
            name => match folder() {
                Some(folder) => folder.join(format!("{}.toml", name.unwrap_or(DEFAULT))),
                None if name.is_none() => return Ok(Self::default()),
                None => return Err(Usage("neither XDG_CONFIG_HOME nor HOME says where profiles are".to_owned()).into()),
            },
        };
        // Who has no home may be given a file for one.
        let is_missing = |e: &std::io::Error| matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory);
        let text = match std::fs::read_to_string(&path) {
            Err(e) if is_missing(&e) && name.is_none() => return Ok(Self::default()),
            Err(e) if is_missing(&e) => {
                let hint = "`--profile NAME` means NAME.toml in that folder, a name with a `/` any file".to_owned();
                return Err(
                    Refusal { message: format!("there is no profile {}", path.display()), hint, code: 2 }.into()
                );
            }
            result => result.with_context(|| format!("cannot read the profile {}", path.display()))?,
        };
        let profile = read::read(&path, &text, command)?;
        profile.refuse_exposed(&path)?;
        Ok(profile)
    }

    /// Refuses a file that others could change to have commands run, or read to have a password.
    fn refuse_exposed(&self, path: &Path) -> Result<()> {
        let metadata =
            std::fs::metadata(path).with_context(|| format!("cannot read the profile {}", path.display()))?;
        let mode = metadata.permissions().mode();
        let refuse = |what: &str, hint: String| {
            Err(Refusal { message: format!("the profile {} {what}", path.display()), hint, code: 14 }.into())
        };
        let owner = metadata.uid();
        if !self.hooks.is_empty() && owner != 0 && owner != rustix::process::geteuid().as_raw() {
            return refuse("names commands to run, and is another user's", "name one of your own".to_owned());
        }
        if !self.hooks.is_empty() && mode & 0o002 != 0 {
            return refuse(
                "names commands to run, and anybody may write to it",
                format!("chmod o-w {}", path.display()),
            );
        }
        let has_password = self.settings.iter().flat_map(|setting| &setting.values).any(|value| has_password(value));
        if has_password && mode & 0o077 != 0 {
            let hint =
                format!("chmod 600 {}, or keep the password where the client of the database does", path.display());
            return refuse("holds a password, and may be read by others", hint);
        }
        Ok(())
    }

    /// Returns the command line with the settings for the command at hand as its defaults.
    pub(crate) fn apply(&self, mut command: Command, matches: &ArgMatches) -> Command {
        let Some((name, inner)) = matches.subcommand() else { return command };
        if WITHOUT_SETTINGS.contains(&name) && name != "config" {
            return command;
        }
        let built = built(&command);
        let Some(definition) = built.find_subcommand(name) else { return command };
        for setting in &self.settings {
            let Some(arg) = option(definition, &setting.key) else { continue };
            if is_contradicted(definition, arg, inner) {
                continue;
            }
            let (id, values) = (arg.get_id().clone(), setting.values.clone());
            match &setting.command {
                None => command = command.mut_arg(id, |arg| arg.default_values(values)),
                Some(of) if of == name => {
                    let set = |command: Command| command.mut_arg(id, |arg| arg.default_values(values));
                    command = command.mut_subcommand(of, set);
                }
                Some(_) => {}
            }
        }
        command
    }

    /// Returns the setting of an option of a command, or of all.
    pub(crate) fn setting(&self, command: Option<&str>, key: &str) -> Option<&Setting> {
        self.settings.iter().find(|setting| setting.key == key && setting.command.as_deref() == command)
    }
}

/// Tells whether a profile may set an option.
pub(crate) fn may_be_set(key: &str) -> bool {
    !key.starts_with("allow-") && !NOT_FOR_FILES.contains(&key)
}

/// Returns the definition of the command line in which what a profile can turn on can be turned off: `--switch=false`.
pub(crate) fn with_switches(command: Command) -> Command {
    let loosen = |arg: Arg| match arg.get_action() {
        ArgAction::SetTrue if arg.get_long().is_some_and(may_be_set) => arg
            .action(ArgAction::Set)
            .num_args(0..=1)
            .require_equals(true)
            .value_parser(clap::value_parser!(bool))
            .default_value("false")
            .default_missing_value("true"),
        _ => arg,
    };
    command.mut_args(loosen).mut_subcommands(|command| command.mut_args(loosen))
}

/// Returns the folder of profiles, if the environment tells.
pub(crate) fn folder() -> Option<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|value: &OsString| Path::new(value).is_absolute());
    let configuration = variable("XDG_CONFIG_HOME").map(PathBuf::from);
    let configuration = configuration.or_else(|| variable("HOME").map(|home| Path::new(&home).join(".config")));
    configuration.map(|folder| folder.join("metastash"))
}

/// Returns the definition of the command line with all that is common in each command.
pub(crate) fn built(command: &Command) -> Command {
    let mut built = command.clone();
    built.build();
    built
}

/// Returns the option of a command that has this long name.
pub(crate) fn option<'c>(command: &'c Command, key: &str) -> Option<&'c Arg> {
    command.get_arguments().find(|arg| arg.get_long() == Some(key))
}

/// Tells whether the user has set an option.
pub(crate) fn is_explicit(matches: &ArgMatches, id: &str) -> bool {
    matches!(matches.value_source(id), Some(ValueSource::CommandLine | ValueSource::EnvVariable))
}

/// Tells whether the user has set something that does not go together with an option: then the option is not meant.
fn is_contradicted(command: &Command, arg: &Arg, matches: &ArgMatches) -> bool {
    let conflicts = |one: &Arg, other: &Arg| {
        command.get_arg_conflicts_with(one).iter().any(|conflicting| conflicting.get_id() == other.get_id())
    };
    let mut explicit = command.get_arguments().filter(|other| is_explicit(matches, other.get_id().as_str()));
    explicit.any(|other| conflicts(arg, other) || conflicts(other, arg))
}

/// Tells whether a value is a url with a password, or one of Kylin's with one among its parameters.
pub(crate) fn has_password(value: &str) -> bool {
    let authority = value.split_once("://").map(|(_, rest)| rest.split(['/', '?']).next().unwrap_or_default());
    let in_authority =
        authority.and_then(|authority| authority.rsplit_once('@')).is_some_and(|(user, _)| user.contains(':'));
    in_authority || value.to_ascii_lowercase().contains("password=")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::cli::args::Cli;

    #[test]
    fn options_that_are_nothing_for_files_exist() {
        let command = built(&Cli::command());
        for key in NOT_FOR_FILES {
            let is_option = |inner: &Command| option(inner, key).is_some();
            assert!(is_option(&command) || command.get_subcommands().any(is_option), "{key}");
        }
        for name in WITHOUT_SETTINGS {
            assert!(command.find_subcommand(name).is_some(), "{name}");
        }
    }

    #[test]
    fn what_a_profile_may_set_was_weighed() {
        let command = Cli::command();
        let keys = |command: &Command| {
            let keys = command.get_arguments().filter_map(|arg| arg.get_long().filter(|key| may_be_set(key)));
            keys.collect::<Vec<_>>().join(" ")
        };
        let inner = command.get_subcommands().filter(|inner| !WITHOUT_SETTINGS.contains(&inner.get_name()));
        let found: Vec<String> = inner.map(|inner| format!("{}: {}", inner.get_name(), keys(inner))).collect();
        assert_eq!(keys(&command), "repo store layout quiet verbose");
        let rules = "keep-last keep-hourly keep-daily keep-weekly keep-monthly keep-yearly keep-within keep-tag";
        let expected = [
            "init: ".to_owned(),
            "backup: project tag skip-if-unchanged no-log verify".to_owned(),
            "snapshots: project tag forgotten".to_owned(),
            "ls: project long".to_owned(),
            "cat: ".to_owned(),
            "find: regex content pointer ignore-case snapshot all project exit-code".to_owned(),
            "log: ".to_owned(),
            "diff: project content noise no-noise exit-code".to_owned(),
            "restore: project keep-permissions kylin-url".to_owned(),
            "undo: kylin-url".to_owned(),
            "export: format project".to_owned(),
            "import: tag".to_owned(),
            "doctor: since project exit-code".to_owned(),
            "migrate: verify strict as-kylin skip-if-new tag".to_owned(),
            format!("watch: every jitter project tag keep-unchanged no-log verify runs {rules}"),
            format!("forget: this-store hold prune {rules}"),
            "prune: grace max-unused".to_owned(),
            "copy: all to".to_owned(),
            "check: read-data".to_owned(),
            "repair: ".to_owned(),
            "stats: ".to_owned(),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn password_in_a_url_is_seen() {
        for (value, expected) in [
            ("postgresql://user:secret@host/db", true),
            ("postgresql://user@host:5432/db", false),
            ("mysql://host/db?password=x", true),
            ("kylin_metadata@jdbc,url=jdbc:mysql://h/k,username=a,Password=b", true),
            ("/data/a:b@c", false),
            ("https://ADMIN:KYLIN@node:7070", true),
        ] {
            assert_eq!(has_password(value), expected, "{value}");
        }
    }
}
