/*
 * net/retry.c - backoff with full jitter, within a budget of attempts and time.
 */
#include "walagent/net/retry.h"

#include "walagent/base/mem.h"

#include <string.h>
#include <sys/random.h>

#define FIRST_DELAY_MS 50
#define LONGEST_DELAY_MS 5000
#define LONGEST_RETRY_AFTER_MS 30000

void
wa_retry_init(wa_retry *r, uint64_t budget_ms, wa_cancel *cancel)
{
    memset(r, 0, sizeof *r);
    r->deadline = wa_mono_now() + budget_ms;
    r->max_attempts = WA_RETRY_ATTEMPTS;
    r->cancel = cancel;
}

static uint64_t
random_up_to(uint64_t limit)
{
    uint64_t value = 0;
    if (getrandom(&value, sizeof value, 0) != (ssize_t)sizeof value)
        return limit; /* the longest wait is safe too */
    return value % (limit + 1);
}

static uint64_t
next_delay_ms(const wa_retry *r)
{
    if (r->retry_after_ms > 0)
        return r->retry_after_ms < LONGEST_RETRY_AFTER_MS ? r->retry_after_ms
                                                          : LONGEST_RETRY_AFTER_MS;
    unsigned doublings = r->attempts > 7 ? 7 : r->attempts - 1;
    uint64_t ceiling = (uint64_t)FIRST_DELAY_MS << doublings;
    return random_up_to(ceiling < LONGEST_DELAY_MS ? ceiling : LONGEST_DELAY_MS);
}

static bool
give_up(const wa_retry *r, bool cut_short, wa_error *err)
{
    if (cut_short && r->came_to.status != WA_OK)
        *err = r->came_to;
    if (r->attempts > 1)
        wa_error_wrap(err, "gave up after %u attempts", r->attempts);
    return false;
}

bool
wa_retry_again(wa_retry *r, wa_error *err)
{
    r->attempts++;
    bool cut_short = r->cut_short;
    r->cut_short = false;
    if (err->status != WA_UNAVAILABLE)
        return false;
    if (!cut_short)
        r->came_to = *err;
    if (r->attempts >= r->max_attempts)
        return give_up(r, cut_short, err);
    uint64_t delay = next_delay_ms(r);
    r->retry_after_ms = 0;
    if (wa_mono_now() + delay >= r->deadline)
        return give_up(r, cut_short, err);
    wa_error cancelled = WA_ERROR_INIT;
    if (wa_cancel_sleep(r->cancel, delay, &cancelled) != WA_OK) {
        *err = cancelled;
        return false;
    }
    return true;
}
