/* Parameters and velocities by name. */
#include "qat/checkpoint.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/options.h"
#include "runtime/model/tensorfile.h"

#define FORMAT "repqat-checkpoint"

static rq_status velocity_name(rq_arena *arena, const char *param, const char **out, rq_error *err)
{
    *out = rq_arena_printf(arena, "velocity/%s", param);
    return *out ? RQ_OK : rq_fail(err, RQ_ERR_NOMEM, "out of memory");
}

rq_status rq_checkpoint_save(const char *path, const rq_model *model, const rq_optimizer *optimizer,
                             const rq_progress *progress, const char *run, rq_error *err)
{
    const rq_graph *graph = &model->graph;
    rq_arena arena = RQ_ARENA_INIT;
    void *memory = NULL;
    int n = 0;
    rq_status status =
        rq_arena_array(&arena, &memory, 2 * (size_t)graph->n_params, sizeof(rq_param), err);
    rq_param *tensors = memory;
    for (int i = 0; i < graph->n_params && status == RQ_OK; i++) {
        tensors[n++] = graph->params[i];
        float *velocity = rq_optimizer_state(optimizer, i, 0);
        if (!velocity)
            continue;
        tensors[n].tensor = graph->params[i].tensor;
        tensors[n].tensor.data = velocity;
        status = velocity_name(&arena, graph->params[i].name, &tensors[n++].name, err);
    }
    char epoch[16], best[40];
    (void)snprintf(epoch, sizeof epoch, "%d", progress->epoch);
    (void)snprintf(best, sizeof best, "%.17g", progress->best_top1);
    const rq_text_pair metadata[] = {
        {"format", FORMAT}, {"epoch", epoch}, {"best_top1", best}, {"run", run}};
    if (status == RQ_OK)
        status = rq_tensorfile_write(path, tensors, n, metadata, 4, err);
    rq_arena_deinit(&arena);
    return status;
}

/* The tensor of this name, which must be like another; verified, so that copying it cannot fail. */
static rq_status find_like(rq_tensorfile *file, const char *name, const rq_tensor *like,
                           rq_tensor *out, rq_error *err)
{
    const rq_status status = rq_tensorfile_find(file, name, out, err);
    if (status != RQ_OK)
        return status;
    if (out->dtype != like->dtype || out->rank != like->rank ||
        memcmp(out->dim, like->dim, (size_t)like->rank * sizeof *like->dim) != 0)
        return rq_fail(err, RQ_ERR_FILE, "%s has another shape than the model's", name);
    return RQ_OK;
}

/* Show both descriptions from the first word that differs. */
static rq_status fail_other_run(const char *saved, const char *run, rq_error *err)
{
    size_t word = 0;
    for (size_t i = 0; saved[i] && saved[i] == run[i]; i++)
        if (saved[i] == ' ')
            word = i + 1;
    return rq_fail(err, RQ_ERR_FILE,
                   "a checkpoint of another run: it was [%.120s], this is [%.120s]", saved + word,
                   run + word);
}

static rq_status read_progress(const rq_tensorfile *file, rq_progress *progress, const char *run,
                               rq_error *err)
{
    const char *format = rq_tensorfile_metadata(file, "format");
    const char *saved_run = rq_tensorfile_metadata(file, "run");
    const char *epoch = rq_tensorfile_metadata(file, "epoch");
    const char *best = rq_tensorfile_metadata(file, "best_top1");
    int64_t epochs;
    if (!format || strcmp(format, FORMAT) != 0 || !saved_run || !epoch || !best ||
        !rq_tensorfile_is_guarded(file) || !rq_parse_int(epoch, 0, 1 << 30, &epochs) ||
        !rq_parse_float(best, -1.0, 100.0, &progress->best_top1))
        return rq_fail(err, RQ_ERR_FILE, "not a training checkpoint");
    if (strcmp(saved_run, run) != 0)
        return fail_other_run(saved_run, run, err);
    progress->epoch = (int)epochs;
    return RQ_OK;
}

/* A tensor of the file and where it goes. */
typedef struct restore {
    rq_tensor from;
    void *to;
} restore;

/* All parameters and velocities; items has room for them. */
static rq_status find_all(rq_tensorfile *file, const rq_model *model, const rq_optimizer *optimizer,
                          restore *items, int *n_items, rq_arena *arena, rq_error *err)
{
    rq_status status = RQ_OK;
    for (int i = 0; i < model->graph.n_params && status == RQ_OK; i++) {
        const rq_param *param = &model->graph.params[i];
        restore *item = &items[(*n_items)++];
        item->to = param->tensor.data;
        status = find_like(file, param->name, &param->tensor, &item->from, err);
        if (status != RQ_OK || !rq_optimizer_state(optimizer, i, 0))
            continue;
        const char *name;
        item = &items[(*n_items)++];
        item->to = rq_optimizer_state(optimizer, i, 0);
        status = velocity_name(arena, param->name, &name, err);
        if (status == RQ_OK)
            status = find_like(file, name, &param->tensor, &item->from, err);
    }
    return status;
}

rq_status rq_checkpoint_load(const char *path, rq_model *model, const rq_optimizer *optimizer,
                             rq_progress *progress, const char *run, rq_error *err)
{
    rq_tensorfile *file = NULL;
    rq_arena arena = RQ_ARENA_INIT;
    rq_progress saved;
    void *items = NULL;
    int n_items = 0;
    rq_status status = rq_tensorfile_open(&file, path, err);
    if (status != RQ_OK)
        return status;
    status = read_progress(file, &saved, run, err);
    if (status == RQ_OK)
        status =
            rq_arena_array(&arena, &items, 2 * (size_t)model->graph.n_params, sizeof(restore), err);
    if (status == RQ_OK)
        status = find_all(file, model, optimizer, items, &n_items, &arena, err);
    if (status == RQ_OK) {
        for (const restore *item = items; n_items > 0; item++, n_items--)
            memcpy(item->to, item->from.data,
                   rq_tensor_elems(&item->from) * rq_dtype_size(item->from.dtype));
        *progress = saved;
    } else {
        rq_error_prefix(err, "%s", path);
    }
    rq_tensorfile_close(file);
    rq_arena_deinit(&arena);
    return status;
}
