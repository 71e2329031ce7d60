/*
 * src/store/ranges.c - random access to an object: every read is one ranged get. Who doesn't know
 * the object's size asks for its end, and keeps it: what is in a container stands there.
 */
#include "walagent/store/store.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <string.h>

#define END_BYTES (64u * 1024)

typedef struct store_ranges {
    wa_ranges base;
    wa_store *store;
    char *key;
    wa_buf end; /* the object's last bytes, or nothing */
    atomic_uint_fast64_t fetched;
} store_ranges;

static wa_status
store_ranges_read(wa_ranges *ranges, uint64_t offset, void *out, size_t len, wa_error *err)
{
    store_ranges *r = (store_ranges *)ranges;
    if (len == 0)
        return WA_OK;
    uint64_t end_at = ranges->size - r->end.len;
    if (r->end.len > 0 && offset >= end_at && offset <= ranges->size &&
        len <= ranges->size - offset) {
        memcpy(out, r->end.data + (offset - end_at), len);
        return WA_OK;
    }
    size_t filled = 0;
    WA_CLEANUP(wa_sink_freep) wa_sink *sink = wa_sink_to_memory(out, len, &filled, r->key);
    wa_status status = wa_store_get_range_to(r->store, r->key, offset, len, sink, err);
    atomic_fetch_add(&r->fetched, filled);
    if (status == WA_INVALID || (status == WA_OK && filled < len))
        return wa_error_set(err, WA_CORRUPT,
                            "object \"%s\" ends before byte %" PRIu64 " that should be there",
                            r->key, offset + len);
    return status;
}

static void
store_ranges_free(wa_ranges *ranges)
{
    store_ranges *r = (store_ranges *)ranges;
    wa_buf_done(&r->end);
    wa_freep(&r->key);
    wa_freep(&r);
}

static const wa_ranges_ops store_ranges_ops = {store_ranges_read, store_ranges_free};

wa_status
wa_store_ranges(wa_store *store, const char *key, uint64_t size, wa_ranges **ret, wa_error *err)
{
    WA_CLEANUP(wa_buf_done) wa_buf end = WA_BUF_INIT(END_BYTES);
    if (size == UINT64_MAX) {
        WA_TRY(wa_store_get_tail(store, key, END_BYTES, &end, &size, NULL, err));
        if (end.len > size)
            return wa_error_set(err, WA_CORRUPT, "object \"%s\" gave more bytes than it has", key);
    }
    store_ranges *r = wa_calloc(1, sizeof *r);
    r->store = store;
    r->key = wa_strdup(key);
    r->base = (wa_ranges){&store_ranges_ops, size, r->key};
    r->end = end;
    atomic_init(&r->fetched, end.len);
    wa_buf_init(&end, END_BYTES);
    *ret = &r->base;
    return WA_OK;
}

uint64_t
wa_store_ranges_fetched(const wa_ranges *ranges)
{
    WA_ASSERT(ranges->ops == &store_ranges_ops);
    return atomic_load(&((const store_ranges *)ranges)->fetched);
}
