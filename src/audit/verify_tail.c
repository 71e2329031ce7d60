/*
 * verify_tail.c - the chunks of a branch's unfinished segments: their bytes, and every record in
 * one chain with the last whole segment.
 */
#include "verify_internal.h"

#include "walagent/pg/walreader.h"
#include "walagent/repo/tail.h"
#include "walagent/repo/tip.h"

#define LOOKS 2

typedef struct tail_work {
    wa_verify *v;
    const wa_branch *branch;
    wa_walreader *reader;
    uint8_t *bytes; /* a segment */
    uint64_t size;
    wa_lsn joined; /* the reader goes on here; 0: it must start anew */
} tail_work;

static void
tell(tail_work *t, const char *kind, wa_segno segno, wa_lsn from, const char *message)
{
    char name[WA_SEGMENT_NAME];
    wa_segment_name(t->branch->tli, segno, t->size, name);
    WA_CLEANUP(wa_freep)
    char *cost = wa_verify_cost(t->v, t->branch, from, wa_segment_start(segno + 1, t->size));
    wa_verify_damage(t->v, kind, name, cost, "%s", message);
}

/* So that the record which leaves the last whole segment is checked to its end. What is wrong in
 * that segment was found before. */
static wa_status
lead_in(tail_work *t, wa_segno last, wa_error *err)
{
    wa_wal_end end = WA_WAL_MORE;
    wa_status status =
        wa_wal_get(t->v->options->repo, t->branch, last, NULL, t->bytes, NULL, NULL, err);
    if (status == WA_OK) {
        wa_walreader_start(t->reader, wa_segment_start(last, t->size), 0);
        status = wa_walreader_feed(t->reader, t->bytes, t->size, NULL, NULL, &end, err);
        if (status == WA_OK && end == WA_WAL_MORE)
            t->joined = wa_segment_start(last + 1, t->size);
    }
    if (status == WA_CORRUPT || status == WA_CONFLICT || status == WA_NOT_FOUND) {
        wa_error_clear(err);
        status = WA_OK;
    }
    return status;
}

/* Chunks of the newest epoch behind a gap; older epochs' may be those of a fenced writer. */
static wa_status
check_gap(tail_work *t, wa_segno segno, wa_lsn end, wa_error *err)
{
    WA_CLEANUP(wa_chunks_done) wa_chunks chunks = {0};
    char at[WA_LSN_TEXT], behind[WA_LSN_TEXT];
    WA_TRY(wa_tail_list(t->v->options->repo, t->branch, segno, &chunks, err));
    if (chunks.count == 0)
        return WA_OK;
    uint32_t newest = chunks.items[chunks.count - 1].epoch;
    for (size_t i = 0; i < chunks.count; i++)
        if (chunks.items[i].epoch == newest && chunks.items[i].start > end) {
            WA_CLEANUP(wa_freep)
            char *message =
                wa_format("the chunk that begins at %s is missing, those from %s on "
                          "can't be used",
                          wa_lsn_format(end, at), wa_lsn_format(chunks.items[i].start, behind));
            tell(t, "chunk", segno, end, message);
            return WA_OK;
        }
    return WA_OK;
}

static void
check_records(tail_work *t, wa_segno segno, wa_lsn end)
{
    wa_error here = WA_ERROR_INIT;
    wa_lsn start = wa_segment_start(segno, t->size);
    wa_wal_end state = WA_WAL_MORE;
    char at[WA_LSN_TEXT];
    if (t->joined != start)
        wa_walreader_start(t->reader, start, 0);
    wa_status status =
        wa_walreader_feed(t->reader, t->bytes, end - start, NULL, NULL, &state, &here);
    if (status == WA_OK && state == WA_WAL_END)
        wa_error_set(&here, WA_CORRUPT, "no record begins at %s",
                     wa_lsn_format(wa_walreader_end(t->reader), at));
    t->joined = 0;
    if (here.status != WA_OK)
        tell(t, "chain", segno, wa_walreader_end(t->reader), here.message);
    else if (state == WA_WAL_UNPARSED)
        tell(t, "unchecked", segno, start,
             "the chunks are of a major version that is not known: their records were not "
             "checked");
    else
        t->joined = end;
}

static wa_status
verify_segment(tail_work *t, wa_segno segno, wa_error *err)
{
    wa_lsn end = 0;
    wa_status status =
        wa_tail_assemble(t->v->options->repo, t->branch, segno, t->bytes, &end, NULL, err);
    if (status == WA_CORRUPT) {
        tell(t, "chunk", segno, wa_segment_start(segno, t->size), err->message);
        wa_error_clear(err);
        return WA_OK;
    }
    if (status == WA_NOT_FOUND) { /* nothing but a seal */
        wa_error_clear(err);
        return WA_OK;
    }
    WA_TRY(status);
    check_records(t, segno, end);
    t->v->result->chunks++;
    return check_gap(t, segno, end, err);
}

static wa_status
verify_segments(tail_work *t, const wa_segno *last_whole, wa_error *err)
{
    WA_CLEANUP(wa_freep) wa_segno *segments = NULL;
    size_t count = 0;
    bool first = true;
    WA_TRY(wa_tail_segments(t->v->options->repo, t->branch, &segments, &count, err));
    for (size_t i = 0; i < count; i++) {
        if (last_whole != NULL && segments[i] <= *last_whole)
            continue; /* whole by now: the chunks are left-overs */
        WA_TRY(wa_cancel_check(t->v->options->cancel, err));
        if (first && last_whole != NULL && segments[i] == *last_whole + 1)
            WA_TRY(lead_in(t, *last_whole, err));
        first = false;
        WA_TRY(verify_segment(t, segments[i], err));
    }
    return WA_OK;
}

wa_status
wa_verify_tail(wa_verify *v, const wa_branch *branch, const wa_tli *timelines,
               size_t timeline_count, const wa_segno *last_whole, wa_error *err)
{
    const wa_cluster *cluster = wa_repo_cluster(v->options->repo);
    WA_CLEANUP(wa_freep) uint8_t *bytes = wa_malloc(cluster->segment_size);
    WA_CLEANUP(wa_walreader_freep) wa_walreader *reader = wa_walreader_new(cluster->segment_size);
    wa_walreader_expect_system(reader, cluster->system_identifier);
    wa_walreader_expect_timelines(reader, timelines, timeline_count);
    tail_work t = {
        .v = v, .branch = branch, .reader = reader, .bytes = bytes, .size = cluster->segment_size};
    return verify_segments(&t, last_whole, err);
}

/* A chunk that is the newest one leaves no trace when it goes: the next would have told. Looked at
 * twice, for a segment may become whole, and its chunks go, between a look's listings. */
wa_status
wa_verify_acknowledged(wa_verify *v, wa_error *err)
{
    const wa_verify_options *o = v->options;
    const wa_lineage_step *head = wa_lineage_head(v->windows->lineage);
    uint64_t size = wa_repo_cluster(o->repo)->segment_size;
    char name[WA_SEGMENT_NAME], end[WA_LSN_TEXT], said[WA_LSN_TEXT];
    wa_lsn tip = 0;
    if (o->acknowledged == 0 || head == NULL ||
        !wa_branch_eq(&head->branch, &o->acknowledged_branch))
        return WA_OK;
    for (int look = 0; look < LOOKS; look++) {
        wa_status status = wa_tip_find(o->repo, v->windows->lineage, &tip, err);
        if (status == WA_CORRUPT) { /* a chain without its first chunk: it was told */
            wa_error_clear(err);
            return WA_OK;
        }
        WA_TRY(status);
        if (tip >= o->acknowledged || tip == 0) /* 0: an agent begins where the server keeps WAL */
            return WA_OK;
    }
    WA_CLEANUP(wa_freep) char *cost = wa_verify_cost(v, &head->branch, tip, o->acknowledged);
    wa_verify_damage(v, "chunk",
                     wa_segment_name(head->branch.tli, wa_segno_of(tip, size), size, name), cost,
                     "the archive ends at %s, and the running agent has made WAL up to %s durable: "
                     "the newest chunk is missing (the agent still has it; \"SELECT "
                     "pg_switch_wal()\" makes it archive the whole segment)",
                     wa_lsn_format(tip, end), wa_lsn_format(o->acknowledged, said));
    return WA_OK;
}
