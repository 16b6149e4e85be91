#!/usr/bin/env bash
# RepVGG-A0 at 224 on this machine: ours, oneDNN's convolutions alone and the peers, in turns on the same cores.
#
#   bench/run.sh PEERS [IMAGES [ROUNDS]]
#
# PEERS: folder with conv_limit.c, onnx_a0.py, ort_a0.js, torch_qat.py, torch_loader.py; a peer that cannot run is left out, and
# said so. IMAGES: photographs in class folders, for the loader and insert_bn. ROUNDS (default 3): each program runs once in a
# round, and medians over the rounds are compared. ORT_MODULES: folder with node_modules/onnxruntime-node. Weights are random:
# speed does not depend on them. Writes the tables between the marks of docs/performance.md; the measurements themselves go to
# stdout. Takes four to five minutes a round with all peers.
set -euo pipefail
[ $# -ge 1 ] || { echo "usage: $0 PEERS [IMAGES [ROUNDS]]" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$here")
peers=$(cd "$1" && pwd)
images=${2:+$(cd "$2" && pwd)}
rounds=${3:-3}
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$(nproc)}
python=/usr/bin/python3
"$root/scripts/build.sh" release >/dev/null
build=$root/build/release
cmake --build "$build" --target train_step make_models >/dev/null
repqat=$build/bin/repqat
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp "$peers"/* "$work"
cd "$work"
"$build/bench/make_models" "$work" >/dev/null
values=$work/values

# Keeps a figure: one line, name and value.
keep() { [ -z "${2:-}" ] || echo "$1 $2" | tee -a "$values"; }

# Median of a figure over the rounds; nothing where there is none.
median() {
    awk -v name="$1" '$1 == name { print $2 }' "$values" | sort -g |
        awk '{ x[NR] = $1 } END { if (NR) printf "%.6g", (x[int((NR + 1) / 2)] + x[int(NR / 2) + 1]) / 2 }'
}

json_number() { grep -oE "\"$1\": [0-9.e+-]+" | head -1 | cut -d' ' -f2; }

# The most memory, in MB, that a command held; its output goes to the file out.
peak_mb() {
    $python -c 'import resource, subprocess, sys
code = subprocess.call(sys.argv[1:], stdout=open("out", "w"))
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)
sys.exit(code)' "$@"
}

have_limit=$(gcc -O2 -w -fopenmp -march=native conv_limit.c -o conv_limit -ldnnl -lm && echo yes || true)
have_torch=$($python -c 'import torch' 2>/dev/null && echo yes || true)
have_vision=$($python -c 'import torchvision' 2>/dev/null && echo yes || true)
have_ort=$([ -n "${ORT_MODULES:-}" ] && $python onnx_a0.py >/dev/null && echo yes || true)
for peer in limit torch vision ort; do
    name=have_$peer
    [ -n "${!name}" ] || echo "left out: $peer"
done

limit() {
    local batch
    for batch in 1 32; do
        ./conv_limit $batch 224 >out
        keep limit_fp32_$batch "$(sed -n 's/^infer f32 \([0-9.]*\).*/\1/p' out)"
        keep limit_int8_$batch "$(sed -n 's/.*int8 \([0-9.]*\) ms.*/\1/p' out)"
    done
    keep limit_train_f32 "$(sed -n 's/^train f32 \([0-9.]*\).*/\1/p' out)"
    keep limit_train_bf16 "$(sed -n 's/.*bf16 \([0-9.]*\) img.*/\1/p' out)"
}

ours_inference() {
    local form batch mode
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
}

peer_inference() {
    NODE_PATH=$ORT_MODULES/node_modules node ort_a0.js >out
    awk '{ form = $1 == "a0_qdq" ? "int8" : "fp32"; print "ort_" form "_" $3, $6 / $3 }' out | tee -a "$values"
}

ours_training() {
    local form precision
    for form in qat withbn train; do
        for precision in bf16 f32; do
            "$build/bench/train_step" RepVGG-A0 32 224 $form 5 $precision >out
            keep "${form}_$precision" "$(sed -n 's/.* \([0-9.]*\) images\/s.*/\1/p' out)"
            keep "${form}_${precision}_mb" "$(sed -n 's/.*peak \([0-9]*\) MB.*/\1/p' out)"
        done
    done
    for precision in bf16 f32; do
        "$build/bench/train_step" RepVGG-A0 128 32 qat 9 $precision >out
        keep qat_small_$precision "$(sed -n 's/.* \([0-9.]*\) images\/s.*/\1/p' out)"
    done
}

peer_training() {
    keep torch_mb "$(peak_mb $python torch_qat.py 32 224)"
    keep torch_fp32 "$(sed -n 's/^fp32_img_s //p' out)"
    keep torch_qat "$(sed -n 's/^qat_img_s //p' out)"
    $python torch_qat.py 128 32 >out
    keep torch_qat_small "$(sed -n 's/^qat_img_s //p' out)"
}

ours_loading() {
    "$repqat" bench --loader "$images" -j 1 --json >out
    keep loader_train "$(grep -o '"train".*' out | json_number img_per_s)"
    keep loader_eval "$(grep -o '"val".*' out | json_number img_per_s)"
    "$repqat" bench --loader "$images" -j "$OMP_NUM_THREADS" --json >out
    keep loader_all "$(grep -o '"train".*' out | json_number img_per_s)"
    "$repqat" insert_bn "$images" deploy.bin withbn.bin 2>&1 >/dev/null | tr '\r' '\n' >out
    keep insert_bn "$(sed -n 's/^statistics of .*, \([0-9.]*\) images\/s/\1/p' out)"
}

peer_loading() {
    $python torch_loader.py "$images" >out
    keep torch_train "$(sed -n 's/^train .* //p' out)"
    keep torch_eval "$(sed -n 's/^eval .* //p' out)"
}

for round in $(seq "$rounds"); do
    echo "== round $round of $rounds"
    [ -z "$have_limit" ] || limit
    ours_inference
    [ -z "$have_ort" ] || peer_inference
    ours_training
    [ -z "$have_torch" ] || peer_training
    if [ -n "$images" ]; then
        ours_loading
        [ -z "$have_vision" ] || peer_loading
    fi
done

# ---- the tables ----

ms() { local x; x=$(median "$1") && [ -n "$x" ] && printf '%.2f ms' "$x" || printf -- '–'; }
rate() { local x; x=$(median "$1") && [ -n "$x" ] && printf '%.1f' "$x" || printf -- '–'; }

# ratio A B [DIGITS]: A / B of medians, or – where one is missing.
ratio() {
    local a b
    a=$(median "$1") b=$(median "$2")
    if [ -n "$a" ] && [ -n "$b" ]; then
        awk -v a="$a" -v b="$b" -v d="${3:-2}" 'BEGIN { printf "%.*f", d, a / b }'
    else
        printf -- '–'
    fi
}

# As ratio, in percent.
percent() { [ "$(ratio "$1" "$2")" = – ] && printf -- '–' || ratio "$1" "$2" 4 | awk '{ printf "%.0f %%", 100 * $1 }'; }

tables() {
    local cpu
    cpu=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1)
    cat <<T
$(date +%F), $OMP_NUM_THREADS cores of $cpu ($(grep -om1 avx512_vnni /proc/cpuinfo || echo 'no VNNI'), $(grep -om1 avx512_bf16 /proc/cpuinfo || echo 'no BF16')), medians of $rounds rounds.

| inference, per image | ours | oneDNN's convolutions alone | ONNX Runtime | of the limit (≥ 90 %) | against ONNX Runtime |
|---|---|---|---|---|---|
| INT8, batch 1 | $(ms int8_1) | $(ms limit_int8_1) | $(ms ort_int8_1) | $(percent limit_int8_1 int8_1) | $(ratio ort_int8_1 int8_1)× (≥ 1.5) |
| INT8, batch 32 | $(ms int8_32) | $(ms limit_int8_32) | $(ms ort_int8_32) | $(percent limit_int8_32 int8_32) | $(ratio ort_int8_32 int8_32)× (≥ 1.1) |
| INT8, batch 32, streams | $(ms int8_32_streams) | $(ms limit_int8_32) | $(ms ort_int8_32) | $(percent limit_int8_32 int8_32_streams) | $(ratio ort_int8_32 int8_32_streams)× |
| FP32, batch 1 | $(ms deploy_1) | $(ms limit_fp32_1) | $(ms ort_fp32_1) | $(percent limit_fp32_1 deploy_1) | $(ratio ort_fp32_1 deploy_1)× (≥ 1.15) |
| FP32, batch 32 | $(ms deploy_32) | $(ms limit_fp32_32) | $(ms ort_fp32_32) | $(percent limit_fp32_32 deploy_32) | $(ratio ort_fp32_32 deploy_32)× (≥ 1.15) |
| FP32, batch 32, streams | $(ms deploy_32_streams) | $(ms limit_fp32_32) | $(ms ort_fp32_32) | $(percent limit_fp32_32 deploy_32_streams) | $(ratio ort_fp32_32 deploy_32_streams)× |

INT8 against our FP32 session (≥ 3.3×): $(ratio deploy_1 int8_1)× at batch 1, $(ratio deploy_32 int8_32)× at batch 32, $(ratio deploy_32_streams int8_32_streams)× with streams.

| training, batch 32, images/s | bf16 | f32 | limit, bf16 and f32 | PyTorch | bf16 and f32 against PyTorch |
|---|---|---|---|---|---|
| QAT (≥ 80 images/s, ≥ 8×) | $(rate qat_bf16) | $(rate qat_f32) | $(rate limit_train_bf16), $(rate limit_train_f32) | $(rate torch_qat) | $(ratio qat_bf16 torch_qat)×, $(ratio qat_f32 torch_qat)× |
| conv + BN (≥ 6× in bf16, ≥ 3.5× in f32) | $(rate withbn_bf16) | $(rate withbn_f32) | $(rate limit_train_bf16), $(rate limit_train_f32) | $(rate torch_fp32) | $(ratio withbn_bf16 torch_fp32)×, $(ratio withbn_f32 torch_fp32)× |
| three branches | $(rate train_bf16) | $(rate train_f32) | | | |
| QAT, batch 128 at 32×32 (≥ 5×) | $(rate qat_small_bf16) | $(rate qat_small_f32) | | $(rate torch_qat_small) | $(ratio qat_small_bf16 torch_qat_small)×, $(ratio qat_small_f32 torch_qat_small)× |

| loading photographs | ours | torchvision | |
|---|---|---|---|
| training transform, one core | $(rate loader_train) images/s | $(rate torch_train) | $(ratio loader_train torch_train)× (≥ 1.5) |
| evaluation, one core | $(rate loader_eval) images/s | $(rate torch_eval) | $(ratio loader_eval torch_eval)× (≥ 1.5) |

| memory, start, insert_bn | measured | to reach |
|---|---|---|
| INT8 session, batch 1: largest resident set | $(awk -v x="$(median int8_1_rss)" 'BEGIN { printf "%.1f MB", x / 1e6 }') | weights + 2 × largest activation + 16 MiB = $(awk -v w="$(median int8_1_weights)" -v a="$(median int8_1_largest)" 'BEGIN { printf "%.1f MB", (w + 2 * a) / 1e6 + 16.777 }') |
| INT8 session, batch 32 | $(awk -v x="$(median int8_32_rss)" 'BEGIN { printf "%.1f MB", x / 1e6 }') | $(awk -v w="$(median int8_32_weights)" -v a="$(median int8_32_largest)" 'BEGIN { printf "%.1f MB", (w + 2 * a) / 1e6 + 16.777 }') |
| QAT, batch 32, bf16 and f32: largest resident set | $(median qat_bf16_mb) MB, $(median qat_f32_mb) MB | half of PyTorch's $(rate torch_mb) MB |
| start: from the file to a session, INT8, batch 1 | $(ms int8_1_ready) | 50 ms |
| insert_bn, images/s | $(rate insert_bn): $(awk -v i="$(median insert_bn)" -v m="$(median deploy_32)" 'BEGIN { if (i != "") printf "%.0f %%", 100 * i * m / 1000 }') of inference alone | 85 % of the slower of decoding ($(rate loader_all)) and inference ($(awk -v m="$(median deploy_32)" 'BEGIN { printf "%.1f", 1000 / m }')) alone |
T
}

tables >tables
"$here/into_page.sh" measured tables "$root/docs/performance.md"
cat tables
