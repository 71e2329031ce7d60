/*
 * backlog.c - how near the WAL that is not durable has come to a limit, and the alarms about it.
 */
#include "backlog_internal.h"

#include "streamer_internal.h"

#include <string.h>

uint64_t
wa_backlog_limit(uint64_t backlog, uint64_t spool_max, int64_t safe_wal_size)
{
    if (safe_wal_size < 0)
        return spool_max;
    uint64_t lost_at = backlog + (uint64_t)safe_wal_size;
    return lost_at < spool_max ? lost_at : spool_max;
}

unsigned
wa_backlog_level(uint64_t backlog, uint64_t limit, unsigned before)
{
    double percent = limit == 0 ? 0 : 100.0 * (double)backlog / (double)limit;
    unsigned level = before;
    while (level < WA_BACKLOG_LEVELS && percent >= (level + 1) * WA_BACKLOG_STEP)
        level++;
    while (level > 0 && percent < level * WA_BACKLOG_STEP - WA_BACKLOG_SLACK)
        level--;
    return level;
}

void
wa_backlog_slot_locked(wa_streamer *s, const wa_pg_slot *slot)
{
    uint64_t backlog, limit;
    s->status.slot_restart = slot->restart_lsn;
    s->status.slot_safe_wal_size = slot->safe_wal_size;
    memcpy(s->status.slot_status, slot->wal_status, sizeof s->status.slot_status);
    wa_streamer_backlog_locked(s, &backlog, &limit);
    s->backlog_limit = wa_backlog_limit(backlog, s->options.spool_max, slot->safe_wal_size);
}

void
wa_backlog_look(wa_streamer *s)
{
    unsigned before, now;
    uint64_t backlog, limit;
    bool by_slot;
    {
        WA_LOCK(&s->mutex);
        wa_streamer_backlog_locked(s, &backlog, &limit);
        before = s->backlog_level;
        now = s->backlog_level = wa_backlog_level(backlog, limit, before);
        by_slot = limit < s->options.spool_max;
    }
    char size[WA_SIZE_TEXT], of[WA_SIZE_TEXT];
    if (now > before)
        wa_streamer_event(
            s, "backlog", now == WA_BACKLOG_LEVELS ? WA_LOG_ERROR : WA_LOG_WARNING,
            by_slot
                ? "At the limit the server invalidates the slot and WAL is lost to the archive: "
                  "raise max_slot_wal_keep_size, see \"walagent status\"."
                : "At the limit the spool is full and WAL stays on the server; see \"walagent "
                  "status\".",
            "more than %u %% of what fits waits to be archived: %s of %s", now * WA_BACKLOG_STEP,
            wa_format_size(backlog, size), wa_format_size(limit, of));
    else if (now == 0 && before > 0)
        wa_streamer_say(s, WA_LOG_NOTICE, "", "less than %u %% of what fits waits to be archived",
                        WA_BACKLOG_STEP);
}
