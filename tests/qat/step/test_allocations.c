/* After the first step or run, nothing is allocated and no primitive is made: of ours not a byte,
 * and of anybody's no block of LARGE or more. (oneDNN makes a small map of arguments at each
 * execution.)
 *
 * The second half interposes the allocation functions of the C library; sanitizers have their
 * own. */
#include <dlfcn.h>
#include <errno.h>
#include <omp.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "qat/update/optimizer.h"
#include "runtime/dnn/dnn.h"
#include "runtime/model/arch.h"
#include "runtime/session/session.h"
#include "tests/qat/forms.h"
#include "tests/qat/net.h"
#include "tests/runtime/tiny_models.h"
#include "tests/support/test.h"

enum { SIDE = 12, CLASSES = 3, BATCH = 4, REPEATS = 3, LARGE = 4096 };

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define INTERPOSED 0
#else
#define INTERPOSED 1
#endif

static atomic_bool counting;
static atomic_size_t n_small, n_large, n_bytes;

#if INTERPOSED
static void count(size_t size_bytes)
{
    if (!atomic_load(&counting))
        return;
    atomic_fetch_add(size_bytes < LARGE ? &n_small : &n_large, 1);
    atomic_fetch_add(&n_bytes, size_bytes);
}

/* The function behind the interposed one. POSIX lets dlsym's result become a function; ISO C wants
 * it copied. */
#define REAL(name)                                                                                 \
    static __typeof__(&(name)) real;                                                               \
    if (!real) {                                                                                   \
        void *symbol = dlsym(RTLD_NEXT, #name);                                                    \
        memcpy(&real, &symbol, sizeof real);                                                       \
    }

void *malloc(size_t size_bytes)
{
    REAL(malloc)
    count(size_bytes);
    return real(size_bytes);
}

/* dlsym itself calls calloc, once and for little. */
void *calloc(size_t n, size_t size_bytes)
{
    static _Alignas(64) unsigned char first[1024];
    static bool resolving;
    if (resolving)
        return n * size_bytes <= sizeof first ? first : NULL;
    resolving = true;
    REAL(calloc)
    resolving = false;
    count(n * size_bytes);
    return real(n, size_bytes);
}

void *realloc(void *memory, size_t size_bytes)
{
    REAL(realloc)
    count(size_bytes);
    return real(memory, size_bytes);
}

void *aligned_alloc(size_t alignment, size_t size_bytes)
{
    REAL(aligned_alloc)
    count(size_bytes);
    return real(alignment, size_bytes);
}

int posix_memalign(void **memory, size_t alignment, size_t size_bytes)
{
    REAL(posix_memalign)
    count(size_bytes);
    return real(memory, alignment, size_bytes);
}
#endif

/* What happens again and again: a step, a run. */
typedef struct repeated {
    const char *name;
    void (*run)(void *context);
    void *context;
} repeated;

static void check_allocates_nothing(const repeated *what)
{
    what->run(what->context); /* threads start, lazy things are made */
    const size_t allocations = rq_alloc_count(), primitives = rq_dnn_primitive_count();
    n_small = n_large = n_bytes = 0;
    counting = true;
    for (int i = 0; i < REPEATS; i++)
        what->run(what->context);
    counting = false;
    assert_int_equal(rq_alloc_count(), allocations);
    assert_int_equal(rq_dnn_primitive_count(), primitives);
    assert_int_equal(n_large, 0);
    if (INTERPOSED)
        print_message("%s: %zu small allocations per run, %zu bytes\n", what->name,
                      n_small / REPEATS, n_bytes / REPEATS);
}

/* ---- models ---- */

static void build_three_branches(rq_model *model)
{
    rq_error err = RQ_ERROR_INIT;
    *model = (rq_model)RQ_MODEL_INIT;
    assert_ok(rq_arch_build(model,
                            "repvgg:depth=1,2;width=8,8;stride=1,2;se=post/4;aux=0;classes=3", 0,
                            &err),
              &err);
    model->preprocess.crop = model->preprocess.resize = SIDE;
    rq_model_init_weights(model, 1);
}

static void build_deploy(rq_model *model)
{
    forms_deploy(model, build_three_branches);
}

static void build_withbn(rq_model *model)
{
    net n;
    net_begin(&n, RQ_FORM_WITHBN, SIDE, CLASSES, 2);
    const int a = net_gated_block(&n, "a", 0, 7, NET_K3, true, 3);
    (void)net_head(&n, net_gated_block(&n, "b", a, 9, NET_K3_S2, false, 4));
    *model = n.model;
}

static void build_qat(rq_model *model)
{
    forms_qat(model, build_withbn);
}

static void build_int8(rq_model *model)
{
    tiny_int8(model);
}

/* ---- training ---- */

typedef struct training {
    rq_trainer *trainer;
    rq_optimizer *optimizer;
    net_batch batch;
} training;

static void train_step(void *context)
{
    training *t = context;
    rq_error err = RQ_ERROR_INIT;
    rq_step_result result;
    for (int frozen = 0; frozen < 2; frozen++) {
        rq_trainer_freeze_bn(t->trainer, frozen);
        assert_ok(rq_trainer_step(t->trainer, t->batch.pixels, t->batch.labels, &result, &err),
                  &err);
        assert_ok(rq_optimizer_step(t->optimizer, 0.01, &err), &err);
    }
    assert_ok(rq_trainer_settle(t->trainer, &err), &err);
}

static void check_training(const char *name, void (*build)(rq_model *), rq_precision precision)
{
    rq_error err = RQ_ERROR_INIT;
    rq_model model = RQ_MODEL_INIT;
    training t = {.trainer = NULL};
    build(&model);
    const rq_trainer_options options = {.batch = BATCH, .precision = precision};
    const rq_optimizer_options optimizer = RQ_OPTIMIZER_OPTIONS_INIT;
    assert_ok(rq_trainer_create(&t.trainer, &model, &options, &err), &err);
    assert_ok(rq_optimizer_create(&t.optimizer, t.trainer, &model, &optimizer, &err), &err);
    t.batch = net_random_batch(&model, BATCH, false, 1);
    check_allocates_nothing(&(repeated){name, train_step, &t});
    rq_free(t.batch.pixels);
    rq_optimizer_destroy(t.optimizer);
    rq_trainer_destroy(t.trainer);
    rq_model_deinit(&model);
}

static void test_step__allocates_nothing(void **state)
{
    (void)state;
    check_training("two steps, three branches", build_three_branches, RQ_PRECISION_F32);
    check_training("two steps, deploy", build_deploy, RQ_PRECISION_F32);
    check_training("two steps, with batch norm", build_withbn, RQ_PRECISION_F32);
    check_training("two steps, qat", build_qat, RQ_PRECISION_F32);
    if (rq_dnn_has_bf16())
        check_training("two steps, qat, bf16", build_qat, RQ_PRECISION_BF16);
}

/* ---- sessions ---- */

typedef struct inference {
    rq_session *session;
    net_batch batch;
    float logits[BATCH * CLASSES];
} inference;

static void run_session(void *context)
{
    inference *i = context;
    rq_error err = RQ_ERROR_INIT;
    assert_ok(rq_session_run(i->session, i->batch.pixels, BATCH, i->logits, &err), &err);
    assert_ok(rq_session_run(i->session, i->batch.pixels, 1, i->logits, &err), &err);
}

static void observe_once(rq_model *model) /* ranges for the session */
{
    rq_error err = RQ_ERROR_INIT;
    rq_trainer *trainer = NULL;
    rq_step_result result;
    const rq_trainer_options options = {.batch = BATCH};
    net_batch batch = net_random_batch(model, BATCH, false, 1);
    assert_ok(rq_trainer_create(&trainer, model, &options, &err), &err);
    assert_ok(rq_trainer_step(trainer, batch.pixels, batch.labels, &result, &err), &err);
    assert_ok(rq_trainer_settle(trainer, &err), &err);
    rq_trainer_destroy(trainer);
    rq_free(batch.pixels);
}

static void check_session(const char *name, void (*build)(rq_model *))
{
    rq_error err = RQ_ERROR_INIT;
    rq_model model = RQ_MODEL_INIT;
    inference i = {.session = NULL};
    build(&model);
    if (model.form == RQ_FORM_QAT)
        observe_once(&model);
    rq_session_options options = RQ_SESSION_OPTIONS_INIT;
    options.batch = BATCH;
    assert_int_equal(model.n_classes, CLASSES);
    assert_ok(rq_session_create(&i.session, &model, &options, &err), &err);
    i.batch = net_random_batch(&model, BATCH, false, 1);
    rq_model_deinit(&model);
    check_allocates_nothing(&(repeated){name, run_session, &i});
    rq_free(i.batch.pixels);
    rq_session_destroy(i.session);
}

static void test_session__allocates_nothing(void **state)
{
    (void)state;
    check_session("two runs, three branches", build_three_branches);
    check_session("two runs, deploy", build_deploy);
    check_session("two runs, qat", build_qat);
    check_session("two runs, int8", build_int8);
}

/* ---- can these tests fail? ---- */

static void allocate(void *context)
{
    void *volatile memory = malloc(*(const size_t *)context);
    free(memory);
    memory = calloc(1, *(const size_t *)context);
    free(memory);
    memory = aligned_alloc(64, *(const size_t *)context);
    free(memory);
}

static void test_counter__sees_allocations(void **state)
{
    (void)state;
    if (!INTERPOSED)
        skip();
    static const size_t sizes[] = {LARGE - 64, LARGE};
    for (size_t i = 0; i < 2; i++) {
        size_t size_bytes = sizes[i];
        n_small = n_large = 0;
        counting = true;
        allocate(&size_bytes);
        counting = false;
        assert_int_equal(n_small, i ? 0 : 3);
        assert_int_equal(n_large, i ? 3 : 0);
    }
    const size_t before = rq_alloc_count();
    rq_free(rq_alloc(1));
    assert_int_equal(rq_alloc_count(), before + 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_step__allocates_nothing),
        cmocka_unit_test(test_session__allocates_nothing),
        cmocka_unit_test(test_counter__sees_allocations),
    };
    omp_set_num_threads(2);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
