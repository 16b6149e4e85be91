/* A test's network in the forms that follow from the one it builds. */
#ifndef RQ_TESTS_QAT_FORMS_H
#define RQ_TESTS_QAT_FORMS_H

#include "runtime/model/model.h"

/* The deploy form of what build makes, a model of form train. */
void forms_deploy(rq_model *model, void (*build)(rq_model *));

/* What build makes, of form withbn, with all layers quantized. */
void forms_qat(rq_model *model, void (*build)(rq_model *));

#endif
