/* Element types: one table, and one loop per type. */
#include "runtime/torch/element.h"

#include <assert.h>
#include <string.h>

#include "runtime/base/bf16.h"

static const struct {
    const char *name, *storage, *safetensors;
    size_t size_bytes;
    rq_element_kind kind;
} table[RQ_N_ELEMENTS] = {
#define X(code, name_, storage_, safetensors_, size, kind_)                                        \
    [RQ_ELEMENT_##code] = {(name_), (storage_), (safetensors_), (size), RQ_ELEMENT_##kind_},
    RQ_ELEMENT_LIST(X)
#undef X
};

const char *rq_element_name(rq_element element)
{
    assert(element < RQ_N_ELEMENTS);
    return table[element].name;
}

size_t rq_element_size(rq_element element)
{
    return table[element].size_bytes;
}

rq_element_kind rq_element_kind_of(rq_element element)
{
    return table[element].kind;
}

bool rq_element_of_storage(const char *storage, size_t n, rq_element *out)
{
    for (int i = 0; i < RQ_N_ELEMENTS; i++) {
        const char *name = table[i].storage;
        if (name && strlen(name) == n && memcmp(name, storage, n) == 0) {
            *out = (rq_element)i;
            return true;
        }
    }
    return false;
}

bool rq_element_of_safetensors(const char *name, rq_element *out)
{
    for (int i = 0; i < RQ_N_ELEMENTS; i++)
        if (table[i].safetensors && strcmp(table[i].safetensors, name) == 0) {
            *out = (rq_element)i;
            return true;
        }
    return false;
}

/* ---- values ---- */

static float from_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* IEEE 754 binary16: 1 sign, 5 exponent (bias 15) and 10 fraction bits; exact in f32. */
static float from_half(uint16_t bits)
{
    const uint32_t sign = (uint32_t)(bits & 0x8000) << 16;
    const uint32_t exponent = bits >> 10 & 31, fraction = bits & 0x3ff;
    if (exponent == 31)
        return from_bits(sign | 0x7f800000u | fraction << 13);
    if (exponent > 0)
        return from_bits(sign | (exponent + 127 - 15) << 23 | fraction << 13);
    const float tiny = (float)fraction * 0x1p-24f; /* subnormal and zero */
    return sign ? -tiny : tiny;
}

/* A loop over elements of type, each loaded into x. */
#define CONVERT(type, expression)                                                                  \
    for (size_t i = 0; i < n; i++) {                                                               \
        type x;                                                                                    \
        memcpy(&x, src + i * (size_t)step * sizeof x, sizeof x);                                   \
        dst[i] = (expression);                                                                     \
    }                                                                                              \
    break

void rq_element_to_f32(float *dst, rq_element element, const unsigned char *src, int64_t step,
                       size_t n)
{
    switch (element) {
    case RQ_ELEMENT_F32:
        if (step == 1) {
            memcpy(dst, src, n * sizeof *dst);
            break;
        }
        CONVERT(float, x);
    case RQ_ELEMENT_F16:
        CONVERT(uint16_t, from_half(x));
    case RQ_ELEMENT_BF16:
        CONVERT(uint16_t, rq_from_bf16(x));
    case RQ_ELEMENT_F64:
        CONVERT(double, (float)x);
    case RQ_ELEMENT_BOOL:
        CONVERT(uint8_t, x ? 1.0f : 0.0f);
    case RQ_ELEMENT_U8:
        CONVERT(uint8_t, (float)x);
    case RQ_ELEMENT_S8:
        CONVERT(int8_t, (float)x);
    case RQ_ELEMENT_S16:
        CONVERT(int16_t, (float)x);
    case RQ_ELEMENT_S32:
        CONVERT(int32_t, (float)x);
    case RQ_ELEMENT_S64:
        CONVERT(int64_t, (float)x);
    default:
        assert(!"an element type without values");
    }
}

void rq_element_to_s64(int64_t *dst, rq_element element, const unsigned char *src, int64_t step,
                       size_t n)
{
    switch (element) {
    case RQ_ELEMENT_BOOL:
        CONVERT(uint8_t, x ? 1 : 0);
    case RQ_ELEMENT_U8:
        CONVERT(uint8_t, x);
    case RQ_ELEMENT_S8:
        CONVERT(int8_t, (int64_t)x); /* NOLINT(bugprone-signed-char-misuse): a number */
    case RQ_ELEMENT_S16:
        CONVERT(int16_t, x);
    case RQ_ELEMENT_S32:
        CONVERT(int32_t, x);
    case RQ_ELEMENT_S64:
        CONVERT(int64_t, x);
    default:
        assert(!"an element type without integers");
    }
}
