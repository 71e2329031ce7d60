/*
 * paced_sink.c - [backup] upload_rate_limit: what goes into an object waits as the limit asks.
 */
#include "backup_internal.h"

#include "walagent/store/mirror.h"

#define AT_ONCE (64u * 1024)

typedef struct paced_sink {
    wa_sink base;
    wa_sink *to; /* owned */
    wa_pace *pace;
    wa_cancel *cancel;
} paced_sink;

static wa_status
paced_write(wa_sink *sink, const void *data, size_t len, wa_error *err)
{
    paced_sink *s = (paced_sink *)sink;
    for (size_t at = 0, step; at < len; at += step) {
        step = len - at < AT_ONCE ? len - at : AT_ONCE;
        WA_TRY(wa_sink_write(s->to, (const uint8_t *)data + at, step, err));
        WA_TRY(wa_pace_wait(s->pace, step, s->cancel, err));
    }
    return WA_OK;
}

static wa_status
paced_finish(wa_sink *sink, wa_error *err)
{
    return wa_sink_finish(((paced_sink *)sink)->to, err);
}

static void
paced_free(wa_sink *sink)
{
    wa_sink_free(((paced_sink *)sink)->to);
    wa_freep(&sink);
}

wa_sink *
wa_sink_paced(wa_sink *to, wa_pace *pace, wa_cancel *cancel)
{
    static const wa_sink_ops ops = {paced_write, paced_finish, paced_free};
    if (pace->rate == 0)
        return to;
    paced_sink *s = wa_calloc(1, sizeof *s);
    *s = (paced_sink){.base = {&ops}, .to = to, .pace = pace, .cancel = cancel};
    return &s->base;
}

/* Every member gets each byte. */
uint64_t
wa_upload_rate(const wa_store *store, uint64_t limit)
{
    uint64_t share = limit / wa_store_members(store);
    return limit > 0 && share == 0 ? 1 : share;
}
