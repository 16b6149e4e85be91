/* Run files: everything comes back bit for bit, and nothing but a whole run file of the same run is
 * taken: other runs, other shapes, every cut and every flipped byte are refused. */
#include "qat/run/run_file.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "qat/prepare.h"
#include "runtime/modelfile/modelfile.h"
#include "runtime/modelfile/tensorfile.h"
#include "tests/qat/net.h"
#include "tests/support/test.h"

enum { SIDE = 6, CLASSES = 3, BATCH = 2 };

static const char RUN[] = "test form=qat images=12 batch=2 epochs=5 lr=0.1 seed=1";

/* A tiny qat model with its optimizer and average, after some steps. */
typedef struct training {
    rq_model model;
    rq_trainer *trainer;
    rq_optimizer *optimizer;
    rq_ema *ema;
} training;

static rq_training parts(const training *t)
{
    return (rq_training){(rq_model *)(uintptr_t)&t->model, t->optimizer, t->ema};
}

/* No two fields alike. */
static const rq_progress SOME = {
    .epoch = 3,
    .step = 7,
    .total_steps = 90,
    .best_top1 = 100.0 / 3.0,
    .best_ema_top1 = 100.0 / 7.0,
    .last_top1 = 12.5,
    .last_top5 = 62.5,
    .seconds = 1.0 / 3.0,
    .meters = {.loss = 1e5 / 3.0, .counted = 42, .top1 = 17, .top5 = 30},
};

static void assert_same_progress(const rq_progress *a, const rq_progress *b)
{
    assert_int_equal(a->epoch, b->epoch);
    assert_int_equal(a->step, b->step);
    assert_int_equal(a->total_steps, b->total_steps);
    assert_close(a->best_top1, b->best_top1, 0.0, 0.0);
    assert_close(a->best_ema_top1, b->best_ema_top1, 0.0, 0.0);
    assert_close(a->last_top1, b->last_top1, 0.0, 0.0);
    assert_close(a->last_top5, b->last_top5, 0.0, 0.0);
    assert_close(a->seconds, b->seconds, 0.0, 0.0);
    assert_close(a->meters.loss, b->meters.loss, 0.0, 0.0);
    assert_int_equal(a->meters.counted, b->meters.counted);
    assert_int_equal(a->meters.top1, b->meters.top1);
    assert_int_equal(a->meters.top5, b->meters.top5);
}

/* In place: the trainer points into the model. */
static void start_with(training *t, int steps, int64_t width, rq_optimizer_kind kind, bool averages)
{
    rq_error err = RQ_ERROR_INIT;
    net n;
    net_begin(&n, RQ_FORM_WITHBN, SIDE, CLASSES, 3);
    (void)net_head(&n, net_block(&n, "a", 0, width, NET_K3));
    assert_ok(rq_prepare_qat(&t->model, &n.model, RQ_QUANT_ALL, &err), &err);
    rq_model_deinit(&n.model);
    const rq_trainer_options options = {.batch = BATCH};
    rq_optimizer_options optimizer = RQ_OPTIMIZER_OPTIONS_INIT;
    optimizer.kind = kind;
    t->ema = NULL;
    assert_ok(rq_trainer_create(&t->trainer, &t->model, &options, &err), &err);
    assert_ok(rq_optimizer_create(&t->optimizer, t->trainer, &t->model, &optimizer, &err), &err);
    if (averages)
        assert_ok(rq_ema_create(&t->ema, &t->model, &err), &err);
    for (int i = 0; i < steps; i++) {
        rq_step_result result;
        net_batch batch = net_random_batch(&t->model, BATCH, false, (uint64_t)i);
        assert_ok(rq_trainer_step(t->trainer, batch.pixels, batch.labels, &result, &err), &err);
        assert_ok(rq_optimizer_step(t->optimizer, 0.1, &err), &err);
        if (averages)
            rq_ema_update(t->ema, 0.25);
        rq_free(batch.pixels);
    }
}

static void start(training *t, int steps, int64_t width)
{
    start_with(t, steps, width, RQ_OPTIMIZER_SGD, false);
}

static void finish(training *t)
{
    rq_ema_destroy(t->ema);
    rq_optimizer_destroy(t->optimizer);
    rq_trainer_destroy(t->trainer);
    rq_model_deinit(&t->model);
}

static void assert_same(const training *a, const training *b)
{
    for (int i = 0; i < a->model.graph.n_params; i++) {
        const rq_tensor *x = &a->model.graph.params[i].tensor;
        const size_t size_bytes = rq_tensor_elems(x) * rq_dtype_size(x->dtype);
        assert_memory_equal(x->data, b->model.graph.params[i].tensor.data, size_bytes);
        for (int k = 0; k < rq_optimizer_n_states(a->optimizer); k++)
            if (rq_optimizer_state(a->optimizer, i, k))
                assert_memory_equal(rq_optimizer_state(a->optimizer, i, k),
                                    rq_optimizer_state(b->optimizer, i, k), size_bytes);
        if (a->ema)
            assert_memory_equal(rq_ema_values(a->ema, i), rq_ema_values(b->ema, i), size_bytes);
    }
    assert_int_equal(rq_optimizer_steps(a->optimizer), rq_optimizer_steps(b->optimizer));
}

static rq_status save_as(const training *t, const char *path, const rq_progress *progress,
                         const char *run, rq_error *err)
{
    const rq_training all = parts(t);
    return rq_run_file_save(path, &all, progress, run, err);
}

static void save(const training *t, const char *path)
{
    rq_error err = RQ_ERROR_INIT;
    assert_ok(save_as(t, path, &SOME, RUN, &err), &err);
}

static rq_status load_as(const training *t, const char *path, rq_progress *progress,
                         const char *run, rq_error *err)
{
    const rq_training all = parts(t);
    return rq_run_file_load(path, &all, progress, run, err);
}

static rq_status load(const training *t, const char *path, rq_error *err)
{
    rq_progress progress = RQ_PROGRESS_INIT;
    return load_as(t, path, &progress, RUN, err);
}

static void check_comes_back(rq_optimizer_kind kind, bool averages)
{
    rq_error err = RQ_ERROR_INIT;
    const char *dir = rq_test_mkdir();
    char path[256], again[256];
    (void)snprintf(path, sizeof path, "%s/a.ckpt", dir);
    (void)snprintf(again, sizeof again, "%s/b.ckpt", dir);
    training trained, fresh;
    start_with(&trained, 4, 4, kind, averages);
    start_with(&fresh, 0, 4, kind, averages);
    save(&trained, path);
    rq_progress progress = RQ_PROGRESS_INIT;
    assert_ok(load_as(&fresh, path, &progress, RUN, &err), &err);
    assert_same_progress(&progress, &SOME);
    assert_same(&trained, &fresh);
    save(&fresh, again); /* and the file is a function of the state */
    size_t n, m;
    uint8_t *a = rq_test_read_file(path, &n), *b = rq_test_read_file(again, &m);
    assert_int_equal(n, m);
    assert_memory_equal(a, b, n);
    rq_free(a);
    rq_free(b);
    rq_progress peeked = RQ_PROGRESS_INIT;
    assert_ok(rq_run_file_peek(path, &peeked, &err), &err);
    assert_same_progress(&peeked, &SOME);
    finish(&trained);
    finish(&fresh);
    rq_test_rmdir(dir);
}

static void test_run_file__comes_back(void **state)
{
    (void)state;
    for (int kind = 0; rq_optimizer_names[kind]; kind++)
        for (int averages = 0; averages < 2; averages++)
            check_comes_back((rq_optimizer_kind)kind, averages);
}

/* Another optimizer's state, or an average that was not kept, is missing in the file. */
static void test_run_file__of_other_parts(void **state)
{
    (void)state;
    const char *dir = rq_test_mkdir();
    char path[256];
    (void)snprintf(path, sizeof path, "%s/a.ckpt", dir);
    training sgd, adamw, average;
    start_with(&sgd, 1, 4, RQ_OPTIMIZER_SGD, false);
    start_with(&adamw, 1, 4, RQ_OPTIMIZER_ADAMW, false);
    start_with(&average, 1, 4, RQ_OPTIMIZER_SGD, true);
    save(&sgd, path);
    rq_error err = RQ_ERROR_INIT;
    assert_fails(load(&adamw, path, &err), RQ_ERR_FILE, &err);
    assert_says(&err, "exp_avg/a.conv.weight: the file has no such tensor");
    assert_fails(load(&average, path, &err), RQ_ERR_FILE, &err);
    assert_says(&err, "ema/");
    finish(&sgd);
    finish(&adamw);
    finish(&average);
    rq_test_rmdir(dir);
}

static void test_run_file__before_the_first_validation(void **state)
{
    (void)state;
    rq_error err = RQ_ERROR_INIT;
    const char *dir = rq_test_mkdir();
    char path[256];
    (void)snprintf(path, sizeof path, "%s/a.ckpt", dir);
    training t;
    start(&t, 0, 4);
    const rq_progress first = RQ_PROGRESS_INIT;
    rq_progress progress = SOME;
    assert_ok(save_as(&t, path, &first, RUN, &err), &err);
    assert_ok(load_as(&t, path, &progress, RUN, &err), &err);
    assert_same_progress(&progress, &first);
    finish(&t);
    rq_test_rmdir(dir);
}

/* The message says what differs, there and here, however long the descriptions are. */
static void test_run_file__another_run(void **state)
{
    (void)state;
    const char *dir = rq_test_mkdir();
    char path[256];
    (void)snprintf(path, sizeof path, "%s/a.ckpt", dir);
    training t;
    start(&t, 1, 4);
    char long_run[900], other[900];
    static const char arch[] = "repvgg:depth=1,2,4,14,1;width=48,48,96,192,1280;stride=2,2,2,2,2";
    (void)snprintf(long_run, sizeof long_run, "%s %s epochs=20 %0300d lr=0.1", arch, RUN, 0);
    (void)snprintf(other, sizeof other, "%s %s epochs=21 %0300d lr=0.1", arch, RUN, 0);
    rq_error err = RQ_ERROR_INIT;
    assert_ok(save_as(&t, path, &SOME, long_run, &err), &err);
    static const char *const mine[] = {"lr=0.2", "", "a b c"};
    for (size_t i = 0; i < 3; i++) {
        rq_progress read = RQ_PROGRESS_INIT;
        assert_fails(load_as(&t, path, &read, mine[i], &err), RQ_ERR_FILE, &err);
        assert_says(&err, path);
        assert_says(&err, "another run");
    }
    rq_progress read = RQ_PROGRESS_INIT;
    assert_fails(load_as(&t, path, &read, other, &err), RQ_ERR_FILE, &err);
    assert_says(&err, "epochs=20");
    assert_says(&err, "epochs=21");
    finish(&t);
    rq_test_rmdir(dir);
}

static void test_run_file__other_shapes(void **state)
{
    (void)state;
    rq_error err = RQ_ERROR_INIT;
    const char *dir = rq_test_mkdir();
    char path[256];
    (void)snprintf(path, sizeof path, "%s/a.ckpt", dir);
    training four, five;
    start(&four, 1, 4);
    start(&five, 1, 5);
    save(&four, path);
    assert_fails(load(&five, path, &err), RQ_ERR_FILE, &err);
    assert_says(&err, path);
    assert_says(&err, "a.conv.weight has another shape than the model's");
    net n; /* another graph: a tensor is missing */
    rq_optimizer *optimizer = NULL;
    rq_trainer *trainer = NULL;
    net_begin(&n, RQ_FORM_TRAIN, SIDE, CLASSES, 1);
    (void)net_head(&n, net_conv(&n, "other", 0, 4, NET_K3, true));
    const rq_trainer_options options = {.batch = BATCH};
    const rq_optimizer_options optimizer_options = RQ_OPTIMIZER_OPTIONS_INIT;
    assert_ok(rq_trainer_create(&trainer, &n.model, &options, &err), &err);
    assert_ok(rq_optimizer_create(&optimizer, trainer, &n.model, &optimizer_options, &err), &err);
    rq_progress progress = RQ_PROGRESS_INIT;
    const rq_training other = {&n.model, optimizer, NULL};
    assert_fails(rq_run_file_load(path, &other, &progress, RUN, &err), RQ_ERR_FILE, &err);
    assert_says(&err, path);
    assert_says(&err, "other.weight: the file has no such tensor");
    rq_optimizer_destroy(optimizer);
    rq_trainer_destroy(trainer);
    rq_model_deinit(&n.model);
    finish(&four);
    finish(&five);
    rq_test_rmdir(dir);
}

static void test_run_file__other_files(void **state)
{
    (void)state;
    rq_error err = RQ_ERROR_INIT;
    const char *dir = rq_test_mkdir();
    char path[256];
    (void)snprintf(path, sizeof path, "%s/a.bin", dir);
    training t;
    start(&t, 1, 4);
    assert_fails(load(&t, path, &err), RQ_ERR_IO, &err); /* missing */
    assert_says(&err, path);
    assert_fails(load(&t, dir, &err), RQ_ERR_IO, &err); /* a folder */
    assert_says(&err, dir);
    assert_ok(rq_trainer_settle(t.trainer, &err), &err);
    assert_ok(rq_model_save(&t.model, path, &err), &err); /* a model */
    assert_fails(load(&t, path, &err), RQ_ERR_FILE, &err);
    assert_says(&err, path);
    assert_says(&err, "not a run file");
    /* a file that any safetensors program could have written: no checksums */
    static const char header[] =
        "{\"__metadata__\":{\"format\":\"repqat-checkpoint\",\"epoch\":\"1\",\"best_top1\":\"1\","
        "\"run\":\"x\"}}";
    unsigned char plain[8 + sizeof header - 1] = {sizeof header - 1};
    memcpy(plain + 8, header, sizeof header - 1);
    rq_test_write_file(path, plain, sizeof plain);
    assert_fails(load(&t, path, &err), RQ_ERR_FILE, &err);
    assert_says(&err, "not a run file");
    finish(&t);
    rq_test_rmdir(dir);
}

/* A file of one tensor with the metadata of a run file, one of them replaced. */
static void write_with(const char *path, const char *key, const char *value)
{
    rq_error err = RQ_ERROR_INIT;
    rq_text_pair pairs[] = {
        {"format", "repqat-checkpoint"},
        {"version", "2"},
        {"run", RUN},
        {"optimizer_steps", "9"},
        {"epoch", "1"},
        {"step", "2"},
        {"total_steps", "30"},
        {"best_top1", "50"},
        {"best_ema_top1", "-1"},
        {"last_top1", "40"},
        {"last_top5", "90"},
        {"seconds", "0"},
        {"meters.loss", "1.5"},
        {"meters.counted", "4"},
        {"meters.top1", "2"},
        {"meters.top5", "3"},
    };
    enum { N_PAIRS = sizeof pairs / sizeof pairs[0] };
    bool found = !key;
    for (size_t k = 0; k < N_PAIRS; k++)
        if (key && strcmp(pairs[k].key, key) == 0) {
            pairs[k].value = value;
            found = true;
        }
    assert_true(found);
    const float one = 1.0f;
    const rq_param param = {"x", {RQ_F32, 1, {1}, (void *)(uintptr_t)&one}};
    assert_ok(rq_tensorfile_write(path, &param, 1, pairs, N_PAIRS, &err), &err);
}

/* Metadata that no training wrote. */
static void test_run_file__wrong_progress(void **state)
{
    (void)state;
    static const char *const wrong[][2] = {
        {"epoch", "-1"},
        {"epoch", "x"},
        {"epoch", ""},
        {"step", "-1"},
        {"total_steps", "1e3"},
        {"epoch", "99999999999999999"},
        {"best_top1", "nan"},
        {"best_top1", "101"},
        {"best_top1", "-2"},
        {"best_ema_top1", ""},
        {"seconds", "-1"},
        {"meters.loss", "inf"},
        {"meters.counted", "1.5"},
        {"optimizer_steps", ""},
        {"optimizer_steps", "-1"},
        {"format", "repqat"},
    };
    const char *dir = rq_test_mkdir();
    char path[256];
    (void)snprintf(path, sizeof path, "%s/a.ckpt", dir);
    training t;
    start(&t, 0, 4);
    rq_error err = RQ_ERROR_INIT;
    write_with(path, NULL, NULL);
    assert_fails(load(&t, path, &err), RQ_ERR_FILE, &err); /* all is well but for the tensors */
    assert_says(&err, "the file has no such tensor");
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        write_with(path, wrong[i][0], wrong[i][1]);
        assert_fails(load(&t, path, &err), RQ_ERR_FILE, &err);
        assert_says(&err, "not a run file");
        rq_progress progress = SOME;
        assert_fails(rq_run_file_peek(path, &progress, &err), RQ_ERR_FILE, &err);
        assert_same_progress(&progress, &SOME);
    }
    write_with(path, "version", "3");
    assert_fails(load(&t, path, &err), RQ_ERR_FILE, &err);
    assert_says(&err, "of version 3, this reads 2");
    finish(&t);
    rq_test_rmdir(dir);
}

/* Cut at every length, and each byte flipped. */
static void test_run_file__damage(void **state)
{
    (void)state;
    const char *dir = rq_test_mkdir();
    char path[256], damaged[256];
    (void)snprintf(path, sizeof path, "%s/a.ckpt", dir);
    (void)snprintf(damaged, sizeof damaged, "%s/damaged.ckpt", dir);
    training t;
    start(&t, 1, 1);
    save(&t, path);
    size_t n;
    uint8_t *bytes = rq_test_read_file(path, &n);
    rq_test_write_file(damaged, bytes, n);
    const int fd = open(damaged, O_RDWR);
    assert_true(fd >= 0);
    for (size_t i = 0; i < n; i++) {
        rq_error err = RQ_ERROR_INIT;
        const uint8_t flipped = bytes[i] ^ (uint8_t)(1 << i % 8);
        assert_int_equal(pwrite(fd, &flipped, 1, (off_t)i), 1);
        assert_fails(load(&t, damaged, &err), RQ_ERR_FILE, &err);
        assert_says(&err, damaged);
        assert_int_equal(pwrite(fd, &bytes[i], 1, (off_t)i), 1);
    }
    rq_error err = RQ_ERROR_INIT;
    assert_ok(load(&t, damaged, &err), &err); /* whole again */
    for (size_t i = n; i-- > 0;) {
        assert_int_equal(ftruncate(fd, (off_t)i), 0);
        assert_fails(load(&t, damaged, &err), RQ_ERR_FILE, &err);
        assert_says(&err, damaged);
    }
    (void)close(fd);
    rq_free(bytes);
    finish(&t);
    rq_test_rmdir(dir);
}

/* A run file that is refused leaves the model and the optimizer as they were. */
static void test_run_file__refused_leaves_the_state(void **state)
{
    (void)state;
    rq_error err = RQ_ERROR_INIT;
    const char *dir = rq_test_mkdir();
    char path[256];
    (void)snprintf(path, sizeof path, "%s/a.ckpt", dir);
    training trained, t, same;
    start(&trained, 3, 4);
    start(&t, 1, 4);
    start(&same, 1, 4);
    save(&trained, path);
    size_t n;
    uint8_t *bytes = rq_test_read_file(path, &n);
    bytes[n - 5] ^= 1; /* the last tensor */
    rq_test_write_file(path, bytes, n);
    rq_free(bytes);
    rq_progress progress = RQ_PROGRESS_INIT;
    const rq_progress before = progress;
    assert_fails(load_as(&t, path, &progress, RUN, &err), RQ_ERR_FILE, &err);
    assert_same(&t, &same);
    assert_same_progress(&progress, &before);
    finish(&trained);
    finish(&t);
    finish(&same);
    rq_test_rmdir(dir);
}

static void test_save__keeps_the_previous_file(void **state)
{
    (void)state;
    rq_error err = RQ_ERROR_INIT;
    const char *dir = rq_test_mkdir();
    char path[256];
    (void)snprintf(path, sizeof path, "%s/a.ckpt", dir);
    training t;
    start(&t, 1, 4);
    save(&t, path);
    for (long i = 0; i < 4; i++) {
        rq_alloc_test_fail_after(i);
        assert_int_equal(save_as(&t, path, &SOME, "x", &err), RQ_ERR_NOMEM);
        rq_alloc_test_fail_after(-1);
        assert_ok(load(&t, path, &err), &err);
    }
    const char *nowhere = rq_test_path("%s/no/a.ckpt", dir);
    assert_fails(save_as(&t, nowhere, &SOME, RUN, &err), RQ_ERR_IO, &err);
    assert_says(&err, nowhere);
    finish(&t);
    rq_test_rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_run_file__comes_back),
        cmocka_unit_test(test_run_file__of_other_parts),
        cmocka_unit_test(test_run_file__before_the_first_validation),
        cmocka_unit_test(test_run_file__another_run),
        cmocka_unit_test(test_run_file__other_shapes),
        cmocka_unit_test(test_run_file__other_files),
        cmocka_unit_test(test_run_file__wrong_progress),
        cmocka_unit_test(test_run_file__damage),
        cmocka_unit_test(test_run_file__refused_leaves_the_state),
        cmocka_unit_test(test_save__keeps_the_previous_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
