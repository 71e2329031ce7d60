/*
 * spool_walk.c - find the valid end of what the spool holds, by reading its records.
 */
#include "spool_internal.h"

#include "walagent/base/bytes.h"
#include "walagent/codec/hash.h"

#include <string.h>

#define WALK_PORTION (256u * 1024)
#define PAGE_INFO 2
#define PAGE_CONTINUES 1u /* in it: a record goes on from the page before */

typedef struct walk {
    wa_spool *spool;
    const wa_branch *branch;
    const wa_spool_calls *calls;
    uint64_t system_identifier;
    bool first;      /* file of the walk */
    wa_lsn crossing; /* the start of the first file, while the record across it is looked for */
    wa_walreader *reader;
    wa_wal_facts *facts, *rest;
    wa_lsn from;
    wa_xxh *hash;
    uint8_t *buffer;
} walk;

static void
walk_done(walk *w)
{
    wa_walreader_free(w->reader);
    wa_xxh_free(w->hash);
    wa_freep(&w->facts);
    wa_freep(&w->rest);
    wa_freep(&w->buffer);
}

static wa_status
add_record(void *arg, const wa_record *record, wa_error *err)
{
    walk *w = arg;
    (void)err;
    wa_wal_facts_add(w->facts, record);
    if (record->end > w->from)
        wa_wal_facts_add(w->rest, record);
    return WA_OK;
}

/* ---- the record across the walk's beginning ---- */

static wa_status
take_crossing(void *arg, const wa_record *record, wa_error *err)
{
    walk *w = arg;
    if (record->end <= w->crossing)
        return WA_OK;
    if (record->lsn < w->crossing)
        WA_TRY(add_record(w, record, err));
    return wa_error_set(err, WA_CANCELLED, "enough");
}

/* Read on from the segment before into the file until that record ends. A reader of its own: what
 * is in the spool is not judged by what lies before it. */
static wa_status
follow_crossing(walk *w, wa_segno segno, uint64_t size, wa_error *err)
{
    uint64_t segment_size = wa_spool_segment_size(w->spool);
    wa_error ignored = WA_ERROR_INIT;
    wa_wal_end state = WA_WAL_MORE;
    WA_CLEANUP(wa_walreader_freep) wa_walreader *r = wa_walreader_new(segment_size);
    WA_CLEANUP(wa_freep) uint8_t *before = wa_malloc(segment_size);
    wa_status status = w->calls->before(w->calls->arg, segno - 1, before, err);
    if (status == WA_NOT_FOUND || status == WA_CORRUPT) {
        wa_error_clear(err);
        return WA_OK;
    }
    WA_TRY(status);
    wa_walreader_expect_system(r, w->system_identifier);
    wa_walreader_start(r, w->crossing - segment_size, 0);
    status = wa_walreader_feed(r, before, segment_size, take_crossing, w, &state, &ignored);
    for (uint64_t at = 0; status == WA_OK && state == WA_WAL_MORE && at < size; at += WA_WAL_PAGE) {
        size_t len = (size_t)(size - at < WA_WAL_PAGE ? size - at : WA_WAL_PAGE);
        WA_TRY(wa_spool_read(w->spool, w->branch, segno, at, w->buffer, len, err));
        status = wa_walreader_feed(r, w->buffer, len, take_crossing, w, &state, &ignored);
    }
    return WA_OK;
}

static wa_status
add_crossing(walk *w, wa_segno segno, uint64_t size, wa_error *err)
{
    uint8_t info[2];
    if (size < WA_WAL_PAGE || segno == 0)
        return WA_OK;
    WA_TRY(wa_spool_read(w->spool, w->branch, segno, PAGE_INFO, info, sizeof info, err));
    if ((wa_get_u16le(info) & PAGE_CONTINUES) == 0)
        return WA_OK;
    w->crossing = wa_segment_start(segno, wa_spool_segment_size(w->spool));
    if (w->calls->before != NULL)
        WA_TRY(follow_crossing(w, segno, size, err));
    if (w->facts->records == 0)
        w->facts->overflow = w->rest->overflow = true;
    return WA_OK;
}

/* ---- the files ---- */

/* Feed one file. *ret_state says whether valid WAL ended in it. */
static wa_status
walk_file(walk *w, wa_segno segno, uint64_t size, wa_wal_end *ret_state, wa_error *err)
{
    wa_wal_end state = WA_WAL_MORE;
    wa_wal_facts_init(w->facts);
    wa_wal_facts_init(w->rest);
    wa_xxh_reset(w->hash);
    if (w->first)
        WA_TRY(add_crossing(w, segno, size, err));
    w->first = false;
    for (uint64_t offset = 0; offset < size && state != WA_WAL_END; offset += WALK_PORTION) {
        size_t len = (size_t)(size - offset < WALK_PORTION ? size - offset : WALK_PORTION);
        WA_TRY(wa_spool_read(w->spool, w->branch, segno, offset, w->buffer, len, err));
        wa_xxh_update(w->hash, w->buffer, len);
        WA_TRY(wa_walreader_feed(w->reader, w->buffer, len, add_record, w, &state, err));
    }
    *ret_state = state;
    return WA_OK;
}

static wa_lsn
at_most(wa_lsn a, wa_lsn b)
{
    return a < b ? a : b;
}

/* Where the walk has stopped: in a file that is not whole, or before one that is not there. */
static void
end_walk(const walk *w, wa_lsn start, uint64_t size, wa_spool_end_info *out)
{
    wa_lsn valid = out->parsed ? wa_walreader_end(w->reader) : start + size;
    out->end = at_most(valid > start ? valid : start, start + size);
    out->surplus = start + size - out->end;
    out->segment = *w->facts;
    out->rest = *w->rest;
}

wa_status
wa_spool_walk(wa_spool *spool, const wa_branch *branch, wa_segno segno, wa_lsn from,
              uint64_t system_identifier, const wa_spool_calls *calls, wa_spool_end_info *ret,
              wa_error *err)
{
    static const wa_spool_calls none = {0};
    uint64_t segment_size = wa_spool_segment_size(spool);
    WA_CLEANUP(walk_done)
    walk w = {.spool = spool,
              .branch = branch,
              .calls = calls != NULL ? calls : &none,
              .system_identifier = system_identifier,
              .first = true,
              .reader = wa_walreader_new(segment_size),
              .facts = wa_malloc(sizeof *w.facts),
              .rest = wa_malloc(sizeof *w.rest),
              .from = from,
              .hash = wa_xxh_new(),
              .buffer = wa_malloc(WALK_PORTION)};
    WA_CLEANUP(wa_freep) wa_spool_end_info *out = wa_calloc(1, sizeof *out);
    out->parsed = true;
    wa_walreader_expect_system(w.reader, system_identifier);
    wa_walreader_lenient(w.reader, true);
    wa_walreader_start(w.reader, wa_segment_start(segno, segment_size), 0);
    for (;; segno++) {
        wa_lsn start = wa_segment_start(segno, segment_size);
        wa_wal_end state = WA_WAL_MORE;
        uint64_t size = 0;
        char xxh3[WA_XXH_HEX];
        wa_status status = wa_spool_size(spool, branch, segno, &size, err);
        if (status != WA_OK && status != WA_NOT_FOUND)
            return status;
        WA_TRY(walk_file(&w, segno, size, &state, err));
        out->parsed = state != WA_WAL_UNPARSED;
        out->prev = wa_walreader_last_record(w.reader);
        if (size < segment_size || state == WA_WAL_END) {
            end_walk(&w, start, size, out);
            break;
        }
        if (w.calls->segment != NULL)
            WA_TRY(w.calls->segment(w.calls->arg, segno, out->parsed, w.facts, w.rest,
                                    wa_xxh_hex(w.hash, xxh3), err));
    }
    wa_error_clear(err);
    *ret = *out;
    return WA_OK;
}
