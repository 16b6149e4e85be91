/* Loops over registers in assembler, so that no compiler removes, merges or spills anything. Twelve
 * independent sums hide the latency of two multiply-adds per cycle. */
#include "runtime/dnn/peak.h"

#include <math.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/clock.h"
#include "runtime/dnn/dnn.h"

enum { N_SUMS = 12, REGISTER_BYTES = 64, N_TRIES = 32, FIRST_ROUNDS = 1024 };
#define TRY_SECONDS 5e-4

#define SUMS(step, reg)                                                                            \
    step(reg, "0") step(reg, "1") step(reg, "2") step(reg, "3") step(reg, "4") step(reg, "5")      \
        step(reg, "6") step(reg, "7") step(reg, "8") step(reg, "9") step(reg, "10")                \
            step(reg, "11")

/* Register 12 is for products, 13 to 15 hold operands. */
#define LOAD_EVEX(reg, i) "vmovdqu64 (%1), %%" reg i "\n\t"
#define LOAD_VEX(reg, i)  "vmovdqu (%1), %%" reg i "\n\t"
#define LOAD_SSE(reg, i)  "movdqu (%1), %%" reg i "\n\t"

#define DOT_EVEX(reg, i) "vpdpbusd %%" reg "13, %%" reg "14, %%" reg i "\n\t"
#define DOT_VEX(reg, i)  "%{vex%} " DOT_EVEX(reg, i)
#define PAIRS(reg, i)                                                                              \
    "vpmaddubsw %%" reg "13, %%" reg "14, %%" reg "12\n\t"                                         \
    "vpmaddwd %%" reg "15, %%" reg "12, %%" reg "12\n\t"                                           \
    "vpaddd %%" reg "12, %%" reg i ", %%" reg i "\n\t"
#define PAIRS_SSE(reg, i)                                                                          \
    "movdqa %%" reg "14, %%" reg "12\n\t"                                                          \
    "pmaddubsw %%" reg "13, %%" reg "12\n\t"                                                       \
    "pmaddwd %%" reg "15, %%" reg "12\n\t"                                                         \
    "paddd %%" reg "12, %%" reg i "\n\t"
#define FMA(reg, i) "vfmadd231ps %%" reg "13, %%" reg "14, %%" reg i "\n\t"
#define MUL_ADD(reg, i)                                                                            \
    "vmulps %%" reg "13, %%" reg "14, %%" reg "12\n\t"                                             \
    "vaddps %%" reg "12, %%" reg i ", %%" reg i "\n\t"
#define MUL_ADD_SSE(reg, i)                                                                        \
    "movaps %%" reg "14, %%" reg "12\n\t"                                                          \
    "mulps %%" reg "13, %%" reg "12\n\t"                                                           \
    "addps %%" reg "12, %%" reg i "\n\t"

/* n_rounds times N_SUMS steps; all registers start as operand [REGISTER_BYTES]. */
#define DEFINE_LOOP(name, reg, load, step, end)                                                    \
    static void name(const void *operand, size_t n_rounds)                                         \
    {                                                                                              \
        __asm__ volatile(SUMS(load, reg) load(reg, "13") load(reg, "14")                           \
                             load(reg, "15") ".p2align 5\n"                                        \
                                             "1:\n\t" SUMS(step, reg) "dec %0\n\t"                 \
                                                                      "jnz 1b\n\t" end             \
                         : "+r"(n_rounds)                                                          \
                         : "r"(operand)                                                            \
                         : "cc", "memory", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", \
                           "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14",    \
                           "xmm15");                                                               \
    }

DEFINE_LOOP(dot_512, "zmm", LOAD_EVEX, DOT_EVEX, "vzeroupper")
DEFINE_LOOP(dot_256, "ymm", LOAD_VEX, DOT_VEX, "vzeroupper")
DEFINE_LOOP(pairs_512, "zmm", LOAD_EVEX, PAIRS, "vzeroupper")
DEFINE_LOOP(pairs_256, "ymm", LOAD_VEX, PAIRS, "vzeroupper")
DEFINE_LOOP(pairs_128_avx, "xmm", LOAD_VEX, PAIRS, "vzeroupper")
DEFINE_LOOP(pairs_128, "xmm", LOAD_SSE, PAIRS_SSE, "")
DEFINE_LOOP(fma_512, "zmm", LOAD_EVEX, FMA, "vzeroupper")
DEFINE_LOOP(fma_256, "ymm", LOAD_VEX, FMA, "vzeroupper")
DEFINE_LOOP(mul_add_256, "ymm", LOAD_VEX, MUL_ADD, "vzeroupper")
DEFINE_LOOP(mul_add_128, "xmm", LOAD_SSE, MUL_ADD_SSE, "")

typedef struct loop {
    const char *instruction;
    void (*run)(const void *operand, size_t n_rounds);
    int n_macs; /* per step */
} loop;

static const loop loops[RQ_N_PEAK_TYPES][RQ_DNN_AVX512_VNNI + 1] = {
    [RQ_PEAK_F32] = {[RQ_DNN_SSE41] = {"mulps + addps xmm", mul_add_128, 4},
                     [RQ_DNN_AVX] = {"vmulps + vaddps ymm", mul_add_256, 8},
                     [RQ_DNN_AVX2] = {"vfmadd231ps ymm", fma_256, 8},
                     [RQ_DNN_AVX2_VNNI] = {"vfmadd231ps ymm", fma_256, 8},
                     [RQ_DNN_AVX512] = {"vfmadd231ps zmm", fma_512, 16},
                     [RQ_DNN_AVX512_VNNI] = {"vfmadd231ps zmm", fma_512, 16}},
    [RQ_PEAK_INT8] = {[RQ_DNN_SSE41] = {"pmaddubsw + pmaddwd + paddd xmm", pairs_128, 16},
                      [RQ_DNN_AVX] = {"vpmaddubsw + vpmaddwd + vpaddd xmm", pairs_128_avx, 16},
                      [RQ_DNN_AVX2] = {"vpmaddubsw + vpmaddwd + vpaddd ymm", pairs_256, 32},
                      [RQ_DNN_AVX2_VNNI] = {"vpdpbusd ymm", dot_256, 32},
                      [RQ_DNN_AVX512] = {"vpmaddubsw + vpmaddwd + vpaddd zmm", pairs_512, 64},
                      [RQ_DNN_AVX512_VNNI] = {"vpdpbusd zmm", dot_512, 64}},
};

/* Any bytes will do, but numbers must stay away from subnormals and infinity: 1, and sums of 1. */
static void fill_operand(rq_peak_type type, uint8_t *operand)
{
    static const float one = 1.0f;
    const uint8_t *bytes = (const uint8_t *)&one;
    for (size_t i = 0; i < REGISTER_BYTES; i++)
        operand[i] = type == RQ_PEAK_F32 ? bytes[i % sizeof one] : (uint8_t)(37 * i + 1);
}

/* Seconds from the first thread's start to the last one's end. */
static double time_loop(const loop *self, const uint8_t *operand, size_t n_rounds, int *n_threads)
{
    double start = INFINITY, end = 0.0;
    int n = 0;
#pragma omp parallel reduction(min : start) reduction(max : end) reduction(+ : n)
    {
#pragma omp barrier
        start = rq_clock();
        self->run(operand, n_rounds);
        end = rq_clock();
        n++;
    }
    *n_threads = n;
    return end - start;
}

rq_peak rq_measure_peak(rq_peak_type type)
{
    const loop *self = &loops[type][rq_dnn_isa_level()];
    uint8_t operand[REGISTER_BYTES];
    size_t n_rounds = FIRST_ROUNDS;
    double best = 0.0;
    int n_threads;
    fill_operand(type, operand);
    while (time_loop(self, operand, n_rounds, &n_threads) < TRY_SECONDS)
        n_rounds *= 2;
    for (int i = 0; i < N_TRIES; i++) {
        const double seconds = time_loop(self, operand, n_rounds, &n_threads);
        const double n_macs = (double)n_rounds * N_SUMS * self->n_macs * n_threads;
        if (2e-9 * n_macs / seconds > best)
            best = 2e-9 * n_macs / seconds;
    }
    return (rq_peak){self->instruction, best};
}
