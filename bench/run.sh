#!/usr/bin/env bash
# Measures RepVGG-A0 at 224 pixels on this machine: ours, oneDNN's convolutions alone and the peers,
# in turns on the same cores, and writes the tables between the marks of docs/performance.md.
#
#   bench/run.sh [-n] [-p] [-t TREE] [-o VALUES] [IMAGES [ROUNDS]]
#
#   IMAGES     photographs in class folders, for the loaders and insert_bn; not given or '': these
#              are left out
#   ROUNDS     each program runs once in a round; the tables show medians of the rounds (default 3)
#   -n         print the tables, do not write them into the docs
#   -p         without peers (and without writing into the docs)
#   -t TREE    measure the programs of another clone, which are built in its build/release (and do
#              not write into the docs)
#   -o VALUES  keep the measured values in this file, after those that are in it; the tables are of
#              them all
#
# VALUES has one line "name value" for each figure and round: bench/compare.sh compares two such
# files, bench/tables.awk makes the tables of one. bench/peers/install.sh installs the peers; one
# that cannot run is left out, with a line that says so. OMP_NUM_THREADS (default: all CPUs) holds
# for all programs. Weights are random: speed does not depend on them. A round takes four to five
# minutes with all peers, a minute and a half without.
set -euo pipefail
usage() {
    echo "usage: $0 [-n] [-p] [-t TREE] [-o VALUES] [IMAGES [ROUNDS]]" >&2
    exit 2
}

into_docs=yes with_peers=yes tree='' kept=''
while getopts npt:o: option; do
    case $option in
    n) into_docs='' ;;
    p) with_peers='' into_docs='' ;;
    t) tree=$(realpath -e "$OPTARG") into_docs='' ;;
    o) kept=$(realpath "$OPTARG") ;;
    *) usage ;;
    esac
done
shift $((OPTIND - 1))
[ $# -le 2 ] || usage
images=${1:+$(realpath -e "$1")} || exit 2
rounds=${2:-3}

# shellcheck source=bench/lib.sh
. "$(dirname "$0")/lib.sh"
tree=${tree:-$root}
build "$tree" repqat train_step make_models
[ -z "$with_peers" ] || build "$root" conv_limit
programs=$tree/build/release/bench
repqat=$tree/build/release/bin/repqat
peers=$root/bench/peers
values=${kept:-$work/values}
cd "$work"
"$programs/make_models" . >/dev/null

precisions=(f32)
if grep -qw avx512_bf16 /proc/cpuinfo; then
    precisions=(bf16 f32)
else
    echo "left out: training in bf16: the CPU has no AVX512-BF16"
fi

# ---- figures ----

# keep NAME VALUE: a figure of ours.
keep() {
    if [ -n "${2:-}" ]; then
        echo "$1 $2" | tee -a "$values"
    else
        echo "missing: $1" >&2
    fi
}

# Of what train_step printed: the number between two texts.
between() { sed -n "s/.*$1\([0-9.]*\)$2.*/\1/p" out; }

# peer NAME SUFFIX COMMAND...: keep what a peer prints, lines "name value", with SUFFIX after each
# name, and comments.
declare -A left_out
peer() {
    [ -n "$with_peers" ] && [ -z "${left_out[$1]:-}" ] || return 0
    if "${@:3}" >out 2>errors; then
        awk -v suffix="$2" '/^#/ { print } /^[a-z]/ && NF == 2 { print $1 suffix, $2 }' out |
            tee -a "$values"
    else
        left_out[$1]=yes
        echo "left out: $1: $(grep . errors | tail -1)"
    fi
}

limits() {
    local batch
    for batch in 1 32; do
        peer "oneDNN alone" _$batch "$root/build/release/bench/conv_limit" inference $batch 224
    done
    peer "oneDNN alone" '' "$root/build/release/bench/conv_limit" training 32 224
}

inference() {
    local form mode batch streams name
    for form in int8 deploy; do
        for mode in '1 1' '32 1' '32 0'; do
            read -r batch streams <<<"$mode"
            "$repqat" bench $form.bin -b "$batch" --streams "$streams" --json >out
            name=${form}_$batch$([ "$streams" = 1 ] || echo _streams)
            keep "$name" "$(json_number median_ms <out | awk -v b="$batch" '{ print $1 / b }')"
            keep "${name}_rss" "$(json_number peak_rss_bytes <out)"
            keep "${name}_weights" "$(json_number weight_bytes <out)"
            keep "${name}_largest" "$(json_number largest_activation_bytes <out)"
            keep "${name}_ready" "$(json_number ready_ms <out)"
        done
    done
    peer "ONNX Runtime" '' node "$peers/ort_a0.js" .
}

training() {
    local form precision
    for form in qat withbn train; do
        for precision in "${precisions[@]}"; do
            "$programs/train_step" RepVGG-A0 32 224 $form 5 "$precision" >out
            keep "${form}_$precision" "$(between ' ' ' images\/s')"
            keep "${form}_${precision}_mb" "$(between 'peak ' ' MB')"
        done
    done
    for precision in "${precisions[@]}"; do
        "$programs/train_step" RepVGG-A0 128 32 qat 9 "$precision" >out
        keep "qat_small_$precision" "$(between ' ' ' images\/s')"
    done
    peer PyTorch '' /usr/bin/python3 "$peers/torch_qat.py" 32 224
    peer PyTorch _small /usr/bin/python3 "$peers/torch_qat.py" 128 32
}

loading() {
    "$repqat" bench --loader "$images" -j 1 --json >out
    keep loader_train "$(grep -o '"train".*' out | json_number img_per_s)"
    keep loader_eval "$(grep -o '"val".*' out | json_number img_per_s)"
    "$repqat" bench --loader "$images" -j "$OMP_NUM_THREADS" --json >out
    keep loader_all "$(grep -o '"train".*' out | json_number img_per_s)"
    "$repqat" insert_bn "$images" deploy.bin withbn.bin 2>out >/dev/null || { cat out >&2 && return 1; }
    keep insert_bn "$(tr '\r' '\n' <out | sed -n 's/^statistics of .*, \([0-9.]*\) images\/s/\1/p')"
    peer torchvision '' /usr/bin/python3 "$peers/torch_loader.py" "$images"
}

cpu=$(sed -n '/^model name/ { s/^[^:]*: //p; q }' /proc/cpuinfo)
vnni=$(grep -om1 avx512_vnni /proc/cpuinfo || echo 'no VNNI')
bf16=$(grep -om1 avx512_bf16 /proc/cpuinfo || echo 'no BF16')
cat >>"$values" <<EOT
# date $(date +%F)
# machine $OMP_NUM_THREADS cores of $cpu ($vnni, $bf16)
# commit $(git -C "$tree" describe --always --dirty 2>/dev/null || echo unknown)
EOT
peer "ONNX Runtime" '' /usr/bin/python3 "$peers/onnx_a0.py" .
for round in $(seq "$rounds"); do
    echo "== round $round of $rounds"
    limits
    inference
    training
    [ -z "$images" ] || loading
done

awk -f "$root/bench/values.awk" -f "$root/bench/tables.awk" "$values" | tee tables
[ -z "$into_docs" ] || "$root/bench/into_page.sh" measured tables "$root/docs/performance.md"
