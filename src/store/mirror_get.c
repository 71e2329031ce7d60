/*
 * src/store/mirror_get.c - reading one object: from the main store, else from a mirror.
 *
 * What a strict store finds is brought to the mirrors before it is shown. One that is not strict
 * takes the object from the first mirror that has it when the main store can't give it: under one
 * key every member has the same bytes, so even a read that broke off goes on elsewhere. That an
 * object is absent is the main store's word alone.
 */
#include "mirror_internal.h"

#include <string.h>

#define AWAY_MS 10000 /* so long a main store that did not answer is asked last */

static wa_status
tally_write(wa_sink *sink, const void *data, size_t len, wa_error *err)
{
    wa_tally *tally = (wa_tally *)sink;
    wa_status status = wa_sink_write(tally->to, data, len, err);
    if (status == WA_OK)
        tally->passed += len;
    else
        tally->broken = true;
    return status;
}

static void
tally_free(wa_sink *sink)
{
    (void)sink;
}

void
wa_tally_init(wa_tally *tally, wa_sink *to)
{
    static const wa_sink_ops ops = {tally_write, NULL, tally_free};
    *tally = (wa_tally){{&ops}, to, 0, false};
}

typedef struct reading {
    const char *key;
    bool tail;
    uint64_t offset, len;
    wa_tally tally;
    uint64_t size;
    bool want_meta;
    char *meta;
} reading;

static void
reading_done(reading *r)
{
    wa_freep(&r->meta);
}

static wa_status
read_from(wa_mirror_store *m, size_t i, reading *r, wa_error *err)
{
    wa_store *store = m->members[i].store;
    atomic_fetch_add(&store->gets, 1);
    return wa_mirror_note(m, i,
                          store->ops->get(store, r->key, r->tail, r->offset, r->len, &r->tally.base,
                                          &r->size, r->want_meta ? &r->meta : NULL, err),
                          err);
}

/* What is missing of a read that broke off in another member. */
static wa_status
read_rest_from(wa_mirror_store *m, size_t i, reading *r, wa_error *err)
{
    if (r->tally.passed == 0)
        return read_from(m, i, r, err);
    reading rest = *r;
    WA_CLEANUP(wa_freep) char *meta = NULL;
    uint64_t size = 0;
    WA_TRY(wa_mirror_note(m, i, wa_store_head(m->members[i].store, r->key, &size, NULL, &meta, err),
                          err));
    uint64_t begin = !r->tail ? r->offset : r->len < size ? size - r->len : 0;
    uint64_t end = r->tail || r->len > size - begin ? size : begin + r->len;
    rest.tail = false;
    rest.offset = begin + r->tally.passed;
    rest.want_meta = false;
    if (rest.offset < end) {
        rest.len = end - rest.offset;
        wa_status status = read_from(m, i, &rest, err);
        r->tally.passed = rest.tally.passed;
        r->tally.broken = rest.tally.broken;
        WA_TRY(status);
    }
    r->size = size;
    wa_freep(&r->meta);
    r->meta = WA_TAKE(meta);
    return WA_OK;
}

/* From the first mirror that has it; the main store's failure stays when none does. */
static bool
read_elsewhere(wa_mirror_store *m, reading *r, wa_error *err)
{
    for (size_t i = 1; i < m->count; i++) {
        if (!wa_mirror_may_serve(m, i))
            continue;
        uint64_t before = r->tally.passed;
        wa_error failed = WA_ERROR_INIT;
        wa_status status = read_rest_from(m, i, r, &failed);
        if (status == WA_OK) {
            wa_mirror_count_served(m, i, false);
            return true;
        }
        if (r->tally.broken)
            *err = failed;
        if (r->tally.broken || (status == WA_CORRUPT && r->tally.passed > before))
            return false; /* what was given cannot be taken back */
    }
    return false;
}

bool
wa_mirror_is_away(wa_mirror_store *m)
{
    WA_LOCK(&m->mutex);
    return !m->strict && m->away_until != 0 && wa_mono_now() < m->away_until;
}

void
wa_mirror_set_away(wa_mirror_store *m, wa_status status)
{
    WA_LOCK(&m->mutex);
    m->away_until = status == WA_UNAVAILABLE ? wa_mono_now() + AWAY_MS : 0;
}

static wa_status
read_anywhere(wa_mirror_store *m, reading *r, wa_error *err)
{
    bool away = wa_mirror_is_away(m);
    if (away && read_elsewhere(m, r, err))
        return WA_OK;
    if (r->tally.broken)
        return err->status;
    if (r->tally.passed > 0)
        return wa_error_set(err, WA_UNAVAILABLE, "object \"%s\" was read in part", r->key);
    wa_status status = read_from(m, 0, r, err);
    wa_mirror_set_away(m, status);
    if (status == WA_OK || m->strict || r->tally.broken || !wa_mirror_may_fall_back(status) ||
        (status == WA_CORRUPT && r->tally.passed > 0))
        return status;
    if (!away && read_elsewhere(m, r, err)) {
        wa_error_clear(err);
        return WA_OK;
    }
    return err->status;
}

wa_status
wa_mirror_get(wa_store *store, const char *key, bool tail, uint64_t offset, uint64_t len,
              wa_sink *to, uint64_t *ret_size, char **ret_meta, wa_error *err)
{
    wa_mirror_store *m = (wa_mirror_store *)store;
    WA_CLEANUP(reading_done)
    reading r = {
        .key = key, .tail = tail, .offset = offset, .len = len, .want_meta = ret_meta != NULL};
    wa_tally_init(&r.tally, to);
    WA_TRY(read_anywhere(m, &r, err));
    if (m->strict)
        WA_TRY(wa_mirror_everywhere(m, key, err));
    *ret_size = r.size;
    if (ret_meta != NULL)
        *ret_meta = r.meta != NULL ? WA_TAKE(r.meta) : wa_strdup("");
    return WA_OK;
}

static wa_status
head_from(wa_mirror_store *m, size_t i, const char *key, uint64_t *ret_size, wa_time *ret_modified,
          char **ret_meta, wa_error *err)
{
    return wa_mirror_note(
        m, i, wa_store_head(m->members[i].store, key, ret_size, ret_modified, ret_meta, err), err);
}

static bool
head_elsewhere(wa_mirror_store *m, const char *key, uint64_t *ret_size, wa_time *ret_modified,
               char **ret_meta)
{
    for (size_t i = 1; i < m->count; i++) {
        wa_error ignored = WA_ERROR_INIT;
        if (!wa_mirror_may_serve(m, i) ||
            head_from(m, i, key, ret_size, ret_modified, ret_meta, &ignored) != WA_OK)
            continue;
        wa_mirror_count_served(m, i, false);
        return true;
    }
    return false;
}

wa_status
wa_mirror_head(wa_store *store, const char *key, uint64_t *ret_size, wa_time *ret_modified,
               char **ret_meta, wa_error *err)
{
    wa_mirror_store *m = (wa_mirror_store *)store;
    bool away = wa_mirror_is_away(m);
    if (away && head_elsewhere(m, key, ret_size, ret_modified, ret_meta))
        return WA_OK;
    uint64_t size = 0;
    wa_time modified = WA_TIME_NONE;
    WA_CLEANUP(wa_freep) char *meta = NULL;
    wa_status status = head_from(m, 0, key, &size, &modified, ret_meta != NULL ? &meta : NULL, err);
    wa_mirror_set_away(m, status);
    if (!m->strict && !away && wa_mirror_may_fall_back(status) &&
        head_elsewhere(m, key, ret_size, ret_modified, ret_meta)) {
        wa_error_clear(err);
        return WA_OK;
    }
    WA_TRY(status);
    if (m->strict)
        WA_TRY(wa_mirror_everywhere(m, key, err));
    *ret_size = size;
    *ret_modified = modified;
    if (ret_meta != NULL)
        *ret_meta = WA_TAKE(meta);
    return WA_OK;
}
