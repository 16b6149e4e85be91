/* Pictures of shapes, drawn by signed distance: negative inside, in units of the shape's radius, so
 * that the distance in pixels gives the coverage of each pixel and edges come out smooth. */
#include "cli/synthetic.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "runtime/base/memory.h"

enum { QUALITY = 90, MIN_SIDE = 16, MAX_SIDE = 1024 };

const rq_synthetic_level rq_synthetic_demo = {
    .min_radius = 0.45F,
    .max_radius = 0.85F,
    .max_stretch = 1.3F,
    .min_contrast = 0.45F,
    .texture = 0.35F,
    .max_clutter = 2,
    .occluded_share = 0.15F,
    .noise = 0.03F,
    .heavy_noise = 0.12F,
    .heavy_share = 0.1F,
};

static float length(float x, float y)
{
    return sqrtf(x * x + y * y);
}

/* A regular polygon that touches the circle of this radius from inside. */
static float polygon(float x, float y, float sides, float radius)
{
    const float pi = 3.14159265F, sector = 2.0F * pi / sides;
    const float angle = atan2f(y, x) + pi;
    const float folded = angle - sector * (floorf(angle / sector) + 0.5F);
    return length(x, y) * cosf(folded) - radius * cosf(0.5F * sector);
}

static float bars(float x, float period)
{
    const float phase = x / period - floorf(x / period) - 0.5F;
    return (fabsf(phase) - 0.25F) * period;
}

/* Distances of each kind of shape; v in [0, 1) varies its form. */
static float checker(float x, float y, float v)
{
    const float a = bars(x + v, 0.9F), b = bars(y + v, 0.9F);
    return fmaxf(length(x, y) - 1.0F, fmaxf(fminf(a, b), -fmaxf(a, b)));
}

static float crescent(float x, float y, float v)
{
    return fmaxf(length(x, y) - 1.0F, 0.75F - length(x - 0.3F - 0.2F * v, y));
}

static float cross(float x, float y, float v)
{
    const float arm = 0.2F + 0.15F * v;
    return fminf(fmaxf(fabsf(x) - 1.0F, fabsf(y) - arm), fmaxf(fabsf(x) - arm, fabsf(y) - 1.0F));
}

static float disc(float x, float y, float v)
{
    (void)v;
    return length(x, y) - 1.0F;
}

/* Its corners are rounded, up to almost a disc. */
static float hexagon(float x, float y, float v)
{
    const float rounding = 0.5F * v * v;
    return (1.0F - rounding) * polygon(x, y, 6.0F, 1.0F) + rounding * (length(x, y) - 0.95F);
}

static float ring(float x, float y, float v)
{
    const float half = 0.12F + 0.13F * v;
    return fabsf(length(x, y) - (1.0F - half)) - half;
}

static float square(float x, float y, float v)
{
    (void)v;
    return polygon(x, y, 4.0F, 1.1F);
}

static float star(float x, float y, float v)
{
    const float pi = 3.14159265F, sector = 0.4F * pi, inner = 0.42F + 0.15F * v;
    const float angle = atan2f(y, x) + pi;
    const float folded = fabsf(angle - sector * (floorf(angle / sector) + 0.5F));
    /* the edge from a tip (1, 0) to an inner corner at half a sector */
    const float corner_x = inner * cosf(0.5F * sector), corner_y = inner * sinf(0.5F * sector);
    const float edge = length(1.0F - corner_x, corner_y);
    const float px = length(x, y) * cosf(folded), py = length(x, y) * sinf(folded);
    return ((px - 1.0F) * corner_y + py * (1.0F - corner_x)) / edge;
}

static float stripes(float x, float y, float v)
{
    return fmaxf(length(x, y) - 1.0F, bars(y + v, 0.65F + 0.2F * v));
}

static float triangle(float x, float y, float v)
{
    (void)v;
    return polygon(x, y, 3.0F, 1.15F);
}

typedef float shape_distance(float x, float y, float v);

static const struct {
    const char *name;
    shape_distance *distance;
} shapes[RQ_SYNTHETIC_MAX_CLASSES] = {
    {"checker", checker}, {"crescent", crescent}, {"cross", cross},   {"disc", disc},
    {"hexagon", hexagon}, {"ring", ring},         {"square", square}, {"star", star},
    {"stripes", stripes}, {"triangle", triangle},
};

const char *rq_synthetic_class_name(int class_index)
{
    return shapes[class_index].name;
}

typedef struct colour {
    float c[3];
} colour;

static float uniform(rq_random *random, float low, float high)
{
    return low + (high - low) * (float)rq_random_unit(random);
}

static colour random_colour(rq_random *random)
{
    colour out;
    for (int i = 0; i < 3; i++)
        out.c[i] = uniform(random, 0.1F, 0.9F);
    return out;
}

static void paint(float *pixel, const colour *with, float share)
{
    for (int i = 0; i < 3; i++)
        pixel[i] += (with->c[i] - pixel[i]) * share;
}

/* A colour at least `contrast` away from another one. */
static colour distinct_colour(rq_random *random, const colour *other, float contrast)
{
    for (;;) {
        const colour out = random_colour(random);
        float sum = 0.0F;
        for (int i = 0; i < 3; i++)
            sum += (out.c[i] - other->c[i]) * (out.c[i] - other->c[i]);
        if (sum >= contrast * contrast)
            return out;
    }
}

/* A shape in the picture, which spans [-1, 1] in both directions. */
typedef struct figure {
    shape_distance *distance;
    float v;
    float x, y, radius;
    float cosine, sine, stretch;
    colour fill;
} figure;

static figure random_figure(rq_random *random, shape_distance *distance, float radius,
                            float max_stretch)
{
    const float angle = uniform(random, 0.0F, 6.2831853F), reach = 1.0F - 0.9F * radius;
    return (figure){.distance = distance,
                    .v = uniform(random, 0.0F, 1.0F),
                    .x = uniform(random, -reach, reach),
                    .y = uniform(random, -reach, reach),
                    .radius = radius,
                    .cosine = cosf(angle),
                    .sine = sinf(angle),
                    .stretch = sqrtf(uniform(random, 1.0F, max_stretch))};
}

static void draw_figure(const figure *shape, int side, float *canvas)
{
    const float pixel = 2.0F / (float)side;
    const float reach = 1.3F * shape->radius * shape->stretch;
    for (int row = 0; row < side; row++) {
        const float dy = ((float)row + 0.5F) * pixel - 1.0F - shape->y;
        if (fabsf(dy) > reach)
            continue;
        for (int column = 0; column < side; column++) {
            const float dx = ((float)column + 0.5F) * pixel - 1.0F - shape->x;
            if (fabsf(dx) > reach)
                continue;
            const float u = (dx * shape->cosine + dy * shape->sine) / shape->stretch;
            const float w = (dy * shape->cosine - dx * shape->sine) * shape->stretch;
            const float distance =
                shape->distance(u / shape->radius, w / shape->radius, shape->v) * shape->radius;
            const float coverage = fminf(fmaxf(0.5F - distance / pixel, 0.0F), 1.0F);
            paint(canvas + 3 * ((ptrdiff_t)row * side + column), &shape->fill, coverage);
        }
    }
}

/* Two colours mixed by a smooth random field: values on a coarse grid, interpolated. */
static void draw_background(rq_random *random, const rq_synthetic_level *level, const colour *base,
                            int side, float *canvas)
{
    enum { GRID = 8 };
    float field[GRID + 1][GRID + 1];
    const colour other = random_colour(random);
    const float cells = uniform(random, 1.0F, GRID), depth = level->texture;
    for (int i = 0; i <= GRID; i++)
        for (int j = 0; j <= GRID; j++)
            field[i][j] = depth * uniform(random, 0.0F, 1.0F);
    for (int row = 0; row < side; row++) {
        const float y = ((float)row + 0.5F) / (float)side * cells;
        const int i = (int)y;
        for (int column = 0; column < side; column++) {
            const float x = ((float)column + 0.5F) / (float)side * cells;
            const int j = (int)x;
            const float s = x - (float)j, t = y - (float)i;
            const float upper = field[i][j] + (field[i][j + 1] - field[i][j]) * s;
            const float lower = field[i + 1][j] + (field[i + 1][j + 1] - field[i + 1][j]) * s;
            float *pixel = canvas + 3 * ((ptrdiff_t)row * side + column);
            memcpy(pixel, base->c, sizeof base->c);
            paint(pixel, &other, upper + (lower - upper) * t);
        }
    }
}

static float bar(float x, float y, float v)
{
    return fmaxf(fabsf(x) - 1.0F, fabsf(y) - 0.1F - 0.2F * v);
}

static float block(float x, float y, float v)
{
    (void)v;
    return fmaxf(fabsf(x), fabsf(y)) - 1.0F;
}

/* Sum of four uniform values: standard normal nearly. */
static float noise_value(rq_random *random)
{
    const uint64_t bits = rq_random_u64(random);
    const int sum = (int)(bits & 0xffff) + (int)(bits >> 16 & 0xffff) + (int)(bits >> 32 & 0xffff) +
                    (int)(bits >> 48);
    return ((float)sum - 131070.0F) * (1.7320508F / 65535.0F);
}

static void quantize(rq_random *random, const float *canvas, size_t n, float noise, uint8_t *levels)
{
    for (size_t i = 0; i < n; i++) {
        const float value = canvas[i] + noise * noise_value(random);
        levels[i] = (uint8_t)lrintf(255.0F * fminf(fmaxf(value, 0.0F), 1.0F));
    }
}

void rq_synthetic_draw(const rq_synthetic_level *level, int class_index, int side,
                       rq_random *random, float *canvas, uint8_t *pixels)
{
    static shape_distance *const things[] = {bar, disc, block};
    const colour base = random_colour(random);
    draw_background(random, level, &base, side, canvas);
    const int n_things = (int)rq_random_below(random, (uint64_t)level->max_clutter + 1);
    for (int i = 0; i < n_things; i++) {
        shape_distance *distance = things[rq_random_below(random, 3)];
        figure thing = random_figure(random, distance, uniform(random, 0.03F, 0.15F), 2.0F);
        thing.fill = random_colour(random);
        draw_figure(&thing, side, canvas);
    }
    const float radius = uniform(random, level->min_radius, level->max_radius);
    figure shape = random_figure(random, shapes[class_index].distance, radius, level->max_stretch);
    shape.fill = distinct_colour(random, &base, level->min_contrast);
    draw_figure(&shape, side, canvas);
    if (uniform(random, 0.0F, 1.0F) < level->occluded_share) {
        figure cover = random_figure(random, bar, 1.2F * radius, 1.0F);
        cover.x = shape.x + uniform(random, -0.6F, 0.6F) * radius;
        cover.y = shape.y + uniform(random, -0.6F, 0.6F) * radius;
        cover.fill = random_colour(random);
        draw_figure(&cover, side, canvas);
    }
    const bool is_heavy = uniform(random, 0.0F, 1.0F) < level->heavy_share;
    quantize(random, canvas, (size_t)side * (size_t)side * 3,
             is_heavy ? level->heavy_noise : level->noise, pixels);
}

/* What writing needs, once for all pictures. */
typedef struct studio {
    int side;
    uint64_t seed;
    float *canvas;
    uint8_t *pixels;
} studio;

/* Without the writer's sync to disk: that would take 30 times as long, and these files can be made
 * again. */
static rq_status write_file(const char *path, const uint8_t *data, size_t size_bytes, rq_error *err)
{
    FILE *file = fopen(path, "wb");
    if (!file)
        return rq_fail_errno(err, path, "create");
    const bool is_written = fwrite(data, 1, size_bytes, file) == size_bytes;
    const int write_error = errno;
    if (fclose(file) == 0 && is_written)
        return RQ_OK;
    errno = is_written ? errno : write_error;
    const rq_status status = rq_fail_errno(err, path, "write");
    (void)remove(path);
    return status;
}

static rq_status make_folder(const char *path, rq_error *err)
{
    return mkdir(path, 0777) == 0 || errno == EEXIST ? RQ_OK
                                                     : rq_fail_errno(err, path, "make the folder");
}

static rq_status write_picture(const studio *in, const char *path, uint64_t split, int class_index,
                               int i, rq_error *err)
{
    rq_random random = rq_random_stream(in->seed, split, (uint64_t)class_index << 32 | (uint64_t)i);
    uint8_t *jpeg = NULL;
    size_t size_bytes = 0;
    rq_synthetic_draw(&rq_synthetic_demo, class_index, in->side, &random, in->canvas, in->pixels);
    RQ_TRY(rq_jpeg_encode(in->pixels, in->side, in->side, QUALITY, &jpeg, &size_bytes, err));
    const rq_status status = write_file(path, jpeg, size_bytes, err);
    rq_free(jpeg);
    return status;
}

static rq_status write_class(const studio *in, const char *split_folder, uint64_t split,
                             int class_index, int n, rq_error *err)
{
    char path[PATH_MAX + 64];
    const char *name = shapes[class_index].name;
    (void)snprintf(path, sizeof path, "%s/%s", split_folder, name);
    RQ_TRY(make_folder(path, err));
    for (int i = 0; i < n; i++) {
        (void)snprintf(path, sizeof path, "%s/%s/%04d.jpg", split_folder, name, i);
        RQ_TRY(write_picture(in, path, split, class_index, i, err));
    }
    return RQ_OK;
}

static rq_status check_arguments(const char *dir, int classes, int train_per_class,
                                 int val_per_class, int side, rq_error *err)
{
    if (classes < 2 || classes > RQ_SYNTHETIC_MAX_CLASSES)
        return rq_fail(err, RQ_ERR_ARG, "%d generated classes; 2…%d are possible", classes,
                       RQ_SYNTHETIC_MAX_CLASSES);
    if (train_per_class < 1 || train_per_class > RQ_SYNTHETIC_MAX_PER_CLASS || val_per_class < 1 ||
        val_per_class > RQ_SYNTHETIC_MAX_PER_CLASS)
        return rq_fail(err, RQ_ERR_ARG, "%d and %d generated images per class; 1…%d are possible",
                       train_per_class, val_per_class, RQ_SYNTHETIC_MAX_PER_CLASS);
    if (side < MIN_SIDE || side > MAX_SIDE)
        return rq_fail(err, RQ_ERR_ARG, "generated images of %d pixels; %d…%d are possible", side,
                       MIN_SIDE, MAX_SIDE);
    if (strlen(dir) > PATH_MAX - 64)
        return rq_fail(err, RQ_ERR_ARG, "a folder name of %zu bytes", strlen(dir));
    return RQ_OK;
}

static rq_status write_split(const studio *in, const char *dir, uint64_t split, int classes, int n,
                             rq_error *err)
{
    static const char *const names[] = {"train", "val"};
    char folder[PATH_MAX];
    (void)snprintf(folder, sizeof folder, "%s/%s", dir, names[split]);
    RQ_TRY(make_folder(folder, err));
    for (int c = 0; c < classes; c++)
        RQ_TRY(write_class(in, folder, split, c, n, err));
    return RQ_OK;
}

rq_status rq_synthetic_write(const char *dir, int classes, int train_per_class, int val_per_class,
                             int side, uint64_t seed, rq_error *err)
{
    RQ_TRY(check_arguments(dir, classes, train_per_class, val_per_class, side, err));
    const size_t n = (size_t)side * (size_t)side * 3;
    const studio in = {side, seed, rq_alloc_array(float, n), rq_alloc_array(uint8_t, n)};
    rq_status status;
    if (!in.canvas || !in.pixels)
        status = rq_fail(err, RQ_ERR_NOMEM, "out of memory (image of %d x %d pixels)", side, side);
    else
        status = make_folder(dir, err);
    if (!status)
        status = write_split(&in, dir, 0, classes, train_per_class, err);
    if (!status)
        status = write_split(&in, dir, 1, classes, val_per_class, err);
    rq_free(in.canvas);
    rq_free(in.pixels);
    return status;
}
