/*
 * streamer_flow.c - the positions, and how threads hand them to each other.
 */
#include "cut_internal.h"
#include "streamer_internal.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void
wa_flow_init(wa_flow *flow)
{
    memset(flow, 0, sizeof *flow);
    wa_wal_facts_init(&flow->segment);
    wa_wal_facts_init(&flow->rest);
    flow->jobs_end = &flow->jobs;
    flow->size_limit = WA_CUT_SIZE;
    flow->looked_at = UINT64_MAX;
    flow->parsed = true;
}

static void
suspend_locked(wa_streamer *s)
{
    s->flow.ready = false;
    wa_cond_broadcast(&s->cond);
    while (s->job_running || s->piece_running)
        wa_cond_wait(&s->cond, &s->mutex);
}

void
wa_flow_suspend(wa_streamer *s)
{
    WA_LOCK(&s->mutex);
    suspend_locked(s);
}

void
wa_flow_install(wa_streamer *s, wa_flow *flow)
{
    WA_LOCK(&s->mutex);
    suspend_locked(s);
    wa_flow_done(&s->flow);
    s->flow = *flow;
    s->flow.began = flow->durable;
    if (s->flow.jobs == NULL)
        s->flow.jobs_end = &s->flow.jobs;
    s->flow.ready = true;
    s->generation++;
    wa_error_clear(&s->fault);
    s->fenced = false;
    wa_cond_broadcast(&s->cond);
    wa_flow_init(flow);
}

void
wa_segment_job_free(wa_segment_job *job)
{
    if (job == NULL)
        return;
    wa_wal_writer_free(job->writer);
    free(job);
}

void
wa_flow_done(wa_flow *flow)
{
    while (flow->jobs != NULL) {
        wa_segment_job *job = flow->jobs;
        flow->jobs = job->next;
        wa_segment_job_free(job);
    }
}

void
wa_streamer_wake(wa_streamer *s)
{
    uint64_t one = 1;
    /* A full counter is as good as one more. */
    ssize_t ignored = write(s->wake_fd, &one, sizeof one);
    (void)ignored;
}

void
wa_flow_advance_locked(wa_streamer *s, wa_lsn durable)
{
    wa_flow *flow = &s->flow;
    if (durable <= flow->durable)
        return;
    if (durable / s->cluster.segment_size != flow->durable / s->cluster.segment_size)
        flow->small = 0;
    flow->durable = durable;
    if (s->away_said)
        wa_streamer_say(s, WA_LOG_NOTICE, "", "the repository can be written again");
    s->away_said = false;
    s->status.durable_time = wa_time_now();
    wa_cond_broadcast(&s->cond);
    wa_streamer_wake(s);
}

void
wa_flow_add_job_locked(wa_streamer *s, wa_segment_job *job)
{
    job->next = NULL;
    *s->flow.jobs_end = job;
    s->flow.jobs_end = &job->next;
    s->flow.job_count++;
    wa_cond_broadcast(&s->cond);
}

wa_segment_job *
wa_flow_job_locked(wa_streamer *s, wa_segno segno)
{
    wa_segment_job *job = s->flow.jobs;
    while (job != NULL && job->segno != segno)
        job = job->next;
    return job;
}

static wa_lsn
least(wa_lsn a, wa_lsn b)
{
    return a < b ? a : b;
}

wa_lsn
wa_flow_acknowledgeable_locked(const wa_streamer *s)
{
    const wa_flow *flow = &s->flow;
    wa_lsn safe = flow->durable;
    if (s->options.acknowledge_spool && flow->spooled > safe)
        safe = flow->spooled;
    return least(flow->checked, safe);
}

wa_lsn
wa_flow_durable(wa_streamer *s)
{
    WA_LOCK(&s->mutex);
    return s->flow.durable;
}

bool
wa_streamer_is_fenced(wa_streamer *s)
{
    WA_LOCK(&s->mutex);
    return s->fenced;
}

void
wa_streamer_fault(wa_streamer *s, const wa_error *err, bool fenced)
{
    WA_LOCK(&s->mutex);
    s->fault = *err;
    if (fenced && !s->fenced)
        s->fenced_epoch = s->flow.epoch;
    s->fenced = s->fenced || fenced;
    s->flow.ready = false; /* nothing more is shipped until it was reconciled anew */
    wa_cond_broadcast(&s->cond);
    wa_streamer_wake(s);
}

wa_status
wa_streamer_check_fault(wa_streamer *s, wa_error *err)
{
    WA_LOCK(&s->mutex);
    if (s->fault.status == WA_OK)
        return WA_OK;
    *err = s->fault;
    return err->status;
}

wa_status
wa_flow_drain(wa_streamer *s, wa_cancel *cancel, wa_error *err)
{
    WA_LOCK(&s->mutex);
    s->flow.drain = true;
    wa_cond_broadcast(&s->cond);
    wa_status status = WA_OK;
    while (status == WA_OK && s->flow.durable < s->flow.received) {
        if (s->fault.status != WA_OK) {
            *err = s->fault;
            status = err->status;
        } else if (s->flow.branch.id[0] == '\0') {
            /* Nobody ships it, however long we wait: its first record would name the branch. */
            status = wa_error_set(err, WA_FAILED,
                                  "timeline %u ended before its first record was complete",
                                  s->flow.branch.tli);
            wa_error_hint(err, "Take a base backup from the server, on the timeline that it is on "
                               "now, and see \"walagent lineage\".");
        } else if (wa_cancelled(cancel)) {
            status = wa_cancel_check(cancel, err);
        } else {
            wa_cond_wait_until(&s->cond, &s->mutex, wa_mono_now() + 200);
        }
    }
    s->flow.drain = false;
    return status;
}
