//! Retention: which snapshots stay by rules.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, Zoned};

use crate::model::hash::SnapshotId;
use crate::repo::snapshot::Snapshot;

/// What to keep. A snapshot that no rule keeps goes.
///
/// Rules look at backups without a label, for each host, store and scope on its own. What has a label stays, and counts
/// for none of them. Whatever they say, the newest backup stays, and the newest that is complete.
#[derive(Debug, Clone)]
pub struct Policy {
    /// So many of the newest.
    pub last: u32,
    /// One for each of the so many newest hours that have any: the newest complete one, or the newest if none is.
    pub hourly: u32,
    /// The same for days.
    pub daily: u32,
    /// The same for weeks, which begin on Monday.
    pub weekly: u32,
    /// The same for months.
    pub monthly: u32,
    /// The same for years.
    pub yearly: u32,
    /// Those that are no more than this older than the newest.
    pub within: Option<Span>,
    /// Those that have one of these tags.
    pub tags: Vec<(String, String)>,
    /// These, whatever they are.
    pub hold: BTreeSet<SnapshotId>,
    /// Where hours and days begin.
    pub zone: TimeZone,
}

/// The key of a tag that keeps a snapshot from all rules, whatever its value.
pub const HOLD: &str = "hold";

impl Policy {
    /// Returns a policy without rules: of each kind the newest stays.
    pub fn new(zone: TimeZone) -> Self {
        let (within, tags, hold) = (None, Vec::new(), BTreeSet::new());
        Self { last: 0, hourly: 0, daily: 0, weekly: 0, monthly: 0, yearly: 0, within, tags, hold, zone }
    }
}

/// Why a snapshot stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// It has a label.
    Label,
    /// It is held: it has the tag [`HOLD`], or was named.
    Held,
    /// It is the newest, or the newest that is complete.
    Newest,
    /// One of the last.
    Last,
    /// It is young.
    Within,
    /// It has one of the tags.
    Tag,
    /// The one of its hour.
    Hourly,
    /// The one of its day.
    Daily,
    /// The one of its week.
    Weekly,
    /// The one of its month.
    Monthly,
    /// The one of its year.
    Yearly,
    /// A checkpoint that is younger than some backup that stays.
    Checkpoint,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Label => "label",
            Self::Held => "held",
            Self::Newest => "newest",
            Self::Last => "last",
            Self::Within => "within",
            Self::Tag => "tag",
            Self::Hourly => "hourly",
            Self::Daily => "daily",
            Self::Weekly => "weekly",
            Self::Monthly => "monthly",
            Self::Yearly => "yearly",
            Self::Checkpoint => "checkpoint",
        })
    }
}

/// What is to become of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision<'a> {
    /// The snapshot.
    pub snapshot: &'a Snapshot,
    /// Why it stays; empty if it goes.
    pub keep: BTreeSet<Reason>,
}

impl Decision<'_> {
    /// Tells whether the snapshot goes.
    pub fn forgets(&self) -> bool {
        self.keep.is_empty()
    }
}

/// Decides by rules, for each snapshot in the order they are given.
///
/// Forgetting what it says and asking again forgets nothing more, and more rules never keep less.
pub fn plan<'a>(snapshots: &'a [Snapshot], policy: &Policy) -> Vec<Decision<'a>> {
    let mut keep = Keep { policy, reasons: BTreeMap::new() };
    let newest_first = newest_first(snapshots);
    let mut groups: BTreeMap<_, Vec<&Snapshot>> = BTreeMap::new();
    let mut checkpoints: BTreeMap<_, Vec<&Snapshot>> = BTreeMap::new();
    let mut replayed: BTreeMap<_, Vec<&Snapshot>> = BTreeMap::new();
    for snapshot in newest_first {
        let manifest = &snapshot.manifest;
        if policy.hold.contains(&snapshot.id) || manifest.tags.contains_key(HOLD) {
            keep.note(snapshot, Reason::Held);
        }
        if manifest.label.is_some() {
            keep.note(snapshot, Reason::Label);
        } else if is_backup(snapshot) {
            groups.entry((&manifest.host, &manifest.store, &manifest.scope)).or_default().push(snapshot);
        } else if manifest.is_checkpoint() {
            checkpoints.entry((&manifest.host, &manifest.store)).or_default().push(snapshot);
        } else {
            replayed.entry((&manifest.host, &manifest.store)).or_default().push(snapshot);
        }
    }
    replayed.values().for_each(|group| keep.replayed(group));
    groups.values().for_each(|group| keep.backups(group));
    for ((host, store), checkpoints) in checkpoints {
        let of_store = groups.iter().filter(|((other, at, _), _)| *other == host && *at == store);
        let backups = of_store.flat_map(|(_, group)| group).copied();
        let oldest = backups.filter(|backup| keep.has(backup)).map(age).min();
        keep.checkpoints(&checkpoints, oldest);
    }
    let mut reasons = keep.reasons;
    let decide = |snapshot| Decision { snapshot, keep: reasons.remove(&snapshot.id).unwrap_or_default() };
    snapshots.iter().map(decide).collect()
}

pub(super) fn is_backup(snapshot: &Snapshot) -> bool {
    snapshot.manifest.is_backup()
}

/// Returns what snapshots are ordered by.
fn age(snapshot: &Snapshot) -> (i64, SnapshotId) {
    (snapshot.manifest.time_ms, snapshot.id)
}

fn newest_first(snapshots: &[Snapshot]) -> Vec<&Snapshot> {
    let mut sorted: Vec<_> = snapshots.iter().collect();
    sorted.sort_unstable_by_key(|snapshot| std::cmp::Reverse(age(snapshot)));
    sorted
}

/// A stretch of time by the calendar: the first numbers that tell it from others. Hours have the offset of the zone, as
/// one comes twice when summer ends.
type Period = (i16, i8, i8, i8, i32);

fn day(date: Date) -> Period {
    (date.year(), date.month(), date.day(), 0, 0)
}

fn hour(time: &Zoned) -> Period {
    (time.year(), time.month(), time.day(), time.hour(), time.offset().seconds())
}

fn week(time: &Zoned) -> Period {
    let week = time.date().iso_week_date();
    (week.year(), week.week(), 0, 0, 0)
}

/// What stays, and why.
struct Keep<'a> {
    policy: &'a Policy,
    reasons: BTreeMap<SnapshotId, BTreeSet<Reason>>,
}

impl Keep<'_> {
    fn note(&mut self, snapshot: &Snapshot, reason: Reason) {
        self.reasons.entry(snapshot.id).or_default().insert(reason);
    }

    fn has(&self, snapshot: &Snapshot) -> bool {
        self.reasons.contains_key(&snapshot.id)
    }

    fn zoned(&self, snapshot: &Snapshot) -> Zoned {
        let time = Timestamp::from_millisecond(snapshot.manifest.time_ms).unwrap_or(Timestamp::UNIX_EPOCH);
        time.to_zoned(self.policy.zone.clone())
    }

    /// Looks at the backups of one group, the newest first.
    fn backups(&mut self, group: &[&Snapshot]) {
        let policy = self.policy;
        let newest_complete = group.iter().find(|snapshot| !snapshot.manifest.is_incomplete());
        group.first().into_iter().chain(newest_complete).for_each(|snapshot| self.note(snapshot, Reason::Newest));
        group.iter().take(policy.last as usize).for_each(|snapshot| self.note(snapshot, Reason::Last));
        self.young_and_tagged(group);
        self.periods(group, policy.hourly, Reason::Hourly, hour);
        self.periods(group, policy.daily, Reason::Daily, |time| day(time.date()));
        self.periods(group, policy.weekly, Reason::Weekly, week);
        self.periods(group, policy.monthly, Reason::Monthly, |time| day(time.date().first_of_month()));
        self.periods(group, policy.yearly, Reason::Yearly, |time| day(time.date().first_of_year()));
    }

    /// Looks at the checkpoints of one store, the newest first; `oldest` is the oldest backup of it that stays.
    fn checkpoints(&mut self, checkpoints: &[&Snapshot], oldest: Option<(i64, SnapshotId)>) {
        checkpoints.first().into_iter().for_each(|snapshot| self.note(snapshot, Reason::Newest));
        self.young_and_tagged(checkpoints);
        for snapshot in checkpoints.iter().filter(|snapshot| oldest.is_some_and(|oldest| oldest < age(snapshot))) {
            self.note(snapshot, Reason::Checkpoint);
        }
    }

    /// Looks at what was made of other snapshots of one store, the newest first: it can be made again, as long as these stay.
    fn replayed(&mut self, replayed: &[&Snapshot]) {
        replayed.first().into_iter().for_each(|snapshot| self.note(snapshot, Reason::Newest));
        self.young_and_tagged(replayed);
    }

    fn young_and_tagged(&mut self, newest_first: &[&Snapshot]) {
        let policy = self.policy;
        if let (Some(within), Some(newest)) = (policy.within, newest_first.first()) {
            // So long ago that there is no such time: everything is younger.
            let since =
                self.zoned(newest).checked_sub(within).map_or(i64::MIN, |since| since.timestamp().as_millisecond());
            let young = newest_first.iter().filter(|snapshot| snapshot.manifest.time_ms >= since);
            young.for_each(|snapshot| self.note(snapshot, Reason::Within));
        }
        let has =
            |snapshot: &Snapshot| policy.tags.iter().any(|(key, value)| snapshot.manifest.tags.get(key) == Some(value));
        newest_first.iter().filter(|snapshot| has(snapshot)).for_each(|snapshot| self.note(snapshot, Reason::Tag));
    }

    /// Keeps one snapshot for each of the newest periods.
    fn periods(&mut self, group: &[&Snapshot], count: u32, reason: Reason, period: impl Fn(&Zoned) -> Period) {
        let mut chosen: Vec<(Period, &Snapshot)> = Vec::new();
        for snapshot in group {
            let now = period(&self.zoned(snapshot));
            if chosen.last().is_none_or(|(before, _)| *before != now) {
                if chosen.len() == count as usize {
                    break;
                }
                chosen.push((now, snapshot));
            } else if let Some((_, chosen)) = chosen.last_mut()
                && chosen.manifest.is_incomplete()
                && !snapshot.manifest.is_incomplete()
            {
                // One that lacks documents must not take the place of one that has them.
                *chosen = snapshot;
            }
        }
        chosen.into_iter().for_each(|(_, snapshot)| self.note(snapshot, reason));
    }
}

#[cfg(test)]
mod tests {
    use jiff::ToSpan;

    use super::*;
    use crate::model::hash::{ChunkId, Root};
    use crate::model::log::{Moment, Replayed};
    use crate::model::scope::Scope;
    use crate::repo::snapshot::{self, Counts, Manifest};

    fn taken(time_ms: i64) -> Snapshot {
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
            reason: snapshot::Reason::Backup,
            tree: ChunkId::of(b""),
            root: Root::from_bytes([0; 32]),
            documents: 0,
            bytes: 0,
            counts: Counts::default(),
            position: None,
            archive: None,
            verified: None,
        };
        Snapshot { id: SnapshotId::of(&time_ms.to_le_bytes()), manifest }
    }

    fn at(time: &str) -> Snapshot {
        taken(time.parse::<Timestamp>().unwrap().as_millisecond())
    }

    fn incomplete(mut snapshot: Snapshot) -> Snapshot {
        snapshot.manifest.counts.unread = 1;
        snapshot
    }

    fn checkpoint(mut snapshot: Snapshot) -> Snapshot {
        snapshot.manifest.reason = snapshot::Reason::CheckpointBefore(SnapshotId::of(b""));
        snapshot
    }

    fn replayed(mut snapshot: Snapshot) -> Snapshot {
        let replayed = Replayed { moment: Moment::Record(1), last: 1, records: 0 };
        snapshot.manifest.reason = snapshot::Reason::Replayed(replayed);
        snapshot
    }

    fn none() -> Policy {
        Policy::new(TimeZone::UTC)
    }

    /// Returns the numbers of those that stay.
    fn kept(snapshots: &[Snapshot], policy: &Policy) -> Vec<usize> {
        let decisions = plan(snapshots, policy);
        decisions.iter().enumerate().filter(|(_, decision)| !decision.forgets()).map(|(n, _)| n).collect()
    }

    #[test]
    fn what_is_held_stays() {
        let mut tagged = at("2026-11-20T10:00:00Z");
        tagged.manifest.tags.insert(HOLD.to_owned(), "audit".to_owned());
        let named = at("2026-11-21T10:00:00Z");
        let hold = [named.id].into();
        let snapshots = [at("2026-11-19T10:00:00Z"), tagged, named, at("2026-11-22T10:00:00Z")];
        assert_eq!(kept(&snapshots, &Policy { last: 1, hold, ..none() }), [1, 2, 3]);
    }

    #[test]
    fn each_rule_counts_its_own_periods() {
        let snapshots = [
            at("2024-06-01T12:00:00Z"),
            at("2025-12-31T10:00:00Z"),
            at("2026-11-20T10:00:00Z"),
            at("2026-11-23T08:00:00Z"),
            at("2026-11-24T08:10:00Z"),
            at("2026-11-24T09:10:00Z"),
            at("2026-11-24T09:20:00Z"),
        ];
        assert_eq!(kept(&snapshots, &Policy { last: 2, ..none() }), [5, 6]);
        assert_eq!(kept(&snapshots, &Policy { hourly: 2, ..none() }), [4, 6]);
        assert_eq!(kept(&snapshots, &Policy { daily: 2, ..none() }), [3, 6]);
        assert_eq!(kept(&snapshots, &Policy { weekly: 2, ..none() }), [2, 6]);
        assert_eq!(kept(&snapshots, &Policy { monthly: 2, ..none() }), [1, 6]);
        assert_eq!(kept(&snapshots, &Policy { yearly: 3, ..none() }), [0, 1, 6]);
        assert_eq!(kept(&snapshots, &Policy { within: Some(25.hours()), ..none() }), [4, 5, 6]);
        let decisions = plan(&snapshots, &Policy { last: 1, daily: 1, ..none() });
        assert_eq!(decisions[6].keep, BTreeSet::from([Reason::Newest, Reason::Last, Reason::Daily]));
        assert_eq!(decisions[6].snapshot, &snapshots[6]);
    }

    #[test]
    fn days_begin_where_the_zone_says() {
        let snapshots = [at("2026-11-24T22:30:00Z"), at("2026-11-24T23:30:00Z"), at("2026-11-25T01:00:00Z")];
        assert_eq!(kept(&snapshots, &Policy { daily: 2, ..none() }), [1, 2]);
        let east = TimeZone::fixed(jiff::tz::offset(1));
        assert_eq!(kept(&snapshots, &Policy { daily: 2, ..Policy::new(east) }), [0, 2]);
    }

    #[test]
    fn newest_stays_without_any_rule_and_labels_always() {
        let mut snapshots = [at("2026-11-01T00:00:00Z"), at("2026-11-02T00:00:00Z"), at("2026-11-03T00:00:00Z")];
        assert_eq!(kept(&snapshots, &none()), [2]);
        snapshots[0].manifest.label = Some("good".to_owned());
        snapshots[2].manifest.label = Some("better".to_owned());
        assert_eq!(kept(&snapshots, &Policy { last: 1, ..none() }), [0, 1, 2]);
    }

    #[test]
    fn groups_do_not_count_for_each_other() {
        let mut snapshots = [at("2026-11-01T00:00:00Z"), at("2026-11-02T00:00:00Z"), at("2026-11-03T00:00:00Z")];
        let mut expect_all = |change: &dyn Fn(&mut Manifest)| {
            let before = snapshots[0].clone();
            change(&mut snapshots[0].manifest);
            assert_eq!(kept(&snapshots, &Policy { last: 1, ..none() }), [0, 2]);
            snapshots[0] = before;
        };
        expect_all(&|manifest| manifest.host = "other".to_owned());
        expect_all(&|manifest| manifest.store = "/other".to_owned());
        expect_all(&|manifest| manifest.scope = Scope::project("sales").unwrap());
    }

    #[test]
    fn incomplete_ones_do_not_take_the_place_of_complete_ones() {
        let snapshots = [
            at("2026-11-23T08:00:00Z"),
            incomplete(at("2026-11-23T09:00:00Z")),
            incomplete(at("2026-11-24T08:00:00Z")),
            incomplete(at("2026-11-24T09:00:00Z")),
        ];
        assert_eq!(kept(&snapshots, &Policy { daily: 2, ..none() }), [0, 3]);
        assert_eq!(kept(&snapshots, &Policy { last: 1, ..none() }), [0, 3]);
    }

    #[test]
    fn tags_keep() {
        let mut snapshots = [at("2026-11-01T00:00:00Z"), at("2026-11-02T00:00:00Z"), at("2026-11-03T00:00:00Z")];
        snapshots[0].manifest.tags.insert("k".to_owned(), "v".to_owned());
        snapshots[1].manifest.tags.insert("k".to_owned(), "w".to_owned());
        let tags = vec![("k".to_owned(), "v".to_owned())];
        assert_eq!(kept(&snapshots, &Policy { tags, ..none() }), [0, 2]);
    }

    #[test]
    fn what_was_replayed_counts_for_nothing_and_goes_but_for_the_newest() {
        let snapshots = [
            at("2026-11-01T00:00:00Z"),
            replayed(at("2026-11-02T00:00:00Z")),
            at("2026-11-03T00:00:00Z"),
            replayed(at("2026-11-04T00:00:00Z")),
            replayed(at("2026-11-04T01:00:00Z")),
        ];
        assert_eq!(kept(&snapshots, &Policy { last: 1, daily: 2, ..none() }), [0, 2, 4]);
        assert_eq!(kept(&snapshots, &Policy { within: Some(2.hours()), ..none() }), [2, 3, 4]);
    }

    #[test]
    fn checkpoints_go_when_they_are_older_than_all_backups_that_stay() {
        let snapshots = [
            checkpoint(at("2026-11-01T00:00:00Z")),
            at("2026-11-02T00:00:00Z"),
            checkpoint(at("2026-11-03T00:00:00Z")),
            at("2026-11-04T00:00:00Z"),
            checkpoint(at("2026-11-05T00:00:00Z")),
            at("2026-11-06T00:00:00Z"),
        ];
        assert_eq!(kept(&snapshots, &Policy { last: 3, ..none() }), [1, 2, 3, 4, 5]);
        assert_eq!(kept(&snapshots, &Policy { last: 2, ..none() }), [3, 4, 5]);
        assert_eq!(kept(&snapshots, &Policy { last: 1, ..none() }), [4, 5]);
        assert_eq!(kept(&snapshots, &Policy { within: Some(2.days()), ..none() }), [2, 3, 4, 5]);
        // The only one of another store: its newest, whatever backups there are.
        assert_eq!(kept(&snapshots[..1], &Policy { last: 1, ..none() }), [0]);
    }

    #[test]
    fn checkpoints_stay_for_backups_of_their_own_store_only() {
        let mut snapshots = [
            at("2026-11-01T00:00:00Z"),
            at("2026-11-01T01:00:00Z"),
            checkpoint(at("2026-11-02T00:00:00Z")),
            at("2026-11-04T00:00:00Z"),
            checkpoint(at("2026-11-05T00:00:00Z")),
        ];
        snapshots[0].manifest.store = "/other".to_owned();
        snapshots[1].manifest.host = "other".to_owned();
        assert_eq!(kept(&snapshots, &Policy { last: 1, ..none() }), [0, 1, 3, 4]);
    }

    #[test]
    fn both_hours_called_two_are_hours() {
        // One zone in which summer ends at 01:00 UTC.
        let zone = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        let snapshots = [at("2026-10-25T00:30:00Z"), at("2026-10-25T01:30:00Z")];
        assert_eq!(kept(&snapshots, &Policy { hourly: 2, ..Policy::new(zone) }), [0, 1]);
    }

    #[test]
    fn a_span_beyond_the_calendar_keeps_everything() {
        let snapshots = [at("2020-11-01T00:00:00Z"), at("2026-11-02T00:00:00Z")];
        assert_eq!(kept(&snapshots, &Policy { within: Some(19_000.years()), ..none() }), [0, 1]);
    }
}
