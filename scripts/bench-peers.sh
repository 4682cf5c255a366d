#!/usr/bin/env bash
# Times metastash side by side with other backup tools, on the same generated tree, and prints a Markdown table.
set -euo pipefail
export LC_ALL=C

usage() {
    cat <<'END'
Usage: scripts/bench-peers.sh [OPTION]...

Runs metastash, restic, rustic, conserve (those that are found) and what the system itself can do (the floor) on one
generated tree, and prints a Markdown table on standard output. Within a round, each operation is done by all tools in
turn before the next one, so that a machine that gets slower gets so for all. The median of the rounds counts.

  --documents N     documents in the tree (default 101110)
  --rounds N        how often everything is done (default 3)
  --days N          days of churn before the last size is taken; 0 skips it (default 30)
  --peers-days N    the same for the other tools, up to --days (default 0: their size is not taken)
  --only TOOL,...   these tools only, such as `metastash`
  --work DIR        where to work: tree, repositories and restored trees (default: a new directory in TMPDIR)
  --keep            leave what was made there; else it goes at the end, no sooner (see below)
  --help            print this

Other tools are looked for in the directories of PEERS_BIN (separated by `:`), then in PATH:
  apt-get install restic time zstd; cargo install conserve; cargo install rustic-rs

On ext4, making files is many times slower for some minutes after as many were removed near by. So restored trees are
kept until the end (about 0.5 GB for each tool and round at 101,110 documents), and runs are best 5 minutes apart.

Example: PEERS_BIN=$HOME/peers/bin scripts/bench-peers.sh --documents 5000 --rounds 1 --days 3
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

documents=101110 rounds=3 days=30 peers_days=0 only='' work_parent=${TMPDIR:-/tmp} keep=''

number() {
    if [[ ! $2 =~ ^[0-9]{1,9}$ ]] || ((10#$2 < $3)); then misused "$1 takes a number from $3"; fi
    printf '%d' "$((10#$2))"
}

while (($#)); do
    option=$1
    case $option in
    --documents | --rounds | --days | --peers-days | --only | --work)
        (($# >= 2)) || misused "$option takes a value"
        value=$2
        shift
        ;;
    esac
    case $option in
    --documents) documents=$(number "$option" "$value" 100) ;;
    --rounds) rounds=$(number "$option" "$value" 1) ;;
    --days) days=$(number "$option" "$value" 0) ;;
    --peers-days) peers_days=$(number "$option" "$value" 0) ;;
    --only) only=$value ;;
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
((peers_days <= days)) || peers_days=$days

known=(metastash restic rustic conserve)
wanted=("${known[@]}")
if [[ -n $only ]]; then
    IFS=, read -ra wanted <<<"$only"
    for tool in "${wanted[@]}"; do
        [[ " ${known[*]} " == *" $tool "* ]] || misused "--only knows ${known[*]}, not $tool"
    done
fi

# ---- tools

work_parent=$(realpath -m -- "$work_parent")
cd "$(dirname "${BASH_SOURCE[0]}")/.."
[[ -z ${PEERS_BIN-} ]] || PATH=$PEERS_BIN:$PATH
unset METASTASH_REPO METASTASH_STORE KYLIN_HOME

revision=$(git describe --always --dirty 2>/dev/null || true)
say 'building metastash and the generator'
cargo build --release --locked --quiet --bin metastash --example generate
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
metastash=$target/release/metastash generate=$target/release/examples/generate

declare -A title
tools=()
for tool in "${wanted[@]}"; do
    program=$tool
    [[ $tool != metastash ]] || program=$metastash
    if ! command -v "$program" >/dev/null; then
        say "$tool is not there: left out"
        continue
    fi
    case $tool in
    restic) version=$(restic version) ;;
    *) version=$("$program" --version) ;;
    esac
    [[ $version =~ [0-9]+(\.[0-9]+)+ ]] || BASH_REMATCH=('')
    title[$tool]="$tool ${BASH_REMATCH[0]}"
    tools+=("$tool")
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

is_parent_ours=''
[[ -d $work_parent ]] || is_parent_ours=1
mkdir -p -- "$work_parent"
work=$(mktemp -d -- "$work_parent/bench-peers.XXXXXX")
finish() {
    if [[ -n $keep ]]; then
        say "left in $work"
        return
    fi
    rm -rf -- "$work"
    [[ -z $is_parent_ours ]] || rmdir -- "$work_parent"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
mkdir "$work/log" "$work/home"
tree=$work/tree repos='' day=0

# Other tools keep caches and settings at home: these are to be new, and to go with the rest.
export HOME=$work/home XDG_CACHE_HOME=$work/home/cache XDG_CONFIG_HOME=$work/home/config
export RESTIC_PASSWORD=bench RUSTIC_PASSWORD=bench RUSTIC_NO_PROGRESS=true RUSTIC_LOG_LEVEL=warn

# ---- what each tool does: sets `argv`, empty if it can't; runs in `place`

metastash_does() {
    local common=("$metastash" --quiet --repo "$repos/metastash")
    case $1 in
    init) argv=(true) ;; # the first backup does it
    backup) argv=("${common[@]}" --store "$tree" backup) ;;
    restore) argv=("${common[@]}" --store "$2" restore latest) ;;
    check) argv=("${common[@]}" check --read-data) ;;
    diff) argv=("${common[@]}" diff latest~1 latest) ;;
    esac
}

restic_does() {
    case $1 in
    init) argv=(restic init) ;;
    # From within the tree, or a restore would begin with the whole path.
    backup) place=$tree argv=(restic backup --quiet .) ;;
    restore) argv=(restic restore --quiet latest --target "$2") ;;
    check) argv=(restic check --quiet --read-data) ;;
    diff)
        local ids
        # Two ids are needed; the list is in the order of time.
        ids=$(restic snapshots --quiet --json | grep -oE '"short_id":"[0-9a-f]+"' | cut -d'"' -f4 | tail -n 2) || true
        # shellcheck disable=SC2206 # each id is a word
        argv=(restic diff $ids)
        ;;
    esac
}

rustic_does() {
    case $1 in
    init) argv=(rustic init) ;;
    backup) argv=(rustic backup "$tree") ;;
    restore) argv=(rustic restore "latest:$tree" "$2") ;;
    check) argv=(rustic check --read-data) ;;
    diff) argv=(rustic diff latest~1 latest) ;;
    esac
}

conserve_does() {
    local archive=$repos/conserve
    case $1 in
    init) argv=(conserve init "$archive") ;;
    backup) argv=(conserve backup --no-progress --no-stats "$archive" "$tree") ;;
    restore) argv=(conserve restore --no-progress --no-stats "$archive" "$2") ;;
    check) argv=(conserve validate --no-progress "$archive") ;;
    diff) ;; # it compares with live trees only
    esac
}

# What the system can do with its own means. `$3` is the operation, of which several are backups.
floor_does() {
    case $3 in
    first)
        # shellcheck disable=SC2016 # for the inner shell
        [[ -z $has_zstd ]] || place=$tree argv=(bash -o pipefail -c 'tar c . | zstd -q -3 -T2 -o "$1"' - "$repos/tar.zst")
        ;;
    unchanged) argv=(find "$tree" -size +1000000k) ;;
    restore) argv=(cp -r "$tree/." "$2") ;;
    esac
}

# ---- measuring

declare -A action=([first]=backup [unchanged]=backup [churned]=backup [restore]=restore [check]=check [diff]=diff)
declare -A values # of each operation and tool: microseconds or bytes, or `failed`
has_failed=''

# Runs what `argv` says in `place`; its output goes to a log.
run() {
    (cd "$place" && exec "${argv[@]}") >"$1" 2>&1 </dev/null
}

failed() { # OPERATION TOOL LOG
    values[$1,$2]+=' failed'
    has_failed=1
    say "FAILED: $2, $1"
    tail -n 3 "$3" | cut -c1-300 | sed 's/^/    /' >&2
}

measure() { # OPERATION TOOL
    local operation=$1 tool=$2 place=$work argv=() log=$work/log/$round.$1.$2 began ended memory
    local restored=$work/restored.$round.$2
    [[ $operation != restore ]] || mkdir -- "$restored"
    "${tool}_does" "${action[$operation]}" "$restored" "$operation"
    ((${#argv[@]})) || return 0
    if [[ $operation == first && $tool != floor && -n $gnu_time ]]; then
        argv=("$gnu_time" -f %M -o "$work/memory" "${argv[@]}")
    fi
    # What others wrote must not be written back at this one's expense.
    sync
    began=$EPOCHREALTIME
    if ! run "$log"; then
        failed "$operation" "$tool" "$log"
        return 0
    fi
    ended=$EPOCHREALTIME
    if [[ $operation == restore && $round == 1 ]] && ! diff -r -- "$tree" "$restored" >"$log" 2>&1; then
        failed "$operation" "$tool" "$log"
    else
        values[$operation,$tool]+=" $((${ended/./} - ${began/./}))"
    fi
    if [[ $operation == first && $tool != floor && -n $gnu_time ]]; then
        memory=$(tail -n 1 "$work/memory")
        values[memory,$tool]+=" $((memory * 1024))"
    fi
}

# Each tool in turn, with another one beginning in each round.
measure_all() { # OPERATION
    local turns=(floor "${tools[@]}") i
    say "round $round of $rounds: $1"
    for ((i = 0; i < ${#turns[@]}; i++)); do
        measure "$1" "${turns[(i + round - 1) % ${#turns[@]}]}"
    done
}

init() { # TOOL
    local place=$work argv=()
    "$1_does" init
    run "$work/log/$round.init.$1" || failed first "$1" "$work/log/$round.init.$1"
}

size_of() { # FILE
    du -sb -- "$1" | cut -f1
}

churn() {
    day=$((day + 1))
    "$generate" churn --day "$day" "$tree" >"$work/log/churn"
    # Whatever was written in the last tick of the clock may be read again by the next backup.
    sleep 1
}

# ---- the rounds

say "making a tree of $documents documents"
"$generate" --documents "$documents" "$tree" >"$work/log/generate"
tree_bytes=$(find "$tree" -type f -printf '%s\n' | awk '{ sum += $1 } END { printf "%d", sum }')
sleep 1

for ((round = 1; round <= rounds; round++)); do
    repos=$work/repos.$round
    mkdir -- "$repos"
    export RESTIC_REPOSITORY=$repos/restic RESTIC_CACHE_DIR=$work/cache.$round/restic
    export RUSTIC_REPOSITORY=$repos/rustic RUSTIC_CACHE_DIR=$work/cache.$round/rustic
    for tool in "${tools[@]}"; do init "$tool"; done
    # The file `/dev/null` itself would let tar read nothing.
    tar -c -C "$tree" . | cat >/dev/null
    measure_all first
    for tool in "${tools[@]}"; do
        [[ ${values[first,$tool]} == *failed || ! -e $repos/$tool ]] || values[size,$tool]+=" $(size_of "$repos/$tool")"
    done
    [[ ! -e $repos/tar.zst ]] || values[size,floor]+=" $(size_of "$repos/tar.zst")"
    measure_all unchanged
    churn
    measure_all churned
    measure_all restore
    measure_all check
    measure_all diff
done

# The last round's repositories have one day already.
for ((passed = 1; passed <= days; passed++)); do
    if ((passed > 1)); then
        say "day $passed of $days"
        churn
    fi
    for tool in "${tools[@]}"; do
        until=$peers_days
        [[ $tool != metastash ]] || until=$days
        ((passed <= until)) || continue
        if ((passed > 1)); then
            place=$work argv=()
            "${tool}_does" backup ''
            run "$work/log/days.$tool" || failed size_later "$tool" "$work/log/days.$tool"
        fi
        ((passed < until)) || values[size_later,$tool]+=" $(size_of "$repos/$tool")"
    done
done

# ---- the table

# Prints the median of an operation's values, `failed` if one did, nothing if there are none.
median() { # OPERATION TOOL
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
    size*,* | memory,*) awk -v x="$2" 'BEGIN { x /= 1e6; printf(x < 10 ? "%.2f MB" : "%.1f MB", x) }' ;;
    *) awk -v x="$2" 'BEGIN { if (x < 1e6) printf(x < 1e5 ? "%.1f ms" : "%.0f ms", x / 1e3); else printf "%.2f s", x / 1e6 }' ;;
    esac
}

# Prints whether A is at most F times B: `yes` or `no`, or a dash if one of them is not known.
judged() { # A F B
    if [[ $1 == failed ]]; then
        printf 'no'
    elif [[ -z $1 || -z $3 || $3 == failed ]]; then
        printf '–'
    else
        awk -v a="$1" -v f="$2" -v b="$3" 'BEGIN { printf(a <= f * b ? "yes" : "no") }'
    fi
}

row() { # OPERATION NAME MUST-TEXT FACTOR BOUND AIM-TEXT FACTOR BOUND; each bound a value, or empty
    local ours cell tool theirs
    ours=$(median "$1" metastash)
    printf '| %s | %s |' "$2" "$(shown "$1" "$ours")"
    for tool in "${columns[@]}"; do
        theirs=$(median "$1" "$tool")
        cell=$(shown "$1" "$theirs")
        if [[ $ours =~ ^[0-9]+$ && $theirs =~ ^[1-9][0-9]*$ ]]; then
            cell+=" ($(awk -v a="$ours" -v b="$theirs" 'BEGIN { r = a / b; printf(r < 0.1 ? "%.3f" : "%.2f", r) }'))"
        fi
        printf ' %s |' "$cell"
    done
    printf ' %s | %s | %s | %s |\n' "$3" "$(judged "$ours" "$4" "$5")" "$6" "$(judged "$ours" "$7" "$8")"
}

# Bounds on sizes are promised for one size of tree and number of days, those on memory and on a diff up to two sizes.
at_w1='' at_w1_month='' up_to_w1='' memory_max=''
if ((documents == 101110)); then
    at_w1=1
    ((days != 30)) || at_w1_month=1
fi
((documents > 101110)) || up_to_w1=1 memory_max=100000000
((documents <= 101110 || documents > 1000000)) || memory_max=256000000

columns=()
for tool in "${tools[@]}"; do
    [[ $tool == metastash ]] || columns+=("$tool")
done
columns+=(floor)

processor=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)
memory_kb=$(awk '/^MemTotal/ { print $2 }' /proc/meminfo)
printf '%s: %s cores (%s), %s GB of memory, Linux %s, %s; metastash %s.\n' "$(date -u +%Y-%m-%d)" "$(nproc)" \
    "${processor:-$(uname -m)}" "$((memory_kb / 1000000))" "$(uname -r)" \
    "$(df --output=fstype -- "$work" | tail -n 1)" "${revision:-of no known revision}"
printf '%s documents, %s, warm cache; median of %s. In parentheses: metastash divided by that tool.\n\n' \
    "$documents" "$(shown size "$tree_bytes")" "$rounds$([[ $rounds == 1 ]] && echo ' round' || echo ' rounds')"

printf '| operation | %s |' "${title[metastash]-metastash}"
for tool in "${columns[@]}"; do printf ' %s |' "${title[$tool]-$tool}"; done
printf ' must be | met | aim | reached |\n|---|---|'
for tool in "${columns[@]}"; do printf -- '---|'; done
printf -- '---|---|---|---|\n'

tar_zst=$(median first floor) find=$(median unchanged floor)
row first 'first backup' '≤ 1/2 conserve' 0.5 "$(median first conserve)" '≤ floor' 1 "$tar_zst"
row unchanged 'nothing changed' '≤ 1/3 conserve' 0.33333 "$(median unchanged conserve)" '≤ floor' 1 "$find"
row churned 'one day of churn' '≤ 1/4 conserve' 0.25 "$(median churned conserve)" '≤ 1.3 × find' 1.3 "$find"
row restore 'restore into an empty directory' '≤ conserve' 1 "$(median restore conserve)" \
    '≤ 1/2 conserve' 0.5 "$(median restore conserve)"
row check 'check, every byte' '≤ 1/3 conserve' 0.33333 "$(median check conserve)" '≤ 0.5 s' 1 "${up_to_w1:+500000}"
row diff 'diff of two snapshots one day apart' '≤ 50 ms' 1 "${up_to_w1:+50000}" '≤ 20 ms' 1 "${up_to_w1:+20000}"
row size 'repository after first backup' '≤ 28 MB' 1 "${at_w1:+28000000}" '≤ floor' 1 "$(median size floor)"
if ((days > 0)); then
    name="… after $days days of churn"
    ((peers_days == 0 || peers_days == days)) || name+=" (others: $peers_days)"
    row size_later "$name" '≤ 70 MB' 1 "${at_w1_month:+70000000}" '≤ 45 MB' 1 "${at_w1_month:+45000000}"
fi
memory_text=100
((documents <= 101110)) || memory_text=256
row memory 'peak memory, first backup' "≤ $memory_text MB" 1 "$memory_max" '≤ 64 MB' 1 "${up_to_w1:+64000000}"
# shellcheck disable=SC2016 # a code span of Markdown
printf '\nFloors: `tar c . | zstd -3 -T2`; `find -size` (looks at all); `cp -r`; the size of the `tar.zst`.\n'

[[ -z $has_failed ]]
