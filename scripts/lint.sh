#!/usr/bin/env bash
# Structure, formatting and static analysis of all sources: prints what is wrong, and fails then.
set -euo pipefail
cd "$(dirname "$0")/.."

sources() { # those of the given name pattern, NUL-separated
    find . -path './.git' -prune -o -path './build*' -prune -o -name "$1" -print0
}

cmake --preset dev >/dev/null # for compile_commands.json
cmake --build --preset dev --target rq_event >/dev/null # headers that are generated

status=0
scripts/check-structure.sh || status=1
sources '*.[ch]' | xargs -0 clang-format --dry-run --Werror || status=1

# One process a file: given several, clang-tidy 14 reports va_list faults that are not there.
sources '*.c' | xargs -0 -P "$(nproc)" -n 1 clang-tidy -p build/dev --quiet \
    2> >(grep -v 'warnings generated' >&2) || status=1

[ $status -eq 0 ] && echo "lint: clean" || echo "lint: see above" >&2
exit $status
