# Values that bench/run.sh kept, for tables.awk and compare.sh: lines "name value", once for each
# round, and comments "# key text". After reading: n[name] values[name, 1..n], sorted; notes[key],
# the texts of a key without repetitions.

FNR == 1 { file++ } # figures of the first file are named "1 name", of the second "2 name", and so on

/^# / {
    text = substr($0, length($2) + 4)
    if (!seen[file, $2, text]++)
        notes[file, $2] = notes[file, $2] (notes[file, $2] == "" ? "" : ", ") text
}

/^[a-z][a-z0-9_]* -?[0-9.e+-]+$/ {
    key = file " " $1
    if (!n[key]++) order[++n_names] = key
    for (i = n[key]; i > 1 && values[key, i - 1] > $2 + 0; i--) values[key, i] = values[key, i - 1]
    values[key, i] = $2 + 0
}

# These take "file name", for example "1 int8_32".
function known(key) { return key in n }
function median(key) {
    return (values[key, int((n[key] + 1) / 2)] + values[key, int(n[key] / 2) + 1]) / 2
}
function spread(key) { return values[key, 1] > 0 ? values[key, n[key]] / values[key, 1] : 1 }
