/*
 * verify_tail.c - the chunks of a branch's unfinished segments: their bytes, and every record in
 * one chain with the last whole segment.
 */
#include "verify_internal.h"

#include "walagent/pg/walreader.h"
#include "walagent/repo/tail.h"
#include "walagent/repo/tip.h"

#define LOOKS 2
#define EPOCHS 8 /* back from the agent's, that its predecessors wrote in */

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

/* On from *tip to where the next object ends, when it is there by its name: a listing may lack it
 * for a while. The chunk may be of an earlier epoch than the agent's. */
static wa_status
step_by_name(wa_verify *v, const wa_branch *branch, wa_lsn *tip, wa_error *err)
{
    wa_repo *repo = v->options->repo;
    uint64_t size = wa_repo_cluster(repo)->segment_size;
    wa_segno segno = wa_segno_of(*tip, size);
    wa_lsn from = *tip;
    wa_wal_info info;
    wa_status status = wa_wal_head(repo, branch, segno, &info, err);
    if (status == WA_OK)
        *tip = wa_segment_start(segno + 1, size);
    uint32_t epoch = v->options->acknowledged_epoch;
    for (int i = 0; status == WA_NOT_FOUND && *tip == from && i < EPOCHS && epoch > 0; i++) {
        wa_error_clear(err);
        status = wa_tail_head(repo, branch, epoch--, from, &info, err);
        if (status == WA_OK && info.end > from)
            *tip = info.end;
        else if (status == WA_OK) /* a seal */
            status = WA_NOT_FOUND;
    }
    if (status != WA_NOT_FOUND)
        return status;
    wa_error_clear(err);
    return WA_OK;
}

static wa_status
follow_by_name(wa_verify *v, const wa_branch *branch, wa_lsn *tip, wa_error *err)
{
    wa_lsn from = 0;
    while (*tip < v->options->acknowledged && *tip != from) {
        from = *tip;
        WA_TRY(wa_cancel_check(v->options->cancel, err));
        WA_TRY(step_by_name(v, branch, tip, err));
    }
    return WA_OK;
}

/* *ret: the archive ends there as far as it is known, by its listings and then by name. Listed
 * twice, for a segment may become whole, and its chunks go, between a look's listings. */
static wa_status
find_end(wa_verify *v, const wa_branch *branch, bool *ret_empty, wa_lsn *ret, wa_error *err)
{
    const wa_verify_options *o = v->options;
    for (int look = 0; look < LOOKS; look++) {
        WA_TRY(wa_tip_find(o->repo, v->windows->lineage, ret, err));
        *ret_empty = *ret == 0;
        if (*ret_empty) /* an agent begins where the server keeps WAL */
            *ret = o->acknowledged_from != 0 ? o->acknowledged_from : o->acknowledged;
        WA_TRY(follow_by_name(v, branch, ret, err));
        if (*ret >= o->acknowledged)
            return WA_OK;
    }
    return WA_OK;
}

static void
tell_end(wa_verify *v, const wa_branch *branch, bool empty, wa_lsn tip)
{
    wa_lsn said = v->options->acknowledged;
    uint64_t size = wa_repo_cluster(v->options->repo)->segment_size;
    wa_segno segno = wa_segno_of(tip, size);
    char name[WA_SEGMENT_NAME], from[WA_LSN_TEXT], to[WA_LSN_TEXT];
    wa_segment_name(branch->tli, segno, size, name);
    wa_lsn_format(tip, from);
    wa_lsn_format(said, to);
    WA_CLEANUP(wa_freep) char *cost = wa_verify_cost(v, branch, tip, said);
    WA_CLEANUP(wa_freep)
    char *end = empty ? wa_strdup("the archive holds no WAL of this timeline")
                      : wa_format("the archive ends at %s", from);
    if (said < wa_segment_start(segno + 1, size))
        wa_verify_damage(v, "chunk", name, cost,
                         "%s, and the running agent has made WAL up to %s durable: the newest "
                         "chunk is missing (the agent still has it; \"SELECT pg_switch_wal()\" "
                         "makes it archive the whole segment)",
                         end, to);
    else
        wa_verify_damage(v, "segment", name, cost,
                         "%s, and the running agent has made WAL up to %s durable: WAL from %s on "
                         "is missing, and the agent keeps no segment that it has archived whole "
                         "(if the server's pg_wal still has %s, restart the agent now: it "
                         "archives again from there on; otherwise take a backup)",
                         end, to, from, name);
}

/* What is the newest leaves no trace when it goes: the next would have told. */
wa_status
wa_verify_acknowledged(wa_verify *v, wa_error *err)
{
    const wa_verify_options *o = v->options;
    const wa_lineage_step *head = wa_lineage_head(v->windows->lineage);
    wa_lsn tip = 0;
    bool empty = false;
    if (o->acknowledged == 0 || head == NULL ||
        !wa_branch_eq(&head->branch, &o->acknowledged_branch))
        return WA_OK;
    wa_status status = find_end(v, &head->branch, &empty, &tip, err);
    if (status == WA_CORRUPT) { /* a chain without its first chunk: it was told */
        wa_error_clear(err);
        return WA_OK;
    }
    WA_TRY(status);
    if (tip < o->acknowledged)
        tell_end(v, &head->branch, empty, tip);
    return WA_OK;
}
