//! Users, groups, permissions and the other documents that belong to no model.

use super::dice::{Civil, DAY, Dice, END, HOUR, START};
use super::json::document;
use super::models::head;
use super::names;
use super::project::Project;

/// One document of the whole store.
pub struct Global {
    pub kind: &'static str,
    pub key: String,
    pub modified: u64,
    pub content: String,
}

/// Returns the documents that belong to no project, the most needed first.
pub fn globals(seed: u64, documents: u64) -> Vec<Global> {
    let mut dice = Dice::new(seed, [u64::MAX, 0, 0]);
    let mut globals = vec![named(&mut dice, "UUID", None), image(END - HOUR)];
    let users = (1 + documents / 400).min(400);
    for user in 0..users {
        globals.push(user_info(&mut dice, user));
        globals.push(user_permissions(&mut dice, user));
    }
    for group in ["ALL_USERS", "ROLE_ADMIN", "ROLE_ANALYST", "ROLE_MODELER"] {
        globals.push(user_group(&mut dice, group));
    }
    globals.push(named(&mut dice, "VERSION", Some("5.0.2.0")));
    globals.push(named(&mut dice, "acl_version", Some("5.0.2.0")));
    globals.push(resource_group(&mut dice));
    for ago in 1..=(documents / 500).min(365) {
        globals.push(source_usage(&mut dice, END - ago * DAY));
    }
    globals
}

fn global(kind: &'static str, key: &str, modified: u64, content: String) -> Global {
    Global { kind, key: key.to_owned(), modified, content }
}

/// Returns a SYSTEM document that holds one string, by default its own uuid.
fn named(dice: &mut Dice, name: &str, value: Option<&str>) -> Global {
    let uuid = dice.uuid();
    let content = document(|o| {
        head(o, &uuid, START, START);
        o.text("str", value.unwrap_or(&uuid));
        o.text("name", name);
    });
    global("SYSTEM", name, START, content)
}

fn image(modified: u64) -> Global {
    let content = format!("{{\"offset\":{}}}", modified / 7_919);
    global("SYSTEM", "_image", modified, content)
}

fn user_info(dice: &mut Dice, number: u64) -> Global {
    const HASH: &[u8] = b"./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let (name, created) = (names::user(number), dice.between(START, END - DAY));
    let modified = dice.between(created, END - HOUR);
    let role = if number == 0 { "ROLE_ADMIN" } else { "ROLE_ANALYST" };
    let content = document(|o| {
        o.text("username", &name);
        o.text("password", &format!("$2a$10${}", dice.letters(53, HASH)));
        o.objects("authorities", [role, "ALL_USERS"], |o, role| {
            o.text("authority", role);
        });
        o.no(&["disabled", "defaultPassword", "locked"]);
        head(o, &dice.uuid(), modified, created);
        o.plain("locked_time", 0);
        o.plain("wrong_time", dice.skewed(0, 3));
        o.plain("first_login_failed_time", 0);
        o.text("project", "_global");
    });
    global("USER_INFO", &name, modified, content)
}

fn user_permissions(dice: &mut Dice, number: u64) -> Global {
    let (name, created) = (names::user(number), dice.between(START, END - DAY));
    let content = document(|o| {
        o.text("username", &name);
        head(o, &dice.uuid(), created, created);
        o.numbers("permissions", [if number == 0 { 128 } else { 0 }]);
        o.nulls(&["data_query_projects"]);
        o.text("project", "_global");
    });
    global("USER_GLOBAL_ACL", &name, created, content)
}

fn user_group(dice: &mut Dice, name: &str) -> Global {
    let content = document(|o| {
        head(o, &dice.uuid(), START, START);
        o.text("group_name", name);
        o.text("project", "_global");
    });
    global("USER_GROUP", name, START, content)
}

fn resource_group(dice: &mut Dice) -> Global {
    let content = document(|o| {
        head(o, &dice.uuid(), START, START);
        o.no(&["resource_group_enabled"]);
        for key in ["resource_groups", "instances", "mapping_info"] {
            o.plain(key, "[ ]");
        }
        o.text("project", "_global");
    });
    global("RESOURCE_GROUP", "relation", START, content)
}

/// Returns the HISTORY_SOURCE_USAGE document of a day.
pub fn source_usage(dice: &mut Dice, day: u64) -> Global {
    let (key, checked) = (Civil::of(day).compact_day(), day + dice.below(HOUR));
    let content = document(|o| {
        head(o, &dice.uuid(), checked, checked);
        o.plain("capacity_notification", true);
        o.plain("check_time", checked);
        o.plain("current_capacity", dice.magnitude(42, 44));
        o.plain("license_capacity", -1);
        o.plain("capacity_details", "[ ]");
        o.text("capacity_status", "OK");
        o.text("res_path", &format!("HISTORY_SOURCE_USAGE/{key}"));
        o.text("project", "_global");
    });
    global("HISTORY_SOURCE_USAGE", &key, checked, content)
}

/// Returns a PROJECT document.
pub fn project(project: &Project) -> String {
    document(|o| {
        head(o, &project.uuid, project.created, project.created);
        o.text("name", &project.name);
        o.text("owner", &project.owner);
        o.text("status", "ENABLED");
        o.plain("create_time_utc", project.created);
        o.text("default_database", "DEFAULT");
        o.text("description", "");
        o.nulls(&["principal", "keytab"]);
        o.text("maintain_model_type", "MANUAL_MAINTAIN");
        o.object("override_kylin_properties", |o| {
            o.text("kylin.metadata.semi-automatic-mode", "false");
            o.text("kylin.query.metadata.expose-computed-column", "true");
            o.text("kylin.source.default", "9");
        });
        o.object("segment_config", |o| {
            o.plain("auto_merge_enabled", true);
            o.texts("auto_merge_time_ranges", ["WEEK", "MONTH", "QUARTER", "YEAR"]);
            o.object("volatile_range", |o| {
                o.plain("volatile_range_number", 0);
                o.no(&["volatile_range_enabled"]);
                o.text("volatile_range_type", "DAY");
            });
            o.object("retention_range", |o| {
                o.plain("retention_range_number", 1);
                o.no(&["retention_range_enabled"]);
                o.text("retention_range_type", "MONTH");
            });
        });
        o.text("project", "_global");
    })
}

/// Returns the OBJECT_ACL document of a project.
pub fn permissions(project: &Project, dice: &mut Dice) -> String {
    document(|o| {
        head(o, &dice.uuid(), project.created, project.created);
        o.object("domainObjectInfo", |o| {
            o.text("type", "org.apache.kylin.metadata.project.ProjectInstance");
            o.text("id", &project.uuid);
        });
        o.nulls(&["parentDomainObjectInfo"]);
        o.object("ownerInfo", |o| {
            o.text("sid", &project.owner);
            o.plain("principal", true);
        });
        o.no(&["entriesInheriting"]);
        o.objects("entries", 0..project.users, |o, user| {
            o.text("p", &names::user(user));
            o.plain("m", dice.pick(&[1, 1, 32, 64]));
        });
        o.text("project", "_global");
    })
}

/// Returns the ACL document of a user in a project: the tables and columns that may be read.
pub fn row_acl(project: &Project, dice: &mut Dice) -> String {
    document(|o| {
        head(o, &dice.uuid(), project.created, project.created);
        o.object("table", |o| {
            for table in project.tables.iter().take(6).filter(|_| dice.chance(60)) {
                o.object(&table.identity(), |o| {
                    o.texts("column", table.columns.iter().map(|column| &column.name));
                    o.nulls(&["row", "column_sensitive_data_mask", "dependent_columns", "row_filter"]);
                });
            }
        });
        o.text("project", &project.name);
    })
}

/// Returns the QUERY_RECORD document of a user: saved queries.
pub fn queries(project: &Project, dice: &mut Dice) -> String {
    document(|o| {
        head(o, &dice.uuid(), project.created, project.created);
        o.objects("queries", 0..4, |o, number| {
            let table = dice.pick(&project.tables);
            let column = &dice.pick(&table.columns).name;
            o.text("id", &dice.uuid());
            o.text("name", &format!("{}_{number}", column.to_lowercase()));
            o.text("project", &project.name);
            o.text("sql", &format!("select {column}, count(*) from {} group by {column}", table.identity()));
            o.text("description", "");
        });
        o.text("project", &project.name);
    })
}

/// Returns the SQL_BLACKLIST document of a project.
pub fn blacklist(project: &Project, dice: &mut Dice) -> String {
    document(|o| {
        head(o, &dice.uuid(), project.created, project.created);
        o.text("project", &project.name);
        o.objects("blacklist_items", 0..3, |o, _| {
            o.text("id", &dice.uuid());
            o.text("regex", &format!("select .* from {}", dice.pick(&project.tables).identity()));
            o.nulls(&["sql"]);
            o.plain("concurrent_limit", dice.below(5));
        });
    })
}

/// Returns a LOGICAL_VIEW document.
pub fn logical_view(project: &Project, dice: &mut Dice, name: &str) -> String {
    document(|o| {
        head(o, &dice.uuid(), project.created, project.created);
        o.text("table_name", name);
        let table = dice.pick(&project.tables).identity();
        o.text("created_sql", &format!("CREATE LOGICAL VIEW {name} AS SELECT * FROM {table}"));
        o.text("modified_user", &project.owner);
        o.text("created_project", &project.name);
    })
}

/// Returns the JOB_STATS document of a project's day.
pub fn job_stats(project: &str, models: &[String], dice: &mut Dice, day: u64) -> String {
    document(|o| {
        head(o, &dice.uuid(), day + 20 * HOUR, day);
        o.plain("count", models.len());
        o.plain("total_duration", dice.magnitude(18, 24));
        o.plain("total_byte_size", dice.magnitude(26, 38));
        o.plain("date", day);
        o.object("model_stats", |o| {
            for model in models {
                o.object(model, |o| {
                    o.plain("count", 1);
                    o.plain("total_duration", dice.magnitude(16, 20));
                    o.plain("total_byte_size", dice.magnitude(24, 34));
                });
            }
        });
        o.text("project", project);
    })
}
