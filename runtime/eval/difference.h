/* How far apart the logits of two models are: the check that merging and every other pass that must
 * not change a function are held to. */
#ifndef RQ_RUNTIME_EVAL_DIFFERENCE_H
#define RQ_RUNTIME_EVAL_DIFFERENCE_H

#include "runtime/image/loader.h"
#include "runtime/session/session.h"

typedef struct rq_difference {
    double max_abs_diff;  /* of any logit of any image */
    double max_abs_logit; /* of the first model */
    size_t n_images;
} rq_difference;

/* Largest difference relative to the largest logit; 0 when there is none. */
double rq_difference_relative(const rq_difference *difference);

/* Run both models on the same pixels u8 [n, size, size, 3]; images labelled RQ_LABEL_IGNORE do not
 * count (labels NULL: all do). Widens *difference, which the caller zeroes before the first call.
 * Errors: RQ_ERR_MODEL (other numbers of classes), RQ_ERR_RANGE (a
 * logit that is not finite), RQ_ERR_NOMEM, those of rq_session_run. */
RQ_NODISCARD rq_status rq_difference_add(rq_difference *difference, rq_session *a, rq_session *b,
                                         const uint8_t *pixels, const int32_t *labels, int n,
                                         rq_error *err);

/* Two models over n_images random images of size x size pixels: noise whose level and strength vary
 * from image to image and channel to channel. One runs after the other, so that the memory is that
 * of one session and of all logits. Errors: as above and those of rq_session_create. */
RQ_NODISCARD rq_status rq_difference_random(rq_difference *out, const rq_model *a,
                                            const rq_model *b, int size, int n_images,
                                            uint64_t seed, rq_error *err);

/* Two sessions, made for the loader's batches, over its first max_batches batches; skipped images
 * are left out. Errors: as above, those of the loader, RQ_ERR_IMAGE (none could be read). */
RQ_NODISCARD rq_status rq_difference_loader(rq_difference *out, rq_session *a, rq_session *b,
                                            rq_loader *loader, size_t max_batches, rq_error *err);

#endif
