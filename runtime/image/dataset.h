/* ImageFolder datasets: DIR/train/<class>/…, DIR/val/<class>/… (also validation, test), or class
 * folders directly. Classes sort by name, the files of a class by their path below it (bytes, not
 * locale). Files count as images by extension, any case: .jpg .jpeg .jpe .png .bmp .ppm .webp (what
 * is not a JPEG inside is reported when it is decoded); hidden files and folders are passed over;
 * folders inside a class are searched, links followed. */
#ifndef RQ_RUNTIME_IMAGE_DATASET_H
#define RQ_RUNTIME_IMAGE_DATASET_H

#include <stddef.h>
#include <stdint.h>

#include "runtime/base/memory.h"
#include "runtime/base/status.h"

/* Folders inside a class folder; more means links in a circle. */
enum { RQ_DATASET_MAX_DEPTH = 16 };

typedef enum rq_split { RQ_SPLIT_TRAIN, RQ_SPLIT_VAL } rq_split;

typedef struct rq_dataset {
    rq_arena arena;           /* owns all below */
    const char *root;         /* the folder that holds the class folders */
    const char **class_names; /* [n_classes], sorted */
    int n_classes;
    const char **paths; /* [n_images] */
    int32_t *labels;    /* [n_images], index into class_names */
    size_t n_images;
} rq_dataset;

/* RQ_SPLIT_TRAIN takes dir/train; RQ_SPLIT_VAL dir/val, dir/validation or dir/test, in that order;
 * where dir has none of these four folders, dir itself holds the classes. Errors, each naming the
 * path: RQ_ERR_IO (missing, not readable), RQ_ERR_FILE (no class folders, a class folder without
 * images, the split missing although the other one is there, folders too deep, over 2^32 - 1
 * images), RQ_ERR_NOMEM. On error *out is empty. */
RQ_NODISCARD rq_status rq_dataset_open(rq_dataset *out, const char *dir, rq_split split,
                                       rq_error *err);
void rq_dataset_close(rq_dataset *dataset); /* a zeroed struct is fine */

#endif
