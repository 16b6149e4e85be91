/* Decoded photographs kept in memory, so that a set of small images is decoded once and not in
 * every epoch.
 *
 * Each photograph has the same share of the budget and is kept if it fits its share: what is kept
 * depends on the files alone, never on the order in which they come, and nothing is ever dropped
 * for something else. A set of large photographs thus keeps nothing instead of an arbitrary part. */
#ifndef RQ_RUNTIME_IMAGE_PHOTO_CACHE_H
#define RQ_RUNTIME_IMAGE_PHOTO_CACHE_H

#include "runtime/image/transform.h"

/* Threads may use different photographs at once; the same one only one after the other. */
typedef struct rq_photo_cache {
    rq_photo *photos;  /* [n]; those without pixels are not kept. NULL: the shares are too small */
    size_t most_bytes; /* of pixels of a photograph */
    size_t n;
} rq_photo_cache;

/* For n photographs; budget_bytes is the most that the pixels and the table of photographs take
 * together. Errors: RQ_ERR_NOMEM. */
RQ_NODISCARD rq_status rq_photo_cache_init(rq_photo_cache *cache, size_t n, size_t budget_bytes,
                                           rq_error *err);
void rq_photo_cache_deinit(rq_photo_cache *cache); /* a zeroed struct is fine */

/* The photograph, until rq_photo_cache_deinit; NULL when it is not kept. */
const rq_photo *rq_photo_cache_find(const rq_photo_cache *cache, size_t i);

/* Keep a copy, if it fits and there is memory. */
void rq_photo_cache_keep(rq_photo_cache *cache, size_t i, const rq_photo *photo);

#endif
