#!/usr/bin/env bash
# Times backups of databases side by side with what the database can do itself, and prints a Markdown table.
set -euo pipefail
# shellcheck source=scripts/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
export LC_ALL=C

usage() {
    cat <<'END'
Usage: scripts/bench-sql.sh [OPTION]...

Starts PostgreSQL and MariaDB in a temporary directory, puts one generated tree into each as Kylin would (once with
contents as they are, once compressed), then times metastash and what the servers' own programs can do (the floors),
and prints a Markdown table on standard output. Within a round all of a database is done in turn; the median of the
rounds counts.

  --documents N     documents in the tree (default 101110)
  --rounds N        how often everything is done (default 3)
  --changed N       rows that differ when a backup is restored (default 100)
  --only KIND,...   postgresql or mysql only
  --floors          do without metastash
  --work DIR        where to work: tree, databases and repositories (default: a new directory in TMPDIR)
  --keep            leave the logs, the tree and the repositories there; else all goes at the end
  --help            print this

The servers and their programs: apt-get install postgresql mariadb-server openssl time zstd

Example: scripts/bench-sql.sh --documents 5000 --rounds 1 --only postgresql
END
}

misused() {
    printf 'error: %s\n\n' "$1" >&2
    usage >&2
    exit 2
}

say() {
    printf '%s\n' "$*" >&2
}

# ---- options

documents=101110 rounds=3 changed=100 kinds=(postgresql mysql) only_floors='' work_parent=${TMPDIR:-/tmp} keep=''

number() {
    if [[ ! $2 =~ ^[0-9]{1,9}$ ]] || ((10#$2 < $3)); then misused "$1 takes a number from $3"; fi
    printf '%d' "$((10#$2))"
}

while (($#)); do
    option=$1
    case $option in
    --documents | --rounds | --changed | --only | --work)
        (($# >= 2)) || misused "$option takes a value"
        value=$2
        shift
        ;;
    esac
    case $option in
    --documents) documents=$(number "$option" "$value" 1000) ;;
    --rounds) rounds=$(number "$option" "$value" 1) ;;
    --changed) changed=$(number "$option" "$value" 1) ;;
    --only)
        IFS=, read -ra kinds <<<"$value"
        for kind in "${kinds[@]}"; do
            [[ $kind == postgresql || $kind == mysql ]] || misused "--only knows postgresql and mysql, not $kind"
        done
        ;;
    --floors) only_floors=1 ;;
    --work) work_parent=$value ;;
    --keep) keep=1 ;;
    -h | --help)
        usage
        exit
        ;;
    *) misused "unknown option: $option" ;;
    esac
    shift
done

# ---- programs

work_parent=$(realpath -m -- "$work_parent")
cd "$(dirname "${BASH_SOURCE[0]}")/.."
unset METASTASH_REPO METASTASH_STORE KYLIN_HOME

revision=$(git describe --always --dirty 2>/dev/null || true)
say 'building metastash, the generator and the loader'
cargo build --release --locked --quiet --bin metastash --example generate --example load_sql
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
metastash=$target/release/metastash generate=$target/release/examples/generate
load_sql=$target/release/examples/load_sql

for kind in "${kinds[@]}"; do
    case $kind in
    postgresql) needed=(psql pg_dump) ;;
    mysql) needed=(mariadb mariadb-dump) ;;
    esac
    for program in "${needed[@]}"; do
        command -v "$program" >/dev/null || fail "$program is not there: apt-get install postgresql mariadb-server"
    done
done
gnu_time=/usr/bin/time
if ! "$gnu_time" -f %M -o /dev/null true 2>/dev/null; then
    say 'GNU time is not there, so no peak memory: apt-get install time'
    gnu_time=''
fi
has_zstd=1
if ! command -v zstd >/dev/null; then
    say 'zstd is not there, so no floor for the first backup: apt-get install zstd'
    has_zstd=''
fi

# ---- the place

mkdir -p -- "$work_parent"
work=$(mktemp -d -- "$work_parent/bench-sql.XXXXXX")
finish() {
    stop_server
    if [[ -n $keep ]]; then
        say "left in $work"
    else
        rm -rf -- "$work"
    fi
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
mkdir "$work/log" "$work/home"
chmod 755 "$work"
tree=$work/tree
export HOME=$work/home XDG_CACHE_HOME=$work/home/cache XDG_CONFIG_HOME=$work/home/config

# ---- servers

server='' port=''

# Starts one under the script that tests use: it goes when the pipe that is held here closes.
start_server() { # KIND
    local answer
    mkfifo "$work/commands" "$work/answers"
    TMPDIR=$work sh tests/it/sql/server.sh "$1" <"$work/commands" >"$work/answers" 2>/dev/null &
    server=$!
    exec {commands}>"$work/commands" {answers}<"$work/answers"
    rm -- "$work/commands" "$work/answers"
    read -r answer port _ <&"$answers" || true
    [[ $answer == ready ]] || fail "no server: $answer $port"
}

stop_server() {
    [[ -n $server ]] || return 0
    exec {commands}>&- {answers}<&-
    wait "$server" || true
    server=''
}

url_of() { # KIND DATABASE
    printf '%s://admin:secret@127.0.0.1:%s/%s' "$1" "$port" "$2"
}

sql() { # KIND DATABASE [ARGUMENT...]
    local kind=$1 database=$2
    shift 2
    case $kind in
    postgresql) PGPASSWORD=secret psql -X -q -A -t -h 127.0.0.1 -p "$port" -U admin -d "$database" "$@" ;;
    mysql) MYSQL_PWD=secret mariadb --no-defaults -h 127.0.0.1 -P "$port" -u admin --quick -N -B -r "$@" "$database" ;;
    esac
}

# Prints the tables with documents.
tables_of() { # KIND DATABASE
    local schema
    [[ $1 == postgresql ]] && schema='current_schema()' || schema='database()'
    sql "$1" "$2" <<<"SELECT table_name FROM information_schema.columns
        WHERE table_schema = $schema AND column_name = 'content' ORDER BY table_name;"
}

# Writes statements that read all of every table, or what tells whether something changed.
write_reads() { # KIND DATABASE
    local table project
    while read -r table; do
        case $table in
        *_project | *_user_info | *_user_group | *_user_global_acl | *_object_acl | *_history_source_usage | \
            *_resource_group | *_system) project='' ;;
        *) project=' project,' ;;
        esac
        case $1 in
        postgresql)
            echo "COPY $table TO STDOUT (FORMAT BINARY);" >&3
            echo "COPY (SELECT id, meta_key,$project mvcc, ts FROM $table) TO STDOUT (FORMAT BINARY);" >&4
            ;;
        mysql)
            echo "SELECT * FROM $table;" >&3
            echo "SELECT id, meta_key,$project mvcc, ts FROM $table;" >&4
            ;;
        esac
    done < <(tables_of "$1" "$2") 3>"$work/$2.all.sql" 4>"$work/$2.keys.sql"
    [[ -s $work/$2.all.sql ]] || fail "nothing was loaded into $1"
}

# ---- measuring

declare -A values # of each operation and column: microseconds or bytes, or `failed`
has_failed=''
repo='' kind='' database=''

floor_all() { sql "$kind" "$database" <"$work/$database.all.sql" >/dev/null; }
floor_keys() { sql "$kind" "$database" <"$work/$database.keys.sql" >/dev/null; }
floor_dump() {
    case $kind in
    postgresql)
        PGPASSWORD=secret pg_dump -h 127.0.0.1 -p "$port" -U admin -Fc -f "$work/dump" "$database"
        ;;
    mysql)
        MYSQL_PWD=secret mariadb-dump --no-defaults -h 127.0.0.1 -P "$port" -u admin --quick --single-transaction \
            "$database" >"$work/dump"
        ;;
    esac
}
floor_tar() { tar -c -C "$tree" . | zstd -q -3 -T2 -f -o "$work/tar.zst"; }

stash() { # ARGUMENT...
    "${memory[@]}" "$metastash" --quiet --repo "$repo" --store "$(url_of "$kind" "$database")" "$@"
}
first() { stash backup; }
versions() { stash backup --no-log; }
log() { stash backup --json; }
restore() { stash restore latest; }
restore_known() { stash restore latest~1; }

column() { printf '%s-%s' "$kind" "$database"; }

add() { # OPERATION VALUE
    values[$1,$(column)]+=" $2"
}

measure() { # OPERATION
    local log=$work/log/$round.$(column).$1 began ended
    # What others wrote must not be written back at this one's expense.
    sync
    began=$EPOCHREALTIME
    if ! "$1" >"$log" 2>&1 </dev/null; then
        add "$1" failed
        has_failed=1
        say "FAILED: $1, $(column)"
        tail -n 3 "$log" | cut -c1-300 | sed 's/^/    /' >&2
        return 0
    fi
    ended=$EPOCHREALTIME
    add "$1" "$((${ended/./} - ${began/./}))"
}

change() {
    "$load_sql" change --documents "$changed" "$(url_of "$kind" "$database")" >"$work/log/change"
    # Rows that were written just now may be read again by the next backup.
    sleep 1
}

measure_metastash() {
    memory=()
    [[ -z $gnu_time ]] || memory=("$gnu_time" -f %M -o "$work/memory")
    measure first
    memory=()
    if [[ -n $gnu_time && ${values[first,$(column)]} != *failed ]]; then
        add memory "$(($(tail -n 1 "$work/memory") * 1024))"
    fi
    [[ ! -d $repo ]] || add size "$(du -sb -- "$repo" | cut -f1)"
    sleep 1
    measure versions
    measure log
    local seconds
    seconds=$(grep -oE '"seconds_after_connect": *[0-9.]+' "$work/log/$round.$(column).log" | grep -oE '[0-9.]+$') || true
    [[ -z $seconds ]] || add connected "$(awk -v s="$seconds" 'BEGIN { printf "%.0f", s * 1e6 }')"
    change
    measure restore
    stash backup >"$work/log/backup" 2>&1 </dev/null || true
    change
    stash backup >"$work/log/backup" 2>&1 </dev/null || true
    measure restore_known
}

# ---- the rounds

say "making a tree of $documents documents"
"$generate" --documents "$documents" "$tree" >"$work/log/generate"
tree_bytes=$(find "$tree" -type f -printf '%s\n' | awk '{ sum += $1 } END { printf "%d", sum }')

databases=(plain compressed)
columns=() versions_shown=()
for kind in "${kinds[@]}"; do
    start_server "$kind"
    case $kind in
    postgresql) versions_shown+=("PostgreSQL $(sql "$kind" postgres <<<'SHOW server_version' | cut -d ' ' -f 1)") ;;
    mysql) versions_shown+=("MariaDB $(sql "$kind" mysql <<<'SELECT version()' | cut -d - -f 1)") ;;
    esac
    for database in "${databases[@]}"; do
        columns+=("$(column)")
        say "loading $kind, contents $database"
        case $kind in
        postgresql) sql "$kind" postgres <<<"CREATE DATABASE $database" ;;
        mysql) sql "$kind" mysql <<<"CREATE DATABASE $database" ;;
        esac
        [[ $database == plain ]] && how=none || how=all
        "$load_sql" tree --compress "$how" "$(url_of "$kind" "$database")" "$tree" >"$work/log/load.$(column)"
        # An empty audit log can't be followed.
        change
        if [[ $kind == postgresql ]]; then sql "$kind" "$database" <<<'VACUUM ANALYZE'; fi
        write_reads "$kind" "$database"
    done
    for ((round = 1; round <= rounds; round++)); do
        for database in "${databases[@]}"; do
            say "round $round of $rounds: $kind, contents $database"
            repo=$work/repos/$round.$(column)
            mkdir -p "$work/repos"
            measure floor_all
            measure floor_keys
            measure floor_dump
            [[ -z $has_zstd ]] || measure floor_tar
            [[ -n $only_floors ]] || measure_metastash
        done
    done
    stop_server
done

# ---- the table

# Prints the median of an operation's values, `failed` if one did, nothing if there are none.
median() { # OPERATION COLUMN
    local all=${values[$1,$2]-}
    if [[ $all == *failed* ]]; then
        printf 'failed'
    elif [[ -n $all ]]; then
        tr ' ' '\n' <<<"$all" | sed '/^$/d' | sort -n |
            awk '{ v[NR] = $1 } END { printf "%.0f", (v[int((NR + 1) / 2)] + v[int((NR + 2) / 2)]) / 2 }'
    fi
}

# Prints microseconds or bytes as they are read best.
shown() { # OPERATION VALUE
    case $1,$2 in
    *,) printf '–' ;;
    *,failed) printf 'failed' ;;
    size,* | memory,*) awk -v x="$2" 'BEGIN { x /= 1e6; printf(x < 10 ? "%.2f MB" : "%.1f MB", x) }' ;;
    *) awk -v x="$2" 'BEGIN { if (x < 1e6) printf(x < 1e5 ? "%.1f ms" : "%.0f ms", x / 1e3); else printf "%.2f s", x / 1e6 }' ;;
    esac
}

row() { # OPERATION NAME [FLOOR]
    local column ours theirs
    printf '| %s |' "$2"
    for column in "${columns[@]}"; do
        ours=$(median "$1" "$column")
        printf ' %s' "$(shown "$1" "$ours")"
        if [[ -n ${3-} ]]; then
            theirs=$(median "$3" "$column")
            if [[ $ours =~ ^[0-9]+$ && $theirs =~ ^[1-9][0-9]*$ ]]; then
                awk -v a="$ours" -v b="$theirs" 'BEGIN { r = a / b; printf(r < 0.1 ? " (%.3f)" : " (%.2f)", r) }'
            fi
        fi
        printf ' |'
    done
    printf '\n'
}

processor=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)
memory_kb=$(awk '/^MemTotal/ { print $2 }' /proc/meminfo)
printf '%s: %s cores (%s), %s GB of memory, Linux %s, %s; metastash %s; %s.\n' "$(date -u +%Y-%m-%d)" "$(nproc)" \
    "${processor:-$(uname -m)}" "$((memory_kb / 1000000))" "$(uname -r)" \
    "$(df --output=fstype -- "$work" | tail -n 1)" "${revision:-of no known revision}" \
    "$(printf '%s, ' "${versions_shown[@]}" | sed 's/, $//')"
printf '%s documents, %s, warm cache, server on the same machine; median of %s. In parentheses: divided by the floor.\n\n' \
    "$documents" "$(shown size "$tree_bytes")" "$rounds$([[ $rounds == 1 ]] && echo ' round' || echo ' rounds')"

printf '| operation |'
for column in "${columns[@]}"; do
    printf ' %s |' "$(sed 's/postgresql-/PostgreSQL, /; s/mysql-/MariaDB, /' <<<"$column")"
done
printf '\n|---|'
for column in "${columns[@]}"; do printf -- '---|'; done
printf '\n'
row floor_all 'floor: all columns of all rows'
row floor_keys 'floor: keys and versions'
row floor_dump 'floor: dump'
[[ -z $has_zstd ]] || row floor_tar 'floor: compress the tree'
if [[ -z $only_floors ]]; then
    row first 'first backup (all columns)' floor_all
    row versions 'nothing changed, by versions (keys and versions)' floor_keys
    row log 'nothing changed, by audit log (keys and versions)' floor_keys
    row connected '… after connecting'
    row restore "restore of $changed changed rows (keys and versions)" floor_keys
    row restore_known '… the state before is a snapshot (keys and versions)' floor_keys
    row size 'repository after first backup'
    row memory 'peak memory, first backup'
fi
# shellcheck disable=SC2016 # code spans of Markdown
printf '\nFloors: `COPY … (FORMAT BINARY)` in one session of `psql`, or `SELECT` with `mariadb --quick`; `pg_dump -Fc` or\n`mariadb-dump`; `tar c . | zstd -3 -T2`.\n'

[[ -z $has_failed ]]
