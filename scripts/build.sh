#!/usr/bin/env bash
# Configure and build a preset of CMakePresets.json (default: release) in build/<preset>. Quiet
# unless something fails.
set -euo pipefail
cd "$(dirname "$0")/.."
preset=${1:-release}

log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! { cmake --preset "$preset" && cmake --build --preset "$preset" -j "$(nproc)"; } >"$log" 2>&1; then
    cat "$log" >&2
    echo "$0: preset $preset does not build" >&2
    exit 1
fi
grep -E 'warning:' "$log" >&2 || true
