/* fork, exec, wait; output goes to memory files, so that no pipe can fill up, and an alarm is the
 * time limit. */
#include "tests/support/cli.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/base/json.h"
#include "runtime/base/memory.h"
#include "tests/support/test.h"

enum { MAX_ARGS = 64, DEFAULT_TIMEOUT_S = 60, EXEC_FAILED = 127 };

void rq_cli_deinit(rq_cli *run)
{
    rq_free(run->out);
    rq_free(run->err);
    *run = (rq_cli)RQ_CLI_INIT;
}

/* In the child: streams, environment, time limit, exec. Never returns. */
static void run_child(const rq_cli_options *options, char **argv, int out, int err)
{
    if (options->stdout_path)
        out = open(options->stdout_path, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    const int in = open("/dev/null", O_RDONLY);
    bool ok = in >= 0 && out >= 0 && dup2(in, STDIN_FILENO) >= 0 && dup2(out, STDOUT_FILENO) >= 0 &&
              dup2(err, STDERR_FILENO) >= 0;
    if (options->close_stdout)
        (void)close(STDOUT_FILENO);
    if (options->dir)
        ok = chdir(options->dir) == 0 && ok;
    /* a report must not look like the program's own exit code 1 */
    (void)setenv("ASAN_OPTIONS", "exitcode=99", 0);
    (void)setenv("UBSAN_OPTIONS", "exitcode=99:print_stacktrace=1", 0);
    (void)setenv("TSAN_OPTIONS", "exitcode=99", 0);
    for (const char *const *env = options->env; env && *env; env++)
        ok = putenv((char *)(uintptr_t)*env) == 0 && ok;
    (void)alarm(options->timeout_s ? options->timeout_s : DEFAULT_TIMEOUT_S);
    if (ok)
        (void)execv(argv[0], argv);
    _exit(EXEC_FAILED);
}

static char *read_all(int fd, size_t *size_bytes)
{
    const off_t end = lseek(fd, 0, SEEK_END);
    assert_true(end >= 0);
    char *text = rq_alloc((size_t)end + 1);
    assert_non_null(text);
    assert_int_equal(pread(fd, text, (size_t)end, 0), end);
    (void)close(fd);
    *size_bytes = (size_t)end;
    return text;
}

void rq_cli_run_argv(rq_cli *run, const rq_cli_options *options, const char *const *args)
{
    static const rq_cli_options usual = {0};
    if (!options)
        options = &usual;
    rq_cli_deinit(run);
    char *argv[MAX_ARGS + 2] = {
        (char *)(uintptr_t)(options->program ? options->program : RQ_PROGRAM)};
    for (int i = 0; args[i]; i++) {
        assert_true(i < MAX_ARGS);
        argv[i + 1] = (char *)(uintptr_t)args[i];
    }
    const int out = memfd_create("stdout", MFD_CLOEXEC), err = memfd_create("stderr", MFD_CLOEXEC);
    assert_true(out >= 0 && err >= 0);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        run_child(options, argv, out, err);
    int status = 0;
    while (waitpid(child, &status, 0) < 0)
        assert_int_equal(errno, EINTR);
    run->out = read_all(out, &run->out_bytes);
    run->err = read_all(err, &run->err_bytes);
    if (WIFEXITED(status))
        run->exit_code = WEXITSTATUS(status);
    else
        run->exit_code = WTERMSIG(status) == SIGALRM ? RQ_CLI_TIMED_OUT : 128 + WTERMSIG(status);
    if (run->exit_code == EXEC_FAILED)
        fail_msg("cannot start %s", argv[0]);
}

static void print_run(const rq_cli *run)
{
    print_error("exit code %d\n--- stdout\n%s--- stderr\n%s---\n", run->exit_code, run->out,
                run->err);
}

void rq_assert_exit_(const rq_cli *run, int code, const char *file, int line)
{
    if (run->exit_code == code)
        return;
    print_error("wanted exit code %d\n", code);
    print_run(run);
    _fail(file, line);
}

void rq_assert_stream_(const rq_cli *run, bool is_err, const char *part, bool wanted,
                       const char *file, int line)
{
    if ((strstr(is_err ? run->err : run->out, part) != NULL) == wanted)
        return;
    print_error("%s %s '%s'\n", is_err ? "stderr" : "stdout",
                wanted ? "does not say" : "must not say", part);
    print_run(run);
    _fail(file, line);
}

void rq_assert_failure_(const rq_cli *run, int code, const char *part, const char *file, int line)
{
    rq_assert_exit_(run, code, file, line);
    rq_assert_stream_(run, true, "repqat", true, file, line);
    rq_assert_stream_(run, true, part, true, file, line);
    if (run->out_bytes == 0)
        return;
    print_error("stdout is not empty\n");
    print_run(run);
    _fail(file, line);
}

json_t *rq_cli_json_(const rq_cli *run, const char *file, int line)
{
    static const char first[] = "{\"schema\": 1";
    rq_error err = RQ_ERROR_INIT;
    json_t *object = NULL;
    const char *newline = strchr(run->out, '\n');
    if (!newline || newline[1] != '\0')
        print_error("stdout is not one line\n");
    else if (strncmp(run->out, first, sizeof first - 1) != 0)
        print_error("stdout does not begin with %s\n", first);
    else if (rq_json_parse(&object, run->out, run->out_bytes, &err))
        print_error("%s\n", err.text);
    else
        return object;
    print_run(run);
    _fail(file, line);
    return NULL;
}

double rq_json_double(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    if (!json_is_number(value))
        fail_msg("no number '%s'", key);
    return json_number_value(value);
}
