# The tables of docs/performance.md from values that bench/run.sh kept:
#
#   awk -f bench/values.awk -f bench/tables.awk VALUES
#
# A figure that was not measured is "–".

function number(name, format) { return known("1 " name) ? sprintf(format, median("1 " name)) : "–" }
function ms(name) { return number(name, "%.2f ms") }
function rate(name) { return number(name, "%.1f") }
function quotient(a, b, factor, format) {
    if (!known("1 " a) || !known("1 " b))
        return "–"
    return sprintf(format, factor * median("1 " a) / median("1 " b))
}
function times(a, b) { return quotient(a, b, 1, "%.2f×") }
function percent(a, b) { return quotient(a, b, 100, "%.0f %%") }

function inference(label, ours, limit, limit_target, peer, peer_target) {
    print "| " label " | " ms(ours) " | " ms(limit) " | " percent(limit, ours) " | " limit_target \
        " | " ms(peer) " | " times(peer, ours) " | " peer_target " |"
}

function training(label, ours, limit, peer, target) {
    print "| " label " | " rate(ours) " | " rate(limit) " | " rate(peer) " | " times(ours, peer) \
        " | " target " |"
}

function loading(label, ours, peer, target) {
    print "| " label " | " rate(ours) " | " rate(peer) " | " times(ours, peer) " | " target " |"
}

function rss(name) {
    return known("1 " name "_rss") ? sprintf("%.1f MB", median("1 " name "_rss") / 1e6) : "–"
}
function rss_target(name) {
    return sprintf("≤ %.1f MB: weights + 2 × largest activation + 16 MiB",
                   (median("1 " name "_weights") + 2 * median("1 " name "_largest")) / 1e6 + 16.777)
}

# Images/s that insert_bn may reach at most: the slower of decoding and inference, each alone.
function insert_bn_limit(    computing, decoding) {
    computing = 1000 / median("1 deploy_32"); decoding = median("1 loader_all")
    return computing < decoding ? computing : decoding
}

function rest(label, measured, target) { print "| " label " | " measured " | " target " |" }

END {
    rounds = n["1 int8_1"]
    images = known("1 insert_bn") ? " IMAGES" : rounds == 3 ? "" : " \"\""
    print notes[1, "date"] ", " notes[1, "machine"] ", medians of " rounds " round" \
        (rounds == 1 ? "" : "s") ": `bench/run.sh" images (rounds == 3 ? "" : " " rounds) "`" \
        (notes[1, "with"] == "" ? "" : ", with " notes[1, "with"]) "."

    print "\n| inference, per image | ours | oneDNN's convolutions alone | of their speed | " \
        "target | ONNX Runtime | against it | target |"
    print "|---|---|---|---|---|---|---|---|"
    inference("INT8, batch 1", "int8_1", "limit_int8_1", "≥ 90 %", "ort_int8_1", "≥ 1.5×")
    inference("INT8, batch 32", "int8_32", "limit_int8_32", "≥ 90 %", "ort_int8_32", "≥ 1.1×")
    inference("INT8, batch 32, streams", "int8_32_streams", "limit_int8_32", "", "ort_int8_32", "")
    inference("FP32, batch 1", "deploy_1", "limit_fp32_1", "≥ 90 %", "ort_fp32_1", "≥ 1.15×")
    inference("FP32, batch 32", "deploy_32", "limit_fp32_32", "≥ 90 %", "ort_fp32_32", "≥ 1.15×")
    inference("FP32, batch 32, streams", "deploy_32_streams", "limit_fp32_32", "", "ort_fp32_32", "")

    print "\n| training step, images/s | ours | oneDNN's convolutions alone | PyTorch | " \
        "against it | target |"
    print "|---|---|---|---|---|---|"
    training("QAT, bf16", "qat_bf16", "limit_train_bf16", "torch_qat", "≥ 8×, ≥ 80 images/s")
    training("QAT, f32", "qat_f32", "limit_train_f32", "torch_qat", "≥ 8×, ≥ 80 images/s")
    training("conv + BN, bf16", "withbn_bf16", "limit_train_bf16", "torch_fp32", "≥ 6×")
    training("conv + BN, f32", "withbn_f32", "limit_train_f32", "torch_fp32", "≥ 3.5×")
    training("three branches, bf16", "train_bf16", "", "", "")
    training("three branches, f32", "train_f32", "", "", "")
    training("QAT at 32×32, batch 128, bf16", "qat_small_bf16", "", "torch_qat_small", "≥ 5×")
    training("QAT at 32×32, batch 128, f32", "qat_small_f32", "", "torch_qat_small", "≥ 5×")
    print "\nBatch 32 at 224×224 where nothing else is said. PyTorch computes in f32."

    if (known("1 loader_train")) {
        print "\n| loading photographs, images/s | ours | torchvision | against it | target |"
        print "|---|---|---|---|---|"
        loading("training transform, one core", "loader_train", "torch_train", "≥ 1.5×")
        loading("evaluation, one core", "loader_eval", "torch_eval", "≥ 1.5×")
    }

    print "\n| ratios, memory, start, insert_bn | measured | target |"
    print "|---|---|---|"
    rest("INT8 against our FP32, batch 1", times("deploy_1", "int8_1"), "≥ 3.3×")
    rest("INT8 against our FP32, batch 32", times("deploy_32", "int8_32"), "≥ 3.3×")
    rest("INT8 against our FP32, batch 32, streams", times("deploy_32_streams", "int8_32_streams"),
         "≥ 3.3×")
    rest("INT8 session, batch 1: largest resident set", rss("int8_1"), rss_target("int8_1"))
    rest("INT8 session, batch 32: largest resident set", rss("int8_32"), rss_target("int8_32"))
    if (known("1 torch_mb"))
        half = sprintf("≤ %.0f MB: half of PyTorch's", median("1 torch_mb") / 2)
    rest("QAT, batch 32, bf16: largest resident set", number("qat_bf16_mb", "%.0f MB"), half)
    rest("QAT, batch 32, f32: largest resident set", number("qat_f32_mb", "%.0f MB"), half)
    rest("start: from the file to a session, INT8, batch 1", ms("int8_1_ready"), "≤ 50 ms")
    if (known("1 insert_bn"))
        rest("insert_bn", rate("insert_bn") " images/s",
             sprintf("≥ %.1f images/s: 85 %% of the slower of decoding (%s) and inference (%.1f) " \
                     "alone", 0.85 * insert_bn_limit(), rate("loader_all"), 1000 / median("1 deploy_32")))
}
