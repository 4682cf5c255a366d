//! `metastash watch`

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Error, Result};
use clap::Args;
use jiff::SignedDuration;
use metastash::model::clock::unix_ms;
use metastash::model::scope::Scope;
use metastash::monitor::{Monitor, Problem, Task};
use metastash::ops::backup::{BackupOptions, BackupReport, backup};
use metastash::ops::forget::forget;
use metastash::ops::retention::{Policy, plan};
use metastash::platform::kylin;
use metastash::repo::Repository;
use metastash::{endpoint, ops};
use serde_json::{Value, json};

use super::args::Global;
use super::backup::{TrustArgs, refuse_repeated_tags, summary, summary_fields};
use super::exit::{self, Code, Refusal};
use super::forget::{KeepArgs, readable};
use super::output::{Output, count, local_time, utc_time};
use super::profile::Hooks;
use super::progress::Progress;
use super::schedule::{Moment, Schedule};
use super::values::{parse_interval, parse_percent, parse_tag};
use super::{open, store};

#[derive(Debug, Args)]
pub(crate) struct WatchArgs {
    /// How long it is from one run to the next: `5m`, `1h 30m`
    #[arg(long, value_name = "DURATION", value_parser = parse_interval, default_value = "5m")]
    pub every: Duration,
    /// Add up to so much of that, at random
    #[arg(long, value_name = "N%", value_parser = parse_percent, default_value = "10%")]
    pub jitter: u32,
    /// Back up this project only
    #[arg(long, value_name = "NAME", value_parser = Scope::project)]
    pub project: Option<Scope>,
    /// Add a key and value to the snapshots; may be repeated
    #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = parse_tag)]
    pub tags: Vec<(String, String)>,
    /// Write a snapshot each time, also when nothing changed since the last one
    #[arg(long)]
    pub keep_unchanged: bool,
    #[command(flatten)]
    pub trust: TrustArgs,
    /// End after so many runs, with the exit code of the last
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub runs: Option<u64>,
    #[command(flatten)]
    pub keep: KeepArgs,
}

/// What a run did that saved the store.
struct Saved {
    report: BackupReport,
    /// Where the repository is that it created, if it did.
    created: Option<String>,
    /// How many snapshots were forgotten by the rules, or why that went wrong.
    forgotten: Result<u64>,
}

/// Hooks are run with each backup that the rhythm asks for.
pub(crate) fn run(
    args: &WatchArgs,
    global: &Global,
    hooks: &Hooks,
    output: &Output,
    progress: &Progress<'_>,
) -> Result<Code> {
    refuse_repeated_tags(&args.tags)?;
    let policy = args.keep.policy();
    let mut schedule = Schedule::new(args.every, args.jitter);
    let mut told = Told::new(progress);
    let mut is_known = false;
    for number in 1.. {
        let began = Moment::now();
        let ran = hooks.around(
            "watch",
            |saved: &Saved| code_of(&saved.report).number(),
            || progress.is_interrupted(),
            || run_once(args, policy.as_ref(), global, &told, &mut is_known),
        );
        progress.clear();
        told.end_run(ran.is_ok());
        let error = match &ran {
            Ok(saved) => saved.forgotten.as_ref().err(),
            Err(error) => Some(error),
        };
        if error.is_some_and(exit::is_interruption) || number == 1 && ran.as_ref().is_err_and(is_hopeless) {
            return ran.and_then(|saved| saved.forgotten).map(|_| Code::Done);
        }
        // What the rules do not get done is no reason to back up less often.
        schedule.note(ran.is_ok());
        let pause = schedule.pause(getrandom::u32().context("cannot draw a random number")?);
        let is_last = args.runs == Some(number);
        let next = (!is_last).then(|| pause.saturating_sub(began.elapsed()));
        show(number, &ran, began.elapsed().as_secs_f64(), next, output)?;
        if is_last {
            let saved = ran?;
            return saved.forgotten.map(|_| code_of(&saved.report));
        }
        if !began.wait(pause, || progress.is_interrupted()) {
            break;
        }
    }
    // Nothing was interrupted: there was nothing to do.
    Ok(Code::Done)
}

/// Backs up, and forgets what no rule keeps. `is_known` says whether the repository was there before, so that one which
/// is gone is not made anew: its disk may come back.
fn run_once(
    args: &WatchArgs,
    policy: Option<&Policy>,
    global: &Global,
    monitor: &dyn Monitor,
    is_known: &mut bool,
) -> Result<Saved> {
    let store = store::source(global)?.store;
    let options = BackupOptions {
        scope: args.project.clone().unwrap_or(Scope::System),
        tags: args.tags.iter().cloned().collect(),
        skip_if_unchanged: !args.keep_unchanged,
        follow_log: !args.trust.no_log,
        verify_of: args.trust.verify,
        ..BackupOptions::new(open::author())
    };
    let (repo, planned_id) =
        if *is_known { (open::repository(global)?, None) } else { open::repository_or_new(global)? };
    *is_known |= planned_id.is_none();
    let report = backup(&*store, &repo, &options, monitor)?;
    *is_known = true;
    let created = (planned_id == Some(repo.config().id)).then(|| repo.location());
    let forgotten = policy.map_or(Ok(0), |policy| retain(&repo, policy, &store.location(), &options, monitor));
    Ok(Saved { report, created, forgotten })
}

/// Forgets what no rule keeps of the snapshots that stand for what is being watched.
fn retain(
    repo: &Repository,
    policy: &Policy,
    store: &str,
    options: &BackupOptions,
    monitor: &dyn Monitor,
) -> Result<u64> {
    let snapshots = readable(repo, |snapshot| {
        let manifest = &snapshot.manifest;
        manifest.store == store && manifest.host == options.author.host && manifest.scope == options.scope
    })?;
    Ok(forget(repo, &plan(&snapshots, policy), monitor)?)
}

/// Tells whether it is no use to try again: what was asked for is wrong. Only the first run is so judged; what went well
/// once may do so again.
fn is_hopeless(error: &Error) -> bool {
    let store = error.downcast_ref::<endpoint::Error>().or(match error.downcast_ref::<ops::Error>() {
        Some(ops::Error::Endpoint(error)) => Some(error),
        _ => None,
    });
    let is_other_store = store.is_some_and(|error| {
        matches!(
            error,
            endpoint::Error::NotADirectory { .. }
                | endpoint::Error::NoProject { .. }
                | endpoint::Error::MixedLayouts { .. }
                | endpoint::Error::ZipAndOthers { .. }
                | endpoint::Error::SeveralBackups { .. }
        )
    });
    let is_bad_url = error.is::<kylin::Error>();
    is_other_store || is_bad_url || error.is::<Refusal>() || matches!(exit::code_of(error), 2 | 10 | 17)
}

fn code_of(report: &BackupReport) -> Code {
    if report.counts.unread + report.counts.skipped == 0 { Code::Done } else { Code::Unread }
}

fn show(number: u64, ran: &Result<Saved>, seconds: f64, next: Option<Duration>, output: &Output) -> Result<()> {
    let now_ms = unix_ms(SystemTime::now());
    let time = local_time(now_ms);
    match ran {
        Ok(saved) => {
            if let Some(location) = &saved.created {
                output.say(&format!("{time}  created repository {location}"))?;
            }
            let line = format!("{time}  {}{}", summary(&saved.report, seconds), more(saved));
            if saved.forgotten.is_ok() { output.say(&line)? } else { output.result(&line)? }
        }
        Err(error) => {
            let next = next.map_or_else(String::new, |next| format!("; next try in {}", rounded(next)));
            output.result(&format!("{time}  failed: {}{next}", with_hint(error)))?;
        }
    }
    let next = next.map(|next| utc_time(unix_ms(SystemTime::now() + next)));
    output.message("watch_run", fields(number, &utc_time(now_ms), ran, seconds, next.as_deref()))?;
    output.finish()
}

/// Returns what is to be said besides the summary.
fn more(saved: &Saved) -> String {
    let mut more = String::new();
    let unread = saved.report.counts.unread;
    if unread > 0 {
        more.push_str(&format!("; incomplete: {} could not be read", count(unread, "name")));
    }
    match &saved.forgotten {
        Ok(0) => {}
        Ok(forgotten) => more.push_str(&format!("; forgot {}", count(*forgotten, "snapshot"))),
        Err(error) => more.push_str(&format!("; cannot forget what no rule keeps: {}", with_hint(error))),
    }
    more
}

fn with_hint(error: &Error) -> String {
    let hint = exit::hint_for(error).map_or_else(String::new, |hint| format!(" (hint: {hint})"));
    format!("{}{hint}", exit::in_one_line(error))
}

fn fields(number: u64, time: &str, ran: &Result<Saved>, seconds: f64, next: Option<&str>) -> Value {
    let (saved, error) = match ran {
        Ok(saved) => (Some(saved), saved.forgotten.as_ref().err()),
        Err(error) => (None, Some(error)),
    };
    let code = match (saved, error) {
        (_, Some(error)) => exit::code_of(error),
        (Some(saved), None) => code_of(&saved.report).number(),
        (None, None) => 0,
    };
    json!({
        "run": number,
        "time": time,
        "code": code,
        "message": error.map(exit::in_one_line),
        "hint": error.and_then(exit::hint_for),
        "backup": saved.map(|saved| summary_fields(&saved.report, seconds)),
        "created": saved.and_then(|saved| saved.created.as_deref()),
        "forgotten": saved.and_then(|saved| saved.forgotten.as_ref().ok()),
        "seconds": seconds,
        "next": next,
    })
}

/// Returns a duration for people, to the second.
fn rounded(duration: Duration) -> String {
    let secs = i64::try_from((duration + Duration::from_millis(500)).as_secs()).unwrap_or(i64::MAX);
    format!("{:#}", SignedDuration::from_secs(secs))
}

/// Tells each problem once as long as it lasts: what is odd about a store is so every five minutes.
struct Told<'a> {
    progress: &'a Progress<'a>,
    before: BTreeSet<String>,
    now: Mutex<BTreeSet<String>>,
}

impl<'a> Told<'a> {
    fn new(progress: &'a Progress<'a>) -> Self {
        Self { progress, before: BTreeSet::new(), now: Mutex::default() }
    }

    /// What a run that failed did not get to see may still be there.
    fn end_run(&mut self, is_whole: bool) {
        let mut now = std::mem::take(self.now.get_mut().unwrap_or_else(PoisonError::into_inner));
        if !is_whole {
            now.append(&mut self.before);
        }
        self.before = now;
    }
}

impl Monitor for Told<'_> {
    fn start(&self, task: Task, total: Option<u64>) {
        self.progress.start(task, total);
    }

    fn advance(&self, count: u64) {
        self.progress.advance(count);
    }

    fn problem(&self, problem: &Problem) {
        let line = format!("{:?} {problem}", problem.severity);
        if !self.before.contains(&line) {
            self.progress.problem(problem);
        }
        self.now.lock().unwrap_or_else(PoisonError::into_inner).insert(line);
    }

    fn is_interrupted(&self) -> bool {
        self.progress.is_interrupted()
    }
}
