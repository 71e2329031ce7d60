/*
 * spool_release.c - give back the spool files of a branch that a person rejected.
 *
 * Files of a branch that isn't in the lineage are kept, for it may be adopted yet; they count
 * against spool_max. Once it is rejected nobody asks for them, and they go, but each only when the
 * archive holds the same bytes: what was received and never shipped may exist nowhere else.
 */
#include "streamer_internal.h"

#include "walagent/codec/hash.h"

#include <stdlib.h>
#include <string.h>

#define PIECE (256u * 1024)

static wa_status
hash_file(wa_streamer *s, const wa_spool_file *file, char ret[static WA_XXH_HEX], wa_error *err)
{
    WA_CLEANUP(wa_xxh_freep) wa_xxh *hash = wa_xxh_new();
    WA_CLEANUP(wa_freep) uint8_t *piece = wa_malloc(PIECE);
    for (uint64_t at = 0; at < file->size; at += PIECE) {
        size_t len = file->size - at < PIECE ? (size_t)(file->size - at) : PIECE;
        WA_TRY(wa_spool_read(s->spool, &file->branch, file->segno, at, piece, len, err));
        wa_xxh_update(hash, piece, len);
    }
    wa_xxh_hex(hash, ret);
    return WA_OK;
}

/* What the archive has of the segment, from its start: the whole, else its chunks. */
static wa_status
fetch(wa_streamer *s, const wa_spool_file *file, bool whole, uint8_t *bytes, uint64_t *ret_len,
      wa_error *err)
{
    uint64_t size = s->cluster.segment_size;
    WA_CLEANUP(wa_freep) wa_wal_facts *facts = wa_malloc(sizeof *facts);
    wa_lsn end = (file->segno + 1) * size;
    if (whole)
        WA_TRY(wa_wal_get(s->repo, &file->branch, file->segno, s->pool, bytes, facts, NULL, err));
    else
        WA_TRY(wa_tail_assemble(s->repo, &file->branch, file->segno, bytes, &end, facts, err));
    *ret_len = end - file->segno * size;
    return WA_OK;
}

static wa_status
is_archived(wa_streamer *s, const wa_spool_file *file, bool *ret, wa_error *err)
{
    uint64_t size = s->cluster.segment_size, len = 0;
    wa_wal_info info;
    char xxh3[WA_XXH_HEX];
    wa_status status = wa_wal_head(s->repo, &file->branch, file->segno, &info, err);
    if (status != WA_OK && status != WA_NOT_FOUND)
        return status;
    bool whole = status == WA_OK;
    if (whole && file->size == size) {
        WA_TRY(hash_file(s, file, xxh3, err));
        *ret = strcmp(xxh3, info.xxh3) == 0;
        return WA_OK;
    }
    WA_CLEANUP(wa_freep) uint8_t *theirs = wa_calloc(1, size);
    WA_CLEANUP(wa_freep) uint8_t *ours = wa_malloc(file->size + 1);
    WA_TRY(fetch(s, file, whole, theirs, &len, err));
    WA_TRY(wa_spool_read(s->spool, &file->branch, file->segno, 0, ours, file->size, err));
    *ret = file->size <= len && memcmp(ours, theirs, file->size) == 0;
    return WA_OK;
}

wa_status
wa_spool_release(wa_streamer *s, const wa_lineage *l, const wa_spool_file *file, wa_error *err)
{
    bool archived = false;
    if (file->branch.id[0] == '\0' || !wa_lineage_is_rejected(l, &file->branch) ||
        wa_lineage_has(l, &file->branch))
        return WA_OK;
    wa_status status = file->size > 0 ? is_archived(s, file, &archived, err) : WA_OK;
    if (status == WA_OK && archived) /* whoever wrote them may have died before that lasts */
        status = wa_tip_settle(s->repo, &file->branch,
                               file->segno * s->cluster.segment_size + file->size, err);
    if (status == WA_CANCELLED)
        return status;
    if (status != WA_OK) { /* not known to be there: it stays, until the next time */
        wa_error_clear(err);
        return WA_OK;
    }
    return archived || file->size == 0 ? wa_spool_remove(s->spool, &file->branch, file->segno, err)
                                       : WA_OK;
}
