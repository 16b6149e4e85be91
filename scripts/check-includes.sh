#!/usr/bin/env bash
# Includes point down and close no circle. The rooms and what each may use are the rq_room lines of CMakeLists.txt;
# a header and its source count as one unit. Prints what breaks the rule and, at the end, what was checked.
set -euo pipefail
cd "$(dirname "$0")/.."

rooms() { # "ROOM USED": one line for each room that a room's library is linked to
    awk '/^rq_room\(/ { text = "" }
        /^rq_room\(/, /\)/ { text = text " " $0 }
        /\)/ && text != "" { gsub(/rq_room\(|\)/, " ", text); n = split(text, word, " ")
            print word[1], word[1]
            for (i = 2; i <= n; i++) if (word[i] ~ /^rq_/) print word[1], word[i]
            text = "" }' CMakeLists.txt
}

includes() { # "FILE INCLUDED": one line for each include of a file of ours
    grep -rHoE '^#include "[a-z0-9_/]+\.h"' --include='*.[ch]' runtime fuse calib qat export cli |
        sed -E 's/:#include "(.*)"/ \1/'
}

{
    rooms
    echo --
    includes
} | awk '
function room_of(path) { sub(/\/[^\/]*$/, "", path); return path }
function unit_of(path) { sub(/\.[ch]$/, "", path); return path }

# Everything that a room may use, by way of others too.
function close_rooms(    again, a, b, c) {
    do {
        again = 0
        for (a in rooms) for (b in rooms) if ((a, b) in may)
            for (c in rooms) if ((b, c) in may && !((a, c) in may)) { may[a, c] = 1; again = 1 }
    } while (again)
}

# Depth first: a unit that is met again on its own path closes a circle.
function visit(unit, path,    i, next_unit) {
    state[unit] = "open"
    for (i = 1; i <= n_edges[unit]; i++) {
        next_unit = edge[unit, i]
        if (state[next_unit] == "open") {
            circle = path " " next_unit
            sub("^.* " next_unit " ", next_unit " ", circle) # what led there is no part of it
            print "circle: " circle
            n_circles++
        } else if (!state[next_unit])
            visit(next_unit, path " " next_unit)
    }
    state[unit] = "done"
}

$1 == "--" { reads_includes = 1; close_rooms(); next }
!reads_includes { name = $2; gsub("/", "_", $1); sub(/^rq_/, "", name); gsub("/", "_", name)
    rooms[$1] = rooms[name] = 1; may[$1, name] = 1; next }
$2 !~ /\// { next } # generated
{
    n_includes++
    files[$1] = 1
    from = room_of($1); to = room_of($2)
    gsub("/", "_", from); gsub("/", "_", to)
    if (!((from, to) in may)) { print "upward: " $1 " includes " $2; n_upward++ }
    a = unit_of($1); b = unit_of($2)
    units[a] = units[b] = 1
    if (a != b && !((a, b) in seen)) { seen[a, b] = 1; edge[a, ++n_edges[a]] = b }
}
END {
    for (unit in units) if (!state[unit]) visit(unit, " " unit)
    for (file in files) n_files++
    for (room in rooms) n_rooms++
    printf "includes: %d in %d files of %d rooms, %d circles, %d upward\n", n_includes, n_files, n_rooms, n_circles, n_upward
    exit n_circles + n_upward > 0
}'
