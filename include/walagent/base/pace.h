/*
 * walagent/base/pace.h - a limit in bytes per second.
 *
 * What was not used while nothing came is not made up for later: after a pause there is no burst.
 * One thread.
 */
#ifndef WALAGENT_BASE_PACE_H
#define WALAGENT_BASE_PACE_H

#include "walagent/base/cancel.h"
#include "walagent/base/error.h"

#include <stddef.h>
#include <stdint.h>

typedef struct wa_pace {
    uint64_t rate;   /* bytes/s; 0: no limit */
    uint64_t due_us; /* when all that has passed so far is paid for, on the monotonic clock */
} wa_pace;

/* Counts len bytes that passed at now_us; returns for how many microseconds to wait before more
 * does. */
uint64_t wa_pace_after(wa_pace *p, size_t len, uint64_t now_us);
/* The same with the clock, and waits. CANCELLED. */
wa_status wa_pace_wait(wa_pace *p, size_t len, wa_cancel *cancel, wa_error *err) WA_MUST_CHECK;

#endif
