/*
 * reconcile.c - at start, and after anything that leaves doubt: spool, archive tip and slot become
 * one flow.
 *
 *   archive     |--- whole segments ---|- chunks -|tip = durable
 *   spool                     |--- whole ---|--- whole ---|- valid -|torn
 *                              (removed)      job           received, checked
 *
 * What the spool holds behind the tip is shipped from it, whether or not a server can be reached.
 */
#include "streamer_internal.h"

#include "walagent/codec/hash.h"
#include "walagent/repo/coverage.h"

#include <stdlib.h>
#include <string.h>

#define BEFORE_MAX (16u * 1024 * 1024) /* a larger segment is not held for one record's sake */

/* The first LSN that matters: of what the server keeps for us, and of what the spool holds. A hole
 * that was declared is not looked for again. */
static wa_status
first_needed(wa_streamer *s, const wa_branch *head, wa_lsn kept, wa_lsn *ret, wa_error *err)
{
    WA_CLEANUP(wa_freep) wa_spool_file *files = NULL;
    size_t count = 0;
    WA_TRY(wa_spool_list(s->spool, &files, &count, err));
    if (kept != 0 && kept < s->status.hole_end)
        kept = s->status.hole_end;
    for (size_t i = 0; i < count; i++) {
        wa_lsn start = files[i].segno * s->cluster.segment_size;
        if (start < s->status.hole_end)
            continue;
        if (wa_branch_eq(&files[i].branch, head) && (kept == 0 || start < kept))
            kept = start;
    }
    *ret = kept;
    return WA_OK;
}

/* The last whole segment may lie behind a gap: archive_command was set up later than the stream, or
 * a person pushed it. What was streamed ends where the gap begins, and goes on from there. */
static wa_status
stop_at_gap(wa_streamer *s, const wa_lineage_step *head, wa_lsn kept, wa_lsn *tip, wa_error *err)
{
    uint64_t size = s->cluster.segment_size;
    WA_CLEANUP(wa_coverage_done) wa_coverage c = {0};
    WA_TRY(first_needed(s, &head->branch, kept, &kept, err));
    if (kept == 0 || wa_segno_of(kept, size) + 1 >= wa_segno_of(*tip, size))
        return WA_OK;
    wa_lsn from = kept - kept % size;
    if (from < head->begin)
        from = head->begin;
    WA_TRY(wa_coverage_load(s->repo, s->lineage, from, &c, err));
    wa_lsn end = wa_coverage_from(&c, from);
    if (end < *tip)
        *tip = end;
    return WA_OK;
}

/* Files that the archive has, that belong to a timeline which was left, or to one that was
 * rejected, or that never got a name. */
static wa_status
clean_spool(wa_streamer *s, const wa_branch *head, wa_lsn *tip, wa_error *err)
{
    WA_CLEANUP(wa_freep) wa_spool_file *files = NULL;
    size_t count = 0;
    WA_TRY(wa_spool_list(s->spool, &files, &count, err));
    for (size_t i = 0; i < count; i++) {
        const wa_spool_file *file = &files[i];
        bool ours = wa_branch_eq(&file->branch, head);
        if (ours && *tip == 0)
            *tip = file->segno * s->cluster.segment_size;
        bool archived = ours && file->segno < wa_segno_of(*tip, s->cluster.segment_size);
        bool left =
            !ours && (file->branch.id[0] == '\0' || wa_lineage_has(s->lineage, &file->branch));
        if (archived || left)
            WA_TRY(wa_spool_remove(s->spool, &file->branch, file->segno, err));
        else if (!ours)
            WA_TRY(wa_spool_release(s, s->lineage, file, err));
    }
    return WA_OK;
}

wa_status
wa_reconcile_prefix(wa_streamer *s, const wa_branch *from, const wa_branch *into, wa_lsn upto,
                    wa_error *err)
{
    uint64_t size = s->cluster.segment_size;
    wa_segno segno = wa_segno_of(upto, size);
    wa_lsn end = 0;
    if (upto % size == 0)
        return WA_OK;
    WA_CLEANUP(wa_freep) uint8_t *bytes = wa_calloc(1, size);
    WA_CLEANUP(wa_freep) wa_wal_facts *facts = wa_malloc(sizeof *facts);
    wa_status status = wa_tail_assemble(s->repo, from, segno, bytes, &end, facts, err);
    /* The whole may have come after the chunks, which stay for a while: then it holds more. */
    if (status == WA_NOT_FOUND || (status == WA_OK && end < upto)) {
        wa_lsn tail_end = end;
        end = (segno + 1) * size;
        status = wa_wal_get(s->repo, from, segno, s->pool, bytes, facts, NULL, err);
        if (status == WA_NOT_FOUND && tail_end != 0) {
            status = WA_OK;
            end = tail_end;
        }
    }
    WA_TRY(status);
    if (end < upto) {
        char at[WA_LSN_TEXT];
        return wa_error_set(err, WA_CORRUPT, "the archive's tail ends before %s",
                            wa_lsn_format(upto, at));
    }
    return wa_spool_put(s->spool, into, segno, bytes, (size_t)(upto % size), err);
}

typedef struct found {
    wa_streamer *s;
    wa_flow *flow;
} found;

static wa_status
found_segment(void *arg, wa_segno segno, bool parsed, const wa_wal_facts *facts,
              const wa_wal_facts *rest, const char *xxh3, wa_error *err)
{
    found *f = arg;
    wa_segment_job *job = wa_calloc(1, sizeof *job);
    (void)err;
    job->segno = segno;
    job->facts = *facts;
    job->rest = *rest;
    job->checked = parsed; /* else the bytes were believed */
    job->parsed = parsed;
    *f->flow->jobs_end = job;
    f->flow->jobs_end = &job->next;
    f->flow->job_count++;
    f->s->last_segno = segno;
    memcpy(f->s->last_xxh3, xxh3, WA_XXH_HEX);
    return WA_OK;
}

/* The segment before what the spool holds, from the archive: a record that begins in it and ends in
 * the spool belongs to the facts of the spool's. */
static wa_status
read_before(void *arg, wa_segno segno, uint8_t *out, wa_error *err)
{
    wa_streamer *s = ((found *)arg)->s;
    wa_lsn end = 0, behind = (segno + 1) * s->cluster.segment_size;
    const wa_branch *branch = wa_lineage_at(s->lineage, behind - 1);
    if (s->cluster.segment_size > BEFORE_MAX)
        return wa_error_set(err, WA_NOT_FOUND, "too large to be held for the sake of one record");
    if (branch == NULL)
        return wa_error_set(err, WA_NOT_FOUND, "nothing is accepted there");
    wa_status status = wa_wal_get(s->repo, branch, segno, s->pool, out, NULL, NULL, err);
    if (status != WA_NOT_FOUND)
        return status;
    wa_error_clear(err);
    WA_TRY(wa_tail_assemble(s->repo, branch, segno, out, &end, NULL, err));
    return end == behind ? WA_OK : wa_error_set(err, WA_NOT_FOUND, "only a part of it is there");
}

/* The tip's segment up to the tip; *ret_found false: the parent's end, which is in a hole. */
static wa_status
fetch_prefix(wa_streamer *s, const wa_lineage_step *head, wa_lsn tip, bool *ret_found,
             wa_error *err)
{
    const wa_branch *from = &head->branch;
    bool at_fork = tip == head->begin && s->lineage->count > 1;
    if (at_fork)
        from = &s->lineage->steps[s->lineage->count - 2].branch;
    wa_status status = wa_reconcile_prefix(s, from, &head->branch, tip, err);
    *ret_found = status == WA_OK;
    if (status != WA_NOT_FOUND || !at_fork)
        return status;
    wa_error_clear(err);
    return WA_OK;
}

/* Nothing of the fork's segment is known: the child's server shows all of it, or has it no more. */
static wa_status
begin_unseen(wa_streamer *s, const wa_lineage_step *head, wa_lsn tip, wa_flow *flow, wa_error *err)
{
    uint64_t size = s->cluster.segment_size;
    flow->received = flow->checked = tip;
    flow->handed = tip - tip % size;
    flow->tail_in_spool = true;
    return wa_spool_remove(s->spool, &head->branch, wa_segno_of(tip, size), err);
}

/* The spool's bytes behind the tip. Afterwards the spool holds the tip's segment up to the tip,
 * unless begin_unseen says otherwise. */
static wa_status
walk_spool(wa_streamer *s, const wa_lineage_step *head, wa_lsn tip, wa_flow *flow, wa_error *err)
{
    uint64_t size = s->cluster.segment_size;
    wa_segno segno = wa_segno_of(tip, size);
    WA_CLEANUP(wa_freep) wa_spool_end_info *info = wa_calloc(1, sizeof *info);
    found f = {s, flow};
    wa_spool_calls calls = {found_segment, read_before, &f};
    WA_TRY(wa_spool_walk(s->spool, &head->branch, segno, tip, s->cluster.system_identifier, &calls,
                         info, err));
    if (info->end < tip) {
        bool there = false;
        WA_TRY(fetch_prefix(s, head, tip, &there, err));
        if (!there)
            return begin_unseen(s, head, tip, flow, err);
        calls.segment = NULL;
        WA_TRY(wa_spool_walk(s->spool, &head->branch, segno, tip, s->cluster.system_identifier,
                             &calls, info, err));
        info->end = tip;
    }
    if (info->end % size != 0)
        WA_TRY(wa_spool_truncate(s->spool, &head->branch, wa_segno_of(info->end, size),
                                 info->end % size, err));
    else
        WA_TRY(wa_spool_remove(s->spool, &head->branch, wa_segno_of(info->end, size), err));
    flow->received = flow->checked = info->end;
    flow->handed = info->end - info->end % size;
    flow->segment = info->segment;
    flow->counted = info->end;
    flow->rest = info->rest;
    flow->parsed = info->parsed;
    flow->tail_in_spool = true;
    return WA_OK;
}

/* Chunks below the tip that an earlier run has left. Where no whole segment is they stay: the proof
 * of a hole. */
static wa_status
plan_removals(wa_streamer *s, const wa_branch *branch, wa_lsn tip, wa_error *err)
{
    WA_CLEANUP(wa_freep) wa_segno *segments = NULL;
    size_t count = 0;
    WA_TRY(wa_tail_segments(s->repo, branch, &segments, &count, err));
    while (count > 0 && (segments[count - 1] + 1) * s->cluster.segment_size > tip)
        count--;
    if (count > 0)
        wa_segments_schedule_removal(s, segments[0], segments[count - 1]);
    return WA_OK;
}

/* At a segment's start there is nothing in this segment to compare: the one before is shown again.
 */
static wa_status
remember_last(wa_streamer *s, const wa_branch *branch, wa_lsn tip, wa_error *err)
{
    wa_wal_info info;
    s->last_xxh3[0] = '\0';
    if (tip % s->cluster.segment_size != 0 || tip == 0)
        return WA_OK;
    s->last_segno = wa_segno_of(tip, s->cluster.segment_size) - 1;
    wa_status status = wa_wal_head(s->repo, branch, s->last_segno, &info, err);
    if (status == WA_OK)
        memcpy(s->last_xxh3, info.xxh3, sizeof s->last_xxh3);
    return status == WA_NOT_FOUND ? WA_OK : status;
}

/* A tip in a hole that was declared: what came behind it counts. */
static wa_status
pass_hole(wa_streamer *s, const wa_branch *head, wa_lsn *tip, wa_error *err)
{
    if (*tip < s->status.hole_begin || *tip >= s->status.hole_end ||
        !wa_branch_eq(head, &s->hole_branch))
        return WA_OK;
    *tip = s->status.hole_end;
    WA_TRY(wa_tip_follow(s->repo, head, tip, err));
    wa_error_clear(err);
    return WA_OK;
}

static void
free_flowp(wa_flow **flow)
{
    wa_flow_done(*flow);
    free(*flow);
}

wa_status
wa_reconcile(wa_streamer *s, wa_lsn kept, wa_error *err)
{
    const wa_lineage_step *head = wa_lineage_head(s->lineage);
    uint64_t size = s->cluster.segment_size;
    wa_lsn tip = 0;
    wa_streamer_set_state(s, WA_STREAM_RECONCILING);
    WA_CLEANUP(free_flowp) wa_flow *flow = wa_malloc(sizeof *flow);
    wa_flow_init(flow);
    wa_flow_suspend(s);
    wa_spool_end(s->spool);
    WA_TRY(wa_tip_find(s->repo, s->lineage, &tip, err));
    WA_TRY(pass_hole(s, &head->branch, &tip, err));
    WA_TRY(stop_at_gap(s, head, kept, &tip, err));
    /* The server and the spool give up what lies before it. */
    WA_TRY(wa_tip_settle(s->repo, &head->branch, tip, err));
    WA_TRY(clean_spool(s, &head->branch, &tip, err));
    if (tip == 0)
        tip = kept - kept % size;
    if (tip == 0)
        return wa_error_set(err, WA_NOT_FOUND, "neither archive nor spool holds WAL yet");
    WA_CLEANUP(wa_chunks_done) wa_chunks chunks = {0};
    WA_TRY(wa_tail_list(s->repo, &head->branch, wa_segno_of(tip, size), &chunks, err));
    WA_TRY(remember_last(s, &head->branch, tip, err));
    flow->branch = head->branch;
    flow->epoch = s->lineage->epoch;
    flow->durable = tip;
    flow->small = (unsigned)(chunks.count < 31 ? chunks.count : 31);
    WA_TRY(walk_spool(s, head, tip, flow, err));
    wa_flow_install(s, flow);
    s->anchored = kept != 0;
    return plan_removals(s, &head->branch, tip, err);
}

/* Where the archive, that ends at `begin`, goes on before `limit`; limit when it doesn't; begin
 * when it was filled meanwhile. */
static wa_status
end_of_gap(wa_streamer *s, wa_lsn begin, wa_lsn limit, wa_lsn *ret, wa_error *err)
{
    WA_CLEANUP(wa_coverage_done) wa_coverage c = {0};
    WA_TRY(wa_coverage_load(s->repo, s->lineage, begin, &c, err));
    wa_lsn end = wa_coverage_from(&c, begin) > begin ? begin : limit;
    for (size_t i = 0; i < c.count; i++)
        if (c.runs[i].begin > begin && c.runs[i].begin < end)
            end = c.runs[i].begin;
    *ret = end;
    return WA_OK;
}

/* One that follows the last one directly is the same hole, grown. */
void
wa_reconcile_declare_hole(wa_streamer *s, const wa_branch *branch, wa_lsn begin, wa_lsn end)
{
    char from[WA_LSN_TEXT], to[WA_LSN_TEXT];
    if (s->status.hole_begin != 0 && s->status.hole_end == begin)
        begin = s->status.hole_begin;
    wa_streamer_event(s, "hole", WA_LOG_ERROR,
                      "Take a base backup: no point in time behind the hole can be reached from an "
                      "older one.",
                      "WAL from %s to %s is gone from the server and is not in the archive",
                      wa_lsn_format(begin, from), wa_lsn_format(end, to));
    s->hole_branch = *branch;
    WA_LOCK(&s->mutex);
    s->status.hole_begin = begin;
    s->status.hole_end = end;
}

wa_status
wa_reconcile_hole(wa_streamer *s, wa_lsn available, wa_error *err)
{
    uint64_t size = s->cluster.segment_size;
    WA_TRY(wa_flow_drain(s, s->cancel, err));
    wa_lsn begin = wa_flow_durable(s), end = 0;
    available -= available % size;
    WA_TRY(end_of_gap(s, begin, available, &end, err));
    if (end <= begin)
        return wa_reconcile(s, begin, err);
    wa_reconcile_declare_hole(s, &s->flow.branch, begin, end);
    wa_spool_end(s->spool);
    WA_TRY(wa_spool_remove(s->spool, &s->flow.branch, wa_segno_of(begin, size), err));
    if (end < available) /* others have archived what comes next */
        return wa_reconcile(s, end, err);
    WA_CLEANUP(free_flowp) wa_flow *flow = wa_malloc(sizeof *flow);
    wa_flow_init(flow);
    flow->branch = s->flow.branch;
    flow->epoch = s->flow.epoch;
    flow->received = flow->checked = flow->durable = flow->handed = available;
    flow->tail_in_spool = true;
    s->last_xxh3[0] = '\0';
    wa_flow_install(s, flow);
    return WA_OK;
}
