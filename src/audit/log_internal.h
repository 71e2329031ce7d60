/*
 * log_internal.h - the parts of log: the accepted WAL cut into pieces of at most a segment, each
 * with what its facts say.
 */
#ifndef WALAGENT_LOG_INTERNAL_H
#define WALAGENT_LOG_INTERNAL_H

#include "walk_internal.h"

#include "walagent/audit/log.h"

/* The archive as one answer sees it. */
typedef struct wa_log_view {
    const wa_log_options *options;
    uint64_t segment_size;
    wa_lineage *lineage;
    wa_coverage coverage;
} wa_log_view;
wa_status wa_log_view_load(wa_log_view *v, const wa_log_options *options,
                           wa_error *err) WA_MUST_CHECK;
void wa_log_view_done(wa_log_view *v);
bool wa_log_is_within(const wa_log_options *o, wa_time t);
/* Could transaction ends between low and high lie within from..to? */
bool wa_log_may_be_within(const wa_log_options *o, wa_time low, wa_time high);

/* A segment's accepted part, or, from sums, several segments. Transactions belong to the piece in
 * which their records end. */
typedef struct wa_log_piece {
    wa_lsn start, end;
    wa_lsn first_record, last_end; /* of its records; 0: none */
    uint64_t commits, aborts;
    wa_time min_time, max_time; /* WA_TIME_NONE: no transaction ended in it */
    bool read;                  /* facts don't tell: the records themselves are to be read */
    uint64_t segments;
} wa_log_piece;
typedef struct wa_log_pieces {
    wa_log_piece *items;
    size_t count, capacity;
} wa_log_pieces;
void wa_log_pieces_done(wa_log_pieces *p);

/* What comes by while pieces are looked at; members may be NULL. */
typedef struct wa_log_watch {
    void (*on_moment)(void *arg, const wa_moment *moment);
    void *arg;
} wa_log_watch;
/* The pieces of the segments that [from, to) touches, in order, none with `read` set any more. */
wa_status wa_log_pieces_load(const wa_log_view *v, wa_lsn from, wa_lsn to,
                             const wa_log_watch *watch, wa_log_pieces *ret,
                             wa_error *err) WA_MUST_CHECK;

/* The same from sums, a piece being up to `most` segments; where facts don't tell, single ones. No
 * moments but those of the segments that had to be read. */
wa_status wa_log_pieces_load_sums(const wa_log_view *v, wa_lsn from, wa_lsn to, uint64_t most,
                                  const wa_log_watch *watch, wa_log_pieces *ret,
                                  wa_error *err) WA_MUST_CHECK;
/* The restore points of [from, to). */
wa_status wa_log_points_load(const wa_log_view *v, wa_lsn from, wa_lsn to,
                             const wa_log_watch *watch, wa_error *err) WA_MUST_CHECK;

/* log_coarse.c */
#define WA_LOG_EXACT_SEGMENTS 16384u /* above: sums tell */
typedef struct wa_log_limits {
    uint64_t exact;   /* segments that are looked at one by one */
    unsigned refined; /* pieces that are looked at more closely because they straddle intervals */
} wa_log_limits;
extern const wa_log_limits wa_log_default_limits;
uint64_t wa_log_count_segments(const wa_log_view *v);
/* Which part of the WAL is needed for from..to, and whether it is small enough to be exact: then
 * ret stays empty; else it has the pieces, from sums. */
wa_status wa_log_narrow(const wa_log_view *v, const wa_log_limits *limits,
                        const wa_log_watch *watch, wa_lsn *ret_from, wa_lsn *ret_to,
                        wa_log_pieces *ret, bool *ret_exact, wa_error *err) WA_MUST_CHECK;
/* Replace a piece of several segments by its parts. */
wa_status wa_log_refine(const wa_log_view *v, const wa_log_watch *watch, size_t at,
                        wa_log_pieces *pieces, wa_error *err) WA_MUST_CHECK;
/* wa_log_overview_load with other limits (tests). */
wa_status wa_log_overview_within(const wa_log_options *options, const wa_log_limits *limits,
                                 size_t intervals, wa_log_overview *ret,
                                 wa_error *err) WA_MUST_CHECK;

/* log_find.c: the start of the piece with the first transaction in WAL order that ended at or after
 * t. NOT_FOUND: none did. */
wa_status wa_log_find_time(const wa_log_view *v, wa_time t, wa_lsn *ret,
                           wa_error *err) WA_MUST_CHECK;

/* Results. */
void wa_log_add_damage(wa_log_xacts *x, wa_lsn begin, wa_lsn end, const char *why);
wa_log_xact *wa_log_add_xact(wa_log_xacts *x, const wa_branch *branch, const wa_record *record,
                             const wa_xact_end *end);

#endif
