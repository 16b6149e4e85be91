/* One executor, or streams of them. */
#include "runtime/session/session.h"

#include "runtime/session/executor.h"
#include "runtime/session/streams.h"

struct rq_session {
    rq_executor *executor; /* or NULL, and */
    rq_streams *streams;
    int batch;
};

static rq_status create(rq_session *session, const rq_model *model, rq_session_options options,
                        rq_error *err)
{
    rq_stream_plan plan;
    session->batch = options.batch;
    if (!options.height)
        options.height = model->preprocess.crop;
    if (!options.width)
        options.width = model->preprocess.crop;
    RQ_TRY(rq_streams_plan(&plan, model, &options, err));
    if (plan.n_streams == 1)
        return rq_executor_create(&session->executor, model, &options, NULL, err);
    if (options.observer)
        return rq_fail(err, RQ_ERR_ARG, "no observer of %d streams", plan.n_streams);
    return rq_streams_create(&session->streams, model, &options, plan, err);
}

rq_status rq_session_create(rq_session **out, const rq_model *model,
                            const rq_session_options *options, rq_error *err)
{
    if (options->batch < 1)
        return rq_fail(err, RQ_ERR_ARG, "batch %d: at least 1 image", options->batch);
    rq_session *session = rq_alloc(sizeof *session);
    if (!session)
        return rq_no_memory(err);
    const rq_status status = create(session, model, *options, err);
    if (status)
        rq_session_destroy(session);
    else
        *out = session;
    return status;
}

void rq_session_destroy(rq_session *session)
{
    if (!session)
        return;
    rq_streams_destroy(session->streams);
    rq_executor_destroy(session->executor);
    rq_free(session);
}

static rq_status run(rq_session *session, const uint8_t *pixels, int n, float *logits,
                     rq_step_time *times, rq_error *err)
{
    if (n < 1 || n > session->batch)
        return rq_fail(err, RQ_ERR_ARG, "%d images in a session made for 1 to %d", n,
                       session->batch);
    if (session->executor)
        return rq_executor_run(session->executor, pixels, n, logits, times, err);
    if (times)
        return rq_fail(err, RQ_ERR_ARG, "streams have no common steps");
    return rq_streams_run(session->streams, pixels, n, logits, err);
}

rq_status rq_session_run(rq_session *session, const uint8_t *pixels, int n, float *logits,
                         rq_error *err)
{
    return run(session, pixels, n, logits, NULL, err);
}

rq_status rq_session_run_timed(rq_session *session, const uint8_t *pixels, int n, float *logits,
                               rq_step_time *times, rq_error *err)
{
    return run(session, pixels, n, logits, times, err);
}

int rq_session_n_steps(const rq_session *session)
{
    return session->executor ? rq_executor_n_steps(session->executor) : 0;
}

rq_session_info rq_session_get_info(const rq_session *session)
{
    return session->executor ? rq_executor_get_info(session->executor)
                             : rq_streams_get_info(session->streams);
}
