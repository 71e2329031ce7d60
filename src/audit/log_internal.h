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

/* A segment's accepted part. Transactions belong to the piece in which their records end. */
typedef struct wa_log_piece {
    wa_lsn start, end;
    wa_lsn first_record, last_end; /* of its records; 0: none */
    uint64_t commits, aborts;
    wa_time min_time, max_time; /* WA_TIME_NONE: no transaction ended in it */
    bool read;                  /* facts don't tell: the records themselves are to be read */
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

/* log_find.c: the start of the piece with the first transaction in WAL order that ended at or after
 * t. NOT_FOUND: none did. */
wa_status wa_log_find_time(const wa_log_view *v, wa_time t, wa_lsn *ret,
                           wa_error *err) WA_MUST_CHECK;

/* Results. */
void wa_log_add_damage(wa_log_xacts *x, wa_lsn begin, wa_lsn end, const char *why);
wa_log_xact *wa_log_add_xact(wa_log_xacts *x, const wa_branch *branch, const wa_record *record,
                             const wa_xact_end *end);

#endif
