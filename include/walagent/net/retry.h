/*
 * walagent/net/retry.h - the one place where retries live: a budget of attempts and time.
 *
 * Exponential backoff from 50 ms to 5 s with full jitter; a server's Retry-After wins (up to 30 s).
 * Never past the deadline. Only UNAVAILABLE is retried. When the budget's end cuts the last attempt
 * short, the error told is the last one that an attempt came to by itself: it names the reason,
 * "no answer in time" only the budget.
 */
#ifndef WALAGENT_NET_RETRY_H
#define WALAGENT_NET_RETRY_H

#include "walagent/base/cancel.h"
#include "walagent/base/error.h"
#include "walagent/base/time.h"

#include <stdbool.h>

typedef struct wa_retry {
    wa_mono deadline;  /* no attempt begins after it */
    unsigned attempts; /* made so far */
    unsigned max_attempts;
    uint64_t retry_after_ms; /* of the last answer; 0: none */
    bool cut_short;          /* the caller's: the budget's end ended the attempt that failed */
    wa_error came_to;        /* the last failure that wasn't cut short; status WA_OK: none */
    wa_cancel *cancel;       /* borrowed, may be NULL */
} wa_retry;

#define WA_RETRY_ATTEMPTS 10
void wa_retry_init(wa_retry *r, uint64_t budget_ms, wa_cancel *cancel);
/* After a failure: waits and returns true when another attempt is due; false when the budget is
 * spent, it was cancelled, or err->status is not UNAVAILABLE. When the budget is spent, the number
 * of attempts is put into err. Takes cut_short and clears it. */
bool wa_retry_again(wa_retry *r, wa_error *err);

#endif
