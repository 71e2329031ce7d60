/*
 * get_whole.c - a whole segment on its way from the archive to a file.
 *
 * Each frame is written by the thread that decompressed it, while its bytes are at hand; the
 * caller's thread checks the records in order meanwhile. What was written is a draft until all of
 * it turned out to be right: the checksums of each frame and of the whole, the first page, and the
 * records up to the end.
 */
#include "get_internal.h"

#include "walagent/pg/walreader.h"

#include <string.h>

typedef struct whole_run {
    const wa_get_whole *whole;
    wa_wal_info info;
    uint8_t head[WA_GET_HEAD];
    size_t head_len;
    wa_walreader *reader; /* NULL: the records are not looked at */
    wa_wal_end end;
} whole_run;

static void
whole_run_done(whole_run *run)
{
    wa_walreader_free(run->reader);
}

/* The records, of which the archive says that they were checked. WAL that it took knowing that they
 * contradict, or without knowing its version, is the server's history: served as it is. */
static wa_status
begin(void *arg, const wa_wal_info *info, wa_error *err)
{
    whole_run *run = arg;
    const wa_get_whole *whole = run->whole;
    run->info = *info;
    if (info->checked) {
        run->reader = wa_walreader_new(info->raw_size);
        wa_walreader_start(run->reader, info->start, 0);
    }
    if (whole->bytes != NULL)
        return WA_OK;
    return wa_get_draft_open(whole->draft, whole->target, whole->durable, err);
}

static wa_status
decoded(void *arg, uint64_t raw_offset, const void *raw, size_t len, wa_error *err)
{
    const wa_get_whole *whole = ((whole_run *)arg)->whole;
    if (whole->bytes == NULL)
        return wa_get_draft_write(whole->draft, raw_offset, raw, len, err);
    memcpy(whole->bytes + raw_offset, raw, len);
    return WA_OK;
}

static wa_status
take_head(whole_run *run, const void *raw, size_t len, wa_error *err)
{
    size_t missing = WA_GET_HEAD - run->head_len, take = len < missing ? len : missing;
    memcpy(run->head + run->head_len, raw, take);
    run->head_len += take;
    if (take < missing)
        return WA_OK;
    return run->whole->check_head(run->whole->arg, run->head, err);
}

static wa_status
next(void *arg, const void *raw, size_t len, wa_error *err)
{
    whole_run *run = arg;
    if (run->head_len < WA_GET_HEAD)
        WA_TRY(take_head(run, raw, len, err));
    if (run->reader == NULL || run->end != WA_WAL_MORE ||
        wa_walreader_feed(run->reader, raw, len, NULL, NULL, &run->end, err) == WA_OK)
        return WA_OK;
    err->status = WA_CORRUPT;
    return wa_error_wrap(err, "the archived WAL segment \"%s\" contradicts itself",
                         run->whole->name);
}

static bool
is_complete(const whole_run *run)
{
    if (run->reader == NULL || run->end == WA_WAL_UNPARSED)
        return true;
    return run->end == WA_WAL_MORE && wa_segment_check_fed(run->reader, run->head, 0).complete;
}

wa_status
wa_get_whole_read(const wa_get_whole *whole, wa_repo *repo, const wa_branch *branch, wa_segno segno,
                  wa_pool *pool, bool *ret_checked, wa_error *err)
{
    WA_CLEANUP(whole_run_done) whole_run run = {.whole = whole, .end = WA_WAL_MORE};
    wa_wal_taker taker = {.begin = begin, .frames = {decoded, next, &run}};
    wa_status status = wa_wal_get_to(repo, branch, segno, pool, &taker, err);
    if (status == WA_OK && !is_complete(&run))
        status = wa_error_set(err, WA_CORRUPT, "the archived WAL segment \"%s\" is not complete",
                              whole->name);
    if (status != WA_OK) {
        wa_get_draft_done(whole->draft);
        return status;
    }
    *ret_checked = run.info.checked;
    return WA_OK;
}
