//! What a synthetic project consists of, before any of it is written: tables, models, users of both.
//!
//! Everything follows from the seed and the project's number, so that projects can be made one at a time and in
//! any order, and none need be kept.

use super::dice::{DAY, Dice, END, HOUR, START};
use super::names;

/// One column of a table.
pub struct Column {
    pub name: String,
    pub datatype: &'static str,
    pub aspect: &'static str,
}

/// One table loaded into a project.
pub struct Table {
    pub database: String,
    pub name: String,
    pub columns: Vec<Column>,
    pub rows: u64,
    pub created: u64,
    pub modified: u64,
}

impl Table {
    /// Returns `DATABASE.TABLE`.
    pub fn identity(&self) -> String {
        format!("{}.{}", self.database, self.name)
    }
}

/// A column as a model names it, by the positions of its table and of itself.
#[derive(Clone, Copy)]
pub struct Named {
    pub table: usize,
    pub column: usize,
    pub dimension: bool,
}

/// One model with what its index plan and its segments need to know.
pub struct Model {
    pub uuid: String,
    pub alias: String,
    pub owner: String,
    /// Positions of the tables; the first is the fact table.
    pub tables: Vec<usize>,
    pub columns: Vec<Named>,
    /// Positions in `columns` of what is summed.
    pub measures: Vec<usize>,
    /// Uuids of the computed columns.
    pub computed: Vec<String>,
    /// Ids of the layouts that are built.
    pub layouts: Vec<u64>,
    pub streaming: bool,
    /// Whether there are LAYOUT_DETAILS, as storage version 3 has them.
    pub details: bool,
    pub created: u64,
    pub modified: u64,
    /// The end of its last segment.
    pub built_until: u64,
    pub rows_per_day: u64,
    /// How many segments it has compared with other models.
    pub weight: u64,
}

/// One project.
pub struct Project {
    pub number: u64,
    pub seed: u64,
    pub name: String,
    pub uuid: String,
    pub owner: String,
    pub created: u64,
    pub tables: Vec<Table>,
    pub models: Vec<Model>,
    pub users: u64,
}

impl Project {
    /// Returns the project with as many tables and models as suit a number of documents.
    pub fn new(seed: u64, number: u64, documents: u64) -> Self {
        let mut dice = Dice::new(seed, [number, 0, 0]);
        let created = dice.between(START, START + 20 * DAY);
        let models = (documents / 170).max(1);
        let mut project = Self {
            number,
            seed,
            name: names::project(&mut dice, number),
            uuid: dice.uuid(),
            owner: names::user(dice.below(12)),
            created,
            tables: tables(&mut dice, models, created),
            models: Vec::new(),
            users: 1 + (documents / 900).min(30),
        };
        for position in 0..usize::try_from(models).unwrap_or(usize::MAX) {
            let model = project.model(position);
            project.models.push(model);
        }
        project
    }

    /// Returns whether the project reads from Kafka.
    pub fn streams(&self) -> bool {
        self.number % 8 == 5
    }

    /// Returns the numbers for one purpose within the project.
    pub fn dice(&self, position: usize, purpose: u64) -> Dice {
        Dice::new(self.seed, [self.number, position as u64, purpose])
    }

    fn model(&self, position: usize) -> Model {
        let mut dice = self.dice(position, 1);
        let tables = self.joined(&mut dice);
        let columns = self.named(&mut dice, &tables);
        let measures = measures(&mut dice, &columns);
        let created = dice.between(self.created, self.created + 60 * DAY);
        let live = dice.chance(80);
        let until = END - if live { DAY } else { dice.between(1, 500) * DAY };
        Model {
            uuid: dice.uuid(),
            alias: names::model(&mut dice, position),
            owner: names::user(dice.below(12)),
            computed: (0..dice.skewed(0, 6)).map(|_| dice.uuid()).collect(),
            layouts: layouts(&mut dice),
            streaming: self.streams() && position < 2,
            details: dice.chance(12),
            tables,
            columns,
            measures,
            created,
            modified: dice.between(created, END - HOUR),
            built_until: until / DAY * DAY,
            rows_per_day: dice.magnitude(10, 23),
            weight: dice.skewed(2, 24),
        }
    }

    /// Returns one fact table and some dimension tables; facts come first in the project's list.
    fn joined(&self, dice: &mut Dice) -> Vec<usize> {
        let facts = facts(self.tables.len());
        let mut tables = vec![dice.index(facts)];
        for _ in 0..dice.skewed(1, 7) {
            let table = facts + dice.index(self.tables.len() - facts);
            if !tables.contains(&table) {
                tables.push(table);
            }
        }
        tables
    }

    fn named(&self, dice: &mut Dice, tables: &[usize]) -> Vec<Named> {
        let mut named = Vec::new();
        for &table in tables {
            for column in 0..self.tables[table].columns.len() {
                if dice.chance(75) {
                    named.push(Named { table, column, dimension: dice.chance(45) });
                }
            }
        }
        named
    }
}

/// Returns how many of a project's tables are fact tables.
fn facts(tables: usize) -> usize {
    tables.div_ceil(3)
}

fn tables(dice: &mut Dice, models: u64, created: u64) -> Vec<Table> {
    let databases: Vec<String> = (0..3).map(|_| names::database(dice)).collect();
    let count = usize::try_from(3 + models * 5 / 2).unwrap_or(usize::MAX);
    (0..count)
        .map(|number| {
            let fact = number < facts(count);
            let created = created + dice.below(30 * DAY);
            Table {
                database: dice.pick(&databases).clone(),
                name: names::table(dice, fact, number),
                columns: columns(dice, fact),
                rows: dice.magnitude(if fact { 16 } else { 6 }, if fact { 32 } else { 20 }),
                created,
                modified: dice.between(created, END - HOUR),
            }
        })
        .collect()
}

fn columns(dice: &mut Dice, fact: bool) -> Vec<Column> {
    let count = if fact { dice.skewed(18, 110) } else { dice.skewed(7, 60) };
    let mut columns: Vec<Column> = Vec::new();
    for _ in 0..count {
        let (name, aspect) = names::column(dice);
        if columns.iter().all(|column| column.name != name) {
            columns.push(Column { name, datatype: datatype(dice, aspect), aspect });
        }
    }
    columns
}

fn datatype(dice: &mut Dice, aspect: &str) -> &'static str {
    let choices: &[&'static str] = match aspect {
        "DATE" => &["date"],
        "TIME" | "CREATED_AT" | "UPDATED_AT" => &["timestamp"],
        "AMOUNT" | "PRICE" | "COST" | "TAX" | "REVENUE" | "DISCOUNT" | "BALANCE" | "MARGIN" => {
            &["decimal(19,4)", "decimal(38,6)", "double"]
        }
        "ID" | "KEY" | "BATCH_NO" | "DURATION_MS" | "COUNT" | "QUANTITY" => &["bigint", "integer", "bigint"],
        "RANK" | "LEVEL" | "VERSION" => &["smallint", "tinyint", "integer"],
        "FLAG" => &["boolean"],
        _ => &["varchar(4096)", "varchar(256)", "varchar(64)", "string"],
    };
    choices[dice.index(choices.len())]
}

/// Returns the positions of some columns that can be summed.
fn measures(dice: &mut Dice, columns: &[Named]) -> Vec<usize> {
    let count = dice.skewed(2, 24);
    (0..count).map(|_| dice.index(columns.len())).collect()
}

/// Returns layout ids: aggregate ones count in tens of thousands, table ones from twenty billion.
fn layouts(dice: &mut Dice) -> Vec<u64> {
    let count = if dice.chance(6) { dice.between(8, 20) } else { dice.skewed(1, 9) };
    let tables = dice.below(3).min(count - 1);
    let aggregates = (0..count - tables).map(|i| i * 10_000 + 1);
    let tables = (0..tables).map(|i| 20_000_000_001 + i * 10_000);
    aggregates.chain(tables).collect()
}
