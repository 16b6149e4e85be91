/* Gates of squeeze-and-excitation: a sigmoid as integers, and where gates are in a graph.
 *
 * A quantized sigmoid gives q = rne(255 * sigmoid(x)), real = q / 255. It is a search in 255
 * constants (the x at which q changes), so it is exactly rounded and gives the same bits on every
 * machine, whatever its expf. */
#ifndef RQ_RUNTIME_MODEL_GATE_H
#define RQ_RUNTIME_MODEL_GATE_H

#include "runtime/model/graph.h"

#define RQ_GATE_SCALE 0x1.010102p-8f /* 1 / 255, rounded to f32 */

/* rne(255 * sigmoid(x)) of the real x, 127.5 (x = 0) to 128. NaN gives 0. */
uint8_t rq_gate_level(float x);

/* Is this node a fake_quant after a sigmoid? Then it is no range that training observes: both are
 * computed as rq_gate_level, and SCALE must be RQ_GATE_SCALE, which the check looks at. Errors:
 * RQ_ERR_MODEL. */
bool rq_is_gate(const rq_graph *graph, int node);
RQ_NODISCARD rq_status rq_gate_check(const rq_graph *graph, int node, rq_error *err);

/* The value that is pooled for the gate that a node helps to compute: the node is in a chain of
 * operators with one input, from a global_avg_pool to the gate of a mul. -1 when there is no such
 * chain. */
int rq_gate_source(const rq_graph *graph, int node);

#endif
