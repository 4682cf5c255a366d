#!/bin/sh
# In place of Kylin's bin/metastore.sh: the same arguments, done by metastash.
#
# Put it at $KYLIN_HOME/bin/metastore.sh (keep the original beside it). The program is looked for in METASTASH, beside
# this script, and in PATH. KYLIN_HOME, if not set, is the directory above this script.
set -u

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd -P) || exit 1
if [ -z "${KYLIN_HOME:-}" ]; then
    KYLIN_HOME=$(dirname -- "$here")
    export KYLIN_HOME
fi
if [ -n "${METASTASH:-}" ]; then
    program=$METASTASH
elif [ -x "$here/metastash" ]; then
    program=$here/metastash
else
    program=metastash
fi
if ! command -v -- "$program" >/dev/null 2>&1; then
    echo "metastore.sh: cannot find $program; install metastash, or name it in METASTASH" >&2
    exit 127
fi
exec "$program" metastore "$@"
