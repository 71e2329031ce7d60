/*
 * backup_internal.h - the parts of a base backup.
 *
 *   source (remote.c, local.c) --entries--> packer.c --tar, frames--> pack objects
 *                                     |  fingerprints in the order of the stream
 *   manifest bytes ----> manifest_check.c (each element against its fingerprint) -->
 * backup_manifest.zst
 *
 * The server writes the manifest in the order in which it sends the files, so one 8-byte
 * fingerprint of (path, size, checksum) per file, in order, is all that has to be remembered: a
 * million files cost 8 MB.
 */
#ifndef WALAGENT_BACKUP_INTERNAL_H
#define WALAGENT_BACKUP_INTERNAL_H

#include "walagent/backup/backup.h"
#include "walagent/base/pace.h"
#include "walagent/base/thread.h"
#include "walagent/codec/container.h"
#include "walagent/codec/tar.h"
#include "walagent/pg/conn.h"
#include "walagent/pg/manifest.h"
#include "walagent/pg/replication.h"

#include <stdatomic.h>

/* Fingerprints of files in order. */
typedef struct wa_fingerprints {
    uint64_t *items;
    size_t count, capacity;
} wa_fingerprints;
uint64_t wa_fingerprint(const char *path, uint64_t size, const void *checksum, size_t checksum_len);
void wa_fingerprints_add(wa_fingerprints *f, uint64_t value);

/* ---- packing.c ---- */
/* An object of the backup. */
wa_status wa_backup_open_object(wa_repo *repo, const char *label, const char *name,
                                const char *kind, size_t upload_threads, wa_sink **ret,
                                wa_error *err) WA_MUST_CHECK;
/* Its end, with facts, brought about by a thread: what is given to begin is the thread's until it
 * was waited for. Begins zeroed. */
typedef struct wa_ending {
    wa_container_writer *container;
    wa_sink *object;
    const char *label, *kind;
    pthread_t thread;
    bool running;      /* there is a thread to join */
    atomic_bool ended; /* it has nothing more to do */
    wa_status status;
    wa_error error;
} wa_ending;
wa_status wa_ending_begin(wa_ending *e, wa_container_writer *container, wa_sink *object,
                          const char *label, const char *kind, wa_error *err) WA_MUST_CHECK;
wa_status wa_ending_wait(wa_ending *e, wa_error *err) WA_MUST_CHECK; /* how it went */
void wa_ending_join(wa_ending *e); /* that doesn't matter, and maybe it never began */

typedef struct wa_packing_options {
    wa_repo *repo;
    const char *label;
    wa_pool *pool;
    int level;
    size_t upload_threads;
    wa_pace *pace;
    wa_cancel *cancel;
} wa_packing_options;
typedef struct wa_packing wa_packing;
/* Borrows what is in options. first_size: of the first file; 0: not known, but no large one. */
wa_status wa_packing_open(const wa_packing_options *options, size_t number, uint64_t first_size,
                          wa_packing **ret, wa_error *err) WA_MUST_CHECK;
/* So large that not two packs' are to be had at a time. */
bool wa_packing_needs_large_parts(uint64_t first_size);
bool wa_packing_has_large_parts(const wa_packing *pack);
wa_tar_writer *wa_packing_tar(const wa_packing *pack);
wa_container_writer *wa_packing_container(const wa_packing *pack);
/* Nothing more comes. The rest is done by a thread, once at most so many frames are at the pool's
 * workers. */
wa_status wa_packing_begin_close(wa_packing *pack, size_t most_at_workers,
                                 wa_error *err) WA_MUST_CHECK;
bool wa_packing_has_ended(wa_packing *pack); /* the thread has; how is said by: */
/* Until the pack is in the store; then it is appended to info. */
wa_status wa_packing_end_close(wa_packing *pack, wa_backup_info *info, wa_error *err) WA_MUST_CHECK;
void wa_packing_free(wa_packing *pack); /* waits for the thread */
WA_DEFINE_CLEANUP(wa_packing, wa_packing_free)

/* ---- packer ---- */
typedef struct wa_packer wa_packer;
/* Borrows everything; packs are written below backup/<info->label>/ and their sizes appended to
 * info. */
wa_status wa_packer_new(wa_repo *repo, wa_backup_info *info, wa_pool *pool, int level,
                        size_t upload_threads, wa_progress *progress, wa_packer **ret,
                        wa_error *err) WA_MUST_CHECK;
/* For the packs from here on; before the first. */
void wa_packer_limit_upload(wa_packer *p, uint64_t bytes_per_second, wa_cancel *cancel);
/* A directory or a link (link: its target). `path` is relative to PGDATA. */
wa_status wa_packer_add_other(wa_packer *p, const wa_tar_entry *entry, const char *path,
                              wa_error *err) WA_MUST_CHECK;
/* A file: begin, its bytes, end. */
wa_status wa_packer_begin_file(wa_packer *p, const wa_tar_entry *entry, const char *path,
                               wa_error *err) WA_MUST_CHECK;
wa_status wa_packer_write(wa_packer *p, const void *data, size_t len, wa_error *err) WA_MUST_CHECK;
/* Room for the bytes that come next (at least 1; never across a frame's end): what is filled in
 * there and then written from there, in order, is not copied. Until the next call of another kind
 * than write. */
wa_status wa_packer_room(wa_packer *p, void **ret_room, size_t *ret_len,
                         wa_error *err) WA_MUST_CHECK;
/* All of wa_packer_room's room, of which `fill` brings what is not there yet
 * (wa_container_fill_later). */
wa_status wa_packer_write_later(wa_packer *p, void *room, size_t len, wa_frame_fill *fill,
                                wa_error *err) WA_MUST_CHECK;
wa_status wa_packer_write_unsummed(wa_packer *p, const void *data, size_t len,
                                   wa_error *err) WA_MUST_CHECK;
/* Before the file ends. */
wa_status wa_packer_wait_filled(wa_packer *p, wa_frame_fill *fill, wa_error *err) WA_MUST_CHECK;
/* The CRC-32C of what was written later or unsummed: in the file's order, before the next
 * wa_packer_write and before its end. */
void wa_packer_add_sum(wa_packer *p, uint32_t crc, uint64_t len);
wa_status wa_packer_end_file(wa_packer *p, wa_error *err) WA_MUST_CHECK;
/* CRC-32C of the file that was ended last. */
uint32_t wa_packer_last_crc(const wa_packer *p);
/* Nothing more comes into the open pack: it goes into the store while other things are done. */
wa_status wa_packer_close_pack(wa_packer *p, wa_error *err) WA_MUST_CHECK;
/* Other threads close the last pack and files.zst while fn (NULL: nothing) is called, which may use
 * nothing of the packer or of info that changes. */
typedef wa_status (*wa_packer_fn)(void *arg, wa_error *err);
wa_status wa_packer_finish(wa_packer *p, wa_packer_fn fn, void *arg, wa_error *err) WA_MUST_CHECK;
const wa_fingerprints *wa_packer_fingerprints(const wa_packer *p);
void wa_packer_free(wa_packer *p);
WA_DEFINE_CLEANUP(wa_packer, wa_packer_free)

/* ---- manifest ---- */
/* The object backup_manifest.zst: the container's bytes are the manifest. */
wa_status wa_backup_begin_manifest(wa_repo *repo, const char *label, int level,
                                   wa_sink **ret_object, wa_container_writer **ret,
                                   wa_error *err) WA_MUST_CHECK;
wa_status wa_backup_commit_manifest(const char *label, wa_sink *object,
                                    wa_container_writer *container, uint64_t *ret_stored,
                                    wa_error *err) WA_MUST_CHECK;
/* That of `label` in a new file, which is the caller's to remove. */
wa_status wa_backup_parent_manifest(wa_repo *repo, const char *label, char **ret_path,
                                    wa_error *err) WA_MUST_CHECK;
typedef struct wa_manifest_check wa_manifest_check;
wa_status wa_manifest_check_new(wa_repo *repo, const char *label, const wa_fingerprints *expected,
                                int level, wa_manifest_check **ret, wa_error *err) WA_MUST_CHECK;
wa_status wa_manifest_check_write(wa_manifest_check *m, const void *data, size_t len,
                                  wa_error *err) WA_MUST_CHECK;
/* CORRUPT when a file differs, is missing or too many. */
wa_status wa_manifest_check_finish(wa_manifest_check *m, wa_manifest_info *ret,
                                   uint64_t *ret_stored, wa_error *err) WA_MUST_CHECK;
void wa_manifest_check_free(wa_manifest_check *m);
WA_DEFINE_CLEANUP(wa_manifest_check, wa_manifest_check_free)

/* ---- source ---- */
/* Fills info's LSNs, timelines, tablespaces, times. */
wa_status wa_backup_copy_remote(const wa_backup_options *options, wa_pg_conn *repl, wa_pool *pool,
                                wa_backup_info *info, wa_error *err) WA_MUST_CHECK;

/* The same from the data directory; conn is from wa_backup_local_connect. */
wa_status wa_backup_copy_local(const wa_backup_options *options, wa_pg_conn *conn, wa_pool *pool,
                               wa_backup_info *info, wa_error *err) WA_MUST_CHECK;

/* ---- local_session.c: the server's part of a local backup ---- */
/* A session on the server, of those in conninfo, whose data directory is data_dir. INVALID with
 * the reason when there is none. */
wa_status wa_backup_local_connect(const wa_backup_options *options, wa_pg_conn **ret,
                                  wa_error *err) WA_MUST_CHECK;
/* May the session begin and end backups? DENIED with the statement that allows it. */
wa_status wa_backup_local_allowed(wa_pg_conn *conn, wa_error *err) WA_MUST_CHECK;
wa_status wa_backup_local_start(const wa_backup_options *options, wa_pg_conn *conn,
                                const char *label, wa_lsn *ret_start, wa_error *err) WA_MUST_CHECK;
/* ret_label: the content of backup_label, a new string. */
wa_status wa_backup_local_stop(wa_pg_conn *conn, char **ret_label, wa_lsn *ret_end,
                               wa_error *err) WA_MUST_CHECK;
/* UNAVAILABLE when the session has ended, and with it the backup. */
wa_status wa_backup_local_alive(wa_pg_conn *conn, wa_error *err) WA_MUST_CHECK;

/* ---- claim: one backup of a cluster at a time ---- */
/* Holds a session's advisory lock on the server while open. *ret_busy: another one runs. */
wa_status wa_backup_claim(const wa_backup_options *options, wa_pg_conn **ret_conn, bool *ret_busy,
                          wa_error *err) WA_MUST_CHECK;

/* ---- leftover.c ---- */
/* Both "host-pid-random": another process of this machine, and it no longer runs. */
bool wa_backup_writer_is_dead(const char *their_writer, const char *our_writer);
/* Abandons the unfinished runs of this machine whose process is gone; the caller holds the claim.
 */
wa_status wa_backup_clean_dead(wa_repo *repo, size_t *ret_count, wa_error *err) WA_MUST_CHECK;

/* ---- WAL ---- */
/* The branch on which a timeline of this server is archived. */
wa_status wa_backup_branch(wa_repo *repo, wa_tli tli, wa_branch *ret, wa_error *err) WA_MUST_CHECK;
/* Until the archive holds [start, end) on the branch; UNAVAILABLE after timeout_ms with what is
 * missing. */
wa_status wa_backup_wait_wal(const wa_backup_options *options, const wa_backup_info *info,
                             wa_error *err) WA_MUST_CHECK;

/* Takes `to`, which comes back as it is when there is no limit; borrows the others. */
wa_sink *wa_sink_paced(wa_sink *to, wa_pace *pace, wa_cancel *cancel);
/* How fast objects may grow so that the main repository and its mirrors together get `limit` bytes
 * a second; 0: no limit. */
uint64_t wa_upload_rate(const wa_store *store, uint64_t limit);
/* A sink that writes into a container writer (borrowed); finish does nothing. */
wa_sink *wa_sink_to_container(wa_container_writer *w);

#endif
