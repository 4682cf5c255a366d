//! MODEL, INDEX_PLAN, DATAFLOW and the small documents around them.

use super::dice::{Dice, END, HOUR};
use super::json::{Object, document};
use super::project::{Model, Named, Project};

/// Writes what every stored entity begins with.
pub fn head(o: &mut Object<'_>, uuid: &str, modified: u64, created: u64) {
    o.text("uuid", uuid);
    o.plain("last_modified", modified);
    o.plain("create_time", created);
    o.text("version", "4.0.0.0");
}

/// Returns a column as models name it: by the table's name without the database.
fn alias(project: &Project, named: Named) -> String {
    let table = &project.tables[named.table];
    format!("{}.{}", table.name, table.columns[named.column].name)
}

/// Returns a MODEL document.
pub fn model(project: &Project, model: &Model, dice: &mut Dice) -> String {
    let fact = &project.tables[model.tables[0]];
    document(|o| {
        head(o, &model.uuid, model.modified, model.created);
        o.text("alias", &model.alias);
        o.text("owner", &model.owner);
        o.nulls(&["config_last_modifier"]);
        o.plain("config_last_modified", 0);
        o.text("description", "");
        o.text("fact_table", &fact.identity());
        o.nulls(&["fact_table_alias"]);
        o.text("management_type", "MODEL_BASED");
        o.objects("join_tables", &model.tables[1..], |o, &table| {
            join(project, model, dice, o, table);
        });
        o.text("filter_condition", "");
        partition(project, model, o);
        settings(o);
        o.nulls(&["data_check_desc"]);
        o.plain("semantic_version", model.modified % 5);
        o.plain("storage_type", if model.details { 3 } else { 0 });
        let kind = if model.streaming { "STREAMING" } else { "BATCH" };
        o.text("model_type", kind);
        columns(project, model, o);
        measures(project, model, o);
        o.plain("recommendations_count", 0);
        canvas(project, model, dice, o);
        o.nulls(&["multi_partition_desc", "multi_partition_key_mapping", "fusion_id"]);
        o.texts("computed_column_uuids", &model.computed);
        o.text("project", &project.name);
    })
}

fn join(project: &Project, model: &Model, dice: &mut Dice, o: &mut Object<'_>, position: usize) {
    let (fact, table) = (&project.tables[model.tables[0]], &project.tables[position]);
    let foreign = dice.pick(&fact.columns);
    o.text("table", &table.identity());
    o.text("kind", "LOOKUP");
    o.text("alias", &table.name);
    o.object("join", |o| {
        o.text("type", if dice.chance(60) { "LEFT" } else { "INNER" });
        o.texts("primary_key", [format!("{}.{}", table.name, table.columns[0].name)]);
        o.texts("foreign_key", [format!("{}.{}", fact.name, foreign.name)]);
        o.nulls(&["non_equi_join_condition", "primary_table", "foreign_table"]);
    });
    o.nulls(&["flattenable"]);
    o.text("join_relation_type", "MANY_TO_ONE");
}

fn settings(o: &mut Object<'_>) {
    o.text("capacity", "MEDIUM");
    o.object("segment_config", |o| {
        o.nulls(&["auto_merge_enabled", "auto_merge_time_ranges", "volatile_range", "retention_range"]);
        o.no(&["create_empty_segment_enabled"]);
    });
}

fn columns(project: &Project, model: &Model, o: &mut Object<'_>) {
    o.objects("all_named_columns", model.columns.iter().enumerate(), |o, (id, &named)| {
        let column = alias(project, named);
        o.plain("id", id);
        o.text("name", &column.replace('.', "_"));
        o.text("column", &column);
        if named.dimension {
            o.text("status", "DIMENSION");
        }
    });
}

fn partition(project: &Project, model: &Model, o: &mut Object<'_>) {
    let fact = &project.tables[model.tables[0]];
    let date = fact.columns.iter().find(|column| column.datatype == "date");
    o.object("partition_desc", |o| {
        o.text("partition_date_column", &format!("{}.{}", fact.name, date.unwrap_or(&fact.columns[0]).name));
        o.plain("partition_date_start", 0);
        o.text("partition_date_format", "yyyy-MM-dd");
        o.text("partition_type", "APPEND");
        o.text(
            "partition_condition_builder",
            "org.apache.kylin.metadata.model.PartitionDesc$DefaultPartitionConditionBuilder",
        );
    });
}

fn measures(project: &Project, model: &Model, o: &mut Object<'_>) {
    o.objects("all_measures", 0..=model.measures.len(), |o, number| {
        let column = number.checked_sub(1).map(|i| model.columns[model.measures[i]]);
        let function = ["SUM", "MAX", "COUNT_DISTINCT", "MIN"][number % 4];
        let value = column.map_or("1".to_owned(), |named| alias(project, named));
        let name = match column {
            None => "COUNT_ALL".to_owned(),
            Some(_) => format!("{}_{function}_{number}", value.replace('.', "_")),
        };
        o.text("name", &name);
        o.object("function", |o| {
            o.text("expression", if column.is_none() { "COUNT" } else { function });
            o.objects("parameters", [()], |o, ()| {
                o.text("type", if column.is_none() { "constant" } else { "column" });
                o.text("value", &value);
            });
            o.text("returntype", ["bigint", "decimal(38,6)", "bitmap", "double"][number % 4]);
        });
        o.nulls(&["column"]);
        o.text("comment", "");
        o.plain("id", 100_000 + number);
        o.text("type", "NORMAL");
        o.plain("internal_ids", "[ ]");
    });
}

fn canvas(project: &Project, model: &Model, dice: &mut Dice, o: &mut Object<'_>) {
    o.object("canvas", |o| {
        o.object("coordinate", |o| {
            for &table in &model.tables {
                o.object(&project.tables[table].name, |o| {
                    for axis in ["x", "y"] {
                        o.plain(axis, format_args!("{}.{}", dice.below(1200), dice.magnitude(30, 40)));
                    }
                    o.plain("width", "220.0");
                    o.plain("height", "200.0");
                });
            }
        });
        o.plain("zoom", "9.0");
    });
}

/// Returns an INDEX_PLAN document.
pub fn index_plan(project: &Project, model: &Model, dice: &mut Dice) -> String {
    let dimensions: Vec<usize> =
        model.columns.iter().enumerate().filter(|(_, named)| named.dimension).map(|(id, _)| id).collect();
    let measures: Vec<usize> = (0..=model.measures.len()).map(|i| 100_000 + i).collect();
    document(|o| {
        head(o, &model.uuid, model.modified, model.created);
        o.nulls(&["description"]);
        o.object("rule_based_index", |o| {
            rules(model, dice, o, &dimensions, &measures);
        });
        o.objects("indexes", &model.layouts, |o, &layout| {
            index(model, dice, o, layout, &dimensions, &measures);
        });
        o.object("override_properties", |_| ());
        o.plain("to_be_deleted_indexes", "[ ]");
        o.nulls(&["auto_merge_time_ranges"]);
        o.plain("retention_range", 0);
        o.plain("engine_type", 80);
        o.plain("next_aggregation_index_id", model.layouts.len() * 10_000);
        o.plain("next_table_index_id", 20_000_040_000_u64);
        o.plain("agg_shard_by_columns", "[ ]");
        o.plain("extend_partition_columns", "[ ]");
        o.object("layout_bucket_num", |_| ());
        o.plain("approved_additional_recs", 0);
        o.plain("approved_removal_recs", 0);
        o.text("project", &project.name);
    })
}

fn rules(model: &Model, dice: &mut Dice, o: &mut Object<'_>, dimensions: &[usize], measures: &[usize]) {
    let groups = 1 + model.layouts.len() / 4;
    o.numbers("dimensions", dimensions);
    o.numbers("measures", measures);
    o.nulls(&["global_dim_cap"]);
    o.objects("aggregation_groups", 0..groups, |o, _| {
        let included: Vec<&usize> = dimensions.iter().filter(|_| dice.chance(60)).collect();
        o.numbers("includes", &included);
        o.numbers("measures", measures);
        o.object("select_rule", |o| {
            o.plain("hierarchy_dims", "[ ]");
            o.numbers("mandatory_dims", included.iter().take(3));
            o.plain("joint_dims", "[ ]");
        });
        o.text("index_range", "EMPTY");
    });
    o.numbers("layout_id_mapping", model.layouts.iter().filter(|&&id| id < 20_000_000_000));
    o.plain("parent_forward", 3);
    o.plain("index_start_id", 0);
    o.plain("last_modify_time", model.modified);
    o.plain("layout_black_list", "[ ]");
    o.plain("scheduler_version", 2);
    o.plain("index_update_enabled", true);
}

fn index(model: &Model, dice: &mut Dice, o: &mut Object<'_>, layout: u64, dimensions: &[usize], measures: &[usize]) {
    let table = layout >= 20_000_000_000;
    let chosen: Vec<&usize> = dimensions.iter().filter(|_| dice.chance(if table { 90 } else { 50 })).collect();
    let measures = if table { &[] } else { measures };
    o.plain("id", layout - 1);
    o.numbers("dimensions", &chosen);
    o.numbers("measures", measures);
    o.objects("layouts", [layout], |o, id| {
        o.plain("id", id);
        o.nulls(&["name"]);
        o.text("owner", &model.owner);
        o.numbers("col_order", chosen.iter().copied().chain(measures));
        o.plain("shard_by_columns", "[ ]");
        o.plain("partition_by_columns", "[ ]");
        o.plain("sort_by_columns", "[ ]");
        o.plain("storage_type", 20);
        o.plain("update_time", dice.between(model.created, model.modified));
        o.plain("manual", true);
        o.no(&["auto"]);
        o.plain("base", layout % 20_000_000_000 == 1);
        o.nulls(&["draft_version", "index_range"]);
    });
    o.plain("next_layout_offset", 2);
}

/// Returns a DATAFLOW document; it was last changed when its last segment was built or a query hit it.
pub fn dataflow(project: &Project, model: &Model, dice: &mut Dice, segments: &[String], modified: u64) -> String {
    let hits = dice.magnitude(2, 18);
    document(|o| {
        head(o, &model.uuid, modified, model.created);
        o.text("status", if dice.chance(92) { "ONLINE" } else { "OFFLINE" });
        o.nulls(&["last_status"]);
        o.plain("cost", 50);
        o.plain("query_hit_count", hits);
        o.plain("last_query_time", modified.saturating_sub(dice.below(40 * HOUR)));
        o.plain("last_data_refresh_time", modified.saturating_sub(dice.below(HOUR)));
        o.object("layout_query_hit_count", |o| {
            for layout in &model.layouts {
                o.object(&layout.to_string(), |o| {
                    o.object("day_frequency", |o| {
                        let day = END - dice.between(1, 9) * 24 * HOUR;
                        o.plain(&day.to_string(), dice.below(hits / 8 + 2));
                    });
                });
            }
        });
        o.text("project", &project.name);
        o.texts("segment_uuids", segments);
    })
}

/// Returns a LAYOUT_DETAILS document.
pub fn layout_details(project: &Project, model: &Model, dice: &mut Dice, layout: u64) -> String {
    document(|o| {
        head(o, &dice.uuid(), model.modified, model.created);
        o.text("project", &project.name);
        o.text("dataflow", &model.uuid);
        o.plain("layout", layout);
        o.objects("fragment_range_set", [()], |o, ()| {
            o.plain("lowerEndpoint", model.created / 3_600_000 * 3_600_000);
            o.text("lowerBoundType", "CLOSED");
            o.plain("upperEndpoint", model.built_until);
            o.text("upperBoundType", "OPEN");
        });
    })
}

/// Returns a COMPUTE_COLUMN document.
pub fn compute_column(project: &Project, model: &Model, dice: &mut Dice, position: usize) -> String {
    let fact = &project.tables[model.tables[0]];
    let (left, right) = (&dice.pick(&fact.columns).name, &dice.pick(&fact.columns).name);
    let (table, factor) = (&fact.name, dice.below(1000));
    document(|o| {
        o.text("tableIdentity", &fact.identity());
        o.text("tableAlias", table);
        // The alias makes it unique in its project, which the SQL tables of a store require.
        o.text("columnName", &format!("CC_{}_{left}_{position}", model.alias.to_uppercase()));
        o.text("expression", &format!("{table}.{left} * {factor} + {table}.{right}"));
        o.text("innerExpression", &format!("`{table}`.`{left}` * {factor} + `{table}`.`{right}`"));
        o.text("datatype", ["DOUBLE", "BIGINT", "DECIMAL(38,4)"][dice.index(3)]);
        o.nulls(&["comment"]);
        o.text("expressionMD5", &dice.letters(32, b"0123456789abcdef"));
        o.plain("referenceCount", 1);
        o.text("uuid", &model.computed[position]);
        o.text("project", &project.name);
    })
}

/// Returns a CC_MODEL_RELATION or TABLE_MODEL_RELATION document: which thing belongs to a model.
pub fn relation(project: &Project, model: &Model, key: &str, thing: &str, uuid: &str) -> String {
    document(|o| {
        o.text(key, thing);
        o.text("model_uuid", &model.uuid);
        o.text("project", &project.name);
        o.text("uuid", uuid);
    })
}
