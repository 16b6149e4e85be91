/* Two sessions side by side over the same pixels. */
#include "fuse/difference.h"

#include <math.h>

#include "runtime/base/random.h"

double rq_difference_relative(const rq_difference *difference)
{
    if (difference->max_abs_diff == 0.0)
        return 0.0;
    return difference->max_abs_diff / difference->max_abs_logit;
}

static rq_status compare(rq_difference *difference, const float *a, const float *b, int n,
                         int n_classes, rq_error *err)
{
    for (int i = 0; i < n * n_classes; i++) {
        const double x = (double)a[i], y = (double)b[i];
        if (!isfinite(x) || !isfinite(y))
            return rq_fail(err, RQ_ERR_RANGE, "image %zu, class %d: the logits are %g and %g",
                           difference->n_images + (size_t)(i / n_classes), i % n_classes, x, y);
        difference->max_abs_diff = fmax(difference->max_abs_diff, fabs(x - y));
        difference->max_abs_logit = fmax(difference->max_abs_logit, fabs(x));
    }
    difference->n_images += (size_t)n;
    return RQ_OK;
}

rq_status rq_difference_add(rq_difference *difference, rq_session *a, rq_session *b,
                            const uint8_t *pixels, int n, rq_error *err)
{
    const int n_classes = rq_session_get_info(a).n_classes;
    const int other = rq_session_get_info(b).n_classes;
    void *memory = NULL;
    if (n_classes != other)
        return rq_fail(err, RQ_ERR_MODEL, "one model has %d classes, the other %d", n_classes,
                       other);
    const size_t n_logits = (size_t)n * (size_t)n_classes;
    rq_status status = rq_alloc_array(&memory, n_logits, 2 * sizeof(float), err);
    float *logits = memory;
    if (!status)
        status = rq_session_run(a, pixels, n, logits, err);
    if (!status)
        status = rq_session_run(b, pixels, n, logits + n_logits, err);
    if (!status)
        status = compare(difference, logits, logits + n_logits, n, n_classes, err);
    rq_free(memory);
    return status;
}

/* ---- the two sources of pixels ---- */

typedef struct session_pair {
    rq_session *a, *b;
} session_pair;

static rq_status open_pair(session_pair *out, const rq_model *a, const rq_model *b, int batch,
                           int size, rq_error *err)
{
    const rq_session_options options = {.batch = batch, .height = size, .width = size};
    const rq_status status = rq_session_create(&out->a, a, &options, err);
    return status ? status : rq_session_create(&out->b, b, &options, err);
}

static void close_pair(session_pair *pair)
{
    rq_session_destroy(pair->a);
    rq_session_destroy(pair->b);
}

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

rq_status rq_difference_random(rq_difference *out, const rq_model *a, const rq_model *b, int size,
                               int n_images, uint64_t seed, rq_error *err)
{
    const size_t n_pixels = (size_t)size * (size_t)size;
    session_pair pair = {NULL, NULL};
    void *pixels = NULL;
    *out = (rq_difference){0.0, 0.0, 0};
    rq_status status = open_pair(&pair, a, b, 1, size, err);
    if (!status)
        status = rq_alloc_array(&pixels, n_pixels, 3, err);
    for (int i = 0; i < n_images && !status; i++) {
        rq_random random = rq_random_stream(seed, 0, (uint64_t)i);
        fill_random(pixels, n_pixels, &random);
        status = rq_difference_add(out, pair.a, pair.b, pixels, 1, err);
    }
    rq_free(pixels);
    close_pair(&pair);
    return status;
}

/* Runs of images that were read: skipped ones have no pixels. */
static rq_status add_batch(rq_difference *out, const session_pair *pair, const rq_batch *batch,
                           int size, rq_error *err)
{
    const size_t image_bytes = (size_t)size * (size_t)size * 3;
    rq_status status = RQ_OK;
    for (int i = 0; i < batch->n && !status;) {
        int n = 0;
        while (i + n < batch->n && batch->labels[i + n] != RQ_LABEL_IGNORE)
            n++;
        if (n > 0)
            status = rq_difference_add(out, pair->a, pair->b,
                                       batch->pixels + (size_t)i * image_bytes, n, err);
        i += n + 1;
    }
    return status;
}

rq_status rq_difference_loader(rq_difference *out, const rq_model *a, const rq_model *b,
                               rq_loader *loader, int batch, int size, rq_error *err)
{
    session_pair pair = {NULL, NULL};
    *out = (rq_difference){0.0, 0.0, 0};
    rq_status status = open_pair(&pair, a, b, batch, size, err);
    if (!status)
        rq_loader_start(loader, 0, 0);
    rq_batch images = {.n = status ? 0 : 1};
    while (!status && images.n > 0) {
        status = rq_loader_next(loader, &images, err);
        if (!status)
            status = add_batch(out, &pair, &images, size, err);
    }
    if (!status && out->n_images == 0)
        status = rq_fail(err, RQ_ERR_IMAGE, "none of the images could be read");
    close_pair(&pair);
    return status;
}
