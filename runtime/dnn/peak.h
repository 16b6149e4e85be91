/* What the CPU's multiply-adds could reach if nothing else took time, measured where and when it is
 * asked for: clock rates and the number of cores that a process really gets are in it.
 *
 * The instruction is the one that oneDNN's kernels use at its level (dnn.h), so that
 * ONEDNN_MAX_CPU_ISA counts:
 *
 *   INT8  vpdpbusd of 512 bits (AVX512-VNNI) or 256 (AVX-VNNI); else vpmaddubsw, vpmaddwd and
 *         vpaddd, which together are one multiply-add per byte, of 512, 256 or 128 bits
 *   f32   vfmadd231ps of 512 bits or 256; else a multiplication and an addition, of 256 or 128
 *
 * AMX is not measured: a layer that runs on it may pass the peak. */
#ifndef RQ_RUNTIME_DNN_PEAK_H
#define RQ_RUNTIME_DNN_PEAK_H

typedef enum rq_peak_type { RQ_PEAK_F32, RQ_PEAK_INT8, RQ_N_PEAK_TYPES } rq_peak_type;

typedef struct rq_peak {
    const char *instruction; /* "vpdpbusd zmm"; static */
    double gops;             /* 10^9 operations per second; a multiply-add is two */
} rq_peak;

/* Run the instruction on registers alone, on all threads that OpenMP would use here, for some 20
 * milliseconds; the best of several tries. Allocates nothing of ours. */
rq_peak rq_measure_peak(rq_peak_type type);

#endif
