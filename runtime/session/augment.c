/* From words to transforms. */
#include "runtime/session/augment.h"

#include "runtime/model/quant.h"

const char *const rq_augment_names[] = {"auto",   "crop", "weak", "raug15", "pad-crop",
                                        "cutout", "flip", "none", NULL};

enum { SMALL_IMAGE = 64 }; /* "auto" pads and crops up to this side */

/* Half as wide as the image: DeVries and Taylor's choice for CIFAR-10. */
static rq_cutout mean_cutout(const rq_preprocess *preprocess, int size)
{
    rq_cutout cutout = {.side = size / 2};
    for (int c = 0; c < 3; c++)
        cutout.fill[c] = rq_pixel_zero_point(preprocess->mean[c]);
    return cutout;
}

rq_transform rq_augment_transform(rq_augment augment, rq_transform evaluate,
                                  const rq_preprocess *preprocess)
{
    static const rq_transform_kind kinds[] = {
        [RQ_AUGMENT_CROP] = RQ_TRANSFORM_CROP,       [RQ_AUGMENT_WEAK] = RQ_TRANSFORM_CROP,
        [RQ_AUGMENT_RAUG15] = RQ_TRANSFORM_CROP,     [RQ_AUGMENT_PAD_CROP] = RQ_TRANSFORM_PAD_CROP,
        [RQ_AUGMENT_CUTOUT] = RQ_TRANSFORM_PAD_CROP, [RQ_AUGMENT_FLIP] = RQ_TRANSFORM_FLIP,
        [RQ_AUGMENT_NONE] = RQ_TRANSFORM_EVAL,
    };
    rq_transform transform = evaluate;
    if (augment == RQ_AUGMENT_AUTO)
        augment = evaluate.size <= SMALL_IMAGE ? RQ_AUGMENT_PAD_CROP : RQ_AUGMENT_CROP;
    transform.kind = kinds[augment];
    if (transform.kind == RQ_TRANSFORM_PAD_CROP) {
        transform.resize = transform.size;
        transform.padding = RQ_USUAL_PADDING;
    }
    transform.randaug = augment == RQ_AUGMENT_RAUG15;
    if (augment == RQ_AUGMENT_CUTOUT)
        transform.cutout = mean_cutout(preprocess, evaluate.size);
    return transform;
}
