/* From options to transforms. */
#include "runtime/eval/augment.h"

#include "runtime/model/quant.h"

const char *const rq_augment_names[] = {"auto",   "crop", "weak", "raug15", "pad-crop",
                                        "cutout", "flip", "none", NULL};

enum { SMALL_IMAGE = 64 }; /* "auto" pads and crops up to this side */

static rq_cutout mean_cutout(const rq_preprocess *preprocess, int side)
{
    rq_cutout cutout = {.side = side};
    for (int c = 0; c < 3; c++)
        cutout.fill[c] = rq_pixel_zero_point(preprocess->mean[c]);
    return cutout;
}

/* Options that the kind has no use for. */
static rq_status check(const rq_augment_options *options, const rq_transform *transform,
                       rq_error *err)
{
    const char *name = rq_augment_names[options->kind];
    const bool has_border =
        options->padding != RQ_USUAL_PADDING || options->padding_mode != RQ_PADDING_CONSTANT;
    if (options->resize && transform->kind == RQ_TRANSFORM_CROP)
        return rq_fail(err, RQ_ERR_USAGE,
                       "--resize: --augment %s crops images of %d pixels before it resizes", name,
                       transform->size);
    if (has_border && transform->kind != RQ_TRANSFORM_PAD_CROP)
        return rq_fail(
            err, RQ_ERR_USAGE,
            "--padding, --padding-mode: --augment %s gives images of %d pixels no border", name,
            transform->size);
    if (options->cutout_side && options->kind != RQ_AUGMENT_CUTOUT)
        return rq_fail(err, RQ_ERR_USAGE, "--cutout-side: --augment %s cuts nothing out", name);
    if (options->color_jitter > 0.0 && transform->kind == RQ_TRANSFORM_EVAL)
        return rq_fail(err, RQ_ERR_USAGE,
                       "--color-jitter changes images, --augment %s leaves them as they are", name);
    return RQ_OK;
}

rq_status rq_augment_transform(rq_transform *out, const rq_augment_options *options,
                               rq_transform evaluate, const rq_preprocess *preprocess,
                               rq_error *err)
{
    static const rq_transform_kind kinds[] = {
        [RQ_AUGMENT_CROP] = RQ_TRANSFORM_CROP,       [RQ_AUGMENT_WEAK] = RQ_TRANSFORM_CROP,
        [RQ_AUGMENT_RAUG15] = RQ_TRANSFORM_CROP,     [RQ_AUGMENT_PAD_CROP] = RQ_TRANSFORM_PAD_CROP,
        [RQ_AUGMENT_CUTOUT] = RQ_TRANSFORM_PAD_CROP, [RQ_AUGMENT_FLIP] = RQ_TRANSFORM_FLIP,
        [RQ_AUGMENT_NONE] = RQ_TRANSFORM_EVAL,
    };
    rq_augment kind = (rq_augment)options->kind;
    if (kind == RQ_AUGMENT_AUTO)
        kind = evaluate.size <= SMALL_IMAGE ? RQ_AUGMENT_PAD_CROP : RQ_AUGMENT_CROP;
    *out = evaluate;
    out->kind = kinds[kind];
    if (out->kind == RQ_TRANSFORM_PAD_CROP)
        out->resize = out->size;
    if (options->resize)
        out->resize = (int)options->resize;
    out->padding = (int)options->padding;
    out->padding_mode = (rq_padding_mode)options->padding_mode;
    out->color_jitter = options->color_jitter;
    out->randaug = kind == RQ_AUGMENT_RAUG15;
    if (kind == RQ_AUGMENT_CUTOUT)
        out->cutout = mean_cutout(preprocess, options->cutout_side ? (int)options->cutout_side
                                                                   : evaluate.size / 2);
    return check(options, out, err);
}
