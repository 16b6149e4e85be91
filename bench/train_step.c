/* train_step ARCH BATCH RESOLUTION [FORM [STEPS [PRECISION]]]
 *
 * Times training steps (forward, backward, optimizer) on random weights and pixels. Prints images/s
 * by the median of STEPS steps, after one to warm up, the process's peak memory, and the time of
 * each kind of work.
 *
 *   FORM        train (blocks as trained), withbn (deploy form with batch norm) or qat (default)
 *   STEPS       default 5
 *   PRECISION   f32 (default) or bf16
 *
 * The number of threads is OMP_NUM_THREADS. */
#include <string.h>
#include <sys/resource.h>

#include "bench/support.h"
#include "fuse/fold.h"
#include "qat/prepare.h"
#include "qat/update/optimizer.h"
#include "runtime/base/clock.h"
#include "runtime/base/options.h"
#include "runtime/base/random.h"
#include "runtime/model/arch.h"

typedef struct arguments {
    const char *arch, *form;
    int64_t batch, resolution, steps;
    rq_precision precision;
} arguments;

static bool parse(arguments *out, int argc, char **argv)
{
    *out = (arguments){.form = "qat", .steps = 5, .precision = RQ_PRECISION_F32};
    if (argc < 4 || argc > 7 || !rq_parse_int(argv[2], 1, 4096, &out->batch) ||
        !rq_parse_int(argv[3], 8, 4096, &out->resolution) ||
        (argc > 5 && !rq_parse_int(argv[5], 1, 1000, &out->steps)))
        return false;
    out->arch = argv[1];
    if (argc > 4)
        out->form = argv[4];
    if (argc > 6 && strcmp(argv[6], "bf16") == 0)
        out->precision = RQ_PRECISION_BF16;
    else if (argc > 6 && strcmp(argv[6], "f32") != 0)
        return false;
    return strcmp(out->form, "train") == 0 || strcmp(out->form, "withbn") == 0 ||
           strcmp(out->form, "qat") == 0;
}

/* The forms that a model goes through. All are kept to the end, and the peak of memory has them. */
typedef struct forms {
    rq_model train, deploy, withbn, qat;
} forms;

/* The form that is to be trained. */
static rq_model *build(forms *f, const arguments *given)
{
    bench_check(rq_arch_build(&f->train, given->arch, 0, &bench_err));
    f->train.preprocess.crop = f->train.preprocess.resize = (int)given->resolution;
    rq_model_init_weights(&f->train, 1);
    if (strcmp(given->form, "train") == 0)
        return &f->train;
    bench_check(rq_fuse(&f->deploy, &f->train, &bench_err));
    bench_unit_bn(&f->withbn, &f->deploy);
    if (strcmp(given->form, "withbn") == 0)
        return &f->withbn;
    bench_check(rq_prepare_qat(&f->qat, &f->withbn, RQ_QUANT_ALL, &bench_err));
    return &f->qat;
}

typedef struct batch {
    uint8_t *pixels;
    int32_t *labels;
} batch;

static batch random_batch(const arguments *given, int n_classes)
{
    const int64_t n_pixels = given->batch * given->resolution * given->resolution * 3;
    const batch out = {bench_memory(rq_alloc_array(uint8_t, n_pixels)),
                       bench_memory(rq_alloc_array(int32_t, given->batch))};
    rq_random random = {1};
    for (int64_t i = 0; i < n_pixels; i++)
        out.pixels[i] = (uint8_t)rq_random_u64(&random);
    for (int64_t i = 0; i < given->batch; i++)
        out.labels[i] = (int32_t)rq_random_below(&random, (uint64_t)n_classes);
    return out;
}

static double step_seconds(rq_trainer *trainer, rq_optimizer *optimizer, const batch *data)
{
    rq_step_result result;
    const double start = rq_clock();
    bench_check(rq_trainer_step(trainer, data->pixels, data->labels, &result, &bench_err));
    bench_check(rq_optimizer_step(optimizer, 1e-4, &bench_err));
    return rq_clock() - start;
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, int64_t n)
{
    qsort(values, (size_t)n, sizeof *values, by_value);
    return values[n / 2];
}

static void print(const arguments *given, double median_seconds, const rq_trainer_profile *before,
                  const rq_trainer_profile *after)
{
    const double scale = 1e3 / (double)(given->batch * given->steps); /* to ms per image */
    struct rusage usage;
    (void)getrusage(RUSAGE_SELF, &usage);
    (void)printf("%s %s batch %d res %d: %.2f images/s (median step %.1f ms), peak %.0f MB\n"
                 "ms/image: conv forward %.2f, passes forward %.2f, conv backward %.2f, passes "
                 "backward %.2f, weights %.2f\n",
                 given->arch, given->form, (int)given->batch, (int)given->resolution,
                 (double)given->batch / median_seconds, 1e3 * median_seconds,
                 (double)usage.ru_maxrss / 1024.0,
                 scale * (after->forward_conv - before->forward_conv),
                 scale * (after->forward_pass - before->forward_pass),
                 scale * (after->backward_conv - before->backward_conv),
                 scale * (after->backward_pass - before->backward_pass),
                 scale * (after->weights - before->weights));
}

int main(int argc, char **argv)
{
    arguments given;
    if (!parse(&given, argc, argv)) {
        (void)fprintf(stderr, "usage: train_step ARCH BATCH RESOLUTION [train|withbn|qat [STEPS "
                              "[f32|bf16]]]\n");
        return 2;
    }
    forms f = {RQ_MODEL_INIT, RQ_MODEL_INIT, RQ_MODEL_INIT, RQ_MODEL_INIT};
    rq_model *model = build(&f, &given);
    rq_trainer *trainer;
    rq_optimizer *optimizer;
    const rq_trainer_options options = {.batch = (int)given.batch, .precision = given.precision};
    const rq_optimizer_options optimizer_options = RQ_OPTIMIZER_OPTIONS_INIT;
    bench_check(rq_trainer_create(&trainer, model, &options, &bench_err));
    bench_check(rq_optimizer_create(&optimizer, trainer, model, &optimizer_options, &bench_err));
    const batch data = random_batch(&given, model->n_classes);
    double *seconds = bench_memory(rq_alloc_array(double, given.steps));
    (void)step_seconds(trainer, optimizer, &data); /* warms up */
    const rq_trainer_profile before = rq_trainer_get_profile(trainer);
    for (int64_t i = 0; i < given.steps; i++)
        seconds[i] = step_seconds(trainer, optimizer, &data);
    const rq_trainer_profile after = rq_trainer_get_profile(trainer);
    print(&given, median(seconds, given.steps), &before, &after);
    rq_free(seconds);
    rq_free(data.labels);
    rq_free(data.pixels);
    rq_optimizer_destroy(optimizer);
    rq_trainer_destroy(trainer);
    rq_model *models[] = {&f.train, &f.deploy, &f.withbn, &f.qat};
    for (size_t i = 0; i < sizeof models / sizeof models[0]; i++)
        rq_model_deinit(models[i]);
    return 0;
}
