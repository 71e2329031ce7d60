/*
 * walk_internal.h - read the records of the archive along a lineage.
 */
#ifndef WALAGENT_WALK_INTERNAL_H
#define WALAGENT_WALK_INTERNAL_H

#include "walagent/base/cancel.h"
#include "walagent/base/progress.h"
#include "walagent/pg/walreader.h"
#include "walagent/repo/coverage.h"

typedef struct wa_walk {
    wa_repo *repo;
    const wa_coverage *coverage;
    wa_progress *progress;
    wa_cancel *cancel;
    /* Called per record; CANCELLED with an untouched error ends the walk in order. */
    wa_status (*on_record)(void *arg, const wa_branch *branch, const wa_record *record,
                           wa_error *err);
    void *arg;
} wa_walk;

/* Records that end behind `from` and begin before `to`, in order of the lineage; holes are skipped.
 * Whole segments are read: `from` may be anywhere in one. */
wa_status wa_walk_records(const wa_walk *walk, wa_lsn from, wa_lsn to, wa_error *err) WA_MUST_CHECK;

#endif
