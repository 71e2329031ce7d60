/*
 * shipper_segments.c - the segments thread: whole segments, in order, from the spool or from a
 * writer that the receiver has filled; and the removal of chunks that they replace.
 *
 * What is asked of the store, and which rule of FORMATS needs it:
 *
 *   PUT     each segment
 *   LIST    each segment, of the chunks from it on: was our epoch sealed meanwhile (11)?
 *   HEAD    each segment that gets a chunk, before the first one: is it there as a whole (11)?
 *   PUT     each chunk, one a tail_interval at most under light load (5)
 *   some 16 every 16th segment: the index (7). Facts are not read back, nor are the parts of an
 *           object that is written again
 *   LIST, LIST, DELETE  once in a grace period: chunks that whole segments have replaced
 *
 * Nothing while nothing is written.
 */
#include "shipper_internal.h"

#include "walagent/base/crash.h"
#include "walagent/repo/index.h"
#include "walagent/repo/resolution.h"

#include <stdlib.h>
#include <string.h>

#define AWAY_MS 400 /* the third failure in a row */
#define READ_BYTES (1u << 20)

/* Said once for each time that it is away; a hiccup is no news. */
static void
say_away_locked(wa_streamer *s, const wa_error *err, uint64_t backoff_ms)
{
    if (s->away_said || backoff_ms < AWAY_MS)
        return;
    s->away_said = true;
    wa_streamer_say(s, WA_LOG_WARNING,
                    err->hint[0] != '\0'
                        ? err->hint
                        : "WAL waits in the spool, then on the server; see \"walagent status\".",
                    "the repository can't be written: %s", err->message);
}

bool
wa_shipper_pause_locked(wa_streamer *s, const wa_error *err, uint64_t *backoff_ms)
{
    wa_streamer_note_error_locked(s, err);
    say_away_locked(s, err, *backoff_ms);
    wa_mono until = wa_mono_now() + *backoff_ms;
    *backoff_ms = *backoff_ms * 2 > WA_BACKOFF_MAX_MS ? WA_BACKOFF_MAX_MS : *backoff_ms * 2;
    while (!wa_cancelled(&s->stop) && s->flow.ready && wa_mono_left(until) > 0)
        wa_cond_wait_until(&s->cond, &s->mutex, until);
    return !wa_cancelled(&s->stop) && s->flow.ready;
}

void
wa_shipper_contradiction(wa_streamer *s, wa_error *err, bool fenced)
{
    if (!fenced) {
        wa_streamer_event(s, "conflict", WA_LOG_ERROR,
                          "Two writers may have archived this timeline: see \"walagent lineage\".",
                          "%s; nothing more is acknowledged", err->message);
        err->status = WA_FAILED; /* asked again, with backoff, until a person has decided */
        WA_LOCK(&s->mutex);
        s->status.conflicts++;
    }
    wa_streamer_fault(s, err, fenced);
}

wa_status
wa_shipper_read_spool(wa_streamer *s, const wa_branch *branch, wa_lsn from, void *out, size_t len,
                      wa_error *err)
{
    uint64_t size = s->cluster.segment_size;
    wa_status status =
        wa_spool_read(s->spool, branch, wa_segno_of(from, size), from % size, out, len, err);
    if (status == WA_CORRUPT) { /* cut short: no word about the archive */
        err->status = WA_IO;
        return WA_IO;
    }
    return status;
}

wa_status
wa_shipper_is_spooled(wa_streamer *s, const wa_branch *branch, wa_lsn from, const uint8_t *bytes,
                      size_t len, bool *ret, wa_error *err)
{
    WA_CLEANUP(wa_freep) uint8_t *ours = wa_malloc(READ_BYTES);
    bool same = true;
    for (size_t at = 0, step; at < len && same; at += step) {
        step = len - at < READ_BYTES ? len - at : READ_BYTES;
        WA_TRY(wa_shipper_read_spool(s, branch, from + at, ours, step, err));
        same = memcmp(ours, bytes + at, step) == 0;
    }
    *ret = same;
    return WA_OK;
}

wa_status
wa_shipper_compare_whole(wa_streamer *s, const wa_branch *branch, wa_lsn from, wa_lsn to,
                         wa_error *err)
{
    char name[WA_SEGMENT_NAME];
    uint64_t size = s->cluster.segment_size;
    wa_segno segno = wa_segno_of(from, size);
    bool same = false;
    WA_CLEANUP(wa_freep) uint8_t *whole = wa_malloc(size);
    WA_TRY(wa_wal_get(s->repo, branch, segno, NULL, whole, NULL, NULL, err));
    WA_TRY(wa_shipper_is_spooled(s, branch, from, whole + from % size, to - from, &same, err));
    if (!same)
        return wa_error_set(err, WA_CORRUPT, "the archive's segment %s-%s holds other WAL",
                            wa_segment_name(branch->tli, segno, size, name), branch->id);
    return WA_OK;
}

/* Is this chunk of our epoch known to hold bytes, so that it is no seal? */
static bool
is_known_chunk(wa_streamer *s, const wa_branch *branch, const wa_chunk *chunk)
{
    WA_LOCK(&s->mutex);
    return s->flow.epoch == chunk->epoch && wa_branch_eq(&s->flow.branch, branch) &&
           s->flow.last_chunk == chunk->start;
}

wa_status
wa_shipper_check_not_sealed(wa_streamer *s, const wa_branch *branch, uint32_t epoch, wa_segno segno,
                            wa_error *err)
{
    WA_CLEANUP(wa_chunks_done) wa_chunks chunks = {0};
    WA_TRY(wa_tail_list_from(s->repo, branch, segno, &chunks, err));
    const wa_chunk *last = NULL;
    for (size_t i = 0; i < chunks.count; i++) {
        if (chunks.items[i].epoch > epoch)
            return wa_error_set(err, WA_CONFLICT, "fenced: epoch %u extends branch %08X-%s",
                                chunks.items[i].epoch, branch->tli, branch->id);
        if (chunks.items[i].epoch == epoch)
            last = &chunks.items[i];
    }
    if (last == NULL || is_known_chunk(s, branch, last))
        return WA_OK;
    bool seal = false;
    WA_TRY(wa_tail_is_seal(s->repo, last, &seal, err));
    if (seal)
        return wa_error_set(err, WA_CONFLICT, "fenced: epoch %u of branch %08X-%s was sealed",
                            epoch, branch->tli, branch->id);
    return WA_OK;
}

static wa_status
fill_from_spool(wa_streamer *s, const wa_branch *branch, wa_segno segno, wa_container_writer *to,
                wa_error *err)
{
    uint64_t offset = 0;
    while (offset < s->cluster.segment_size) {
        void *room = NULL;
        size_t len = 0;
        WA_TRY(wa_container_space(to, &room, &len, err));
        if (len > s->cluster.segment_size - offset)
            len = (size_t)(s->cluster.segment_size - offset);
        WA_TRY(wa_spool_read(s->spool, branch, segno, offset, room, len, err));
        WA_TRY(wa_container_advance(to, len, err));
        offset += len;
    }
    return WA_OK;
}

wa_status
wa_shipper_is_settled(wa_streamer *s, const wa_branch *branch, wa_segno segno, const char *xxh3,
                      bool *ret, wa_error *err)
{
    char name[WA_SEGMENT_NAME];
    wa_segment_name(branch->tli, segno, s->cluster.segment_size, name);
    WA_TRY(wa_resolution_exists(s->repo, branch, name, xxh3, ret, err));
    if (*ret)
        wa_streamer_say(s, WA_LOG_WARNING, "",
                        "segment %s is archived with other content than the server has, which was "
                        "settled by \"walagent lineage resolve\"; going on behind it",
                        name);
    return WA_OK;
}

/* A conflict stays one unless it was settled. */
static wa_status
unless_settled(wa_streamer *s, const wa_branch *branch, wa_segno segno, const char *xxh3,
               wa_error *err)
{
    wa_error failed = WA_ERROR_INIT;
    bool settled = false;
    if (wa_shipper_is_settled(s, branch, segno, xxh3, &settled, &failed) != WA_OK) {
        *err = failed;
        return err->status;
    }
    if (settled)
        wa_error_clear(err);
    return err->status;
}

static wa_status
check_ours(wa_streamer *s, const wa_branch *branch, uint32_t epoch, wa_segno segno,
           bool *ret_fenced, wa_error *err)
{
    wa_mono now = wa_mono_now();
    wa_status status = wa_shipper_check_not_sealed(s, branch, epoch, segno, err);
    *ret_fenced = status == WA_CONFLICT;
    s->unsealed.at = 0;
    if (status == WA_OK) {
        s->unsealed.branch = *branch;
        s->unsealed.epoch = epoch;
        s->unsealed.from = segno;
        s->unsealed.at = now;
    }
    return status;
}

/* The look behind another segment, a moment ago, went past this one. */
static bool
was_looked_at(const wa_streamer *s, const wa_branch *branch, uint32_t epoch, wa_segno segno)
{
    return s->unsealed.at != 0 && s->unsealed.epoch == epoch && s->unsealed.from <= segno &&
           wa_branch_eq(&s->unsealed.branch, branch) &&
           wa_mono_now() - s->unsealed.at <= WA_CHUNK_GRACE_MS;
}

/* For the index, which would read them back. */
static void
keep_facts(wa_streamer *s, const wa_segment_job *job, const wa_branch *branch)
{
    wa_archived_facts *kept = &s->archived[job->segno % WA_INDEX_FANOUT];
    kept->valid = job->parsed;
    kept->branch = *branch;
    kept->segno = job->segno;
    kept->checked = job->checked;
    kept->facts = job->facts;
}

static wa_status
put_segment(wa_streamer *s, wa_segment_job *job, const wa_branch *branch, uint32_t epoch,
            bool *ret_fenced, wa_error *err)
{
    WA_CLEANUP(wa_wal_writer_freep) wa_wal_writer *writer = WA_TAKE(job->writer);
    wa_put_outcome outcome = WA_PUT_SAME;
    char xxh3[WA_XXH_HEX];
    if (!was_looked_at(s, branch, epoch, job->segno))
        WA_TRY(check_ours(s, branch, epoch, job->segno, ret_fenced, err));
    if (writer == NULL) {
        WA_TRY(wa_wal_writer_begin(s->repo, branch, job->segno, s->pool, &writer, err));
        WA_TRY(fill_from_spool(s, branch, job->segno, wa_wal_writer_container(writer), err));
    }
    wa_container_writer *container = wa_wal_writer_container(writer);
    WA_ASSERT(wa_container_raw_size(container) == s->cluster.segment_size);
    wa_container_hash(container, xxh3);
    WA_CRASH_POINT("segment-before-put");
    wa_status status = wa_wal_writer_commit(writer, epoch, job->parsed ? &job->facts : NULL,
                                            job->checked, &outcome, err);
    if (status == WA_CONFLICT)
        status = unless_settled(s, branch, job->segno, xxh3, err);
    WA_TRY(status);
    if (outcome == WA_PUT_CREATED)
        keep_facts(s, job, branch);
    WA_CRASH_POINT("segment-after-put");
    wa_streamer_remember(s, branch, job->segno, xxh3);
    return check_ours(s, branch, epoch, job->segno, ret_fenced, err);
}

static void
segment_done(wa_streamer *s, wa_segment_job *job, const wa_branch *branch, bool spooled)
{
    wa_error err = WA_ERROR_INIT;
    uint64_t size = s->cluster.segment_size;
    {
        WA_LOCK(&s->mutex);
        wa_flow *flow = &s->flow;
        WA_ASSERT(flow->jobs == job && flow->durable >= job->segno * size);
        flow->jobs = job->next;
        if (flow->jobs == NULL)
            flow->jobs_end = &flow->jobs;
        flow->job_count--;
        flow->commits_durable += job->rest.commits;
        s->status.segments_archived++;
        wa_flow_advance_locked(s, (job->segno + 1) * size);
        flow->pending_since = flow->checked > flow->durable ? wa_mono_now() : 0;
        wa_cond_broadcast(&s->cond);
    }
    wa_segments_schedule_removal(s, job->segno, job->segno);
    if (spooled && wa_spool_remove(s->spool, branch, job->segno, &err) != WA_OK)
        wa_streamer_note_error(s, &err);
    wa_segment_job_free(job);
}

typedef struct known_facts {
    const wa_streamer *s;
    const wa_branch *branch;
} known_facts;

static bool
get_known(void *arg, wa_segno segno, wa_wal_facts *ret, bool *ret_checked)
{
    const known_facts *known = arg;
    const wa_archived_facts *kept = &known->s->archived[segno % WA_INDEX_FANOUT];
    if (!kept->valid || kept->segno != segno || !wa_branch_eq(&kept->branch, known->branch))
        return false;
    *ret = kept->facts;
    *ret_checked = kept->checked;
    return true;
}

/* The index is a cache: what fails now is made up for 16 segments later. */
static void
update_index(wa_streamer *s, const wa_branch *branch, wa_segno segno)
{
    wa_error err = WA_ERROR_INIT;
    known_facts facts = {s, branch};
    wa_index_known known = {get_known, &facts};
    if ((segno + 1) % WA_INDEX_FANOUT == 0 &&
        wa_index_update_known(s->repo, branch, segno, &known, &err) != WA_OK)
        wa_streamer_note_error(s, &err);
}

/* One segment, tried until it is archived. A writer's bytes are gone after a failure: then the
 * session begins again from the durable position. */
static void
ship_segment(wa_streamer *s, wa_segment_job *job, const wa_branch *branch, uint32_t epoch,
             uint64_t generation)
{
    uint64_t backoff = WA_BACKOFF_MIN_MS;
    bool direct = job->direct;
    for (;;) {
        wa_error err = WA_ERROR_INIT;
        bool fenced = false;
        wa_status status = put_segment(s, job, branch, epoch, &fenced, &err);
        if (status == WA_OK) {
            wa_segno segno = job->segno;
            segment_done(s, job, branch, !direct);
            update_index(s, branch, segno);
            return;
        }
        if (status == WA_CONFLICT || status == WA_CORRUPT) {
            wa_shipper_contradiction(s, &err, fenced);
            return;
        }
        if (direct) {
            wa_streamer_fault(s, &err, false);
            return;
        }
        WA_LOCK(&s->mutex);
        if (!wa_shipper_pause_locked(s, &err, &backoff) || s->generation != generation)
            return;
    }
}

void
wa_segments_schedule_removal(wa_streamer *s, wa_segno first, wa_segno segno)
{
    WA_LOCK(&s->mutex);
    if (s->removable_count == s->removable_capacity) {
        s->removable_capacity = s->removable_capacity == 0 ? 16 : s->removable_capacity * 2;
        s->removable = wa_reallocarray(s->removable, s->removable_capacity, sizeof s->removable[0]);
    }
    s->removable[s->removable_count++] = (wa_removable){.branch = s->flow.branch,
                                                        .first = first,
                                                        .segno = segno,
                                                        .at = wa_mono_now() + WA_CHUNK_GRACE_MS};
}

/* The grace of this one is over, and newer bytes are durable behind it (the newest chunk of a
 * timeline stays). *ret_at: when to look again; untouched when that isn't a question of time. */
static bool
may_go_locked(const wa_streamer *s, const wa_removable *r, wa_mono *ret_at)
{
    bool behind = !wa_branch_eq(&r->branch, &s->flow.branch) ||
                  s->flow.durable > (r->segno + 1) * s->cluster.segment_size;
    wa_mono at = r->at;
    if (s->removed_at != 0 && at < s->removed_at + WA_CHUNK_GRACE_MS)
        at = s->removed_at + WA_CHUNK_GRACE_MS;
    if (behind)
        *ret_at = at;
    return behind && wa_mono_left(at) == 0;
}

/* The segments whose chunks may go now: those of many in one go, once in a grace period, so that
 * the requests don't grow with the load. */
static bool
next_removable_locked(wa_streamer *s, wa_removable *ret, wa_mono *ret_at)
{
    if (s->removable_count == 0 || !may_go_locked(s, &s->removable[0], ret_at))
        return false;
    size_t n = 0;
    wa_removable all = s->removable[0];
    while (n < s->removable_count && wa_branch_eq(&s->removable[n].branch, &all.branch) &&
           may_go_locked(s, &s->removable[n], ret_at)) {
        const wa_removable *one = &s->removable[n++];
        all.first = one->first < all.first ? one->first : all.first;
        all.segno = one->segno > all.segno ? one->segno : all.segno;
    }
    s->removable_count -= n;
    memmove(s->removable, s->removable + n, s->removable_count * sizeof all);
    s->removed_at = wa_mono_now();
    *ret = all;
    return true;
}

static void
remove_chunks(wa_streamer *s, const wa_removable *r)
{
    wa_error err = WA_ERROR_INIT;
    if (wa_tail_remove_range(s->repo, &r->branch, r->first, r->segno + 1, &err) != WA_OK)
        wa_streamer_note_error(s, &err);
}

void *
wa_segments_thread(void *arg)
{
    wa_streamer *s = arg;
    for (;;) {
        wa_segment_job *job = NULL;
        wa_removable old;
        bool remove = false;
        wa_branch branch;
        uint32_t epoch;
        uint64_t generation;
        {
            WA_LOCK(&s->mutex);
            for (;;) {
                wa_mono at = UINT64_MAX;
                if (wa_cancelled(&s->stop))
                    return NULL;
                if (s->flow.ready && s->flow.branch.id[0] != '\0' && s->flow.jobs != NULL) {
                    job = s->flow.jobs;
                    s->job_running = true;
                    break;
                }
                if ((remove = next_removable_locked(s, &old, &at)))
                    break;
                if (at == UINT64_MAX)
                    wa_cond_wait(&s->cond, &s->mutex);
                else
                    wa_cond_wait_until(&s->cond, &s->mutex, at);
            }
            branch = s->flow.branch;
            epoch = s->flow.epoch;
            generation = s->generation;
        }
        if (remove) {
            remove_chunks(s, &old);
            continue;
        }
        ship_segment(s, job, &branch, epoch, generation);
        WA_LOCK(&s->mutex);
        s->job_running = false;
        wa_cond_broadcast(&s->cond);
    }
}
