/*
 * verify_internal.h - the parts of verify.
 */
#ifndef WALAGENT_VERIFY_INTERNAL_H
#define WALAGENT_VERIFY_INTERNAL_H

#include "walagent/audit/verify.h"
#include "walagent/audit/window.h"
#include "walagent/base/thread.h"
#include "walagent/repo/branch.h"

typedef struct wa_verify {
    const wa_verify_options *options;
    const wa_windows *windows;
    wa_verify_result *result;
    wa_mutex mutex; /* guards result and away */
    char **away;    /* by member: why a mirror could not be asked; NULL: it could, or was not yet */
} wa_verify;

/* Takes nothing; cost and mirror may be NULL. */
void wa_verify_add(wa_verify *v, const char *kind, const char *object, const char *cost,
                   const char *mirror, const char *message);
void wa_verify_damage(wa_verify *v, const char *kind, const char *object, const char *cost,
                      const char *fmt, ...) WA_PRINTF(5, 6);

/* verify_wal.c: one branch. */
wa_status wa_verify_branch(wa_verify *v, const wa_branch *branch, wa_error *err) WA_MUST_CHECK;
/* verify_history.c: the branch's name, recomputed from its history and its first record. */
wa_status wa_verify_history(wa_verify *v, const wa_branch *branch, const wa_history *history,
                            wa_error *err) WA_MUST_CHECK;
/* verify_backup.c: one backup. */
wa_status wa_verify_backup(wa_verify *v, const char *label, wa_error *err) WA_MUST_CHECK;

/* verify_tail.c: chunks of segments behind the branch's last whole one (NULL: it has none). */
wa_status wa_verify_tail(wa_verify *v, const wa_branch *branch, const wa_tli *timelines,
                         size_t timeline_count, const wa_segno *last_whole,
                         wa_error *err) WA_MUST_CHECK;

/* The same file: does the head reach as far as an agent says that it made it durable? */
wa_status wa_verify_acknowledged(wa_verify *v, wa_error *err) WA_MUST_CHECK;

/* verify_index.c: damaged index objects are warned of and rebuilt. */
wa_status wa_verify_index(wa_verify *v, const wa_branch *branch, wa_segno last,
                          wa_error *err) WA_MUST_CHECK;

/* verify_cost.c: what can't be reached when the branch's WAL [begin, end) can't be used, in words;
 * a new string. */
char *wa_verify_cost(wa_verify *v, const wa_branch *branch, wa_lsn begin, wa_lsn end);

/* verify_mirror.c: a segment that the repository has damaged, and WAL that it lacks. */
typedef struct wa_verify_mirror {
    char name[64]; /* of the first mirror that has it whole; "": none */
    char away[64]; /* one that could not be asked; "": none */
    char why[256];
} wa_verify_mirror;
/* timelines: that its pages may carry; none: any up to the branch's. bytes: room for a segment. A
 * mirror that was UNAVAILABLE once is not asked again: each answer takes its whole time. */
void wa_verify_look_in_mirrors(wa_verify *v, const wa_branch *branch, const wa_tli *timelines,
                               size_t timeline_count, wa_segno segno, void *bytes,
                               wa_verify_mirror *ret);
void wa_verify_away_done(wa_verify *v);
/* What the damage costs, in words; a new string. */
char *wa_verify_cost_with(wa_verify *v, const wa_branch *branch, wa_lsn begin, wa_lsn end,
                          const wa_verify_mirror *mirror);
/* The same of WAL [begin, end) that is missing: it is read from a mirror only where that is asked
 * for, so one that has all of it is named with the option. */
char *wa_verify_cost_of_hole(wa_verify *v, wa_lsn begin, wa_lsn end);

/* verify_mark.c: which segments earlier runs verified, and recording it. */
typedef struct wa_verify_range {
    wa_segno first, last;
} wa_verify_range;

typedef struct wa_verify_mark {
    wa_verify_range *items; /* ascending, with gaps between them */
    size_t count;
} wa_verify_mark;

void wa_verify_mark_done(wa_verify_mark *m);
void wa_verify_mark_add(wa_verify_mark *m, wa_segno segno); /* in order */
bool wa_verify_mark_same(const wa_verify_mark *a, const wa_verify_mark *b);
/* ret stays empty when there is no mark that can be understood. */
wa_status wa_verify_mark_load(wa_repo *repo, const wa_branch *branch, wa_verify_mark *ret,
                              wa_error *err) WA_MUST_CHECK;
wa_status wa_verify_mark_store(wa_repo *repo, const wa_branch *branch, const wa_verify_mark *mark,
                               wa_error *err) WA_MUST_CHECK;

#endif
