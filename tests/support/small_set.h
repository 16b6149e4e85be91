/* A folder of a few photographs in two classes, and models made for it by the program itself. */
#ifndef RQ_TESTS_SUPPORT_SMALL_SET_H
#define RQ_TESTS_SUPPORT_SMALL_SET_H

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/memory.h"
#include "tests/support/cli.h"
#include "tests/support/test.h"

#define SMALL_ARCH "repvgg:depth=1,1;width=8,8;classes=2"

enum { SMALL_TRAIN = 8, SMALL_VAL = 5 }; /* images per split, unevenly over the classes */

/* The folder of a test program, and files in it. */
typedef struct small_set {
    rq_cli run; /* for the test's runs of the program */
    char dir[64], images[96];
    char train[96], deploy[96], withbn[96], qat[96], int8[96], out[96];
} small_set;
extern small_set small;

/* Fixtures: images; also train.bin and deploy.bin; also withbn.bin; also qat.bin and int8.bin. */
int small_setup(void **state);
int small_setup_deploy(void **state);
int small_setup_withbn(void **state);
int small_setup_int8(void **state);
int small_teardown(void **state);

/* Parts of them: dir/train and dir/val, where dir must not exist; the models in a folder that has
 * images; the folder's name, kept (rq_test_mkdir's names are soon used again). */
void small_images(const char *dir);
void small_deploy(const char *dir);
void small_withbn(const char *dir);
void small_make_folder(char *path, size_t size_bytes);

void small_copy(const char *name, const char *to); /* name: of one of the test images */
bool small_exists(const char *path);
void small_mkdir(const char *path);

/* dir/split/{cat,dog}; the first n_cats names are cats. */
void small_split(const char *dir, const char *split, const char *const *names, int n, int n_cats);

/* The file without its last byte. */
const char *small_cut(const char *path, const char *cut);

/* Run the program; it must succeed. Options of the machine (threads) are left to the caller. */
#define SMALL_RUN(...)                                                                             \
    do {                                                                                           \
        rq_cli run_ = RQ_CLI_INIT;                                                                 \
        rq_cli_run(&run_, __VA_ARGS__);                                                            \
        assert_exit(&run_, 0);                                                                     \
        rq_cli_deinit(&run_);                                                                      \
    } while (0)

/* stderr is one line that begins with "repqat COMMAND: " and holds part; the exit code is 1;
 * nothing was printed to stdout. */
void assert_one_line(const rq_cli *run, const char *command, const char *part);

#endif
