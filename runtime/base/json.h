/* JSON from untrusted text: thin helpers over jansson with one clear message per failure.
 *
 * A document is a jansson tree; who parsed it calls json_decref. Getters read one member of an
 * object and check its type and range; their messages name the key ("'groups' is 0, must be from 1
 * to 1048576"), and the caller says where that was with rq_error_prefix(err, "graph: node %d", i).
 * All failures are RQ_ERR_FILE (RQ_ERR_NOMEM without memory) and leave *out untouched. Strings and
 * arrays handed out belong to the document. */
#ifndef RQ_RUNTIME_BASE_JSON_H
#define RQ_RUNTIME_BASE_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "runtime/base/status.h"

enum { RQ_JSON_MAX_DEPTH = 64 };

/* Parse size_bytes of text, which need not end with a NUL; the whole text is one object or array.
 * Refused: nesting over RQ_JSON_MAX_DEPTH, a key given twice, integers beyond 64 bits, invalid
 * UTF-8, NUL characters, trailing text. Errors: RQ_ERR_FILE with the byte offset. */
RQ_NODISCARD rq_status rq_json_parse(json_t **out, const void *text, size_t size_bytes,
                                     rq_error *err);

/* For optional members: is key there (null counts as absent)? False for anything but an object. */
bool rq_json_has(const json_t *object, const char *key);

/* "'key' is missing", "'key' must be a string". */
RQ_NODISCARD rq_status rq_json_get_string(const json_t *object, const char *key, const char **out,
                                          rq_error *err);
RQ_NODISCARD rq_status rq_json_get_bool(const json_t *object, const char *key, bool *out,
                                        rq_error *err);

/* A number written as an integer, within [min, max]. */
RQ_NODISCARD rq_status rq_json_get_int(const json_t *object, const char *key, int64_t min,
                                       int64_t max, int64_t *out, rq_error *err);

/* Any number within [min, max]; always finite. */
RQ_NODISCARD rq_status rq_json_get_number(const json_t *object, const char *key, double min,
                                          double max, double *out, rq_error *err);

/* An object, or an array of min_items to max_items items. */
RQ_NODISCARD rq_status rq_json_get_object(const json_t *object, const char *key, json_t **out,
                                          rq_error *err);
RQ_NODISCARD rq_status rq_json_get_array(const json_t *object, const char *key, size_t min_items,
                                         size_t max_items, json_t **out, rq_error *err);

/* An array of exactly n integers within [min, max]. */
RQ_NODISCARD rq_status rq_json_get_ints(const json_t *object, const char *key, size_t n,
                                        int64_t min, int64_t max, int64_t *out, rq_error *err);

/* An array of exactly n numbers. */
RQ_NODISCARD rq_status rq_json_get_numbers(const json_t *object, const char *key, size_t n,
                                           double *out, rq_error *err);

/* For writing: text as a JSON string. When it is not UTF-8, its bytes above ASCII become '?'. NULL
 * without memory. */
json_t *rq_json_text(const char *text);

#endif
