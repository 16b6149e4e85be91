/* repqat classify model.bin image.jpg...: the likeliest classes of single images. */
#include "cli/commands.h"

#include <math.h>

#include "runtime/base/json_line.h"
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
    rq_npy npy;
    rq_arena arena;
    uint8_t *pixels; /* [size, size, 3] */
    float *logits;   /* [images, classes] */
    int *order;      /* [classes] class at each rank, of one image */
} classifier;

static rq_status allocate(classifier *self, int n_images, rq_error *err)
{
    const size_t n_classes = (size_t)self->model->n_classes, size = (size_t)self->transform.size;
    self->pixels = rq_arena_array(&self->arena, uint8_t, size * size * 3);
    self->logits = rq_arena_array(&self->arena, float, (size_t)n_images *n_classes);
    self->order = rq_arena_array(&self->arena, int, n_classes);
    return self->pixels && self->logits && self->order ? RQ_OK : rq_no_memory(err);
}

static rq_status classify(classifier *self, const char *path, float *logits, rq_error *err)
{
    RQ_TRY(rq_sample_file(&self->sampler, path, &self->transform, NULL, self->pixels, err));
    RQ_TRY(rq_session_run(self->session, self->pixels, 1, logits, err));
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

static json_t *classes_json(const classifier *self, const float *logits, int top)
{
    const rq_model *model = self->model;
    json_t *classes = json_array();
    for (int rank = 0; rank < top; rank++) {
        const int k = self->order[rank];
        json_t *json = json_object();
        rq_json_set(&json, "class", json_integer(k));
        rq_json_set(&json, "name",
                    rq_json_string(model->class_names ? model->class_names[k] : NULL));
        rq_json_set(&json, "probability", rq_json_number(softmax(logits, model->n_classes, k)));
        rq_json_set(&json, "logit", rq_json_number((double)logits[k]));
        rq_json_append(&classes, json);
    }
    return classes;
}

static json_t *image_json(const classifier *self, const char *path, const float *logits, int top)
{
    json_t *json = json_object();
    rq_json_set(&json, "path", rq_json_string(path));
    rq_json_set(&json, "classes", classes_json(self, logits, top));
    return json;
}

static rq_status print_results(const classifier *self, const options *given, rq_error *err)
{
    const int n_classes = self->model->n_classes;
    const int top = given->top < n_classes ? (int)given->top : n_classes;
    json_t *images = given->json ? json_array() : NULL;
    for (int i = 0; i < given->images.n_items; i++) {
        const char *path = given->images.items[i];
        const float *logits = self->logits + (size_t)i * (size_t)n_classes;
        rank_classes(logits, n_classes, top, self->order);
        if (given->json)
            rq_json_append(&images, image_json(self, path, logits, top));
        else
            print_text(self, path, logits, top);
    }
    if (!given->json)
        return RQ_OK;
    json_t *json = json_object();
    rq_json_set(&json, "images", images);
    return rq_json_print(json, stdout, err);
}

static rq_status write_logits(classifier *self, const char *path, int n_images, rq_error *err)
{
    RQ_TRY(rq_npy_open(&self->npy, path, (size_t)n_images, (size_t)self->model->n_classes, err));
    RQ_TRY(rq_npy_write(&self->npy, self->logits, (size_t)n_images, err));
    return rq_npy_commit(&self->npy, err);
}

static rq_status classify_all(classifier *self, const options *given, rq_error *err)
{
    const int n_images = given->images.n_items;
    RQ_TRY(rq_open_session(&self->session, self->model, given->model, 1, self->transform.size, 1,
                           err));
    RQ_TRY(allocate(self, n_images, err));
    for (int i = 0; i < n_images; i++)
        RQ_TRY(classify(self, given->images.items[i],
                        self->logits + (size_t)i * (size_t)self->model->n_classes, err));
    if (given->logits)
        RQ_TRY(write_logits(self, given->logits, n_images, err));
    return print_results(self, given, err);
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
    RQ_TRY(rq_command_option_sets(self, sets, 2, argc, argv, &done, err));
    if (done)
        return RQ_OK;
    rq_set_threads(given.threads);
    RQ_TRY(rq_open_model(&model, given.model, &given.open, RQ_ANY_FORM, err));
    classifier all = {.model = &model,
                      .arena = RQ_ARENA_INIT,
                      .transform = rq_eval_transform(&model.preprocess, given.resolution)};
    const rq_status status = classify_all(&all, &given, err);
    rq_npy_abort(&all.npy);
    rq_session_destroy(all.session);
    rq_sampler_deinit(&all.sampler);
    rq_arena_deinit(&all.arena);
    rq_model_deinit(&model);
    return status;
}

const rq_command rq_command_classify = {"classify", "the likeliest classes of images", run};
