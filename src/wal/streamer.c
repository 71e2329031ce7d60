/*
 * streamer.c - the streamer as a whole: threads, sessions with backoff, status.
 */
#include "cut_internal.h"
#include "streamer_internal.h"

#include "walagent/base/file.h"
#include "walagent/repo/index.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define SPOOL_SEGMENTS_MIN 4

const char *
wa_stream_state_name(wa_stream_state state)
{
    switch (state) {
    case WA_STREAM_STARTING:
        return "starting";
    case WA_STREAM_RECONCILING:
        return "reconciling";
    case WA_STREAM_STREAMING:
        return "streaming";
    case WA_STREAM_SWITCHING:
        return "switching";
    case WA_STREAM_WAITING:
        return "waiting";
    case WA_STREAM_FENCED:
        return "fenced";
    case WA_STREAM_RETRYING:
        return "retrying";
    case WA_STREAM_STOPPED:
        return "stopped";
    }
    return "unknown";
}

void
wa_streamer_set_state(wa_streamer *s, wa_stream_state state)
{
    WA_LOCK(&s->mutex);
    s->status.state = state;
}

void
wa_streamer_note_error_locked(wa_streamer *s, const wa_error *err)
{
    snprintf(s->status.last_error, sizeof s->status.last_error, "%.*s",
             (int)sizeof s->status.last_error - 1, err->message);
    s->status.last_error_time = wa_time_now();
}

void
wa_streamer_note_error(wa_streamer *s, const wa_error *err)
{
    WA_LOCK(&s->mutex);
    wa_streamer_note_error_locked(s, err);
}

void
wa_streamer_say(wa_streamer *s, wa_log_level level, const char *hint, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    wa_say_v(&s->options.listener, level, hint, fmt, args);
    va_end(args);
}

/* The same news again (a refused server is asked every few seconds) is told every ten minutes. */
static bool
is_repeated_locked(wa_streamer *s, const char *message)
{
    wa_mono now = wa_mono_now();
    if (strcmp(s->last_event, message) == 0 && now - s->last_event_at < 600000)
        return true;
    snprintf(s->last_event, sizeof s->last_event, "%s", message);
    s->last_event_at = now;
    return false;
}

void
wa_streamer_event(wa_streamer *s, const char *kind, wa_log_level level, const char *hint,
                  const char *fmt, ...)
{
    wa_pending_event *event = wa_calloc(1, sizeof *event);
    va_list args;
    va_start(args, fmt);
    vsnprintf(event->message, sizeof event->message, fmt, args);
    va_end(args);
    snprintf(event->kind, sizeof event->kind, "%s", kind);
    {
        WA_LOCK(&s->mutex);
        if (is_repeated_locked(s, event->message)) {
            free(event);
            return;
        }
    }
    wa_streamer_say(s, level, hint, "%s", event->message);
    WA_LOCK(&s->mutex);
    *s->events_end = event;
    s->events_end = &event->next;
    wa_cond_broadcast(&s->cond);
}

void
wa_streamer_remember(wa_streamer *s, const wa_branch *branch, wa_segno segno, const char *xxh3)
{
    WA_LOCK(&s->mutex);
    wa_known_segment *known = &s->known[s->known_next++ % WA_KNOWN_SEGMENTS];
    known->branch = *branch;
    known->segno = segno;
    snprintf(known->xxh3, sizeof known->xxh3, "%s", xxh3);
}

bool
wa_streamer_knows(wa_streamer *s, const char *segment_name, char ret_xxh3[static WA_XXH_HEX],
                  wa_branch *ret_branch)
{
    wa_tli tli;
    wa_segno segno;
    WA_LOCK(&s->mutex);
    if (s->cluster.segment_size == 0 ||
        !wa_segment_parse(segment_name, s->cluster.segment_size, &tli, &segno))
        return false;
    for (size_t i = 0; i < WA_KNOWN_SEGMENTS; i++) {
        const wa_known_segment *known = &s->known[i];
        if (known->xxh3[0] == '\0' || known->segno != segno || known->branch.tli != tli)
            continue;
        memcpy(ret_xxh3, known->xxh3, WA_XXH_HEX);
        *ret_branch = known->branch;
        return true;
    }
    return false;
}

bool
wa_streamer_has_in_hand(wa_streamer *s, const char *segment_name)
{
    wa_tli tli;
    wa_segno segno;
    WA_LOCK(&s->mutex);
    return s->cluster.segment_size != 0 &&
           wa_segment_parse(segment_name, s->cluster.segment_size, &tli, &segno) &&
           tli == s->flow.branch.tli && wa_flow_job_locked(s, segno) != NULL;
}

wa_status
wa_streamer_new(wa_repo *repo, const wa_streamer_options *options, wa_streamer **ret, wa_error *err)
{
    if (wa_str_empty(options->conninfo) || wa_str_empty(options->slot) ||
        wa_str_empty(options->spool_dir))
        return wa_error_set(err, WA_INVALID,
                            "streaming needs conninfo, slot and a spool directory");
    WA_CLEANUP(wa_streamer_freep) wa_streamer *s = wa_calloc(1, sizeof *s);
    s->repo = repo;
    s->options = *options;
    s->options.conninfo = wa_strdup(options->conninfo);
    s->options.slot = wa_strdup(options->slot);
    s->options.spool_dir = wa_strdup(options->spool_dir);
    s->known = wa_calloc(WA_KNOWN_SEGMENTS, sizeof s->known[0]);
    s->archived = wa_calloc(WA_INDEX_FANOUT, sizeof s->archived[0]);
    s->events_end = &s->events;
    s->chunk_most = WA_CUT_MOST;
    s->stop.fd = -1;
    wa_mutex_init(&s->mutex);
    wa_cond_init(&s->cond);
    wa_flow_init(&s->flow);
    wa_buf_init(&s->history, 1024 * 1024);
    s->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (s->wake_fd < 0)
        return wa_error_set(err, WA_IO, "could not create an eventfd");
    WA_TRY(wa_cancel_init(&s->stop, err));
    *ret = WA_TAKE(s);
    return WA_OK;
}

static void
free_str(const char *s)
{
    union {
        const char *in;
        char *out;
    } owned = {.in = s};
    free(owned.out);
}

void
wa_streamer_free(wa_streamer *s)
{
    if (s == NULL)
        return;
    wa_flow_done(&s->flow);
    wa_lineage_free(s->lineage);
    wa_damage_free(s->damage);
    while (s->events != NULL) {
        wa_pending_event *event = s->events;
        s->events = event->next;
        free(event);
    }
    wa_spool_free(s->spool);
    wa_pool_free(s->pool);
    wa_closep(&s->wake_fd);
    if (s->stop.fd >= 0)
        wa_cancel_done(&s->stop);
    wa_buf_done(&s->history);
    wa_cond_done(&s->cond);
    wa_mutex_done(&s->mutex);
    free(s->known);
    free(s->removable);
    free(s->archived);
    free(s->host_conninfo);
    free_str(s->options.conninfo);
    free_str(s->options.slot);
    free_str(s->options.spool_dir);
    free(s);
}

static wa_status
open_once(wa_streamer *s, wa_error *err)
{
    if (!wa_repo_loaded(s->repo))
        WA_TRY(wa_repo_load(s->repo, err));
    wa_cluster cluster = *wa_repo_cluster(s->repo);
    if (s->pool == NULL)
        WA_TRY(wa_pool_new("compress", s->options.jobs > 0 ? s->options.jobs : wa_processors(), 4,
                           &s->pool, err));
    if (s->spool == NULL) {
        wa_spool *spool = NULL;
        WA_TRY(wa_spool_open(s->options.spool_dir, cluster.segment_size, &spool, err));
        WA_LOCK(&s->mutex);
        s->cluster = cluster;
        s->spool = spool;
        /* Room for what can't be given back yet: the segment received, and one being archived. */
        if (s->options.spool_max < SPOOL_SEGMENTS_MIN * cluster.segment_size)
            s->options.spool_max = SPOOL_SEGMENTS_MIN * cluster.segment_size;
    }
    return wa_role_identity(s, err);
}

/* Spooled bytes behind the tip are shipped whether or not a server can be reached. */
static wa_status
ship_spool(wa_streamer *s, wa_error *err)
{
    wa_role role;
    bool fresh;
    WA_TRY(wa_role_load(s, &role, &fresh, err));
    if (fresh || role != WA_ROLE_WRITER)
        return WA_OK;
    if (wa_lineage_is_held(s->lineage)) /* a promoted server may end it: ask one first */
        return WA_OK;
    WA_TRY(wa_role_reopen(s, err));
    wa_status status = wa_reconcile(s, 0, err);
    return status == WA_NOT_FOUND ? WA_OK : status;
}

static bool
is_incurable(wa_status status)
{
    return status == WA_CONFLICT || status == WA_UNSUPPORTED || status == WA_INVALID;
}

/* A failed session: show it, wait, begin again (soon after a good one). OK: try again. */
static wa_status
after_failure(wa_streamer *s, uint64_t *backoff, bool good, wa_error *err)
{
    bool fenced = false;
    wa_streamer_note_error(s, err);
    {
        WA_LOCK(&s->mutex);
        fenced = s->fenced;
        s->status.reconnects++;
        s->status.synchronous = false;
        wa_error_clear(&s->fault);
    }
    if (fenced)
        wa_streamer_event(
            s, "fenced", WA_LOG_ERROR,
            err->hint[0] != '\0'
                ? err->hint
                : "Another agent writes this archive now; nothing more is acknowledged.",
            "%s", err->message);
    else if (is_incurable(err->status))
        return err->status;
    else
        wa_streamer_say(s, WA_LOG_WARNING, err->hint, "%s", err->message);
    wa_streamer_set_state(s, fenced ? WA_STREAM_FENCED : WA_STREAM_RETRYING);
    if (good)
        *backoff = WA_BACKOFF_MIN_MS;
    uint64_t wait = *backoff;
    *backoff = *backoff * 2 > WA_BACKOFF_MAX_MS ? WA_BACKOFF_MAX_MS : *backoff * 2;
    if (wa_cancel_sleep(s->cancel, wait, err) != WA_OK)
        wa_error_clear(err);
    return WA_OK;
}

/* Did the session's stream bring something that our threads could use, or last? One that merely
 * begins is no sign of health. */
static bool
was_good(wa_streamer *s)
{
    WA_LOCK(&s->mutex);
    if (s->stream_began == 0)
        return false;
    return (s->flow.received != s->stream_from && s->fault.status == WA_OK) ||
           wa_mono_now() - s->stream_began >= WA_BACKOFF_MAX_MS;
}

static wa_status
sessions(wa_streamer *s, wa_error *err)
{
    uint64_t backoff = WA_BACKOFF_MIN_MS;
    while (!wa_cancelled(s->cancel)) {
        s->stream_began = 0;
        wa_status status = wa_session_run(s, err);
        WA_ASSERT(status != WA_OK);
        if (status == WA_CANCELLED && wa_cancelled(s->cancel))
            break;
        WA_TRY(after_failure(s, &backoff, was_good(s), err));
    }
    wa_error_clear(err);
    return WA_OK;
}

/* Repository first, then what the spool holds; then servers. */
static wa_status
open_with_patience(wa_streamer *s, wa_error *err)
{
    uint64_t backoff = WA_BACKOFF_MIN_MS;
    while (!wa_cancelled(s->cancel)) {
        wa_status status = open_once(s, err);
        if (status == WA_OK)
            return WA_OK;
        WA_TRY(after_failure(s, &backoff, false, err));
        wa_streamer_set_state(s, WA_STREAM_STARTING);
    }
    return WA_OK;
}

static wa_status
run_with_threads(wa_streamer *s, wa_error *err)
{
    static const struct {
        const char *name;
        wa_thread_fn run;
    } kinds[] = {
        {"tail", wa_tail_thread}, {"segments", wa_segments_thread}, {"watch", wa_watch_thread}};
    pthread_t threads[WA_ARRAY_SIZE(kinds)];
    size_t started = 0;
    wa_status status = WA_OK;
    for (; started < WA_ARRAY_SIZE(kinds) && status == WA_OK; started += status == WA_OK)
        status =
            wa_thread_start(&threads[started], kinds[started].name, kinds[started].run, s, err);
    if (status == WA_OK && ship_spool(s, err) != WA_OK)
        wa_streamer_note_error(s, err);
    if (status == WA_OK)
        status = sessions(s, err);
    wa_cancel_trigger(&s->stop);
    {
        WA_LOCK(&s->mutex);
        wa_cond_broadcast(&s->cond);
    }
    for (size_t i = 0; i < started; i++)
        wa_thread_join(threads[i]);
    return status;
}

wa_status
wa_streamer_run(wa_streamer *s, wa_cancel *cancel, wa_error *err)
{
    s->cancel = cancel;
    wa_streamer_set_state(s, WA_STREAM_STARTING);
    wa_status status = open_with_patience(s, err);
    if (status == WA_OK && s->spool != NULL && !wa_cancelled(cancel))
        status = run_with_threads(s, err);
    wa_streamer_set_state(s, WA_STREAM_STOPPED);
    return status;
}

void
wa_streamer_backlog_locked(const wa_streamer *s, uint64_t *ret_backlog, uint64_t *ret_limit)
{
    uint64_t end = s->status.server_end, durable = s->flow.durable;
    *ret_backlog = durable != 0 && end > durable ? end - durable : 0;
    *ret_limit = s->backlog_limit != 0 ? s->backlog_limit : s->options.spool_max;
}

void
wa_streamer_get_status(wa_streamer *s, wa_streamer_status *ret)
{
    WA_LOCK(&s->mutex);
    const wa_flow *flow = &s->flow;
    *ret = s->status;
    ret->branch = flow->branch;
    ret->epoch = flow->epoch;
    ret->received = flow->received;
    ret->spooled = flow->spooled;
    ret->durable = flow->durable;
    ret->began = flow->began;
    wa_streamer_backlog_locked(s, &ret->lag_bytes, &ret->lag_limit);
    ret->lag_ms = flow->pending_since != 0 ? wa_mono_now() - flow->pending_since : 0;
    ret->lag_commits = flow->commits_received > flow->commits_durable
                           ? flow->commits_received - flow->commits_durable
                           : 0;
    ret->spool_max = s->options.spool_max;
    ret->spool_bytes = s->spool != NULL ? wa_spool_bytes(s->spool) : 0;
}

wa_status
wa_streamer_wait_durable(wa_streamer *s, wa_lsn lsn, int timeout_ms, wa_error *err)
{
    wa_mono deadline = wa_mono_now() + (wa_mono)(timeout_ms > 0 ? timeout_ms : 0);
    char at[WA_LSN_TEXT];
    WA_LOCK(&s->mutex);
    while (s->flow.durable < lsn)
        if (wa_mono_left(deadline) <= 0 || !wa_cond_wait_until(&s->cond, &s->mutex, deadline))
            return wa_error_set(err, WA_UNAVAILABLE,
                                "WAL up to %s is not durable in the archive in time%s%s",
                                wa_lsn_format(lsn, at), s->status.last_error[0] != '\0' ? ": " : "",
                                s->status.last_error);
    return WA_OK;
}
