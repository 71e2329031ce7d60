/*
 * walk.c - feed the archive's segments, run after run, to a reader.
 *
 * Where a child timeline goes on at its parent's fork, the bytes are contiguous, so the reader goes
 * on too; behind a hole it starts anew.
 */
#include "walk_internal.h"

#include "walagent/repo/tail.h"

typedef struct walker {
    const wa_walk *walk;
    wa_walreader *reader;
    void *bytes; /* one segment */
    const wa_branch *branch;
    wa_lsn from;
    bool enough;
} walker;

static wa_status
forward(void *arg, const wa_record *record, wa_error *err)
{
    walker *w = arg;
    if (record->end <= w->from)
        return WA_OK;
    wa_status status = w->walk->on_record(w->walk->arg, w->branch, record, err);
    w->enough = status == WA_CANCELLED && err->message[0] == '\0';
    return status;
}

static wa_status
load_segment(walker *w, wa_segno segno, wa_error *err)
{
    wa_wal_info info;
    wa_status status =
        wa_wal_get(w->walk->repo, w->branch, segno, NULL, w->bytes, NULL, &info, err);
    if (status != WA_NOT_FOUND)
        return status;
    wa_error_clear(err);
    wa_lsn end = 0;
    return wa_tail_assemble(w->walk->repo, w->branch, segno, w->bytes, &end, NULL, err);
}

/* The part [from, to) of one segment of the current run. */
static wa_status
feed_segment(walker *w, wa_segno segno, wa_lsn from, wa_lsn to, wa_error *err)
{
    uint64_t size = wa_repo_cluster(w->walk->repo)->segment_size;
    wa_lsn start = wa_segment_start(segno, size);
    WA_TRY(wa_cancel_check(w->walk->cancel, err));
    WA_TRY(load_segment(w, segno, err));
    if (wa_walreader_fed(w->reader) != from) {
        wa_walreader_start(w->reader, start, 0);
        from = start;
    }
    wa_status status = wa_walreader_feed(w->reader, (const uint8_t *)w->bytes + (from - start),
                                         to - from, forward, w, NULL, err);
    if (w->walk->progress != NULL)
        atomic_fetch_add(&w->walk->progress->done_bytes, to - from);
    return w->enough ? WA_OK : status;
}

static wa_status
walk_run(walker *w, const wa_run *run, wa_lsn to, wa_error *err)
{
    uint64_t size = wa_repo_cluster(w->walk->repo)->segment_size;
    wa_lsn begin = run->begin, end = run->end < to ? run->end : to;
    wa_lsn first = wa_segment_start(wa_segno_of(w->from, size), size);
    if (begin < first)
        begin = first;
    w->branch = &run->branch;
    while (begin < end && !w->enough) {
        wa_segno segno = wa_segno_of(begin, size);
        wa_lsn stop = wa_segment_start(segno, size) + size;
        WA_TRY(feed_segment(w, segno, begin, stop < run->end ? stop : run->end, err));
        begin = stop;
    }
    return WA_OK;
}

wa_status
wa_walk_records(const wa_walk *walk, wa_lsn from, wa_lsn to, wa_error *err)
{
    const wa_cluster *cluster = wa_repo_cluster(walk->repo);
    WA_CLEANUP(wa_freep) void *bytes = wa_malloc(cluster->segment_size);
    WA_CLEANUP(wa_walreader_freep) wa_walreader *reader = wa_walreader_new(cluster->segment_size);
    wa_walreader_expect_system(reader, cluster->system_identifier);
    walker w = {.walk = walk, .reader = reader, .bytes = bytes, .from = from};
    for (size_t i = 0; i < walk->coverage->count && !w.enough; i++) {
        const wa_run *run = &walk->coverage->runs[i];
        if (run->end > from && run->begin < to)
            WA_TRY(walk_run(&w, run, to, err));
    }
    return WA_OK;
}
