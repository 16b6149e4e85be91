/* What fuzz targets share. A target is one file fuzz_NAME.c with one function, which clang's
 * libFuzzer calls with ever new inputs (RQ_FUZZ), and which the ordinary tests call with the
 * corpus and with mutilations of it (replay.c). It returns when the input was handled well, and
 * ends the program otherwise. */
#ifndef RQ_TESTS_FUZZ_FUZZ_H
#define RQ_TESTS_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A property that must hold whatever the input is; unlike assert() in every build. */
#define FUZZ_REQUIRE(condition)                                                                    \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            (void)fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                  \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

/* The input as a file, for what opens paths: the path of one in memory that holds these bytes until
 * the next call. */
const char *fuzz_file(const uint8_t *data, size_t size);

/* Open it as a checkpoint and read everything in it. */
void fuzz_checkpoint_file(const char *path);

#endif
