/*
 * walagent/repo/backup_object.h - base backups in the archive.
 *
 *   backup/<LABEL>/begin.json           first object: a run has begun
 *   backup/<LABEL>/pack-00001.tar.zst   tar in a container, kind "pack"; files are whole
 *   backup/<LABEL>/files.zst            one JSON object a line and file, kind "files"
 *   backup/<LABEL>/backup_manifest.zst  PostgreSQL's manifest, exact bytes, kind "manifest"
 *   backup/<LABEL>/backup.json          last object: the backup exists when this does
 *   backup/<LABEL>/abandoned.json       the run ended without a backup
 *
 * LABEL: YYYYMMDDTHHMMSSZ-F|I-<4 hex>. Order of backups is by start LSN along the lineage and time,
 * never by name.
 *
 * A line of files.zst: {"p":path,"t":"f"|"d"|"l","m":mode,"c":mtime (Unix seconds), files:
 * "s":size, "k":pack (from 1),"o":offset of the data in the pack's raw bytes, links: "l":target}.
 * Paths and targets that are not UTF-8 are in "x" and "y" as hexadecimal instead. A path is
 * relative to PGDATA; a tablespace's content is under pg_tblspc/<oid>/; the links themselves are
 * lines of type "l" (not in the packs: GNU tar would refuse a link over a directory).
 *
 * begin and commit may be repeated with the same content; other content under the label is
 * CONFLICT, and so is the commit of a run that was abandoned meanwhile or never begun.
 */
#ifndef WALAGENT_REPO_BACKUP_OBJECT_H
#define WALAGENT_REPO_BACKUP_OBJECT_H

#include "walagent/codec/container.h"
#include "walagent/codec/json.h"
#include "walagent/repo/repo.h"

#define WA_LABEL_SIZE 32
#define WA_PACK_CONTENT_MAX (1024u * 1024 * 1024)
#define WA_FILES_UNKNOWN UINT64_MAX

typedef struct wa_backup_pack {
    uint64_t raw_size, stored_size;
    char xxh3[33];
} wa_backup_pack;
typedef struct wa_backup_tablespace {
    uint32_t oid;
    char *location;
} wa_backup_tablespace;

typedef struct wa_backup_info {
    char label[WA_LABEL_SIZE];
    bool incremental;
    char parent[WA_LABEL_SIZE]; /* "" for a full backup */
    char *note;                 /* --label text; NULL */
    wa_strv annotations;        /* "key=value" */
    wa_branch branch;           /* at the start */
    wa_branch end_branch;
    wa_lsn start_lsn, end_lsn;
    wa_time start_time, end_time; /* end_time: when the copy ended and the backup is consistent */
    int major;
    uint64_t system_identifier, segment_size;
    uint64_t files;         /* entries: lines of files.zst */
    uint64_t regular_files; /* of them, those of type "f": what people call a file.
                               WA_FILES_UNKNOWN: an earlier version took it */
    uint64_t raw_bytes, stored_bytes;
    char source[16]; /* "remote" | "local" */
    char host[96];
    bool from_standby;
    bool data_checksums;
    char manifest_checksum[8];
    size_t pack_count;
    wa_backup_pack *packs;
    size_t tablespace_count;
    wa_backup_tablespace *tablespaces;
    char program[32]; /* walagent's version */
} wa_backup_info;
void wa_backup_info_free(wa_backup_info *b);
WA_DEFINE_CLEANUP(wa_backup_info, wa_backup_info_free)
wa_backup_info *wa_backup_info_new(void);
json_t *wa_backup_info_to_json(const wa_backup_info *b);
wa_status wa_backup_info_from_json(const json_t *json, const char *what, wa_backup_info **ret,
                                   wa_error *err) WA_MUST_CHECK;

typedef struct wa_backups {
    wa_backup_info **items; /* ordered by end_time, then label */
    size_t count;
    wa_strv damaged;    /* labels whose backup.json can't be read, with the reason: "LABEL: ..." */
    wa_strv unfinished; /* begun, neither finished nor abandoned */
} wa_backups;
void wa_backups_done(wa_backups *b);
/* One listing and a get a backup (in parallel). */
wa_status wa_backups_load(wa_repo *repo, wa_backups *ret, wa_error *err) WA_MUST_CHECK;
wa_status wa_backup_load(wa_repo *repo, const char *label, wa_backup_info **ret,
                         wa_error *err) WA_MUST_CHECK;
void wa_backup_new_label(bool incremental, wa_time now, char out[static WA_LABEL_SIZE]);
bool wa_backup_label_valid(const char *label);
wa_status wa_backup_begin(wa_repo *repo, const wa_backup_info *partial,
                          wa_error *err) WA_MUST_CHECK;
wa_status wa_backup_commit(wa_repo *repo, const wa_backup_info *b, wa_error *err) WA_MUST_CHECK;
/* CONFLICT when the backup is complete. Removes what was written (uploads aborted, objects deleted)
 * after writing abandoned.json, then that and begin.json. */
wa_status wa_backup_abandon(wa_repo *repo, const char *label, const char *reason,
                            wa_error *err) WA_MUST_CHECK;
/* Abandon runs to which nothing was added for `older_ms` (0: 24 h), and finish what an earlier
 * abandon left. */
wa_status wa_backup_clean(wa_repo *repo, uint64_t older_ms, size_t *ret_count,
                          wa_error *err) WA_MUST_CHECK;
char *wa_backup_key(wa_repo *repo, const char *label, const char *name);
/* backup_manifest.zst, to be read: the container's bytes are PostgreSQL's manifest. ret_ranges must
 * outlive ret; both are the caller's. INVALID: no label; NOT_FOUND; CORRUPT also when the object is
 * something else, or another backup's. */
wa_status wa_backup_open_manifest(wa_repo *repo, const char *label, wa_ranges **ret_ranges,
                                  wa_container **ret, wa_error *err) WA_MUST_CHECK;

typedef struct wa_backup_file {
    const char *path; /* borrowed during the call */
    char type;        /* 'f', 'd', 'l' */
    uint64_t size, offset;
    uint32_t mode, pack;
    int64_t mtime;
    const char *link;
} wa_backup_file;
void wa_backup_file_line(const wa_backup_file *f, wa_buf *out); /* one line with its newline */
typedef wa_status (*wa_backup_file_fn)(void *arg, const wa_backup_file *f, wa_error *err);
/* Streams files.zst; paths are checked to be relative and without "..". */
wa_status wa_backup_files(wa_repo *repo, const char *label, wa_backup_file_fn fn, void *arg,
                          wa_error *err) WA_MUST_CHECK;

#endif
