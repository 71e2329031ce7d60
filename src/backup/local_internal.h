/*
 * local_internal.h - the parts of a local backup.
 *
 *   local_walk.c --each file, directory and link that belongs to the backup-->
 *   local_file.c (reads, checks pages) --> packer.c, and local_manifest.c in the same order
 */
#ifndef WALAGENT_BACKUP_LOCAL_INTERNAL_H
#define WALAGENT_BACKUP_LOCAL_INTERNAL_H

#include "backup_internal.h"

#include "walagent/pg/control.h"
#include "walagent/pg/timeline.h"

#include <sys/stat.h>

/* ---- local_manifest.c ---- */
typedef struct wa_local_manifest wa_local_manifest;
wa_status wa_local_manifest_new(wa_repo *repo, const wa_backup_info *info, int level,
                                wa_local_manifest **ret, wa_error *err) WA_MUST_CHECK;
wa_status wa_local_manifest_add(wa_local_manifest *m, const char *path, uint64_t size,
                                int64_t mtime, uint32_t crc, wa_error *err) WA_MUST_CHECK;
/* Writes the end and closes the object. */
wa_status wa_local_manifest_finish(wa_local_manifest *m, const wa_manifest_range *ranges,
                                   size_t count, uint64_t *ret_stored, wa_error *err) WA_MUST_CHECK;
void wa_local_manifest_free(wa_local_manifest *m);
WA_DEFINE_CLEANUP(wa_local_manifest, wa_local_manifest_free)
/* The timelines of [start, end), newest first as the server writes them; history: of the last
 * timeline. At most 64; returns how many. */
size_t wa_local_wal_ranges(const wa_history *history, wa_tli start_tli, wa_lsn start, wa_lsn end,
                           wa_manifest_range ret[static 64]);

/* ---- local_file.c ---- */
/* Pages that stayed wrong. */
typedef struct wa_damage {
    size_t count;
    wa_buf places; /* the first of them, for the message */
} wa_damage;

typedef struct wa_local {
    const wa_backup_options *options;
    wa_pg_conn *conn;
    wa_backup_info *info;
    wa_packer *packer;
    wa_local_manifest *manifest;
    wa_control control; /* as it was when the backup began */
    bool check_pages;
    wa_damage damage;
    wa_mono began, looked; /* the copy; the last look at the session */
    uint64_t read_bytes;
    uint8_t *buffer;
} wa_local;

/* dir: where the file is ("global"); path: its name in the backup. A file that vanished is none. */
wa_status wa_local_copy_file(wa_local *l, const char *dir, const char *path,
                             wa_error *err) WA_MUST_CHECK;
/* A file whose content is in memory already. */
wa_status wa_local_add_memory(wa_local *l, const char *path, mode_t mode, int64_t mtime,
                              const void *data, size_t len, wa_error *err) WA_MUST_CHECK;
/* CORRUPT when pages stayed wrong, with their places. */
wa_status wa_local_damage(const wa_local *l, wa_error *err) WA_MUST_CHECK;

/* ---- local_walk.c ---- */
/* Everything but pg_control and backup_label. */
wa_status wa_local_walk(wa_local *l, wa_error *err) WA_MUST_CHECK;

#endif
