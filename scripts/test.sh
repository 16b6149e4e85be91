#!/usr/bin/env bash
# Install, build and run all tests of a preset (default: release): one line for each test program,
# what a failed one printed, and last the number of tests: "N passed, N failed[, N skipped]".
set -euo pipefail
cd "$(dirname "$0")/.."
preset=${1:-release}

scripts/install-deps.sh
scripts/build.sh "$preset"

# ctest's log is read below; its own exit status covers crashes, time limits and "no tests" as well.
status=0
ctest --preset "$preset" -j "$(nproc)" --quiet >/dev/null || status=$?
log=build/$preset/Testing/Temporary/LastTest.log
[ -s "$log" ] || {
    echo "$0: no test ran" >&2
    exit 1
}

awk -v ctest_status="$status" '
function summary(line, word) { # the number in cmocka'\''s "[  PASSED  ] 7 test(s)"
    return match(line, "\\[  " word " *\\] [0-9]+ test") ? \
        substr(line, RSTART + 13, RLENGTH - 18) + 0 : -1
}
/^[0-9]+\/[0-9]+ Testing: / { name = $3; output = ""; n_passed = -1; n_failed = n_skipped = 0; next }
/^<end of output>$/ { in_output = 0; next }
in_output {
    output = output "    " $0 "\n"
    if (summary($0, "PASSED") >= 0) n_passed = summary($0, "PASSED")
    if (summary($0, "FAILED") >= 0) n_failed = summary($0, "FAILED")
    if (summary($0, "SKIPPED") >= 0) n_skipped = summary($0, "SKIPPED")
    next
}
/^-+$/ && expects_output { in_output = 1; expects_output = 0; next }
/^Output:$/ { expects_output = 1; next }
/^Test time = / { time = $4; next }
/^Test (Passed|Failed)/ {
    ok = $2 ~ /^Passed/
    if (n_passed < 0) n_passed = 0            # it ended before its summary: a crash, a time limit
    if (!ok && n_failed == 0) n_failed = 1
    if (ok && n_passed + n_skipped == 0) { ok = 0; n_failed = 1; output = "    it ran no test\n" }
    printf "%-6s %-44s %4d passed", ok ? "ok" : "FAILED", name, n_passed
    if (n_failed) printf ", %d failed", n_failed
    if (n_skipped) printf ", %d skipped", n_skipped
    printf "  (%.1f s)\n", time
    if (!ok) printf "%s", output
    passed += n_passed; failed += n_failed; skipped += n_skipped
}
END {
    if (passed + failed == 0 || (ctest_status != 0 && failed == 0)) failed++
    printf "%d passed, %d failed", passed, failed
    printf skipped ? ", %d skipped\n" : "\n", skipped
    exit failed > 0
}' "$log"
