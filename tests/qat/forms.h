/* A test's network in the forms that follow from the one it builds. */
#ifndef RQ_TESTS_QAT_FORMS_H
#define RQ_TESTS_QAT_FORMS_H

#include "fuse/fold.h"
#include "qat/prepare.h"
#include "tests/support/test.h"

/* The deploy form of what build makes, a model of form train. */
static inline void forms_deploy(rq_model *model, void (*build)(rq_model *))
{
    rq_error err = RQ_ERROR_INIT;
    rq_model train;
    build(&train);
    assert_ok(rq_fuse(model, &train, &err), &err);
    rq_model_deinit(&train);
}

/* What build makes, of form withbn, with all layers quantized. */
static inline void forms_qat(rq_model *model, void (*build)(rq_model *))
{
    rq_error err = RQ_ERROR_INIT;
    rq_model withbn;
    build(&withbn);
    assert_ok(rq_prepare_qat(model, &withbn, RQ_QUANT_ALL, &err), &err);
    rq_model_deinit(&withbn);
}

#endif
