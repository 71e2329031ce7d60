/*
 * src/store/ranges.c - random access to an object: every read is one ranged get.
 */
#include "walagent/store/store.h"

#include <inttypes.h>
#include <string.h>

typedef struct store_ranges {
    wa_ranges base;
    wa_store *store;
    char *key;
} store_ranges;

/* Bytes go straight to the reader's memory. */
typedef struct memory_sink {
    wa_sink base;
    char *out;
    size_t len, capacity;
} memory_sink;

static wa_status
memory_write(wa_sink *sink, const void *data, size_t len, wa_error *err)
{
    memory_sink *m = (memory_sink *)sink;
    if (len > m->capacity - m->len)
        return wa_error_set(err, WA_CORRUPT, "the store sent more bytes than were asked for");
    memcpy(m->out + m->len, data, len);
    m->len += len;
    return WA_OK;
}

static wa_status
memory_finish(wa_sink *sink, wa_error *err)
{
    (void)sink;
    (void)err;
    return WA_OK;
}

static void
memory_free(wa_sink *sink)
{
    (void)sink; /* lives on the stack */
}

static const wa_sink_ops memory_ops = {memory_write, memory_finish, memory_free};

static wa_status
store_ranges_read(wa_ranges *ranges, uint64_t offset, void *out, size_t len, wa_error *err)
{
    store_ranges *r = (store_ranges *)ranges;
    if (len == 0)
        return WA_OK;
    memory_sink sink = {{&memory_ops}, out, 0, len};
    wa_status status = wa_store_get_range_to(r->store, r->key, offset, len, &sink.base, err);
    if (status == WA_INVALID || (status == WA_OK && sink.len < len))
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
