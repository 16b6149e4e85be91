/* A walk over the values that a step left behind. */
#include "qat/step/not_finite.h"

#include <math.h>

static bool all_finite(const float *values, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!isfinite(values[i]))
            return false;
    return true;
}

const char *rq_first_not_finite(rq_trainer *trainer, const rq_model *model, int batch, int height,
                                int width)
{
    const rq_graph *graph = &model->graph;
    const int crop = model->preprocess.crop;
    void *memory = NULL;
    const char *name = NULL;
    if (rq_alloc_array_old(&memory, (size_t)graph->n_nodes, sizeof(rq_shape), NULL) != RQ_OK)
        return NULL;
    rq_shape *shapes = memory;
    const rq_status status =
        rq_graph_shapes(graph, batch, height ? height : crop, width ? width : crop, shapes, NULL);
    for (int i = 0; i < graph->n_nodes && status == RQ_OK && !name; i++) {
        float scale;
        const float *value = rq_trainer_value(trainer, i, &scale);
        if (value && !(isfinite(scale) && all_finite(value, rq_shape_elems(&shapes[i]))))
            name = graph->nodes[i].name;
    }
    rq_free(memory);
    return name;
}
