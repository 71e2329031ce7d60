/*
 * walagent/repo/coverage.h - which WAL is there: runs without a gap, holes, and the tip, along a
 * lineage.
 *
 * From index objects where they exist and listings for the rest; the caller sees only runs.
 */
#ifndef WALAGENT_REPO_COVERAGE_H
#define WALAGENT_REPO_COVERAGE_H

#include "walagent/repo/lineage.h"
#include "walagent/repo/tail.h"

typedef struct wa_run {
    wa_branch branch;
    wa_lsn begin, end; /* accepted part: cut at forks; whole segments and, at the end, the tail */
    bool tail;         /* its last part comes from tail chunks */
} wa_run;
typedef struct wa_coverage {
    wa_run *runs; /* in order of LSN along the lineage; adjacent ones without a gap are on different
                     branches */
    size_t count;
    wa_time tip_time;                /* when the last object was written; WA_TIME_NONE: empty */
    struct wa_coverage_index *index; /* what told it; for wa_index_visit */
} wa_coverage;
void wa_coverage_done(wa_coverage *c);
/* Everything at or behind `from` along l. A segment that holds a fork counts for the parent up to
 * the fork when only the child's own segment exists (it begins with the same bytes). */
wa_status wa_coverage_load(wa_repo *repo, const wa_lineage *l, wa_lsn from, wa_coverage *ret,
                           wa_error *err) WA_MUST_CHECK;
/* The end of gap-free coverage from lsn on (lsn itself when nothing is there). */
wa_lsn wa_coverage_from(const wa_coverage *c, wa_lsn lsn);
/* The first segment at or behind `from` of which the branch has chunks and no whole object: nothing
 * that is asked of the index speaks about it. False: none. */
bool wa_coverage_next_chunked(const wa_coverage *c, const wa_branch *branch, wa_segno from,
                              wa_segno *ret);
/* The same of those with a chunk that was archived unchecked. */
bool wa_coverage_next_unchecked_chunks(const wa_coverage *c, const wa_branch *branch, wa_segno from,
                                       wa_segno *ret);
wa_lsn wa_coverage_tip(const wa_coverage *c); /* 0: empty */
/* Holes between runs: begin..end pairs. Returns how many (at most max are stored). */
typedef struct wa_hole {
    wa_lsn begin, end;
} wa_hole;
size_t wa_coverage_holes(const wa_coverage *c, wa_hole *out, size_t max);

#endif
