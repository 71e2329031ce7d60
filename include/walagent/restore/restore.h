/*
 * walagent/restore/restore.h - plan a restore, then carry it out.
 *
 * plan: which backup (and chain), which branch, which WAL from where to where, what the target is
 * as an LSN, bytes to fetch, whether it is reachable; nothing is written. UNREACHABLE with the
 * nearest reachable points in message and hint. run: files in parallel, checked against the
 * manifest, settings, pg_control last. Guarantees: (1) an unreachable target is refused before a
 * byte is written; (2) a directory with a running server or (without delta) any content is refused;
 *   (3) killed half-way, the directory does not start (no pg_control) and a repeated run with delta
 * completes it; (4) every file and directory is fsynced; (5) what delta keeps, a file or blocks of
 * one, was read and is part of a file that has the manifest's checksum as a whole.
 * --to-time T: the first commit or abort record (prepared forms included) in WAL order later than T
 * (not earlier, if exclusive) gives recovery_target_lsn = its start, not inclusive; none, and
 * coverage reaches a tip known to be at or after T: the end of the archive.
 * The WAL between is read when it is little enough: damage there makes a target
 * UNREACHABLE too.
 */
#ifndef WALAGENT_RESTORE_RESTORE_H
#define WALAGENT_RESTORE_RESTORE_H

#include "walagent/base/cancel.h"
#include "walagent/base/event.h"
#include "walagent/base/progress.h"
#include "walagent/base/str.h"
#include "walagent/base/time.h"
#include "walagent/repo/backup_object.h"
#include "walagent/repo/coverage.h"
#include "walagent/repo/lineage.h"

typedef enum wa_target_kind {
    WA_TARGET_LATEST,
    WA_TARGET_TIME,
    WA_TARGET_LSN,
    WA_TARGET_XID,
    WA_TARGET_NAME,
    WA_TARGET_CONSISTENT
} wa_target_kind;
typedef enum wa_target_action {
    WA_ACTION_DEFAULT,
    WA_ACTION_PROMOTE,
    WA_ACTION_PAUSE,
    WA_ACTION_SHUTDOWN
} wa_target_action;

/* What a run has kept of the directory (--delta) and fetched, in bytes. */
typedef struct wa_restore_counts {
    atomic_uint_fast64_t kept_files, kept_bytes; /* files that were right as they were */
    atomic_uint_fast64_t kept_block_bytes;       /* what was right of files that were not */
    atomic_uint_fast64_t fetched_bytes;          /* read of packs, as stored, their ends too */
} wa_restore_counts;

typedef struct wa_restore_options {
    wa_repo *repo; /* loaded */
    const char *directory;
    wa_target_kind kind;
    wa_time time;
    wa_lsn lsn;
    uint64_t xid; /* with its epoch or without: the low 32 bits, never 0, are searched */
    const char *name;
    bool exclusive;
    const char *timeline; /* NULL/"latest": the lineage's head; "current": the backup's; a number,
                             or a branch "00000002-1a2b3c4d" */
    wa_target_action action;
    const char *backup_label; /* NULL: choose */
    bool standby;
    const char *primary_conninfo, *primary_slot;
    bool delta;
    bool no_recovery;
    uint64_t read_wal_max;     /* WAL of up to so many bytes is read beforehand; 0: 256 MiB */
    wa_mono (*clock)(void);    /* for the time that reading it may take; NULL: wa_mono_now */
    bool accept_unchecked_wal; /* what was archived unchecked and can't be followed: a warning */
    bool keep_archiving;       /* leave archive_mode as it was */
    const wa_strv *tablespace_map; /* "OLD=NEW" */
    const wa_strv *settings;       /* "NAME=VALUE" */
    const char
        *restore_command; /* complete; chosen by cmd (absolute path of walagent and -c FILE) */
    size_t jobs;
    wa_progress *progress;
    wa_restore_counts *counts; /* may be NULL */
    wa_cancel *cancel;
    wa_listener listener; /* hears what is worth a line in the log */
} wa_restore_options;

typedef struct wa_commit_point { /* a transaction's end near a target */
    bool known, commit;
    wa_lsn lsn, end;
    uint32_t xid;
    wa_time time;
} wa_commit_point;

typedef struct wa_restore_plan {
    wa_backup_info *backup;
    size_t chain_count; /* incremental: full first, `backup` last */
    wa_backup_info **chain;
    wa_lineage *lineage;              /* that leads to the target's branch */
    wa_lsn wal_from, wal_to;          /* WAL that will be replayed */
    wa_branch branch;                 /* of the end */
    uint64_t backup_bytes, wal_bytes; /* to fetch, compressed */
    bool wal_bytes_estimated;         /* from samples: there are too many segments to list */
    bool wal_read;                    /* all of it was, record after record */
    bool has_target;                  /* false: latest */
    wa_lsn target_lsn; /* what recovery_target_lsn becomes; 0: end of archive, name or xid as they
                          are */
    bool target_inclusive;
    bool target_by_server; /* unchecked WAL lies where it would be looked for: the server finds it,
                              and target_lsn is 0 unless an LSN was given */
    wa_lsn chain_end; /* where the accepted WAL of the last branch of `lineage` ends; 0: open */
    bool end_of_archive;
    wa_commit_point before, after; /* around the target */
    char *text;                    /* the plan for people, several lines */
} wa_restore_plan;

wa_status wa_restore_plan_make(const wa_restore_options *options, wa_restore_plan **ret,
                               wa_error *err) WA_MUST_CHECK;
void wa_restore_plan_free(wa_restore_plan *plan);
WA_DEFINE_CLEANUP(wa_restore_plan, wa_restore_plan_free)
json_t *wa_restore_plan_to_json(const wa_restore_plan *plan);
wa_status wa_restore_run(const wa_restore_options *options, const wa_restore_plan *plan,
                         wa_error *err) WA_MUST_CHECK;

#endif
