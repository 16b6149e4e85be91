/* Each transform is a choice (which part of the photograph, resized to what, and which pixels of
 * that), made before anything is decoded; carrying it out is the same for all. */
#include "runtime/image/transform.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/base/memory.h"
#include "runtime/image/color_jitter.h"
#include "runtime/image/randaug.h"

enum { MAX_FILE_BYTES = 1 << 30 };

const char *const rq_padding_mode_names[] = {"constant", "reflect", NULL};

/* One direction of the result: side pixels beginning at position `at` (which may be negative) of a
 * row of `resized` pixels, of which only [from, to) is shown and the rest is border. */
typedef struct span {
    int resized;
    int from, to;
    int at;
} span;

typedef struct choice {
    rq_crop source; /* of the photograph */
    span x, y;      /* of the source resized */
    bool flip;
} choice;

rq_status rq_transform_check(const rq_transform *transform, rq_error *err)
{
    const int kind = (int)transform->kind;
    if (kind < RQ_TRANSFORM_EVAL || kind > RQ_TRANSFORM_FLIP)
        return rq_fail(err, RQ_ERR_ARG, "no transform has the number %d", kind);
    const bool resizes = kind != RQ_TRANSFORM_CROP;
    if (transform->size < 1 || transform->size > RQ_MAX_IMAGE_SIDE)
        return rq_fail(err, RQ_ERR_ARG, "an image size of %d; 1…%d are possible", transform->size,
                       RQ_MAX_IMAGE_SIDE);
    if (resizes && (transform->resize < 1 || transform->resize > RQ_MAX_IMAGE_SIDE))
        return rq_fail(err, RQ_ERR_ARG, "a resize to %d; 1…%d are possible", transform->resize,
                       RQ_MAX_IMAGE_SIDE);
    if (kind == RQ_TRANSFORM_PAD_CROP && transform->resize < transform->size)
        return rq_fail(err, RQ_ERR_ARG, "a resize to %d for padded crops of %d pixels",
                       transform->resize, transform->size);
    if (transform->cutout.side < 0 || transform->cutout.side > RQ_MAX_IMAGE_SIDE)
        return rq_fail(err, RQ_ERR_ARG, "a cutout of side %d; 0…%d are possible",
                       transform->cutout.side, RQ_MAX_IMAGE_SIDE);
    if (transform->padding < 0 || transform->padding > RQ_MAX_PADDING)
        return rq_fail(err, RQ_ERR_ARG, "a padding of %d; 0…%d are possible", transform->padding,
                       RQ_MAX_PADDING);
    if (transform->padding_mode == RQ_PADDING_REFLECT &&
        (kind != RQ_TRANSFORM_PAD_CROP || transform->size <= 2 * transform->padding))
        return rq_fail(err, RQ_ERR_ARG,
                       "mirrored borders of %d pixels are for padded images of more than %d a side",
                       transform->padding, 2 * transform->padding);
    if (!(transform->color_jitter >= 0.0 && transform->color_jitter <= 1.0))
        return rq_fail(err, RQ_ERR_ARG, "a colour jitter of %g; 0…1 are possible",
                       transform->color_jitter);
    const bool is_changed =
        transform->color_jitter > 0.0 || transform->randaug || transform->cutout.side > 0;
    if (kind == RQ_TRANSFORM_EVAL && is_changed)
        return rq_fail(err, RQ_ERR_ARG, "random changes of images that evaluate");
    return RQ_OK;
}

bool rq_transform_is_whole(const rq_transform *transform)
{
    return transform->kind != RQ_TRANSFORM_CROP;
}

void rq_sampler_deinit(rq_sampler *sampler)
{
    rq_jpeg_decoder_destroy(sampler->decoder);
    rq_image_deinit(&sampler->photo.image);
    rq_resizer_deinit(&sampler->resizer);
    rq_free(sampler->file);
    rq_free(sampler->scratch);
    *sampler = (rq_sampler){0};
}

/* torchvision's RandomResizedCrop.get_params */
rq_crop rq_random_resized_crop(rq_random *random, int w, int h)
{
    const double min_area = 0.08, min_ratio = 3.0 / 4.0, max_ratio = 4.0 / 3.0;
    const double area = (double)w * h;
    for (int tries = 0; tries < 10; tries++) {
        const double target = area * (min_area + (1.0 - min_area) * rq_random_unit(random));
        const double span_log = log(max_ratio) - log(min_ratio);
        const double ratio = exp(log(min_ratio) + span_log * rq_random_unit(random));
        const int crop_w = (int)rint(sqrt(target * ratio));
        const int crop_h = (int)rint(sqrt(target / ratio));
        if (crop_w < 1 || crop_w > w || crop_h < 1 || crop_h > h)
            continue;
        const int x = (int)rq_random_below(random, (uint64_t)(w - crop_w) + 1);
        const int y = (int)rq_random_below(random, (uint64_t)(h - crop_h) + 1);
        return (rq_crop){x, y, crop_w, crop_h};
    }
    rq_crop crop = {0, 0, w, h};
    if ((double)w / h < min_ratio)
        crop.h = (int)rint(w / min_ratio);
    else if ((double)w / h > max_ratio)
        crop.w = (int)rint(h * max_ratio);
    crop.x = (w - crop.w) / 2;
    crop.y = (h - crop.h) / 2;
    return crop;
}

/* The short side becomes short_to, the other one follows, rounded down. */
static void resized_sides(int w, int h, int short_to, int *out_w, int *out_h)
{
    const int shorter = w < h ? w : h, longer = w < h ? h : w;
    const int long_to = (int)((int64_t)short_to * longer / shorter);
    *out_w = w <= h ? short_to : long_to;
    *out_h = w <= h ? long_to : short_to;
}

/* torchvision's CenterCrop: round((side - size) / 2) to even, or padding, an odd pixel at the end. */
static span centre_span(int side, int size)
{
    const int rest = side - size;
    const int at = rest >= 0 ? rest / 2 + ((rest & 1) & (rest / 2)) : -(-rest / 2);
    return (span){.resized = side, .from = 0, .to = side, .at = at};
}

/* A random crop of the centred square with a border around it. */
static span padded_span(int side, const rq_transform *transform, rq_random *random)
{
    const int square = transform->resize, padding = transform->padding;
    const int n_places = square + 2 * padding - transform->size + 1;
    span out = centre_span(side, square);
    out.from = out.at;
    out.to = out.at + square;
    out.at += (int)rq_random_below(random, (uint64_t)n_places) - padding;
    return out;
}

static choice choose(const rq_transform *transform, int w, int h, rq_random *random)
{
    const int size = transform->size;
    choice out = {.source = {0, 0, w, h}};
    int out_w, out_h;
    switch (transform->kind) {
    case RQ_TRANSFORM_EVAL:
    case RQ_TRANSFORM_FLIP:
        resized_sides(w, h, transform->resize, &out_w, &out_h);
        out.x = centre_span(out_w, size);
        out.y = centre_span(out_h, size);
        break;
    case RQ_TRANSFORM_CROP:
        out.source = rq_random_resized_crop(random, w, h);
        out.x = out.y = centre_span(size, size);
        break;
    case RQ_TRANSFORM_PAD_CROP:
        resized_sides(w, h, transform->resize, &out_w, &out_h);
        out.x = padded_span(out_w, transform, random);
        out.y = padded_span(out_h, transform, random);
        break;
    }
    if (transform->kind != RQ_TRANSFORM_EVAL) {
        const bool by_chance = rq_random_unit(random) < 0.5;
        out.flip =
            transform->flip == RQ_FLIP_BY_CHANCE ? by_chance : transform->flip == RQ_FLIP_ALWAYS;
    }
    return out;
}

/* By how much the decoder may shrink the photograph. */
static int scale_denominator(const rq_transform *transform, const rq_crop *source)
{
    if (transform->kind == RQ_TRANSFORM_EVAL || transform->kind == RQ_TRANSFORM_FLIP)
        return 1;
    const int enough = source->w < source->h ? source->w : source->h;
    int denominator = 8;
    const int needed = transform->kind == RQ_TRANSFORM_CROP ? transform->size : transform->resize;
    while (denominator > 1 && enough / denominator < needed)
        denominator /= 2;
    return denominator;
}

static int max_int(int a, int b)
{
    return a > b ? a : b;
}

static int min_int(int a, int b)
{
    return a < b ? a : b;
}

/* Columns [left, right) and rows [top, bottom) are there; mirror them about the outermost. */
static void reflect(uint8_t *pixels, int size, int left, int right, int top, int bottom)
{
    const size_t row_bytes = (size_t)size * 3;
    for (int y = top; y < bottom; y++) {
        uint8_t *row = pixels + (size_t)y * row_bytes;
        for (int x = 0; x < left; x++)
            memcpy(row + (size_t)x * 3, row + (size_t)(2 * left - x) * 3, 3);
        for (int x = right; x < size; x++)
            memcpy(row + (size_t)x * 3, row + (size_t)(2 * (right - 1) - x) * 3, 3);
    }
    for (int y = 0; y < top; y++)
        memcpy(pixels + (size_t)y * row_bytes, pixels + (size_t)(2 * top - y) * row_bytes,
               row_bytes);
    for (int y = bottom; y < size; y++)
        memcpy(pixels + (size_t)y * row_bytes, pixels + (size_t)(2 * (bottom - 1) - y) * row_bytes,
               row_bytes);
}

/* Resize the source's part of the photograph, and of that what the spans show. */
static rq_status render(rq_sampler *sampler, const rq_photo *photo, const choice *chosen,
                        const rq_transform *transform, uint8_t *dst, rq_error *err)
{
    const int size = transform->size;
    const rq_image *image = &photo->image;
    const int denominator = photo->denominator;
    const span *x = &chosen->x, *y = &chosen->y;
    const int left = max_int(x->at, x->from), right = min_int(x->at + size, x->to);
    const int top = max_int(y->at, y->from), bottom = min_int(y->at + size, y->to);
    if (right - left < size || bottom - top < size)
        memset(dst, 0, (size_t)size * (size_t)size * 3);
    if (right <= left || bottom <= top)
        return RQ_OK;
    /* The source as whole pixels of the decoded image, so that nothing around it is seen, and as a
     * box in these. */
    const rq_crop *source = &chosen->source;
    const int x0 = source->x / denominator;
    const int y0 = source->y / denominator;
    const int x1 = (source->x + source->w + denominator - 1) / denominator;
    const int y1 = (source->y + source->h + denominator - 1) / denominator;
    const rq_box box = {(double)source->x / denominator - x0, (double)source->y / denominator - y0,
                        (double)(source->x + source->w) / denominator - x0,
                        (double)(source->y + source->h) / denominator - y0};
    const size_t stride = (size_t)image->w * 3;
    const uint8_t *pixels = image->pixels + (size_t)y0 * stride + (size_t)x0 * 3;
    uint8_t *shown = dst + ((size_t)(top - y->at) * (size_t)size + (size_t)(left - x->at)) * 3;
    RQ_TRY(rq_resize(&sampler->resizer, pixels, x1 - x0, y1 - y0, stride, box, x->resized,
                     y->resized, left, top, right - left, bottom - top, shown, (size_t)size * 3,
                     err));
    if (transform->padding_mode == RQ_PADDING_REFLECT)
        reflect(dst, size, left - x->at, right - x->at, top - y->at, bottom - y->at);
    return RQ_OK;
}

static void flip_rows(uint8_t *pixels, int size)
{
    for (int y = 0; y < size; y++) {
        uint8_t *left = pixels + (size_t)y * (size_t)size * 3;
        uint8_t *right = left + (size_t)(size - 1) * 3;
        for (; left < right; left += 3, right -= 3) {
            for (int c = 0; c < 3; c++) {
                const uint8_t level = left[c];
                left[c] = right[c];
                right[c] = level;
            }
        }
    }
}

/* What comes after the flip. */
static rq_status augment(rq_sampler *sampler, const rq_transform *transform, rq_random *random,
                         uint8_t *dst, rq_error *err)
{
    const int size = transform->size;
    if (transform->color_jitter > 0.0)
        rq_color_jitter(random, transform->color_jitter, dst, (size_t)size * (size_t)size);
    if (transform->randaug) {
        if (!rq_grow(&sampler->scratch, &sampler->scratch_capacity_bytes,
                     rq_randaug_scratch_bytes(size, size)))
            return rq_fail(err, RQ_ERR_NOMEM, "out of memory (augmenting %d x %d pixels)", size,
                           size);
        rq_randaug(random, dst, size, size, sampler->scratch);
    }
    if (transform->cutout.side > 0) {
        const int x = (int)rq_random_below(random, (uint64_t)size);
        const int y = (int)rq_random_below(random, (uint64_t)size);
        rq_cutout_apply(&transform->cutout, dst, size, size, x, y);
    }
    return RQ_OK;
}

static rq_status finish(rq_sampler *sampler, const rq_photo *photo, const rq_transform *transform,
                        const choice *chosen, rq_random *random, uint8_t *dst, rq_error *err)
{
    RQ_TRY(render(sampler, photo, chosen, transform, dst, err));
    if (chosen->flip)
        flip_rows(dst, transform->size);
    return augment(sampler, transform, random, dst, err);
}

rq_status rq_sample_memory(rq_sampler *sampler, const uint8_t *data, size_t size_bytes,
                           const rq_transform *transform, rq_random *random, uint8_t *dst,
                           rq_error *err)
{
    rq_photo *photo = &sampler->photo;
    RQ_TRY(rq_transform_check(transform, err));
    if (!sampler->decoder)
        RQ_TRY(rq_jpeg_decoder_create(&sampler->decoder, err));
    RQ_TRY(rq_jpeg_size(sampler->decoder, data, size_bytes, &photo->w, &photo->h, err));
    const choice chosen = choose(transform, photo->w, photo->h, random);
    photo->denominator = scale_denominator(transform, &chosen.source);
    RQ_TRY(
        rq_jpeg_decode(sampler->decoder, data, size_bytes, photo->denominator, &photo->image, err));
    return finish(sampler, photo, transform, &chosen, random, dst, err);
}

rq_status rq_sample_photo(rq_sampler *sampler, const rq_photo *photo, const rq_transform *transform,
                          rq_random *random, uint8_t *dst, rq_error *err)
{
    RQ_TRY(rq_transform_check(transform, err));
    if (!rq_transform_is_whole(transform))
        return rq_fail(err, RQ_ERR_ARG, "a decoded photograph for a transform that crops first");
    const choice chosen = choose(transform, photo->w, photo->h, random);
    return finish(sampler, photo, transform, &chosen, random, dst, err);
}

/* Read a whole open file into sampler->file. */
static rq_status read_open(rq_sampler *sampler, int file, const char *path, size_t *size_bytes,
                           rq_error *err)
{
    struct stat info;
    if (fstat(file, &info) != 0)
        return rq_fail_errno(err, path, "read");
    if (!S_ISREG(info.st_mode) || info.st_size > MAX_FILE_BYTES)
        return rq_fail(err, RQ_ERR_IO, "%s: %s", path,
                       S_ISREG(info.st_mode) ? "larger than 1 GiB" : "not a regular file");
    const size_t expected = (size_t)info.st_size;
    if (!rq_grow(&sampler->file, &sampler->file_capacity_bytes, expected))
        return rq_fail(err, RQ_ERR_NOMEM, "%s: out of memory (%zu bytes)", path, expected);
    *size_bytes = 0;
    while (*size_bytes < expected) {
        const ssize_t n = read(file, sampler->file + *size_bytes, expected - *size_bytes);
        if (n < 0 && errno != EINTR)
            return rq_fail_errno(err, path, "read");
        if (n == 0)
            break; /* cut short meanwhile: what there is decides */
        *size_bytes += n > 0 ? (size_t)n : 0;
    }
    return RQ_OK;
}

static rq_status read_file(rq_sampler *sampler, const char *path, size_t *size_bytes, rq_error *err)
{
    const int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe must not hang us */
    if (file < 0)
        return rq_fail_errno(err, path, "open");
    const rq_status status = read_open(sampler, file, path, size_bytes, err);
    (void)close(file);
    return status;
}

rq_status rq_sample_file(rq_sampler *sampler, const char *path, const rq_transform *transform,
                         rq_random *random, uint8_t *dst, rq_error *err)
{
    size_t size_bytes = 0;
    RQ_TRY(read_file(sampler, path, &size_bytes, err));
    const rq_status status =
        rq_sample_memory(sampler, sampler->file, size_bytes, transform, random, dst, err);
    if (status)
        rq_error_prefix(err, "%s", path);
    return status;
}
