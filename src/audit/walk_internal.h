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
    const wa_lineage *lineage;   /* that the coverage follows */
    const wa_coverage *coverage; /* of it */
    wa_progress *progress;       /* NULL: not told */
    wa_cancel *cancel;
    /* Called per record; CANCELLED with an untouched error ends the walk in order. */
    wa_status (*on_record)(void *arg, const wa_branch *branch, const wa_record *record,
                           wa_error *err);
    /* WAL that is in the archive and can't be read; the walk goes on behind it. */
    void (*on_damage)(void *arg, wa_lsn begin, wa_lsn end, const char *why);
    void *arg;
} wa_walk;

/*
 * Records that end in (from, to], in order of the lineage: a record belongs to where it ends. What
 * comes before `from` is read as far as it takes to see the record that crosses it. Holes are
 * skipped; the record that ends behind one can't be seen. Whole segments are read. `to` is a
 * segment's end or a run's.
 */
wa_status wa_walk_records(const wa_walk *walk, wa_lsn from, wa_lsn to, wa_error *err) WA_MUST_CHECK;

#endif
