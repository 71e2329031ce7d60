/*
 * verify_wal.c - the WAL of one branch: every segment's bytes, and every record in one chain across
 * segments.
 *
 * The branch's segments are cut into stretches without a gap and those into spans of SPAN_SEGMENTS,
 * which workers take in turn. A span's reader goes on into the next segment until the record that
 * began in the span is complete; the next span's reader skips that record. Where spans meet, the
 * first record of the one must link to the last record of the other.
 */
#include "verify_internal.h"

#include "walagent/pg/walreader.h"
#include "walagent/repo/tail.h"

#include <string.h>

#define SPAN_SEGMENTS 32

typedef struct span {
    wa_segno first, count;
    bool more;                                    /* the segment behind it is there too */
    wa_lsn first_record, first_prev, last_record; /* 0: none */
    bool broken;                                  /* damage inside: its ends prove nothing */
} span;

typedef struct branch_work {
    wa_verify *v;
    const wa_branch *branch;
    wa_segno from; /* verified below it, by an earlier run */
    wa_segno *segments;
    size_t segment_count, capacity;
    span *spans;
    size_t span_count, next; /* next: guarded by v->mutex */
    bool stop;
    wa_status status;
    wa_error error;
} branch_work;

static wa_status
collect(void *arg, wa_segno segno, uint64_t stored_size, wa_time modified, wa_error *err)
{
    (void)stored_size;
    (void)modified;
    (void)err;
    branch_work *b = arg;
    if (segno < b->from) {
        b->v->result->skipped_segments++;
        return WA_OK;
    }
    if (b->segment_count == b->capacity) {
        b->capacity = b->capacity == 0 ? 1024 : b->capacity * 2;
        b->segments = wa_reallocarray(b->segments, b->capacity, sizeof *b->segments);
    }
    b->segments[b->segment_count++] = segno;
    return WA_OK;
}

static void
cut_spans(branch_work *b)
{
    for (size_t i = 0; i < b->segment_count;) {
        size_t n = 1;
        while (i + n < b->segment_count && n < SPAN_SEGMENTS &&
               b->segments[i + n] == b->segments[i] + n)
            n++;
        bool more = i + n < b->segment_count && b->segments[i + n] == b->segments[i] + n;
        b->spans = wa_reallocarray(b->spans, b->span_count + 1, sizeof *b->spans);
        b->spans[b->span_count++] = (span){.first = b->segments[i], .count = n, .more = more};
        i += n;
    }
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

static char *
cost_of(wa_lsn start, wa_lsn end)
{
    char a[WA_LSN_TEXT], b[WA_LSN_TEXT];
    return wa_format("WAL from %s to %s: nothing behind it can be reached from a backup before it",
                     wa_lsn_format(start, a), wa_lsn_format(end, b));
}

/* One segment into the reader; damage becomes a finding and the reader starts anew behind it. */
static wa_status
read_segment(span_reader *r, wa_segno segno, void *bytes, bool *ret_done, wa_error *err)
{
    wa_verify *v = r->b->v;
    wa_repo *repo = v->options->repo;
    uint64_t size = wa_repo_cluster(repo)->segment_size;
    wa_lsn start = wa_segment_start(segno, size);
    bool own = start < r->span_end;
    wa_wal_info info;
    WA_CLEANUP(wa_freep) char *key = wa_wal_key(repo, r->b->branch, segno);
    WA_CLEANUP(wa_freep) char *cost = cost_of(start, start + size);
    wa_status status = wa_wal_get(repo, r->b->branch, segno, NULL, bytes, NULL, &info, err);
    if (status == WA_CORRUPT || status == WA_NOT_FOUND) {
        if (own)
            wa_verify_damage(v, "segment", key, cost, "%s", err->message);
        wa_error_clear(err);
        r->s->broken = true;
        wa_walreader_start(r->reader, start + size, 0);
        return WA_OK;
    }
    WA_TRY(status);
    if (own && !info.checked)
        wa_verify_damage(v, "unchecked", key, NULL,
                         "the segment was archived although its records failed their checks");
    status = wa_walreader_feed(r->reader, bytes, size, on_record, r, NULL, err);
    *ret_done = status == WA_CANCELLED && err->message[0] == '\0';
    if (status == WA_CORRUPT) {
        if (own || wa_walreader_in_record(r->reader))
            wa_verify_damage(v, "chain", key, cost, "%s", err->message);
        wa_error_clear(err);
        r->s->broken = true;
        wa_walreader_start(r->reader, start + size, 0);
        return WA_OK;
    }
    return *ret_done ? WA_OK : status;
}

static wa_status
verify_span(branch_work *b, span *s, void *bytes, wa_error *err)
{
    wa_repo *repo = b->v->options->repo;
    uint64_t size = wa_repo_cluster(repo)->segment_size;
    WA_CLEANUP(wa_walreader_freep) wa_walreader *reader = wa_walreader_new(size);
    span_reader r = {
        .b = b, .s = s, .reader = reader, .span_end = wa_segment_start(s->first + s->count, size)};
    wa_walreader_expect_system(reader, wa_repo_cluster(repo)->system_identifier);
    wa_walreader_start(reader, wa_segment_start(s->first, size), 0);
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
        wa_wal_info info;
        if (wa_wal_head(repo, b->branch, next, &info, err) != WA_OK) {
            wa_error_clear(err);
            break;
        }
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
    wa_lsn last = 0;
    for (size_t i = 0; i < b->span_count; i++) {
        span *s = &b->spans[i];
        bool adjoins = i > 0 && b->spans[i - 1].more;
        if (adjoins && !s->broken && !b->spans[i - 1].broken && last != 0 && s->first_prev != 0 &&
            s->first_prev != last) {
            char at[WA_LSN_TEXT], prev[WA_LSN_TEXT], want[WA_LSN_TEXT], name[WA_SEGMENT_NAME];
            wa_segment_name(b->branch->tli, s->first, size, name);
            WA_CLEANUP(wa_freep)
            char *cost = cost_of(s->first_record, wa_segment_start(s->first + s->count, size));
            wa_verify_damage(b->v, "chain", name, cost,
                             "record at %s links to %s, but the record before it is at %s",
                             wa_lsn_format(s->first_record, at), wa_lsn_format(s->first_prev, prev),
                             wa_lsn_format(last, want));
        }
        last = s->last_record != 0 ? s->last_record : adjoins ? last : 0;
    }
}

/* Chunks of segments that are not whole yet. */
static wa_status
verify_tail(wa_verify *v, const wa_branch *branch, const branch_work *b, wa_error *err)
{
    wa_repo *repo = v->options->repo;
    uint64_t size = wa_repo_cluster(repo)->segment_size;
    WA_CLEANUP(wa_freep) wa_segno *segments = NULL;
    size_t count = 0;
    WA_TRY(wa_tail_segments(repo, branch, &segments, &count, err));
    for (size_t i = 0; i < count; i++) {
        char name[WA_SEGMENT_NAME];
        wa_segment_name(branch->tli, segments[i], size, name);
        if (b->segment_count > 0 && segments[i] <= b->segments[b->segment_count - 1])
            continue; /* whole by now: the chunks are left-overs */
        WA_CLEANUP(wa_freep) void *bytes = wa_malloc(size);
        wa_lsn end = 0;
        wa_status status = wa_tail_assemble(repo, branch, segments[i], bytes, &end, NULL, err);
        if (status == WA_CORRUPT) {
            WA_CLEANUP(wa_freep)
            char *cost = cost_of(wa_segment_start(segments[i], size),
                                 wa_segment_start(segments[i] + 1, size));
            wa_verify_damage(v, "chunk", name, cost, "%s", err->message);
            wa_error_clear(err);
            continue;
        }
        if (status == WA_NOT_FOUND) {
            wa_error_clear(err);
            continue;
        }
        WA_TRY(status);
        WA_CLEANUP(wa_walreader_freep) wa_walreader *reader = wa_walreader_new(size);
        wa_walreader_expect_system(reader, wa_repo_cluster(repo)->system_identifier);
        wa_walreader_start(reader, wa_segment_start(segments[i], size), 0);
        if (wa_walreader_feed(reader, bytes, end - wa_segment_start(segments[i], size), NULL, NULL,
                              NULL, err) != WA_OK) {
            wa_verify_damage(v, "chain", name, NULL, "%s", err->message);
            wa_error_clear(err);
        }
        v->result->chunks++;
    }
    return WA_OK;
}

wa_status
wa_verify_branch(wa_verify *v, const wa_branch *branch, wa_error *err)
{
    wa_repo *repo = v->options->repo;
    branch_work b = {.v = v, .branch = branch};
    if (v->options->since_verified)
        WA_TRY(wa_verify_mark_load(repo, branch, &b.from, err));
    size_t damage_before = v->result->damage_count;
    wa_status status = wa_wal_list(repo, branch, 0, collect, &b, err);
    if (status == WA_OK) {
        cut_spans(&b);
        if (v->options->progress != NULL)
            atomic_fetch_add(&v->options->progress->total_bytes,
                             b.segment_count * wa_repo_cluster(repo)->segment_size);
        status = run_workers(&b, err);
    }
    if (status == WA_OK) {
        check_joints(&b);
        status = verify_tail(v, branch, &b, err);
    }
    /* The last segment stays to be verified: the record that leaves it is not complete yet. */
    if (status == WA_OK && v->result->damage_count == damage_before && b.segment_count > 1)
        status = wa_verify_mark_store(repo, branch, b.segments[b.segment_count - 1], err);
    wa_freep(&b.segments);
    wa_freep(&b.spans);
    return status;
}
