/* Files of torch.save for tests, from pickles written out opcode by opcode. */
#ifndef RQ_TESTS_RUNTIME_TORCH_TORCH_BUILDER_H
#define RQ_TESTS_RUNTIME_TORCH_TORCH_BUILDER_H

#include "tests/runtime/torch/zip_builder.h"

/* Pieces of pickles, as string literals: they may hold NULs, so sizes are taken with sizeof. */
#define PICKLED_ID(type, key, n)                                                                   \
    "(U\x07"                                                                                       \
    "storagec" type "\nU\x01" key "U\x03"                                                          \
    "cpu" n "tQ"
#define PICKLED_STORAGE PICKLED_ID("torch\nFloatStorage", "0", "K\x06") /* 6 elements */
#define PICKLED_TENSOR(storage, begin, size, stride)                                               \
    "ctorch._utils\n_rebuild_tensor_v2\n(" storage begin size stride "\x89NtR"
#define PICKLED_W PICKLED_TENSOR(PICKLED_STORAGE, "K\x00", "K\x02K\x03\x86", "K\x03K\x01\x86")

/* {"w": value} */
#define PICKLED_DICT(value)                                                                        \
    "}U\x01"                                                                                       \
    "w" value "s."

static const float built_values[6] = {1, 2, 3, 4, 5, 6};

/* A zip file with the object, and as storage "0" the values above. */
static inline void torch_build_zip(zip_builder *zip, const void *object, size_t n)
{
    zip->n_bytes = 0;
    zip->n_items = 0;
    zip_item item = zip_stored("a/data.pkl", object, n);
    item.flags = 0x0808;
    (void)zip_add(zip, item);
    (void)zip_add(zip, zip_stored("a/data/0", built_values, sizeof built_values));
    zip_finish(zip, 0);
}

#define LEGACY_MAGIC   "\x80\x02\x8a\nl\xfc\x9c\x46\xf9 j\xa8P\x19."
#define LEGACY_VERSION "\x80\x02M\xe9\x03."
#define LEGACY_MACHINE                                                                             \
    "\x80\x02}U\x0d"                                                                               \
    "little_endian\x88s."

typedef struct legacy_parts {
    const char *magic, *version, *machine, *object, *keys;
    size_t magic_bytes, version_bytes, machine_bytes, object_bytes, keys_bytes;
} legacy_parts;

#define LEGACY_PART(name, text) .name = (text), .name##_bytes = sizeof(text) - 1
#define LEGACY_PARTS                                                                               \
    LEGACY_PART(magic, LEGACY_MAGIC), LEGACY_PART(version, LEGACY_VERSION),                        \
        LEGACY_PART(machine, LEGACY_MACHINE)

/* The old format; the values above follow the keys as one storage. Uses the builder's buffer. */
static inline void torch_build_legacy(zip_builder *file, const legacy_parts *parts)
{
    file->n_bytes = 0;
    zip_put_bytes(file, parts->magic, parts->magic_bytes);
    zip_put_bytes(file, parts->version, parts->version_bytes);
    zip_put_bytes(file, parts->machine, parts->machine_bytes);
    zip_put_bytes(file, parts->object, parts->object_bytes);
    zip_put_bytes(file, parts->keys, parts->keys_bytes);
    zip_put(file, 6, 8);
    zip_put_bytes(file, built_values, sizeof built_values);
}

#endif
