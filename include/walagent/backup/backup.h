/*
 * walagent/backup/backup.h - take a base backup into the archive.
 *
 *   BASE_BACKUP's tar streams (or the data directory) -> files checked against the manifest ->
 * packs (tar) -> frames compressed by `jobs` workers -> uploaded in parallel
 *
 * Guarantees: (1) the backup becomes visible (backup.json, the last object) only after every file's
 * checksum matched the manifest and the archive holds all the WAL it needs; (2) an interrupted run
 * leaves nothing that looks like a backup and is cleaned up by the next one; (3) memory is bounded
 * by jobs, not by the database.
 *
 * A local source: pg_backup_start and pg_backup_stop on an ordinary session that lives through the
 * copy; the session's server must be the one that data_dir belongs to (INVALID); pages whose
 * checksum stays wrong are CORRUPT with their places, and no backup is made; full backups only.
 *
 * Errors: UNAVAILABLE, CORRUPT (a file differs from the manifest),
 * CONFLICT (another cluster; another backup of the same schedule holds the claim: ret_busy),
 * UNSUPPORTED, CANCELLED.
 */
#ifndef WALAGENT_BACKUP_BACKUP_H
#define WALAGENT_BACKUP_BACKUP_H

#include "walagent/base/cancel.h"
#include "walagent/base/event.h"
#include "walagent/base/progress.h"
#include "walagent/base/str.h"
#include "walagent/repo/backup_object.h"
#include "walagent/repo/lineage.h"

typedef struct wa_backup_options {
    wa_repo *repo; /* loaded */
    /* The same repository opened without the cancel, not loaded: an interrupted run cleans up
     * through it. NULL: the next run cleans up. */
    wa_repo *cleanup;
    const char *conninfo;
    const char *slot;     /* the agent's: in use means that WAL is streamed */
    const char *data_dir; /* local source */
    bool incremental;
    bool local;
    const char *program; /* name and version, kept with the backup */
    const char *note;
    const wa_strv *annotations;
    size_t jobs;
    int level;
    uint64_t rate_limit;        /* bytes/s that are read; 0: none */
    uint64_t upload_rate_limit; /* bytes/s that are stored, in mirrors too; 0: none */
    uint64_t wal_timeout_ms; /* how long the WAL up to the end may take to arrive after the copy */
    bool fast_checkpoint;
    wa_progress *progress; /* may be NULL */
    wa_cancel *cancel;
    wa_listener listener; /* hears what is worth a line in the log */
} wa_backup_options;

/* The pre-flight look: is WAL arriving in the archive, is the server ours, is the slot or
 * archive_command there, is there a parent (incremental)? Finds broken archiving before the copy
 * starts. */
wa_status wa_backup_preflight(const wa_backup_options *options, wa_error *err) WA_MUST_CHECK;
wa_status wa_backup_take(const wa_backup_options *options, wa_backup_info **ret,
                         wa_error *err) WA_MUST_CHECK;

#endif
