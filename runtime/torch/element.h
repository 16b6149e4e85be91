/* Element types of other programs' tensors, and their values as ours (tensor.h): f32, or s64 for
 * counters. */
#ifndef RQ_RUNTIME_TORCH_ELEMENT_H
#define RQ_RUNTIME_TORCH_ELEMENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* code; name in messages, as PyTorch has it; PyTorch's storage class (NULL: has none); safetensors'
 * name (NULL: has none); bytes; what its values are */
#define RQ_ELEMENT_LIST(X)                                                                         \
    X(F32, "float32", "FloatStorage", "F32", 4, REAL)                                              \
    X(F16, "float16", "HalfStorage", "F16", 2, REAL)                                               \
    X(BF16, "bfloat16", "BFloat16Storage", "BF16", 2, REAL)                                        \
    X(F64, "float64", "DoubleStorage", "F64", 8, REAL)                                             \
    X(BOOL, "bool", "BoolStorage", "BOOL", 1, INTEGER)                                             \
    X(U8, "uint8", "ByteStorage", "U8", 1, INTEGER)                                                \
    X(S8, "int8", "CharStorage", "I8", 1, INTEGER)                                                 \
    X(S16, "int16", "ShortStorage", "I16", 2, INTEGER)                                             \
    X(S32, "int32", "IntStorage", "I32", 4, INTEGER)                                               \
    X(S64, "int64", "LongStorage", "I64", 8, INTEGER)                                              \
    X(U16, "uint16", NULL, "U16", 2, OTHER)                                                        \
    X(U32, "uint32", NULL, "U32", 4, OTHER)                                                        \
    X(U64, "uint64", NULL, "U64", 8, OTHER)                                                        \
    X(C64, "complex64", "ComplexFloatStorage", NULL, 8, OTHER)                                     \
    X(C128, "complex128", "ComplexDoubleStorage", NULL, 16, OTHER)                                 \
    X(Q_S8, "qint8", "QInt8Storage", NULL, 1, OTHER)                                               \
    X(Q_U8, "quint8", "QUInt8Storage", NULL, 1, OTHER)                                             \
    X(Q_S32, "qint32", "QInt32Storage", NULL, 4, OTHER)                                            \
    X(UNTYPED, "bytes", "UntypedStorage", NULL, 1, OTHER)

typedef enum rq_element {
#define X(code, name, storage, safetensors, size, kind) RQ_ELEMENT_##code,
    RQ_ELEMENT_LIST(X)
#undef X
        RQ_N_ELEMENTS
} rq_element;

/* REAL and INTEGER values can be read; OTHER ones are only known by size. */
typedef enum rq_element_kind {
    RQ_ELEMENT_REAL,
    RQ_ELEMENT_INTEGER,
    RQ_ELEMENT_OTHER,
} rq_element_kind;

const char *rq_element_name(rq_element element); /* "float32" */
size_t rq_element_size(rq_element element);      /* bytes */
rq_element_kind rq_element_kind_of(rq_element element);

/* By name; storage and text are n bytes of PyTorch's class name, safetensors' name a C string.
 * False when unknown and *out untouched. */
bool rq_element_of_storage(const char *storage, size_t n, rq_element *out);
bool rq_element_of_safetensors(const char *name, rq_element *out);

/* dst[i] = src[i * step] for n elements, src at any alignment, step in elements and not negative.
 * To f32: REAL and INTEGER, rounded to nearest even where f32 is narrower (a float64 beyond f32's
 * range becomes infinite). To s64: INTEGER. */
void rq_element_to_f32(float *dst, rq_element element, const unsigned char *src, int64_t step,
                       size_t n);
void rq_element_to_s64(int64_t *dst, rq_element element, const unsigned char *src, int64_t step,
                       size_t n);

#endif
