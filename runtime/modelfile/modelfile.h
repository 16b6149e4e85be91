/* Model files (.bin): a guarded safetensors file (tensorfile.h) whose metadata describe the model.
 *
 * Tensors: the graph's parameters, each used by exactly one node. Metadata, all strings, in this
 * order after header_crc32:
 *
 *   format         "repqat"
 *   version        "1"; a change that a reader of version 1 cannot read raises it
 *   form           train, deploy, withbn, qat or int8
 *   arch           "RepVGG-A0" or a description (arch.h)
 *   classes        decimal number
 *   class_names    JSON array of that many strings; absent when unknown
 *   preprocessing  JSON object: resize, crop (pixels), mean, std (3 numbers each, of pixel / 255),
 *                  interpolation "bilinear", colour_order "RGB"
 *   graph          JSON object, below
 *   command        the command line that made the file; absent when unknown
 *   seed           decimal number, u64
 *   parent         rq_file_id of the file it was made from (file.h); absent when there is none
 *   isa_proof      "true" or "false" (reference/integer.h)
 *   crc32          checksums of the tensors
 *
 * The graph: {"nodes": [NODE, ...]} in topological order, the input first, the output last. A node:
 *
 *   op      name of the operator (graph.h)
 *   name    unique
 *   inputs  names of earlier nodes
 *   params  slot name -> tensor name; absent when there are none
 *   kernel, stride, pad, dilation ([height, width] each) and groups, where rq_op_has_window
 *   eps     of batch_norm
 *   constant  true: training leaves weight and bias as they are; absent: false. Files of block csla
 *             (arch.h) from before this member lack it; the loader sets it there
 *
 * Other members are an error. All of it is checked on loading, rq_graph_shapes at the crop
 * included; the output must be [N, classes] f32. Every file that we write is little-endian. */
#ifndef RQ_RUNTIME_MODELFILE_MODELFILE_H
#define RQ_RUNTIME_MODELFILE_MODELFILE_H

#include "runtime/model/model.h"
#include "runtime/modelfile/tensorfile.h"

/* Read a .bin model file. *out is initialised by the call and owned by the caller. Errors:
 * RQ_ERR_IO, RQ_ERR_FILE (the rule broken and the byte offset), RQ_ERR_MODEL, RQ_ERR_NOMEM; the
 * message starts with the path. */
RQ_NODISCARD rq_status rq_model_load(rq_model *out, const char *path, rq_error *err);

/* The same, but the parameters are read-only views of the file, which stays open until
 * rq_model_deinit: nothing is copied, and what has been read can leave memory (rq_graph_release).
 * For models that are read and not changed; the file must not be truncated meanwhile (file.h). */
RQ_NODISCARD rq_status rq_model_map(rq_model *out, const char *path, rq_error *err);

/* The same from a file that is open already and must stay open as long as the model. path is for
 * messages. */
RQ_NODISCARD rq_status rq_model_view(rq_model *out, rq_tensorfile *file, const char *path,
                                     rq_error *err);

/* Write a model's bytes to a writer, which stays open. Errors: as below. */
RQ_NODISCARD rq_status rq_model_write(const rq_model *model, rq_writer *writer, rq_error *err);

/* Write atomically. Errors: RQ_ERR_IO, RQ_ERR_NOMEM, RQ_ERR_MODEL (rq_model_load would refuse it);
 * the previous file is then untouched. */
RQ_NODISCARD rq_status rq_model_save(const rq_model *model, const char *path, rq_error *err);

/* Does the file say that it is one of our models? */
bool rq_model_is_in(const rq_tensorfile *file);

/* Append the nodes that text describes to a graph without nodes, their tensors copied from file or
 * as views of it. Pages are released once they are checked. Errors: RQ_ERR_FILE, RQ_ERR_MODEL,
 * RQ_ERR_NOMEM. */
RQ_NODISCARD rq_status rq_graph_read_json(rq_graph *graph, const char *text, rq_tensorfile *file,
                                          bool as_views, rq_error *err);

/* The text, for free(); NULL without memory or when a name is not UTF-8. */
char *rq_graph_write_json(const rq_graph *graph);

#endif
