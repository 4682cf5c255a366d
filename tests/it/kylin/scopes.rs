//! What is limited to a project when it is only looked at.

use std::collections::BTreeSet;

use metastash::model::scope::Scope;
use metastash::monitor::Silent;
use metastash::ops::Error;
use metastash::ops::browse::list;
use metastash::ops::diff::{Change, diff_live, diff_snapshots};
use metastash::platform::kylin::layout::Layout;

use super::{at, back_up, cases, copy, files, names_of, put, remove};
use crate::support::{create, project, scratch, settle};

#[test]
fn ls_and_diff_of_a_project_show_that_project_only() {
    for case in cases() {
        let (scratch, (_, repo)) = (scratch(), create());
        let root = copy(&case.source, &scratch.path().join("store"));
        let before = back_up(&root, &repo).snapshot;
        let layout: Layout = before.manifest.layout.parse().unwrap();
        let own: BTreeSet<String> = names_of(&files(&root), case.one).into_iter().collect();
        let (one, other) = (project(case.one), project(case.other));

        let mut listed = BTreeSet::new();
        list(&repo, &before, &one, None, |entry| {
            listed.insert(layout.name_of(&entry.path).unwrap().to_string());
            Ok(())
        })
        .unwrap();
        assert_eq!(listed, own);

        let of_other = names_of(&files(&root), case.other);
        let (changed, gone) = (own.first().unwrap(), own.last().unwrap());
        put(&root, changed, [&files(&root)[changed].0, &b"\n"[..]].concat());
        remove(&root, gone);
        remove(&root, of_other.last().unwrap());
        put(&root, "stray.txt", b"of nobody");
        settle();
        let mut found = Vec::new();
        let report = diff_live(&repo, &before, &*at(&root), &one, &Silent, |change| {
            found.push((layout.name_of(&change.path).unwrap().to_string(), change.change));
            Ok(())
        })
        .unwrap();
        found.sort_by(|a, b| a.0.cmp(&b.0));
        let expected = [(changed.clone(), Change::Changed), (gone.clone(), Change::Removed)];
        assert_eq!(found, expected);
        assert_eq!((report.changed, report.removed, report.added, report.problems), (1, 1, 0, 0));

        let after = back_up(&root, &repo).snapshot;
        let count = |scope: &Scope| diff_snapshots(&repo, &before, &after, scope, |_| Ok(())).unwrap();
        assert_eq!((count(&one).changed, count(&one).removed, count(&one).added), (1, 1, 0));
        assert_eq!((count(&other).changed, count(&other).removed, count(&other).added), (0, 1, 0));
        assert_eq!((count(&Scope::System).changed, count(&Scope::System).removed), (1, 2));
        assert_eq!(count(&Scope::System).added, 1);
        let missing = diff_live(&repo, &before, &*at(&root), &project("no such"), &Silent, |_| Ok(()));
        assert!(matches!(missing, Err(Error::NotInSnapshot { .. })), "{missing:?}");
    }
}
