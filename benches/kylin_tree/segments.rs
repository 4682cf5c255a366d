//! SEGMENT and LAYOUT documents: nine in ten of a tree.

use super::dice::{Civil, DAY, Dice, END, HOUR, MINUTE};
use super::json::{Object, document};
use super::names;
use super::project::{Column, Model, Project};

/// What the segments of one model have in common.
pub struct Builder<'a> {
    project: &'a Project,
    model: &'a Model,
    /// The columns whose source bytes are recorded, and their width.
    sized: Vec<(String, u64)>,
    ranges: Vec<(usize, Range)>,
    /// One segment covers that many milliseconds.
    grain: u64,
    uuids: Vec<String>,
}

/// How the smallest and largest value of a dimension behave from segment to segment.
enum Range {
    Day,
    Clock,
    /// The numbers of new things: they grow.
    Growing(u64),
    /// The same set of values every day.
    Fixed(String, String),
    /// Values that differ every day, below a bound.
    Free(u64),
}

/// One segment's own facts.
pub struct Segment<'a> {
    pub uuid: &'a str,
    number: u64,
    start: u64,
    end: u64,
    created: u64,
    pub built: u64,
    rows: u64,
    job: String,
    fresh: bool,
}

impl<'a> Builder<'a> {
    /// Returns the builder of `count` segments of a model.
    pub fn new(project: &'a Project, position: usize, count: u64) -> Self {
        let model = &project.models[position];
        let mut dice = project.dice(position, 2);
        Self {
            project,
            model,
            sized: sized(&mut dice, project, model),
            ranges: ranges(&mut dice, project, model),
            grain: grain(&mut dice, count),
            uuids: (0..count).map(|_| dice.uuid()).collect(),
        }
    }

    /// Returns the uuids of all segments, oldest first.
    pub fn uuids(&self) -> &[String] {
        &self.uuids
    }

    /// Returns the facts of one segment; `fresh` ones are not built yet.
    pub fn segment(&self, dice: &mut Dice, position: usize, fresh: bool) -> Segment<'_> {
        let after = (self.uuids.len() - position - 1) as u64;
        let end = self.model.built_until.saturating_sub(after * self.grain);
        let created = (end + HOUR + dice.below(5 * HOUR)).min(END - HOUR);
        let mut built = created + MINUTE + dice.magnitude(13, 20);
        if dice.chance(8) {
            built = dice.between(built.min(END - 1), END - 1);
        }
        let rows = self.model.rows_per_day * (self.grain / HOUR) / 24;
        Segment {
            uuid: &self.uuids[position],
            number: position as u64,
            start: end.saturating_sub(self.grain),
            end,
            created,
            built: if fresh { created } else { built },
            rows: dice.about(rows),
            job: format!("{}-{}", dice.uuid(), self.model.uuid),
            fresh,
        }
    }

    /// Returns a SEGMENT document.
    pub fn segment_document(&self, dice: &mut Dice, segment: &Segment<'_>) -> String {
        let (start, end) = (Civil::of(segment.start).compact(), Civil::of(segment.end).compact());
        document(|o| {
            o.text("name", &format!("{start}_{end}"));
            o.plain("create_time_utc", segment.created);
            o.text("status", if segment.fresh { "NEW" } else { "READY" });
            o.object("segRange", |o| self.range(o, segment));
            o.nulls(&["timeRange"]);
            o.object("dimension_range_info_map", |o| {
                self.dimension_ranges(dice, o, segment);
            });
            o.nulls(&["parameters", "dictionaries", "snapshots"]);
            o.plain("last_build_time", if segment.fresh { 0 } else { segment.built });
            self.sizes(dice, o, segment);
            o.object("additionalInfo", |_| ());
            o.no(&["is_realtime_segment", "is_encoding_data_skew", "is_snapshot_ready"]);
            o.plain("is_dict_ready", !segment.fresh);
            o.plain("is_flat_table_ready", !segment.fresh);
            o.no(&["is_fact_view_ready"]);
            o.plain("multi_partitions", "[ ]");
            o.plain("max_bucket_id", -1);
            o.text("uuid", segment.uuid);
            o.text("model_uuid", &self.model.uuid);
            o.text("project", &self.project.name);
        })
    }

    fn range(&self, o: &mut Object<'_>, segment: &Segment<'_>) {
        const CLASS: &str = "org.apache.kylin.metadata.model.SegmentRange$";
        if !self.model.streaming {
            o.text("@class", &format!("{CLASS}TimePartitionedSegmentRange"));
            o.plain("date_range_start", segment.start);
            o.plain("date_range_end", segment.end);
            return;
        }
        o.text("@class", &format!("{CLASS}KafkaOffsetPartitionedSegmentRange"));
        o.plain("source_offset_start", segment.start);
        o.plain("source_offset_end", segment.end);
        for (key, number) in
            [("source_partition_offset_start", segment.number), ("source_partition_offset_end", segment.number + 1)]
        {
            o.object(key, |o| {
                for partition in ["0", "1", "2"] {
                    o.plain(partition, number * self.model.rows_per_day / 3);
                }
            });
        }
    }

    fn dimension_ranges(&self, dice: &mut Dice, o: &mut Object<'_>, segment: &Segment<'_>) {
        if segment.fresh {
            return;
        }
        for (id, range) in &self.ranges {
            let (min, max) = range.bounds(dice, segment);
            o.object(&id.to_string(), |o| {
                o.text("min", &min);
                o.text("max", &max);
            });
        }
    }

    fn sizes(&self, dice: &mut Dice, o: &mut Object<'_>, segment: &Segment<'_>) {
        if segment.fresh {
            o.plain("source_count", -1);
            o.plain("source_bytes_size", -1);
            o.object("column_source_bytes", |_| ());
            o.object("ori_snapshot_size", |_| ());
            return;
        }
        o.plain("source_count", segment.rows);
        o.plain("source_bytes_size", segment.rows * 41 + dice.below(100_000));
        o.object("column_source_bytes", |o| {
            for (column, width) in &self.sized {
                // Texts differ in length from row to row, numbers do not.
                let noise = if *width <= 8 { 0 } else { dice.below(segment.rows / 8 + 1) };
                o.plain(column, segment.rows * width + noise);
            }
        });
        o.object("ori_snapshot_size", |o| {
            for &table in self.model.tables.iter().skip(1).take(2) {
                let table = &self.project.tables[table];
                o.plain(&table.identity(), table.rows * 37);
            }
        });
    }

    /// Returns a LAYOUT document.
    pub fn layout_document(&self, dice: &mut Dice, segment: &Segment<'_>) -> String {
        document(|o| {
            o.text("uuid", segment.uuid);
            o.plain("last_modified", segment.built);
            o.plain("create_time", segment.created);
            o.text("version", "4.0.0.0");
            o.text("dataflow", &self.model.uuid);
            o.objects("layout_instances", self.model.layouts.iter().enumerate(), |o, (i, id)| {
                instance(dice, o, segment, i as u64, *id);
            });
            o.text("project", &self.project.name);
        })
    }
}

fn instance(dice: &mut Dice, o: &mut Object<'_>, segment: &Segment<'_>, position: u64, id: u64) {
    // The later an index of the plan, the fewer dimensions it has: it aggregates more rows away.
    let rows = segment.rows >> (position * 2).min(16);
    let rows = if position == 0 { rows } else { dice.about(rows) } + 1;
    o.plain("layout_id", id);
    o.text("build_job_id", &segment.job);
    o.plain("rows", rows);
    o.plain("byte_size", rows * 11 + dice.below(rows * 4 + 4096));
    o.plain("file_count", 1 + rows / 2_000_000);
    o.plain("source_rows", segment.rows);
    o.plain("source_byte_size", 0);
    o.plain("partition_num", 1 + rows / 2_000_000);
    o.plain("partition_values", "[ ]");
    o.plain("is_ready", false);
    o.plain("create_time", segment.built - dice.below(30) * 1000);
    o.plain("multi_partition", "[ ]");
    o.nulls(&["abnormal_type"]);
}

impl Range {
    fn bounds(&self, dice: &mut Dice, segment: &Segment<'_>) -> (String, String) {
        match self {
            Self::Day => (Civil::of(segment.start).date(), Civil::of(segment.end - 1).date()),
            Self::Clock => {
                let (first, last) = (dice.below(60_000), 1 + dice.below(60_000));
                let bounds = [segment.start + first, segment.end - last].map(|ms| Civil::of(ms).date_time());
                let [min, max] = bounds;
                (format!("{min}.0"), format!("{max}.0"))
            }
            Self::Growing(first) => {
                let min = first + segment.number * segment.rows;
                (min.to_string(), (min + segment.rows - 1).to_string())
            }
            Self::Fixed(min, max) => (min.clone(), max.clone()),
            Self::Free(bound) => {
                let min = dice.below(bound / 50 + 1);
                (min.to_string(), (bound - dice.below(bound / 50 + 1)).to_string())
            }
        }
    }

    fn of(dice: &mut Dice, column: &Column) -> Self {
        match column.datatype {
            "date" => Self::Day,
            "timestamp" => Self::Clock,
            "bigint" => Self::Growing(dice.magnitude(10, 30)),
            "decimal(19,4)" | "decimal(38,6)" | "double" => Self::Free(dice.magnitude(8, 20)),
            "boolean" => Self::Fixed("false".to_owned(), "true".to_owned()),
            "integer" | "smallint" | "tinyint" => {
                Self::Fixed(dice.below(9).to_string(), dice.magnitude(3, 7).to_string())
            }
            _ => {
                let (one, other) = (names::value(dice), names::value(dice));
                Self::Fixed(one.clone().min(other.clone()), one.max(other))
            }
        }
    }
}

fn sized(dice: &mut Dice, project: &Project, model: &Model) -> Vec<(String, u64)> {
    let count = few_or_many(dice);
    let mut sized = Vec::new();
    for named in model.columns.iter().filter(|named| named.dimension).take(count) {
        let table = &project.tables[named.table];
        let name = format!("{}.{}", table.identity(), table.columns[named.column].name);
        sized.push((name, *dice.pick(&[1, 4, 4, 8, 8, 5, 11, 14, 19])));
    }
    sized
}

fn ranges(dice: &mut Dice, project: &Project, model: &Model) -> Vec<(usize, Range)> {
    let count = few_or_many(dice);
    let dimensions = model.columns.iter().enumerate().filter(|(_, named)| named.dimension);
    let mut ranges = Vec::new();
    for (id, named) in dimensions.take(count) {
        let column = &project.tables[named.table].columns[named.column];
        ranges.push((id, Range::of(dice, column)));
    }
    ranges
}

/// Returns how many columns of a model are recorded: few in most models, many in one of twelve.
fn few_or_many(dice: &mut Dice) -> usize {
    let count = if dice.chance(8) { dice.between(12, 26) } else { dice.skewed(1, 12) };
    usize::try_from(count).unwrap_or(1)
}

/// Returns how long a segment is: a day, unless few or very many of them are wanted.
fn grain(dice: &mut Dice, count: u64) -> u64 {
    if count > 640 {
        HOUR
    } else if count < 60 && dice.chance(30) {
        7 * DAY
    } else {
        DAY
    }
}
