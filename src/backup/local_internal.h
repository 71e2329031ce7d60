/*
 * local_internal.h - the parts of a local backup.
 *
 *   local_walk.c --each file, directory and link that belongs to the backup-->
 *   local_file.c (opens) --pieces--> local_pages.c (by `jobs` readers: read, check pages) -->
 *   local_file.c (in order) --> packer.c, and local_manifest.c in the same order
 *   of large files: local_file.c --frames--> local_frame.c (by the compressors) --> packer.c
 */
#ifndef WALAGENT_BACKUP_LOCAL_INTERNAL_H
#define WALAGENT_BACKUP_LOCAL_INTERNAL_H

#include "backup_internal.h"

#include "walagent/base/thread.h"
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
/* Pages that stayed wrong; the readers share it. */
typedef struct wa_damage {
    wa_mutex mutex;
    size_t count;
    wa_buf places; /* the first of them, for the message */
} wa_damage;

typedef struct wa_local_pipe wa_local_pipe; /* files at the readers and compressors */

typedef struct wa_local {
    const wa_backup_options *options;
    wa_pg_conn *conn;
    wa_backup_info *info;
    wa_packer *packer;
    wa_local_manifest *manifest;
    wa_local_pipe *pipe;
    wa_control control; /* as it was when the backup began */
    bool check_pages;
    wa_damage damage;
    wa_mono looked; /* at the session */
    wa_pace reading;
} wa_local;

wa_status wa_local_pipe_new(wa_local *l, wa_local_pipe **ret, wa_error *err) WA_MUST_CHECK;
/* Until all that was given to wa_local_copy_file is in the packer. */
wa_status wa_local_pipe_drain(wa_local_pipe *pipe, wa_error *err) WA_MUST_CHECK;
void wa_local_pipe_free(wa_local_pipe *pipe);

/* dir: where the file is ("global"); path: its name in the backup. A file that vanished is none. */
wa_status wa_local_copy_file(wa_local *l, const char *dir, const char *path,
                             wa_error *err) WA_MUST_CHECK;
/* A file, with nothing at the readers, whose content is in memory already. */
wa_status wa_local_add_memory(wa_local *l, const char *path, mode_t mode, int64_t mtime,
                              const void *data, size_t len, wa_error *err) WA_MUST_CHECK;
/* CORRUPT when pages stayed wrong, with their places. */
wa_status wa_local_damage(const wa_local *l, wa_error *err) WA_MUST_CHECK;

#define WA_LOCAL_ALIGN (32u * 1024) /* of what is read of a file: a multiple of every page size */

/* ---- local_pages.c ---- */
/* The file that a piece belongs to. */
typedef struct wa_local_source {
    const char *path;
    int fd;
    size_t page_size;    /* 0: it has no pages that could be checked */
    uint32_t first_page; /* block number of its first page */
    wa_lsn since;        /* pages written from there on are mended by WAL */
} wa_local_source;
/* Reads [offset, offset + len), which begins with a page, into data; what the file no longer has is
 * zeros. Any thread. */
wa_status wa_local_read(const wa_local_source *source, uint64_t offset, uint8_t *data, size_t len,
                        wa_damage *damage, wa_error *err) WA_MUST_CHECK;

/* ---- local_cache.c ---- */
/* Which parts of a file were in the page cache before we read them. */
typedef struct wa_local_cache {
    int fd; /* borrowed */
    uint64_t size;
    bool *was_cached; /* a MiB each; NULL: all */
    uint64_t looked;  /* that is known up to there */
} wa_local_cache;
void wa_local_cache_begin(wa_local_cache *c, int fd, uint64_t size);
/* Before anything reads up to `end`; the kernel by itself reads a little more. */
void wa_local_cache_look(wa_local_cache *c, uint64_t end);
/* What is read soon, and what was read: it is what was not there that is brought or dropped. */
void wa_local_cache_fetch(const wa_local_cache *c, uint64_t offset, uint64_t end);
void wa_local_cache_forget(const wa_local_cache *c, uint64_t offset, uint64_t end);
void wa_local_cache_done(wa_local_cache *c);

/* ---- local_frame.c ---- */
typedef struct wa_local_frames wa_local_frames; /* of one file at the compressors */
wa_local_frames *wa_local_frames_new(wa_local *l);
bool wa_local_frames_can_take(const wa_local_frames *frames, uint64_t rest);
/* The rest of the current frame, from *offset on, which is advanced; the file is begun, and what
 * was given before was put into the packer. Source and cache live until finish. */
wa_status wa_local_frames_take(wa_local_frames *frames, const wa_local_source *source,
                               const wa_local_cache *cache, uint64_t *offset,
                               wa_error *err) WA_MUST_CHECK;
/* Until all was read; the packer has its sums. */
wa_status wa_local_frames_finish(wa_local_frames *frames, wa_error *err) WA_MUST_CHECK;
/* Until nothing reads any more, after a failure. */
void wa_local_frames_abandon(wa_local_frames *frames);
void wa_local_frames_free(wa_local_frames *frames); /* with nothing at the compressors any more */

/* ---- local_walk.c ---- */
/* Everything but pg_control and backup_label. */
wa_status wa_local_walk(wa_local *l, wa_error *err) WA_MUST_CHECK;

#endif
