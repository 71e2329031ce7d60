/*
 * spool_internal.h - received WAL on the local disk, until the archive has it.
 *
 *   <dir>/lock                the flock of the process that owns the directory
 *   <dir>/<SEG24>-<id>        a segment of a branch: the server's bytes from its first on, so a
 *                             whole file is byte-identical to the server's
 *   <dir>/<SEG24>             the same while the branch's id is not known yet (first record of a
 *                             new timeline still to come)
 *
 * Guarantees:
 *   (1) a file is only ever appended to, or truncated behind its valid end at start: its length is
 *       what was written, its beginning is the segment's beginning.
 *   (2) wa_spool_sync() returned OK: everything appended before is on disk, name included.
 *   (3) a failed fdatasync is never retried: the spool refuses further appends to that file until
 *       it was opened anew and read back (wa_spool_begin truncates to what was synced).
 * Threads: begin, append and sync belong to one thread (the receiver); the others from any.
 */
#ifndef WALAGENT_SPOOL_INTERNAL_H
#define WALAGENT_SPOOL_INTERNAL_H

#include "walagent/pg/walfacts.h"
#include "walagent/repo/repo.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct wa_spool wa_spool;
typedef struct wa_spool_file {
    wa_branch branch; /* id "" when not known */
    wa_segno segno;
    uint64_t size;
} wa_spool_file;

/* Makes the directory; CONFLICT when another process owns it. */
wa_status wa_spool_open(const char *dir, uint64_t segment_size, wa_spool **ret,
                        wa_error *err) WA_MUST_CHECK;
void wa_spool_free(wa_spool *spool);
WA_DEFINE_CLEANUP(wa_spool, wa_spool_free)
const char *wa_spool_dir(const wa_spool *spool);
uint64_t wa_spool_segment_size(const wa_spool *spool);
/* Bytes of all segment files. */
uint64_t wa_spool_bytes(const wa_spool *spool);
/* All files, ordered by timeline, segment number, id. The array is the caller's. */
wa_status wa_spool_list(wa_spool *spool, wa_spool_file **ret, size_t *ret_count,
                        wa_error *err) WA_MUST_CHECK;

/* The segment that is appended to from now on (created when missing). The one before must have
 * been synced. ret_size: what it holds already. */
wa_status wa_spool_begin(wa_spool *spool, const wa_branch *branch, wa_segno segno,
                         uint64_t *ret_size, wa_error *err) WA_MUST_CHECK;
/* offset: in the segment; must be the file's end (asserted). */
wa_status wa_spool_append(wa_spool *spool, uint64_t offset, const void *data, size_t len,
                          wa_error *err) WA_MUST_CHECK;
wa_status wa_spool_sync(wa_spool *spool, wa_error *err) WA_MUST_CHECK;
uint64_t wa_spool_unsynced(const wa_spool *spool);
/* Stop appending (after an error, or at a switch). */
void wa_spool_end(wa_spool *spool);

/* CORRUPT when the file is shorter; NOT_FOUND when there is none. */
wa_status wa_spool_read(wa_spool *spool, const wa_branch *branch, wa_segno segno, uint64_t offset,
                        void *out, size_t len, wa_error *err) WA_MUST_CHECK;
/* NOT_FOUND when there is none. */
wa_status wa_spool_size(wa_spool *spool, const wa_branch *branch, wa_segno segno, uint64_t *ret,
                        wa_error *err) WA_MUST_CHECK;
/* Durable; not while it is appended to. */
wa_status wa_spool_truncate(wa_spool *spool, const wa_branch *branch, wa_segno segno, uint64_t size,
                            wa_error *err) WA_MUST_CHECK;
/* Replace the content by data (a prefix that came from elsewhere); durable. */
wa_status wa_spool_put(wa_spool *spool, const wa_branch *branch, wa_segno segno, const void *data,
                       size_t len, wa_error *err) WA_MUST_CHECK;
/* Missing is fine. */
wa_status wa_spool_remove(wa_spool *spool, const wa_branch *branch, wa_segno segno,
                          wa_error *err) WA_MUST_CHECK;
/* The id of branch->tli's nameless files is known now. Also the file that is appended to. */
wa_status wa_spool_name_branch(wa_spool *spool, const wa_branch *branch,
                               wa_error *err) WA_MUST_CHECK;

/*
 * Walk the files of a branch from segno on as far as they follow each other (spool_walk.c). Records
 * are read leniently: the walk ends where the first file is not whole and valid to its end.
 * `segment` is called for each whole segment; facts are those of the records that end in it, rest
 * those of them that end behind `from`. A record that begins before the first file belongs to its
 * facts too: `before` is asked for the segment before, and where that doesn't help (NOT_FOUND,
 * CORRUPT, no such call) the facts say by `overflow` that they are not everything.
 */
typedef struct wa_spool_end_info {
    wa_lsn end;           /* of what is valid; the start of segno's segment when nothing is */
    wa_lsn prev;          /* start of the last record; 0: none */
    uint64_t surplus;     /* bytes in the last file behind `end` (torn, or a record not complete) */
    bool parsed;          /* false: a page magic that is not known, lengths were believed */
    wa_wal_facts segment; /* of the last file, which is not whole */
    wa_wal_facts rest;    /* those that end behind `from` */
} wa_spool_end_info;
/* parsed false: of an unknown page magic, so no facts. */
typedef wa_status (*wa_spool_walk_fn)(void *arg, wa_segno segno, bool parsed,
                                      const wa_wal_facts *facts, const wa_wal_facts *rest,
                                      const char *xxh3, wa_error *err);
/* A whole segment into out. */
typedef wa_status (*wa_spool_before_fn)(void *arg, wa_segno segno, uint8_t *out, wa_error *err);
typedef struct wa_spool_calls {
    wa_spool_walk_fn segment; /* may be NULL, as `before` */
    wa_spool_before_fn before;
    void *arg;
} wa_spool_calls;
wa_status wa_spool_walk(wa_spool *spool, const wa_branch *branch, wa_segno segno, wa_lsn from,
                        uint64_t system_identifier, const wa_spool_calls *calls,
                        wa_spool_end_info *ret, wa_error *err) WA_MUST_CHECK;

#endif
