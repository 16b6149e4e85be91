/* Writing the one JSON object that --json prints: members appear in the order in which they are
 * added, the first is "schema": 1, and all stands on one line.
 *
 *     rq_json_writer json = rq_json_begin(stdout);
 *     rq_json_add_number(&json, "top1", 70.92);
 *     rq_json_open_array(&json, "layers");
 *     rq_json_add_string(&json, NULL, "stem");     items of an array have no key
 *     rq_json_close(&json);
 *     rq_json_end(&json);                          {"schema": 1, "top1": 70.92, "layers": ["stem"]}
 *
 * Errors stay in the stream (ferror), which the program checks when it ends. */
#ifndef RQ_RUNTIME_BASE_JSON_WRITER_H
#define RQ_RUNTIME_BASE_JSON_WRITER_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum { RQ_JSON_WRITER_DEPTH = 16 };

typedef struct rq_json_writer {
    FILE *out;
    int depth;
    bool needs_comma;
    char closing[RQ_JSON_WRITER_DEPTH]; /* '}' or ']' of each open level */
} rq_json_writer;

rq_json_writer rq_json_begin(FILE *out);
void rq_json_end(rq_json_writer *json); /* closes all levels and the line */

/* key: NULL within an array. */
void rq_json_add_int(rq_json_writer *json, const char *key, int64_t value);
void rq_json_add_number(rq_json_writer *json, const char *key,
                        double value); /* %.9g; null unless finite */
void rq_json_add_bool(rq_json_writer *json, const char *key, bool value);

/* NULL gives null. Bytes that are not UTF-8 (file names may hold any) become U+FFFD. */
void rq_json_add_string(rq_json_writer *json, const char *key, const char *value);

void rq_json_open_object(rq_json_writer *json, const char *key);
void rq_json_open_array(rq_json_writer *json, const char *key);
void rq_json_close(rq_json_writer *json); /* the innermost that is open */

#endif
