//! Progress bars, problems as they occur, and signals.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use metastash::monitor::{Monitor, Problem, Severity, Task};
use serde_json::json;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use super::args::Global;

/// The first signal asks the operation to stop where that is safe; a second one ends the program at once. Where nothing
/// needs to be stopped safely, the first one does.
pub(crate) struct Signals {
    is_caught: Arc<AtomicBool>,
    number: Arc<AtomicUsize>,
}

impl Signals {
    pub(crate) fn catch(stops_safely: bool) -> io::Result<Self> {
        let signals = Self { is_caught: Arc::default(), number: Arc::default() };
        let ends_at_once = if stops_safely { Arc::clone(&signals.is_caught) } else { Arc::new(AtomicBool::new(true)) };
        for signal in [SIGINT, SIGTERM] {
            flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&ends_at_once))?;
            flag::register(signal, Arc::clone(&signals.is_caught))?;
            flag::register_usize(signal, Arc::clone(&signals.number), usize::try_from(signal).unwrap_or(0))?;
        }
        Ok(signals)
    }

    /// Returns the signal that was caught last, if any.
    pub(crate) fn caught(&self) -> Option<i32> {
        let number = i32::try_from(self.number.load(Ordering::Relaxed)).unwrap_or(0);
        (number != 0).then_some(number)
    }
}

/// Draws a bar on a terminal and prints problems.
pub(crate) struct Progress<'a> {
    bar: ProgressBar,
    json: bool,
    signals: &'a Signals,
}

impl<'a> Progress<'a> {
    pub(crate) fn new(global: &Global, signals: &'a Signals) -> Self {
        let is_drawn = !global.json && !global.quiet && io::stderr().is_terminal();
        let target = if is_drawn { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(None, target);
        if is_drawn {
            bar.enable_steady_tick(Duration::from_millis(100));
        }
        Self { bar, json: global.json, signals }
    }

    /// Takes the bar away.
    pub(crate) fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

impl Monitor for Progress<'_> {
    fn start(&self, task: Task, total: Option<u64>) {
        if self.bar.is_hidden() {
            return;
        }
        let (words, unit) = match task {
            Task::Scan => ("listing", "{human_pos} entries"),
            Task::Store => ("storing", "{human_pos}/{human_len} documents"),
            Task::Read => ("reading", "{human_pos}/{human_len} documents"),
            Task::Compare => ("comparing", "{human_pos}/{human_len} documents"),
            Task::Search => ("searching", "{human_pos}/{human_len} documents"),
            Task::Write => ("writing", "{human_pos}/{human_len} documents"),
            Task::Collect => ("reading", "{human_pos}/{human_len} snapshots"),
            Task::Repack => ("repacking", "{binary_bytes}/{binary_total_bytes}"),
            Task::Copy => ("copying", "{binary_bytes}/{binary_total_bytes}"),
            Task::Remove => ("removing", "{human_pos}/{human_len} files"),
            Task::Verify => ("verifying", "{binary_bytes}/{binary_total_bytes}"),
        };
        let bar = if total.is_some() { " {bar:30} " } else { " " };
        let style = ProgressStyle::with_template(&format!("{{spinner}} {words}{bar}{unit} {{elapsed}}"));
        self.bar.set_style(style.expect("the template is one of those above"));
        self.bar.reset();
        match total {
            Some(total) => self.bar.set_length(total),
            None => self.bar.unset_length(),
        }
    }

    fn advance(&self, count: u64) {
        self.bar.inc(count);
    }

    fn problem(&self, problem: &Problem) {
        let word = match problem.severity {
            Severity::Remark => "remark",
            Severity::Skipped => "skipped",
            Severity::Unread => "unread",
        };
        // Problems go to standard error, where a person sees them and a pipe does not mix them with results.
        let line = if self.json {
            json!({"message_type": "problem", "severity": word, "path": problem.path, "message": problem.what})
                .to_string()
        } else {
            format!("{word}: {problem}")
        };
        self.bar.suspend(|| {
            let _ = writeln!(io::stderr(), "{line}");
        });
    }

    fn is_interrupted(&self) -> bool {
        self.signals.is_caught.load(Ordering::Relaxed)
    }
}
