/* JSON that is written: one object on one line, as --json and logs have it.
 *
 *     json_t *json = json_object();
 *     rq_json_set(&json, "top1", rq_json_number(70.92));
 *     rq_json_set(&json, "images", json_integer(1000));
 *     return rq_json_print(json, stdout, err);    {"schema": 1, "top1": 70.92, "images": 1000}
 *
 * Without memory the tree becomes NULL, and stays so until rq_json_print says it. */
#ifndef RQ_RUNTIME_BASE_JSON_LINE_H
#define RQ_RUNTIME_BASE_JSON_LINE_H

#include <stdio.h>

#include <jansson.h>

#include "runtime/base/status.h"

json_t *rq_json_number(double value); /* null unless finite */

/* NULL gives null. Bytes that are not UTF-8 (file names may hold any) become U+FFFD. */
json_t *rq_json_string(const char *text);

/* Add a value, which is then the tree's, to an object or an array. */
void rq_json_set(json_t **object, const char *key, json_t *value);
void rq_json_append(json_t **array, json_t *value);

/* Print the object's members in their order after "schema": 1, numbers as %.9g, and a newline; then
 * destroy it. Errors: RQ_ERR_NOMEM. Those of writing stay in the stream (ferror): the program
 * checks stdout when it ends. */
RQ_NODISCARD rq_status rq_json_print(json_t *object, FILE *out, rq_error *err);

#endif
