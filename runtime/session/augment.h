/* How training changes its images, by the words of --augment. */
#ifndef RQ_RUNTIME_SESSION_AUGMENT_H
#define RQ_RUNTIME_SESSION_AUGMENT_H

#include "runtime/image/transform.h"
#include "runtime/model/model.h"

typedef enum rq_augment {
    RQ_AUGMENT_AUTO,   /* PAD_CROP up to 64 pixels, else CROP */
    RQ_AUGMENT_CROP,   /* random resized crop: the preset "weak" of RepVGG's script */
    RQ_AUGMENT_WEAK,   /* the same */
    RQ_AUGMENT_RAUG15, /* CROP and RandAugment (image/randaug.h) */
    RQ_AUGMENT_PAD_CROP,
    RQ_AUGMENT_CUTOUT, /* PAD_CROP, then a square of half the side in the mean colour */
    RQ_AUGMENT_FLIP,
    RQ_AUGMENT_NONE
} rq_augment;
extern const char *const rq_augment_names[]; /* by the above, NULL at the end */

/* The transform of training images: evaluate is that of images to evaluate, whose sizes it keeps
 * (but padded crops are taken of images resized to their own size, padded by RQ_USUAL_PADDING
 * black pixels). All but NONE flip. */
rq_transform rq_augment_transform(rq_augment augment, rq_transform evaluate,
                                  const rq_preprocess *preprocess);

#endif
