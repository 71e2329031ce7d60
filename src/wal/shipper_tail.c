/*
 * shipper_tail.c - the tail thread: chunks of the unfinished segment.
 *
 * When a chunk's name is taken, the winner is read (FORMATS: 412). Equal bytes over the shorter of
 * the two are durable history, whoever wrote them: on from its end. A seal, or any chunk of a
 * higher epoch behind it, means that another writer has taken over: fenced. Other bytes are a
 * contradiction that a person must see.
 */
#include "cut_internal.h"
#include "shipper_internal.h"

#include "walagent/base/crash.h"

#include <stdlib.h>
#include <string.h>

typedef struct piece {
    wa_branch branch;
    uint32_t epoch;
    wa_segno segno;
    wa_cut cut;
    bool checked, parsed;
    bool look;           /* for the whole segment first */
    bool whole;          /* which was there: no chunk was put */
    uint64_t generation; /* of the flow it was cut from */
    wa_wal_facts *facts; /* of the chunk's records; NULL: it has none */
    wa_wal_facts *taken; /* what was taken out of the flow, given back on failure */
    uint64_t commits;
} piece;

static void
piece_done(piece *p)
{
    free(p->facts);
    free(p->taken);
}

/* The facts that no chunk holds yet, of durable's segment. */
static wa_wal_facts *
rest_of_locked(wa_streamer *s, wa_segno segno)
{
    wa_segment_job *job = wa_flow_job_locked(s, segno);
    return job != NULL ? &job->rest : &s->flow.rest;
}

static wa_cut
decide_locked(wa_streamer *s)
{
    wa_flow *flow = &s->flow;
    uint64_t size = s->cluster.segment_size;
    wa_cut nothing = {.wait_ms = WA_CUT_NEVER};
    if (!flow->ready || flow->branch.id[0] == '\0')
        return nothing;
    wa_segno segno = wa_segno_of(flow->durable, size);
    wa_segment_job *job = wa_flow_job_locked(s, segno);
    bool receiving = job == NULL && segno == wa_segno_of(flow->received, size);
    if ((job != NULL && job->direct) || (job == NULL && !(receiving && flow->tail_in_spool)))
        return nothing;
    wa_lsn available =
        job != NULL ? (segno + 1) * size : (flow->drain ? flow->received : flow->checked);
    wa_mono now = wa_mono_now();
    if (available > flow->durable && flow->pending_since == 0)
        flow->pending_since = now;
    wa_cut_input in = {
        .durable = flow->durable,
        .available = available,
        .segment_size = size,
        .complete = job != NULL,
        .age_ms = flow->pending_since == 0 ? 0 : now - flow->pending_since,
        .interval_ms = s->options.tail_interval_ms,
        .synchronous = s->status.synchronous,
        .drain = flow->drain || s->stopping,
        .small = flow->small,
        .first = flow->small == 0,
        .size_limit = flow->size_limit,
        .most = s->chunk_most,
    };
    return wa_cut_decide(&in);
}

/* What is only a part of the bytes has no facts: they are about all of them, and go with the rest.
 * A reader looks at the records of such a chunk, as at those of one that was not parsed. */
static void
take_facts_locked(wa_flow *flow, wa_segment_job *job, piece *p)
{
    wa_wal_facts *rest = job != NULL ? &job->rest : &flow->rest;
    const wa_wal_facts *whole = job != NULL ? &job->facts : &flow->segment;
    p->taken = wa_memdup(rest, sizeof *rest);
    if (p->parsed)
        p->facts = wa_memdup(p->cut.base < p->cut.start ? whole : rest, sizeof *rest);
    p->commits = p->taken->commits;
    wa_wal_facts_init(rest);
    flow->pending_since = wa_mono_now();
}

static void
take_piece_locked(wa_streamer *s, const wa_cut *cut, piece *p)
{
    wa_flow *flow = &s->flow;
    p->branch = flow->branch;
    p->epoch = flow->epoch;
    p->generation = s->generation;
    p->segno = wa_segno_of(cut->start, s->cluster.segment_size);
    p->cut = *cut;
    wa_segment_job *job = wa_flow_job_locked(s, p->segno);
    p->parsed = job != NULL ? job->parsed : flow->parsed;
    p->checked = job != NULL ? job->checked : !flow->damaged && flow->parsed;
    p->look = flow->looked_at != p->segno || wa_mono_now() - flow->last_put > WA_CHUNK_GRACE_MS;
    if (!cut->part)
        take_facts_locked(flow, job, p);
}

static void
give_back_locked(wa_streamer *s, piece *p)
{
    wa_wal_facts *rest = rest_of_locked(s, p->segno);
    if (p->taken == NULL)
        return;
    wa_wal_facts_merge(p->taken, rest);
    *rest = *p->taken;
}

static void
put_done_locked(wa_streamer *s, piece *p, wa_lsn end)
{
    wa_flow *flow = &s->flow;
    bool left = flow->checked > end;
    flow->small = p->cut.base < p->cut.start || flow->small == 0 ? 1 : flow->small + 1;
    flow->size_limit = p->cut.size_limit;
    flow->looked_at = p->look ? UINT64_MAX : p->segno;
    flow->last_put = wa_mono_now();
    if (!p->whole)
        flow->last_chunk = p->cut.start;
    if (!left)
        flow->pending_since = 0;
    flow->commits_durable += p->commits;
    s->status.chunks_archived++;
    s->status.bytes_stored += end - p->cut.base;
    wa_flow_advance_locked(s, end);
}

/* The chunk's name is taken. *ret_end: how far the winner's bytes are ours too. */
static wa_status
meet_winner(wa_streamer *s, const piece *p, wa_lsn *ret_end, wa_error *err)
{
    WA_CLEANUP(wa_chunks_done) wa_chunks chunks = {0};
    WA_TRY(wa_tail_list(s->repo, &p->branch, p->segno, &chunks, err));
    const wa_chunk *winner = NULL;
    for (size_t i = 0; i < chunks.count; i++)
        if (chunks.items[i].epoch == p->epoch && chunks.items[i].start == p->cut.start)
            winner = &chunks.items[i];
    if (winner == NULL)
        return wa_error_set(err, WA_UNAVAILABLE,
                            "a tail chunk was there when it was written and is gone");
    WA_CLEANUP(wa_buf_done) wa_buf bytes = WA_BUF_INIT(s->cluster.segment_size);
    wa_wal_info info;
    WA_TRY(wa_tail_get(s->repo, &p->branch, p->segno, winner, &bytes, &info, NULL, err));
    char at[WA_LSN_TEXT];
    if (info.end == p->cut.start)
        return wa_error_set(err, WA_CONFLICT, "fenced: epoch %u of branch %u-%s was sealed at %s",
                            p->epoch, p->branch.tli, p->branch.id, wa_lsn_format(p->cut.start, at));
    wa_lsn from = info.base > p->cut.base ? info.base : p->cut.base;
    wa_lsn to = info.end < p->cut.end ? info.end : p->cut.end;
    bool ours = to > p->cut.start && bytes.len == info.end - info.base;
    if (ours)
        WA_TRY(wa_shipper_is_spooled(s, &p->branch, from,
                                     (const uint8_t *)bytes.data + (from - info.base), to - from,
                                     &ours, err));
    if (!ours)
        return wa_error_set(
            err, WA_CORRUPT, "the archive holds other WAL at %s of branch %u-%s, by writer %s",
            wa_lsn_format(p->cut.start, at), p->branch.tli, p->branch.id, info.writer);
    *ret_end = to;
    return WA_OK;
}

/* Before a segment's first chunk and after a pause (FORMATS 11), so one request a segment: if
 * somebody has archived the whole, no chunk is needed. */
static wa_status
look_for_whole(wa_streamer *s, const piece *p, bool *ret_there, wa_error *err)
{
    wa_wal_info info;
    wa_status status = wa_wal_head(s->repo, &p->branch, p->segno, &info, err);
    if (status != WA_OK && status != WA_NOT_FOUND)
        return status;
    *ret_there = status == WA_OK;
    return WA_OK;
}

typedef struct reading {
    wa_streamer *s;
    const piece *p;
} reading;

static wa_status
read_piece(void *arg, uint64_t offset, void *out, size_t len, wa_error *err)
{
    const reading *r = arg;
    return wa_shipper_read_spool(r->s, &r->p->branch, r->p->cut.base + offset, out, len, err);
}

static wa_status
put_piece(wa_streamer *s, piece *p, wa_lsn *ret_end, wa_error *err)
{
    reading r = {s, p};
    if (p->look)
        WA_TRY(look_for_whole(s, p, &p->whole, err));
    if (p->whole) {
        WA_TRY(wa_shipper_compare_whole(s, &p->branch, p->cut.base, p->cut.end, err));
        WA_TRY(wa_wal_settle(s->repo, &p->branch, p->segno, err)); /* another wrote it */
        WA_TRY(wa_shipper_check_not_sealed(s, &p->branch, p->epoch, p->segno, err));
        *ret_end = p->cut.end;
        return WA_OK;
    }
    p->look = false;
    WA_CRASH_POINT("chunk-before-put");
    wa_status status = wa_tail_put_from(s->repo, &p->branch, p->epoch, p->cut.start, p->cut.base,
                                        p->cut.end, read_piece, &r, p->facts, p->checked, err);
    WA_CRASH_POINT("chunk-after-put");
    if (status == WA_EXISTS)
        return meet_winner(s, p, ret_end, err);
    if (status == WA_OK)
        *ret_end = p->cut.end;
    return status;
}

/* One chunk, tried until it is durable, taken over by the whole segment, or hopeless. */
static void
ship_piece(wa_streamer *s, piece *p)
{
    uint64_t backoff = WA_BACKOFF_MIN_MS;
    for (;;) {
        wa_error err = WA_ERROR_INIT;
        wa_lsn end = p->cut.start;
        wa_status status = put_piece(s, p, &end, &err);
        if (status == WA_OK) {
            WA_LOCK(&s->mutex);
            if (s->generation == p->generation)
                put_done_locked(s, p, end);
            return;
        }
        if (status == WA_CONFLICT || status == WA_CORRUPT) {
            wa_shipper_contradiction(s, &err, status == WA_CONFLICT);
            return;
        }
        WA_LOCK(&s->mutex);
        /* The spool file goes when the segments thread was faster. */
        bool overtaken = s->generation != p->generation || s->flow.durable >= p->cut.end;
        if (!overtaken && wa_shipper_pause_locked(s, &err, &backoff)) {
            p->look = true; /* however long this lasts, the whole segment may come meanwhile */
            continue;
        }
        if (s->generation == p->generation && !overtaken)
            give_back_locked(s, p);
        return;
    }
}

void *
wa_tail_thread(void *arg)
{
    wa_streamer *s = arg;
    for (;;) {
        WA_CLEANUP(piece_done) piece p = {0};
        {
            WA_LOCK(&s->mutex);
            wa_cut cut = decide_locked(s);
            while (!cut.cut && !wa_cancelled(&s->stop)) {
                if (cut.wait_ms == WA_CUT_NEVER)
                    wa_cond_wait(&s->cond, &s->mutex);
                else
                    wa_cond_wait_until(&s->cond, &s->mutex, wa_mono_now() + cut.wait_ms);
                cut = decide_locked(s);
            }
            if (wa_cancelled(&s->stop))
                return NULL;
            take_piece_locked(s, &cut, &p);
            s->piece_running = true;
        }
        ship_piece(s, &p);
        WA_LOCK(&s->mutex);
        s->piece_running = false;
        wa_cond_broadcast(&s->cond);
    }
}
