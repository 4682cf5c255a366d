//! What a migration says of itself.

use anyhow::Result;
use metastash::ops::migrate::{Migration, MigrationReport, Verification};
use metastash::platform::kylin::doctor::{Fault, Rule};
use metastash::platform::kylin::migrate::{Choice, Contested, Difference, Imbalance, UNMIGRATED};
use serde_json::{Value, json};

use super::places::Destination;
use crate::cli::backup::as_fields;
use crate::cli::exit::Code;
use crate::cli::output::{Output, bytes, count, path_fields};

/// Shows what a migration did, or would do where there is no destination.
pub(super) fn migration(migration: &Migration, destination: Option<&Destination>, output: &Output) -> Result<Code> {
    details(migration, destination, output)?;
    Summary::of(migration, destination)?.show(output)
}

/// Shows what somebody should know of the documents.
pub(super) fn details(migration: &Migration, destination: Option<&Destination>, output: &Output) -> Result<()> {
    let report = &migration.report;
    lines(report, output)?;
    report.choices.iter().try_for_each(|choice| show_choice(choice, output))?;
    report.faults.iter().try_for_each(|fault| show_fault(fault, output))?;
    report.imbalances.iter().try_for_each(|imbalance| show_imbalance(imbalance, output))?;
    for (rule, projects) in &report.account.dropped {
        let documents: u64 = projects.values().sum();
        output.say(&format!("dropped as {rule}: {}", count(documents, "document")))?;
    }
    let differences: Vec<String> =
        report.account.remarks.iter().map(|(difference, number)| format!("{difference} {number}")).collect();
    if !differences.is_empty() {
        output.say(&format!("remarks (`--verbose` shows them): {}", differences.join(", ")))?;
    }
    advice(report, destination, output)
}

/// What is said of a migration when it is done.
pub(super) struct Summary {
    line: String,
    fields: Value,
    code: Code,
}

impl Summary {
    pub(super) fn of(migration: &Migration, destination: Option<&Destination>) -> Result<Self> {
        let report = &migration.report;
        let (documents, size) = migration.totals();
        let to = match destination {
            None => None,
            Some(Destination::Files(path)) => Some(path.display().to_string()),
            Some(Destination::Snapshot { .. }) => Some("a snapshot".to_owned()),
        };
        let head = match &to {
            None => format!("would migrate {} of {}", count(report.documents, "document"), report.source),
            Some(to) => format!("migrated {} of {} to {to}", count(report.documents, "document"), report.source),
        };
        let dropped: u64 = report.account.dropped.values().flat_map(|projects| projects.values()).sum();
        let line = format!(
            "{head}: {}, {}; {dropped} dropped, {} broken, {} unknown, {} unread; {}, {}",
            count(documents, "new document"),
            bytes(size),
            report.account.broken,
            report.account.unknown,
            report.unread.len(),
            count(report.errors(), "error"),
            count(report.warnings(), "warning"),
        );
        let mut fields = as_fields(serde_json::to_value(&report.account)?);
        fields.extend(as_fields(json!({
            "source": report.source,
            "destination": to,
            "documents": report.documents,
            "bytes": report.bytes,
            "new_documents": documents,
            "new_bytes": size,
            "unread": report.unread.len(),
            "choices": report.choices.len(),
            "imbalances": report.imbalances.len(),
            "errors": report.errors(),
            "warnings": report.warnings(),
        })));
        let code = if report.has_problems() { Code::Unread } else { Code::Done };
        Ok(Self { line, fields: fields.into(), code })
    }

    pub(super) fn show(self, output: &Output) -> Result<Code> {
        output.say(&self.line)?;
        output.message("migrate_summary", self.fields)?;
        Ok(self.code)
    }
}

/// Shows what became of each document; for people only what somebody should look at, unless they ask for all.
fn lines(report: &MigrationReport, output: &Output) -> Result<()> {
    report.kept.iter().try_for_each(|(name, what)| output.result(&format!("{name}: {what}")))?;
    let shown = report.lines(|line| {
        let show = || -> std::io::Result<()> {
            let text = format!("{}: {}", line.name, line.text);
            // What was computed otherwise is in the result no more.
            if loses_text(&line.fields) {
                output.result(&text)?;
            } else {
                output.detail(&text)?;
            }
            if output.is_json() {
                let mut fields = path_fields(&line.name);
                fields.extend(as_fields(line.fields));
                output.message("migrated_document", Value::Object(fields))?;
            }
            Ok(())
        };
        show().map_err(metastash::ops::Error::Output)
    });
    Ok(shown?)
}

/// Tells whether something that a document says is not in the result.
fn loses_text(fields: &Value) -> bool {
    let remarks = fields["remarks"].as_array().map_or(&[][..], Vec::as_slice);
    remarks.iter().any(|remark| remark["difference"] == Difference::ColumnText.name())
}

fn show_choice(choice: &Choice, output: &Output) -> Result<()> {
    let what = match choice.of {
        Contested::Model => "model",
        Contested::Segment => "segment",
        Contested::Table => "uuid",
    };
    let place = |project: &str, within: &Option<String>| match within {
        Some(within) => format!("{project}/{within}"),
        None => project.to_owned(),
    };
    let renamed: Vec<String> = choice
        .renamed
        .iter()
        .map(|claim| format!("that of {} is now {}", place(&claim.project, &claim.within), claim.id))
        .collect();
    output.result(&format!(
        "{what} {} is in several places: {} keeps it, {}",
        choice.id,
        place(&choice.kept.project, &choice.kept.within),
        renamed.join(", ")
    ))?;
    for moved in choice.renamed.iter().flat_map(|claim| &claim.moves) {
        output.result(&format!("  move {} to {}, below Kylin's working directory", moved.from, moved.to))?;
    }
    output.message("id_choice", serde_json::to_value(choice)?)?;
    Ok(())
}

fn show_fault(fault: &Fault, output: &Output) -> Result<()> {
    let is_error = fault.rule.is_hard();
    let severity = if is_error { "error" } else { "warning" };
    let line = format!("{severity} {} {}: {}", fault.rule.as_str(), fault.path, fault.detail);
    if is_error {
        output.result(&line)?;
    } else {
        output.detail(&line)?;
    }
    if output.is_json() {
        let mut fields = path_fields(&fault.path);
        fields.extend(as_fields(json!({
            "severity": severity,
            "rule": fault.rule.as_str(),
            "description": fault.rule.description(),
            "project": fault.project,
            "detail": fault.detail,
        })));
        output.message("fault", fields.into())?;
    }
    Ok(())
}

fn show_imbalance(imbalance: &Imbalance, output: &Output) -> Result<()> {
    let of = if imbalance.project.is_empty() { String::new() } else { format!(" of project {}", imbalance.project) };
    output.result(&format!(
        "does not add up: {}{of}: {} by the source, {} in the result",
        imbalance.what, imbalance.expected, imbalance.found
    ))?;
    output.message("imbalance", serde_json::to_value(imbalance)?)?;
    Ok(())
}

/// Says what is to be done before Kylin sees the result.
fn advice(report: &MigrationReport, destination: Option<&Destination>, output: &Output) -> Result<()> {
    if !report.kept.is_empty() {
        let documents = count(report.kept.len() as u64, "document");
        let kept = match destination {
            Some(Destination::Files(path)) => format!(
                "{}: move that elsewhere before Kylin reads the rest, which it refuses to beside it",
                path.join(UNMIGRATED).display()
            ),
            _ => format!(
                "{UNMIGRATED}: a database has no place for that; from a folder move it elsewhere before Kylin reads the rest, \
                 which it refuses to beside it"
            ),
        };
        output.say(&format!("{documents} not migrated, but kept in {kept}"))?;
    }
    if report.faults.iter().any(|fault| fault.rule == Rule::DuplicateUuid) {
        output.say("a database refuses documents of a type with one `uuid`: `--fresh-uuids` gives tables and the like new ones")?;
    }
    Ok(())
}

/// Shows what checking an earlier migration found.
pub(super) fn verification(verification: &Verification, location: &str, output: &Output) -> Result<Code> {
    for deviation in &verification.deviations {
        output.result(&format!("{} {}", deviation.kind.as_str(), deviation.name))?;
        output.message("deviation", json!({"kind": deviation.kind, "path": deviation.name}))?;
    }
    verification.faults.iter().try_for_each(|fault| show_fault(fault, output))?;
    verification.imbalances.iter().try_for_each(|imbalance| show_imbalance(imbalance, output))?;
    let of = |kind| verification.deviations.iter().filter(|deviation| deviation.kind.as_str() == kind).count();
    let errors = verification.faults.iter().filter(|fault| fault.rule.is_hard()).count() as u64;
    let warnings = verification.faults.len() as u64 - errors;
    let source = &verification.report.source;
    output.say(&format!(
        "{location} compared with a migration of {source}: {}, {} missing, {} different, {} surplus; {}, {}",
        count(verification.documents, "document"),
        of("missing"),
        of("different"),
        of("surplus"),
        count(errors, "error"),
        count(warnings, "warning"),
    ))?;
    output.message(
        "verify_summary",
        json!({
            "source": source,
            "result": location,
            "documents": verification.documents,
            "missing": of("missing"),
            "different": of("different"),
            "surplus": of("surplus"),
            "imbalances": verification.imbalances.len(),
            "errors": errors,
            "warnings": warnings,
            "unread": verification.unread.len(),
        }),
    )?;
    Ok(match () {
        () if verification.has_findings() => Code::Different,
        () if !verification.report.unread.is_empty() => Code::Unread,
        () => Code::Done,
    })
}
