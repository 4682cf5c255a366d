//! What rules of a retention promise, whatever the snapshots and the rules are.

use std::collections::BTreeMap;

use jiff::ToSpan;
use jiff::tz::TimeZone;
use metastash::model::hash::{ChunkId, Root, SnapshotId};
use metastash::model::scope::Scope;
use metastash::ops::retention::{Policy, plan};
use metastash::repo::snapshot::{Counts, Manifest, Reason, Snapshot};
use proptest::prelude::{Strategy, any, prop};
use proptest::{prop_assert, prop_assert_eq, proptest};

fn taken(time_ms: i64, id: SnapshotId) -> Snapshot {
    let manifest = Manifest {
        time_ms,
        scan_ms: time_ms,
        host: "host".to_owned(),
        user: String::new(),
        program: String::new(),
        store: "/store".to_owned(),
        layout: "plain".to_owned(),
        scope: Scope::System,
        parent: None,
        label: None,
        tags: BTreeMap::new(),
        reason: Reason::Backup,
        tree: ChunkId::of(b""),
        root: Root::from_bytes([0; 32]),
        documents: 0,
        bytes: 0,
        counts: Counts::default(),
        position: None,
        archive: None,
        verified: None,
    };
    Snapshot { id, manifest }
}

/// Returns the numbers of those that stay.
fn kept(snapshots: &[Snapshot], policy: &Policy) -> Vec<usize> {
    let decisions = plan(snapshots, policy);
    decisions.iter().enumerate().filter(|(_, decision)| !decision.forgets()).map(|(n, _)| n).collect()
}

/// Snapshots of a few groups over some years, oldest first.
fn some() -> impl Strategy<Value = Vec<Snapshot>> {
    let one = (0..50_000_000_u64, any::<bool>(), 0..8_u8, 0..6_u8);
    prop::collection::vec(one, 0..60).prop_map(|drawn| {
        let mut times: Vec<_> = drawn;
        times.sort_unstable();
        times.dedup_by_key(|drawn| drawn.0);
        let snapshot = |(seconds, is_other, kind, tag): (u64, bool, u8, u8)| {
            // Most of them close together: several fall into one hour.
            let time_ms = 1_700_000_000_000 + i64::try_from(seconds * seconds / 1_000_000).unwrap();
            let mut snapshot = taken(time_ms, SnapshotId::of(&seconds.to_le_bytes()));
            let manifest = &mut snapshot.manifest;
            if is_other {
                manifest.store = "/other".to_owned();
            }
            if tag == 0 {
                manifest.tags.insert("k".to_owned(), "v".to_owned());
            }
            match kind {
                0 => manifest.label = Some("label".to_owned()),
                1 => manifest.counts.unread = 1,
                2 => manifest.reason = Reason::CheckpointBefore(SnapshotId::of(b"")),
                _ => {}
            }
            snapshot
        };
        times.into_iter().map(snapshot).collect()
    })
}

fn rules() -> impl Strategy<Value = Policy> {
    let counts = prop::array::uniform6(0..4_u32);
    (counts, prop::option::of(1..2000_i64), any::<bool>()).prop_map(|(counts, hours, tagged)| {
        let [last, hourly, daily, weekly, monthly, yearly] = counts;
        let within = hours.map(ToSpan::hours);
        let tags = tagged.then(|| ("k".to_owned(), "v".to_owned())).into_iter().collect();
        Policy { last, hourly, daily, weekly, monthly, yearly, within, tags, ..Policy::new(TimeZone::UTC) }
    })
}

proptest! {
    #[test]
    fn asking_again_forgets_nothing(snapshots in some(), policy in rules()) {
        let left: Vec<Snapshot> =
            plan(&snapshots, &policy).iter().filter(|one| !one.forgets()).map(|one| one.snapshot.clone()).collect();
        prop_assert!(plan(&left, &policy).iter().all(|decision| !decision.forgets()));
    }

    #[test]
    fn more_rules_keep_more(snapshots in some(), policy in rules(), more in rules()) {
        let both = Policy {
            last: policy.last + more.last,
            hourly: policy.hourly + more.hourly,
            daily: policy.daily + more.daily,
            weekly: policy.weekly + more.weekly,
            monthly: policy.monthly + more.monthly,
            yearly: policy.yearly + more.yearly,
            within: policy.within.or(more.within),
            tags: [policy.tags.clone(), more.tags].concat(),
            ..Policy::new(TimeZone::UTC)
        };
        let few = kept(&snapshots, &policy);
        let many = kept(&snapshots, &both);
        prop_assert!(few.iter().all(|n| many.contains(n)), "{:?} {:?}", few, many);
    }

    #[test]
    fn what_each_rule_promises_stays(snapshots in some(), policy in rules()) {
        let kept = kept(&snapshots, &policy);
        let decisions = plan(&snapshots, &policy);
        prop_assert_eq!(decisions.len(), snapshots.len());
        for store in ["/store", "/other"] {
            let of_store: Vec<usize> =
                (0..snapshots.len()).filter(|n| snapshots[*n].manifest.store == store).collect();
            let plain = |n: &&usize| snapshots[**n].manifest.reason == Reason::Backup && snapshots[**n].manifest.label.is_none();
            let backups: Vec<usize> = of_store.iter().filter(plain).copied().collect();
            for n in backups.iter().rev().take(1.max(policy.last as usize)) {
                prop_assert!(kept.contains(n));
            }
            // The newest of each of the last days is there, or one of the same day that is complete.
            let day_of = |n: usize| snapshots[n].manifest.time_ms.div_euclid(86_400_000);
            let mut days: Vec<i64> = backups.iter().map(|n| day_of(*n)).collect();
            days.dedup();
            for day in days.iter().rev().take(policy.daily as usize) {
                let in_day = backups.iter().filter(|n| day_of(**n) == *day);
                let has_complete = in_day.clone().any(|n| !snapshots[*n].manifest.is_incomplete());
                let mut stays = in_day.filter(|n| kept.contains(n));
                let is_complete = |n: &usize| !has_complete || !snapshots[*n].manifest.is_incomplete();
                prop_assert!(stays.any(is_complete));
            }
        }
        for (n, snapshot) in snapshots.iter().enumerate() {
            let manifest = &snapshot.manifest;
            prop_assert!(manifest.label.is_none() || kept.contains(&n));
            prop_assert!(policy.tags.is_empty() || manifest.tags.is_empty() || kept.contains(&n));
        }
    }
}
