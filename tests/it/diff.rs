//! What is told of the contents of documents that differ.

use std::collections::BTreeMap;
use std::fs;

use metastash::endpoint::{self, PLAIN};
use metastash::model::scope::Scope;
use metastash::monitor::{Recorder, Silent};
use metastash::ops;
use metastash::ops::backup::backup;
use metastash::ops::diff::{Change, Changed, Detail, Noise, diff_live_contents, diff_snapshots_contents};

use crate::support::{Fickle, back_up, below, chmod, create, failed, failed_for_good, options, scratch, settle, write};

#[test]
fn live_document_that_is_another_or_fails_when_it_is_read_again_is_told_and_counted() {
    let fickle = |readings: Vec<endpoint::Result<&'static str>>| Fickle::new(PLAIN, "p/a", readings);
    let (_, repo) = create();
    let before = backup(&fickle(vec![Ok(r#"{"a":1}"#)]), &repo, &options(), &Silent).unwrap().snapshot;
    let told = |again| -> ops::Result<_> {
        let (recorder, mut details) = (Recorder::default(), Vec::new());
        let live = fickle(vec![Ok(r#"{"a":2}"#), again]);
        let take = |_: Changed, detail: Option<Detail>| {
            details.extend(detail);
            Ok(())
        };
        let report = diff_live_contents(&repo, &before, &live, &Scope::System, &Noise::none(), &recorder, take)?;
        let problems: Vec<String> = recorder.problems().iter().map(ToString::to_string).collect();
        assert_eq!((report.changed, report.problems), (1, problems.len() as u64));
        Ok((details, problems))
    };
    let (details, problems) = told(Ok(r#"{"a":2}"#)).unwrap();
    assert!(matches!(details[..], [Detail::Json(_)]) && problems.is_empty(), "{details:?} {problems:?}");
    for (again, what) in [
        (Ok(r#"{"a":3}"#), "p/a: it changed while it was compared"),
        (Err(failed()), "p/a: cannot read it: failed by the test"),
    ] {
        assert_eq!(told(again).unwrap(), (vec![Detail::Unread], vec![what.to_owned()]));
    }
    assert!(matches!(told(Err(failed_for_good())), Err(ops::Error::Endpoint(_))));
}

#[test]
fn only_documents_with_other_content_that_are_not_too_large_are_compared() {
    let (scratch, (_, repo)) = (scratch(), create());
    let (root, large) = (scratch.path(), vec![b'x'; (32 << 20) + 1]);
    for (name, content) in
        [("grows", &b"x"[..]), ("shrinks", &large), ("turns", b"x"), ("mode", b"x"), ("text", b"x\n")]
    {
        write(root, format!("p/{name}"), content);
    }
    settle();
    let before = back_up(root, &repo).snapshot;
    write(root, "p/grows", &large);
    write(root, "p/shrinks", b"x");
    fs::remove_file(below(root, "p/turns")).unwrap();
    write(root, "p/turns/within", b"x");
    chmod(&below(root, "p/mode"), 0o600);
    write(root, "p/text", b"y\n");
    settle();
    let after = back_up(root, &repo).snapshot;
    let mut found = BTreeMap::new();
    let take = |changed: Changed, detail| {
        found.insert(changed.path.to_string(), (changed.change, detail));
        Ok(())
    };
    diff_snapshots_contents(&repo, &before, &after, &Scope::System, &Noise::none(), &Silent, take).unwrap();
    let lines = "--- a/p/text\n+++ b/p/text\n@@ -1 +1 @@\n-x\n+y\n".to_owned();
    let expected = [
        ("p/grows", Change::Changed, Some(Detail::TooLarge)),
        ("p/mode", Change::Mode, None),
        ("p/shrinks", Change::Changed, Some(Detail::TooLarge)),
        ("p/text", Change::Changed, Some(Detail::Text(lines))),
        ("p/turns", Change::Changed, None),
        ("p/turns/within", Change::Added, None),
    ];
    let expected: BTreeMap<_, _> =
        expected.into_iter().map(|(path, change, detail)| (path.to_owned(), (change, detail))).collect();
    assert_eq!(found, expected);
}
