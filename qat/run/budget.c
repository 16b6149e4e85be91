/* Time into steps, text into time. */
#include "qat/run/budget.h"

#include <assert.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/options.h"

#define RESERVE 0.03

int64_t rq_budget_plan(const rq_pace *pace)
{
    assert(pace->steps_per_epoch > 0);
    const double usable = pace->seconds_left * (1.0 - RESERVE);
    const double epoch_seconds =
        (double)pace->steps_per_epoch * pace->step_seconds + pace->overhead_seconds;
    const double fit = epoch_seconds > 0.0 ? floor(usable / epoch_seconds) : 1e9;
    const int64_t room = pace->max_epochs - pace->epochs;
    const int64_t more = fit < 0.0 ? 0 : fit < (double)room ? (int64_t)fit : room;
    if (pace->epochs + more > 0)
        return (pace->epochs + more) * pace->steps_per_epoch;
    const double steps = floor((usable - pace->overhead_seconds) / pace->step_seconds);
    return steps >= 1.0 ? (int64_t)steps : 1;
}

static double unit_seconds(char unit)
{
    switch (unit) {
    case 's':
        return 1.0;
    case 'm':
        return 60.0;
    case 'h':
        return 3600.0;
    case 'd':
        return 86400.0;
    default:
        return 0.0;
    }
}

bool rq_parse_duration(const char *text, double *seconds)
{
    static const double TEN_YEARS = 315576000.0;
    double total = 0.0, last_unit = HUGE_VAL;
    while (*text) {
        char number[24] = "";
        const size_t n = strspn(text, "0123456789.");
        double value;
        if (n == 0 || n >= sizeof number)
            return false;
        memcpy(number, text, n);
        const bool plain = text[n] == '\0' && last_unit == HUGE_VAL; /* seconds without a unit */
        const double unit = plain ? 1.0 : unit_seconds(text[n]);
        if (!rq_parse_float(number, 0.0, TEN_YEARS, &value) || !(unit > 0.0) || unit >= last_unit)
            return false;
        total += value * unit;
        last_unit = unit;
        text += n + !plain;
    }
    if (!(total > 0.0 && total <= TEN_YEARS))
        return false;
    *seconds = total;
    return true;
}

void rq_print_duration(double seconds, char *text, size_t size_bytes)
{
    const long long s = llround(seconds > 0.0 ? seconds : 0.0);
    if (s >= 3600)
        (void)snprintf(text, size_bytes, "%lldh%02lldm", s / 3600, s / 60 % 60);
    else if (s >= 60)
        (void)snprintf(text, size_bytes, "%lldm%02llds", s / 60, s % 60);
    else
        (void)snprintf(text, size_bytes, "%llds", s);
}
