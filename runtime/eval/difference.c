/* Two sessions over the same pixels. */
#include "runtime/eval/difference.h"

#include <math.h>

#include "runtime/base/random.h"

double rq_difference_relative(const rq_difference *difference)
{
    if (difference->max_abs_diff == 0.0)
        return 0.0;
    return difference->max_abs_diff / difference->max_abs_logit;
}

static rq_status compare(rq_difference *difference, const float *a, const float *b, int n_classes,
                         rq_error *err)
{
    for (int i = 0; i < n_classes; i++) {
        const double x = (double)a[i], y = (double)b[i];
        if (!isfinite(x) || !isfinite(y))
            return rq_fail(err, RQ_ERR_RANGE, "image %zu, class %d: the logits are %g and %g",
                           difference->n_images, i, x, y);
        difference->max_abs_diff = fmax(difference->max_abs_diff, fabs(x - y));
        difference->max_abs_logit = fmax(difference->max_abs_logit, fabs(x));
    }
    difference->n_images++;
    return RQ_OK;
}

static rq_status check_classes(int a, int b, rq_error *err)
{
    if (a == b)
        return RQ_OK;
    return rq_fail(err, RQ_ERR_MODEL, "one model has %d classes, the other %d", a, b);
}

/* logits: [2, n, n_classes], of a, then of b. */
static rq_status run_both(rq_difference *difference, rq_session *a, rq_session *b,
                          const uint8_t *pixels, const int32_t *labels, int n, int n_classes,
                          float *logits, rq_error *err)
{
    const size_t n_logits = (size_t)n * (size_t)n_classes;
    RQ_TRY(rq_session_run(a, pixels, n, logits, err));
    RQ_TRY(rq_session_run(b, pixels, n, logits + n_logits, err));
    for (int i = 0; i < n; i++) {
        const float *row = logits + (size_t)i * (size_t)n_classes;
        if (!labels || labels[i] != RQ_LABEL_IGNORE)
            RQ_TRY(compare(difference, row, row + n_logits, n_classes, err));
    }
    return RQ_OK;
}

rq_status rq_difference_add(rq_difference *difference, rq_session *a, rq_session *b,
                            const uint8_t *pixels, const int32_t *labels, int n, rq_error *err)
{
    const int n_classes = rq_session_get_info(a).n_classes;
    RQ_TRY(check_classes(n_classes, rq_session_get_info(b).n_classes, err));
    float *logits = rq_alloc_array(float, 2 * (size_t)n * (size_t)n_classes);
    if (!logits)
        return rq_no_memory(err);
    const rq_status status = run_both(difference, a, b, pixels, labels, n, n_classes, logits, err);
    rq_free(logits);
    return status;
}

/* ---- the two sources of pixels ---- */

static void fill_random(uint8_t *pixels, size_t n_pixels, rq_random *random)
{
    double level[3], strength[3];
    for (int c = 0; c < 3; c++) {
        level[c] = 255.0 * rq_random_unit(random);
        strength[c] = 255.0 * rq_random_unit(random);
    }
    for (size_t i = 0; i < 3 * n_pixels; i++) {
        const double noise = strength[i % 3] * (rq_random_unit(random) - 0.5);
        pixels[i] = (uint8_t)fmin(fmax(level[i % 3] + noise, 0.0), 255.0);
    }
}

typedef struct logits {
    float *values; /* [n_images, n_classes], in the arena */
    int n_classes;
} logits;

static rq_status run_random(logits *out, rq_session *session, int size, int n_images, uint64_t seed,
                            rq_arena *arena, rq_error *err)
{
    const size_t n_pixels = (size_t)size * (size_t)size;
    const size_t n_classes = (size_t)rq_session_get_info(session).n_classes;
    const size_t n_logits = n_classes * (size_t)n_images;
    uint8_t *pixels = rq_arena_array(arena, uint8_t, 3 * n_pixels);
    out->n_classes = (int)n_classes;
    out->values = rq_arena_array(arena, float, n_logits);
    if (!pixels || !out->values)
        return rq_no_memory(err);
    for (int i = 0; i < n_images; i++) {
        rq_random random = rq_random_stream(seed, 0, (uint64_t)i);
        fill_random(pixels, n_pixels, &random);
        RQ_TRY(rq_session_run(session, pixels, 1, out->values + (size_t)i * n_classes, err));
    }
    return RQ_OK;
}

/* The session is gone afterwards. */
static rq_status run_model(logits *out, const rq_model *model, int size, int n_images,
                           uint64_t seed, rq_arena *arena, rq_error *err)
{
    const rq_session_options options = {.batch = 1, .height = size, .width = size};
    rq_session *session = NULL;
    RQ_TRY(rq_session_create(&session, model, &options, err));
    const rq_status status = run_random(out, session, size, n_images, seed, arena, err);
    rq_session_destroy(session);
    return status;
}

/* One model after the other: only one's packed weights are in memory at a time. */
static rq_status compare_random(rq_difference *out, const rq_model *a, const rq_model *b, int size,
                                int n_images, uint64_t seed, rq_arena *arena, rq_error *err)
{
    logits of_a, of_b;
    RQ_TRY(run_model(&of_a, a, size, n_images, seed, arena, err));
    RQ_TRY(run_model(&of_b, b, size, n_images, seed, arena, err));
    RQ_TRY(check_classes(of_a.n_classes, of_b.n_classes, err));
    for (int i = 0; i < n_images; i++) {
        const size_t at = (size_t)i * (size_t)of_a.n_classes;
        RQ_TRY(compare(out, of_a.values + at, of_b.values + at, of_a.n_classes, err));
    }
    return RQ_OK;
}

rq_status rq_difference_random(rq_difference *out, const rq_model *a, const rq_model *b, int size,
                               int n_images, uint64_t seed, rq_error *err)
{
    rq_arena arena = RQ_ARENA_INIT;
    *out = (rq_difference){0.0, 0.0, 0};
    const rq_status status = compare_random(out, a, b, size, n_images, seed, &arena, err);
    rq_arena_deinit(&arena);
    return status;
}

rq_status rq_difference_loader(rq_difference *out, rq_session *a, rq_session *b, rq_loader *loader,
                               size_t max_batches, rq_error *err)
{
    rq_batch batch = {.n = 1};
    *out = (rq_difference){0.0, 0.0, 0};
    rq_loader_start(loader, 0, 0);
    for (size_t i = 0; i < max_batches && batch.n > 0; i++) {
        RQ_TRY(rq_loader_next(loader, &batch, err));
        if (batch.n > 0)
            RQ_TRY(rq_difference_add(out, a, b, batch.pixels, batch.labels, batch.n, err));
    }
    if (out->n_images == 0)
        return rq_fail(err, RQ_ERR_IMAGE, "none of the images could be read");
    return RQ_OK;
}
