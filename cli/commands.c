/* The table of commands. */
#include "cli/commands.h"

#include <stddef.h>

const rq_command *const rq_commands[] = {
#define X(name) &rq_command_##name,
    RQ_COMMAND_LIST(X)
#undef X
        NULL,
};

const rq_command *rq_find_command(const char *name)
{
    for (const rq_command *const *command = rq_commands; *command; command++) {
        const char *a = (*command)->name, *b = name;
        while (*a && (*a == *b || (*a == '_' && *b == '-'))) {
            a++;
            b++;
        }
        if (*a == *b)
            return *command;
    }
    return NULL;
}
