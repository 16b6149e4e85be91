/* A stream's descriptor, exchanged for a while. */
#include "tests/support/capture.h"

#include <sys/mman.h>
#include <unistd.h>

#include "tests/support/test.h"

rq_capture rq_capture_begin(FILE *stream)
{
    (void)fflush(stream);
    const rq_capture capture = {stream, dup(fileno(stream)), memfd_create("capture", MFD_CLOEXEC)};
    assert_true(capture.saved >= 0 && capture.file >= 0);
    assert_true(dup2(capture.file, fileno(stream)) >= 0);
    return capture;
}

char *rq_capture_end(const rq_capture *capture)
{
    (void)fflush(capture->stream);
    assert_true(dup2(capture->saved, fileno(capture->stream)) >= 0);
    const off_t size_bytes = lseek(capture->file, 0, SEEK_END);
    assert_true(size_bytes >= 0);
    char *text = rq_alloc((size_t)size_bytes + 1);
    assert_non_null(text);
    assert_int_equal(pread(capture->file, text, (size_t)size_bytes, 0), size_bytes);
    (void)close(capture->saved);
    (void)close(capture->file);
    return text;
}

rq_status rq_test_command_(const rq_command *command, const char **text, rq_error *err,
                           const char *const *words)
{
    enum { MAX_WORDS = 32 };
    static char *printed;
    rq_arena arena = RQ_ARENA_INIT;
    char *argv[MAX_WORDS + 2] = {rq_arena_strdup(&arena, command->name)};
    int argc = 1;
    for (; words[argc - 1]; argc++) {
        assert_true(argc <= MAX_WORDS);
        argv[argc] = rq_arena_strdup(&arena, words[argc - 1]);
    }
    *err = (rq_error)RQ_ERROR_INIT;
    rq_free(printed);
    const rq_capture capture = rq_capture_begin(stdout);
    const rq_status status = command->run(command, argc, argv, err);
    *text = printed = rq_capture_end(&capture);
    rq_arena_deinit(&arena);
    return status;
}
