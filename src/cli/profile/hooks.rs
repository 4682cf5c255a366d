//! Commands of the user's own that are run before and after a command, and when it failed.

use std::io;
use std::os::fd::AsFd;
use std::process::{Command, Stdio};

use anyhow::Result;
use metastash::ops;

use crate::cli::exit;

/// Set for hooks, so that a command that a hook runs has none itself.
const WITHIN: &str = "METASTASH_HOOK";

/// Commands that have hooks: those that take long enough, or change something.
const WITH_HOOKS: [&str; 11] =
    ["backup", "check", "copy", "export", "forget", "import", "migrate", "prune", "repair", "restore", "undo"];

/// Command lines for `sh`: what operators have at hand (`curl … || true`) works as in a shell.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hooks {
    pub before: Option<String>,
    pub after: Option<String>,
    pub on_failure: Option<String>,
}

/// A hook that failed.
#[derive(Debug, thiserror::Error)]
#[error("the hook `{name}` failed: {what}")]
struct Failed {
    name: &'static str,
    what: String,
}

impl Hooks {
    /// Tells whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.before.is_none() && self.after.is_none() && self.on_failure.is_none()
    }

    /// Returns the name and command line of each.
    pub(crate) fn lines(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let all = [("before", &self.before), ("after", &self.after), ("on-failure", &self.on_failure)];
        all.into_iter().filter_map(|(name, line)| Some((name, line.as_deref()?)))
    }

    /// Returns the hooks that a command has.
    pub(crate) fn of(&self, command: &str, is_dry: bool) -> Self {
        if WITH_HOOKS.contains(&command) && !is_dry { self.clone() } else { Self::default() }
    }

    /// Runs something with its hooks. `code_of` says by which exit code a run that came to its end is known; one above 9 is
    /// a failure. `is_interrupted` is asked when a hook was ended.
    pub(crate) fn around<T>(
        &self,
        command: &str,
        code_of: impl Fn(&T) -> u8,
        is_interrupted: impl Fn() -> bool,
        run: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        if self.is_empty() || std::env::var_os(WITHIN).is_some() {
            return run();
        }
        let hook = |name, line: &Option<String>, code: Option<u8>, message: &str| {
            let Some(line) = line else { return Ok(()) };
            let result = start(name, line, command, code, message);
            match result {
                Err(_) if is_interrupted() => Err(ops::Error::Interrupted.into()),
                result => result,
            }
        };
        let result = hook("before", &self.before, None, "").and_then(|()| run());
        let (code, message) = match &result {
            Ok(value) => (code_of(value), String::new()),
            Err(error) => (exit::code_of(error), exit::in_one_line(error)),
        };
        if result.is_ok() && code < 10 {
            hook("after", &self.after, Some(code), "")?;
        } else if let Err(error) = hook("on-failure", &self.on_failure, Some(code), &message) {
            // What failed first is what the user is to see.
            eprintln!("warning: {}", exit::in_one_line(&error));
        }
        result
    }
}

fn start(name: &'static str, line: &str, command: &str, code: Option<u8>, message: &str) -> Result<()> {
    let failed = |what: String| Failed { name, what };
    // Standard output is for what the command prints.
    let output = io::stderr().as_fd().try_clone_to_owned().map_err(|e| failed(e.to_string()))?;
    let mut shell = Command::new("sh");
    shell.args(["-c", line]).stdin(Stdio::null()).stdout(output).env(WITHIN, name).env("METASTASH_COMMAND", command);
    if let Some(code) = code {
        shell.env("METASTASH_EXIT_CODE", code.to_string()).env("METASTASH_ERROR", message);
    }
    let status = shell.status().map_err(|e| failed(format!("sh can't be run: {e}")))?;
    if status.success() { Ok(()) } else { Err(failed(status.to_string()).into()) }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::cli::args::Cli;

    #[test]
    fn commands_with_hooks_exist() {
        let command = Cli::command();
        for name in WITH_HOOKS {
            assert!(command.find_subcommand(name).is_some(), "{name}");
        }
    }
}
