/* The two things that writing JSON with jansson needs besides. */
#ifndef RQ_RUNTIME_MODELFILE_JSON_WRITE_H
#define RQ_RUNTIME_MODELFILE_JSON_WRITE_H

#include <jansson.h>

/* text as a JSON string; when it is not UTF-8, its bytes above ASCII become '?'. NULL without
 * memory. */
json_t *rq_json_text(const char *text);

/* Compact text of a tree, from rq_alloc, NUL-terminated; *size_bytes (may be NULL) is its length.
 * NULL when tree is NULL or without memory. */
char *rq_json_dump(const json_t *tree, size_t *size_bytes);

#endif
