/*
 * session.c - one connection's life: find the primary, know who writes, agree on where to go on,
 * and follow the timelines.
 */
#include "receiver_internal.h"

#include <stdlib.h>
#include <string.h>

#define CONNECT_MS 5000

typedef struct session {
    wa_pg_conn *conn;
    char *conninfo; /* of the one host */
    wa_pg_system sys;
    wa_history *history; /* of the server's timeline */
    wa_lsn slot_restart;
    bool in_recovery;
} session;

static void
session_done(session *x)
{
    wa_pg_close(x->conn);
    free(x->conninfo);
    wa_history_free(x->history);
}

static wa_status
try_host(wa_streamer *s, const char *conninfo, session *ret, wa_error *err)
{
    WA_CLEANUP(wa_pg_closep) wa_pg_conn *conn = NULL;
    wa_pg_connect_options options = {.conninfo = conninfo,
                                     .replication = true,
                                     .options = "-c wal_sender_timeout=10s",
                                     .timeout_ms = CONNECT_MS,
                                     .cancel = &s->stop};
    wa_pg_system sys;
    bool in_recovery = false;
    WA_TRY(wa_pg_connect(&options, &conn, err));
    WA_TRY(wa_pg_identify(conn, &sys, err));
    WA_TRY(wa_pg_in_recovery(conn, &in_recovery, err));
    wa_pg_close(ret->conn);
    free(ret->conninfo);
    ret->conn = WA_TAKE(conn);
    ret->conninfo = wa_strdup(conninfo);
    ret->sys = sys;
    ret->in_recovery = in_recovery;
    return WA_OK;
}

/* The head's timeline wins over others; among equals the first. */
static bool
is_better(wa_streamer *s, const session *a, const session *b)
{
    if (b->conn == NULL)
        return true;
    wa_tli head =
        s->lineage != NULL && s->lineage->count > 0 ? wa_lineage_head(s->lineage)->branch.tli : 0;
    return head != 0 && a->sys.tli == head && b->sys.tli != head;
}

static wa_status
find_primary(wa_streamer *s, session *ret, wa_error *err)
{
    WA_CLEANUP(wa_strv_done) wa_strv hosts = {0};
    wa_error failure = WA_ERROR_INIT;
    size_t primaries = 0;
    WA_TRY(wa_pg_split_hosts(s->options.conninfo, &hosts, err));
    for (size_t i = 0; i < hosts.count; i++) {
        WA_CLEANUP(session_done) session x = {0};
        WA_TRY(wa_cancel_check(s->cancel, err));
        if (try_host(s, hosts.items[i], &x, &failure) != WA_OK)
            continue;
        if (x.in_recovery && hosts.count > 1)
            continue;
        primaries++;
        if (is_better(s, &x, ret)) {
            session worse = *ret;
            *ret = x;
            x = worse;
        }
    }
    if (primaries > 1)
        wa_streamer_event(s, "two-primaries", WA_LOG_ERROR,
                          "Fence all but one of them; nothing but the head's timeline is archived.",
                          "%zu servers of conninfo are not in recovery", primaries);
    if (primaries > 0)
        return WA_OK;
    if (failure.status != WA_OK) {
        *err = failure;
        return err->status;
    }
    return wa_error_set(err, WA_UNAVAILABLE, "all servers of conninfo are in recovery");
}

static wa_status
check_identity(wa_streamer *s, const session *x, wa_error *err)
{
    const wa_cluster *c = &s->cluster;
    bool known = true;
    if (x->sys.system_identifier != c->system_identifier) {
        wa_error_set(err, WA_CONFLICT,
                     "server %s has system identifier %llu, the archive belongs to %llu",
                     wa_pg_host(x->conn), (unsigned long long)x->sys.system_identifier,
                     (unsigned long long)c->system_identifier);
        return wa_error_hint(err, "After pg_upgrade, or to archive a new cluster, run "
                                  "\"walagent init\" again.");
    }
    if (x->sys.segment_size != c->segment_size)
        return wa_error_set(err, WA_CONFLICT, "server %s has WAL segments of another size",
                            wa_pg_host(x->conn));
    WA_TRY(wa_pg_check_major(x->conn, &known, err));
    if (!known && !s->major_said) {
        s->major_said = true;
        wa_streamer_event(s, "unparsed", WA_LOG_WARNING, "Upgrade walagent.",
                          "WAL of PostgreSQL %d is archived without being checked", x->sys.major);
    }
    return WA_OK;
}

/* The slot reserves WAL from here on; created when it is missing, anew when it was invalidated. */
static wa_status
ensure_slot(wa_streamer *s, session *x, wa_error *err)
{
    WA_CLEANUP(wa_pg_closep) wa_pg_conn *conn = NULL;
    wa_pg_connect_options options = {
        .conninfo = x->conninfo, .timeout_ms = CONNECT_MS, .cancel = &s->stop};
    wa_pg_slot slot;
    WA_TRY(wa_pg_connect(&options, &conn, err));
    WA_TRY(wa_pg_slot_query(conn, s->options.slot, &slot, err));
    if (slot.exists && strcmp(slot.wal_status, "lost") == 0 && !slot.active) {
        wa_streamer_event(s, "slot-lost", WA_LOG_ERROR,
                          "Raise max_slot_wal_keep_size; a hole in the archive is likely.",
                          "replication slot \"%s\" was invalidated (%s), it is created anew",
                          s->options.slot, slot.invalidation_reason);
        WA_TRY(wa_pg_slot_drop(x->conn, s->options.slot, err));
        slot.exists = false;
    }
    if (!slot.exists) {
        wa_status status = wa_pg_slot_create(x->conn, s->options.slot, err);
        if (status != WA_OK && status != WA_EXISTS)
            return status;
        WA_TRY(wa_pg_slot_query(conn, s->options.slot, &slot, err));
    }
    x->slot_restart = slot.restart_lsn;
    WA_TRY(wa_single_writer_look(s, conn, PQbackendPID(wa_pg_raw(x->conn)), err));
    WA_LOCK(&s->mutex);
    wa_backlog_slot_locked(s, &slot);
    return WA_OK;
}

static bool
flow_ready(wa_streamer *s)
{
    WA_LOCK(&s->mutex);
    return s->flow.ready;
}

/* A seal that fenced us ends this run on the primary as it was, and one that is held every run. It
 * was meant for a promotion: a server that was promoted since is followed. Who was fenced while it
 * took over has its own epoch to seal first. */
static wa_status
reopen(wa_streamer *s, const session *x, wa_error *err)
{
    bool fenced = wa_streamer_is_fenced(s), held = wa_lineage_is_held(s->lineage);
    bool unsealed = false;
    bool promoted = !x->in_recovery && x->sys.tli != wa_lineage_head(s->lineage)->branch.tli;
    if (promoted && (fenced || held))
        WA_TRY(wa_role_check_descends(s, x->conn, err));
    else if (held)
        return wa_role_held(s, err);
    else if (fenced)
        WA_TRY(wa_role_was_unsealed(s, &unsealed, err));
    if (fenced && !promoted && !unsealed && s->taking_over == 0)
        return wa_error_set(err, WA_UNAVAILABLE,
                            "fenced: this agent's epoch was sealed; the next run opens another");
    return wa_role_reopen(s, err);
}

/* Writer, and a flow that matches what the spool holds. */
static wa_status
agree(wa_streamer *s, session *x, wa_error *err)
{
    bool named = s->flow.branch.id[0] != '\0';
    if (flow_ready(s) && named && s->anchored) {
        /* What went into a writer, or was not synced, went with the old connection. */
        uint64_t have = 0, size = s->cluster.segment_size;
        wa_segno segno = s->flow.handed / size;
        wa_status status = wa_spool_size(s->spool, &s->flow.branch, segno, &have, err);
        if (status != WA_OK && status != WA_NOT_FOUND)
            return status;
        if (s->flow.handed + have >= s->flow.received)
            return ensure_slot(s, x, err);
    }
    wa_role role;
    bool fresh;
    WA_TRY(wa_role_load(s, &role, &fresh, err));
    if (fresh)
        WA_TRY(wa_role_first(s, x->conn, x->conninfo, &x->sys, err));
    else if (role == WA_ROLE_WAITING)
        WA_TRY(wa_role_wait(s, x->conn, x->conninfo, err));
    else
        WA_TRY(reopen(s, x, err));
    WA_TRY(ensure_slot(s, x, err));
    return wa_reconcile(s, x->slot_restart != 0 ? x->slot_restart : x->sys.flush, err);
}

static wa_status
load_history(wa_streamer *s, session *x, wa_error *err)
{
    WA_CLEANUP(wa_buf_done) wa_buf text = WA_BUF_INIT(1024 * 1024);
    wa_tli tli = s->flow.branch.tli;
    if (x->sys.tli > 1)
        WA_TRY(wa_pg_timeline_history(x->conn, x->sys.tli, &text, err));
    WA_TRY(wa_history_parse(x->sys.tli, wa_buf_str(&text), text.len, &x->history, err));
    if (wa_history_has(x->history, tli))
        return WA_OK;
    return wa_error_set(err, WA_FAILED,
                        "server %s is on timeline %u, which does not descend from timeline %u, "
                        "the archive's newest",
                        wa_pg_host(x->conn), x->sys.tli, tli);
}

/* A server that was promoted after we asked for its history is on a timeline that it doesn't have.
 */
static wa_status
renew_history(wa_streamer *s, session *x, wa_error *err)
{
    if (wa_history_has(x->history, s->flow.branch.tli))
        return WA_OK;
    WA_TRY(wa_pg_identify(x->conn, &x->sys, err));
    wa_history_free(WA_TAKE(x->history));
    return load_history(s, x, err);
}

/* Where the server's history leaves the timeline that is streamed; 0: it is the server's own. */
static wa_lsn
fork_of(const session *x, wa_tli tli)
{
    return wa_history_end_of(x->history, tli);
}

static wa_tli
child_of(const session *x, wa_tli tli)
{
    for (size_t i = 0; i < x->history->count; i++)
        if (x->history->entries[i].tli == tli)
            return i + 1 < x->history->count ? x->history->entries[i + 1].tli : x->history->tli;
    return x->history->tli;
}

/* Timelines whose pages may be seen: those up to tli. */
static size_t
chain_to(const session *x, wa_tli tli, wa_tli *out, size_t max)
{
    size_t n = 0;
    for (size_t i = 0; i < x->history->count && x->history->entries[i].tli < tli && n + 1 < max;
         i++)
        out[n++] = x->history->entries[i].tli;
    out[n++] = tli;
    return n;
}

static wa_status
receive_timeline(wa_streamer *s, session *x, wa_receiver *rx, wa_error *err)
{
    uint64_t size = s->cluster.segment_size;
    wa_tli chain[WA_LINEAGE_MAX];
    wa_lsn start = s->flow.handed, end = fork_of(x, s->flow.branch.tli);
    rx->tli = s->flow.branch.tli;
    wa_lsn durable = wa_flow_durable(s);
    rx->fork = s->flow.branch.id[0] == '\0' ? durable : 0;
    rx->prove_until = s->reported_tli == rx->tli && s->reported > durable ? s->reported : durable;
    rx->direct_until = end != 0 && end < x->sys.flush ? end : x->sys.flush;
    rx->flush_floor = end == 0 ? x->slot_restart : 0;
    if (end == 0 && x->sys.flush < rx->prove_until) {
        char is[WA_LSN_TEXT], due[WA_LSN_TEXT];
        /* One that is being restored comes to it, or leaves for another timeline. */
        if (x->in_recovery)
            return wa_error_set(err, WA_UNAVAILABLE,
                                "server %s is in recovery at %s and has not reached %s yet",
                                wa_pg_host(x->conn), wa_lsn_format(x->sys.flush, is),
                                wa_lsn_format(rx->prove_until, due));
        return wa_error_set(err, WA_INVALID,
                            "server %s ends at %s, behind %s that was acknowledged to it",
                            wa_pg_host(x->conn), wa_lsn_format(x->sys.flush, is),
                            wa_lsn_format(rx->prove_until, due));
    }
    if (s->flow.received == start && s->last_xxh3[0] != '\0' && (s->last_segno + 1) * size == start)
        start -= size;
    size_t count = chain_to(x, rx->tli, chain, WA_LINEAGE_MAX);
    wa_status status = wa_receiver_run(rx, chain, count, start, err);
    if (status == WA_NOT_FOUND && rx->position == start && start < s->flow.handed) {
        /* The segment before is gone from the server: nothing to show again, go on behind it. */
        s->last_xxh3[0] = '\0';
        status = wa_receiver_run(rx, chain, count, s->flow.handed, err);
    }
    return status;
}

/* The server shows something else than what is archived: refuse, or, when the difference lies
 * behind what was acknowledged, forget what only the spool holds. */
static wa_status
meet_contradiction(wa_streamer *s, const wa_receiver *rx, wa_error *err)
{
    char at[WA_LSN_TEXT];
    wa_error ignored = WA_ERROR_INIT;
    wa_lsn durable = wa_flow_durable(s);
    wa_lsn safe = durable > s->reported ? durable : s->reported;
    if (err->status == WA_CONFLICT && rx->mode == WA_RECEIVE_SPOOL && rx->position >= safe) {
        uint64_t size = s->cluster.segment_size;
        wa_spool_end(s->spool);
        if (wa_spool_truncate(s->spool, &s->flow.branch, wa_segno_of(rx->position, size),
                              safe > rx->position - rx->position % size ? safe % size : 0,
                              &ignored) == WA_OK) {
            wa_streamer_say(s, WA_LOG_WARNING, "", "%s; it was not acknowledged and is dropped",
                            err->message);
            err->status = WA_UNAVAILABLE;
        }
        return err->status;
    }
    wa_streamer_event(s, "conflict", WA_LOG_ERROR,
                      "Two servers may have written this timeline: fence one, then see "
                      "\"walagent lineage\".",
                      "%s; nothing behind %s is acknowledged", err->message,
                      wa_lsn_format(safe, at));
    {
        WA_LOCK(&s->mutex);
        s->status.conflicts++;
    }
    err->status = WA_FAILED;
    return err->status;
}

/*
 * The server has the WAL that comes next no more. On its own timeline it has what the slot keeps;
 * of an ancestor, the end in the segment that holds the fork, for that is a file of the child's.
 * Where that is gone as well the ancestor is left: what comes next is the child's.
 */
static wa_status
go_on_behind_hole(wa_streamer *s, session *x, wa_error *err)
{
    uint64_t size = s->cluster.segment_size;
    wa_tli tli = s->flow.branch.tli;
    wa_lsn durable = wa_flow_durable(s), end = fork_of(x, tli);
    wa_lsn available = x->slot_restart > durable ? x->slot_restart : x->sys.flush;
    if (end != 0 && available > end)
        available = end;
    available -= available % size;
    if (available > durable)
        return wa_reconcile_hole(s, available, err);
    if (end != 0)
        return wa_switch_behind_hole(s, x->conn, child_of(x, tli), end, err);
    char at[WA_LSN_TEXT];
    return wa_error_set(err, WA_UNAVAILABLE, "server %s has no WAL at %s, though it writes there",
                        wa_pg_host(x->conn), wa_lsn_format(durable, at));
}

static wa_status
follow(wa_streamer *s, session *x, wa_error *err)
{
    for (;;) {
        WA_CLEANUP(wa_receiver_done) wa_receiver rx;
        wa_tli tli = s->flow.branch.tli, next = 0;
        wa_lsn end = fork_of(x, tli), fork = 0;
        wa_receiver_init(&rx, s, x->conn);
        if (end != 0 && s->flow.handed >= end) {
            next = child_of(x, tli);
            fork = end;
        } else {
            wa_status status = receive_timeline(s, x, &rx, err);
            if (status == WA_NOT_FOUND) {
                WA_TRY(go_on_behind_hole(s, x, err));
                WA_TRY(renew_history(s, x, err));
                continue;
            }
            if ((status == WA_CONFLICT && !wa_streamer_is_fenced(s)) || status == WA_INVALID)
                return meet_contradiction(s, &rx, err);
            if (status == WA_CANCELLED)
                wa_receiver_finish(&rx);
            WA_TRY(status);
            next = rx.next_tli;
            fork = rx.next_start;
        }
        if (rx.mode == WA_RECEIVE_DIRECT && rx.writer != NULL)
            return wa_error_set(err, WA_UNAVAILABLE, "timeline %u ended while catching up", tli);
        WA_TRY(wa_switch_to(s, x->conn, next, fork, err));
        WA_TRY(renew_history(s, x, err));
    }
}

static void
set_host(wa_streamer *s, const session *x)
{
    WA_LOCK(&s->mutex);
    free(s->host_conninfo);
    s->host_conninfo = x != NULL ? wa_strdup(x->conninfo) : NULL;
    s->backend_pid = x != NULL ? PQbackendPID(wa_pg_raw(x->conn)) : 0;
    const char *host = x != NULL ? wa_pg_host(x->conn) : "";
    size_t len = strnlen(host, sizeof s->status.host - 1);
    memcpy(s->status.host, host, len);
    s->status.host[len] = '\0';
    wa_cond_broadcast(&s->cond);
}

wa_status
wa_session_run(wa_streamer *s, wa_error *err)
{
    WA_CLEANUP(session_done) session x = {0};
    WA_TRY(find_primary(s, &x, err));
    WA_TRY(check_identity(s, &x, err));
    WA_TRY(agree(s, &x, err));
    WA_TRY(wa_pg_identify(x.conn, &x.sys, err)); /* waiting may have taken long */
    WA_TRY(load_history(s, &x, err));
    set_host(s, &x);
    wa_status status = follow(s, &x, err);
    set_host(s, NULL);
    return status;
}
