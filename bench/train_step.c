/* Time of a training step: train_step ARCH BATCH RESOLUTION [FORM] [STEPS] [PRECISION]
 * FORM: train (three branches), withbn (deploy form with batch norm) or qat (default). Random
 * weights and pixels; prints the median of STEPS steps (default 5, after one to warm up), the share
 * of each kind of work, and the process's peak memory. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "bench/unit_bn.h"
#include "fuse/fold.h"
#include "qat/prepare.h"
#include "qat/update/optimizer.h"
#include "runtime/base/clock.h"
#include "runtime/base/options.h"
#include "runtime/base/random.h"
#include "runtime/model/arch.h"

static rq_error err;

static void check(rq_status status)
{
    if (status != RQ_OK) {
        (void)fprintf(stderr, "train_step: %s\n", err.text);
        exit(1);
    }
}

static void build(rq_model *model, const char *arch, int resolution, const char *form)
{
    rq_model train, deploy, withbn;
    check(rq_arch_build(&train, arch, 0, &err));
    train.preprocess.crop = train.preprocess.resize = resolution;
    rq_model_init_weights(&train, 1);
    if (strcmp(form, "train") == 0) {
        *model = train;
        return;
    }
    check(rq_fuse(&deploy, &train, &err));
    check(bench_unit_bn(&withbn, &deploy, &err));
    if (strcmp(form, "withbn") == 0)
        *model = withbn;
    else
        check(rq_prepare_qat(model, &withbn, RQ_QUANT_ALL, &err));
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
    int64_t batch, resolution, steps = 5;
    if (argc < 4 || argc > 7 || !rq_parse_int(argv[2], 1, 4096, &batch) ||
        !rq_parse_int(argv[3], 8, 4096, &resolution) ||
        (argc > 5 && !rq_parse_int(argv[5], 1, 1000, &steps))) {
        (void)fprintf(
            stderr,
            "usage: train_step ARCH BATCH RESOLUTION [train|withbn|qat] [STEPS] [f32|bf16]\n");
        return 2;
    }
    const char *form = argc > 4 ? argv[4] : "qat";
    rq_model model;
    build(&model, argv[1], (int)resolution, form);
    rq_trainer *trainer;
    rq_optimizer *optimizer;
    const bool bf16 = argc > 6 && strcmp(argv[6], "bf16") == 0;
    const rq_trainer_options options = {.batch = (int)batch,
                                        .precision = bf16 ? RQ_PRECISION_BF16 : RQ_PRECISION_F32};
    const rq_optimizer_options optimizer_options = RQ_OPTIMIZER_OPTIONS_INIT;
    check(rq_trainer_create(&trainer, &model, &options, &err));
    check(rq_optimizer_create(&optimizer, trainer, &model, &optimizer_options, &err));
    const size_t n_pixels = (size_t)(batch * resolution * resolution * 3);
    uint8_t *pixels = rq_alloc(n_pixels);
    int32_t *labels = rq_alloc((size_t)batch * sizeof *labels);
    double *seconds = rq_alloc((size_t)steps * sizeof *seconds);
    rq_random random = {1};
    for (size_t i = 0; i < n_pixels; i++)
        pixels[i] = (uint8_t)rq_random_u64(&random);
    for (int64_t i = 0; i < batch; i++)
        labels[i] = (int32_t)rq_random_below(&random, (uint64_t)model.n_classes);
    rq_trainer_profile before = {0};
    for (int64_t i = -1; i < steps; i++) {
        rq_step_result result;
        const double start = rq_clock();
        check(rq_trainer_step(trainer, pixels, labels, &result, &err));
        check(rq_optimizer_step(optimizer, 1e-4, &err));
        if (i >= 0)
            seconds[i] = rq_clock() - start;
        else
            before = rq_trainer_get_profile(trainer);
    }
    qsort(seconds, (size_t)steps, sizeof *seconds, by_value);
    const double median = seconds[steps / 2], n = (double)(batch * steps);
    const rq_trainer_profile p = rq_trainer_get_profile(trainer);
    struct rusage usage;
    (void)getrusage(RUSAGE_SELF, &usage);
    (void)printf("%s %s batch %d res %d: %.2f images/s (median step %.1f ms), peak %.0f MB\n"
                 "ms/image: conv forward %.2f, passes forward %.2f, conv backward %.2f, passes "
                 "backward %.2f, weights %.2f\n",
                 argv[1], form, (int)batch, (int)resolution, (double)batch / median, 1e3 * median,
                 (double)usage.ru_maxrss / 1024.0, 1e3 * (p.forward_conv - before.forward_conv) / n,
                 1e3 * (p.forward_pass - before.forward_pass) / n,
                 1e3 * (p.backward_conv - before.backward_conv) / n,
                 1e3 * (p.backward_pass - before.backward_pass) / n,
                 1e3 * (p.weights - before.weights) / n);
    rq_free(seconds);
    rq_free(labels);
    rq_free(pixels);
    rq_optimizer_destroy(optimizer);
    rq_trainer_destroy(trainer);
    rq_model_deinit(&model);
    return 0;
}
