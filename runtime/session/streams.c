/* Threads that wait for a run, take small batches by an atomic counter until none is left, and wait
 * again. Each creates, runs and destroys its own executor: oneDNN's scratchpads belong to the thread
 * that made them. */
#include "runtime/session/streams.h"

#include <assert.h>
#include <limits.h>
#include <omp.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "runtime/session/executor.h"

enum { MAX_STREAM_BATCH = 16, DEFAULT_CACHE_BYTES = 1 << 20 };

typedef struct stream {
    rq_streams *all;
    pthread_t thread;
    int cpu; /* to stay on; -1: any */
    rq_executor *executor;
    size_t n_runs; /* runs that this thread has finished */
    bool is_ready, stop;
    rq_status status; /* of creation, then of the last run */
    rq_error err;
} stream;

struct rq_streams {
    stream *streams;
    int n_started;
    rq_stream_plan plan;
    const rq_model *model;      /* during creation only */
    rq_session_options options; /* of each executor */
    size_t image_bytes;
    pthread_mutex_t lock;
    pthread_cond_t work, done;
    /* of this run */
    size_t n_runs; /* that were started */
    const uint8_t *pixels;
    float *logits;
    int n;
    atomic_int next; /* first image that nobody has taken */
};

/* ---- how many at once ---- */

static int by_size(const void *a, const void *b)
{
    const size_t x = *(const size_t *)a, y = *(const size_t *)b;
    return (x > y) - (x < y);
}

static size_t value_bytes(const rq_shape *shape)
{
    return rq_shape_elems(shape) * rq_dtype_size(shape->dtype);
}

/* Bytes that a convolution reads and writes for one image, the median over the convolutions; 0
 * without any. */
static rq_status find_median_layer(size_t *out, const rq_graph *graph, int height, int width,
                                   rq_arena *arena, rq_error *err)
{
    rq_shape *shapes = rq_arena_array(arena, rq_shape, graph->n_nodes);
    size_t *sizes = rq_arena_array(arena, size_t, graph->n_nodes), n = 0;
    if (!shapes || !sizes)
        return rq_no_memory(err);
    RQ_TRY(rq_graph_shapes(graph, 1, height, width, shapes, err));
    for (int i = 0; i < graph->n_nodes; i++) {
        const rq_op op = graph->nodes[i].op;
        if (op == RQ_OP_CONV || op == RQ_OP_QCONV)
            sizes[n++] = value_bytes(&shapes[graph->nodes[i].input[0]]) + value_bytes(&shapes[i]);
    }
    if (n)
        qsort(sizes, n, sizeof *sizes, by_size);
    *out = n ? sizes[n / 2] : 0;
    return RQ_OK;
}

static int clamp(size_t x, int low, int high)
{
    return x < (size_t)low ? low : x > (size_t)high ? high : (int)x;
}

/* A session computes its whole batch, however many images it gets: of the sizes up to most, the one
 * with which the busiest stream computes the fewest images, and of several the largest. */
static int even_batch(int n_images, int n_streams, int most)
{
    int best = 1, fewest = INT_MAX;
    for (int batch = 1; batch <= most; batch++) {
        const int n_batches = (n_images + batch - 1) / batch;
        const int computed = (n_batches + n_streams - 1) / n_streams * batch;
        if (computed <= fewest) {
            fewest = computed;
            best = batch;
        }
    }
    return best;
}

rq_status rq_streams_plan(rq_stream_plan *out, const rq_model *model,
                          const rq_session_options *options, rq_error *err)
{
    const int wanted =
        options->n_streams == RQ_STREAMS_AUTO ? omp_get_max_threads() : options->n_streams;
    const long cache = sysconf(_SC_LEVEL2_CACHE_SIZE);
    size_t layer_bytes = 0;
    *out = (rq_stream_plan){1, options->batch};
    out->n_streams = clamp((size_t)wanted, 1, options->batch);
    if (out->n_streams == 1)
        return RQ_OK;
    rq_arena arena = RQ_ARENA_INIT;
    const rq_status status = find_median_layer(&layer_bytes, &model->graph, options->height,
                                               options->width, &arena, err);
    rq_arena_deinit(&arena);
    const size_t fit = (cache > 0 ? (size_t)cache : DEFAULT_CACHE_BYTES) / (layer_bytes + 1);
    out->batch = even_batch(options->batch, out->n_streams, clamp(fit, 1, MAX_STREAM_BATCH));
    return status;
}

/* ---- the threads ---- */

static void stay_on_cpu(int cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((size_t)cpu, &set);
    (void)pthread_setaffinity_np(pthread_self(), sizeof set, &set); /* a slower run otherwise */
}

static rq_status create_executor(stream *self)
{
    const rq_streams *all = self->all;
    const rq_executor *weights_of = self == all->streams ? NULL : all->streams[0].executor;
    return rq_executor_create(&self->executor, all->model, &all->options, weights_of, &self->err);
}

static rq_status run_batches(stream *self)
{
    rq_streams *all = self->all;
    const size_t n_classes = (size_t)rq_executor_get_info(self->executor).n_classes;
    const int batch = all->plan.batch;
    for (int first; (first = atomic_fetch_add(&all->next, batch)) < all->n;)
        RQ_TRY(rq_executor_run(self->executor, all->pixels + (size_t)first * all->image_bytes,
                               all->n - first < batch ? all->n - first : batch,
                               all->logits + (size_t)first * n_classes, NULL, &self->err));
    return RQ_OK;
}

static void *serve(void *argument)
{
    stream *self = argument;
    rq_streams *all = self->all;
    omp_set_num_threads(1); /* of this thread's parallel regions */
    if (self->cpu >= 0)
        stay_on_cpu(self->cpu);
    self->status = create_executor(self);
    (void)pthread_mutex_lock(&all->lock);
    self->is_ready = true;
    (void)pthread_cond_broadcast(&all->done);
    for (;;) {
        while (!self->stop && self->n_runs == all->n_runs)
            (void)pthread_cond_wait(&all->work, &all->lock);
        if (self->stop)
            break;
        (void)pthread_mutex_unlock(&all->lock);
        self->status = run_batches(self);
        (void)pthread_mutex_lock(&all->lock);
        self->n_runs++;
        (void)pthread_cond_broadcast(&all->done);
    }
    (void)pthread_mutex_unlock(&all->lock);
    rq_executor_destroy(self->executor);
    return NULL;
}

/* The k-th CPU of this process, or -1 where there are not exactly n. */
static int nth_cpu(int k, int n)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof set, &set) != 0 || CPU_COUNT(&set) != n)
        return -1;
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET((size_t)cpu, &set) && k-- == 0)
            return cpu;
    return -1;
}

/* Start the next thread and wait until its executor exists: the first one's weights are shared. */
static rq_status start_stream(rq_streams *all, rq_error *err)
{
    stream *self = &all->streams[all->n_started];
    *self = (stream){
        .all = all, .cpu = nth_cpu(all->n_started, all->plan.n_streams), .err = RQ_ERROR_INIT};
    if (pthread_create(&self->thread, NULL, serve, self) != 0)
        return rq_fail(err, RQ_ERR_NOMEM, "stream %d: no thread", all->n_started);
    all->n_started++;
    (void)pthread_mutex_lock(&all->lock);
    while (!self->is_ready)
        (void)pthread_cond_wait(&all->done, &all->lock);
    (void)pthread_mutex_unlock(&all->lock);
    if (self->status && err)
        *err = self->err;
    return self->status;
}

static rq_status start_streams(rq_streams *all, rq_error *err)
{
    all->streams = rq_alloc_array(stream, all->plan.n_streams);
    if (!all->streams)
        return rq_no_memory(err);
    while (all->n_started < all->plan.n_streams)
        RQ_TRY(start_stream(all, err));
    return RQ_OK;
}

rq_status rq_streams_create(rq_streams **out, const rq_model *model,
                            const rq_session_options *options, rq_stream_plan plan, rq_error *err)
{
    rq_streams *all = rq_alloc(sizeof *all);
    assert(plan.n_streams >= 1 && plan.batch >= 1);
    if (!all)
        return rq_no_memory(err);
    (void)pthread_mutex_init(&all->lock, NULL);
    (void)pthread_cond_init(&all->work, NULL);
    (void)pthread_cond_init(&all->done, NULL);
    all->plan = plan;
    all->model = model;
    all->options = *options;
    all->options.batch = plan.batch;
    all->image_bytes = (size_t)options->height * (size_t)options->width * 3;
    const rq_status status = start_streams(all, err);
    all->model = NULL;
    if (status)
        rq_streams_destroy(all);
    else
        *out = all;
    return status;
}

/* The first stream's weights are the others': it goes last. */
void rq_streams_destroy(rq_streams *all)
{
    if (!all)
        return;
    while (all->n_started > 0) {
        stream *self = &all->streams[--all->n_started];
        (void)pthread_mutex_lock(&all->lock);
        self->stop = true;
        (void)pthread_cond_broadcast(&all->work);
        (void)pthread_mutex_unlock(&all->lock);
        (void)pthread_join(self->thread, NULL);
    }
    (void)pthread_cond_destroy(&all->work);
    (void)pthread_cond_destroy(&all->done);
    (void)pthread_mutex_destroy(&all->lock);
    rq_free(all->streams);
    rq_free(all);
}

rq_status rq_streams_run(rq_streams *all, const uint8_t *pixels, int n, float *logits,
                         rq_error *err)
{
    (void)pthread_mutex_lock(&all->lock);
    all->pixels = pixels;
    all->logits = logits;
    all->n = n;
    atomic_store(&all->next, 0);
    all->n_runs++;
    (void)pthread_cond_broadcast(&all->work);
    for (int k = 0; k < all->n_started; k++)
        while (all->streams[k].n_runs != all->n_runs)
            (void)pthread_cond_wait(&all->done, &all->lock);
    (void)pthread_mutex_unlock(&all->lock);
    for (int k = 0; k < all->n_started; k++)
        if (all->streams[k].status) {
            if (err)
                *err = all->streams[k].err;
            return all->streams[k].status;
        }
    return RQ_OK;
}

rq_session_info rq_streams_get_info(const rq_streams *all)
{
    rq_session_info info = rq_executor_get_info(all->streams[0].executor);
    info.activation_bytes *= (size_t)all->plan.n_streams;
    info.n_streams = all->plan.n_streams;
    info.stream_batch = all->plan.batch;
    return info;
}
