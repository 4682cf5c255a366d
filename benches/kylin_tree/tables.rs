//! TABLE_INFO, TABLE_EXD and what streaming projects add to them.

use super::dice::{Dice, END, HOUR};
use super::json::{Object, document};
use super::models::head;
use super::names;
use super::project::{Column, Model, Project, Table};

/// The parser every streaming project has.
pub const PARSER: &str = "org.apache.kylin.parser.TimedJsonStreamParser";

/// Returns a TABLE_INFO document.
pub fn table(project: &Project, table: &Table, dice: &mut Dice, streaming: bool) -> String {
    let identity = table.identity();
    let snapshot = !streaming && dice.chance(45);
    document(|o| {
        head(o, &dice.uuid(), table.modified, table.created);
        o.text("name", &table.name);
        o.objects("columns", table.columns.iter().enumerate(), |o, (i, column)| {
            o.text("id", &(i + 1).to_string());
            o.text("name", &column.name);
            o.text("datatype", column.datatype);
            if column.name.len() % 3 == 0 {
                let words = column.name.to_lowercase().replace('_', " ");
                o.text("comment", &format!("{} of the {words}", column.aspect.to_lowercase()));
            }
            o.text("case_sensitive_name", &column.name.to_lowercase());
        });
        o.plain("source_type", if streaming { 1 } else { 9 });
        o.text("table_type", "EXTERNAL");
        o.no(&["has_internal", "top", "increment_loading"]);
        snapshots(project, &identity, table, dice, o, snapshot);
        o.text("database", &table.database);
        o.no(&["transactional", "rangePartition"]);
        o.nulls(&["partition_desc", "table_comment"]);
        o.text("project", &project.name);
    })
}

fn snapshots(project: &Project, identity: &str, table: &Table, dice: &mut Dice, o: &mut Object<'_>, snapshot: bool) {
    if snapshot {
        let path = format!("{}/table_snapshot/{identity}/{}", project.name, dice.uuid());
        o.text("last_snapshot_path", &path);
    } else {
        o.nulls(&["last_snapshot_path"]);
    }
    o.plain("last_snapshot_size", if snapshot { table.rows * 37 } else { 0 });
    o.plain("snapshot_last_modified", if snapshot { table.modified } else { 0 });
    o.plain("query_hit_count", dice.magnitude(0, 12) - 1);
    o.nulls(&["partition_column"]);
    o.object("snapshot_partitions", |_| ());
    o.object("snapshot_partitions_info", |_| ());
    o.plain("snapshot_total_rows", if snapshot { table.rows } else { 0 });
    o.nulls(&["snapshot_partition_col", "selected_snapshot_partition_col", "temp_snapshot_path"]);
    o.no(&["snapshot_has_broken"]);
}

/// Returns a TABLE_EXD document: the properties of the source, and statistics if the table was sampled.
pub fn extended(project: &Project, table: &Table, dice: &mut Dice, uuid: &str) -> String {
    let columns: &[Column] = if dice.chance(55) { &table.columns } else { &[] };
    document(|o| {
        head(o, uuid, table.modified, table.created);
        o.text("table_name", &table.identity());
        o.nulls(&["last_build_job_id"]);
        o.plain("frequency", 0);
        o.objects("columns_stats", columns.iter().take(40), |o, column| {
            statistics(table, column, dice, o);
        });
        let samples = samples(columns, dice);
        o.rows("sample_rows", &samples);
        o.plain("last_modified_time", 0);
        o.plain("total_rows", if columns.is_empty() { 0 } else { table.rows });
        o.plain("mapper_rows", "[ ]");
        source(table, dice, o);
        o.plain("loading_range", "[ ]");
        o.nulls(&["col_stats_path", "row_count_status"]);
        o.plain("original_size", table.rows * 23);
        o.text("project", &project.name);
    })
}

fn samples(columns: &[Column], dice: &mut Dice) -> Vec<Vec<String>> {
    let mut row = || columns.iter().take(24).map(|column| cell(dice, column)).collect();
    (0..if columns.is_empty() { 0 } else { 4 }).map(|_| row()).collect()
}

fn source(table: &Table, dice: &mut Dice, o: &mut Object<'_>) {
    o.object("data_source_properties", |o| {
        o.text("owner", "etl");
        o.text("create_time", &(table.created / 1000 * 1000).to_string());
        o.text("total_file_size", &(table.rows * dice.between(9, 90)).to_string());
        o.text("hive_inputFormat", "org.apache.hadoop.mapred.TextInputFormat");
        o.text("hive_outputFormat", "org.apache.hadoop.hive.ql.io.HiveIgnoreKeyTextOutputFormat");
        let (database, name) = (table.database.to_lowercase(), table.name.to_lowercase());
        o.text("location", &format!("hdfs://cluster/warehouse/{database}.db/{name}"));
        o.text("partition_column", "");
        o.text("total_file_number", &dice.magnitude(0, 9).to_string());
        o.text("last_access_time", "0");
    });
}

fn statistics(table: &Table, column: &Column, dice: &mut Dice, o: &mut Object<'_>) {
    let (max, min) = (cell(dice, column), cell(dice, column));
    o.text("column_name", &column.name);
    o.text("max_value", &max);
    o.text("min_value", &min);
    o.text("max_length_value", &max);
    o.text("min_length_value", &min);
    o.plain("null_count", if dice.chance(70) { 0 } else { dice.below(table.rows) });
    o.plain("cardinality", 1 + dice.below(table.rows.min(100_000)));
}

fn cell(dice: &mut Dice, column: &Column) -> String {
    let time = super::dice::Civil::of(END - dice.below(2000 * 24 * HOUR));
    match column.datatype {
        "date" => time.date(),
        "timestamp" => time.date_time(),
        "boolean" => dice.chance(50).to_string(),
        "smallint" | "tinyint" => dice.below(100).to_string(),
        "bigint" | "integer" => dice.magnitude(4, 28).to_string(),
        "double" | "decimal(19,4)" | "decimal(38,6)" => {
            format!("{}.{:04}", dice.magnitude(3, 14), dice.below(10_000))
        }
        _ => names::value(dice),
    }
}

/// Returns an INTERNAL_TABLE document.
pub fn internal(project: &Project, table: &Table, dice: &mut Dice) -> String {
    document(|o| {
        head(o, &dice.uuid(), table.modified, table.created);
        o.text("project", &project.name);
        o.text("database", &table.database);
        o.text("name", &table.name);
        o.objects("columns", table.columns.iter().enumerate(), |o, (i, column)| {
            o.text("id", &(i + 1).to_string());
            o.text("name", &column.name);
            o.text("datatype", column.datatype);
            o.text("case_sensitive_name", &column.name.to_lowercase());
        });
        o.object("tbl_properties", |o| o.text("bucketNum", "1"));
        o.text("storage_type", "GLUTEN");
        o.plain("storage_size", table.rows * 19);
        o.plain("row_count", table.rows);
        o.plain("hit_count", dice.below(500));
        o.nulls(&["table_partition"]);
    })
}

/// Returns a KAFKA_CONFIG document.
pub fn kafka(project: &Project, table: &Table, dice: &mut Dice) -> String {
    document(|o| {
        head(o, &dice.uuid(), table.modified, table.created);
        o.text("database", &table.database);
        o.text("name", &table.name);
        o.text("project", &project.name);
        o.text("kafka_bootstrap_servers", "broker1:9092,broker2:9092");
        o.text("subscribe", &table.name.to_lowercase());
        o.text("starting_offsets", "latest");
        o.no(&["has_shadow_table"]);
        o.text("hive_table_identity", "");
        o.text("parser_name", PARSER);
    })
}

/// Returns a DATA_PARSER document.
pub fn parser(project: &Project, dice: &mut Dice, tables: &[String]) -> String {
    document(|o| {
        head(o, &dice.uuid(), project.created, project.created);
        o.text("project", &project.name);
        o.text("class_name", PARSER);
        o.text("jar_name", "default");
        o.texts("streaming_tables", tables);
    })
}

/// Returns a STREAMING_JOB document; `kind` is `build` or `merge`.
pub fn streaming_job(project: &Project, model: &Model, dice: &mut Dice, kind: &str) -> String {
    let fact = &project.tables[model.tables[0]];
    let updated = super::dice::Civil::of(model.modified).date_time();
    document(|o| {
        head(o, &format!("{}_{kind}", model.uuid), model.modified, model.created);
        o.text("model_alias", &model.alias);
        o.text("owner", &model.owner);
        o.text("model_id", &model.uuid);
        o.nulls(&["last_start_time", "last_end_time"]);
        o.text("last_update_time", &updated);
        o.plain("last_batch_count", dice.magnitude(8, 16));
        o.text("subscribe", &fact.name.to_lowercase());
        o.text("fact_table", &fact.identity());
        o.text("job_status", "RUNNING");
        o.text("job_type", &format!("STREAMING_{}", kind.to_uppercase()));
        o.nulls(&["process_id", "node_info", "yarn_app_id", "yarn_app_url"]);
        o.object("params", |o| {
            o.text("spark.executor.memory", "1g");
            o.text("spark.master", "yarn-client");
            o.text("spark.driver.memory", "512m");
            o.text("kylin.streaming.duration", "30");
            o.text("spark.executor.cores", "2");
            o.text("spark.executor.instances", "2");
        });
        o.text("project", &project.name);
    })
}

/// Returns a FUSION_MODEL document.
pub fn fusion(project: &Project, model: &Model) -> String {
    document(|o| {
        head(o, &model.uuid, model.modified, model.created);
        o.text("project", &project.name);
        o.nulls(&["alias"]);
        o.object("model_mapping", |o| o.nulls(&[&model.uuid]));
    })
}
