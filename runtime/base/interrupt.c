/* One flag, set by the handler. */
#include "runtime/base/interrupt.h"

#include <signal.h>
#include <stddef.h>

static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
enum { N_SIGNALS = sizeof signals / sizeof signals[0] };

static volatile sig_atomic_t came;
static struct sigaction before[N_SIGNALS];

static void remember(int signal)
{
    came = signal;
}

void rq_interrupt_catch(void)
{
    struct sigaction action = {.sa_handler = remember};
    (void)sigemptyset(&action.sa_mask);
    action.sa_flags = SA_RESTART | (int)SA_RESETHAND;
    came = 0;
    for (size_t i = 0; i < N_SIGNALS; i++)
        if (sigaction(signals[i], NULL, &before[i]) == 0 && before[i].sa_handler != SIG_IGN)
            (void)sigaction(signals[i], &action, NULL);
}

void rq_interrupt_release(void)
{
    for (size_t i = 0; i < N_SIGNALS; i++)
        (void)sigaction(signals[i], &before[i], NULL);
}

int rq_interrupt_signal(void)
{
    return came;
}
