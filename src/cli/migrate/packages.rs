//! A folder of zips, each a package of its own: each is migrated to a zip at the same place below DEST.
//!
//! Kylin imports a package only if its name ends in the MD5 of its bytes. Names that end so get the new one.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use md5::{Digest, Md5};
use metastash::endpoint::location::{Reading, has_zip_name, open_target};
use metastash::ops::migrate::{LAYOUT, plan};

use super::places::{self, Destination, Packages};
use super::show::Summary;
use super::{MigrateArgs, show};
use crate::cli::args::Global;
use crate::cli::exit::{Code, Refusal};
use crate::cli::output::Output;
use crate::cli::progress::Progress;

/// Hexadecimal digits of an MD5.
const DIGITS: usize = 32;

/// Migrates all packages. DEST appears when all of them are there, and what was done is said then.
pub(super) fn run(
    packages: &Packages,
    destination: Option<&Destination>,
    args: &MigrateArgs,
    global: &Global,
    output: &Output,
    progress: &Progress<'_>,
) -> Result<Code> {
    let target = match destination.filter(|_| !args.dry_run) {
        None => None,
        Some(Destination::Files(path)) if !has_zip_name(path) => Some((path, aside(path)?)),
        Some(_) => {
            let message =
                format!("{} holds several packages, each with metadata of its own", packages.folder.display());
            let hint = "name one of the zips, or a directory as DEST".to_owned();
            return Err(Refusal { message, hint, code: 14 }.into());
        }
    };
    let mut worst = tell_others(packages, args, output)?;
    let mut done = Vec::new();
    for name in &packages.names {
        let within = || format!("cannot migrate {}", packages.folder.join(name).display());
        let source = places::source(packages.folder.join(name).as_os_str(), global)?;
        let migration = source.with(|origin| plan(origin, &args.options(), progress)).with_context(within)?;
        let mut written = None;
        if let Some((path, aside)) = &target {
            let at = aside.path().join(name);
            let parent = at.parent().unwrap_or(aside.path());
            std::fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
            let target = open_target(&at, Reading::Kylin(LAYOUT), LAYOUT.name())?;
            migration.write(&*target.store, progress)?;
            let renamed = rename_by_digest(&at)?;
            written = Some(Destination::Files(path.join(renamed.strip_prefix(aside.path()).unwrap_or(&renamed))));
        }
        progress.clear();
        show::details(&migration, written.as_ref(), output)?;
        done.push(Summary::of(&migration, written.as_ref())?);
    }
    if let Some((path, aside)) = target {
        let finish = || -> std::io::Result<()> {
            use std::os::unix::fs::PermissionsExt;
            std::fs::set_permissions(aside.path(), std::fs::Permissions::from_mode(0o755))?;
            std::fs::File::open(aside.path())?.sync_all()?;
            std::fs::rename(aside.path(), path)
        };
        finish().with_context(|| format!("cannot move the result to {}", path.display()))?;
        // It has become DEST, which is not to be removed.
        let _ = aside.keep();
    }
    for summary in done {
        worst = worse(worst, summary.show(output)?);
    }
    Ok(worst)
}

/// Checks that each package has its result at the same place below `result`, and that there are no others.
pub(super) fn check(
    packages: &Packages,
    result: &Path,
    args: &MigrateArgs,
    global: &Global,
    output: &Output,
    progress: &Progress<'_>,
) -> Result<Code> {
    let mut worst = tell_others(packages, args, output)?;
    let mut made: BTreeSet<PathBuf> = Packages::below(result)?.names.into_iter().collect();
    let deviation = |kind: &str, name: &Path| -> Result<Code> {
        output.result(&format!("{kind} {}", name.display()))?;
        output.message("deviation", serde_json::json!({"kind": kind, "path": name.to_string_lossy()}))?;
        Ok(Code::Different)
    };
    let mut pairs = Vec::new();
    for name in &packages.names {
        let stem = without_digest(name);
        let like = |other: &&PathBuf| stem.is_some() && without_digest(other) == stem;
        match made.get(name).or_else(|| made.iter().find(like)).cloned() {
            Some(found) => {
                made.remove(&found);
                pairs.push((name, found));
            }
            None => worst = worse(worst, deviation("missing", name)?),
        }
    }
    for name in &made {
        worst = worse(worst, deviation("surplus", name)?);
    }
    for (name, found) in pairs {
        let source = places::source(packages.folder.join(name).as_os_str(), global)?;
        let made = places::source(result.join(found).as_os_str(), global)?;
        worst = worse(worst, super::check_one(&source, &made, args, output, progress)?);
    }
    Ok(worst)
}

/// Says what else than packages lies there.
fn tell_others(packages: &Packages, args: &MigrateArgs, output: &Output) -> Result<Code> {
    if args.strict && !packages.others.is_empty() {
        let message = format!("{} holds something else than zips", packages.folder.display());
        return Err(Refusal { message, hint: "take it away, or do without `--strict`".to_owned(), code: 14 }.into());
    }
    for name in &packages.others {
        output.result(&format!("{}: no zip, left out", name.display()))?;
        output.message("left_out", serde_json::json!({"path": name.to_string_lossy()}))?;
    }
    Ok(if packages.others.is_empty() { Code::Done } else { Code::Unread })
}

/// Returns the code that says more: differences before what could not be looked at.
fn worse(a: Code, b: Code) -> Code {
    [Code::Different, Code::Unread].into_iter().find(|code| a == *code || b == *code).unwrap_or(a)
}

/// Makes a folder beside the destination.
fn aside(path: &Path) -> Result<tempfile::TempDir> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let aside = tempfile::Builder::new().prefix(".metastash-migrate-").tempdir_in(parent);
    aside.with_context(|| format!("cannot write to {}", parent.display()))
}

/// Gives a zip whose name ends in an MD5 the name with its own.
fn rename_by_digest(path: &Path) -> Result<PathBuf> {
    let Some(stem) = path.file_name().and_then(|name| name.to_str()).and_then(stem_before_digest) else {
        return Ok(path.to_owned());
    };
    let digest = || -> std::io::Result<String> {
        let (mut hasher, mut file, mut piece) = (Md5::new(), std::fs::File::open(path)?, vec![0; 1 << 16]);
        loop {
            match file.read(&mut piece)? {
                0 => break,
                length => hasher.update(&piece[..length]),
            }
        }
        Ok(hasher.finalize().iter().map(|byte| format!("{byte:02X}")).collect())
    };
    let digest = digest().with_context(|| format!("cannot read {}", path.display()))?;
    let renamed = path.with_file_name(format!("{stem}_{digest}.zip"));
    std::fs::rename(path, &renamed).with_context(|| format!("cannot rename {}", path.display()))?;
    Ok(renamed)
}

/// Returns where a package lies, but for an MD5 that its name ends in.
fn without_digest(path: &Path) -> Option<PathBuf> {
    let stem = path.file_name().and_then(|name| name.to_str()).and_then(stem_before_digest)?;
    Some(path.with_file_name(stem))
}

fn stem_before_digest(name: &str) -> Option<&str> {
    let stem = name.strip_suffix(".zip")?;
    let (stem, digest) = stem.rsplit_once('_')?;
    (digest.len() == DIGITS && digest.bytes().all(|digit| digit.is_ascii_hexdigit())).then_some(stem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_digests_are_replaced() {
        let digits = "0123456789abcdefABCDEF0123456789";
        assert_eq!(stem_before_digest(&format!("a_b_{digits}.zip")), Some("a_b"));
        for other in ["a.zip".to_owned(), format!("a_{digits}"), format!("a_{digits}0.zip"), format!("a{digits}.zip")] {
            assert_eq!(stem_before_digest(&other), None, "{other}");
        }
    }
}
