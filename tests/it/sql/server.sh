#!/bin/sh
# Runs a server of databases in a new directory, on a free port, for as long as standard input stays open.
#
# Usage: server.sh postgresql|mysql
#
# Standard output gets a line: `ready PORT DIRECTORY`, or `failed …`. The user `admin` with the password `secret` may do
# everything. The certificate of the server, for localhost and 127.0.0.1, is signed by DIRECTORY/ca.pem. Each line on
# standard input is a command, answered by a line that begins with `ready`, `stopped` or `failed`:
#
#   kill   ends all processes of the server at once, as a crash does
#   stop   ends the server in good order
#   start  starts it again, on the same port
#
# However the process that holds the other end of standard input comes to its end, the server and the directory go.
set -u
export LC_ALL=C PATH="$PATH:/usr/sbin:/sbin"
trap '' PIPE

kind=${1-} dir='' server='' port='' as='' account=''

fail() {
    printf 'failed %s\n' "$*"
    exit 1
}

missing() {
    fail "there is no $1: scripts/test.sh installs it, with apt-get"
}

finish() {
    trap - EXIT
    trap '' INT TERM HUP
    case $server,$kind in
    ,*) ;;
    # The shared memory of PostgreSQL stays if it is killed.
    *,postgresql) kill -QUIT "$server" 2>/dev/null ;;
    *) kill -KILL "$server" 2>/dev/null ;;
    esac
    [ -z "$server" ] || wait "$server"
    [ -z "$dir" ] || rm -rf "$dir"
}
trap finish EXIT
trap 'exit 1' INT TERM HUP

# ---- programs and place

# Prints the directory of a program: of the newest of its version, if it is not in PATH.
folder_of() { # PROGRAM
    found=$(command -v "$1") || found=$(ls -d /usr/lib/postgresql/*/bin/"$1" 2>/dev/null | sort -V | tail -n 1)
    [ -n "$found" ] && dirname "$(realpath "$found")"
}

command -v openssl >/dev/null || missing openssl
case $kind in
postgresql)
    bin=$(folder_of postgres) || missing PostgreSQL
    account=postgres
    ;;
mysql)
    bin=$(folder_of mariadbd) || missing MariaDB
    command -v mariadb-install-db >/dev/null || missing mariadb-install-db
    account=mysql
    ;;
*) fail 'which kind of server? postgresql or mysql' ;;
esac

# In memory, where there is plenty, making tables takes a quarter of the time.
free=$(df -Pk /dev/shm 2>/dev/null | awk 'NR == 2 { print $4 }')
[ -n "${TMPDIR-}" ] || [ "${free:-0}" -lt 4000000 ] || TMPDIR=/dev/shm
dir=$(mktemp -d "${TMPDIR:-/tmp}/metastash-server.XXXXXX") || fail 'no directory can be made'
chmod 755 "$dir"
cd "$dir" || fail 'the new directory is gone'
if [ "$(id -u)" = 0 ]; then
    # Neither server runs as root.
    id "$account" >/dev/null 2>&1 || account=nobody
    group=$(id -g "$account")
    as="setpriv --reuid=$account --regid=$group --clear-groups --"
    $as test -x "$dir" || fail "the user $account can't enter $dir: set TMPDIR to where everyone may go"
fi
make_own() { # PATH...
    [ -z "$as" ] || chown "$account" "$@"
}
# Servers of MySQL delete each other's temporary tables if they share a directory for them.
mkdir data tmp && make_own data tmp

# ---- certificates

new_key='-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2'
make_certificates() {
    # shellcheck disable=SC2086 # several options
    openssl req -x509 $new_key -subj '/CN=CA of a test' -addext 'keyUsage=critical,keyCertSign' \
        -keyout ca.key -out ca.pem &&
        openssl req $new_key -subj /CN=localhost -keyout server.key -out server.csr &&
        printf 'subjectAltName=DNS:localhost,IP:127.0.0.1\nbasicConstraints=CA:FALSE\n' >extensions &&
        openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -set_serial 2 -days 2 -extfile extensions \
            -out server.pem
}
make_certificates >log 2>&1 || fail "no certificate can be made: $(tail -n 3 log | tr '\n' ' ')"
chmod 600 server.key && make_own server.key

# ---- the data

create_postgresql() {
    echo secret >password
    chmod 644 password
    # Names sorted as people do, where that is possible: an order of bytes must be asked for.
    order=''
    ! "$bin/initdb" --help | grep -q -e --icu-locale || order='--locale-provider=icu --icu-locale=en-US'
    # shellcheck disable=SC2086 # several words
    $as "$bin/initdb" --pgdata=data --username=admin --pwfile=password --auth=scram-sha-256 --encoding=UTF8 \
        --locale=C.UTF-8 $order --no-sync
    # The user `secured` is let in through TLS only.
    cat >hba <<'END'
hostnossl all secured all reject
host all all 127.0.0.1/32 scram-sha-256
END
}

create_mysql() {
    cat >init.sql <<'END'
DELETE FROM mysql.global_priv WHERE User = '';
FLUSH PRIVILEGES;
CREATE USER IF NOT EXISTS admin@'%' IDENTIFIED BY 'secret';
GRANT ALL ON *.* TO admin@'%' WITH GRANT OPTION;
END
    chmod 644 init.sql
    # shellcheck disable=SC2086 # several words
    $as mariadb-install-db --no-defaults --datadir="$dir/data" --tmpdir="$dir/tmp" --skip-test-db --skip-name-resolve \
        --auth-root-authentication-method=normal --innodb-log-file-size=8M --innodb-flush-method=nosync --debug-no-sync
}

"create_$kind" >log 2>&1 || fail "the server's directory can't be set up: $(tail -n 3 log | tr '\n' ' ')"

# ---- running

run_postgresql() {
    exec $as "$bin/postgres" -D data -p "$port" -c listen_addresses=127.0.0.1 -c unix_socket_directories= \
        -c hba_file="$dir/hba" -c max_connections=100 -c fsync=off -c shared_buffers=64MB -c max_wal_size=4GB \
        -c ssl=on -c ssl_cert_file="$dir/server.pem" -c ssl_key_file="$dir/server.key"
}

# A commit is with the system when it is acknowledged, so that a killed server keeps it.
run_mysql() {
    exec $as "$bin/mariadbd" --no-defaults --datadir="$dir/data" --tmpdir="$dir/tmp" --port="$port" \
        --bind-address=127.0.0.1 --socket=mysql.sock --pid-file=mysql.pid --init-file="$dir/init.sql" --skip-name-resolve \
        --max-connections=100 --max-allowed-packet=16M --character-set-server=utf8 --innodb-buffer-pool-size=128M \
        --innodb-log-file-size=128M --innodb-flush-log-at-trx-commit=2 --innodb-doublewrite=0 --innodb-flush-method=nosync --debug-no-sync \
        --ssl-ca="$dir/ca.pem" --ssl-cert="$dir/server.pem" --ssl-key="$dir/server.key"
}

is_ready_postgresql() {
    [ "$(sed -n '1p;8p' data/postmaster.pid 2>/dev/null | tr -d ' \n')" = "${server}ready" ]
}

is_ready_mysql() {
    grep -q 'ready for connections' log
}

# Tells whether a process runs: one that ended, but was not waited for, still takes signals.
runs() { # PID
    kill -0 "$1" 2>/dev/null && [ "$(sed 's/.*) //; s/ .*//' "/proc/$1/stat" 2>/dev/null)" != Z ]
}

# Starts the server once. Whether the port was free is seen when the server has it.
launch() {
    # The one before may have been ready.
    : >log
    ("run_$kind") >log 2>&1 </dev/null &
    server=$!
    waited=0
    while ! "is_ready_$kind"; do
        runs "$server" && [ "$waited" -lt 2400 ] || break
        sleep 0.05
        waited=$((waited + 1))
    done
    "is_ready_$kind" && runs "$server" && return
    kill -KILL "$server" 2>/dev/null
    wait "$server"
    server=''
    return 1
}

start() {
    tries=0
    while ! launch; do
        tries=$((tries + 1))
        [ "$tries" -lt 10 ] || fail "the server does not start: $(tail -n 5 log | tr '\n' ' ')"
        "$1"
        sleep 0.2
    done
    printf 'ready %s %s\n' "$port" "$dir"
}

# Below the ports that systems give to clients.
another_port() {
    port=$((20000 + $(od -An -N2 -tu2 /dev/urandom) % 12000))
}

crash() {
    [ -n "$server" ] || return 0
    children=$(cat "/proc/$server/task/$server/children" 2>/dev/null)
    # shellcheck disable=SC2086 # each is a word
    kill -KILL "$server" $children 2>/dev/null
    wait "$server"
    for child in $children; do
        while runs "$child"; do sleep 0.01; done
    done
    server=''
}

stop() {
    [ -n "$server" ] || return 0
    case $kind in
    postgresql) kill -INT "$server" ;;
    mysql) kill -TERM "$server" ;;
    esac
    wait "$server"
    server=''
}

another_port
start another_port
while read -r command; do
    case $command in
    kill) crash && echo stopped ;;
    stop) stop && echo stopped ;;
    start) [ -n "$server" ] || start true ;;
    *) echo "failed there is no command $command" ;;
    esac
done
