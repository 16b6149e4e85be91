// Times ONNX Runtime (CPU) on the files that onnx_a0.py wrote.
//
//   node ort_a0.js DIR
//
// Prints lines "name value", in ms per image: ort_fp32_1, ort_fp32_32, ort_int8_1 and ort_int8_32
// (format and batch). Each is the median of 60 runs at batch 1, of 6 at batch 32, after 3 runs to
// warm up, all graph optimizations on, with OMP_NUM_THREADS threads (default: all CPUs). Needs the
// npm package onnxruntime-node, which install.sh puts into build/peers.
'use strict';
const os = require('os');
const path = require('path');

module.paths.push(path.join(__dirname, '../../build/peers/node_modules'));
let ort;
try {
    ort = require('onnxruntime-node');
} catch (error) {
    console.error(`onnxruntime-node cannot be loaded (bench/peers/install.sh): ${error.code}`);
    process.exit(1);
}

const WARM_UP = 3;
const SIDE = 224;
const options = {
    intraOpNumThreads: Number(process.env.OMP_NUM_THREADS) || os.cpus().length,
    graphOptimizationLevel: 'all',
};

// A batch of random pixels, normalised: -2 to 2.
function randomImages(batch) {
    const pixels = new Float32Array(batch * 3 * SIDE * SIDE).map(() => Math.random() * 4 - 2);
    return new ort.Tensor('float32', pixels, [batch, 3, SIDE, SIDE]);
}

// Median time of a run in ms.
async function measure(session, batch, runs) {
    const image = randomImages(batch);
    const times = [];
    for (let i = -WARM_UP; i < runs; i++) {
        const start = process.hrtime.bigint();
        await session.run({ image });
        if (i >= 0)
            times.push(Number(process.hrtime.bigint() - start) / 1e6);
    }
    times.sort((a, b) => a - b);
    return times[runs >> 1];
}

async function main(dir) {
    console.log('# with ONNX Runtime', require('onnxruntime-node/package.json').version);
    for (const format of ['fp32', 'int8']) {
        for (const [batch, runs] of [[1, 60], [32, 6]]) {
            const file = path.join(dir, `a0_${format}.onnx`);
            const session = await ort.InferenceSession.create(file, options);
            const ms = await measure(session, batch, runs);
            console.log(`ort_${format}_${batch}`, (ms / batch).toFixed(4));
            await session.release();
        }
    }
}

if (process.argv.length !== 3) {
    console.error('usage: node ort_a0.js DIR');
    process.exit(2);
}
main(process.argv[2]).catch((error) => {
    console.error(String(error));
    process.exit(1);
});
