/* The program around the commands: its own options, dispatch by name and by link, wrong usage,
 * streams that fail. What must hold for every command is tested for each that --list-commands
 * names. */
#include <elf.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/memory.h"

#include "tests/support/cli.h"
#include "tests/support/test.h"

/* Call check with each command's name. */
static void for_each_command(void (*check)(const char *name))
{
    rq_cli list = RQ_CLI_INIT;
    rq_cli_run(&list, "--list-commands");
    assert_exit(&list, 0);
    char *save = NULL;
    for (char *name = strtok_r(list.out, "\n", &save); name; name = strtok_r(NULL, "\n", &save))
        check(name);
    rq_cli_deinit(&list);
}

static void test_main__describes_itself(void **state)
{
    (void)state;
    rq_cli run = RQ_CLI_INIT;
    rq_cli_run(&run, "--version");
    assert_exit(&run, 0);
    assert_says_out(&run, "repqat 0.");
    rq_cli_run(&run, "--help");
    assert_exit(&run, 0);
    assert_says_out(&run, "usage: repqat COMMAND [options]\n");
    assert_string_equal(run.err, "");
    rq_cli other = RQ_CLI_INIT;
    rq_cli_run(&other, "-h");
    assert_string_equal(other.out, run.out);
    rq_cli_run(&other, "help");
    assert_exit(&other, 0);
    assert_string_equal(other.out, run.out);
    rq_cli_deinit(&other);
    rq_cli_deinit(&run);
}

static void test_main__refuses_wrong_usage(void **state)
{
    (void)state;
    rq_cli run = RQ_CLI_INIT;
    rq_cli_run_argv(&run, NULL, (const char *const[]){NULL});
    assert_failure(&run, 2, "repqat: no command given\ntry 'repqat --help'\n");
    rq_cli_run(&run, "no_such_command", "x");
    assert_failure(&run, 2, "repqat: unknown command 'no_such_command'\ntry 'repqat --help'\n");
    rq_cli_run(&run, "--nope");
    assert_failure(&run, 2, "repqat: unknown option '--nope'\n");
    rq_cli_run(&run, "help", "nope");
    assert_failure(&run, 2, "repqat: unknown command 'nope'\n");
    rq_cli_run(&run, "help", "a", "b");
    assert_failure(&run, 2, "help takes one command");
    rq_cli_run(&run, "");
    assert_failure(&run, 2, "unknown command ''");
    rq_cli_deinit(&run);
}

static void test_main__lost_output_is_a_failure(void **state)
{
    (void)state;
    static const rq_cli_options full = {.stdout_path = "/dev/full"};
    static const rq_cli_options closed = {.close_stdout = true};
    rq_cli run = RQ_CLI_INIT;
    rq_cli_run_with(&run, &full, "--help");
    assert_failure(&run, 1, "repqat: cannot write the results to stdout: No space left on device");
    rq_cli_run_with(&run, &closed, "--help");
    assert_failure(&run, 1, "repqat: cannot write the results to stdout");
    rq_cli_run_with(&run, &closed, "--nope"); /* the first failure counts */
    assert_failure(&run, 2, "unknown option");
    rq_cli_deinit(&run);
}

static void check_listed(const char *name)
{
    rq_cli run = RQ_CLI_INIT;
    rq_cli_run(&run, "--help");
    assert_says_out(&run, rq_test_path("\n  %s ", name));
    rq_cli_deinit(&run);
}

/* An option's entry begins "  -b, --batch" or "      --seed". */
static void check_help_entries(const char *help)
{
    bool seen[256] = {false};
    for (const char *line = help; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strcspn(line, "\n") > 80)
            fail_msg("a line of the help is too long: %.*s", (int)strcspn(line, "\n"), line);
        if (strncmp(line, "  -", 3) != 0)
            continue;
        if (seen[(unsigned char)line[3]])
            fail_msg("-%c stands for two options", line[3]);
        seen[(unsigned char)line[3]] = true;
    }
    assert_true(seen['h'] && seen['q'] && seen['v']);
}

static void check_help(const char *name)
{
    rq_cli run = RQ_CLI_INIT, other = RQ_CLI_INIT;
    rq_cli_run(&run, name, "--help");
    assert_exit(&run, 0);
    assert_string_equal(run.err, "");
    assert_says_out(&run, rq_test_path("usage: repqat %s [options]", name));
    check_help_entries(run.out);
    rq_cli_run(&other, "help", name);
    assert_exit(&other, 0);
    assert_string_equal(other.out, run.out);
    const rq_cli_options full = {.stdout_path = "/dev/full"};
    rq_cli_run_with(&other, &full, name, "-h");
    assert_failure(&other, 1, rq_test_path("repqat %s: cannot write the results", name));
    rq_cli_deinit(&other);
    rq_cli_deinit(&run);
}

static void check_wrong_usage(const char *name)
{
    rq_cli run = RQ_CLI_INIT;
    rq_cli_run(&run, name, "--no-such-option");
    assert_failure(&run, 2,
                   rq_test_path("repqat %s: unknown option '--no-such-option'\n"
                                "try 'repqat %s --help'\n",
                                name, name));
    rq_cli_deinit(&run);
}

/* A link named after the command runs it, and '-' may stand for '_'. */
static void check_other_names(const char *name)
{
    char spelled[64];
    (void)snprintf(spelled, sizeof spelled, "%s", name);
    for (char *c = strchr(spelled, '_'); c; c = strchr(c, '_'))
        *c = '-';
    const char *program = rq_test_path("%s", RQ_PROGRAM);
    const char *slash = strrchr(program, '/');
    const char *link = rq_test_path("%.*s/%s", (int)(slash - program), program, name);
    const rq_cli_options by_link = {.program = link};
    rq_cli run = RQ_CLI_INIT, other = RQ_CLI_INIT;
    rq_cli_run(&run, name, "--help");
    rq_cli_run(&other, spelled, "--help");
    assert_exit(&other, 0);
    assert_string_equal(other.out, run.out);
    rq_cli_run_with(&other, &by_link, "--help");
    assert_exit(&other, 0);
    assert_string_equal(other.out, run.out);
    rq_cli_deinit(&other);
    rq_cli_deinit(&run);
}

static void test_commands__are_listed(void **state)
{
    (void)state;
    for_each_command(check_listed);
}

static void test_commands__have_help(void **state)
{
    (void)state;
    for_each_command(check_help);
}

static void test_commands__refuse_wrong_usage(void **state)
{
    (void)state;
    for_each_command(check_wrong_usage);
}

static void test_commands__run_under_other_names(void **state)
{
    (void)state;
    for_each_command(check_other_names);
}

/* A search path with an empty element would load libraries from the current folder. */
static void test_program__has_no_library_path_of_its_own(void **state)
{
    (void)state;
    size_t size_bytes;
    uint8_t *file = rq_test_read_file(RQ_PROGRAM, &size_bytes);
    Elf64_Ehdr header;
    bool is_dynamic = false;
    assert_true(size_bytes > sizeof header);
    memcpy(&header, file, sizeof header);
    assert_memory_equal(header.e_ident, ELFMAG, SELFMAG);
    for (int i = 0; i < header.e_phnum; i++) {
        Elf64_Phdr segment;
        memcpy(&segment, file + header.e_phoff + (size_t)i * sizeof segment, sizeof segment);
        for (size_t at = 0; segment.p_type == PT_DYNAMIC && at < segment.p_filesz;
             at += sizeof(Elf64_Dyn)) {
            Elf64_Dyn entry;
            memcpy(&entry, file + segment.p_offset + at, sizeof entry);
            is_dynamic |= entry.d_tag == DT_NEEDED;
            assert_int_not_equal(entry.d_tag, DT_RPATH);
            assert_int_not_equal(entry.d_tag, DT_RUNPATH);
        }
    }
    assert_true(is_dynamic);
    rq_free(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_program__has_no_library_path_of_its_own),
        cmocka_unit_test(test_main__describes_itself),
        cmocka_unit_test(test_main__refuses_wrong_usage),
        cmocka_unit_test(test_main__lost_output_is_a_failure),
        cmocka_unit_test(test_commands__are_listed),
        cmocka_unit_test(test_commands__have_help),
        cmocka_unit_test(test_commands__refuse_wrong_usage),
        cmocka_unit_test(test_commands__run_under_other_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
