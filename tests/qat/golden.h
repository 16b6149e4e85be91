/* Golden tensors of PyTorch (tests/golden/make_torch.py) and how graphs take them. */
#ifndef RQ_TESTS_QAT_GOLDEN_H
#define RQ_TESTS_QAT_GOLDEN_H

#include "runtime/model/graph.h"
#include "runtime/modelfile/tensorfile.h"

rq_tensorfile *golden_open(const char *name);

/* The tensor PREFIX.NAME. */
rq_tensor golden(rq_tensorfile *file, const char *prefix, const char *name);

const float *golden_f32(rq_tensorfile *file, const char *prefix, const char *name);

/* A parameter's values replaced by a golden tensor's. */
void golden_set(rq_graph *graph, int node, rq_slot slot, rq_tensor source);

#endif
