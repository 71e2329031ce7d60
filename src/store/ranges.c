/*
 * src/store/ranges.c - random access to an object: every read is one ranged get.
 */
#include "walagent/store/store.h"

#include <inttypes.h>

typedef struct store_ranges {
    wa_ranges base;
    wa_store *store;
    char *key;
} store_ranges;

static wa_status
store_ranges_read(wa_ranges *ranges, uint64_t offset, void *out, size_t len, wa_error *err)
{
    store_ranges *r = (store_ranges *)ranges;
    if (len == 0)
        return WA_OK;
    size_t filled = 0;
    WA_CLEANUP(wa_sink_freep) wa_sink *sink = wa_sink_to_memory(out, len, &filled, r->key);
    wa_status status = wa_store_get_range_to(r->store, r->key, offset, len, sink, err);
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
    wa_freep(&r->key);
    wa_freep(&r);
}

static const wa_ranges_ops store_ranges_ops = {store_ranges_read, store_ranges_free};

wa_status
wa_store_ranges(wa_store *store, const char *key, uint64_t size, wa_ranges **ret, wa_error *err)
{
    if (size == UINT64_MAX)
        WA_TRY(wa_store_head(store, key, &size, NULL, NULL, err));
    store_ranges *r = wa_calloc(1, sizeof *r);
    r->store = store;
    r->key = wa_strdup(key);
    r->base = (wa_ranges){&store_ranges_ops, size, r->key};
    *ret = &r->base;
    return WA_OK;
}
