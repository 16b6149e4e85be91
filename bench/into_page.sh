#!/usr/bin/env bash
# into_page.sh NAME TEXT PAGE: replace what stands between <!-- NAME: begin --> and <!-- NAME: end --> of PAGE by the file TEXT.
set -euo pipefail
awk -v name="$1" -v text="$2" '
    $0 == "<!-- " name ": end -->" { skip = 0 }
    !skip { print }
    $0 == "<!-- " name ": begin -->" { while ((getline line < text) > 0) print line; skip = 1 }' "$3" >"$3.new"
mv "$3.new" "$3"
