#!/usr/bin/env bash
# RepVGG-A0 at 224 on this machine: ours beside the peers, one after the other in one run on the same cores.
#
#   bench/speed.sh [PEERS]    PEERS: folder with conv_limit.c, onnx_a0.py, ort_a0.js, torch_qat.py (a peer that cannot run is left out, and said so)
#
# Weights are random: speed does not depend on them. Set OMP_NUM_THREADS to choose the cores (default: all).
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$(nproc)}
build=$here/../build/release
"$here/../scripts/build.sh" release || exit 1
cmake --build "$build" --target train_step make_a0 >/dev/null || exit 1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

echo "== ours"
"$build/bench/make_a0" "$work" || exit 1
for model in int8 deploy; do
    for batch in 1 32; do
        echo "-- $model, batch $batch"
        "$build/bin/repqat" bench "$work/$model.bin" -b $batch
    done
done
for form in qat withbn train; do
    "$build/bench/train_step" RepVGG-A0 32 224 $form
done

[ $# -ge 1 ] || exit 0
cp "$1"/* "$work" && cd "$work" || exit 1
echo "== oneDNN's convolutions alone"
gcc -O2 -w -fopenmp conv_limit.c -o conv_limit -ldnnl -march=native -lm &&
    for batch in 1 32; do ./conv_limit $batch 224; done
echo "== ONNX Runtime"
if [ -n "${ORT_MODULES:-}" ]; then # a folder that holds node_modules/onnxruntime-node
    /usr/bin/python3 onnx_a0.py && NODE_PATH=$ORT_MODULES/node_modules node ort_a0.js
else
    echo "left out: ORT_MODULES is not set (npm install --ignore-scripts onnxruntime-node)"
fi
echo "== PyTorch, eager QAT"
/usr/bin/python3 torch_qat.py 32 224 || echo "left out: needs python3-torch"
