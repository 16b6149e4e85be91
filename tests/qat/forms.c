/* Each builds, converts and frees. */
#include "tests/qat/forms.h"

#include "fuse/fold.h"
#include "qat/prepare.h"
#include "tests/support/test.h"

void forms_deploy(rq_model *model, void (*build)(rq_model *))
{
    rq_error err = RQ_ERROR_INIT;
    rq_model train;
    build(&train);
    assert_ok(rq_fuse(model, &train, &err), &err);
    rq_model_deinit(&train);
}

void forms_qat(rq_model *model, void (*build)(rq_model *))
{
    rq_error err = RQ_ERROR_INIT;
    rq_model withbn;
    build(&withbn);
    assert_ok(rq_prepare_qat(model, &withbn, RQ_QUANT_ALL, &err), &err);
    rq_model_deinit(&withbn);
}
