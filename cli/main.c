/* repqat: one program, one table of commands. `repqat COMMAND …`, or a link to it that bears a
 * command's name. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/commands.h"
#include "cli/console.h"
#include "runtime/base/interrupt.h"
#include "runtime/base/ranks.h"

static const char program[] = "repqat";

/* Those whose work several processes may share (ranks.h). */
static const rq_command *const shared[] = {
    &rq_command_train,     &rq_command_hyper_search, &rq_command_qat_train,
    &rq_command_insert_bn, &rq_command_evaluate,     NULL,
};

static rq_status run_command(const rq_command *command, int argc, char **argv, rq_error *err)
{
    const rq_command *const *other = shared;
    while (*other && *other != command)
        other++;
    if (rq_n_ranks() > 1 && !*other)
        return rq_fail(err, RQ_ERR_USAGE, "runs in one process, not in %d", rq_n_ranks());
    return command->run(command, argc, argv, err);
}

static void print_help(void)
{
    (void)printf("usage: %s COMMAND [options]\n"
                 "\n"
                 "Turn re-parameterised convnets into INT8 models for x86 CPUs, and prove that\n"
                 "nothing was lost on the way.\n"
                 "\n"
                 "commands:\n",
                 program);
    int width = 0;
    for (const rq_command *const *command = rq_commands; *command; command++)
        if ((int)strlen((*command)->name) > width)
            width = (int)strlen((*command)->name);
    for (const rq_command *const *command = rq_commands; *command; command++)
        (void)printf("  %-*s  %s\n", width, (*command)->name, (*command)->summary);
    (void)printf("\n"
                 "'%s COMMAND --help' describes a command. Results go to stdout, messages to\n"
                 "stderr; exit codes: 0 done, 1 failed, 2 wrong usage, 3 accuracy gate not met.\n",
                 program);
}

static void list_commands(void)
{
    for (const rq_command *const *command = rq_commands; *command; command++)
        (void)printf("%s\n", (*command)->name);
}

static rq_status fail_unknown(const char *name, rq_error *err)
{
    return rq_fail(err, RQ_ERR_USAGE, "unknown %s '%s'", *name == '-' ? "option" : "command", name);
}

/* `repqat help` and `repqat help COMMAND` */
static rq_status run_help(int argc, char **argv, const rq_command **ran, rq_error *err)
{
    if (argc < 2) {
        print_help();
        return RQ_OK;
    }
    if (argc > 2)
        return rq_fail(err, RQ_ERR_USAGE, "help takes one command");
    const rq_command *command = rq_find_command(argv[1]);
    if (!command)
        return fail_unknown(argv[1], err);
    char option[] = "--help";
    char *help_argv[] = {argv[1], option, NULL};
    *ran = command;
    return command->run(command, 2, help_argv, err);
}

static bool is_any(const char *word, const char *a, const char *b)
{
    return strcmp(word, a) == 0 || strcmp(word, b) == 0;
}

/* *ran receives the command that was run, if any. */
static rq_status dispatch(int argc, char **argv, const rq_command **ran, rq_error *err)
{
    const char *slash = argc > 0 ? strrchr(argv[0], '/') : NULL;
    const char *name = slash ? slash + 1 : argc > 0 ? argv[0] : program;
    const rq_command *command = rq_find_command(name);
    if (!command) {
        argc--;
        argv++;
        if (argc <= 0)
            return rq_fail(err, RQ_ERR_USAGE, "no command given");
        if (strcmp(argv[0], "help") == 0)
            return run_help(argc, argv, ran, err);
        command = rq_find_command(argv[0]);
    }
    if (command) {
        *ran = command;
        return run_command(command, argc, argv, err);
    }
    if (is_any(argv[0], "-h", "--help"))
        print_help();
    else if (is_any(argv[0], "-V", "--version"))
        (void)printf("%s %s\n", program, RQ_VERSION);
    else if (strcmp(argv[0], "--list-commands") == 0)
        list_commands();
    else
        return fail_unknown(argv[0], err);
    return RQ_OK;
}

/* "repqat COMMAND: message", and for wrong usage where to look. What stops one rank stops most of
 * them, so the others leave rank 0 the time to say it and to end them. */
static void print_error(const rq_command *ran, const rq_error *err)
{
    if (rq_rank() != 0)
        (void)sleep(1);
    const char *space = ran ? " " : "", *name = ran ? ran->name : "";
    rq_console_clear();
    (void)fprintf(stderr, "%s%s%s: %s\n", program, space, name,
                  *err->text ? err->text : rq_status_text(err->code));
    if (err->code == RQ_ERR_USAGE)
        (void)fprintf(stderr, "try '%s%s%s --help'\n", program, space, name);
}

static int exit_code(rq_status status)
{
    switch (status) {
    case RQ_OK:
        return 0;
    case RQ_ERR_USAGE:
        return 2;
    case RQ_ERR_GATE:
        return 3;
    case RQ_ERR_INTERRUPTED: /* as shells have it */
        return 128 + rq_interrupt_signal();
    default:
        return 1;
    }
}

int main(int argc, char **argv)
{
    const rq_command *ran = NULL;
    rq_error err = RQ_ERROR_INIT;
    rq_status status = rq_ranks_open(&err);
    rq_console_open();
    if (!status)
        status = dispatch(argc, argv, &ran, &err);
    if (status) {
        err.code = status;
        print_error(ran, &err);
    }
    rq_console_clear();
    if (rq_console_close(&err) && !status) {
        status = err.code;
        print_error(ran, &err);
    }
    rq_ranks_close(status && status != RQ_ERR_INTERRUPTED, exit_code(status));
    return exit_code(status);
}
