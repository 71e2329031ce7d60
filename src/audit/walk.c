/*
 * walk.c - feed the archive's segments, run after run, to a reader.
 *
 * Where a child timeline goes on at its parent's fork, the bytes are contiguous, so the reader goes
 * on too; behind a hole, and behind bytes that can't be read, it starts anew.
 */
#include "walk_internal.h"

#include "walagent/repo/tail.h"

#include <string.h>

typedef struct walker {
    const wa_walk *walk;
    uint64_t size; /* of a segment */
    wa_walreader *reader;
    uint8_t *bytes; /* one segment */
    const wa_branch *branch;
    wa_lsn run_begin;
    wa_lsn from, to;
    bool leading;  /* before `from`: only to see what crosses it */
    bool unlinked; /* the reader must start anew at the next segment */
    bool enough;
} walker;

static wa_status
forward(void *arg, const wa_record *record, wa_error *err)
{
    walker *w = arg;
    if (record->end <= w->from || record->end > w->to || record->end <= w->run_begin)
        return WA_OK;
    wa_status status = w->walk->on_record(w->walk->arg, w->branch, record, err);
    w->enough = status == WA_CANCELLED && err->status == WA_OK;
    return status;
}

static void
tell_damage(walker *w, wa_lsn begin, wa_lsn end, const char *why)
{
    w->unlinked = true;
    if (!w->leading && w->walk->on_damage != NULL)
        w->walk->on_damage(w->walk->arg, begin, end, why);
}

static wa_status
pass_on(const wa_error *from, wa_error *err)
{
    *err = *from;
    return err->status;
}

/* One branch's bytes of a segment, and how far they go. NOT_FOUND: none. */
static wa_status
load_from(walker *w, const wa_branch *branch, wa_segno segno, wa_lsn *ret_end, wa_error *err)
{
    wa_wal_info info;
    wa_error whole = WA_ERROR_INIT;
    wa_status status =
        wa_wal_get(w->walk->repo, branch, segno, NULL, w->bytes, NULL, &info, &whole);
    if (status == WA_OK) {
        *ret_end = wa_segment_start(segno, w->size) + w->size;
        return WA_OK;
    }
    if (status == WA_NOT_FOUND || status == WA_CORRUPT) {
        wa_status tail =
            wa_tail_assemble(w->walk->repo, branch, segno, w->bytes, ret_end, NULL, err);
        if (tail != WA_NOT_FOUND || status == WA_NOT_FOUND)
            return tail;
    }
    return pass_on(&whole, err);
}

/* The accepted branch's own bytes, else those of a descendant that leaves within the segment: it
 * begins with the same ones. NOT_FOUND, CORRUPT: the first reason. */
static wa_status
load_segment(walker *w, wa_segno segno, wa_lsn needed, wa_lsn *ret_end, wa_error *err)
{
    const wa_lineage *l = w->walk->lineage;
    wa_lsn stop = wa_segment_start(segno, w->size) + w->size;
    wa_error first = WA_ERROR_INIT;
    bool own = false;
    for (size_t i = 0; i < l->count; i++) {
        wa_error here = WA_ERROR_INIT;
        own = own || wa_branch_eq(&l->steps[i].branch, w->branch);
        bool leaves_later = !wa_branch_eq(&l->steps[i].branch, w->branch) &&
                            (l->steps[i].begin >= stop || l->steps[i].begin < stop - w->size);
        if (!own || leaves_later)
            continue;
        wa_lsn end = 0;
        wa_status status = load_from(w, &l->steps[i].branch, segno, &end, &here);
        if (status == WA_OK && end >= needed) {
            *ret_end = end;
            return WA_OK;
        }
        if (status == WA_OK)
            wa_error_set(&here, WA_NOT_FOUND, "only a part of this segment is there");
        else if (status != WA_NOT_FOUND && status != WA_CORRUPT)
            return pass_on(&here, err);
        if (first.status == WA_OK)
            first = here;
    }
    return pass_on(&first, err);
}

/* The part [from, to) of one segment of the current run. */
static wa_status
feed_segment(walker *w, wa_segno segno, wa_lsn from, wa_lsn to, wa_error *err)
{
    wa_lsn start = wa_segment_start(segno, w->size), end = 0;
    wa_error here = WA_ERROR_INIT;
    WA_TRY(wa_cancel_check(w->walk->cancel, err));
    wa_status status = load_segment(w, segno, to, &end, &here);
    if (status == WA_NOT_FOUND || status == WA_CORRUPT) {
        tell_damage(w, from, to, here.message);
        return WA_OK;
    }
    if (status != WA_OK)
        return pass_on(&here, err);
    if (w->unlinked || wa_walreader_fed(w->reader) != from) {
        wa_walreader_start(w->reader, start, 0);
        w->unlinked = false;
        from = start;
    }
    wa_wal_end state = WA_WAL_MORE;
    status = wa_walreader_feed(w->reader, w->bytes + (from - start), to - from, forward, w, &state,
                               &here);
    if (w->walk->progress != NULL && !w->leading)
        atomic_fetch_add(&w->walk->progress->done_bytes, to - from);
    if (w->enough)
        return WA_OK;
    wa_lsn good = wa_walreader_end(w->reader);
    if (status == WA_CORRUPT || status == WA_CONFLICT)
        tell_damage(w, good < from ? from : good, to, here.message);
    else if (status != WA_OK)
        return pass_on(&here, err);
    else if (state == WA_WAL_END && good < to)
        tell_damage(w, good < from ? from : good, to, "the records end here");
    else if (state == WA_WAL_UNPARSED)
        tell_damage(w, from, to, "written by a major version that is not known");
    return WA_OK;
}

static wa_status
walk_run(walker *w, const wa_run *run, wa_lsn begin, wa_lsn to, wa_error *err)
{
    wa_lsn at = run->begin < begin ? begin : run->begin;
    w->branch = &run->branch;
    w->run_begin = run->begin;
    while (at < run->end && at < to && !w->enough) {
        wa_segno segno = wa_segno_of(at, w->size);
        wa_lsn stop = wa_segment_start(segno, w->size) + w->size;
        stop = stop < run->end ? stop : run->end;
        WA_TRY(feed_segment(w, segno, at, stop, err));
        at = stop;
    }
    return WA_OK;
}

static wa_status
walk_range(walker *w, wa_lsn begin, wa_lsn to, wa_error *err)
{
    const wa_coverage *c = w->walk->coverage;
    for (size_t i = 0; i < c->count && !w->enough; i++) {
        if (c->runs[i].end > begin && c->runs[i].begin < to)
            WA_TRY(walk_run(w, &c->runs[i], begin, to, err));
    }
    return WA_OK;
}

/* Where the gap-free stretch begins in which the segment from `start` on lies; `start` itself when
 * nothing is before it. */
static wa_lsn
stretch_begin(const wa_coverage *c, wa_lsn start)
{
    wa_lsn begin = start, end = 0;
    for (size_t i = 0; i < c->count && c->runs[i].begin < start; i++) {
        if (i == 0 || c->runs[i].begin > end)
            begin = c->runs[i].begin;
        end = c->runs[i].end > end ? c->runs[i].end : end;
    }
    return end >= start ? begin : start;
}

/* Read up to `start`, from far enough to be within or at a record. */
static wa_status
lead_in(walker *w, wa_lsn start, wa_error *err)
{
    wa_lsn first = stretch_begin(w->walk->coverage, start);
    first -= first % w->size;
    w->leading = true;
    for (uint64_t count = 1; first < start; count *= 2) {
        uint64_t there = (start - first) / w->size;
        wa_lsn begin = start - (count < there ? count : there) * w->size;
        w->unlinked = true;
        WA_TRY(walk_range(w, begin, start, err));
        if (wa_walreader_last_record(w->reader) != 0 || wa_walreader_in_record(w->reader) ||
            count >= there)
            break;
    }
    w->leading = false;
    return WA_OK;
}

wa_status
wa_walk_records(const wa_walk *walk, wa_lsn from, wa_lsn to, wa_error *err)
{
    const wa_cluster *cluster = wa_repo_cluster(walk->repo);
    WA_CLEANUP(wa_freep) void *bytes = wa_malloc(cluster->segment_size);
    WA_CLEANUP(wa_walreader_freep) wa_walreader *reader = wa_walreader_new(cluster->segment_size);
    wa_walreader_expect_system(reader, cluster->system_identifier);
    walker w = {.walk = walk,
                .size = cluster->segment_size,
                .reader = reader,
                .bytes = bytes,
                .from = from,
                .to = to,
                .unlinked = true};
    wa_lsn start = from - from % w.size;
    WA_TRY(lead_in(&w, start, err));
    return walk_range(&w, start, to, err);
}
