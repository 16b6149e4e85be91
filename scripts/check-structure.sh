#!/usr/bin/env bash
# The structure that docs/architecture.md promises: includes point down and close no circle, no room
# has more than 30 files and no file more than 500 lines. The rooms, and what each may use, are the
# rq_room lines of CMakeLists.txt; a header and its source count as one unit. Prints what breaks a
# rule and, last, what was checked.
set -euo pipefail
cd "$(dirname "$0")/.."

rooms() { # "room ROOM USED": each room, and each room that its library is linked to
    sed -n '/^rq_room(/,/)/p' CMakeLists.txt | tr '\n' ' ' | tr ')' '\n' |
        awk '{ sub(/.*rq_room\(/, ""); gsub("/", "_", $1) }
            NF { print "room", $1, $1
                for (i = 2; i <= NF; i++) if (sub(/^rq_/, "", $i)) print "room", $1, $i }'
}

files() { # "file PATH LINES"
    find runtime fuse calib qat export cli -name '*.[ch]' -exec wc -l {} + |
        awk '$2 != "total" { print "file", $2, $1 }'
}

includes() { # "include PATH INCLUDED": of ours, which alone have a folder
    find runtime fuse calib qat export cli -name '*.[ch]' \
        -exec grep -HE '^#include "[^"]*/' {} + | sed -E 's/:#include "(.*)"/ \1/; s/^/include /'
}

{ rooms && files && includes; } | awk -v max_files=30 -v max_lines=500 '
function room_of(path) { sub(/\/[^\/]*$/, "", path); gsub("/", "_", path); return path }
function unit_of(path) { sub(/\.[ch]$/, "", path); return path }
function fault(text) { print text; n_faults++ }

# What a room uses, the rooms that it uses use too.
function close_uses(    again, a, b, c) {
    do {
        again = 0
        for (a in rooms) for (b in rooms) if ((a, b) in uses)
            for (c in rooms) if ((b, c) in uses && !((a, c) in uses)) again = uses[a, c] = 1
    } while (again)
}

# Depth first: a unit that is met again on its own path closes a circle.
function visit(unit, path,    i, next_unit, circle) {
    state[unit] = "open"
    for (i = 1; i <= n_edges[unit]; i++) {
        next_unit = edge[unit, i]
        if (state[next_unit] == "open") {
            circle = path " " next_unit
            fault("circle: " substr(circle, index(circle, " " next_unit " ") + 1))
            n_circles++
        } else if (!state[next_unit])
            visit(next_unit, path " " next_unit)
    }
    state[unit] = "done"
}

$1 == "room" { rooms[$2] = rooms[$3] = 1; uses[$2, $3] = 1 }
$1 == "file" {
    n_files++
    if (++files_of[room_of($2)] > most_files) most_files = files_of[room_of($2)]
    if ($3 > most_lines) most_lines = $3
    n_lines += $3
    if ($3 > max_lines) fault("long: " $2 " has " $3 " lines")
}
$1 == "include" {
    if (!n_includes++) close_uses()
    if (!((room_of($2), room_of($3)) in uses)) { fault("upward: " $2 " includes " $3); n_upward++ }
    a = unit_of($2); b = unit_of($3); units[a]
    if (a != b && !((a, b) in seen)) { seen[a, b]; edge[a, ++n_edges[a]] = b }
}
END {
    for (room in files_of) {
        n_rooms++
        if (files_of[room] > max_files) fault("full: " room " has " files_of[room] " files")
    }
    for (unit in units) if (!state[unit]) visit(unit, " " unit)
    printf "structure: %d rooms of at most %d files, %d files of at most %d lines (%d in all), " \
        "%d includes: %d circles, %d upward\n", n_rooms, most_files, n_files, most_lines, n_lines,
        n_includes, n_circles, n_upward
    exit n_faults > 0
}'
