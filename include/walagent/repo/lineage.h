/*
 * walagent/repo/lineage.h - the accepted chain of timelines, the writer's epoch, and seals.
 *
 *   lineage/<N8>.json   numbered, created once each: creating the next number is the
 * compare-and-swap; the highest is valid.
 *
 * The chain says on which branch every LSN is accepted. WAL past a fork stays where it is; only the
 * chain decides. A seal ends an epoch of a writer at an LSN of a branch, never the timeline.
 */
#ifndef WALAGENT_REPO_LINEAGE_H
#define WALAGENT_REPO_LINEAGE_H

#include "walagent/repo/branch.h"
#include "walagent/repo/repo.h"

#define WA_LINEAGE_MAX 1024

typedef struct wa_lineage_step {
    wa_branch branch;
    wa_lsn begin; /* where it leaves its parent; 0 for the first */
} wa_lineage_step;

typedef struct wa_seal {
    uint32_t epoch;
    wa_branch branch;
    wa_lsn lsn;
} wa_seal;

typedef struct wa_lineage {
    uint64_t number; /* of the object; 0: none yet */
    uint32_t epoch;  /* of the current writer */
    /* The epoch that a person sealed for good ("lineage seal --hold"); 0: none. While it is the
     * current one no agent opens another on this timeline, started again or not. */
    uint32_t held_epoch;
    char writer[96];
    wa_time since;
    char reason[160]; /* "init", "took over", "adopted 00000002-...", ... */
    size_t count;     /* steps, oldest first; the last is the head */
    wa_lineage_step *steps;
    size_t seal_count;
    wa_seal *seals;
    size_t rejected_count; /* branches that a person refused */
    wa_branch *rejected;
} wa_lineage;

/* No lineage yet: number 0 and, as its only step, timeline 1. */
wa_status wa_lineage_load(wa_repo *repo, wa_lineage **ret, wa_error *err) WA_MUST_CHECK;
/* Create number+1 with this content. EXISTS: somebody was faster; load again. Sets l->number on
 * success. May be repeated after UNAVAILABLE (keep `since`: it tells our own try from others'). */
wa_status wa_lineage_store(wa_repo *repo, wa_lineage *l, wa_error *err) WA_MUST_CHECK;
wa_lineage *wa_lineage_new(void);
wa_lineage *wa_lineage_copy(const wa_lineage *l);
void wa_lineage_free(wa_lineage *l);
WA_DEFINE_CLEANUP(wa_lineage, wa_lineage_free)
bool wa_lineage_is_held(const wa_lineage *l);
/* An agent writes the head, or did: its epoch can be sealed. */
bool wa_lineage_has_writer(const wa_lineage *l);
const wa_lineage_step *wa_lineage_head(const wa_lineage *l); /* NULL: empty */
bool wa_lineage_has(const wa_lineage *l, const wa_branch *branch);
/* Where the branch's accepted WAL ends (the begin of the next step; 0: open). Asserts has. */
wa_lsn wa_lineage_end_of(const wa_lineage *l, const wa_branch *branch);
/* The branch on which the byte at lsn is accepted. */
const wa_branch *wa_lineage_at(const wa_lineage *l, wa_lsn lsn);
const wa_branch *wa_lineage_branch_of_tli(const wa_lineage *l,
                                          wa_tli tli); /* NULL: not in the chain */
void wa_lineage_append(wa_lineage *l, const wa_branch *branch, wa_lsn begin);
void wa_lineage_cut_after(wa_lineage *l, size_t keep_steps);
void wa_lineage_add_seal(wa_lineage *l, uint32_t epoch, const wa_branch *branch, wa_lsn lsn);
void wa_lineage_reject(wa_lineage *l, const wa_branch *branch);
bool wa_lineage_is_rejected(const wa_lineage *l, const wa_branch *branch);
/* The chain that leads to any branch of the archive (its history, resolved to branches: the
 * accepted one where a timeline has several and the history doesn't tell). For restores to other
 * branches than the head. NOT_FOUND when the branch or an ancestor's history is missing; CONFLICT
 * when several could be an ancestor and none of them is accepted. */
wa_status wa_lineage_to_branch(wa_repo *repo, const wa_lineage *accepted, const wa_branch *branch,
                               wa_lineage **ret, wa_error *err) WA_MUST_CHECK;

#endif
