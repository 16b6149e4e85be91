#!/usr/bin/env bash
# Compares two files of values that bench/run.sh -o wrote, for example of two versions of the
# project.
#
#   bench/compare.sh VALUES_A VALUES_B
#
# For each figure that both have: the medians of A and B, B / A, and how far the rounds of each are
# apart (largest / smallest). An asterisk marks figures whose medians differ by more than the rounds
# of A or of B differ among themselves (never where there is only one round).
set -euo pipefail
[ $# -eq 2 ] || { echo "usage: $0 VALUES_A VALUES_B" >&2; exit 2; }
here=$(dirname "$0")
awk "$(cat "$here/values.awk")"'
function of(f) { return notes[f, "commit"] " on " notes[f, "date"] }
END {
    print "A: " ARGV[1] ", " of(1) "\nB: " ARGV[2] ", " of(2)
    printf "%-26s %12s %12s %8s %9s %9s  rounds\n", "", "A", "B", "B / A", "spread A", "spread B"
    for (i = 1; i <= n_names; i++) {
        a = order[i]; name = substr(a, 3); b = "2 " name
        if (a !~ /^1 / || !known(b) || !(median(a) > 0 && median(b) > 0)) continue
        ratio = median(b) / median(a)
        differs = n[a] > 1 && n[b] > 1 &&
            (ratio > 1 ? ratio : 1 / ratio) > (spread(a) > spread(b) ? spread(a) : spread(b))
        printf "%-26s %12.6g %12.6g %8.3f %9.3f %9.3f  %d, %d%s\n", name, median(a), median(b),
            ratio, spread(a), spread(b), n[a], n[b], differs ? " *" : ""
        n_both++; n_differ += differs
    }
    printf "%d figures, %d of them differ by more than their rounds\n", n_both, n_differ
}' "$1" "$2"
