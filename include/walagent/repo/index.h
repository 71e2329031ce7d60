/*
 * walagent/repo/index.h - facts of runs of segments, so that questions need no listing of them all.
 *
 *   index/<TLI8>-<id8>/<LEVEL>/<FIRST24>-<N4>.zst
 *
 * An object of level L is about the 16^(L+1) segments from FIRST on (aligned). Its facts frame has
 * a summary of each of its 16 parts (level 0: of each segment) and its holes; up to level 2 its
 * content is one line of facts a segment. A level above 0 is written again, with the next N, each
 * time one of its parts becomes complete: a reader needs about one object a level.
 *
 * A cache. Objects may be missing, damaged or deleted at any time: then lower levels are used, at
 * last the segments themselves. What an object says about holes is verified before it is believed
 * (a hole may have been filled since), and so is the branch's first segment (older ones expire).
 * Threads: any. Errors: the store's.
 */
#ifndef WALAGENT_REPO_INDEX_H
#define WALAGENT_REPO_INDEX_H

#include "walagent/repo/wal_object.h"

#define WA_INDEX_FANOUT 16u
#define WA_INDEX_LEVELS 8

/* Sums over a run of segments. */
typedef struct wa_wal_summary {
    uint64_t segments; /* present ones */
    uint64_t records, commits, aborts;
    uint64_t restore_points, checkpoints;
    wa_time min_time, max_time, last_time; /* WA_TIME_NONE: no transaction ended here */
    uint32_t min_xid, max_xid;             /* 0: none; a range as in walfacts.h */
    bool xids_unknown;                     /* any xid may be in it */
    bool checked;                          /* every segment was */
    bool overflow; /* some facts are incomplete: a segment must be read to know more */
} wa_wal_summary;
void wa_wal_summary_init(wa_wal_summary *s);
void wa_wal_summary_add_facts(wa_wal_summary *s, const wa_wal_facts *facts, bool checked);
void wa_wal_summary_add(wa_wal_summary *s, const wa_wal_summary *later);

/* Write what is missing or out of date for whole blocks of 16 up to and with upto_segno.
 * Idempotent; two at once do no harm. Called after every 16th segment and by repair. */
wa_status wa_index_update(wa_repo *repo, const wa_branch *branch, wa_segno upto_segno,
                          wa_error *err) WA_MUST_CHECK;
/* The same by somebody who has just archived segments and need not read back what he wrote. NULL:
 * nothing is known. get: false when it isn't known of this segment. */
typedef struct wa_index_known {
    bool (*get)(void *arg, wa_segno segno, wa_wal_facts *ret, bool *ret_checked);
    void *arg;
} wa_index_known;
wa_status wa_index_update_known(wa_repo *repo, const wa_branch *branch, wa_segno upto_segno,
                                const wa_index_known *known, wa_error *err) WA_MUST_CHECK;

/* Reads every object that counts; those that can't be used are added to ret_damaged, by key. */
wa_status wa_index_check(wa_repo *repo, const wa_branch *branch, wa_strv *ret_damaged,
                         wa_error *err) WA_MUST_CHECK;
/* `facts` is borrowed. WA_CANCELLED with an untouched err: enough. */
typedef wa_status (*wa_index_fn)(void *arg, wa_segno segno, const wa_wal_facts *facts, bool checked,
                                 wa_error *err);
/* Every segment of [from, to] that is there, in order. */
wa_status wa_index_scan(wa_repo *repo, const wa_branch *branch, wa_segno from, wa_segno to,
                        wa_index_fn fn, void *arg, wa_error *err) WA_MUST_CHECK;
/* The first segment of [from, to] in which a transaction ended later than t (at or after t, if
 * inclusive). NOT_FOUND: none. A segment without complete facts counts as a candidate when no
 * earlier one is certain: look into it. Those that have only chunks are not looked at. */
wa_status wa_index_find_time(wa_repo *repo, const wa_branch *branch, wa_segno from, wa_segno to,
                             wa_time t, bool inclusive, wa_segno *ret, wa_error *err) WA_MUST_CHECK;
/*
 * Look at sums, from large ones to single segments, over [from, to] of a branch, all of which the
 * coverage knows to be there. A segment that is damaged or has only chunks has empty facts with
 * `overflow`: its records tell. `choose` says what to do with a part: nothing more (WA_VISIT_PASS),
 * look at its parts (WA_VISIT_ENTER; of a single segment: give it to `segment`), or give each of
 * its segments with its facts to `facts` (WA_VISIT_READ; a part that is too large for lines is
 * entered). whole false: the part holds segments outside [from, to] too, so that its sum says only
 * what isn't in it; passing it passes all of it. Callbacks return WA_CANCELLED with an untouched
 * err: enough.
 */
typedef enum wa_visit { WA_VISIT_PASS, WA_VISIT_ENTER, WA_VISIT_READ } wa_visit;
typedef struct wa_index_visitor {
    void *arg;
    wa_visit (*choose)(void *arg, wa_segno first, uint64_t count, const wa_wal_summary *sum,
                       bool whole);
    wa_status (*segment)(void *arg, wa_segno segno, const wa_wal_summary *sum, wa_error *err);
    wa_index_fn facts;
    bool backwards;
    bool eager; /* forwards, and to the end: facts of single segments are fetched several at once */
} wa_index_visitor;
struct wa_coverage;
wa_status wa_index_visit(wa_repo *repo, const struct wa_coverage *coverage, const wa_branch *branch,
                         wa_segno from, wa_segno to, const wa_index_visitor *visitor,
                         wa_error *err) WA_MUST_CHECK;
/* Sums over [from, to]; parts that lie wholly inside are not opened. */
wa_status wa_index_sum(wa_repo *repo, const wa_branch *branch, wa_segno from, wa_segno to,
                       wa_wal_summary *ret, wa_error *err) WA_MUST_CHECK;

#endif
