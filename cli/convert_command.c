/* The convert command: map, merge, write aside, compare, put in place. At no time is more than one
 * copy of the weights in memory. */
#include "cli/commands.h"

#include "cli/report.h"
#include "fuse/fold.h"
#include "runtime/base/file.h"
#include "runtime/eval/open_model.h"
#include "runtime/modelfile/modelfile.h"

typedef struct convert_options {
    const char *in, *out;
    rq_open_options open;
    int64_t images, seed;
    double tolerance;
    bool json;
} convert_options;

static const rq_option table[] = {
    RQ_POSITIONAL("IN", convert_options, in, "model file of form train or withbn, or checkpoint"),
    RQ_POSITIONAL("OUT", convert_options, out, "model file to write, form deploy"),
    RQ_OPTION_INT("images", 'n', convert_options, images, "N", 1, 100000,
                  "random images on which both forms are compared"),
    RQ_OPTION_INT("seed", 0, convert_options, seed, "N", 0, INT64_MAX, "of the random images"),
    RQ_OPTION_FLOAT("tolerance", 0, convert_options, tolerance, "X", 0, 1,
                    "largest difference, relative to the largest logit"),
    RQ_OPTION_FLAG("json", 0, convert_options, json, "print one JSON object"),
};

/* Write a model where it is not yet the writer's target, and take the file's bytes in its place:
 * the memory is then free, and what follows sees what was written. A pipe or device cannot be read
 * again: *written is then false, and the model stays as it is. */
static rq_status write_aside(rq_model *model, rq_writer *writer, bool *written, rq_error *err)
{
    const char *temporary = NULL;
    RQ_TRY(rq_writer_flush(writer, &temporary, err));
    *written = temporary != NULL;
    if (!temporary)
        return RQ_OK;
    RQ_TRY(rq_model_write(model, writer, err));
    RQ_TRY(rq_writer_flush(writer, &temporary, err));
    rq_model_deinit(model);
    return rq_model_map(model, temporary, err);
}

/* Had most of the values to be copied (halves, old checkpoints)? */
static bool is_copied(const rq_graph *graph)
{
    size_t n_views = 0, n_copies = 0;
    for (int i = 0; i < graph->n_params; i++) {
        const rq_tensor *tensor = &graph->params[i].tensor;
        *(rq_graph_is_view(graph, tensor) ? &n_views : &n_copies) += rq_tensor_elems(tensor);
    }
    return n_copies > n_views;
}

/* Such a model becomes a file next to OUT for a while, so that it takes no more memory than others.
 * The file goes with the model: it is mapped, and has no name any more. */
static rq_status spill(rq_model *model, const char *out_path, rq_error *err)
{
    rq_writer *writer = NULL;
    bool written;
    RQ_TRY(rq_writer_open(&writer, out_path, err));
    const rq_status status = write_aside(model, writer, &written, err);
    rq_writer_abort(writer);
    return status;
}

/* Merged branches differ at borders or everywhere, so small images show what large ones do, in less
 * time; the model's own size where it takes no other. */
static rq_status choose_size(const rq_model *model, int *size, rq_error *err)
{
    enum { SMALL = 96 };
    const int crop = model->preprocess.crop;
    rq_shape *shapes = rq_alloc_array(rq_shape, model->graph.n_nodes);
    if (!shapes)
        return rq_no_memory(err);
    const bool takes_small = !rq_graph_shapes(&model->graph, 1, SMALL, SMALL, shapes, NULL);
    *size = takes_small && crop > SMALL ? SMALL : crop;
    rq_free(shapes);
    return RQ_OK;
}

static rq_status compare_within(rq_difference *difference, const rq_model *in, const rq_model *out,
                                const convert_options *options, rq_error *err)
{
    int size;
    RQ_TRY(choose_size(in, &size, err));
    RQ_TRY(rq_difference_random(difference, in, out, size, (int)options->images,
                                (uint64_t)options->seed, err));
    return rq_difference_judge(difference, options->tolerance, err);
}

static rq_status compare(rq_difference *difference, const rq_model *in, const rq_model *out,
                         const convert_options *options, rq_error *err)
{
    const rq_status status = compare_within(difference, in, out, options, err);
    if (status)
        rq_error_prefix(err, "%s", options->in);
    return status;
}

static rq_status fuse(rq_model *out, const rq_model *in, const convert_options *options, int argc,
                      char **argv, rq_error *err)
{
    const rq_status status = rq_fuse(out, in, err);
    if (!status)
        return rq_model_set_origin(out, options->in, argc, argv, err);
    rq_error_prefix(err, "%s", options->in);
    return status;
}

/* A checkpoint may be merged already: then it becomes a model file. */
static rq_status open_input(rq_model *out, const convert_options *options, rq_error *err)
{
    rq_weight_file *file;
    RQ_TRY(rq_weight_file_open(&file, options->in, err));
    const unsigned merged = rq_weight_file_is_checkpoint(file) ? 1u << RQ_FORM_DEPLOY : 0;
    const rq_status status = rq_open_model_from(
        out, file, &options->open, 1u << RQ_FORM_TRAIN | 1u << RQ_FORM_WITHBN | merged, err);
    rq_weight_file_close(file);
    return !status && is_copied(&out->graph) ? spill(out, options->out, err) : status;
}

/* Write out, which is not in its place before it has been compared with in. */
static rq_status write_checked(rq_difference *difference, const rq_model *in, rq_model *out,
                               const convert_options *options, rq_writer *writer, rq_error *err)
{
    bool written = false;
    RQ_TRY(write_aside(out, writer, &written, err));
    RQ_TRY(compare(difference, in, out, options, err));
    return written ? RQ_OK : rq_model_write(out, writer, err);
}

static rq_status convert(rq_model *in, rq_model *out, const convert_options *options, int argc,
                         char **argv, rq_error *err)
{
    rq_difference difference;
    rq_writer *writer = NULL;
    RQ_TRY(rq_writer_probe(options->out, err));
    RQ_TRY(open_input(in, options, err));
    RQ_TRY(fuse(out, in, options, argc, argv, err));
    RQ_TRY(rq_writer_open(&writer, options->out, err));
    const rq_status status = write_checked(&difference, in, out, options, writer, err);
    if (status) {
        rq_writer_abort(writer);
        return status;
    }
    RQ_TRY(rq_writer_commit(writer, err));
    return rq_difference_print(&difference, options->tolerance, "random images", options->json,
                               err);
}

static rq_status run(const rq_command *self, int argc, char **argv, rq_error *err)
{
    convert_options options = {.images = 4, .tolerance = RQ_DEFAULT_TOLERANCE};
    rq_model in = RQ_MODEL_INIT, out = RQ_MODEL_INIT;
    bool done;
    const rq_option_set sets[] = {
        {table, sizeof table / sizeof table[0], &options},
        rq_open_option_set(&options.open),
    };
    RQ_TRY(rq_command_option_sets(self, sets, 2, argc, argv, &done, err));
    if (done)
        return RQ_OK;
    const rq_status status = convert(&in, &out, &options, argc, argv, err);
    rq_model_deinit(&in);
    rq_model_deinit(&out);
    return status;
}

const rq_command rq_command_convert = {
    "convert", "merge the branches of a trained model into plain convolutions", run};
