/*
 * walagent/repo/tail.h - chunks of the unfinished segment.
 *
 *   tail/<TLI8>-<id8>/<SEG24>/<EPOCH8>/<START16>.zst   container, kind "tail"; START is its first
 * new LSN
 *
 * A chunk's bytes are [base, end) (base = START, or the segment's start when it is cumulative). The
 * next chunk's START is the end of the last one, and it is created only once: two writers cannot
 * both extend the tail. An empty chunk (base = end = START) seals the epoch. At most about 64 live
 * chunks a segment: after 32 small ones the next is cumulative.
 */
#ifndef WALAGENT_REPO_TAIL_H
#define WALAGENT_REPO_TAIL_H

#include "walagent/repo/wal_object.h"

typedef struct wa_chunk {
    uint32_t epoch;
    wa_lsn start, base, end; /* base and end are 0 until its public facts were read */
    bool seal;
    bool checked; /* likewise */
    uint64_t stored_size;
    wa_time modified;
    char *key;
} wa_chunk;
typedef struct wa_chunks {
    wa_chunk *items; /* ordered by epoch, start */
    size_t count;
} wa_chunks;
void wa_chunks_done(wa_chunks *c);

/* data: bytes [base, base+len), within one segment, at least one of them behind START. OK also when
 * START is taken by a chunk with just these bytes (a lost reply; another writer with the same
 * history). EXISTS when it is taken by other ones: the caller reads the winner and continues from
 * its end unless the bytes differ. */
wa_status wa_tail_put(wa_repo *repo, const wa_branch *branch, uint32_t epoch, wa_lsn start,
                      wa_lsn base, const void *data, size_t len, const wa_wal_facts *facts,
                      bool checked, wa_error *err) WA_MUST_CHECK;
/* The same of bytes [base, end) that are read as they are needed, in order, from their offset
 * behind base: what they compress to is held in memory up to 16 MiB, then in a file of the repo's
 * scratch directory. */
typedef wa_status (*wa_tail_read_fn)(void *arg, uint64_t offset, void *out, size_t len,
                                     wa_error *err);
wa_status wa_tail_put_from(wa_repo *repo, const wa_branch *branch, uint32_t epoch, wa_lsn start,
                           wa_lsn base, wa_lsn end, wa_tail_read_fn read, void *arg,
                           const wa_wal_facts *facts, bool checked, wa_error *err) WA_MUST_CHECK;
wa_status wa_tail_put_seal(wa_repo *repo, const wa_branch *branch, uint32_t epoch, wa_lsn start,
                           wa_error *err) WA_MUST_CHECK;
wa_status wa_tail_list(wa_repo *repo, const wa_branch *branch, wa_segno segno, wa_chunks *ret,
                       wa_error *err) WA_MUST_CHECK;
/* The same of this segment and all behind it, by one listing; ordered by segment first. */
wa_status wa_tail_list_from(wa_repo *repo, const wa_branch *branch, wa_segno segno, wa_chunks *ret,
                            wa_error *err) WA_MUST_CHECK;
/* By its name, whether or not a listing has it: one request. NOT_FOUND: positively absent. */
wa_status wa_tail_head(wa_repo *repo, const wa_branch *branch, uint32_t epoch, wa_lsn start,
                       wa_wal_info *ret, wa_error *err) WA_MUST_CHECK;
/* The segment's chunks, ret_count of them (may be NULL), stay after a power failure, as
 * wa_wal_settle sees to it of a segment. NOT_FOUND: one of them is gone since it was listed. */
wa_status wa_tail_settle(wa_repo *repo, const wa_branch *branch, wa_segno segno, size_t *ret_count,
                         wa_error *err) WA_MUST_CHECK;
/* Is it a seal? By its public facts: one request. */
wa_status wa_tail_is_seal(wa_repo *repo, const wa_chunk *chunk, bool *ret,
                          wa_error *err) WA_MUST_CHECK;
/* Read one chunk: its facts and bytes (appended to ret). */
wa_status wa_tail_get(wa_repo *repo, const wa_branch *branch, wa_segno segno, const wa_chunk *chunk,
                      wa_buf *ret, wa_wal_info *ret_info, wa_wal_facts *ret_facts,
                      wa_error *err) WA_MUST_CHECK;
/* The unfinished segment as far as the chain of chunks reaches: newest cumulative chunk, then on
 * from it (over epochs: a chain continues in the next epoch from where the last was sealed or
 * ended). out has segment_size bytes: valid prefix, then zeroes. ret_end: behind the last valid
 * byte. NOT_FOUND: no chunk with bytes. CORRUPT names the chunk,
 * or says that the first one is missing. On failure the content of out is undefined. */
wa_status wa_tail_assemble(wa_repo *repo, const wa_branch *branch, wa_segno segno, void *out,
                           wa_lsn *ret_end, wa_wal_facts *ret_facts, wa_error *err) WA_MUST_CHECK;
/* End of the chain without its bytes: a listing and the heads back to the newest cumulative chunk
 * (at most about 40, several at a time). NOT_FOUND: no chunk with bytes. CORRUPT: the first one is
 * missing. */
wa_status wa_tail_end(wa_repo *repo, const wa_branch *branch, wa_segno segno, wa_lsn *ret_end,
                      wa_time *ret_modified, wa_error *err) WA_MUST_CHECK;
/* Segments of a branch that have chunks, in order. Caller frees. */
wa_status wa_tail_segments(wa_repo *repo, const wa_branch *branch, wa_segno **ret,
                           size_t *ret_count, wa_error *err) WA_MUST_CHECK;
/* Remove the chunks of a segment whose whole object exists (NOT_FOUND: it doesn't); the newest
 * chunk of the branch stays. */
wa_status wa_tail_remove(wa_repo *repo, const wa_branch *branch, wa_segno segno,
                         wa_error *err) WA_MUST_CHECK;
/* The same for the segments of [first, end), of which those without a whole object keep their
 * chunks: a listing of the chunks from `first` on, one of the whole segments, one removal (each
 * for a thousand keys). */
wa_status wa_tail_remove_range(wa_repo *repo, const wa_branch *branch, wa_segno first, wa_segno end,
                               wa_error *err) WA_MUST_CHECK;

#endif
