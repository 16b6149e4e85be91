/* repqat classify model.bin image.jpg...: the likeliest classes of single images. */
#include "cli/commands.h"

#include <math.h>

#include "runtime/base/json_writer.h"
#include "runtime/eval/data_options.h"
#include "runtime/eval/evaluate.h"
#include "runtime/eval/npy.h"
#include "runtime/eval/open_model.h"

typedef struct options {
    const char *model, *logits;
    rq_open_options open;
    rq_option_rest images;
    int64_t top, resolution, threads;
    bool json;
} options;

static const rq_option table[] = {
    RQ_POSITIONAL("MODEL", options, model, "model file or checkpoint, any form"),
    RQ_REST("IMAGE", options, images, "JPEG files"),
    RQ_OPTION_INT("top", 0, options, top, "N", 1, RQ_MAX_CHANNELS, "classes to print per image"),
    RQ_OPTION_STRING("logits", 0, options, logits, "FILE.npy",
                     "write the logits, f32 [images, classes]"),
    RQ_OPTION_RESOLUTION(options, resolution),
    RQ_OPTION_THREADS(options, threads),
    RQ_OPTION_FLAG("json", 0, options, json, "print one JSON object"),
};

typedef struct classifier {
    const rq_model *model;
    rq_session *session;
    rq_sampler sampler;
    rq_transform transform;
    rq_arena arena;
    uint8_t *pixels; /* [size, size, 3] */
    float *logits;   /* [images, classes] */
    int *order;      /* [classes] class at each rank, of one image */
} classifier;

static rq_status allocate(classifier *self, int n_images, rq_error *err)
{
    const size_t n_classes = (size_t)self->model->n_classes, size = (size_t)self->transform.size;
    void *memory = NULL;
    rq_status status = rq_arena_array_old(&self->arena, &memory, size * size, 3, err);
    self->pixels = memory;
    if (status == RQ_OK)
        status = rq_arena_array_old(&self->arena, &memory, (size_t)n_images,
                                    n_classes * sizeof(float), err);
    self->logits = memory;
    if (status == RQ_OK)
        status = rq_arena_array_old(&self->arena, &memory, n_classes, sizeof(int), err);
    self->order = memory;
    return status;
}

static rq_status classify(classifier *self, const char *path, float *logits, rq_error *err)
{
    const rq_status status =
        rq_sample_file(&self->sampler, path, &self->transform, NULL, self->pixels, err);
    if (status != RQ_OK)
        return status;
    const rq_status run_status = rq_session_run(self->session, self->pixels, 1, logits, err);
    if (run_status != RQ_OK)
        return run_status;
    for (int k = 0; k < self->model->n_classes; k++)
        if (!isfinite(logits[k]))
            return rq_fail(err, RQ_ERR_RANGE, "%s: the logit of class %d is %g", path, k,
                           (double)logits[k]);
    return RQ_OK;
}

static double softmax(const float *logits, int n_classes, int label)
{
    double sum = 0.0;
    for (int k = 0; k < n_classes; k++)
        sum += exp((double)logits[k] - (double)logits[label]);
    return 1.0 / sum;
}

/* Repeated choice of the next best: few classes are wanted, or there are few. */
static void rank_classes(const float *logits, int n_classes, int top, int *order)
{
    for (int rank = 0; rank < top; rank++) {
        const int last = rank ? order[rank - 1] : -1;
        int best = -1;
        for (int k = 0; k < n_classes; k++) {
            const bool comes_after =
                last < 0 || logits[k] < logits[last] || (logits[k] == logits[last] && k > last);
            if (comes_after && (best < 0 || logits[k] > logits[best]))
                best = k;
        }
        order[rank] = best;
    }
}

static void print_text(const classifier *self, const char *path, const float *logits, int top)
{
    (void)printf("%s\n", path);
    for (int rank = 0; rank < top; rank++) {
        const int k = self->order[rank];
        (void)printf("  %6.2f %%  %4d  %s\n", 100.0 * softmax(logits, self->model->n_classes, k), k,
                     self->model->class_names ? self->model->class_names[k] : "");
    }
}

static void print_json(rq_json_writer *json, const classifier *self, const char *path,
                       const float *logits, int top)
{
    rq_json_open_object(json, NULL);
    rq_json_add_string(json, "path", path);
    rq_json_open_array(json, "classes");
    for (int rank = 0; rank < top; rank++) {
        const int k = self->order[rank];
        rq_json_open_object(json, NULL);
        rq_json_add_int(json, "class", k);
        rq_json_add_string(json, "name",
                           self->model->class_names ? self->model->class_names[k] : NULL);
        rq_json_add_number(json, "probability", softmax(logits, self->model->n_classes, k));
        rq_json_add_number(json, "logit", (double)logits[k]);
        rq_json_close(json);
    }
    rq_json_close(json);
    rq_json_close(json);
}

static void print_results(const classifier *self, const options *given)
{
    const int n_classes = self->model->n_classes;
    const int top = given->top < n_classes ? (int)given->top : n_classes;
    rq_json_writer json = {0};
    if (given->json) {
        json = rq_json_begin(stdout);
        rq_json_open_array(&json, "images");
    }
    for (int i = 0; i < given->images.n_items; i++) {
        const float *logits = self->logits + (size_t)i * (size_t)n_classes;
        rank_classes(logits, n_classes, top, self->order);
        if (given->json)
            print_json(&json, self, given->images.items[i], logits, top);
        else
            print_text(self, given->images.items[i], logits, top);
    }
    if (given->json)
        rq_json_end(&json);
}

static rq_status write_logits(const classifier *self, const char *path, int n_images, rq_error *err)
{
    rq_npy npy;
    rq_status status =
        rq_npy_open(&npy, path, (size_t)n_images, (size_t)self->model->n_classes, err);
    if (status == RQ_OK)
        status = rq_npy_write(&npy, self->logits, (size_t)n_images, err);
    if (status == RQ_OK)
        status = rq_npy_commit(&npy, err);
    rq_npy_abort(&npy);
    return status;
}

static rq_status classify_all(const options *given, const rq_model *model, rq_error *err)
{
    classifier self = {.model = model,
                       .arena = RQ_ARENA_INIT,
                       .transform = rq_eval_transform(&model->preprocess, given->resolution)};
    const int n_images = given->images.n_items;
    rq_status status =
        rq_open_session(&self.session, model, given->model, 1, self.transform.size, 1, err);
    if (status == RQ_OK)
        status = allocate(&self, n_images, err);
    for (int i = 0; i < n_images && status == RQ_OK; i++)
        status = classify(&self, given->images.items[i],
                          self.logits + (size_t)i * (size_t)model->n_classes, err);
    if (status == RQ_OK && given->logits)
        status = write_logits(&self, given->logits, n_images, err);
    if (status == RQ_OK)
        print_results(&self, given);
    rq_session_destroy(self.session);
    rq_sampler_deinit(&self.sampler);
    rq_arena_deinit(&self.arena);
    return status;
}

static rq_status run(const rq_command *self, int argc, char **argv, rq_error *err)
{
    options given = {.top = 5};
    rq_model model;
    bool done;
    const rq_option_set sets[] = {
        {table, sizeof table / sizeof table[0], &given},
        rq_open_option_set(&given.open),
    };
    rq_status status = rq_command_option_sets(self, sets, 2, argc, argv, &done, err);
    if (status != RQ_OK || done)
        return status;
    rq_set_threads(given.threads);
    status = rq_open_model(&model, given.model, &given.open, RQ_ANY_FORM, err);
    if (status != RQ_OK)
        return status;
    status = classify_all(&given, &model, err);
    rq_model_deinit(&model);
    return status;
}

const rq_command rq_command_classify = {"classify", "the likeliest classes of images", run};
