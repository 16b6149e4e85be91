/* Time of a training convolution: winograd [BATCH SIDE IC OC]
 * Forward and backward of 3x3 layers by Winograd's convolution and by oneDNN's direct kernels, the
 * best of 5 runs each; without arguments the layers of RepVGG-A0 at 224 and of networks for 32x32
 * images. With OMP_NUM_THREADS=1 the process's CPU time counts, which other load on the machine
 * disturbs less. */
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "runtime/base/memory.h"
#include "runtime/base/options.h"
#include "runtime/base/random.h"
#include "runtime/dnn/dnn.h"
#include "runtime/dnn/winograd.h"

enum { RUNS = 5 };

static rq_error err;

static double now(void)
{
    struct timespec time;
    (void)clock_gettime(omp_get_max_threads() == 1 ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC,
                        &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static void check(rq_status status)
{
    if (status != RQ_OK) {
        (void)fprintf(stderr, "winograd: %s\n", err.text);
        exit(1);
    }
}

static float *random_floats(size_t n)
{
    float *values = rq_alloc(n * sizeof *values);
    rq_random random = rq_random_stream(1, n, 0);
    if (!values)
        check(rq_fail(&err, RQ_ERR_NOMEM, "out of memory"));
    for (size_t i = 0; i < n; i++)
        values[i] = (float)rq_random_unit(&random) - 0.5f;
    return values;
}

typedef struct layer {
    rq_conv_shape shape;
    float *src, *wei, *dst, *ddst, *dwei, *dsrc;
} layer;

static void direct(const layer *l, rq_dnn_train_conv *conv, double *seconds)
{
    const double start = now();
    check(rq_dnn_train_conv_set_weights(conv, l->wei, &err));
    check(rq_dnn_train_conv_forward(conv, l->src, l->dst, &err));
    check(rq_dnn_train_conv_backward(conv, l->src, l->ddst, l->dwei, l->dsrc, &err));
    *seconds = now() - start < *seconds ? now() - start : *seconds;
}

static void winograd(const layer *l, const rq_winograd *plan, void *scratch, double *seconds)
{
    const double start = now();
    rq_winograd_forward(plan, l->src, l->wei, l->dst, scratch);
    rq_winograd_backward_weights(plan, l->src, l->ddst, l->dwei, scratch);
    rq_winograd_backward_data(plan, l->ddst, l->wei, l->dsrc, scratch);
    *seconds = now() - start < *seconds ? now() - start : *seconds;
}

static void measure(int64_t n, int64_t side, int64_t ic, int64_t oc)
{
    const rq_conv_shape shape = {n,    side, side, ic,
                                 side, side, oc,   {{3, 3}, {1, 1}, {1, 1}, {1, 1}, 1}};
    if (!rq_winograd_suits(&shape)) {
        (void)printf("%4lld x %3lld^2, %4lld -> %4lld: does not suit\n", (long long)n,
                     (long long)side, (long long)ic, (long long)oc);
        return;
    }
    const size_t n_src = (size_t)(n * side * side * ic), n_dst = (size_t)(n * side * side * oc);
    const size_t n_wei = (size_t)(9 * ic * oc);
    const layer l = {shape,
                     random_floats(n_src),
                     random_floats(n_wei),
                     random_floats(n_dst),
                     random_floats(n_dst),
                     random_floats(n_wei),
                     random_floats(n_src)};
    rq_winograd plan;
    rq_winograd_init(&plan, &shape, omp_get_max_threads());
    void *scratch = rq_alloc(rq_winograd_scratch_bytes(&plan));
    rq_dnn *dnn;
    rq_dnn_train_conv *conv;
    const rq_dnn_train_options options = {.with_forward = true, .with_dsrc = true};
    check(scratch ? rq_dnn_create(&dnn, &err) : rq_fail(&err, RQ_ERR_NOMEM, "out of memory"));
    check(rq_dnn_train_conv_create(&conv, dnn, &shape, &options, &err));
    double seconds[2] = {1e9, 1e9};
    for (int i = 0; i < RUNS; i++) {
        direct(&l, conv, &seconds[0]);
        winograd(&l, &plan, scratch, &seconds[1]);
    }
    const double gmacs = 3.0 * (double)n_dst * (double)(9 * ic) * 1e-9;
    (void)printf(
        "%4lld x %3lld^2, %4lld -> %4lld: direct %7.2f ms (%3.0f GMAC/s), winograd %7.2f ms "
        "(%3.0f), %.2fx\n",
        (long long)n, (long long)side, (long long)ic, (long long)oc, 1e3 * seconds[0],
        gmacs / seconds[0], 1e3 * seconds[1], gmacs / seconds[1], seconds[0] / seconds[1]);
    rq_dnn_train_conv_destroy(conv);
    rq_dnn_destroy(dnn);
    rq_free(scratch);
    float *const floats[] = {l.src, l.wei, l.dst, l.ddst, l.dwei, l.dsrc};
    for (size_t i = 0; i < sizeof floats / sizeof floats[0]; i++)
        rq_free(floats[i]);
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
