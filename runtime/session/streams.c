/* Threads that wait for a run, take small batches by an atomic counter until none is left, and wait
 * again. Each creates, runs and destroys its own session: oneDNN's scratchpads belong to the thread
 * that made them. */
#include "runtime/session/streams.h"

#include <limits.h>
#include <omp.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

enum { MAX_STREAM_BATCH = 16, DEFAULT_CACHE_BYTES = 1 << 20 };

typedef struct stream {
    rq_streams *all;
    pthread_t thread;
    int cpu; /* to stay on; -1: any */
    rq_session *session;
    size_t n_runs; /* runs that this thread has finished */
    bool is_ready, stop;
    rq_status status; /* of creation, then of the last run */
    rq_error err;
} stream;

struct rq_streams {
    stream *streams;
    int n_started;
    rq_stream_plan plan;
    const rq_model *model; /* during creation only */
    rq_session_options options;
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

/* Bytes that a convolution reads and writes for one image, the median over the convolutions. */
static rq_status median_layer_bytes(size_t *out, const rq_model *model,
                                    const rq_session_options *options, rq_error *err)
{
    const rq_graph *graph = &model->graph;
    const int crop = model->preprocess.crop;
    void *shapes_memory = NULL, *sizes_memory = NULL;
    rq_arena arena = RQ_ARENA_INIT;
    rq_status status =
        rq_arena_array_old(&arena, &shapes_memory, (size_t)graph->n_nodes, sizeof(rq_shape), err);
    if (status == RQ_OK)
        status =
            rq_arena_array_old(&arena, &sizes_memory, (size_t)graph->n_nodes, sizeof(size_t), err);
    rq_shape *shapes = shapes_memory;
    size_t *sizes = sizes_memory, n = 0;
    if (status == RQ_OK)
        status = rq_graph_shapes(graph, 1, options->height ? options->height : crop,
                                 options->width ? options->width : crop, shapes, err);
    for (int i = 0; i < graph->n_nodes && status == RQ_OK; i++) {
        const rq_op op = graph->nodes[i].op;
        if (op == RQ_OP_CONV || op == RQ_OP_QCONV)
            sizes[n++] = value_bytes(&shapes[graph->nodes[i].input[0]]) + value_bytes(&shapes[i]);
    }
    if (n)
        qsort(sizes, n, sizeof *sizes, by_size);
    *out = n ? sizes[n / 2] : 0;
    rq_arena_deinit(&arena);
    return status;
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

rq_status rq_plan_streams(rq_stream_plan *out, const rq_model *model,
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
    const rq_status status = median_layer_bytes(&layer_bytes, model, options, err);
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

static void create_session(stream *self)
{
    const rq_streams *all = self->all;
    rq_session_options options = all->options;
    options.batch = all->plan.batch;
    options.n_streams = 1;
    if (self != all->streams)
        options.weights_of = all->streams[0].session;
    self->status = rq_session_create(&self->session, all->model, &options, &self->err);
}

static void run_batches(stream *self)
{
    rq_streams *all = self->all;
    const size_t n_classes = (size_t)rq_session_get_info(self->session).n_classes;
    const int batch = all->plan.batch;
    self->status = RQ_OK;
    for (int first;
         self->status == RQ_OK && (first = atomic_fetch_add(&all->next, batch)) < all->n;)
        self->status = rq_session_run(self->session, all->pixels + (size_t)first * all->image_bytes,
                                      all->n - first < batch ? all->n - first : batch,
                                      all->logits + (size_t)first * n_classes, &self->err);
}

static void *serve(void *argument)
{
    stream *self = argument;
    rq_streams *all = self->all;
    omp_set_num_threads(1); /* of this thread's parallel regions */
    if (self->cpu >= 0)
        stay_on_cpu(self->cpu);
    create_session(self);
    (void)pthread_mutex_lock(&all->lock);
    self->is_ready = true;
    (void)pthread_cond_broadcast(&all->done);
    for (;;) {
        while (!self->stop && self->n_runs == all->n_runs)
            (void)pthread_cond_wait(&all->work, &all->lock);
        if (self->stop)
            break;
        (void)pthread_mutex_unlock(&all->lock);
        run_batches(self);
        (void)pthread_mutex_lock(&all->lock);
        self->n_runs++;
        (void)pthread_cond_broadcast(&all->done);
    }
    (void)pthread_mutex_unlock(&all->lock);
    rq_session_destroy(self->session);
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

/* Start the next thread and wait until its session exists: the first one's weights are shared. */
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
    if (self->status != RQ_OK && err)
        *err = self->err;
    return self->status;
}

rq_status rq_streams_create(rq_streams **out, const rq_model *model,
                            const rq_session_options *options, rq_stream_plan plan, rq_error *err)
{
    const int crop = model->preprocess.crop;
    void *memory = NULL;
    rq_streams *all = rq_alloc(sizeof *all);
    if (!all)
        return rq_fail(err, RQ_ERR_NOMEM, "out of memory");
    (void)pthread_mutex_init(&all->lock, NULL);
    (void)pthread_cond_init(&all->work, NULL);
    (void)pthread_cond_init(&all->done, NULL);
    all->plan = plan;
    all->model = model;
    all->options = *options;
    all->image_bytes = (size_t)(options->height ? options->height : crop) *
                       (size_t)(options->width ? options->width : crop) * 3;
    rq_status status = rq_alloc_array_old(&memory, (size_t)plan.n_streams, sizeof(stream), err);
    all->streams = memory;
    while (status == RQ_OK && all->n_started < plan.n_streams)
        status = start_stream(all, err);
    all->model = NULL;
    if (status == RQ_OK)
        *out = all;
    else
        rq_streams_destroy(all);
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
        if (all->streams[k].status != RQ_OK) {
            if (err)
                *err = all->streams[k].err;
            return all->streams[k].status;
        }
    return RQ_OK;
}

rq_session_info rq_streams_get_info(const rq_streams *all)
{
    rq_session_info info = rq_session_get_info(all->streams[0].session);
    info.activation_bytes *= (size_t)all->plan.n_streams;
    info.n_streams = all->plan.n_streams;
    info.stream_batch = all->plan.batch;
    return info;
}
