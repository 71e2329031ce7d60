/*
 * src/repo/lineage.c - the accepted chain of timelines as a value: questions and changes.
 */
#include "walagent/repo/lineage.h"

#include <stdlib.h>
#include <string.h>

wa_lineage *
wa_lineage_new(void)
{
    wa_lineage *l = wa_calloc(1, sizeof *l);
    l->since = WA_TIME_NONE;
    return l;
}

wa_lineage *
wa_lineage_copy(const wa_lineage *l)
{
    wa_lineage *copy = wa_memdup(l, sizeof *l);
    copy->steps = l->count == 0 ? NULL : wa_memdup(l->steps, l->count * sizeof *l->steps);
    copy->seals = l->seal_count == 0 ? NULL : wa_memdup(l->seals, l->seal_count * sizeof *l->seals);
    copy->rejected = l->rejected_count == 0
                         ? NULL
                         : wa_memdup(l->rejected, l->rejected_count * sizeof *l->rejected);
    return copy;
}

void
wa_lineage_free(wa_lineage *l)
{
    if (l == NULL)
        return;
    free(l->steps);
    free(l->seals);
    free(l->rejected);
    free(l);
}

bool
wa_lineage_is_held(const wa_lineage *l)
{
    return l->held_epoch != 0 && l->held_epoch == l->epoch;
}

bool
wa_lineage_has_writer(const wa_lineage *l)
{
    return l->number != 0 && wa_lineage_head(l) != NULL && l->writer[0] != '\0';
}

const wa_lineage_step *
wa_lineage_head(const wa_lineage *l)
{
    return l->count == 0 ? NULL : &l->steps[l->count - 1];
}

static const wa_lineage_step *
find_step(const wa_lineage *l, const wa_branch *branch)
{
    for (size_t i = 0; i < l->count; i++) {
        if (wa_branch_eq(&l->steps[i].branch, branch))
            return &l->steps[i];
    }
    return NULL;
}

bool
wa_lineage_has(const wa_lineage *l, const wa_branch *branch)
{
    return find_step(l, branch) != NULL;
}

wa_lsn
wa_lineage_end_of(const wa_lineage *l, const wa_branch *branch)
{
    const wa_lineage_step *step = find_step(l, branch);
    WA_ASSERT(step != NULL);
    return step == wa_lineage_head(l) ? 0 : step[1].begin;
}

const wa_branch *
wa_lineage_at(const wa_lineage *l, wa_lsn lsn)
{
    for (size_t i = l->count; i > 0; i--) {
        if (l->steps[i - 1].begin <= lsn)
            return &l->steps[i - 1].branch;
    }
    return NULL;
}

const wa_branch *
wa_lineage_branch_of_tli(const wa_lineage *l, wa_tli tli)
{
    for (size_t i = 0; i < l->count; i++) {
        if (l->steps[i].branch.tli == tli)
            return &l->steps[i].branch;
    }
    return NULL;
}

void
wa_lineage_append(wa_lineage *l, const wa_branch *branch, wa_lsn begin)
{
    const wa_lineage_step *head = wa_lineage_head(l);
    WA_ASSERT(l->count < WA_LINEAGE_MAX);
    WA_ASSERT(head == NULL || (branch->tli > head->branch.tli && begin >= head->begin));
    l->steps = wa_reallocarray(l->steps, l->count + 1, sizeof *l->steps);
    l->steps[l->count++] = (wa_lineage_step){*branch, begin};
}

void
wa_lineage_cut_after(wa_lineage *l, size_t keep_steps)
{
    WA_ASSERT(keep_steps <= l->count);
    l->count = keep_steps;
}

void
wa_lineage_add_seal(wa_lineage *l, uint32_t epoch, const wa_branch *branch, wa_lsn lsn)
{
    for (size_t i = 0; i < l->seal_count; i++) {
        const wa_seal *seal = &l->seals[i];
        if (seal->epoch == epoch && seal->lsn == lsn && wa_branch_eq(&seal->branch, branch))
            return;
    }
    l->seals = wa_reallocarray(l->seals, l->seal_count + 1, sizeof *l->seals);
    l->seals[l->seal_count++] = (wa_seal){epoch, *branch, lsn};
}

void
wa_lineage_reject(wa_lineage *l, const wa_branch *branch)
{
    if (wa_lineage_is_rejected(l, branch))
        return;
    l->rejected = wa_reallocarray(l->rejected, l->rejected_count + 1, sizeof *l->rejected);
    l->rejected[l->rejected_count++] = *branch;
}

bool
wa_lineage_is_rejected(const wa_lineage *l, const wa_branch *branch)
{
    for (size_t i = 0; i < l->rejected_count; i++) {
        if (wa_branch_eq(&l->rejected[i], branch))
            return true;
    }
    return false;
}
