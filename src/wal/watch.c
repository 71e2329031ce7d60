/*
 * watch.c - the watch thread: what an ordinary connection tells about the stream.
 *
 * Every 10 s, and when a stream has begun: is this connection a synchronous standby (then chunks
 * follow each other without waiting for the interval), how is the slot, and the slots on the other
 * hosts are created and moved to the durable position, never past it, so that a new primary still
 * has the old timeline's WAL. It also writes events into the archive, best effort.
 */
#include "streamer_internal.h"

#include "walagent/repo/event.h"

#include <stdlib.h>
#include <string.h>

#define CONNECT_MS 3000

typedef struct view {
    char *conninfo; /* owned; NULL: no stream */
    int pid;
    wa_lsn durable;
} view;

static void
view_done(view *v)
{
    free(v->conninfo);
}

static wa_status
connect_to(wa_streamer *s, const char *conninfo, bool replication, wa_pg_conn **ret, wa_error *err)
{
    wa_pg_connect_options options = {.conninfo = conninfo,
                                     .replication = replication,
                                     .application_name = "walagent_watch",
                                     .timeout_ms = CONNECT_MS,
                                     .cancel = &s->stop};
    return wa_pg_connect(&options, ret, err);
}

static wa_status
is_synchronous(wa_pg_conn *conn, int pid, bool *ret, wa_error *err)
{
    WA_CLEANUP(wa_pg_clearp) PGresult *res = NULL;
    WA_CLEANUP(wa_freep)
    char *sql = wa_format("SELECT sync_state IN ('sync', 'quorum') FROM "
                          "pg_catalog.pg_stat_replication WHERE pid = %d",
                          pid);
    WA_TRY(wa_pg_query(conn, sql, CONNECT_MS, &res, err));
    *ret = PQntuples(res) == 1 && strcmp(PQgetvalue(res, 0, 0), "t") == 0;
    return WA_OK;
}

static wa_status
look_at_server(wa_streamer *s, const view *v, wa_pg_conn **conn, wa_error *err)
{
    bool synchronous = false;
    wa_pg_slot slot;
    if (*conn == NULL)
        WA_TRY(connect_to(s, v->conninfo, false, conn, err));
    WA_TRY(is_synchronous(*conn, v->pid, &synchronous, err));
    WA_TRY(wa_pg_slot_query(*conn, s->options.slot, &slot, err));
    WA_TRY(wa_single_writer_look(s, *conn, v->pid, err));
    WA_LOCK(&s->mutex);
    s->status.synchronous = synchronous;
    wa_backlog_slot_locked(s, &slot);
    wa_cond_broadcast(&s->cond);
    return WA_OK;
}

/* A host that is not streamed from keeps WAL for us, too. */
static wa_status
keep_slot(wa_streamer *s, const char *conninfo, wa_lsn durable, wa_error *err)
{
    WA_CLEANUP(wa_pg_closep) wa_pg_conn *conn = NULL;
    WA_CLEANUP(wa_pg_closep) wa_pg_conn *repl = NULL;
    wa_pg_slot slot;
    WA_TRY(connect_to(s, conninfo, false, &conn, err));
    WA_TRY(wa_pg_slot_query(conn, s->options.slot, &slot, err));
    bool lost = slot.exists && !slot.active && strcmp(slot.wal_status, "lost") == 0;
    if (!slot.exists || lost) {
        WA_TRY(connect_to(s, conninfo, true, &repl, err));
        if (lost)
            WA_TRY(wa_pg_slot_drop(repl, s->options.slot, err));
        return wa_pg_slot_create(repl, s->options.slot, err);
    }
    if (slot.active || durable <= slot.restart_lsn)
        return WA_OK;
    return wa_pg_slot_advance(conn, s->options.slot, durable, err);
}

static void
keep_other_slots(wa_streamer *s, const view *v)
{
    WA_CLEANUP(wa_strv_done) wa_strv hosts = {0};
    wa_error err = WA_ERROR_INIT;
    if (wa_pg_split_hosts(s->options.conninfo, &hosts, &err) != WA_OK)
        return;
    for (size_t i = 0; i < hosts.count && !wa_cancelled(&s->stop); i++)
        /* A host that is down is the normal case here; `check` reports hosts without the slot. */
        if (strcmp(hosts.items[i], v->conninfo) != 0 &&
            keep_slot(s, hosts.items[i], v->durable, &err) != WA_OK)
            wa_error_clear(&err);
}

static void
write_events(wa_streamer *s)
{
    for (;;) {
        wa_pending_event *event;
        wa_error err = WA_ERROR_INIT;
        {
            WA_LOCK(&s->mutex);
            event = s->events;
            if (event == NULL)
                return;
            s->events = event->next;
            if (s->events == NULL)
                s->events_end = &s->events;
        }
        if (wa_event_put(s->repo, event->kind, event->message, NULL, &err) != WA_OK)
            wa_streamer_note_error(s, &err);
        free(event);
    }
}

/* Waits for an event, another stream, or the next look. */
static void
take_view(wa_streamer *s, wa_mono next_look, int seen_pid, view *ret)
{
    WA_LOCK(&s->mutex);
    while (!wa_cancelled(&s->stop) && s->events == NULL && s->backend_pid == seen_pid &&
           wa_mono_left(next_look) > 0)
        wa_cond_wait_until(&s->cond, &s->mutex, next_look);
    ret->conninfo = wa_strdup(s->host_conninfo);
    ret->pid = s->backend_pid;
    ret->durable = s->flow.durable;
}

void *
wa_watch_thread(void *arg)
{
    wa_streamer *s = arg;
    WA_CLEANUP(wa_pg_closep) wa_pg_conn *conn = NULL;
    wa_mono next_look = wa_mono_now() + WA_WATCH_MS;
    int seen_pid = 0;
    while (!wa_cancelled(&s->stop)) {
        WA_CLEANUP(view_done) view v = {0};
        wa_error err = WA_ERROR_INIT;
        take_view(s, next_look, seen_pid, &v);
        write_events(s);
        if (v.pid == seen_pid && wa_mono_left(next_look) > 0)
            continue;
        if (v.pid != seen_pid)
            wa_pg_closep(&conn);
        seen_pid = v.pid;
        next_look = wa_mono_now() + WA_WATCH_MS;
        if (v.conninfo == NULL)
            continue;
        if (look_at_server(s, &v, &conn, &err) != WA_OK)
            wa_pg_closep(&conn);
        wa_backlog_look(s);
        keep_other_slots(s, &v);
    }
    write_events(s);
    return NULL;
}
