/*
 * walagent/wal/get.h - restore_command: one file of the archive to a path.
 *
 * Mode: the base name of the target RECOVERYXLOG or RECOVERYHISTORY is server recovery
 * (standby.signal in the data directory: STANDBY; else recovery.signal: RECOVERY); anything else is
 * RAW (pg_rewind, a person): every branch, WAL past forks, no prefetch, fsynced. Rules: CONTINUITY
 * "archive-get", FORMATS 15, 17, 18, 21. A missing file and a failed look-up are never confused.
 * The target appears whole or not at all (temporary file beside it, rename); exactly segment_size
 * bytes. The pool's threads write each frame of it as soon as they have it; it is renamed when all
 * was verified. An unfinished segment is served from tail chunks, zero-padded, never shorter than
 * what is in the local pg_wal, never less than was served before in the same recovery.
 */
#ifndef WALAGENT_WAL_GET_H
#define WALAGENT_WAL_GET_H

#include "walagent/base/cancel.h"
#include "walagent/base/hook.h"
#include "walagent/repo/lineage.h"
#include "walagent/repo/wal_object.h"

typedef struct wa_get_options {
    wa_repo *repo;        /* loaded */
    wa_pool *pool;        /* may be NULL */
    const char *data_dir; /* PGDATA: the server's working directory; "." */
    wa_cancel *cancel;
} wa_get_options;

typedef struct wa_get_result {
    wa_lsn end; /* segments: behind the last valid byte */
    bool from_tail;
    char note[256]; /* what a person would want to know; "" */
} wa_get_result;

/* NOT_FOUND: positively absent. One attempt. */
wa_status wa_get_file(const wa_get_options *options, wa_get_mode mode, const char *name,
                      const char *target, wa_get_result *ret, wa_error *err) WA_MUST_CHECK;
/* The same, repeated while the archive can't be reached, until the deadline; loads the repository
 * first when it isn't (not initialised: INVALID). An attempt may pass the deadline by the store's
 * budget, unless options->cancel ends it. */
wa_status wa_get_file_until(const wa_get_options *options, wa_get_mode mode, const char *name,
                            const char *target, wa_mono deadline, wa_get_result *ret,
                            wa_error *err) WA_MUST_CHECK;

#endif
