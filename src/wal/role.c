/*
 * role.c - which agent writes: lineage, epochs, seals, and waiting beside another writer.
 *
 * An installation is named by a text in its spool directory ("writer"), so that a restarted agent
 * goes on in its own epoch. Any other agent that wants to write creates the next lineage with the
 * next epoch, then seals the chain of the old one.
 */
#include "branch_of_internal.h"
#include "streamer_internal.h"

#include "walagent/base/crash.h"
#include "walagent/base/file.h"

#include <stdio.h>
#include <string.h>

#define LOOK_EVERY_MS 1000
#define STALL_MIN_MS 10000
#define TIP_LOOKS 3 /* at the archive's tip, while it is waited for to move */

wa_status
wa_role_identity(wa_streamer *s, wa_error *err)
{
    WA_CLEANUP(wa_freep) char *path = wa_path_join(wa_spool_dir(s->spool), "writer");
    WA_CLEANUP(wa_buf_done) wa_buf text = WA_BUF_INIT(sizeof s->identity - 1);
    wa_status status = wa_file_read(path, sizeof s->identity - 1, &text, err);
    if (status == WA_NOT_FOUND) {
        wa_buf_puts(&text, wa_repo_writer(s->repo));
        status = wa_file_write(path, text.data, text.len, 0600, WA_WRITE_CREATE, err);
    }
    WA_TRY(status);
    snprintf(s->identity, sizeof s->identity, "%s", wa_buf_str(&text));
    return WA_OK;
}

/* A seal of another writer's epoch holds back who waited beside it, until a promotion. A run that
 * began behind it is a person's word to go on, as it is of the writer itself. */
static wa_status
begin_run(wa_streamer *s, const wa_lineage *l, wa_error *err)
{
    bool sealed = false;
    if (l->number != 0 && strcmp(l->writer, s->identity) != 0 && !wa_lineage_is_held(l))
        WA_TRY(wa_tip_is_sealed(s->repo, &wa_lineage_head(l)->branch, l->epoch, &sealed, err));
    s->may_pass = sealed ? l->epoch : 0;
    s->began = true;
    return WA_OK;
}

wa_status
wa_role_load(wa_streamer *s, wa_role *ret, bool *ret_fresh, wa_error *err)
{
    WA_CLEANUP(wa_lineage_freep) wa_lineage *l = NULL;
    WA_TRY(wa_lineage_load(s->repo, &l, err));
    if (!s->began)
        WA_TRY(begin_run(s, l, err));
    *ret_fresh = l->number == 0;
    *ret = strcmp(l->writer, s->identity) == 0 ? WA_ROLE_WRITER : WA_ROLE_WAITING;
    wa_lineage_free(s->lineage);
    s->lineage = WA_TAKE(l);
    return WA_OK;
}

wa_status
wa_role_store(wa_streamer *s, wa_lineage *l, const char *reason, wa_error *err)
{
    snprintf(l->writer, sizeof l->writer, "%s", s->identity);
    snprintf(l->reason, sizeof l->reason, "%s", reason);
    l->since = wa_time_now();
    WA_CRASH_POINT("lineage-before-put");
    wa_status status = wa_lineage_store(s->repo, l, err);
    WA_CRASH_POINT("lineage-after-put");
    if (status == WA_EXISTS)
        return wa_error_set(err, WA_UNAVAILABLE,
                            "another writer changed the lineage at the same time");
    return status;
}

/* The archive's first writer: the server's timeline is the head. */
wa_status
wa_role_first(wa_streamer *s, wa_pg_conn *repl, const char *conninfo, const wa_pg_system *sys,
              wa_error *err)
{
    WA_CLEANUP(wa_buf_done) wa_buf history = WA_BUF_INIT(WA_HISTORY_MAX);
    WA_CLEANUP(wa_branch_answer_done) wa_branch_answer a = {.history = WA_BUF_INIT(WA_HISTORY_MAX)};
    if (sys->tli > 1)
        WA_TRY(wa_pg_timeline_history(repl, sys->tli, &history, err));
    WA_TRY(wa_branch_of_server(s->repo, conninfo, sys->tli, &history, &s->stop, &a, err));
    WA_TRY(wa_branch_settle(s->repo, &a, err));
    WA_CLEANUP(wa_lineage_freep) wa_lineage *l = wa_lineage_new();
    wa_lineage_append(l, &a.branch, 0);
    l->epoch = 1;
    WA_TRY(wa_role_store(s, l, "first writer", err));
    wa_lineage_free(s->lineage);
    s->lineage = WA_TAKE(l);
    return WA_OK;
}

/* "lineage seal" told where the epoch before ends, and saw no newer one: what we would write goes
 * behind it. Our epoch is sealed as well, so that nobody else takes it for an open one: until that
 * is done we go on taking over, and give way again. */
static wa_status
give_way(wa_streamer *s, const wa_branch *head, wa_lsn tip, wa_error *err)
{
    wa_error_set(err, WA_CONFLICT,
                 "fenced: epoch %u was sealed while this agent took over; the next run opens "
                 "another",
                 s->taking_over);
    wa_streamer_fault(s, err, true);
    {
        WA_LOCK(&s->mutex);
        s->fenced_epoch = s->lineage->epoch; /* not the one that we wrote last */
    }
    wa_error failed = WA_ERROR_INIT;
    if (wa_tip_seal(s->repo, head, s->lineage->epoch, tip, &tip, &failed) == WA_OK)
        s->taking_over = 0;
    else
        *err = failed;
    return err->status;
}

/* We gave way in this epoch already, and could not seal it. */
static bool
gave_way(wa_streamer *s)
{
    WA_LOCK(&s->mutex);
    return s->fenced && s->fenced_epoch == s->lineage->epoch;
}

/* We wrote the lineage and look for a seal then, who seals does it the other way round: at least
 * one of the two sees the other. Then the old epoch is sealed by us. */
static wa_status
finish_taking_over(wa_streamer *s, wa_error *err)
{
    const wa_branch head = wa_lineage_head(s->lineage)->branch;
    uint32_t old = s->taking_over;
    wa_lsn tip = 0;
    bool sealed = gave_way(s);
    WA_TRY(wa_tip_find(s->repo, s->lineage, &tip, err));
    if (!sealed && s->may_pass != old)
        WA_TRY(wa_tip_is_sealed(s->repo, &head, old, &sealed, err));
    if (sealed)
        return give_way(s, &head, tip, err);
    s->taking_over = 0;
    return tip == 0 ? WA_OK : wa_tip_seal(s->repo, &head, old, tip, &tip, err);
}

static wa_status
take_over(wa_streamer *s, const char *reason, bool passes_seal, wa_error *err)
{
    WA_CLEANUP(wa_lineage_freep) wa_lineage *l = wa_lineage_copy(s->lineage);
    uint32_t old = l->epoch;
    l->epoch = old + 1;
    WA_TRY(wa_role_store(s, l, reason, err));
    wa_streamer_event(s, "took-over", WA_LOG_NOTICE, "",
                      "this agent writes the archive now, epoch %u after %u (%s)", old + 1, old,
                      reason);
    wa_lineage_free(s->lineage);
    s->lineage = WA_TAKE(l);
    s->taking_over = old;
    if (passes_seal)
        s->may_pass = old;
    return finish_taking_over(s, err);
}

/* We took over and died before the old epoch was sealed, as far as can be told: nothing in the
 * tip's segment is ours yet. Once more does no harm. */
static bool
may_be_unsealed(const wa_lineage *l, const wa_chunks *chunks)
{
    bool ours = l->epoch <= 1;
    for (size_t i = 0; i < l->seal_count; i++)
        ours = ours || l->seals[i].epoch + 1 == l->epoch;
    for (size_t i = 0; i < chunks->count; i++)
        ours = ours || chunks->items[i].epoch == l->epoch;
    return !ours;
}

static wa_status
is_sealed(wa_streamer *s, bool *ret, wa_error *err)
{
    const wa_branch *head = &wa_lineage_head(s->lineage)->branch;
    return wa_tip_is_sealed(s->repo, head, s->lineage->epoch, ret, err);
}

wa_status
wa_role_reopen(wa_streamer *s, wa_error *err)
{
    WA_CLEANUP(wa_chunks_done) wa_chunks chunks = {0};
    const wa_branch head = wa_lineage_head(s->lineage)->branch;
    wa_lsn tip = 0;
    bool sealed = false;
    if (s->taking_over != 0 && s->taking_over + 1 == s->lineage->epoch)
        return finish_taking_over(s, err);
    WA_TRY(wa_tip_find(s->repo, s->lineage, &tip, err));
    if (tip == 0)
        return WA_OK;
    WA_TRY(is_sealed(s, &sealed, err));
    if (sealed)
        return take_over(s, "opened again after a seal", true, err);
    WA_TRY(wa_tail_list(s->repo, &head, wa_segno_of(tip, s->cluster.segment_size), &chunks, err));
    return may_be_unsealed(s->lineage, &chunks)
               ? wa_tip_seal(s->repo, &head, s->lineage->epoch - 1, tip, &tip, err)
               : WA_OK;
}

wa_status
wa_role_held(wa_streamer *s, wa_error *err)
{
    wa_error_set(err, WA_UNAVAILABLE,
                 "epoch %u is held by \"walagent lineage seal --hold\": this agent archives "
                 "nothing on this timeline",
                 s->lineage->epoch);
    wa_error_hint(err, "\"walagent lineage unseal\" ends it, or the promotion of a server.");
    wa_streamer_fault(s, err, true);
    WA_LOCK(&s->mutex);
    s->fenced_epoch = s->lineage->epoch;
    return err->status;
}

wa_status
wa_role_was_unsealed(wa_streamer *s, bool *ret, wa_error *err)
{
    bool sealed = false;
    uint32_t fenced = 0;
    {
        WA_LOCK(&s->mutex);
        fenced = s->fenced_epoch;
    }
    *ret = false;
    if (fenced == 0 || s->lineage->epoch <= fenced)
        return WA_OK;
    WA_TRY(is_sealed(s, &sealed, err));
    *ret = !sealed;
    return WA_OK;
}

static uint64_t
stall_limit(const wa_streamer *s)
{
    uint64_t three = 3 * s->options.tail_interval_ms;
    return three > STALL_MIN_MS ? three : STALL_MIN_MS;
}

/* Has the accepted timeline come to this server? One that was left behind (a primary that nobody
 * fenced) has nothing to add to it: its agent must not take the archive from the one that does. */
wa_status
wa_role_check_descends(wa_streamer *s, wa_pg_conn *repl, wa_error *err)
{
    WA_CLEANUP(wa_buf_done) wa_buf text = WA_BUF_INIT(1024 * 1024);
    WA_CLEANUP(wa_history_freep) wa_history *history = NULL;
    wa_tli head = wa_lineage_head(s->lineage)->branch.tli;
    wa_pg_system sys;
    WA_TRY(wa_pg_identify(repl, &sys, err));
    if (sys.tli == head)
        return WA_OK;
    if (sys.tli > 1)
        WA_TRY(wa_pg_timeline_history(repl, sys.tli, &text, err));
    WA_TRY(wa_history_parse(sys.tli, wa_buf_str(&text), text.len, &history, err));
    if (wa_history_has(history, head))
        return WA_OK;
    wa_error_set(err, WA_UNAVAILABLE,
                 "server %s is on timeline %u, which does not descend from timeline %u, the "
                 "archive's newest: another agent keeps writing it",
                 wa_pg_host(repl), sys.tli, head);
    return wa_error_hint(err, "Fence the server, or rewind it to follow the new primary.");
}

typedef struct watch_other {
    wa_lsn tip;
    wa_mono next_look;   /* at the tip */
    wa_mono since;       /* the tip has stood still behind the server since; 0: it does not */
    unsigned free_looks; /* how often in a row the slot was free */
    wa_mono
        still_since; /* of a promoted server's parent: its tip is where it is; 0: not seen yet */
} watch_other;

/* The server was promoted away from the head. Its free slot proves nothing (it is the copy that the
 * writer keeps there): the head is left when its epoch is sealed, or nobody extends it any more. */
static wa_status
look_at_parent(wa_streamer *s, wa_pg_conn *repl, wa_tli child, watch_other *w,
               const char **ret_reason, wa_error *err)
{
    wa_lsn tip = 0;
    bool sealed = false;
    wa_tli parent = wa_lineage_head(s->lineage)->branch.tli;
    WA_TRY(wa_role_check_descends(s, repl, err));
    WA_TRY(wa_tip_find(s->repo, s->lineage, &tip, err));
    WA_TRY(is_sealed(s, &sealed, err));
    wa_mono now = wa_mono_now();
    bool moved = w->still_since != 0 && tip != w->tip;
    if (w->still_since == 0 || moved)
        w->still_since = now;
    w->tip = tip;
    if (sealed)
        *ret_reason = "promotion, the epoch before was sealed";
    else if (now - w->still_since >= 3 * s->options.tail_interval_ms)
        *ret_reason = "promotion, the timeline before stood still";
    else if (moved)
        wa_streamer_event(s, "unadopted-child", WA_LOG_WARNING,
                          "Fence the old primary: its timeline is left when nobody extends it any "
                          "more.",
                          "server %s was promoted to timeline %u, but writer %s goes on with "
                          "timeline %u: not adopted",
                          wa_pg_host(repl), child, s->lineage->writer, parent);
    return WA_OK;
}

/* What the server says, each second; it costs the archive nothing. */
typedef struct server_view {
    bool in_recovery;
    wa_pg_system sys;
} server_view;

static wa_status
look_at_server(wa_streamer *s, wa_pg_conn *repl, wa_pg_conn *conn, watch_other *w, server_view *v,
               wa_error *err)
{
    wa_pg_slot slot;
    WA_TRY(wa_pg_slot_query(conn, s->options.slot, &slot, err));
    WA_TRY(wa_pg_in_recovery(conn, &v->in_recovery, err));
    WA_TRY(wa_pg_identify(repl, &v->sys, err));
    /* On a standby it says nothing: the other agent streams from the primary. */
    w->free_looks = v->in_recovery || (slot.exists && slot.active) ? 0 : w->free_looks + 1;
    return WA_OK;
}

static bool
was_promoted(const wa_streamer *s, const server_view *v)
{
    return !v->in_recovery && v->sys.tli != wa_lineage_head(s->lineage)->branch.tli;
}

/* Is there anything that only the archive can answer? Not while the server is idle, or the tip was
 * looked at a moment ago (FORMATS 12 wants to see it stand still for long, not each move). */
static bool
must_ask_archive(const wa_streamer *s, const server_view *v, watch_other *w)
{
    if (was_promoted(s, v) || w->free_looks >= 2)
        return true;
    if (v->sys.flush <= w->tip)
        w->since = 0;
    return v->sys.flush > w->tip && wa_mono_left(w->next_look) == 0;
}

/* Is the tip left standing behind the server? */
static wa_status
look_at_tip(wa_streamer *s, const server_view *v, watch_other *w, const char **ret_reason,
            wa_error *err)
{
    wa_lsn tip = 0;
    w->next_look = wa_mono_now() + stall_limit(s) / TIP_LOOKS;
    WA_TRY(wa_tip_find(s->repo, s->lineage, &tip, err));
    if (tip != w->tip || v->sys.flush <= tip)
        w->since = 0;
    else if (w->since == 0)
        w->since = wa_mono_now();
    w->tip = tip;
    if (w->since != 0 && wa_mono_now() - w->since >= stall_limit(s))
        *ret_reason = "the archive's tip stood still behind the server";
    return WA_OK;
}

/* Whoever sealed the epoch was told where it ends: not ours to go on behind it, on this timeline.
 */
static wa_status
unless_sealed(wa_streamer *s, watch_other *w, const char **reason, wa_error *err)
{
    bool sealed = false;
    uint32_t epoch = s->lineage->epoch;
    if (epoch == s->may_pass)
        return WA_OK;
    bool held = wa_lineage_is_held(s->lineage);
    if (!held)
        WA_TRY(is_sealed(s, &sealed, err));
    if (!sealed && !held)
        return WA_OK;
    *reason = NULL;
    w->free_looks = 0;
    w->since = 0;
    wa_streamer_event(s, "held-by-seal", WA_LOG_WARNING,
                      held
                          ? "Promote a server, or end it with \"walagent lineage unseal\"."
                          : "Promote a server, or start an agent again: that opens the next epoch.",
                      "not taking over: epoch %u of writer %s %s", epoch, s->lineage->writer,
                      held ? "is held" : "was sealed");
    return WA_OK;
}

/* *ret_reason is set when this agent may take over. */
static wa_status
look_at_archive(wa_streamer *s, wa_pg_conn *repl, const server_view *v, watch_other *w,
                const char **ret_reason, wa_error *err)
{
    if (was_promoted(s, v)) {
        w->free_looks = 0;
        return look_at_parent(s, repl, v->sys.tli, w, ret_reason, err);
    }
    w->still_since = 0;
    if (w->free_looks >= 2)
        *ret_reason = "the slot was free";
    else
        WA_TRY(look_at_tip(s, v, w, ret_reason, err));
    return *ret_reason == NULL ? WA_OK : unless_sealed(s, w, ret_reason, err);
}

wa_status
wa_role_wait(wa_streamer *s, wa_pg_conn *repl, const char *conninfo, wa_error *err)
{
    WA_CLEANUP(wa_pg_closep) wa_pg_conn *conn = NULL;
    wa_pg_connect_options options = {.conninfo = conninfo, .timeout_ms = 5000, .cancel = &s->stop};
    WA_TRY(wa_single_writer_refuse_second(s, err));
    WA_TRY(wa_pg_connect(&options, &conn, err));
    watch_other w = {0};
    wa_streamer_set_state(s, wa_streamer_is_fenced(s) ? WA_STREAM_FENCED : WA_STREAM_WAITING);
    for (;;) {
        const char *reason = NULL;
        server_view v;
        WA_TRY(look_at_server(s, repl, conn, &w, &v, err));
        if (must_ask_archive(s, &v, &w)) {
            wa_role role;
            bool fresh;
            WA_TRY(wa_role_load(s, &role, &fresh, err));
            if (role == WA_ROLE_WRITER || fresh)
                return WA_OK;
            WA_TRY(look_at_archive(s, repl, &v, &w, &reason, err));
        }
        if (reason != NULL) {
            WA_TRY(wa_role_check_descends(s, repl, err));
            return take_over(s, reason, was_promoted(s, &v), err);
        }
        WA_TRY(wa_cancel_sleep(s->cancel, LOOK_EVERY_MS, err));
    }
}
