/*
 * walagent/repo/wal_object.h - whole WAL segments in the archive.
 *
 *   wal/<TLI8>-<id8>/<LOG8>/<SEG24>.zst    container, kind "wal"; created once, never replaced
 *   quarantine/<TLI8>-<id8>/<SEG24>-<xxh3>.zst   other bytes that came under the same name
 *
 * Public facts:
 * {"v":1,"kind":"wal","branch":...,"start":"<hex16>","end":"<hex16>","base":...,"writer":...,"epoch":n,"raw":n,"xxh3":...,"checked":bool}.
 * Threads: any.
 * Guarantees: (1) put OK means durable; the same content again is OK; other content is CONFLICT,
 * kept in quarantine, and an event is written. (2) get gives bytes whose checksums were verified,
 * exactly one segment.
 */
#ifndef WALAGENT_REPO_WAL_OBJECT_H
#define WALAGENT_REPO_WAL_OBJECT_H

#include "walagent/codec/container.h"
#include "walagent/pg/walfacts.h"
#include "walagent/repo/repo.h"

typedef struct wa_wal_info { /* the public facts, and the size stored */
    wa_branch branch;
    wa_lsn start, end; /* end: behind the last valid byte (whole segments: the segment's end) */
    wa_lsn base;       /* tail chunks: what it contains begins here */
    uint64_t raw_size, stored_size;
    uint32_t epoch;
    char writer[96];
    char xxh3[WA_XXH_HEX];
    bool checked;
    wa_time modified;
} wa_wal_info;
wa_status wa_wal_info_parse(const char *meta, const char *what, wa_wal_info *ret,
                            wa_error *err) WA_MUST_CHECK;
char *wa_wal_info_meta(const char *kind, const wa_wal_info *info); /* JSON; a new string */

typedef enum wa_put_outcome { WA_PUT_CREATED, WA_PUT_SAME } wa_put_outcome;

/*
 * Write a segment as its bytes come: begin, then container space/advance or write through
 * wa_wal_writer_container(), then commit. Compressed bytes are held in memory up to 16 MiB (4 MiB
 * of segments that are larger than 16 MiB), then in a file of the repo's scratch directory.
 */
typedef struct wa_wal_writer wa_wal_writer;
wa_status wa_wal_writer_begin(wa_repo *repo, const wa_branch *branch, wa_segno segno, wa_pool *pool,
                              wa_wal_writer **ret, wa_error *err) WA_MUST_CHECK;
/* Before anything is written: compressed bytes go into a draft of the store instead, if it has any
 * (wa_store_draft), whose file system that keeps in use. For one who has the whole segment. */
void wa_wal_writer_draft(wa_wal_writer *w);
wa_container_writer *wa_wal_writer_container(wa_wal_writer *w);
/* Before commit: the branch turned out to be another one than begin was told. */
void wa_wal_writer_set_branch(wa_wal_writer *w, const wa_branch *branch);
/* commit calls it when all is compressed: what was lent to the container may go. */
void wa_wal_writer_when_compressed(wa_wal_writer *w, void (*fn)(void *arg), void *arg);
/* commit calls it when nothing is left but to make the segment visible (wa_store_put_when). Not OK:
 * it doesn't, and that is the answer. */
void wa_wal_writer_when(wa_wal_writer *w, wa_put_ready_fn ready, void *arg);
/* facts may be NULL (not parsed). checked: every record was verified. CONFLICT as above; the writer
 * is to be freed in every case. */
wa_status wa_wal_writer_commit(wa_wal_writer *w, uint32_t epoch, const wa_wal_facts *facts,
                               bool checked, wa_put_outcome *ret, wa_error *err) WA_MUST_CHECK;
void wa_wal_writer_free(wa_wal_writer *w);
WA_DEFINE_CLEANUP(wa_wal_writer, wa_wal_writer_free)
/* One shot from a buffer of segment_size bytes. */
wa_status wa_wal_put(wa_repo *repo, const wa_branch *branch, wa_segno segno, const void *data,
                     wa_pool *pool, uint32_t epoch, const wa_wal_facts *facts, bool checked,
                     wa_put_outcome *ret, wa_error *err) WA_MUST_CHECK;

/* One request. NOT_FOUND: positively absent. */
wa_status wa_wal_head(wa_repo *repo, const wa_branch *branch, wa_segno segno, wa_wal_info *ret,
                      wa_error *err) WA_MUST_CHECK;
/* A segment that wa_wal_head saw stays after a power failure: also one whose writer died before it
 * had seen to that (file://). For one who acknowledges what another wrote; writes nothing.
 * NOT_FOUND: it is gone since. */
wa_status wa_wal_settle(wa_repo *repo, const wa_branch *branch, wa_segno segno,
                        wa_error *err) WA_MUST_CHECK;
/* Raw bytes (segment_size of them) into out. facts may be NULL. CORRUPT names the key. */
wa_status wa_wal_get(wa_repo *repo, const wa_branch *branch, wa_segno segno, wa_pool *pool,
                     void *out, wa_wal_facts *ret_facts, wa_wal_info *ret_info,
                     wa_error *err) WA_MUST_CHECK;
/* The same for one who takes it frame by frame (container.h). begin is called before the first one,
 * when the object was found and is a segment by what it says; not OK: that is the answer. */
typedef struct wa_wal_taker {
    wa_status (*begin)(void *arg, const wa_wal_info *info, wa_error *err);
    wa_frame_taker frames; /* its arg is begin's too */
} wa_wal_taker;
wa_status wa_wal_get_to(wa_repo *repo, const wa_branch *branch, wa_segno segno, wa_pool *pool,
                        const wa_wal_taker *taker, wa_error *err) WA_MUST_CHECK;
/* Only the facts (one ranged read of the end); computed from the bytes when the object has none. */
wa_status wa_wal_get_facts(wa_repo *repo, const wa_branch *branch, wa_segno segno,
                           wa_wal_facts *ret, wa_wal_info *ret_info, wa_error *err) WA_MUST_CHECK;
char *wa_wal_key(wa_repo *repo, const wa_branch *branch, wa_segno segno);

/* Segments of a branch from `from` on, in order. `stop` as in wa_list_fn. */
typedef wa_status (*wa_wal_list_fn)(void *arg, wa_segno segno, uint64_t stored_size,
                                    wa_time modified, wa_error *err);
wa_status wa_wal_list(wa_repo *repo, const wa_branch *branch, wa_segno from, wa_wal_list_fn fn,
                      void *arg, wa_error *err) WA_MUST_CHECK;
/* The last whole segment of a branch by few requests (delimited listing of log ids, then of the
 * last one). NOT_FOUND: none. */
wa_status wa_wal_last(wa_repo *repo, const wa_branch *branch, wa_segno *ret,
                      wa_error *err) WA_MUST_CHECK;

/* Backup history files (SEGMENT.OFFSET.backup) and .partial names from archive_command: kept under
 * other/<TLI8>-<id8>/<name>.zst. */
wa_status wa_wal_put_other(wa_repo *repo, const wa_branch *branch, const char *name,
                           const void *data, size_t len, wa_error *err) WA_MUST_CHECK;
/* Keep contradicting bytes; returns the key (a new string) in ret_key. */
wa_status wa_wal_quarantine(wa_repo *repo, const wa_branch *branch, const char *name,
                            const void *data, size_t len, const char *reason, char **ret_key,
                            wa_error *err) WA_MUST_CHECK;

#endif
