/*
 * switch.c - from one timeline to the next.
 *
 *   parent  ...--------|fork              everything up to the fork is shipped first, then
 *   child       [same  |first record ...  streamed from the start of the fork's segment
 *
 * The child's branch id needs its first record, so nothing of the child ships before that came.
 * Then, in this order: history, seal of the parent's chain, lineage with the child as its head and
 * the next epoch. A crash between any two repeats them with the same result.
 */
#include "branch_of_internal.h"
#include "streamer_internal.h"

#include "walagent/base/crash.h"
#include "walagent/repo/coverage.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The child's first segment begins with the parent's bytes. */
static wa_status
seed_child(wa_streamer *s, const wa_branch *parent, const wa_branch *child, wa_lsn fork,
           wa_error *err)
{
    uint64_t size = s->cluster.segment_size, len = fork % size;
    wa_segno segno = wa_segno_of(fork, size);
    if (len == 0)
        return WA_OK;
    WA_CLEANUP(wa_freep) uint8_t *bytes = wa_malloc(len);
    wa_status status = wa_spool_read(s->spool, parent, segno, 0, bytes, len, err);
    if (status == WA_OK)
        return wa_spool_put(s->spool, child, segno, bytes, len, err);
    if (status != WA_NOT_FOUND && status != WA_CORRUPT)
        return status;
    status = wa_reconcile_prefix(s, parent, child, fork, err);
    if (status != WA_NOT_FOUND)
        return status;
    wa_error_clear(err); /* no matter: the child's server shows these bytes as well */
    return WA_OK;
}

/* Everything of the parent is shipped, and the child's history is known and kept. */
static wa_status
leave_parent(wa_streamer *s, wa_pg_conn *repl, wa_tli next, wa_lsn fork, wa_error *err)
{
    char at[WA_LSN_TEXT];
    wa_streamer_set_state(s, WA_STREAM_SWITCHING);
    wa_streamer_say(s, WA_LOG_NOTICE, "", "timeline %u ends at %s, going on with timeline %u",
                    s->flow.branch.tli, wa_lsn_format(fork, at), next);
    wa_spool_end(s->spool);
    /* What was received behind the fork is archived, too: the lineage says that it isn't accepted,
     * and a person may want to see it. */
    WA_TRY(wa_flow_drain(s, s->cancel, err));
    s->parent_end = wa_flow_durable(s);
    wa_buf_done(&s->history);
    wa_buf_init(&s->history, 1024 * 1024);
    WA_TRY(wa_pg_timeline_history(repl, next, &s->history, err));
    WA_CRASH_POINT("history-before-put");
    return WA_OK;
}

/* The child from the fork on; the server shows its segment from the start. */
static wa_status
enter_child(wa_streamer *s, const wa_branch *parent, const wa_branch *child, wa_lsn fork,
            wa_error *err)
{
    uint64_t size = s->cluster.segment_size;
    s->last_xxh3[0] = '\0';
    wa_flow *flow = wa_malloc(sizeof *flow);
    wa_flow_init(flow);
    flow->branch = *child;
    flow->epoch = child->id[0] != '\0' ? s->lineage->epoch : 0;
    flow->received = flow->checked = flow->durable = fork;
    flow->handed = fork - fork % size;
    flow->tail_in_spool = true;
    if (s->flow.counted == fork && s->flow.handed == flow->handed) {
        flow->segment = s->flow.segment; /* the same records up to the fork */
        flow->counted = fork;
    }
    wa_flow_install(s, flow);
    free(flow);
    return wa_spool_remove(s->spool, parent, wa_segno_of(fork, size), err);
}

wa_status
wa_switch_to(wa_streamer *s, wa_pg_conn *repl, wa_tli next, wa_lsn fork, wa_error *err)
{
    wa_branch parent = s->flow.branch, child = {.tli = next};
    WA_TRY(leave_parent(s, repl, next, fork, err));
    WA_TRY(wa_history_put_pending(s->repo, next, s->history.data, s->history.len, err));
    WA_TRY(seed_child(s, &parent, &child, fork, err));
    return enter_child(s, &parent, &child, fork, err);
}

static wa_status
adopt(wa_streamer *s, const wa_branch *child, wa_lsn fork, wa_error *err)
{
    const wa_branch parent = wa_lineage_head(s->lineage)->branch;
    WA_CLEANUP(wa_lineage_freep) wa_lineage *l = wa_lineage_copy(s->lineage);
    char reason[96], text[WA_BRANCH_TEXT];
    wa_lsn sealed = 0;
    if (wa_lineage_is_rejected(l, child))
        return wa_error_set(err, WA_DENIED, "branch %s was rejected",
                            wa_branch_format(child, text));
    WA_TRY(wa_tip_seal(s->repo, &parent, l->epoch, s->parent_end, &sealed, err));
    wa_lineage_append(l, child, fork);
    wa_lineage_add_seal(l, l->epoch, &parent, sealed);
    l->epoch++;
    snprintf(reason, sizeof reason, "adopted %s", wa_branch_format(child, text));
    WA_TRY(wa_role_store(s, l, reason, err));
    wa_lineage_free(s->lineage);
    s->lineage = WA_TAKE(l);
    return WA_OK;
}

/* What is missing of the parent, which the lineage says was left at the fork. */
static wa_status
declare_rest_of_parent(wa_streamer *s, const wa_branch *child, wa_lsn fork, wa_error *err)
{
    WA_CLEANUP(wa_coverage_done) wa_coverage c = {0};
    WA_TRY(wa_coverage_load(s->repo, s->lineage, s->parent_end, &c, err));
    wa_lsn begin = wa_coverage_from(&c, s->parent_end);
    if (begin < fork)
        wa_reconcile_declare_hole(s, child, begin, fork);
    return WA_OK;
}

wa_status
wa_switch_behind_hole(wa_streamer *s, wa_pg_conn *repl, wa_tli next, wa_lsn fork, wa_error *err)
{
    char text[WA_BRANCH_TEXT], at[WA_LSN_TEXT];
    wa_branch parent = s->flow.branch;
    WA_CLEANUP(wa_branch_answer_done) wa_branch_answer a = {.history = WA_BUF_INIT(WA_HISTORY_MAX)};
    WA_TRY(leave_parent(s, repl, next, fork, err));
    WA_TRY(wa_branch_by_history(s->repo, next, &s->history, &a, err));
    WA_TRY(wa_branch_settle(s->repo, &a, err));
    WA_TRY(adopt(s, &a.branch, fork, err));
    wa_streamer_event(s, "adopted", WA_LOG_NOTICE, "",
                      "branch %s begins at %s; its first record is gone from the server",
                      wa_branch_format(&a.branch, text), wa_lsn_format(fork, at));
    WA_TRY(declare_rest_of_parent(s, &a.branch, fork, err));
    return enter_child(s, &parent, &a.branch, fork, err);
}

wa_status
wa_switch_resolve(wa_streamer *s, const wa_buf *record, wa_lsn fork, wa_error *err)
{
    char text[WA_BRANCH_TEXT], at[WA_LSN_TEXT];
    wa_branch child = wa_branch_of(s->cluster.system_identifier, s->flow.branch.tli,
                                   s->history.data, s->history.len, record->data, record->len);
    WA_TRY(wa_history_put(s->repo, &child, s->history.data, s->history.len, err));
    WA_TRY(adopt(s, &child, fork, err));
    WA_TRY(wa_spool_name_branch(s->spool, &child, err));
    {
        WA_LOCK(&s->mutex);
        s->flow.branch = child;
        s->flow.epoch = s->lineage->epoch;
        wa_cond_broadcast(&s->cond);
    }
    wa_streamer_event(s, "adopted", WA_LOG_NOTICE, "", "branch %s begins at %s",
                      wa_branch_format(&child, text), wa_lsn_format(fork, at));
    return WA_OK;
}
