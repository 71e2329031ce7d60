/*
 * walagent/audit/log.h - what happened when: commits per interval, moments, single transactions,
 * drops.
 *
 * Along the accepted lineage. The overview reads facts from index objects; only segments whose
 * commits fall into several intervals are read themselves. Times are those of commit records, which
 * are not monotonic: a transaction counts where its time says, not where it stands. Errors: the
 * store's; CORRUPT names the segment.
 */
#ifndef WALAGENT_AUDIT_LOG_H
#define WALAGENT_AUDIT_LOG_H

#include "walagent/base/cancel.h"
#include "walagent/base/progress.h"
#include "walagent/codec/json.h"
#include "walagent/pg/walfacts.h"
#include "walagent/repo/coverage.h"

typedef struct wa_log_options {
    wa_repo *repo;    /* loaded */
    wa_time from, to; /* WA_TIME_NONE: open */
    wa_progress *progress;
    wa_cancel *cancel;
} wa_log_options;

typedef enum wa_moment_kind {
    WA_MOMENT_RESTORE_POINT,
    WA_MOMENT_CHECKPOINT,
    WA_MOMENT_FORK,
    WA_MOMENT_HOLE
} wa_moment_kind;
typedef struct wa_moment {
    wa_moment_kind kind;
    wa_time time; /* WA_TIME_NONE: has none (forks, holes) */
    wa_lsn lsn;
    char text[128]; /* a restore point's name, "shutdown", the branch, the hole's end */
} wa_moment;

#define WA_LOG_INTERVALS 60
typedef struct wa_log_overview {
    wa_time begin; /* of the first interval */
    int64_t interval_us;
    size_t count;
    uint64_t commits[WA_LOG_INTERVALS], aborts[WA_LOG_INTERVALS];
    uint64_t total_commits, total_aborts;
    wa_time first, last; /* transaction ends within from..to; WA_TIME_NONE: none */
    size_t moment_count;
    wa_moment *moments; /* in order of LSN */
} wa_log_overview;

#define WA_XACT_RELATIONS 8
typedef struct wa_log_xact {
    wa_xact_end end; /* commit or abort, xid, time, dropped relations */
    wa_lsn lsn, end_lsn;
    wa_branch branch;
    size_t relation_count; /* relations its records touched in the WAL that was read; at most
                              WA_XACT_RELATIONS are kept */
    struct {
        uint32_t spc, db, rel;
    } relations[WA_XACT_RELATIONS];
} wa_log_xact;
typedef struct wa_log_xacts {
    wa_log_xact *items;
    size_t count;
} wa_log_xacts;

wa_status wa_log_overview_load(const wa_log_options *options, size_t intervals,
                               wa_log_overview *ret, wa_error *err) WA_MUST_CHECK;
void wa_log_overview_done(wa_log_overview *o);
/* Up to `each` transactions before and after (or at) t, in WAL order. */
wa_status wa_log_around(const wa_log_options *options, wa_time t, size_t each, wa_log_xacts *ret,
                        wa_error *err) WA_MUST_CHECK;
/* Committed transactions within from..to that dropped or truncated a relation. Reads the WAL
 * itself. */
wa_status wa_log_find_drops(const wa_log_options *options, wa_log_xacts *ret,
                            wa_error *err) WA_MUST_CHECK;
void wa_log_xacts_done(wa_log_xacts *x);

#endif
