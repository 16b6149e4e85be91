/* All tensors of a run by name, as one list for both ways; and the numbers that go with them. */
#include "qat/run/run_file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/options.h"
#include "runtime/modelfile/tensorfile.h"

#define FORMAT  "repqat-checkpoint"
#define VERSION "2"

/* ---- the tensors ---- */

typedef struct tensor_list {
    rq_arena arena;
    rq_param *tensors; /* data: where the values are in memory */
    int n;
} tensor_list;

static rq_status add(tensor_list *list, const char *kind, const rq_param *param, void *data,
                     rq_error *err)
{
    rq_param *tensor = &list->tensors[list->n++];
    *tensor = *param;
    tensor->tensor.data = data;
    if (kind)
        tensor->name = rq_arena_printf(&list->arena, "%s/%s", kind, param->name);
    return tensor->name ? RQ_OK : rq_no_memory(err);
}

static rq_status add_param(tensor_list *list, const rq_training *training, int i, rq_error *err)
{
    const rq_param *param = &training->model->graph.params[i];
    RQ_TRY(add(list, NULL, param, param->tensor.data, err));
    for (int k = 0; k < rq_optimizer_n_states(training->optimizer); k++) {
        float *state = rq_optimizer_state(training->optimizer, i, k);
        if (state)
            RQ_TRY(add(list, rq_optimizer_state_name(training->optimizer, k), param, state, err));
    }
    return training->ema ? add(list, "ema", param, rq_ema_values(training->ema, i), err) : RQ_OK;
}

/* To be deinitialised by the caller in any case. */
static rq_status list_tensors(tensor_list *list, const rq_training *training, rq_error *err)
{
    const int n_params = training->model->graph.n_params;
    list->tensors = rq_arena_array(&list->arena, rq_param, n_params * (2 + RQ_MAX_STATES));
    if (!list->tensors)
        return rq_no_memory(err);
    for (int i = 0; i < n_params; i++)
        RQ_TRY(add_param(list, training, i, err));
    return RQ_OK;
}

/* ---- the numbers ---- */

typedef struct field {
    const char *key;
    size_t offset;
    bool is_count; /* int64_t, at least 0; else a double from min to max */
    double min, max;
} field;

#define COUNT(name)                                                                                \
    {                                                                                              \
#name, offsetof(rq_progress, name), true, 0.0, 0.0                                         \
    }
#define NUMBER(name, lo, hi)                                                                       \
    {                                                                                              \
#name, offsetof(rq_progress, name), false, (lo), (hi)                                      \
    }
static const field fields[] = {
    COUNT(epoch),
    COUNT(step),
    COUNT(total_steps),
    NUMBER(best_top1, -1.0, 100.0),
    NUMBER(best_ema_top1, -1.0, 100.0),
    NUMBER(last_top1, -1.0, 100.0),
    NUMBER(last_top5, -1.0, 100.0),
    NUMBER(seconds, 0.0, 1e12),
    NUMBER(meters.loss, -1e300, 1e300),
    COUNT(meters.counted),
    COUNT(meters.top1),
    COUNT(meters.top5),
};
enum { N_FIELDS = sizeof fields / sizeof fields[0], NUMBER_BYTES = 40, N_OTHERS = 4 };
static const int64_t MAX_COUNT = (int64_t)1 << 48;

static void print_field(const field *f, const rq_progress *progress, char *text)
{
    const char *at = (const char *)progress + f->offset;
    if (f->is_count)
        (void)snprintf(text, NUMBER_BYTES, "%lld", (long long)*(const int64_t *)(const void *)at);
    else
        (void)snprintf(text, NUMBER_BYTES, "%.17g", *(const double *)(const void *)at);
}

static bool parse_field(const field *f, const char *text, rq_progress *progress)
{
    void *at = (char *)progress + f->offset;
    if (!text)
        return false;
    return f->is_count ? rq_parse_int(text, 0, MAX_COUNT, at)
                       : rq_parse_float(text, f->min, f->max, at);
}

static bool read_progress(const rq_tensorfile *file, rq_progress *progress)
{
    for (size_t i = 0; i < N_FIELDS; i++)
        if (!parse_field(&fields[i], rq_tensorfile_metadata(file, fields[i].key), progress))
            return false;
    return true;
}

/* ---- saving ---- */

rq_status rq_run_file_save(const char *path, const rq_training *training,
                           const rq_progress *progress, const char *run, rq_error *err)
{
    char numbers[N_FIELDS][NUMBER_BYTES], steps[NUMBER_BYTES];
    rq_text_pair metadata[N_OTHERS + N_FIELDS] = {
        {"format", FORMAT}, {"version", VERSION}, {"run", run}, {"optimizer_steps", steps}};
    (void)snprintf(steps, sizeof steps, "%lld", (long long)rq_optimizer_steps(training->optimizer));
    for (size_t i = 0; i < N_FIELDS; i++) {
        print_field(&fields[i], progress, numbers[i]);
        metadata[N_OTHERS + i] = (rq_text_pair){fields[i].key, numbers[i]};
    }
    tensor_list list = {.arena = RQ_ARENA_INIT};
    rq_status status = list_tensors(&list, training, err);
    if (!status)
        status =
            rq_tensorfile_write(path, list.tensors, list.n, metadata, N_OTHERS + N_FIELDS, err);
    rq_arena_deinit(&list.arena);
    return status;
}

/* ---- loading ---- */

/* Show both descriptions from the first word that differs. */
static rq_status fail_other_run(const char *saved, const char *run, rq_error *err)
{
    size_t word = 0;
    for (size_t i = 0; saved[i] && saved[i] == run[i]; i++)
        if (saved[i] == ' ')
            word = i + 1;
    return rq_fail(err, RQ_ERR_FILE,
                   "the run file of another run: it was [%.120s], this is [%.120s]", saved + word,
                   run + word);
}

/* run NULL: any. */
static rq_status read_header(const rq_tensorfile *file, rq_progress *progress,
                             int64_t *optimizer_steps, const char *run, rq_error *err)
{
    const char *format = rq_tensorfile_metadata(file, "format");
    const char *version = rq_tensorfile_metadata(file, "version");
    const char *saved_run = rq_tensorfile_metadata(file, "run");
    const char *steps = rq_tensorfile_metadata(file, "optimizer_steps");
    const bool is_ours = format && strcmp(format, FORMAT) == 0 && rq_tensorfile_is_guarded(file);
    if (is_ours && (!version || strcmp(version, VERSION) != 0))
        return rq_fail(err, RQ_ERR_FILE, "a run file of version %.16s, this reads %s",
                       version ? version : "1", VERSION);
    if (!is_ours || !saved_run || !steps || !rq_parse_int(steps, 0, MAX_COUNT, optimizer_steps) ||
        !read_progress(file, progress))
        return rq_fail(err, RQ_ERR_FILE, "not a run file");
    return !run || strcmp(saved_run, run) == 0 ? RQ_OK : fail_other_run(saved_run, run, err);
}

/* The file's tensor of this name, which must be alike; verified, so that copying it cannot fail. */
static rq_status find_like(rq_tensorfile *file, const rq_param *like, const void **data,
                           rq_error *err)
{
    rq_tensor found;
    const rq_tensor *want = &like->tensor;
    RQ_TRY(rq_tensorfile_find(file, like->name, &found, err));
    if (found.dtype != want->dtype || found.rank != want->rank ||
        memcmp(found.dim, want->dim, (size_t)want->rank * sizeof *want->dim) != 0)
        return rq_fail(err, RQ_ERR_FILE, "%s has another shape than the model's", like->name);
    *data = found.data;
    return RQ_OK;
}

/* Find all tensors before the first is copied. */
static rq_status restore(rq_tensorfile *file, tensor_list *list, rq_error *err)
{
    const void **data = rq_arena_array(&list->arena, const void *, list->n);
    if (!data)
        return rq_no_memory(err);
    for (int i = 0; i < list->n; i++)
        RQ_TRY(find_like(file, &list->tensors[i], &data[i], err));
    for (int i = 0; i < list->n; i++) {
        const rq_tensor *tensor = &list->tensors[i].tensor;
        memcpy(tensor->data, data[i], rq_tensor_elems(tensor) * rq_dtype_size(tensor->dtype));
    }
    return RQ_OK;
}

static rq_status load(rq_tensorfile *file, tensor_list *list, const rq_training *training,
                      rq_progress *progress, const char *run, rq_error *err)
{
    int64_t optimizer_steps;
    rq_progress saved = RQ_PROGRESS_INIT;
    RQ_TRY(read_header(file, &saved, &optimizer_steps, run, err));
    RQ_TRY(list_tensors(list, training, err));
    RQ_TRY(restore(file, list, err));
    rq_optimizer_set_steps(training->optimizer, optimizer_steps);
    *progress = saved;
    return RQ_OK;
}

rq_status rq_run_file_load(const char *path, const rq_training *training, rq_progress *progress,
                           const char *run, rq_error *err)
{
    rq_tensorfile *file = NULL;
    tensor_list list = {.arena = RQ_ARENA_INIT};
    RQ_TRY(rq_tensorfile_open(&file, path, err));
    const rq_status status = load(file, &list, training, progress, run, err);
    if (status)
        rq_error_prefix(err, "%s", path);
    rq_tensorfile_close(file);
    rq_arena_deinit(&list.arena);
    return status;
}

rq_status rq_run_file_peek(const char *path, rq_progress *progress, rq_error *err)
{
    rq_tensorfile *file = NULL;
    rq_progress saved = RQ_PROGRESS_INIT;
    int64_t optimizer_steps;
    RQ_TRY(rq_tensorfile_open(&file, path, err));
    const rq_status status = read_header(file, &saved, &optimizer_steps, NULL, err);
    if (status)
        rq_error_prefix(err, "%s", path);
    else
        *progress = saved;
    rq_tensorfile_close(file);
    return status;
}
