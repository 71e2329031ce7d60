/*
 * push_branch.c - a server whose WAL is not the branch's that its history names: it gets its own.
 *
 * Two replicas that were promoted at one point have the same history file, and where the first
 * record behind the fork is gone from pg_wal nothing else tells their branches apart
 * (branch_of_internal.h). A segment that provably doesn't go on where the branch's previous one
 * ends (branch_link.c) is such a case, whether its name is taken or free: it goes to
 * <TLI8>-<id8>-2, -3 and so on, and nobody is refused. One that does go on, or of which that isn't
 * known, and finds other bytes contradicts the branch's own history: that is a conflict, which a
 * person must see.
 */
#include "push_internal.h"

#include "walagent/repo/event.h"
#include "walagent/repo/wal_object.h"

#include <stdio.h>
#include <string.h>

#define BRANCHES_MAX 999u

/* The numbered branch, known by the history of the one that it is told from. */
static wa_status
begin_branch(const wa_push_job *job, const wa_branch *branch, wa_branch_answer *a,
             wa_push_result *result, wa_error *err)
{
    char text[WA_BRANCH_TEXT], other[WA_BRANCH_TEXT];
    WA_CLEANUP(wa_freep) wa_branch *all = NULL;
    size_t count = 0;
    bool known = false;
    WA_TRY(wa_branches_of(job->repo, job->tli, &all, &count, err));
    for (size_t i = 0; i < count; i++)
        known = known || wa_branch_eq(&all[i], branch);
    if (!known) {
        if (a->history.len == 0)
            WA_TRY(wa_history_get(job->repo, &a->branch, &a->history, err));
        WA_TRY(wa_history_put(job->repo, branch, a->history.data, a->history.len, err));
        snprintf(result->warning, sizeof result->warning,
                 "WAL segment \"%s\" doesn't go on where branch %s ends, which has other content "
                 "under this name: this server archives as branch %s",
                 job->name, wa_branch_format(&a->branch, other), wa_branch_format(branch, text));
        /* Losing the event never stops WAL: the branch is there to be seen. */
        if (wa_event_put(job->repo, "branch", result->warning, NULL, err) != WA_OK)
            wa_error_clear(err);
    }
    a->branch = *branch;
    a->in_archive = true;
    return WA_OK;
}

typedef struct siblings {
    const wa_push_job *job;
    wa_segment_link link;
    char xxh3[WA_XXH_HEX];
    bool archived; /* these bytes, on the branch that was looked at last */
} siblings;

/* Is the segment this branch's? Also when it has no room there: that is the conflict then. */
static wa_status
is_its_own(siblings *s, const wa_branch *branch, bool *ret, wa_error *err)
{
    wa_wal_info there = {0};
    wa_continues continues = WA_CONTINUES_UNKNOWN;
    wa_status status = wa_wal_head(s->job->repo, branch, s->job->segno, &there, err);
    if (status != WA_OK && status != WA_NOT_FOUND)
        return status;
    wa_error_clear(err);
    s->archived = status == WA_OK && strcmp(there.xxh3, s->xxh3) == 0;
    *ret = true;
    if (s->archived)
        return WA_OK;
    WA_TRY(wa_branch_continues(s->job->repo, branch, s->job->segno, &s->link, &continues, err));
    *ret = continues != WA_CONTINUES_NO;
    return WA_OK;
}

wa_status
wa_push_choose_branch(wa_push_job *job, wa_branch_answer *a, wa_push_result *result, wa_error *err)
{
    siblings s = {.job = job, .link = a->link};
    wa_branch branch = a->branch;
    bool own = false;
    if (job->tli == 1 || a->by_record || !a->in_archive)
        return WA_OK;
    wa_branch_question q = {.repo = job->repo,
                            .wal_dir = job->wal_dir,
                            .tli = job->tli,
                            .segno = job->segno,
                            .data = job->data};
    WA_TRY(wa_segment_link_read(&q, &s.link, err));
    wa_xxh_of(job->data, job->size, s.xxh3);
    WA_TRY(is_its_own(&s, &branch, &own, err));
    for (unsigned n = 2; n <= BRANCHES_MAX && !own; n++) {
        snprintf(branch.id, sizeof branch.id, "%.8s-%u", a->branch.id, n);
        WA_TRY(is_its_own(&s, &branch, &own, err));
    }
    if (!own)
        return wa_error_set(err, WA_FAILED, "timeline %u has %u branches of one history", job->tli,
                            BRANCHES_MAX);
    if (!wa_branch_eq(&branch, &a->branch))
        WA_TRY(begin_branch(job, &branch, a, result, err));
    /* A whole segment would hide chunks of another server that were acknowledged. */
    return s.archived ? WA_OK : wa_push_compare_chain(job, &a->branch, job->size, err);
}
