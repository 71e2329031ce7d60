/*
 * restore_internal.h - the parts of a restore: the plan's view of the archive, and the pieces that
 * lay files down.
 */
#ifndef WALAGENT_RESTORE_INTERNAL_H
#define WALAGENT_RESTORE_INTERNAL_H

#include "walagent/pg/manifest.h"
#include "walagent/pg/walfacts.h"
#include "walagent/restore/restore.h"

#include <sys/types.h>

/* Beside WAL, where pg_verifybackup looks at nothing and the server removes only WAL. */
#define WA_RESTORE_FILE "pg_wal/walagent.restore.json"
#define WA_CONTROL_PATH "global/pg_control"

/* What a store lacks or has damaged. */
static inline bool
wa_is_damage(wa_status status)
{
    return status == WA_CORRUPT || status == WA_NOT_FOUND;
}

/* ---- files: what the manifest says ---- */

typedef struct wa_expected_file {
    uint64_t fingerprint; /* of path and size */
    uint32_t crc;
} wa_expected_file;
typedef struct wa_expected { /* in the order of the manifest; 16 bytes a file */
    wa_expected_file *items;
    size_t count, capacity;
} wa_expected;
void wa_expected_done(wa_expected *e);
uint64_t wa_path_fingerprint(const char *path, uint64_t size);
/* Reads the backup's manifest into `to` (a directory's backup_manifest; NULL: nowhere), checks it,
 * and lists it. */
wa_status wa_expected_load(wa_repo *repo, const char *label, const char *to, wa_expected *ret,
                           wa_error *err) WA_MUST_CHECK;

/* ---- layout: the directories a restore writes to ---- */

typedef struct wa_place { /* a tablespace; oid 0: the data directory itself */
    uint32_t oid;
    char *path;             /* absolute; in place: below the data directory */
    bool in_place;          /* a directory in pg_tblspc, no link */
    uint64_t needed, there; /* bytes */
    int fd;                 /* for syncfs; opened before anything is written; -1 */
} wa_place;
typedef struct wa_layout {
    char *root; /* absolute */
    mode_t dir_mode;
    wa_place *places; /* the data directory first */
    size_t count;
    wa_place wal; /* --delta: pg_wal, where it lies on another file system; path NULL: it doesn't */
    uint64_t files, bytes;
} wa_layout;
void wa_layout_done(wa_layout *l);
/* Checks directory, tablespaces and room; writes nothing. */
wa_status wa_layout_check(const wa_restore_options *o, const wa_restore_plan *plan, wa_layout *ret,
                          wa_error *err) WA_MUST_CHECK;
/* Makes root, links and the directories they lead to. */
wa_status wa_layout_create(wa_layout *l, wa_error *err) WA_MUST_CHECK;
/* Everything that was written is on disk when this returns OK. */
wa_status wa_layout_sync(const wa_layout *l, wa_error *err) WA_MUST_CHECK;
wa_place *wa_layout_place_of(const wa_layout *l, const char *path);

/* ---- fetch: packs to files ---- */

typedef struct wa_unit_file {
    char *path; /* relative */
    uint64_t size, offset;
    uint32_t mode, crc;
    int64_t mtime;
    bool keep; /* right already */
} wa_unit_file;

/* Everything but pg_control, whose bytes (checked) are given back. chain NULL: a full backup. */
typedef struct wa_control_file {
    uint8_t data[8192];
    uint32_t mode;
    bool there;
} wa_control_file;
/* Empty, for reading and writing; the mode it shall have comes with wa_fetch_finish_file. What is
 * in the way, of a restore that was interrupted or of an older state (only --delta goes where files
 * are), may be a regular file that not even its owner may write; one that has other names is
 * replaced, and these keep its content. -1: errno says why. */
int wa_fetch_open(const char *path, uint32_t mode);
/* A file with more hard links than this one (cp -al, pg_upgrade --link): what is written into it
 * stands under its other names too. */
bool wa_fetch_has_other_names(const char *path);
/* Mode and time of a file that was written, `cached` bytes of it through the page cache. */
wa_status wa_fetch_finish_file(int fd, const wa_unit_file *file, uint64_t cached, const char *path,
                               wa_error *err) WA_MUST_CHECK;

/* Puts the bytes of an empty file there, in order. Borrows fd and path; close it even where open
 * has failed. Nothing is durable before the file system is synced. */
typedef struct wa_writer {
    int fd, direct; /* direct: the same file past the page cache; -1: not */
    const char *path;
    uint64_t written_back; /* up to here the kernel was asked to write */
    uint64_t cached;       /* bytes that went through the page cache */
} wa_writer;
wa_status wa_writer_open(wa_writer *w, int fd, const char *path, uint64_t size,
                         wa_error *err) WA_MUST_CHECK;
wa_status wa_writer_put(wa_writer *w, uint64_t position, const uint8_t *data, size_t len,
                        wa_error *err) WA_MUST_CHECK;
void wa_writer_close(wa_writer *w);

typedef struct wa_chain wa_chain;
wa_status wa_fetch_files(const wa_restore_options *o, const char *label, const wa_layout *layout,
                         const wa_expected *expected, wa_chain *chain, wa_control_file *ret,
                         wa_error *err) WA_MUST_CHECK;

/* A pack that several workers read. */
typedef struct wa_pack wa_pack;
wa_status wa_pack_open(const wa_restore_options *o, const char *label, uint32_t number,
                       wa_pack **ret, wa_error *err) WA_MUST_CHECK;
wa_pack *wa_pack_share(wa_pack *p);
void wa_pack_release(wa_pack *p);
const char *wa_pack_key(const wa_pack *p);
wa_container *wa_pack_container(const wa_pack *p);
/* Every read is a request over the network. */
bool wa_pack_is_remote(const wa_pack *p);

/* Frames of a pack one after another through bounded buffers; one a worker. */
typedef struct wa_frames wa_frames;
wa_frames *wa_frames_new(void);
void wa_frames_free(wa_frames *f);
WA_DEFINE_CLEANUP(wa_frames, wa_frames_free)
/* Raw bytes from offset on: at least one, borrowed until the next call. What is fetched ahead ends
 * at `until` (raw). */
wa_status wa_frames_at(wa_frames *f, wa_pack *pack, uint64_t offset, uint64_t until,
                       const uint8_t **ret, size_t *ret_len, wa_error *err) WA_MUST_CHECK;

/* The bytes [offset, offset+size) in order; `name` and `crc` as the manifest has them: CORRUPT when
 * they differ, after fn saw all of it. */
typedef wa_status (*wa_bytes_fn)(void *arg, uint64_t position, const uint8_t *data, size_t len,
                                 wa_error *err);
wa_status wa_frames_each(wa_frames *f, wa_pack *pack, const wa_unit_file *file, uint64_t until,
                         wa_bytes_fn fn, void *arg, wa_error *err) WA_MUST_CHECK;

/* ---- incremental backups: the chain below the last one ---- */

/* Indexes the files of all but the last backup of the chain: 40 bytes a file. */
wa_status wa_chain_load(const wa_restore_options *o, const wa_restore_plan *plan, wa_chain **ret,
                        wa_error *err) WA_MUST_CHECK;
void wa_chain_free(wa_chain *c);
WA_DEFINE_CLEANUP(wa_chain, wa_chain_free)
/* The path of the file that an INCREMENTAL.* file stands for, a new string; NULL: it is none. */
char *wa_incremental_target(const char *path);
/* A worker's readers, one a backup of the chain. */
typedef struct wa_chain_readers wa_chain_readers;
wa_chain_readers *wa_chain_readers_new(const wa_chain *c);
void wa_chain_readers_free(wa_chain_readers *r);
/* Builds the file at `path` from the incremental one and what lies below it; notes its checksum. */
wa_status wa_chain_rebuild(wa_chain *c, wa_chain_readers *r, wa_pack *pack,
                           const wa_unit_file *file, const char *path, wa_error *err) WA_MUST_CHECK;
/* Makes backup_label one of a full backup, and the manifest one of what was laid down. */
wa_status wa_chain_finish(wa_chain *c, const wa_restore_options *o, const wa_restore_plan *plan,
                          const wa_layout *l, wa_error *err) WA_MUST_CHECK;

/* ---- delta ---- */

/* How a file that is there is read: pread, but in tests. */
typedef ssize_t (*wa_read_at_fn)(int fd, void *buffer, size_t len, off_t offset);
typedef struct wa_delta_job {
    wa_frames *frames;
    wa_pack *pack;
    const wa_unit_file *file;
    const char *path;
    wa_read_at_fn read_at;
} wa_delta_job;
/* What became of it. done: the file is right now, mode and time too; `kept` of its bytes were so
 * before, `written` were not; whole: its content was right as it was. Else it has to be written as
 * a whole; its content may have changed, unless it has other names.
 */
typedef struct wa_delta_found {
    bool done, whole;
    uint64_t kept, written;
} wa_delta_found;
/* Keeps what is right of a file, as a whole or by block. */
wa_status wa_delta_keep(const wa_delta_job *job, wa_delta_found *ret, wa_error *err) WA_MUST_CHECK;
/* Done when it has the manifest's size and checksum already. */
void wa_delta_is_right(const wa_delta_job *job, wa_delta_found *ret);
/* Whole frames of the pack lie in the file, and it is cheap to learn which of them it has. */
bool wa_delta_blocks_pay(const wa_delta_job *job);
wa_status wa_delta_by_block(const wa_delta_job *job, wa_delta_found *ret,
                            wa_error *err) WA_MUST_CHECK;
/* Removes pg_control first, then whatever the backup doesn't have. */
wa_status wa_delta_clean(const wa_restore_options *o, const wa_layout *l, const char *label,
                         wa_error *err) WA_MUST_CHECK;

/* ---- settings ---- */

wa_status wa_restore_check_settings(const wa_restore_options *o, wa_error *err) WA_MUST_CHECK;
wa_status wa_restore_write_settings(const wa_restore_options *o, const wa_restore_plan *plan,
                                    const char *root, wa_error *err) WA_MUST_CHECK;

/* ---- view: the WAL of the archive along a lineage ---- */

/* What came of reading WAL. */
#define WA_MIRRORED_MAX 1000u
typedef struct wa_view_reads {
    bool lost;            /* bytes of a segment could not be had: nobody gets past it */
    wa_strv mirrored;     /* segments, damaged in the main repository, that a mirror gave */
    char mirror[64];      /* which one gave the first of them */
    char away[64];        /* a mirror that could not be asked; "": none */
    char away_error[256]; /* why */
} wa_view_reads;
void wa_view_reads_done(wa_view_reads *reads);

typedef struct wa_view {
    wa_repo *repo;
    const wa_lineage *lineage;
    wa_coverage coverage;
    wa_lsn follows;       /* the server follows no branch that begins behind it; 0: not known yet */
    wa_view_reads *reads; /* borrowed; NULL: nobody wants to know */
} wa_view;
wa_status wa_view_load(wa_repo *repo, const wa_lineage *lineage, wa_lsn from, wa_view *ret,
                       wa_error *err) WA_MUST_CHECK;
void wa_view_done(wa_view *v);
/* The end of gap-free WAL from lsn on; lsn itself when it is not covered. */
wa_lsn wa_view_end_from(const wa_view *v, wa_lsn lsn);
/* The stretch without a gap that holds lsn (its end counts as inside). False: none. */
bool wa_view_stretch(const wa_view *v, wa_lsn lsn, wa_lsn *ret_begin, wa_lsn *ret_end);

/* A piece: what of a segment is accepted on one branch. */
typedef struct wa_piece {
    wa_branch branch;
    wa_segno segno;
    wa_lsn begin, end;
    bool tail; /* of the run's last segment: may consist of chunks only */
} wa_piece;
/* Pieces of [from, to) forwards or backwards. WA_CANCELLED with an untouched err: enough. */
typedef wa_status (*wa_piece_fn)(void *arg, const wa_piece *piece, wa_error *err);
wa_status wa_view_pieces(const wa_view *v, wa_lsn from, wa_lsn to, bool backwards, wa_piece_fn fn,
                         void *arg, wa_error *err) WA_MUST_CHECK;
wa_status wa_view_facts(const wa_view *v, const wa_piece *piece, wa_wal_facts *ret,
                        wa_error *err) WA_MUST_CHECK;
/* Where a segment's bytes came from; all zero: from nowhere. */
typedef struct wa_source {
    wa_branch branch;
    wa_segno segno;
    bool chunks;    /* they may stand in for a damaged object */
    bool unchecked; /* no chunks: it was archived though its records could not be checked */
} wa_source;
/* The piece's segment, filled up to the piece's end. CORRUPT, NOT_FOUND: it can't be had. The
 * source may be NULL. */
wa_status wa_view_bytes(const wa_view *v, const wa_piece *piece, uint8_t *bytes,
                        wa_source *ret_source, wa_error *err) WA_MUST_CHECK;
/* Was it archived unchecked? Of chunks: one of them? False also when they can't be had any more. */
wa_status wa_view_is_unchecked(const wa_view *v, const wa_source *from, bool *ret,
                               wa_error *err) WA_MUST_CHECK;
/* Every record that ends in the piece, also one that began before it. CORRUPT: some could not be
 * read; the others were given to fn. The source is set whenever the bytes could be had. */
wa_status wa_view_records(const wa_view *v, const wa_piece *piece, wa_record_fn fn, void *arg,
                          wa_source *ret_source, wa_error *err) WA_MUST_CHECK;

/* ---- search: the records that targets mean ---- */

/* The first transaction end in [from, to) that is later than t (at or after, when exclusive). */
wa_status wa_search_time(const wa_view *v, wa_lsn from, wa_lsn to, wa_time t, bool exclusive,
                         wa_commit_point *ret, wa_error *err) WA_MUST_CHECK;
/* The last transaction end that begins before lsn, not before from, and ends at or before `to`. */
wa_status wa_search_before(const wa_view *v, wa_lsn from, wa_lsn lsn, wa_lsn to,
                           wa_commit_point *ret, wa_error *err) WA_MUST_CHECK;
/* The first one that begins at or after lsn. */
wa_status wa_search_after(const wa_view *v, wa_lsn lsn, wa_lsn to, wa_commit_point *ret,
                          wa_error *err) WA_MUST_CHECK;
/* Segments that had to be read and could not be: what is looked for may be there too. */
typedef struct wa_search_damage {
    size_t count;
    wa_lsn begin;   /* of the one that lies first */
    wa_error first; /* the one that was met first */
} wa_search_damage;
/* The last end of this transaction in [from, to). */
typedef struct wa_xid_search {
    wa_commit_point found;
    uint64_t nameless; /* when it isn't found: prepared transactions' ends without an xid */
    wa_search_damage damage;
} wa_xid_search;
wa_status wa_search_xid(const wa_view *v, wa_lsn from, wa_lsn to, uint32_t xid, wa_xid_search *ret,
                        wa_error *err) WA_MUST_CHECK;
/* The last restore point of this name, how many there are, and all names in [from, to). */
typedef struct wa_point_search {
    wa_restore_point found; /* lsn 0: none */
    size_t count;
    wa_strv names; /* others, at most 1,000 */
    wa_search_damage damage;
} wa_point_search;
wa_status wa_search_name(const wa_view *v, wa_lsn from, wa_lsn to, const char *name,
                         wa_point_search *ret, wa_error *err) WA_MUST_CHECK;
/* The first record that begins at or after lsn; *ret 0 when there is none before
 * `to`. ret_end is aligned. */
wa_status wa_search_record(const wa_view *v, wa_lsn lsn, wa_lsn to, wa_lsn *ret, wa_lsn *ret_end,
                           wa_error *err) WA_MUST_CHECK;
/* The latest time that anything in the last segments before `to` carries: transaction ends, restore
 * points, checkpoints. WA_TIME_NONE: none. */
wa_status wa_search_last_time(const wa_view *v, wa_lsn from, wa_lsn to, wa_time *ret,
                              wa_error *err) WA_MUST_CHECK;

/* ---- choose ---- */

typedef struct wa_planning {
    const wa_restore_options *o;
    wa_backups backups;
    wa_lineage *accepted, *lineage;
    wa_view view;
    bool *usable; /* per backup: on the lineage, its own WAL covered, its chain complete */
    wa_restore_plan *plan;
    wa_backup_info *tried; /* whose WAL is being searched; NULL: none */
    wa_lsn lacking;        /* why a target is unreachable: WAL that isn't there begins here; 0 */
    wa_lsn unsearched;     /* where WAL begins that could not be searched; 0: nowhere */
    wa_view_reads reads;
    wa_buf notes;        /* lines: what a person should know about the choice */
    size_t notes_untold; /* that found no room */
} wa_planning;
wa_status wa_plan_lineage(wa_planning *p, wa_error *err) WA_MUST_CHECK;
wa_status wa_plan_usable(wa_planning *p, wa_error *err) WA_MUST_CHECK;
wa_status wa_plan_target(wa_planning *p, wa_error *err) WA_MUST_CHECK;
/* The search for the target failed, by WAL only that was archived unchecked and is accepted: the
 * server shall find it. `err` is kept as it is when no backup leads there. */
wa_status wa_plan_leave_to_server(wa_planning *p, wa_error *err) WA_MUST_CHECK;
wa_status wa_plan_sizes(wa_planning *p, wa_error *err) WA_MUST_CHECK;
/* On the lineage, its own WAL covered, its chain complete; whether it was asked for or not. */
bool wa_plan_can_use(const wa_planning *p, const wa_backup_info *b);
/* A standby takes from its primary what the archive can't give. */
static inline bool
wa_plan_has_primary(const wa_planning *p)
{
    return p->o->standby && !wa_str_empty(p->o->primary_conninfo);
}
/* Sets the hint of an unreachable target: what can be reached. */
wa_status wa_plan_unreachable(wa_planning *p, wa_error *err, const char *fmt, ...)
    WA_PRINTF(3, 4) WA_MUST_CHECK;
/* lacking.c: "Repository ... has WAL segment ...: --repository ... . " when a mirror has this one,
 * which the main repository lacks; else "". A new string. */
char *wa_plan_lacking_hint(const wa_planning *p, const wa_branch *branch, wa_segno segno);
char *wa_plan_lacking_hint_at(const wa_planning *p, wa_lsn lsn);
/* A line for people, of at most 1,500 bytes. */
void wa_plan_note(wa_planning *p, const char *fmt, ...) WA_PRINTF(2, 3);
/* All behind the first `keep` bytes of them. */
void wa_plan_forget_notes(wa_planning *p, size_t keep);
void wa_plan_describe(wa_planning *p);
/* proof.c: UNREACHABLE when the WAL of the plan is known not to lead to the target. */
wa_status wa_plan_prove(wa_planning *p, wa_error *err) WA_MUST_CHECK;
/* Segments that a listing hasn't, though the index has them: chunks may stand in. */
wa_status wa_plan_prove_missing(wa_planning *p, const wa_run *run, const wa_segno *segno,
                                size_t count, wa_error *err) WA_MUST_CHECK;
/* An error of the search for the target, with what can be reached when it came from damage. OK: it
 * came from what is accepted, and the target is left to the server. */
wa_status wa_plan_explain_damage(wa_planning *p, wa_error *err) WA_MUST_CHECK;

#endif
