/*
 * verify_wal.c - the WAL of one branch: every segment's bytes, and every record in one chain across
 * segments.
 *
 * The branch's segments are cut into stretches without a gap and those into spans of up to
 * SPAN_SEGMENTS,
 * which workers take in turn. A span's reader goes on into the next segment until the record that
 * began in the span is complete; the next span's reader skips that record. Where spans meet, the
 * first record of the one must link to the last record of the other.
 */
#include "verify_internal.h"

#include "walagent/pg/timeline.h"
#include "walagent/pg/walreader.h"

#include <string.h>

#define SPAN_SEGMENTS 32 /* at most; fewer where the workers would have none */
#define SPAN_LEAST 4
#define TIMELINES_MAX 4096

typedef struct span {
    wa_segno first, count;
    size_t index;                                 /* of its first segment in branch_work */
    bool more;                                    /* the segment behind it is read too */
    wa_lsn first_record, first_prev, last_record; /* 0: none */
    bool broken;                                  /* damage inside: its ends prove nothing */
} span;

typedef enum segment_state { TO_READ, SKIPPED, DAMAGED } segment_state;

typedef struct segment {
    wa_segno segno;
    segment_state state; /* guarded by v->mutex once the workers run */
} segment;

typedef struct branch_work {
    wa_verify *v;
    const wa_branch *branch;
    wa_tli *timelines; /* that its pages may carry; none: any */
    size_t timeline_count;
    wa_verify_mark mark; /* what earlier runs verified */
    size_t mark_at;
    segment *segments; /* all that are there */
    size_t segment_count, capacity;
    span *spans;
    size_t span_count, next; /* next: guarded by v->mutex */
    bool stop;
    wa_status status;
    wa_error error;
} branch_work;

static void
branch_work_done(branch_work *b)
{
    wa_freep(&b->timelines);
    wa_freep(&b->segments);
    wa_freep(&b->spans);
    wa_verify_mark_done(&b->mark);
}

/* The first and the last segment of a verified stretch are read again: what crosses its ends is
 * not verified until the segments on both sides are there. */
static bool
was_verified(branch_work *b, wa_segno segno)
{
    const wa_verify_mark *m = &b->mark;
    while (b->mark_at < m->count && m->items[b->mark_at].last < segno)
        b->mark_at++;
    return b->mark_at < m->count && segno > m->items[b->mark_at].first &&
           segno < m->items[b->mark_at].last;
}

static wa_status
collect(void *arg, wa_segno segno, uint64_t stored_size, wa_time modified, wa_error *err)
{
    (void)stored_size;
    (void)modified;
    (void)err;
    branch_work *b = arg;
    bool skip = was_verified(b, segno);
    b->v->result->skipped_segments += skip;
    if (b->segment_count == b->capacity) {
        b->capacity = b->capacity == 0 ? 1024 : b->capacity * 2;
        b->segments = wa_reallocarray(b->segments, b->capacity, sizeof *b->segments);
    }
    b->segments[b->segment_count++] = (segment){segno, skip ? SKIPPED : TO_READ};
    return WA_OK;
}

/* Are the segments i and i + 1 neighbours, both to be read? */
static bool
go_together(const branch_work *b, size_t i)
{
    return i + 1 < b->segment_count && b->segments[i + 1].segno == b->segments[i].segno + 1 &&
           b->segments[i].state != SKIPPED && b->segments[i + 1].state != SKIPPED;
}

static size_t
span_size(const branch_work *b)
{
    size_t jobs = b->v->options->jobs < 1 ? 1 : b->v->options->jobs;
    size_t share = b->segment_count / (2 * jobs);
    return share < SPAN_LEAST ? SPAN_LEAST : share > SPAN_SEGMENTS ? SPAN_SEGMENTS : share;
}

static void
cut_spans(branch_work *b)
{
    size_t most = span_size(b);
    for (size_t i = 0; i < b->segment_count; i++) {
        if (b->segments[i].state == SKIPPED)
            continue;
        size_t first = i;
        while (go_together(b, i) && i + 1 - first < most)
            i++;
        b->spans = wa_reallocarray(b->spans, b->span_count + 1, sizeof *b->spans);
        b->spans[b->span_count++] = (span){.first = b->segments[first].segno,
                                           .count = i + 1 - first,
                                           .index = first,
                                           .more = go_together(b, i)};
    }
}

/* Segments from..to stay to be verified by the next run too. */
static void
keep_unverified(branch_work *b, wa_segno from, wa_segno to)
{
    WA_LOCK(&b->v->mutex);
    for (size_t i = 0; i < b->segment_count; i++)
        if (b->segments[i].segno >= from && b->segments[i].segno <= to)
            b->segments[i].state = DAMAGED;
}

typedef struct span_reader {
    branch_work *b;
    span *s;
    wa_walreader *reader;
    uint64_t records;
    wa_lsn span_end; /* records that begin behind it belong to the next span */
} span_reader;

/* Stops with CANCELLED and an untouched error when the next span's territory is reached. */
static wa_status
on_record(void *arg, const wa_record *record, wa_error *err)
{
    (void)err;
    span_reader *r = arg;
    if (record->lsn >= r->span_end)
        return WA_CANCELLED;
    if (r->s->first_record == 0) {
        r->s->first_record = record->lsn;
        r->s->first_prev = record->prev;
    }
    r->s->last_record = record->lsn;
    r->records++;
    return WA_OK;
}

/* The bytes contradict, from the end of the last good record on. Reading goes on behind them. */
static void
tell_chain(span_reader *r, wa_segno segno, const char *message)
{
    branch_work *b = r->b;
    wa_repo *repo = b->v->options->repo;
    uint64_t size = wa_repo_cluster(repo)->segment_size;
    wa_lsn start = wa_segment_start(segno, size), good = wa_walreader_end(r->reader);
    bool own = start < r->span_end || wa_walreader_in_record(r->reader);
    WA_CLEANUP(wa_freep) char *key = wa_wal_key(repo, b->branch, segno);
    if (own) {
        WA_CLEANUP(wa_freep)
        char *cost =
            wa_verify_cost(b->v, b->branch, good < start + size ? good : start, start + size);
        wa_verify_damage(b->v, "chain", key, cost, "%s", message);
        keep_unverified(b, wa_segno_of(good, size), segno);
    }
    r->s->broken = true;
    wa_walreader_start(r->reader, start + size, 0);
}

static void
tell_object(span_reader *r, wa_segno segno, void *bytes, const wa_error *damage)
{
    branch_work *b = r->b;
    wa_repo *repo = b->v->options->repo;
    uint64_t size = wa_repo_cluster(repo)->segment_size;
    wa_lsn start = wa_segment_start(segno, size);
    WA_CLEANUP(wa_freep) char *key = wa_wal_key(repo, b->branch, segno);
    if (start < r->span_end) {
        wa_verify_mirror mirror = {.name = ""};
        if (damage->status ==
            WA_CORRUPT) /* that it is absent is the main repository's word alone */
            wa_verify_look_in_mirrors(b->v, b->branch, b->timelines, b->timeline_count, segno,
                                      bytes, &mirror);
        WA_CLEANUP(wa_freep)
        char *cost = wa_verify_cost_with(b->v, b->branch, start, start + size, &mirror);
        wa_verify_add(b->v, "segment", key, cost, mirror.name[0] != '\0' ? mirror.name : NULL,
                      damage->message);
        keep_unverified(b, segno, segno);
    }
    r->s->broken = true;
    wa_walreader_start(r->reader, start + size, 0);
}

/* A warning: these bytes were archived without being checked, and it was known. */
static void
tell_unchecked(span_reader *r, wa_segno segno, const char *message)
{
    branch_work *b = r->b;
    uint64_t size = wa_repo_cluster(b->v->options->repo)->segment_size;
    if (wa_segment_start(segno, size) >= r->span_end)
        return;
    WA_CLEANUP(wa_freep) char *key = wa_wal_key(b->v->options->repo, b->branch, segno);
    wa_verify_damage(b->v, "unchecked", key, NULL, "%s", message);
    keep_unverified(b, segno, segno);
}

/* One segment into the reader; damage becomes a finding and the reader starts anew behind it. */
static wa_status
read_segment(span_reader *r, wa_segno segno, void *bytes, bool *ret_done, wa_error *err)
{
    wa_repo *repo = r->b->v->options->repo;
    uint64_t size = wa_repo_cluster(repo)->segment_size;
    wa_lsn start = wa_segment_start(segno, size);
    char at[WA_LSN_TEXT];
    wa_wal_info info;
    wa_wal_end end = WA_WAL_MORE;
    wa_status status = wa_wal_get(repo, r->b->branch, segno, NULL, bytes, NULL, &info, err);
    if (status == WA_CORRUPT || status == WA_NOT_FOUND) {
        tell_object(r, segno, bytes, err);
        wa_error_clear(err);
        return WA_OK;
    }
    WA_TRY(status);
    status = wa_walreader_feed(r->reader, bytes, size, on_record, r, &end, err);
    *ret_done = status == WA_CANCELLED && err->message[0] == '\0';
    bool unparsed = status == WA_OK && end == WA_WAL_UNPARSED;
    if (!info.checked && !unparsed)
        tell_unchecked(r, segno,
                       "the segment was archived although its records failed their checks");
    if (*ret_done)
        return WA_OK;
    /* A whole segment is full of records, or ends in a switch. */
    if (status == WA_OK && end == WA_WAL_END)
        status = wa_error_set(err, WA_CORRUPT, "no record begins at %s",
                              wa_lsn_format(wa_walreader_end(r->reader), at));
    if (status == WA_CORRUPT || status == WA_CONFLICT) {
        tell_chain(r, segno, err->message);
        wa_error_clear(err);
        return WA_OK;
    }
    if (unparsed) {
        tell_unchecked(r, segno,
                       "the segment is of a major version that is not known: its "
                       "records were not checked");
        r->s->broken = true;
        wa_walreader_start(r->reader, start + size, 0);
    }
    return status;
}

static wa_walreader *
new_reader(const branch_work *b, wa_segno first)
{
    const wa_cluster *cluster = wa_repo_cluster(b->v->options->repo);
    wa_walreader *reader = wa_walreader_new(cluster->segment_size);
    wa_walreader_expect_system(reader, cluster->system_identifier);
    wa_walreader_expect_timelines(reader, b->timelines, b->timeline_count);
    wa_walreader_start(reader, wa_segment_start(first, cluster->segment_size), 0);
    return reader;
}

static wa_status
verify_span(branch_work *b, span *s, void *bytes, wa_error *err)
{
    wa_repo *repo = b->v->options->repo;
    uint64_t size = wa_repo_cluster(repo)->segment_size;
    WA_CLEANUP(wa_walreader_freep) wa_walreader *reader = new_reader(b, s->first);
    span_reader r = {
        .b = b, .s = s, .reader = reader, .span_end = wa_segment_start(s->first + s->count, size)};
    bool done = false;
    for (wa_segno i = 0; i < s->count && !done; i++) {
        WA_TRY(wa_cancel_check(b->v->options->cancel, err));
        WA_TRY(read_segment(&r, s->first + i, bytes, &done, err));
        wa_lock(&b->v->mutex);
        b->v->result->segments++;
        b->v->result->wal_bytes += size;
        wa_unlock(&b->v->mutex);
        if (b->v->options->progress != NULL)
            atomic_fetch_add(&b->v->options->progress->done_bytes, size);
    }
    /* The record that began in the span ends in the next one; a record longer than a segment needs
     * several. */
    for (wa_segno next = s->first + s->count; s->more && !done && wa_walreader_in_record(reader);
         next++) {
        size_t index = s->index + s->count + (next - s->first - s->count);
        if (index >= b->segment_count || b->segments[index].segno != next)
            break; /* a hole, or the tail */
        WA_TRY(read_segment(&r, next, bytes, &done, err));
    }
    WA_LOCK(&b->v->mutex);
    b->v->result->records += r.records;
    return WA_OK;
}

static void *
worker(void *arg)
{
    branch_work *b = arg;
    WA_CLEANUP(wa_freep)
    void *bytes = wa_malloc(wa_repo_cluster(b->v->options->repo)->segment_size);
    for (;;) {
        wa_lock(&b->v->mutex);
        span *s = b->stop || b->next >= b->span_count ? NULL : &b->spans[b->next++];
        wa_unlock(&b->v->mutex);
        if (s == NULL)
            return NULL;
        wa_error err = WA_ERROR_INIT;
        wa_status status = verify_span(b, s, bytes, &err);
        if (status == WA_OK)
            continue;
        WA_LOCK(&b->v->mutex);
        if (!b->stop) {
            b->stop = true;
            b->status = status;
            b->error = err;
        }
    }
}

static wa_status
run_workers(branch_work *b, wa_error *err)
{
    size_t jobs = b->v->options->jobs < 1 ? 1 : b->v->options->jobs > 64 ? 64 : b->v->options->jobs;
    pthread_t threads[64];
    size_t started = 0;
    wa_status status = WA_OK;
    while (started < jobs && status == WA_OK) {
        status = wa_thread_start(&threads[started], "verify", worker, b, err);
        started += status == WA_OK;
    }
    for (size_t i = 0; i < started; i++)
        wa_thread_join(threads[i]);
    WA_TRY(status);
    if (b->stop) {
        *err = b->error;
        return b->status;
    }
    return WA_OK;
}

/* Where two spans meet without a gap. */
static void
check_joints(branch_work *b)
{
    uint64_t size = wa_repo_cluster(b->v->options->repo)->segment_size;
    wa_lsn last = 0; /* the last record before the span, when that is known */
    for (size_t i = 0; i < b->span_count; i++) {
        span *s = &b->spans[i];
        if (i == 0 || !b->spans[i - 1].more)
            last = 0;
        if (last != 0 && s->first_prev != 0 && s->first_prev != last && !s->broken) {
            char at[WA_LSN_TEXT], prev[WA_LSN_TEXT], want[WA_LSN_TEXT];
            WA_CLEANUP(wa_freep) char *key = wa_wal_key(b->v->options->repo, b->branch, s->first);
            WA_CLEANUP(wa_freep)
            char *cost = wa_verify_cost(b->v, b->branch, wa_segment_start(s->first, size),
                                        wa_segment_start(s->first + s->count, size));
            wa_verify_damage(b->v, "chain", key, cost,
                             "record at %s links to %s, but the record before it is at %s",
                             wa_lsn_format(s->first_record, at), wa_lsn_format(s->first_prev, prev),
                             wa_lsn_format(last, want));
            keep_unverified(b, s->first, s->first);
        }
        last = s->broken ? 0 : s->last_record != 0 ? s->last_record : last;
    }
}

/* What the branch's pages may say: its own timeline and those that its history names. */
static wa_status
load_timelines(branch_work *b, wa_error *err)
{
    WA_CLEANUP(wa_history_freep) wa_history *history = NULL;
    wa_status status = wa_history_load(b->v->options->repo, b->branch, &history, err);
    if (status == WA_CORRUPT || status == WA_NOT_FOUND) {
        char name[WA_BRANCH_TEXT];
        wa_verify_damage(b->v, "history", wa_branch_format(b->branch, name),
                         "the branch can't be followed, so nothing on it can be restored", "%s",
                         err->message);
        wa_error_clear(err);
        return WA_OK;
    }
    WA_TRY(status);
    WA_TRY(wa_verify_history(b->v, b->branch, history, err));
    size_t count = history->count < TIMELINES_MAX ? history->count : 0;
    b->timelines = wa_reallocarray(NULL, count + 1, sizeof *b->timelines);
    for (size_t i = 0; i < count; i++)
        b->timelines[i] = history->entries[i].tli;
    b->timelines[count] = b->branch->tli;
    b->timeline_count = history->count < TIMELINES_MAX ? count + 1 : 0;
    return WA_OK;
}

/* What this run and earlier ones verified: stretches of segments that are there and right. */
static wa_status
store_mark(branch_work *b, wa_error *err)
{
    WA_CLEANUP(wa_verify_mark_done) wa_verify_mark mark = {0};
    bool news = false;
    for (size_t i = 0; i < b->segment_count; i++) {
        const segment *s = &b->segments[i];
        news = news || s->state == TO_READ;
        if (s->state != DAMAGED)
            wa_verify_mark_add(&mark, s->segno);
    }
    if (!news || wa_verify_mark_same(&mark, &b->mark))
        return WA_OK;
    return wa_verify_mark_store(b->v->options->repo, b->branch, &mark, err);
}

static wa_status
verify_branch(branch_work *b, wa_error *err)
{
    wa_repo *repo = b->v->options->repo;
    WA_TRY(load_timelines(b, err));
    if (b->v->options->since_verified)
        WA_TRY(wa_verify_mark_load(repo, b->branch, &b->mark, err));
    uint64_t skipped = b->v->result->skipped_segments;
    WA_TRY(wa_wal_list(repo, b->branch, 0, collect, b, err));
    cut_spans(b);
    skipped = b->v->result->skipped_segments - skipped;
    if (b->v->options->progress != NULL)
        atomic_fetch_add(&b->v->options->progress->total_bytes,
                         (b->segment_count - skipped) * wa_repo_cluster(repo)->segment_size);
    WA_TRY(run_workers(b, err));
    check_joints(b);
    bool any = b->segment_count > 0;
    wa_segno last = any ? b->segments[b->segment_count - 1].segno : 0;
    WA_TRY(
        wa_verify_tail(b->v, b->branch, b->timelines, b->timeline_count, any ? &last : NULL, err));
    if (any && !b->v->options->since_verified)
        WA_TRY(wa_verify_index(b->v, b->branch, last, err));
    return store_mark(b, err);
}

wa_status
wa_verify_branch(wa_verify *v, const wa_branch *branch, wa_error *err)
{
    WA_CLEANUP(branch_work_done) branch_work b = {.v = v, .branch = branch};
    return verify_branch(&b, err);
}
