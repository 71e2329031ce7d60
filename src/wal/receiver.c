/*
 * receiver.c - receive one timeline: check, keep, hand over, acknowledge.
 */
#include "receiver_internal.h"
#include "shipper_internal.h"

#include "walagent/base/crash.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SYNC_EVERY (1024u * 1024)
#define TELL_EVERY_MS 10000
#define TELL_BUSY_MS 3000 /* while not reading: well below wal_sender_timeout */
/* A network that swallows everything says nothing either, and TCP gives up after many minutes. The
 * server speaks each wal_sender_timeout/2 (5 s) unless our reports keep it calm. */
#define SILENCE_MS 10000
#define ANSWER_MS 20000
#define MESSAGE_MAX (256u * 1024)
#define JOBS_IN_MEMORY 1 /* segments in writers that wait to be archived, beside the one filled */

void
wa_receiver_init(wa_receiver *rx, wa_streamer *s, wa_pg_conn *conn)
{
    memset(rx, 0, sizeof *rx);
    rx->s = s;
    rx->conn = conn;
    rx->reader = wa_walreader_new(s->cluster.segment_size);
    rx->segment = wa_malloc(sizeof *rx->segment);
    rx->message = wa_malloc(sizeof *rx->message);
    rx->fresh = wa_malloc(sizeof *rx->fresh);
    rx->hash = wa_xxh_new();
    rx->parsed = true;
    wa_wal_facts_init(rx->segment);
    wa_wal_facts_init(rx->message);
    wa_wal_facts_init(rx->fresh);
    wa_buf_init(&rx->first_record, WA_RECORD_KEEP + 64);
}

void
wa_receiver_done(wa_receiver *rx)
{
    wa_wal_writer_free(rx->writer);
    wa_walreader_free(rx->reader);
    wa_xxh_free(rx->hash);
    free(rx->segment);
    free(rx->message);
    free(rx->fresh);
    wa_buf_done(&rx->first_record);
}

wa_status
wa_receiver_tell(wa_receiver *rx, bool force, wa_error *err)
{
    wa_streamer *s = rx->s;
    wa_lsn flush = 0, write = 0;
    bool refused = false;
    {
        WA_LOCK(&s->mutex);
        if (s->reported_tli == rx->tli)
            flush = s->reported;
        wa_lsn safe = wa_flow_acknowledgeable_locked(s);
        if (rx->position >= rx->prove_until && safe > flush && safe >= rx->flush_floor)
            flush = safe;
        write = s->flow.spooled > s->flow.durable ? s->flow.spooled : s->flow.durable;
        refused = s->synchronous_refused;
    }
    if (write > rx->position)
        write = rx->position;
    if (write < flush)
        write = flush;
    if (refused)
        flush = 0; /* to the server: not a synchronous standby, and the slot stays */
    bool changed = write != rx->told_write || flush != rx->told_flush;
    if (!force && !changed && wa_mono_now() - rx->told_at < TELL_EVERY_MS)
        return WA_OK;
    WA_ASSERT(refused || s->reported_tli != rx->tli || flush >= s->reported);
    WA_CRASH_POINT("before-acknowledge");
    WA_TRY(wa_pg_stream_status(rx->conn, write, flush, false, err));
    if (flush > rx->told_flush)
        WA_CRASH_POINT("after-acknowledge");
    rx->told_write = write;
    rx->told_flush = flush;
    rx->told_at = wa_mono_now();
    WA_LOCK(&s->mutex);
    if (flush != 0) {
        s->reported_tli = rx->tli;
        s->reported = flush;
    }
    return WA_OK;
}

/* Something must happen before reading goes on: wait a little for it, and keep the server calm. */
static wa_status
wait_busy(wa_receiver *rx, wa_error *err)
{
    struct pollfd fds[2] = {{.fd = rx->s->wake_fd, .events = POLLIN},
                            {.fd = rx->s->cancel->fd, .events = POLLIN}};
    uint64_t counter;
    if (poll(fds, 2, 500) > 0 && (fds[0].revents & POLLIN) != 0) {
        ssize_t ignored = read(rx->s->wake_fd, &counter, sizeof counter);
        (void)ignored;
    }
    WA_TRY(wa_cancel_check(rx->s->cancel, err));
    WA_TRY(wa_streamer_check_fault(rx->s, err));
    return wa_receiver_tell(rx, wa_mono_now() - rx->told_at >= TELL_BUSY_MS, err);
}

static bool
must_wait_for_writers(wa_streamer *s)
{
    WA_LOCK(&s->mutex);
    size_t writers = 0;
    for (const wa_segment_job *job = s->flow.jobs; job != NULL; job = job->next)
        writers += job->direct;
    return writers > JOBS_IN_MEMORY;
}

static wa_receive_mode
choose_mode(wa_receiver *rx, wa_segno segno)
{
    wa_streamer *s = rx->s;
    wa_lsn start = segno * s->cluster.segment_size, end = start + s->cluster.segment_size;
    WA_LOCK(&s->mutex);
    if (end <= s->flow.received && segno == s->last_segno && s->last_xxh3[0] != '\0')
        return WA_RECEIVE_PROVE;
    bool untouched = start >= s->flow.received;
    if (untouched && end <= rx->direct_until && s->flow.branch.id[0] != '\0' &&
        !s->options.acknowledge_spool)
        return WA_RECEIVE_DIRECT;
    return WA_RECEIVE_SPOOL;
}

static wa_status
begin_segment(wa_receiver *rx, wa_error *err)
{
    wa_streamer *s = rx->s;
    wa_segno segno = wa_segno_of(rx->position, s->cluster.segment_size);
    rx->mode = choose_mode(rx, segno);
    rx->damaged = false;
    rx->begins = true;
    rx->counted = 0;
    wa_wal_facts_init(rx->segment);
    wa_xxh_reset(rx->hash);
    wa_branch branch;
    {
        WA_LOCK(&s->mutex);
        branch = s->flow.branch;
        if (rx->position == s->flow.handed && s->flow.counted > rx->position) {
            *rx->segment = s->flow.segment;
            rx->counted = s->flow.counted;
        }
        s->flow.tail_in_spool = rx->mode == WA_RECEIVE_SPOOL;
        if (rx->position >= s->flow.received) {
            s->flow.damaged = false;
            wa_wal_facts_init(&s->flow.segment);
            wa_wal_facts_init(&s->flow.rest);
        }
    }
    if (rx->mode == WA_RECEIVE_PROVE)
        return WA_OK;
    if (rx->mode == WA_RECEIVE_SPOOL) {
        uint64_t size = 0;
        WA_TRY(wa_spool_begin(s->spool, &branch, segno, &size, err));
        rx->spool_end = rx->position + size;
        return WA_OK;
    }
    while (must_wait_for_writers(s))
        WA_TRY(wait_busy(rx, err));
    return wa_wal_writer_begin(s->repo, &branch, segno, s->pool, &rx->writer, err);
}

/* The server shows bytes that the spool has: are they the same? */
static wa_status
compare_spooled(wa_receiver *rx, const uint8_t *data, size_t len, wa_error *err)
{
    wa_streamer *s = rx->s;
    uint64_t size = s->cluster.segment_size;
    wa_segno segno = wa_segno_of(rx->position, size);
    WA_CLEANUP(wa_freep) uint8_t *had = wa_malloc(len);
    wa_branch branch;
    {
        WA_LOCK(&s->mutex);
        branch = s->flow.branch;
    }
    WA_TRY(wa_spool_read(s->spool, &branch, segno, rx->position % size, had, len, err));
    if (memcmp(had, data, len) == 0)
        return WA_OK;
    size_t same = 0;
    while (had[same] == data[same])
        same++;
    char at[WA_LSN_TEXT];
    wa_error_set(err, WA_CONFLICT, "server %s shows other WAL at %s than was received before",
                 wa_pg_host(rx->conn), wa_lsn_format(rx->position + same, at));
    rx->position += same;
    return err->status;
}

static wa_status
keep_spooled(wa_receiver *rx, const uint8_t *data, size_t len, wa_error *err)
{
    if (rx->position < rx->spool_end) {
        uint64_t known = rx->spool_end - rx->position;
        size_t n = known < len ? (size_t)known : len;
        WA_TRY(compare_spooled(rx, data, n, err));
        data += n;
        len -= n;
    }
    if (len == 0)
        return WA_OK;
    WA_TRY(
        wa_spool_append(rx->s->spool, rx->spool_end % rx->s->cluster.segment_size, data, len, err));
    rx->spool_end += len;
    return WA_OK;
}

static wa_status
keep_direct(wa_receiver *rx, const uint8_t *data, size_t len, wa_error *err)
{
    wa_container_writer *to = wa_wal_writer_container(rx->writer);
    while (len > 0) {
        void *room = NULL;
        size_t n = 0;
        WA_TRY(wa_container_space(to, &room, &n, err));
        if (n > len)
            n = len;
        memcpy(room, data, n);
        WA_TRY(wa_container_advance(to, n, err));
        data += n;
        len -= n;
    }
    return WA_OK;
}

/* Let the others see what was received. */
static void
publish(wa_receiver *rx)
{
    wa_streamer *s = rx->s;
    wa_lsn checked = wa_receiver_checked(rx);
    wa_wal_facts_merge(rx->segment, rx->message);
    wa_wal_facts_merge(rx->fresh, rx->message);
    WA_LOCK(&s->mutex);
    wa_flow *flow = &s->flow;
    if (rx->position > flow->received) {
        flow->received = rx->position;
        s->status.received_time = wa_time_now();
    }
    if (checked > flow->checked) {
        flow->checked = checked;
        flow->segment = *rx->segment;
        flow->counted = checked;
        flow->damaged = rx->damaged;
        flow->parsed = rx->parsed;
        wa_wal_facts_merge(&flow->rest, rx->fresh);
        flow->commits_received += rx->fresh->commits;
        wa_wal_facts_init(rx->fresh);
        if (flow->pending_since == 0)
            flow->pending_since = wa_mono_now();
        /* Nothing is cut from a segment that bypasses the spool: who waits need not look. */
        if (flow->tail_in_spool)
            wa_cond_broadcast(&s->cond);
    }
    wa_wal_facts_init(rx->message);
}

static wa_status
sync_spool(wa_receiver *rx, wa_error *err)
{
    wa_streamer *s = rx->s;
    if (rx->mode != WA_RECEIVE_SPOOL)
        return WA_OK;
    WA_TRY(wa_spool_sync(s->spool, err));
    WA_LOCK(&s->mutex);
    if (rx->spool_end > s->flow.spooled)
        s->flow.spooled = rx->spool_end;
    return WA_OK;
}

static wa_status
hand_over(wa_receiver *rx, wa_segno segno, wa_error *err)
{
    wa_streamer *s = rx->s;
    WA_TRY(sync_spool(rx, err));
    wa_segment_job *job = wa_calloc(1, sizeof *job);
    job->segno = segno;
    job->direct = rx->mode == WA_RECEIVE_DIRECT;
    job->writer = WA_TAKE(rx->writer);
    job->facts = *rx->segment;
    job->checked = !rx->damaged && rx->parsed;
    job->parsed = rx->parsed;
    wa_xxh_hex(rx->hash, s->last_xxh3);
    s->last_segno = segno;
    WA_LOCK(&s->mutex);
    job->rest = s->flow.rest;
    s->flow.handed = (segno + 1) * s->cluster.segment_size;
    wa_wal_facts_init(&s->flow.rest);
    wa_wal_facts_init(&s->flow.segment);
    s->flow.counted = 0;
    wa_flow_add_job_locked(s, job);
    return WA_OK;
}

static wa_status
end_segment(wa_receiver *rx, wa_error *err)
{
    wa_streamer *s = rx->s;
    wa_segno segno = wa_segno_of(rx->position - 1, s->cluster.segment_size);
    char name[WA_SEGMENT_NAME], xxh3[WA_XXH_HEX];
    if (rx->mode != WA_RECEIVE_PROVE)
        return hand_over(rx, segno, err);
    if (strcmp(wa_xxh_hex(rx->hash, xxh3), s->last_xxh3) == 0)
        return WA_OK;
    bool settled = false;
    WA_TRY(wa_shipper_is_settled(s, &s->flow.branch, segno, xxh3, &settled, err));
    if (!settled)
        return wa_error_set(
            err, WA_CONFLICT, "server %s shows other WAL in segment %s than was acknowledged",
            wa_pg_host(rx->conn), wa_segment_name(rx->tli, segno, s->cluster.segment_size, name));
    return WA_OK;
}

/* Bytes that lie in one segment. */
static wa_status
take_piece(wa_receiver *rx, const uint8_t *data, size_t len, wa_error *err)
{
    uint64_t size = rx->s->cluster.segment_size;
    if (rx->position % size == 0)
        WA_TRY(begin_segment(rx, err));
    WA_TRY(wa_receiver_check(rx, data, len, err));
    if (rx->mode == WA_RECEIVE_SPOOL)
        WA_TRY(keep_spooled(rx, data, len, err));
    else if (rx->mode == WA_RECEIVE_DIRECT)
        WA_TRY(keep_direct(rx, data, len, err));
    rx->position += len;
    publish(rx);
    return rx->position % size == 0 ? end_segment(rx, err) : WA_OK;
}

wa_status
wa_receiver_take(wa_receiver *rx, const wa_stream_message *message, wa_error *err)
{
    uint64_t size = rx->s->cluster.segment_size;
    const uint8_t *data = message->data;
    size_t len = message->len;
    if (message->start != rx->position) {
        char is[WA_LSN_TEXT], due[WA_LSN_TEXT];
        return wa_error_set(err, WA_UNAVAILABLE, "the server sent WAL from %s instead of %s",
                            wa_lsn_format(message->start, is), wa_lsn_format(rx->position, due));
    }
    WA_CRASH_POINT("stream-received");
    while (len > 0) {
        uint64_t room = size - rx->position % size;
        size_t piece = room < len ? (size_t)room : len;
        WA_TRY(take_piece(rx, data, piece, err));
        data += piece;
        len -= piece;
    }
    if (rx->first_record.len > 0 && rx->s->flow.branch.id[0] == '\0')
        WA_TRY(wa_switch_resolve(rx->s, &rx->first_record, rx->fork, err));
    if (wa_spool_unsynced(rx->s->spool) >= SYNC_EVERY)
        return sync_spool(rx, err);
    return WA_OK;
}

static void
saw_server(wa_receiver *rx, const wa_stream_message *message)
{
    WA_LOCK(&rx->s->mutex);
    rx->s->status.server_end = message->server_end;
    rx->s->status.server_time = message->server_time;
    if (message->kind == WA_MSG_WAL)
        rx->s->status.bytes_received += message->len;
}

static bool
spool_is_full(const wa_receiver *rx)
{
    return rx->mode == WA_RECEIVE_SPOOL && rx->position >= rx->spool_end &&
           wa_spool_bytes(rx->s->spool) + MESSAGE_MAX > rx->s->options.spool_max;
}

static wa_status
wait_for_room(wa_receiver *rx, wa_error *err)
{
    char size[WA_SIZE_TEXT];
    bool said = rx->s->full_said;
    rx->s->full_said = true;
    if (!said)
        wa_streamer_event(
            rx->s, "spool-full", WA_LOG_WARNING,
            "The repository is too slow or can't be reached; the server keeps the WAL.",
            "the spool is full (%s): reading WAL stops until segments are archived",
            wa_format_size(wa_spool_bytes(rx->s->spool), size));
    WA_TRY(sync_spool(rx, err));
    while (spool_is_full(rx))
        WA_TRY(wait_busy(rx, err));
    return WA_OK;
}

/* Nothing came: is the server still there? */
static wa_status
mind_silence(wa_receiver *rx, wa_error *err)
{
    wa_mono now = wa_mono_now();
    if (now - rx->heard_at < SILENCE_MS)
        return WA_OK;
    if (rx->asked_at == 0) {
        rx->asked_at = now;
        rx->told_at = now;
        return wa_pg_stream_status(rx->conn, rx->told_write, rx->told_flush, true, err);
    }
    if (now - rx->asked_at < ANSWER_MS)
        return WA_OK;
    return wa_error_set(err, WA_UNAVAILABLE, "server %s says nothing any more, for %d s now",
                        wa_pg_host(rx->conn), (int)((now - rx->heard_at) / 1000));
}

static wa_status
step(wa_receiver *rx, bool *ret_ended, wa_error *err)
{
    wa_stream_message message;
    bool unsynced = rx->mode == WA_RECEIVE_SPOOL && wa_spool_unsynced(rx->s->spool) > 0;
    WA_TRY(wa_pg_stream_receive(rx->conn, unsynced ? 0 : 1000, rx->s->cancel, rx->s->wake_fd,
                                &message, err));
    if (message.kind != WA_MSG_NONE) {
        rx->heard_at = wa_mono_now();
        rx->asked_at = 0;
    }
    switch (message.kind) {
    case WA_MSG_NONE: {
        uint64_t counter;
        ssize_t ignored = read(rx->s->wake_fd, &counter, sizeof counter);
        (void)ignored;
        WA_TRY(mind_silence(rx, err));
        return sync_spool(rx, err);
    }
    case WA_MSG_WAL:
        saw_server(rx, &message);
        wa_backlog_look(rx->s);
        return wa_receiver_take(rx, &message, err);
    case WA_MSG_KEEPALIVE:
        saw_server(rx, &message);
        return message.reply_requested ? wa_receiver_tell(rx, true, err) : WA_OK;
    case WA_MSG_TIMELINE_END:
        rx->next_tli = message.next_tli;
        rx->next_start = message.next_start;
        *ret_ended = true;
        return sync_spool(rx, err);
    }
    return WA_OK;
}

void
wa_receiver_begin(wa_receiver *rx, const wa_tli *chain, size_t chain_count, wa_lsn start)
{
    wa_streamer *s = rx->s;
    WA_ASSERT(start % s->cluster.segment_size == 0);
    rx->position = start;
    rx->fresh_from = s->flow.checked;
    wa_walreader_expect_system(rx->reader, s->cluster.system_identifier);
    wa_walreader_expect_timelines(rx->reader, chain, chain_count);
    wa_walreader_start(rx->reader, start, 0);
}

wa_status
wa_receiver_run(wa_receiver *rx, const wa_tli *chain, size_t chain_count, wa_lsn start,
                wa_error *err)
{
    wa_streamer *s = rx->s;
    bool ended = false;
    wa_receiver_begin(rx, chain, chain_count, start);
    WA_TRY(wa_pg_stream_start(rx->conn, s->options.slot, start, rx->tli, err));
    rx->heard_at = wa_mono_now();
    rx->asked_at = 0;
    if (s->stream_began == 0) {
        s->stream_began = wa_mono_now();
        s->stream_from = s->flow.received;
    }
    wa_streamer_set_state(s, WA_STREAM_STREAMING);
    while (!ended) {
        WA_TRY(wa_cancel_check(s->cancel, err));
        WA_TRY(wa_streamer_check_fault(s, err));
        WA_TRY(wa_receiver_tell(rx, false, err));
        if (spool_is_full(rx))
            WA_TRY(wait_for_room(rx, err));
        WA_TRY(step(rx, &ended, err));
    }
    return WA_OK;
}

void
wa_receiver_finish(wa_receiver *rx)
{
    wa_streamer *s = rx->s;
    wa_error err = WA_ERROR_INIT;
    wa_mono deadline = wa_mono_now() + WA_SHUTDOWN_MS;
    bool done = sync_spool(rx, &err) != WA_OK;
    while (!done && wa_mono_left(deadline) > 0) {
        {
            WA_LOCK(&s->mutex);
            wa_lsn due = rx->mode == WA_RECEIVE_DIRECT ? s->flow.handed : s->flow.checked;
            s->stopping = true;
            wa_cond_broadcast(&s->cond);
            done = s->flow.durable >= due || s->fault.status != WA_OK || !s->flow.ready;
            if (!done)
                wa_cond_wait_until(&s->cond, &s->mutex, wa_mono_now() + 100);
        }
        done = wa_receiver_tell(rx, false, &err) != WA_OK || done;
    }
    wa_pg_stream_stop(rx->conn, 500);
}
