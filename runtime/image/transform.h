/* From a decoded photograph to the pixels of one sample, u8 [size, size, 3] RGB. Random choices
 * come from the stream given, so a sample depends on (seed, epoch, index) only. */
#ifndef RQ_RUNTIME_IMAGE_TRANSFORM_H
#define RQ_RUNTIME_IMAGE_TRANSFORM_H

#include <stdbool.h>

#include "runtime/base/random.h"
#include "runtime/image/cutout.h"
#include "runtime/image/jpeg.h"
#include "runtime/image/resize.h"

typedef enum rq_transform_kind {
    /* torchvision's Resize(resize) and CenterCrop(size) on PIL images: the short side becomes
     * resize, the long side int(resize * long / short); crop offset int(round((side - size) / 2)),
     * half to even; an image smaller than the crop is padded with zeros as torchvision does */
    RQ_TRANSFORM_EVAL,
    /* RandomResizedCrop(size): area 0.08…1, ratio 3/4…4/3 (log-uniform), 10 tries, then the central
     * crop; then a horizontal flip with probability 1/2 */
    RQ_TRANSFORM_CROP,
    /* for small images: short side resized to resize when it differs and centre-cropped square,
     * padded on all sides, random crop, flip */
    RQ_TRANSFORM_PAD_CROP,
    /* as EVAL, then the flip */
    RQ_TRANSFORM_FLIP,
} rq_transform_kind;

/* What PAD_CROP pads with, as torchvision's RandomCrop names it: black, or the image mirrored about
 * its outermost pixels, which needs a size above twice the padding. */
typedef enum rq_padding_mode { RQ_PADDING_CONSTANT, RQ_PADDING_REFLECT } rq_padding_mode;
enum { RQ_MAX_PADDING = 1024, RQ_USUAL_PADDING = 4 };
extern const char *const rq_padding_mode_names[]; /* by the above, NULL at the end */

/* Whether the kinds that flip do so for a given sample: with probability 1/2, or as told, which
 * changes none of the other random choices. */
typedef enum rq_flip { RQ_FLIP_BY_CHANCE, RQ_FLIP_ALWAYS, RQ_FLIP_NEVER } rq_flip;

/* A kind, then what else is done to the result. The presets of the published recipes are: weak =
 * CROP, raug15 = CROP with randaug, none = EVAL with resize = size. */
typedef struct rq_transform {
    rq_transform_kind kind;
    int resize;  /* all but CROP: short side before the crop, 1…RQ_MAX_IMAGE_SIDE; of PAD_CROP at
                    least size */
    int size;    /* side of the result, 1…RQ_MAX_IMAGE_SIDE */
    int padding; /* PAD_CROP: pixels on each side, 0…RQ_MAX_PADDING */
    rq_padding_mode padding_mode; /* PAD_CROP */
    rq_flip flip;                 /* not EVAL, which never does */
    /* After the flip: colours, RandAugment, cutout. Not for EVAL, which leaves nothing to chance. */
    rq_cutout cutout;    /* centred at any pixel */
    bool randaug;        /* RandAugment (randaug.h) */
    double color_jitter; /* strength in color_jitter.h, 0…1; 0: none */
} rq_transform;

/* Does the sample depend on all of the photograph, whatever the random choices? */
bool rq_transform_is_whole(const rq_transform *transform);

/* Errors: RQ_ERR_ARG (sides outside their ranges, unknown kind, random steps after EVAL, mirrored
 * borders of other kinds than PAD_CROP or of images too small). */
RQ_NODISCARD rq_status rq_transform_check(const rq_transform *transform, rq_error *err);

/* A decoded photograph. */
typedef struct rq_photo {
    rq_image image;
    int w, h;        /* before the decoder shrank it */
    int denominator; /* 1, 2, 4 or 8: by how much it did */
} rq_photo;

/* Everything that turning a file into a sample needs; one per thread. Zero-initialise. */
typedef struct rq_sampler {
    rq_jpeg_decoder *decoder; /* made at first use */
    rq_photo photo;           /* the last one decoded */
    rq_resizer resizer;
    uint8_t *file; /* the file's bytes */
    size_t file_capacity_bytes;
    uint8_t *scratch; /* RandAugment's */
    size_t scratch_capacity_bytes;
} rq_sampler;
void rq_sampler_deinit(rq_sampler *sampler);

/* Transform the JPEG in data into dst [size, size, 3]; random may be NULL for EVAL.
 * CROP and PAD_CROP decode at 1/2, 1/4 or 1/8 (the DCT's own downscaling, cheaper) while what they
 * keep of the image still has at least size pixels in both directions there. EVAL and FLIP never
 * do: it would break the contract of at most one level from PIL. Errors: RQ_ERR_IMAGE, RQ_ERR_ARG,
 * RQ_ERR_NOMEM. */
RQ_NODISCARD rq_status rq_sample_memory(rq_sampler *sampler, const uint8_t *data, size_t size_bytes,
                                        const rq_transform *transform, rq_random *random,
                                        uint8_t *dst, rq_error *err);

/* The same for a file. Errors: also RQ_ERR_IO; the message starts with the path. */
RQ_NODISCARD rq_status rq_sample_file(rq_sampler *sampler, const char *path,
                                      const rq_transform *transform, rq_random *random,
                                      uint8_t *dst, rq_error *err);

/* The same for what an earlier call with the same transform, which must be a whole one, left in
 * sampler->photo, or a copy of it: the sample that the file itself would give. Errors: RQ_ERR_ARG,
 * RQ_ERR_NOMEM. */
RQ_NODISCARD rq_status rq_sample_photo(rq_sampler *sampler, const rq_photo *photo,
                                       const rq_transform *transform, rq_random *random,
                                       uint8_t *dst, rq_error *err);

/* Pixels [x, x + w) x [y, y + h) of an image. */
typedef struct rq_crop {
    int x, y, w, h;
} rq_crop;

/* What RandomResizedCrop picks of a w x h image: at most 10 draws of area and ratio, then x and y.
 * Source: torchvision 0.14, RandomResizedCrop.get_params. */
rq_crop rq_random_resized_crop(rq_random *random, int w, int h);

#endif
