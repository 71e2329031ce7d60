/*
 * cut.c - when a chunk is cut, and of what.
 */
#include "cut_internal.h"

static uint64_t
next_limit(const wa_cut_input *in, uint64_t pending)
{
    uint64_t limit = in->size_limit < WA_CUT_SIZE ? WA_CUT_SIZE : in->size_limit;
    if (pending >= 2 * limit && limit < in->segment_size && limit < in->most)
        return limit * 2;
    if (pending < limit / 2 && limit > WA_CUT_SIZE)
        return limit / 2;
    return limit;
}

wa_cut
wa_cut_decide(const wa_cut_input *in)
{
    wa_lsn segment_start = in->durable - in->durable % in->segment_size;
    wa_lsn segment_end = segment_start + in->segment_size;
    wa_lsn end = in->available < segment_end ? in->available : segment_end;
    wa_cut out = {.wait_ms = WA_CUT_NEVER, .size_limit = in->size_limit};
    if (end <= in->durable)
        return out;
    uint64_t pending = end - in->durable;
    uint64_t patience = in->complete ? 2 * in->interval_ms : in->interval_ms;
    bool hurry = in->synchronous || in->drain;
    bool large = !in->complete && pending >= in->size_limit;
    if (!hurry && !large && in->age_ms < patience) {
        out.wait_ms = patience - in->age_ms;
        return out;
    }
    out.cut = true;
    out.start = in->durable;
    out.part = pending > in->most;
    out.end = out.part ? out.start + in->most : end;
    out.base = in->first || in->small >= WA_CUT_SMALL ? segment_start : out.start;
    out.size_limit = next_limit(in, pending);
    return out;
}
