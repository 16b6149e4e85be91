/* What all commands share: options that each of them has, and command lines as text and words. */
#include "runtime/base/command.h"

#include <assert.h>
#include <string.h>

#include "runtime/base/log.h"

typedef struct common_options {
    bool quiet, verbose, help;
} common_options;

static const rq_option common_table[] = {
    RQ_OPTION_FLAG("quiet", 'q', common_options, quiet, "warnings and errors only"),
    RQ_OPTION_FLAG("verbose", 'v', common_options, verbose, "say more about what is done"),
    RQ_OPTION_FLAG("help", 'h', common_options, help, "print this text"),
};

/* Looked for before anything is parsed, so that the help shows the defaults. */
static bool asks_for_help(int argc, char **argv)
{
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
            return true;
    return false;
}

rq_status rq_command_option_sets(const rq_command *self, const rq_option_set *own, size_t n_own,
                                 int argc, char **argv, bool *done, rq_error *err)
{
    common_options common = {false, false, false};
    rq_option_set sets[RQ_COMMAND_MAX_SETS + 1];
    const size_t n_sets = n_own + 1;
    assert(n_own > 0 && n_own <= RQ_COMMAND_MAX_SETS);
    memcpy(sets, own, n_own * sizeof *own);
    sets[n_own] =
        (rq_option_set){common_table, sizeof common_table / sizeof common_table[0], &common};
    *done = asks_for_help(argc, argv);
    if (!*done) {
        RQ_TRY(rq_option_sets_parse(sets, n_sets, argc, argv, err));
        *done = common.help; /* -qh */
    }
    if (*done) {
        char name[128];
        (void)snprintf(name, sizeof name, "repqat %s", self->name);
        rq_option_sets_help(sets, n_sets, name, self->summary, stdout);
        return RQ_OK;
    }
    if (common.quiet && common.verbose)
        return rq_fail(err, RQ_ERR_USAGE, "--quiet and --verbose exclude each other");
    rq_log_set_level(common.quiet ? RQ_LOG_WARN : common.verbose ? RQ_LOG_DEBUG : RQ_LOG_INFO);
    return RQ_OK;
}

rq_status rq_command_options(const rq_command *self, const rq_option *table, size_t n_options,
                             int argc, char **argv, void *fields, bool *done, rq_error *err)
{
    const rq_option_set set = {table, n_options, fields};
    return rq_command_option_sets(self, &set, 1, argc, argv, done, err);
}

/* Write word as the shell would take it back, quoted where it must be: at most 4 bytes per
 * character, 2 quotes and the NUL. Returns the end of what was written. */
static char *quote(const char *word, char *out)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                "_@%+=:,./-";
    if (*word && word[strspn(word, plain)] == '\0')
        return stpcpy(out, word);
    *out++ = '\'';
    for (; *word; word++) {
        if (*word == '\'')
            out = stpcpy(out, "'\\'"); /* end the quotes, escape this one, begin them again */
        *out++ = *word;
    }
    *out++ = '\'';
    *out = '\0';
    return out;
}

char *rq_command_line(int argc, char **argv)
{
    static const char program[] = "repqat";
    size_t size_bytes = sizeof program;
    for (int i = 0; i < argc; i++)
        size_bytes += 1 + 4 * strlen(argv[i]) + 2;
    char *text = rq_alloc(size_bytes);
    if (!text)
        return NULL;
    char *end = stpcpy(text, program);
    for (int i = 0; i < argc; i++) {
        *end++ = ' ';
        end = quote(argv[i], end);
    }
    return text;
}

char **rq_command_words(rq_arena *arena, const char *text, int *argc)
{
    char *copy = text ? rq_arena_strdup(arena, text) : NULL, *rest = NULL;
    char **argv = copy ? rq_arena_array(arena, char *, strlen(copy) / 2 + 2) : NULL;
    *argc = 0;
    if (!argv)
        return NULL;
    for (char *word = strtok_r(copy, " ", &rest); word; word = strtok_r(NULL, " ", &rest))
        argv[(*argc)++] = word;
    return argv;
}
