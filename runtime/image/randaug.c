/* The 16 operations: tables of levels, blends (enhance.c), moves (affine.c) and Cutout.
 * Arguments are computed from the magnitude in the recipes' own order of operations. */
#include "runtime/image/randaug.h"

#include <string.h>

#include "runtime/image/cutout.h"
#include "runtime/image/enhance.h"

typedef struct canvas {
    uint8_t *pixels; /* [h, w, 3] */
    int w, h;
    size_t n_pixels;
    uint8_t *scratch; /* as large and a byte more */
} canvas;

/* Of the nominal maximum. */
static double strength(const rq_randaug_step *step)
{
    return step->magnitude / 10.0;
}

static double signed_strength(const rq_randaug_step *step, double maximum)
{
    const double value = strength(step) * maximum;
    return step->negative ? -value : value;
}

/* ---- tables of levels ---- */

typedef struct levels {
    uint8_t of[3][256]; /* R, G, B */
} levels;

static void map_levels(const canvas *image, const levels *table)
{
    for (size_t i = 0; i < image->n_pixels; i++)
        for (size_t c = 0; c < 3; c++)
            image->pixels[3 * i + c] = table->of[c][image->pixels[3 * i + c]];
}

static void map_all_channels(const canvas *image, levels *table)
{
    memcpy(table->of[1], table->of[0], sizeof table->of[0]);
    memcpy(table->of[2], table->of[0], sizeof table->of[0]);
    map_levels(image, table);
}

typedef struct histogram {
    uint32_t of[3][256];
} histogram;

static histogram count_levels(const canvas *image)
{
    histogram counts = {0};
    for (size_t i = 0; i < image->n_pixels; i++)
        for (size_t c = 0; c < 3; c++)
            counts.of[c][image->pixels[3 * i + c]]++;
    return counts;
}

static uint8_t clipped(double value)
{
    return value <= 0.0 ? 0 : value >= 255.0 ? 255 : (uint8_t)value;
}

/* Each channel's darkest level becomes 0, its lightest 255. */
static void auto_contrast(const canvas *image, const rq_randaug_step *step)
{
    (void)step;
    const histogram counts = count_levels(image);
    levels table;
    for (int c = 0; c < 3; c++) {
        int low = 0, high = 255;
        while (low < 255 && counts.of[c][low] == 0)
            low++;
        while (high > 0 && counts.of[c][high] == 0)
            high--;
        const double scale = high > low ? 255.0 / (high - low) : 1.0;
        const double offset = high > low ? -low * scale : 0.0;
        for (int i = 0; i < 256; i++)
            table.of[c][i] = clipped(i * scale + offset);
    }
    map_levels(image, &table);
}

/* Each channel's histogram becomes flat, in steps of 1/255 of what is below the lightest level. */
static void equalize(const canvas *image, const rq_randaug_step *step)
{
    (void)step;
    const histogram counts = count_levels(image);
    levels table;
    for (int c = 0; c < 3; c++) {
        int high = 255;
        while (high > 0 && counts.of[c][high] == 0)
            high--;
        const size_t share = (image->n_pixels - counts.of[c][high]) / 255;
        size_t below = share / 2;
        for (int i = 0; i < 256; i++) {
            const size_t level = share ? below / share : (size_t)i;
            table.of[c][i] = (uint8_t)(level < 255 ? level : 255);
            below += counts.of[c][i];
        }
    }
    map_levels(image, &table);
}

static void invert(const canvas *image, const rq_randaug_step *step)
{
    (void)step;
    levels table;
    for (int i = 0; i < 256; i++)
        table.of[0][i] = (uint8_t)(255 - i);
    map_all_channels(image, &table);
}

static void posterize(const canvas *image, const rq_randaug_step *step)
{
    const int bits = (int)(strength(step) * 4.0);
    levels table;
    for (int i = 0; i < 256; i++)
        table.of[0][i] = (uint8_t)(i & ~((1 << (8 - bits)) - 1));
    map_all_channels(image, &table);
}

static void solarize(const canvas *image, const rq_randaug_step *step)
{
    const int threshold = (int)(strength(step) * 256.0);
    levels table;
    for (int i = 0; i < 256; i++)
        table.of[0][i] = (uint8_t)(i < threshold ? i : 255 - i);
    map_all_channels(image, &table);
}

static void solarize_add(const canvas *image, const rq_randaug_step *step)
{
    const int added = (int)(strength(step) * 110.0);
    levels table;
    for (int i = 0; i < 256; i++) {
        const int lighter = i + added < 255 ? i + added : 255;
        table.of[0][i] = (uint8_t)(i < 128 ? lighter : i);
    }
    map_all_channels(image, &table);
}

/* ---- blends (enhance.c) ---- */

static float blend_factor(const rq_randaug_step *step)
{
    return (float)(strength(step) * 1.8 + 0.1);
}

static void color(const canvas *image, const rq_randaug_step *step)
{
    rq_enhance_color(image->pixels, image->n_pixels, blend_factor(step));
}

static void contrast(const canvas *image, const rq_randaug_step *step)
{
    rq_enhance_contrast(image->pixels, image->n_pixels, blend_factor(step));
}

static void brightness(const canvas *image, const rq_randaug_step *step)
{
    rq_enhance_brightness(image->pixels, image->n_pixels, blend_factor(step));
}

static void sharpness(const canvas *image, const rq_randaug_step *step)
{
    rq_enhance_sharpness(image->pixels, image->w, image->h, blend_factor(step), image->scratch);
}

/* ---- moves ---- */

static void move(const canvas *image, const rq_randaug_step *step, const rq_affine *affine)
{
    static const uint8_t grey[3] = {128, 128, 128};
    memcpy(image->scratch, image->pixels, image->n_pixels * 3);
    rq_affine_apply(affine, step->interpolation, grey, image->scratch, image->w, image->h,
                    image->pixels);
}

static void rotate(const canvas *image, const rq_randaug_step *step)
{
    const rq_affine affine = rq_affine_rotation(signed_strength(step, 30.0), image->w, image->h);
    move(image, step, &affine);
}

static void shear_x(const canvas *image, const rq_randaug_step *step)
{
    move(image, step, &(rq_affine){.xx = 1.0, .xy = signed_strength(step, 0.3), .yy = 1.0});
}

static void shear_y(const canvas *image, const rq_randaug_step *step)
{
    move(image, step, &(rq_affine){.xx = 1.0, .yx = signed_strength(step, 0.3), .yy = 1.0});
}

static void translate_x(const canvas *image, const rq_randaug_step *step)
{
    const double pixels = signed_strength(step, 0.45) * image->w;
    move(image, step, &(rq_affine){.xx = 1.0, .x0 = pixels, .yy = 1.0});
}

static void translate_y(const canvas *image, const rq_randaug_step *step)
{
    const double pixels = signed_strength(step, 0.45) * image->h;
    move(image, step, &(rq_affine){.xx = 1.0, .yy = 1.0, .y0 = pixels});
}

static void cutout(const canvas *image, const rq_randaug_step *step)
{
    const rq_cutout square = {.side = step->magnitude > 0 ? 4 * step->magnitude : 2,
                              .fill = {125, 122, 113}};
    rq_cutout_apply(&square, image->pixels, image->w, image->h, step->x, step->y);
}

/* ---- the table ---- */

static const struct {
    const char *name;
    void (*apply)(const canvas *image, const rq_randaug_step *step);
} ops[RQ_RANDAUG_N_OPS] = {
#define X(op, function, name) [RQ_RANDAUG_##op] = {name, function},
    RQ_RANDAUG_OPS(X)
#undef X
};

const char *rq_randaug_name(rq_randaug_op op)
{
    return ops[op].name;
}

rq_randaug_step rq_randaug_draw(rq_random *random, int w, int h)
{
    rq_randaug_step step;
    step.op = (rq_randaug_op)rq_random_below(random, RQ_RANDAUG_N_OPS);
    step.magnitude = (int)rq_random_below(random, RQ_RANDAUG_MAGNITUDES);
    step.negative = rq_random_below(random, 2);
    step.interpolation = rq_random_below(random, 2) ? RQ_BICUBIC : RQ_BILINEAR;
    step.x = (int)rq_random_below(random, (uint64_t)w);
    step.y = (int)rq_random_below(random, (uint64_t)h);
    return step;
}

size_t rq_randaug_scratch_bytes(int w, int h)
{
    return (size_t)w * (size_t)h * 3 + 1;
}

void rq_randaug_apply(const rq_randaug_step *step, uint8_t *pixels, int w, int h, uint8_t *scratch)
{
    const canvas image = {pixels, w, h, (size_t)w * (size_t)h, scratch};
    ops[step->op].apply(&image, step);
}

void rq_randaug(rq_random *random, uint8_t *pixels, int w, int h, uint8_t *scratch)
{
    for (int i = 0; i < RQ_RANDAUG_STEPS; i++) {
        const rq_randaug_step step = rq_randaug_draw(random, w, h);
        rq_randaug_apply(&step, pixels, w, h, scratch);
    }
}
