/*
 * walagent/audit/log.h - what happened when: commits per interval, moments, single transactions,
 * drops.
 *
 * Along the accepted lineage. Times are those of commit and abort records, which are not monotonic:
 * a transaction counts where its time says, not where it stands. The overview reads facts from
 * index objects; WAL itself only where facts don't tell: segments whose transactions fall into
 * several intervals, that are cut at a fork, the unfinished one. Of WAL of more than 16,384
 * segments within from..to it reads sums instead, and says so. Guarantees: (1) each transaction end
 * that can be read and lies on the accepted lineage is counted or listed exactly once. (2) What
 * can't be read is never passed over in silence: it is in `damage`, or a moment. Errors: the
 * store's.
 */
#ifndef WALAGENT_AUDIT_LOG_H
#define WALAGENT_AUDIT_LOG_H

#include "walagent/base/cancel.h"
#include "walagent/base/progress.h"
#include "walagent/pg/walfacts.h"
#include "walagent/repo/coverage.h"

typedef struct wa_log_options {
    wa_repo *repo;    /* loaded */
    wa_time from, to; /* inclusive; WA_TIME_NONE: open. Not for wa_log_around */
    wa_progress *progress;
    wa_cancel *cancel;
} wa_log_options;

typedef enum wa_moment_kind {
    WA_MOMENT_RESTORE_POINT,
    WA_MOMENT_CHECKPOINT,
    WA_MOMENT_SWITCH,
    WA_MOMENT_FORK,
    WA_MOMENT_HOLE,
    WA_MOMENT_DAMAGE
} wa_moment_kind;
/* A moment without a time is left out when the transactions before and behind it show that it lies
 * outside from..to. */
typedef struct wa_moment {
    wa_moment_kind kind;
    wa_time time;   /* WA_TIME_NONE: has none (switches, forks, holes, damage) */
    wa_lsn lsn;     /* where the record begins; the fork; where a hole or damage begins */
    wa_lsn end_lsn; /* holes and damage: their end; switches: where WAL goes on; else 0 */
    char
        text[128]; /* a restore point's name, "shutdown" or "online", the branch, what is damaged */
} wa_moment;

#define WA_LOG_INTERVALS 60
typedef struct wa_log_interval {
    uint64_t commits, aborts;
    wa_lsn begin_lsn, end_lsn; /* its transaction ends lie in this WAL, which holds others too when
                                  times are not in WAL order; 0: there are none */
    uint64_t uncertain; /* from sums: so many of its and its neighbours' transaction ends may belong
                           to the one or the other */
} wa_log_interval;
typedef struct wa_log_overview {
    wa_time begin;       /* of the first interval */
    int64_t interval_us; /* a round number */
    size_t count;        /* intervals; 0: no transaction ended within from..to */
    wa_log_interval intervals[WA_LOG_INTERVALS];
    uint64_t total_commits, total_aborts;
    wa_time first, last; /* transaction ends within from..to; WA_TIME_NONE: none */
    bool from_sums; /* over much WAL: intervals may be uncertain (totals are not), checkpoints and
                       switches are no moments */
    size_t moment_count;
    wa_moment *moments; /* in order of LSN */
} wa_log_overview;

/* WAL of the archive that could not be read. */
typedef struct wa_log_damage {
    wa_lsn begin, end;
    char text[128];
} wa_log_damage;

#define WA_XACT_RELATIONS 8
typedef struct wa_log_xact {
    wa_xact_end end; /* commit or abort, xid, time, dropped relations */
    wa_lsn lsn, end_lsn;
    wa_branch branch;
    size_t relation_count; /* wa_log_around: that its records (and its subtransactions') touched in
                              the WAL that was read; at most WA_XACT_RELATIONS are kept */
    struct {
        uint32_t spc, db, rel;
    } relations[WA_XACT_RELATIONS];
    uint32_t dropped_database; /* its OID; 0: none */
    wa_lsn restore_lsn;        /* drops: recovery that stops before the record here has all that was
                                  dropped (a dropped database's files go before the commit) */
} wa_log_xact;
typedef struct wa_log_xacts {
    wa_log_xact *items; /* in WAL order */
    size_t count;
    wa_log_damage *damage;
    size_t damage_count;
} wa_log_xacts;

wa_status wa_log_overview_load(const wa_log_options *options, size_t intervals,
                               wa_log_overview *ret, wa_error *err) WA_MUST_CHECK;
void wa_log_overview_done(wa_log_overview *o);
/* The first transaction in WAL order that ended at or after t, with up to each-1 that follow it and
 * up to `each` before it. */
wa_status wa_log_around(const wa_log_options *options, wa_time t, size_t each, wa_log_xacts *ret,
                        wa_error *err) WA_MUST_CHECK;
/* Committed transactions within from..to that dropped or truncated a relation, or dropped a
 * database. Reads the WAL itself. */
wa_status wa_log_find_drops(const wa_log_options *options, wa_log_xacts *ret,
                            wa_error *err) WA_MUST_CHECK;
void wa_log_xacts_done(wa_log_xacts *x);

#endif
