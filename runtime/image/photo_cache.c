/* A table with one entry per photograph; each entry's pixels are an allocation of their own. */
#include "runtime/image/photo_cache.h"

#include <string.h>

#include "runtime/base/memory.h"

rq_status rq_photo_cache_init(rq_photo_cache *cache, size_t n, size_t budget_bytes, rq_error *err)
{
    *cache = (rq_photo_cache){0};
    const size_t share = n > 0 ? budget_bytes / n : 0;
    if (share <= sizeof(rq_photo))
        return RQ_OK;
    rq_photo *photos = rq_alloc_array(rq_photo, n);
    if (!photos)
        return rq_no_memory(err);
    *cache = (rq_photo_cache){.photos = photos, .most_bytes = share - sizeof(rq_photo), .n = n};
    return RQ_OK;
}

void rq_photo_cache_deinit(rq_photo_cache *cache)
{
    for (size_t i = 0; i < cache->n; i++)
        rq_image_deinit(&cache->photos[i].image);
    rq_free(cache->photos);
    *cache = (rq_photo_cache){0};
}

const rq_photo *rq_photo_cache_find(const rq_photo_cache *cache, size_t i)
{
    return i < cache->n && cache->photos[i].image.pixels ? &cache->photos[i] : NULL;
}

void rq_photo_cache_keep(rq_photo_cache *cache, size_t i, const rq_photo *photo)
{
    const size_t size_bytes = (size_t)photo->image.w * (size_t)photo->image.h * 3;
    if (i >= cache->n || size_bytes > cache->most_bytes)
        return;
    rq_photo *kept = &cache->photos[i];
    rq_error ignored = RQ_ERROR_INIT;
    if (rq_image_reserve(&kept->image, photo->image.w, photo->image.h, &ignored))
        return; /* it is read again next time */
    memcpy(kept->image.pixels, photo->image.pixels, size_bytes);
    kept->w = photo->w;
    kept->h = photo->h;
    kept->denominator = photo->denominator;
}
