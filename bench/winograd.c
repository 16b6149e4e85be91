/* winograd [BATCH SIDE IC OC]
 *
 * Times a 3x3 training convolution, forward + backward, by oneDNN's direct kernels and by
 * Winograd's convolution, in f32 and bf16: the best of 5 runs. Without arguments: layers of
 * RepVGG-A0 at 224 and of networks for 32x32 images. The number of threads is OMP_NUM_THREADS; with
 * 1 it is CPU time, which other load on the machine disturbs less. */
#include <omp.h>
#include <time.h>

#include "bench/support.h"
#include "runtime/base/bf16.h"
#include "runtime/base/memory.h"
#include "runtime/base/options.h"
#include "runtime/base/random.h"
#include "runtime/dnn/dnn_train_conv.h"
#include "runtime/dnn/winograd.h"

enum { RUNS = 5 };
#define NEVER 1e9

static double now(void)
{
    struct timespec time;
    (void)clock_gettime(omp_get_max_threads() == 1 ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC,
                        &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static float *random_floats(size_t n)
{
    float *values = bench_memory(rq_alloc_array(float, n));
    rq_random random = rq_random_stream(1, n, 0);
    for (size_t i = 0; i < n; i++)
        values[i] = (float)rq_random_unit(&random) - 0.5f;
    return values;
}

static uint16_t *rounded(const float *values, size_t n)
{
    uint16_t *out = bench_memory(rq_alloc_array(uint16_t, n));
    for (size_t i = 0; i < n; i++)
        out[i] = rq_to_bf16(values[i]);
    return out;
}

typedef struct layer {
    rq_conv_shape shape;
    float *src, *wei, *dst, *ddst, *dwei, *dsrc;
    uint16_t *src_bf16, *ddst_bf16;
} layer;

/* Best times of the two directions. */
typedef struct times {
    double forward, backward;
} times;

static void keep_best(times *best, double start, double middle)
{
    const double end = now();
    best->forward = middle - start < best->forward ? middle - start : best->forward;
    best->backward = end - middle < best->backward ? end - middle : best->backward;
}

static rq_dnn_train_conv *create_direct(rq_dnn *dnn, const rq_conv_shape *shape,
                                        rq_precision precision)
{
    rq_dnn_train_conv *conv;
    const rq_dnn_train_options options = {.precision = precision,
                                          .with_forward = true,
                                          .with_dsrc = true,
                                          .bf16_dsrc = precision == RQ_PRECISION_BF16};
    bench_check(rq_dnn_train_conv_create(&conv, dnn, shape, &options, &bench_err));
    return conv;
}

static void direct(const layer *l, rq_precision precision, times *best)
{
    const bool bf16 = precision == RQ_PRECISION_BF16;
    if (bf16 && !rq_dnn_has_bf16())
        return;
    const void *src = bf16 ? (const void *)l->src_bf16 : (const void *)l->src;
    const void *ddst = bf16 ? (const void *)l->ddst_bf16 : (const void *)l->ddst;
    rq_dnn *dnn;
    bench_check(rq_dnn_create(&dnn, &bench_err));
    rq_dnn_train_conv *conv = create_direct(dnn, &l->shape, precision);
    for (int i = 0; i < RUNS; i++) {
        const double start = now();
        bench_check(rq_dnn_train_conv_set_weights(conv, l->wei, &bench_err));
        bench_check(rq_dnn_train_conv_forward(conv, src, l->dst, &bench_err));
        const double middle = now();
        bench_check(rq_dnn_train_conv_backward(conv, src, ddst, l->dwei, l->dsrc, &bench_err));
        keep_best(best, start, middle);
    }
    rq_dnn_train_conv_destroy(conv);
    rq_dnn_destroy(dnn);
}

static void winograd(const layer *l, rq_precision precision, times *best)
{
    if (!rq_winograd_suits(&l->shape, precision))
        return;
    const bool bf16 = precision == RQ_PRECISION_BF16;
    const void *src = bf16 ? (const void *)l->src_bf16 : (const void *)l->src;
    const void *ddst = bf16 ? (const void *)l->ddst_bf16 : (const void *)l->ddst;
    rq_winograd plan;
    rq_winograd_init(&plan, &l->shape, precision, omp_get_max_threads());
    void *scratch = bench_memory(rq_alloc(rq_winograd_scratch_bytes(&plan)));
    for (int i = 0; i < RUNS; i++) {
        const double start = now();
        rq_winograd_forward(&plan, src, l->wei, l->dst, scratch);
        const double middle = now();
        rq_winograd_backward_weights(&plan, src, ddst, l->dwei, scratch);
        rq_winograd_backward_data(&plan, ddst, l->wei, l->dsrc, bf16, scratch);
        keep_best(best, start, middle);
    }
    rq_free(scratch);
}

enum { DIRECT_F32, WINOGRAD_F32, DIRECT_BF16, WINOGRAD_BF16, N_KINDS };

static void print_times(const times best[N_KINDS], double gmacs)
{
    static const char *const names[N_KINDS] = {"direct", "winograd", "bf16 direct",
                                               "bf16 winograd"};
    for (int k = 0; k < N_KINDS; k++)
        if (best[k].forward < NEVER)
            (void)printf("%s %s %6.2f + %6.2f ms (%3.0f, %3.0f GMAC/s)", k ? "," : ":", names[k],
                         1e3 * best[k].forward, 1e3 * best[k].backward, gmacs / best[k].forward,
                         2.0 * gmacs / best[k].backward);
    (void)printf("\n");
}

static void measure(int64_t n, int64_t side, int64_t ic, int64_t oc)
{
    const rq_conv_shape shape = {n,    side, side, ic,
                                 side, side, oc,   {{3, 3}, {1, 1}, {1, 1}, {1, 1}, 1}};
    const size_t n_src = (size_t)(n * side * side * ic), n_dst = (size_t)(n * side * side * oc);
    const size_t n_wei = (size_t)(9 * ic * oc);
    layer l = {shape,
               random_floats(n_src),
               random_floats(n_wei),
               random_floats(n_dst),
               random_floats(n_dst),
               random_floats(n_wei),
               random_floats(n_src),
               NULL,
               NULL};
    l.src_bf16 = rounded(l.src, n_src);
    l.ddst_bf16 = rounded(l.ddst, n_dst);
    times best[N_KINDS] = {{NEVER, NEVER}, {NEVER, NEVER}, {NEVER, NEVER}, {NEVER, NEVER}};
    direct(&l, RQ_PRECISION_F32, &best[DIRECT_F32]);
    winograd(&l, RQ_PRECISION_F32, &best[WINOGRAD_F32]);
    direct(&l, RQ_PRECISION_BF16, &best[DIRECT_BF16]);
    winograd(&l, RQ_PRECISION_BF16, &best[WINOGRAD_BF16]);
    (void)printf("%4lld x %3lld^2, %4lld -> %4lld", (long long)n, (long long)side, (long long)ic,
                 (long long)oc);
    print_times(best, (double)n_dst * (double)(9 * ic) * 1e-9);
    void *const arrays[] = {l.src, l.wei, l.dst, l.ddst, l.dwei, l.dsrc, l.src_bf16, l.ddst_bf16};
    for (size_t i = 0; i < sizeof arrays / sizeof arrays[0]; i++)
        rq_free(arrays[i]);
}

int main(int argc, char **argv)
{
    static const int usual[][4] = {{32, 56, 48, 48},   {32, 28, 96, 96},   {32, 14, 192, 192},
                                   {128, 32, 32, 32},  {128, 16, 64, 64},  {128, 16, 64, 128},
                                   {128, 8, 128, 128}, {128, 8, 256, 256}, {128, 4, 256, 256}};
    int64_t sizes[4];
    bool fine = argc == 1 || argc == 5;
    for (int i = 1; fine && i < argc; i++)
        fine = rq_parse_int(argv[i], 1, RQ_MAX_CHANNELS, &sizes[i - 1]);
    if (!fine) {
        (void)fprintf(stderr, "usage: winograd [BATCH SIDE IC OC]\n");
        return 2;
    }
    if (argc == 5)
        measure(sizes[0], sizes[1], sizes[2], sizes[3]);
    for (size_t i = 0; argc == 1 && i < sizeof usual / sizeof usual[0]; i++)
        measure(usual[i][0], usual[i][1], usual[i][2], usual[i][3]);
    return 0;
}
