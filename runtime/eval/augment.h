/* How training changes its images, by the words of --augment. */
#ifndef RQ_RUNTIME_EVAL_AUGMENT_H
#define RQ_RUNTIME_EVAL_AUGMENT_H

#include "runtime/base/options.h"
#include "runtime/image/transform.h"
#include "runtime/model/model.h"

typedef enum rq_augment {
    RQ_AUGMENT_AUTO,   /* PAD_CROP up to 64 pixels, else CROP */
    RQ_AUGMENT_CROP,   /* random resized crop: the preset "weak" of RepVGG's script */
    RQ_AUGMENT_WEAK,   /* the same */
    RQ_AUGMENT_RAUG15, /* CROP and RandAugment (image/randaug.h) */
    RQ_AUGMENT_PAD_CROP,
    RQ_AUGMENT_CUTOUT, /* PAD_CROP, then a square in the mean colour */
    RQ_AUGMENT_FLIP,
    RQ_AUGMENT_NONE
} rq_augment;
extern const char *const rq_augment_names[]; /* by the above, NULL at the end */

/* What is done to training images, wherever they are shown: in training and to insert_bn. Begins as
 * RQ_AUGMENT_OPTIONS_INIT. */
typedef struct rq_augment_options {
    int kind;            /* rq_augment */
    int64_t resize;      /* short side before the crop, not with CROP; 0: with PAD_CROP and CUTOUT
                          * the crop's, with FLIP and NONE as in evaluation */
    int64_t padding;     /* with PAD_CROP and CUTOUT, else RQ_USUAL_PADDING */
    int padding_mode;    /* rq_padding_mode; with PAD_CROP and CUTOUT, else RQ_PADDING_CONSTANT */
    int64_t cutout_side; /* pixels, with CUTOUT; 0: half the image's side, DeVries and Taylor's
                          * choice for CIFAR-10 */
    double color_jitter; /* strength in image/color_jitter.h, not with NONE; 0: none */
} rq_augment_options;

#define RQ_AUGMENT_OPTIONS_INIT                                                                    \
    {                                                                                              \
        .padding = RQ_USUAL_PADDING                                                                \
    }

/* NOLINTBEGIN(bugprone-macro-parentheses): field names a member */

/* Rows of an option table; type has a member field of type rq_augment_options. */
#define RQ_AUGMENT_OPTIONS(type, field)                                                            \
    RQ_OPTION_CHOICE("augment", 0, type, field.kind, rq_augment_names,                             \
                     "of training images; auto: pad-crop up to 64 pixels, else crop (random "      \
                     "resized crop, also called weak); raug15: crop and RandAugment; cutout: "     \
                     "pad-crop and a square in the mean colour; all but none flip"),               \
        RQ_OPTION_INT("resize", 0, type, field.resize, "N", 0, RQ_MAX_SIDE,                        \
                      "short side of training images before the crop; 0: with pad-crop and "       \
                      "cutout --resolution, with flip and none as in validation"),                 \
        RQ_OPTION_INT("padding", 0, type, field.padding, "N", 0, RQ_MAX_PADDING,                   \
                      "pixels by which pad-crop and cutout pad each side"),                        \
        RQ_OPTION_CHOICE("padding-mode", 0, type, field.padding_mode, rq_padding_mode_names,       \
                         "what with: black, or the image mirrored about its edge"),                \
        RQ_OPTION_INT("cutout-side", 0, type, field.cutout_side, "N", 0, RQ_MAX_SIDE,              \
                      "side of cutout's square; 0: half of --resolution"),                         \
        RQ_OPTION_FLOAT("color-jitter", 0, type, field.color_jitter, "X", 0.0, 1.0,                \
                        "brightness, contrast and saturation of training images by factors "       \
                        "between 1 - X and 1 + X; 0: as they are")

/* NOLINTEND(bugprone-macro-parentheses) */

/* The transform of training images: evaluate is that of images to evaluate, whose sizes it keeps
 * where the options name no others (but padded crops are taken of images resized to their own
 * size). All but NONE flip. Errors: RQ_ERR_USAGE (options that the kind has no use for). */
RQ_NODISCARD rq_status rq_augment_transform(rq_transform *out, const rq_augment_options *options,
                                            rq_transform evaluate, const rq_preprocess *preprocess,
                                            rq_error *err);

#endif
