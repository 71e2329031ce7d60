/*
 * src/store/mirror_copy.c - is an object in a mirror, with the main store's bytes; and bringing it
 * there.
 */
#include "mirror_internal.h"

#include <inttypes.h>
#include <string.h>

#define PIECE (1u << 20)

/* ---- keys that are known to be everywhere ---- */

static size_t
slot_of(const char *key)
{
    uint64_t hash = 14695981039346656037ull; /* FNV-1a */
    for (; *key != '\0'; key++)
        hash = (hash ^ (unsigned char)*key) * 1099511628211ull;
    return (size_t)(hash % WA_MIRROR_KNOWN);
}

bool
wa_mirror_knows(wa_mirror_store *m, const char *key)
{
    WA_LOCK(&m->mutex);
    return wa_str_eq(m->known[slot_of(key)], key);
}

void
wa_mirror_remember(wa_mirror_store *m, const char *key)
{
    char **slot = &m->known[slot_of(key)];
    WA_LOCK(&m->mutex);
    if (wa_str_eq(*slot, key))
        return;
    wa_freep(slot);
    *slot = wa_strdup(key);
}

void
wa_mirror_forget(wa_mirror_store *m, const char *key)
{
    char **slot = &m->known[slot_of(key)];
    WA_LOCK(&m->mutex);
    if (wa_str_eq(*slot, key))
        wa_freep(slot);
}

/* ---- comparing ---- */

static wa_status
read_piece(wa_store *store, const char *key, uint64_t offset, uint64_t len, wa_buf *ret,
           wa_error *err)
{
    wa_buf_reset(ret);
    WA_TRY(wa_store_get(store, key, offset, len, ret, NULL, err));
    if (ret->len == len)
        return WA_OK;
    return wa_error_set(err, WA_CORRUPT, "object \"%s\" gave %zu bytes instead of %" PRIu64, key,
                        ret->len, len);
}

static wa_status
same_bytes(wa_mirror_store *m, size_t i, const char *key, uint64_t size, bool *ret, wa_error *err)
{
    WA_CLEANUP(wa_buf_done) wa_buf ours = WA_BUF_INIT(PIECE);
    WA_CLEANUP(wa_buf_done) wa_buf theirs = WA_BUF_INIT(PIECE);
    for (uint64_t offset = 0; offset < size; offset += PIECE) {
        uint64_t len = size - offset < PIECE ? size - offset : PIECE;
        WA_TRY(read_piece(m->members[0].store, key, offset, len, &ours, err));
        WA_TRY(wa_mirror_note_write(
            m, i, read_piece(m->members[i].store, key, offset, len, &theirs, err), err));
        if (memcmp(ours.data, theirs.data, len) != 0) {
            *ret = false;
            return WA_OK;
        }
    }
    *ret = true;
    return WA_OK;
}

static wa_status
differs(const wa_mirror_store *m, size_t i, const char *key, wa_error *err)
{
    const wa_mirror_member *member = &m->members[i];
    (void)wa_error_set(err, WA_FAILED,
                       "mirror \"%s\": object \"%s\" in \"%s\" is another one than the main "
                       "repository's",
                       member->name, key, member->store->traits.url);
    return wa_error_hint(
        err,
        "Nothing was overwritten. If the place belongs to another archive, correct url in "
        "[repository %s]; if it was a main repository before, move the object away and run "
        "\"walagent mirror\".",
        member->name);
}

/* Public facts that carry the content's hash, and are the same, speak for the content. */
static bool
facts_identify(const char *ours, const char *theirs)
{
    return wa_str_eq(ours, theirs) && strstr(ours, "\"xxh3\"") != NULL;
}

/* ---- copying ---- */

/* What a copy came to that replaces nothing. */
static wa_status
settle(wa_mirror_store *m, size_t i, const char *key, wa_status status, wa_error *err)
{
    if (status != WA_EXISTS)
        return status;
    wa_error_clear(err); /* another process was faster */
    return wa_mirror_mend(m, i, key, err);
}

/* Only counted, not hashed: the facts' xxh3 is that of the unpacked content (of WAL and backups),
 * of which this layer knows nothing. What rots in the main store is found there by whoever reads
 * it, and by verify. */
static wa_status
put_copy(wa_mirror_store *m, size_t i, const char *key, uint64_t size, const char *meta,
         wa_put_mode mode, wa_error *err)
{
    WA_CLEANUP(wa_buf_done) wa_buf content = WA_BUF_INIT(size + 1);
    WA_TRY(wa_store_get(m->members[0].store, key, 0, UINT64_MAX, &content, NULL, err));
    if (content.len != size)
        return wa_error_set(err, WA_CORRUPT, "object \"%s\" gave %zu bytes instead of %" PRIu64,
                            key, content.len, size);
    wa_body body = {wa_buf_str(&content), content.len, -1, 0};
    wa_status status = wa_mirror_note_write(
        m, i, wa_store_put(m->members[i].store, key, &body, meta, mode, err), err);
    return settle(m, i, key, status, err);
}

static wa_status
stream_copy(wa_mirror_store *m, size_t i, const char *key, uint64_t size, const char *meta,
            wa_put_mode mode, wa_error *err)
{
    WA_CLEANUP(wa_sink_freep) wa_sink *sink = NULL;
    wa_tally tally;
    WA_TRY(wa_mirror_note_write(
        m, i, wa_store_sink_new(m->members[i].store, key, meta, 0, &sink, err), err));
    if (mode == WA_PUT_CREATE)
        wa_store_sink_keep(sink);
    wa_tally_init(&tally, sink);
    wa_status status = wa_store_get_to(m->members[0].store, key, &tally.base, err);
    if (tally.broken)
        return wa_mirror_note_write(m, i, status, err);
    WA_TRY(status);
    if (tally.passed != size)
        return wa_error_set(err, WA_CORRUPT,
                            "object \"%s\" gave %" PRIu64 " bytes instead of "
                            "%" PRIu64,
                            key, tally.passed, size);
    return settle(m, i, key, wa_mirror_note_write(m, i, wa_sink_finish(sink, err), err), err);
}

static wa_status
copy(wa_mirror_store *m, size_t i, const char *key, wa_put_mode mode, wa_error *err)
{
    uint64_t size = 0;
    WA_CLEANUP(wa_freep) char *meta = NULL;
    WA_TRY(wa_store_head(m->members[0].store, key, &size, NULL, &meta, err));
    const char *facts = wa_str_empty(meta) ? NULL : meta;
    if (size <= m->members[i].store->traits.part_size)
        WA_TRY(put_copy(m, i, key, size, facts, mode, err));
    else
        WA_TRY(stream_copy(m, i, key, size, facts, mode, err));
    WA_LOCK(&m->mutex);
    m->members[i].copied++;
    return WA_OK;
}

wa_status
wa_mirror_bring(wa_mirror_store *m, size_t i, const char *key, wa_error *err)
{
    return copy(m, i, key, WA_PUT_CREATE, err);
}

typedef enum likeness { SAME, MISSING, WITHOUT_FACTS, OTHER } likeness;

static wa_status
liken(wa_mirror_store *m, size_t i, const char *key, likeness *ret, wa_error *err)
{
    uint64_t ours = 0, theirs = 0;
    WA_CLEANUP(wa_freep) char *our_meta = NULL;
    WA_CLEANUP(wa_freep) char *their_meta = NULL;
    WA_TRY(wa_store_head(m->members[0].store, key, &ours, NULL, &our_meta, err));
    wa_status status = wa_mirror_note(
        m, i, wa_store_head(m->members[i].store, key, &theirs, NULL, &their_meta, err), err);
    if (status == WA_NOT_FOUND) {
        wa_error_clear(err);
        *ret = MISSING;
        return WA_OK;
    }
    WA_TRY(status);
    bool same = ours == theirs, identified = same && facts_identify(our_meta, their_meta);
    if (same && !identified)
        WA_TRY(same_bytes(m, i, key, ours, &same, err));
    *ret = !same ? OTHER : wa_str_eq(our_meta, their_meta) ? SAME : WITHOUT_FACTS;
    return WA_OK;
}

/* What can be made again of other objects: another one was made of the same backup or WAL. */
static bool
is_cache(const char *key)
{
    return strstr(key, "/index/") != NULL;
}

wa_status
wa_mirror_compare(wa_mirror_store *m, size_t i, const char *key, bool *ret, wa_error *err)
{
    likeness like = SAME;
    WA_TRY(liken(m, i, key, &like, err));
    if (like == OTHER && !is_cache(key))
        return differs(m, i, key, err);
    *ret = like == SAME || like == WITHOUT_FACTS;
    return WA_OK;
}

wa_status
wa_mirror_mend(wa_mirror_store *m, size_t i, const char *key, wa_error *err)
{
    likeness like = SAME;
    WA_TRY(liken(m, i, key, &like, err));
    if (like == OTHER && !is_cache(key))
        return differs(m, i, key, err);
    if (like == SAME)
        return WA_OK;
    return copy(m, i, key, like == MISSING ? WA_PUT_CREATE : WA_PUT_REPLACE, err);
}

wa_status
wa_mirror_judged(wa_status status, wa_error *err)
{
    if (status != WA_CORRUPT)
        return status;
    err->status = WA_UNAVAILABLE;
    return WA_UNAVAILABLE;
}

static wa_status
in_mirror(wa_mirror_store *m, size_t i, const char *key, wa_error *err)
{
    WA_TRY(wa_mirror_ready(m, i, err));
    return wa_mirror_mend(m, i, key, err);
}

wa_status
wa_mirror_settle(wa_mirror_store *m, size_t i, const wa_strv *keys, wa_error *err)
{
    wa_store *mirror = m->members[i].store;
    wa_status status = wa_mirror_note(m, i, wa_store_settle(mirror, keys, err), err);
    if (status != WA_NOT_FOUND)
        return status;
    wa_error_clear(err);
    for (size_t k = 0; k < keys->count; k++)
        WA_TRY(wa_mirror_judged(in_mirror(m, i, keys->items[k], err), err));
    return wa_mirror_note_write(m, i, wa_store_settle(mirror, keys, err), err);
}

wa_status
wa_mirror_everywhere(wa_mirror_store *m, const char *key, wa_error *err)
{
    if (wa_mirror_knows(m, key))
        return WA_OK;
    for (size_t i = 1; i < m->count; i++)
        WA_TRY(wa_mirror_judged(in_mirror(m, i, key, err), err));
    wa_mirror_remember(m, key);
    return WA_OK;
}
