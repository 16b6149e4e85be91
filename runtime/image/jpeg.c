/* JPEG decoding and encoding through libjpeg-turbo's TurboJPEG API, version 2.1.
 *
 * Each image gets a fresh library handle (0.2 microseconds): a used one keeps the Huffman and
 * quantization tables of the image before, and a damaged file without tables would then decode
 * differently from thread to thread. */
#include "runtime/image/jpeg.h"

#include <stdbool.h>
#include <string.h>
#include <turbojpeg.h>

#include "runtime/base/memory.h"
#include "runtime/base/size.h"

struct rq_jpeg_decoder {
    tjhandle handle;
    uint8_t *cmyk; /* [h, w, 4], grows */
    size_t cmyk_capacity_bytes;
};

typedef struct jpeg_header {
    int w, h;
    bool is_cmyk;
} jpeg_header;

void rq_image_deinit(rq_image *image)
{
    rq_free(image->pixels);
    *image = (rq_image){0};
}

rq_status rq_image_reserve(rq_image *image, int w, int h, rq_error *err)
{
    size_t size_bytes;
    image->w = image->h = 0;
    if (w < 1 || h < 1)
        return rq_fail(err, RQ_ERR_ARG, "an image of %d x %d pixels", w, h);
    if (!rq_mul_size((size_t)w * 3, (size_t)h, &size_bytes) ||
        !rq_grow(&image->pixels, &image->capacity_bytes, size_bytes))
        return rq_fail(err, RQ_ERR_NOMEM, "out of memory (image of %d x %d pixels)", w, h);
    image->w = w;
    image->h = h;
    return RQ_OK;
}

rq_status rq_jpeg_decoder_create(rq_jpeg_decoder **out, rq_error *err)
{
    *out = rq_alloc(sizeof **out);
    return *out ? RQ_OK : rq_fail(err, RQ_ERR_NOMEM, "out of memory (JPEG decoder)");
}

void rq_jpeg_decoder_destroy(rq_jpeg_decoder *decoder)
{
    if (!decoder)
        return;
    if (decoder->handle)
        (void)tjDestroy(decoder->handle);
    rq_free(decoder->cmyk);
    rq_free(decoder);
}

static rq_status renew_handle(rq_jpeg_decoder *decoder, rq_error *err)
{
    if (decoder->handle)
        (void)tjDestroy(decoder->handle);
    decoder->handle = tjInitDecompress();
    return decoder->handle ? RQ_OK : rq_fail(err, RQ_ERR_NOMEM, "out of memory (JPEG decoder)");
}

/* What else people name .JPEG, by the bytes at an offset. */
static const struct {
    size_t offset, n;
    const char *bytes;
    const char *name;
} signatures[] = {
    {0, 8, "\x89PNG\r\n\x1a\n", "a PNG image"},
    {0, 4, "GIF8", "a GIF image"},
    {8, 4, "WEBP", "a WebP image"},
    {0, 4, "II*\0", "a TIFF image"},
    {0, 4, "MM\0*", "a TIFF image"},
    {4, 8, "ftypheic", "a HEIC image"},
    {4, 8, "ftypavif", "an AVIF image"},
    {0, 12, "\0\0\0\x0cjP  \r\n\x87\n", "a JPEG 2000 image"},
    {0, 2, "\xff\x0a", "a JPEG XL image"},
    {0, 12, "\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL image"},
    {0, 2, "BM", "a BMP image"},
    {0, 2, "P6", "a PPM image"},
    {0, 5, "%PDF-", "a PDF document"},
    {0, 4, "PK\3\4", "a ZIP archive"},
    {0, 2, "\x1f\x8b", "gzip data"},
    {0, 9, "<!DOCTYPE", "a web page"},
    {0, 5, "<html", "a web page"},
    {0, 4, "\0\0\0\0", "zeros at its start"},
};

static rq_status check_signature(const uint8_t *data, size_t size_bytes, rq_error *err)
{
    if (size_bytes == 0)
        return rq_fail(err, RQ_ERR_IMAGE, "not a JPEG: an empty file");
    if (size_bytes >= 3 && memcmp(data, "\xff\xd8\xff", 3) == 0)
        return RQ_OK;
    for (size_t i = 0; i < sizeof signatures / sizeof *signatures; i++)
        if (size_bytes >= signatures[i].offset + signatures[i].n &&
            memcmp(data + signatures[i].offset, signatures[i].bytes, signatures[i].n) == 0)
            return rq_fail(err, RQ_ERR_IMAGE, "not a JPEG: looks like %s", signatures[i].name);
    return rq_fail(err, RQ_ERR_IMAGE, "not a JPEG: %zu bytes that do not begin with FF D8 FF",
                   size_bytes);
}

static rq_status check_limits(int w, int h, size_t size_bytes, rq_error *err)
{
    const uint64_t n_pixels = (uint64_t)w * (uint64_t)h;
    if (w > RQ_MAX_IMAGE_SIDE || h > RQ_MAX_IMAGE_SIDE)
        return rq_fail(err, RQ_ERR_IMAGE, "%d x %d pixels; sides may have up to %d", w, h,
                       RQ_MAX_IMAGE_SIDE);
    if (n_pixels > RQ_MAX_IMAGE_PIXELS)
        return rq_fail(err, RQ_ERR_IMAGE, "%d x %d pixels; images may have up to %llu", w, h,
                       RQ_MAX_IMAGE_PIXELS);
    if (n_pixels / RQ_MAX_PIXELS_PER_BYTE > size_bytes)
        return rq_fail(err, RQ_ERR_IMAGE, "damaged JPEG: %d x %d pixels in %zu bytes cannot be", w,
                       h, size_bytes);
    return RQ_OK;
}

/* Leaves the decoder with a fresh handle. */
static rq_status read_header(rq_jpeg_decoder *decoder, const uint8_t *data, size_t size_bytes,
                             jpeg_header *out, rq_error *err)
{
    RQ_TRY(check_signature(data, size_bytes, err));
    RQ_TRY(renew_handle(decoder, err));
    int w = 0, h = 0, sampling = 0, colorspace = -1;
    const int rc =
        tjDecompressHeader3(decoder->handle, data, size_bytes, &w, &h, &sampling, &colorspace);
    /* The call also fails for chroma sampling that TurboJPEG has no name for, but decodes. */
    const bool is_known = w > 0 && h > 0 && colorspace >= 0;
    if (!is_known)
        return rq_fail(err, RQ_ERR_IMAGE, "damaged JPEG: %s",
                       rc ? tjGetErrorStr2(decoder->handle) : "no image in it");
    *out = (jpeg_header){w, h, colorspace == TJCS_CMYK || colorspace == TJCS_YCCK};
    return check_limits(w, h, size_bytes, err);
}

rq_status rq_jpeg_size(rq_jpeg_decoder *decoder, const uint8_t *data, size_t size_bytes, int *w,
                       int *h, rq_error *err)
{
    jpeg_header header = {0};
    RQ_TRY(read_header(decoder, data, size_bytes, &header, err));
    *w = header.w;
    *h = header.h;
    return RQ_OK;
}

/* PIL's rule for inverted CMYK, with its way of dividing by 255. */
static void cmyk_to_rgb(const uint8_t *cmyk, size_t n_pixels, uint8_t *rgb)
{
    for (size_t i = 0; i < n_pixels; i++) {
        const unsigned k = cmyk[4 * i + 3];
        for (size_t c = 0; c < 3; c++) {
            const unsigned product = (255u - cmyk[4 * i + c]) * k + 128;
            rgb[3 * i + c] = (uint8_t)(k - ((product + (product >> 8)) >> 8));
        }
    }
}

static rq_status decompress(rq_jpeg_decoder *decoder, const uint8_t *data, size_t size_bytes,
                            uint8_t *pixels, int w, int h, int format, rq_error *err)
{
    const int flags = TJFLAG_ACCURATEDCT | TJFLAG_STOPONWARNING | TJFLAG_LIMITSCANS;
    if (tjDecompress2(decoder->handle, data, size_bytes, pixels, w, 0, h, format, flags) != 0)
        return rq_fail(err, RQ_ERR_IMAGE, "damaged JPEG: %s", tjGetErrorStr2(decoder->handle));
    return RQ_OK;
}

rq_status rq_jpeg_decode(rq_jpeg_decoder *decoder, const uint8_t *data, size_t size_bytes,
                         int scale_denominator, rq_image *out, rq_error *err)
{
    const int denominator = scale_denominator;
    if (denominator != 1 && denominator != 2 && denominator != 4 && denominator != 8)
        return rq_fail(err, RQ_ERR_ARG, "a scale of 1/%d; 1/1, 1/2, 1/4 and 1/8 exist",
                       denominator);
    jpeg_header header = {0};
    RQ_TRY(read_header(decoder, data, size_bytes, &header, err));
    const int w = (header.w + denominator - 1) / denominator;
    const int h = (header.h + denominator - 1) / denominator;
    RQ_TRY(rq_image_reserve(out, w, h, err));
    if (!header.is_cmyk)
        return decompress(decoder, data, size_bytes, out->pixels, w, h, TJPF_RGB, err);
    const size_t n_pixels = (size_t)w * (size_t)h;
    if (!rq_grow(&decoder->cmyk, &decoder->cmyk_capacity_bytes, n_pixels * 4))
        return rq_fail(err, RQ_ERR_NOMEM, "out of memory (CMYK image of %d x %d pixels)", w, h);
    RQ_TRY(decompress(decoder, data, size_bytes, decoder->cmyk, w, h, TJPF_CMYK, err));
    cmyk_to_rgb(decoder->cmyk, n_pixels, out->pixels);
    return RQ_OK;
}

rq_status rq_jpeg_encode(const uint8_t *pixels, int w, int h, int quality, uint8_t **out,
                         size_t *out_size_bytes, rq_error *err)
{
    rq_status status = RQ_OK;
    tjhandle handle = NULL;
    uint8_t *jpeg = NULL;
    if (w < 1 || h < 1 || w > RQ_MAX_IMAGE_SIDE || h > RQ_MAX_IMAGE_SIDE || quality < 1 ||
        quality > 100)
        return rq_fail(err, RQ_ERR_ARG,
                       "cannot encode %d x %d pixels at quality %d (sides 1…%d, quality 1…100)", w,
                       h, quality, RQ_MAX_IMAGE_SIDE);
    unsigned long size_bytes = tjBufSize(w, h, TJSAMP_444);
    handle = tjInitCompress();
    jpeg = rq_alloc(size_bytes);
    if (!handle || !jpeg) {
        status = rq_fail(err, RQ_ERR_NOMEM, "out of memory (encoding %d x %d pixels)", w, h);
        goto out;
    }
    if (tjCompress2(handle, pixels, w, 0, h, TJPF_RGB, &jpeg, &size_bytes, TJSAMP_444, quality,
                    TJFLAG_ACCURATEDCT | TJFLAG_NOREALLOC) != 0) {
        status = rq_fail(err, RQ_ERR_ARG, "cannot encode %d x %d pixels: %s", w, h,
                         tjGetErrorStr2(handle));
        goto out;
    }
    *out = jpeg;
    *out_size_bytes = size_bytes;
    jpeg = NULL;
out:
    if (handle)
        (void)tjDestroy(handle);
    rq_free(jpeg);
    return status;
}
