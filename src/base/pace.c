/*
 * pace.c - a limit in bytes per second: each byte moves the time at which the next may come.
 */
#include "walagent/base/pace.h"

#include "walagent/base/time.h"

uint64_t
wa_pace_after(wa_pace *p, size_t len, uint64_t now_us)
{
    if (p->rate == 0)
        return 0;
    if (p->due_us < now_us)
        p->due_us = now_us;
    p->due_us += (uint64_t)((double)len * 1e6 / (double)p->rate);
    return p->due_us - now_us;
}

wa_status
wa_pace_wait(wa_pace *p, size_t len, wa_cancel *cancel, wa_error *err)
{
    uint64_t ms = wa_pace_after(p, len, wa_mono_now_us()) / 1000;
    return ms == 0 ? wa_cancel_check(cancel, err) : wa_cancel_sleep(cancel, ms, err);
}
