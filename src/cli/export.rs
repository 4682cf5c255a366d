//! `metastash export`

use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Args;
use metastash::endpoint::directory::DirectoryStore;
use metastash::endpoint::location::{Reading, has_zip_name, laid_out, open_target};
use metastash::endpoint::tar::{Packing, TarOutput, TarStore};
use metastash::endpoint::{Files, PLAIN, Target};
use metastash::model::scope::Scope;
use metastash::ops::export::{ExportReport, export};
use metastash::platform::kylin::detect::ZIP_NAME;
use metastash::platform::kylin::layout::{CORE_FOLDER, Layout, Level};
use metastash::repo::snapshot::{Reference, Snapshot};
use serde_json::json;

use super::args::Global;
use super::at::AtArgs;
use super::exit::{Code, Refusal, Usage};
use super::output::{Output, bytes, count, short};
use super::progress::Progress;
use super::{at, open};

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// Snapshot: first digits of an id, a label, `latest` or `latest~N`; with --at, one of the store whose history is meant
    // With --at alone what comes first is DEST: `place` tells the two apart.
    #[arg(value_name = "SNAP", required_unless_present = "at")]
    first: Option<PathBuf>,
    /// Where to write it; must not exist yet. `-` is standard output, for a tar
    #[arg(value_name = "DEST", required_unless_present = "at")]
    second: Option<PathBuf>,
    #[command(flatten)]
    pub at: AtArgs,
    /// Files in folders; a zip: DEST itself if its name ends in .zip, else one in the folder DEST; or a tar [default: what
    /// the name of DEST ends in, .zip, .tar or .tar.zst, else dir]
    #[arg(long, value_enum)]
    pub format: Option<ExportFormat>,
    /// This project only
    #[arg(long, value_name = "NAME", value_parser = Scope::project)]
    pub project: Option<Scope>,
}

impl ExportArgs {
    /// Returns the snapshot, if one is named, and the place to write to.
    pub(crate) fn place(&self) -> Result<(Option<Reference>, &Path), Usage> {
        let (snapshot, destination) = match (&self.first, &self.second) {
            (Some(first), Some(second)) => (Some(first), second),
            (Some(first), None) if self.at.at.is_some() => (None, first),
            _ => return Err(Usage("the place to write to is missing".to_owned())),
        };
        let snapshot = snapshot.map(|name| name.to_string_lossy().parse().map_err(Usage)).transpose()?;
        Ok((snapshot, destination))
    }
}

/// How an export is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ExportFormat {
    /// Files in folders
    Dir,
    /// A zip
    Zip,
    /// A tar
    Tar,
    /// A tar, compressed with zstd
    #[value(name = "tar.zst")]
    TarZst,
}

/// What stands for standard output.
const STDOUT: &str = "-";

pub(crate) fn run(args: &ExportArgs, global: &Global, output: &Output, progress: &Progress<'_>) -> Result<Code> {
    let (_, path) = args.place()?;
    if path != Path::new(STDOUT) {
        return export_to(args, global, output, progress);
    }
    let output = Output::on_stderr(global);
    let result = export_to(args, global, &output, progress);
    let finished = output.finish();
    result.and_then(|code| finished.map(|()| code))
}

fn export_to(args: &ExportArgs, global: &Global, output: &Output, progress: &Progress<'_>) -> Result<Code> {
    let began = Instant::now();
    let (named, path) = args.place()?;
    let format = args.format.unwrap_or_else(|| ExportFormat::of_name(path));
    if path == Path::new(STDOUT) {
        refuse_stdout(format)?;
    }
    let repo = open::repository(global)?;
    let (snapshot, is_partial) =
        at::named_or_at(&repo, named.as_ref(), &args.at, args.project.as_ref(), global, output, progress)?;
    let scope = args.project.clone().unwrap_or_else(|| snapshot.manifest.scope.clone());
    let destination = Destination::new(path, format, &snapshot)?;
    let targets: Vec<&dyn Target> = destination.targets.iter().map(|target| &**target).collect();
    let report = export(&repo, &snapshot, &scope, &targets, progress)?;
    destination.finish()?;
    progress.clear();
    let code = show(&report, &snapshot, &scope, path, began.elapsed().as_secs_f64(), output)?;
    Ok(if is_partial { Code::Unread } else { code })
}

impl ExportFormat {
    fn of_name(path: &Path) -> Self {
        match Packing::of_name(path) {
            Some(Packing::Plain) => Self::Tar,
            Some(Packing::Zstd) => Self::TarZst,
            None if has_zip_name(path) => Self::Zip,
            None => Self::Dir,
        }
    }

    fn packing(self) -> Option<Packing> {
        match self {
            Self::Tar => Some(Packing::Plain),
            Self::TarZst => Some(Packing::Zstd),
            Self::Dir | Self::Zip => None,
        }
    }
}

/// Refuses to write to standard output what can't go there.
fn refuse_stdout(format: ExportFormat) -> Result<()> {
    if format.packing().is_none() {
        let message = "only a tar can be written to standard output: name a place, or say `--format tar` or `tar.zst`";
        return Err(Usage(message.to_owned()).into());
    }
    if io::stdout().is_terminal() {
        return Err(Usage("standard output is a terminal, and a tar is nothing to look at".to_owned()).into());
    }
    Ok(())
}

fn open_tar_target(path: &Path, packing: Packing) -> Result<Box<dyn Files>> {
    if path != Path::new(STDOUT) {
        refuse_existing(path)?;
        return Ok(Box::new(TarStore::open_target(path, packing)?));
    }
    // As a file of its own: what others say on standard output does not wait in the same buffer.
    let stdout = io::stdout().as_fd().try_clone_to_owned().context("cannot write to standard output")?;
    Ok(Box::new(TarOutput::new(Box::new(std::fs::File::from(stdout)), "standard output", packing)))
}

/// Where an export goes.
struct Destination<'a> {
    path: &'a Path,
    /// A folder beside it that becomes it, when it is made of several parts.
    aside: Option<tempfile::TempDir>,
    targets: Vec<Box<dyn Target>>,
}

impl<'a> Destination<'a> {
    fn new(path: &'a Path, format: ExportFormat, snapshot: &Snapshot) -> Result<Self> {
        let layout: Option<Layout> = match snapshot.manifest.layout.as_str() {
            PLAIN => None,
            name => Some(name.parse()?),
        };
        let reading = |layout: Option<Layout>| layout.map_or(Reading::Plain, Reading::Kylin);
        // Kylin's restore looks for documents in `core_meta`, whatever the snapshot was taken of.
        let folder = layout.map(|layout| if layout == Layout::Old { layout } else { Layout::New(Level::Folder) });
        let zipped = layout.map(|layout| if layout == Layout::Old { layout } else { Layout::New(Level::Core) });
        let open =
            |path: &Path, layout| Ok::<_, anyhow::Error>(open_target(path, reading(layout), name(layout))?.store);
        if let Some(packing) = format.packing() {
            let targets = vec![laid_out(open_tar_target(path, packing)?, folder)];
            return Ok(Self { path, aside: None, targets });
        }
        refuse_existing(path)?;
        if format == ExportFormat::Dir {
            let targets = vec![laid_out(Box::new(DirectoryStore::open_target(path)?), folder)];
            return Ok(Self { path, aside: None, targets });
        }
        if has_zip_name(path) {
            return Ok(Self { path, aside: None, targets: vec![open(path, zipped)?] });
        }
        let parent = parent_of(path);
        let aside = tempfile::Builder::new().prefix(".metastash-export-").tempdir_in(&parent);
        let aside = aside.with_context(|| format!("cannot write to {}", parent.display()))?;
        let mut targets = Vec::new();
        match folder {
            Some(layout @ Layout::New(_)) => {
                let core = aside.path().join("backup").join(CORE_FOLDER);
                std::fs::create_dir_all(&core).with_context(|| format!("cannot create {}", core.display()))?;
                targets.push(open(&core.join(ZIP_NAME), zipped)?);
                targets.push(open(&aside.path().join("beside"), Some(layout))?);
            }
            _ => {
                let folder = aside.path().join("backup");
                std::fs::create_dir(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
                targets.push(open(&folder.join(ZIP_NAME), zipped)?);
            }
        }
        Ok(Self { path, aside: Some(aside), targets })
    }

    /// Makes the whole visible at once.
    fn finish(&self) -> Result<()> {
        let Some(aside) = &self.aside else { return Ok(()) };
        let (backup, beside) = (aside.path().join("backup"), aside.path().join("beside"));
        let finish = || -> io::Result<()> {
            if beside.is_dir() {
                for folder in std::fs::read_dir(&beside)? {
                    let folder = folder?;
                    std::fs::rename(folder.path(), backup.join(folder.file_name()))?;
                }
            }
            std::fs::File::open(&backup)?.sync_all()?;
            std::fs::rename(&backup, self.path)?;
            std::fs::File::open(parent_of(self.path))?.sync_all()
        };
        finish().with_context(|| format!("cannot move the export to {}", self.path.display()))
    }
}

fn parent_of(path: &Path) -> PathBuf {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned()
}

fn name(layout: Option<Layout>) -> &'static str {
    layout.map_or(PLAIN, Layout::name)
}

fn refuse_existing(path: &Path) -> Result<()> {
    let is_empty = std::fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none());
    let parent = parent_of(path);
    if !parent.is_dir() {
        let message = format!("cannot write {}: there is no directory {}", path.display(), parent.display());
        return Err(Refusal { message, hint: "create it, or check the spelling".to_owned(), code: 1 }.into());
    }
    if is_empty || !path.exists() && !path.is_symlink() {
        return Ok(());
    }
    Err(Refusal {
        message: format!("{} exists already", path.display()),
        hint: "name a place that does not exist yet; nothing is ever overwritten by an export".to_owned(),
        code: 14,
    }
    .into())
}

fn show(
    report: &ExportReport,
    snapshot: &Snapshot,
    scope: &Scope,
    path: &Path,
    seconds: f64,
    output: &Output,
) -> Result<Code> {
    if let Some(first) = report.left_out.first() {
        output.result(&format!(
            "left out, since a zip has no place for it: {} ({first}{})",
            count(report.left_out.len() as u64, "document"),
            if report.left_out.len() > 1 { ", …" } else { "" }
        ))?;
    }
    let of = match scope {
        Scope::System => String::new(),
        project => format!(" of {project}"),
    };
    output.say(&format!(
        "exported {}{of} of snapshot {} to {}: {}, {seconds:.2} s",
        count(report.documents, "document"),
        short(&snapshot.id),
        if path == Path::new(STDOUT) { "standard output".to_owned() } else { path.display().to_string() },
        bytes(report.bytes),
    ))?;
    output.message(
        "export_summary",
        json!({
            "snapshot": snapshot.id.to_string(),
            "destination": path.display().to_string(),
            "layout": snapshot.manifest.layout,
            "project": scope.prefix().map(|name| String::from_utf8_lossy(name).into_owned()),
            "documents": report.documents,
            "bytes": report.bytes,
            "left_out": report.left_out.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "seconds": seconds,
        }),
    )?;
    Ok(if report.left_out.is_empty() { Code::Done } else { Code::Unread })
}
