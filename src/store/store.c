/*
 * src/store/store.c - the front of every driver: checks keys and facts, counts requests, calls
 * through.
 */
#include "driver_internal.h"

#include "walagent/store/drivers.h"

#include <inttypes.h>
#include <string.h>
#include <sys/random.h>

#define KEY_MAX 900
#define META_MAX 1024

/* One component of a key, without slashes. */
static bool
component_is_legal(const char *s, size_t len)
{
    if (len == 0 || s[0] == '.')
        return false;
    if (len >= 5 && memcmp(s + len - 5, ".meta", 5) == 0)
        return false;
    for (size_t i = 0; i < len; i++) {
        char c = s[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
              c == '.' || c == '_' || c == '=' || c == '-'))
            return false;
    }
    return true;
}

bool
wa_store_key_is_legal(const char *key)
{
    if (strlen(key) > KEY_MAX)
        return false;
    for (const char *s = key;; s++) {
        size_t len = strcspn(s, "/");
        if (!component_is_legal(s, len))
            return false;
        s += len;
        if (*s == '\0')
            return true;
    }
}

static wa_status
check_key(const char *key, wa_error *err)
{
    if (key != NULL && wa_store_key_is_legal(key))
        return WA_OK;
    return wa_error_set(err, WA_INVALID, "\"%s\" is not a valid object key", key ? key : "(null)");
}

/* A prefix may end anywhere inside a key; what it must not do is point outside the store. */
static wa_status
check_prefix(const char *prefix, wa_error *err)
{
    size_t len = strlen(prefix);
    bool legal = len <= KEY_MAX && prefix[0] != '/' && strstr(prefix, "//") == NULL &&
                 prefix[0] != '.' && strstr(prefix, "/.") == NULL;
    for (size_t i = 0; legal && i < len; i++)
        legal =
            prefix[i] == '/' || component_is_legal((char[]){prefix[i], '-'}, 2) || prefix[i] == '.';
    if (legal)
        return WA_OK;
    return wa_error_set(err, WA_INVALID, "\"%s\" is not a valid key prefix", prefix);
}

static wa_status
check_meta(const char *key, const char *meta, wa_error *err)
{
    if (meta == NULL)
        return WA_OK;
    size_t len = strlen(meta);
    if (len > META_MAX)
        return wa_error_set(err, WA_INVALID,
                            "public facts of object \"%s\" have %zu bytes, the limit is %d", key,
                            len, META_MAX);
    for (size_t i = 0; i < len; i++)
        if (meta[i] < 0x20 || meta[i] > 0x7e)
            return wa_error_set(err, WA_INVALID,
                                "public facts of object \"%s\" are not printable ASCII", key);
    return WA_OK;
}

wa_status
wa_store_open(const wa_store_options *options, wa_store **ret, wa_error *err)
{
    const char *url = options->url ? options->url : "";
    if (wa_str_starts(url, "file://"))
        return wa_store_file_open(options, ret, err);
    if (wa_str_starts(url, "s3://"))
        return wa_store_s3_open(options, ret, err);
    if (wa_str_eq(url, "mem://")) {
        *ret = wa_store_mem_new();
        return WA_OK;
    }
    (void)wa_error_set(err, WA_INVALID, "repository URL \"%s\" is not supported", url);
    return wa_error_hint(err, "Use file:///PATH or s3://BUCKET/PREFIX.");
}

void
wa_store_free(wa_store *store)
{
    if (store != NULL)
        store->ops->free(store);
}

const wa_store_traits *
wa_store_get_traits(const wa_store *store)
{
    return &store->traits;
}

void
wa_store_make_read_only(wa_store *store)
{
    store->read_only = true;
}

bool
wa_store_is_read_only(const wa_store *store)
{
    return store->read_only;
}

static wa_status
check_writable(const wa_store *store, const char *key, wa_error *err)
{
    if (!store->read_only)
        return WA_OK;
    return wa_error_set(err, WA_DENIED,
                        "could not write object \"%s\": \"%s\" was opened for reading alone", key,
                        store->traits.url);
}

wa_status
wa_store_put(wa_store *store, const char *key, const wa_body *body, const char *meta,
             wa_put_mode mode, wa_error *err)
{
    WA_TRY(check_key(key, err));
    WA_TRY(check_meta(key, meta, err));
    WA_TRY(check_writable(store, key, err));
    atomic_fetch_add(&store->puts, 1);
    return store->ops->put(store, key, body, meta, mode, err);
}

wa_status
wa_store_put_when(wa_store *store, const char *key, const wa_body *body, const char *meta,
                  wa_put_mode mode, wa_put_ready_fn ready, void *arg, wa_error *err)
{
    WA_TRY(check_key(key, err));
    WA_TRY(check_meta(key, meta, err));
    WA_TRY(check_writable(store, key, err));
    atomic_fetch_add(&store->puts, 1);
    if (store->ops->put_when != NULL)
        return store->ops->put_when(store, key, body, meta, mode, ready, arg, err);
    WA_TRY(ready(arg, err));
    return store->ops->put(store, key, body, meta, mode, err);
}

wa_status
wa_store_settle(wa_store *store, const wa_strv *keys, wa_error *err)
{
    for (size_t i = 0; i < keys->count; i++)
        WA_TRY(check_key(keys->items[i], err));
    bool nothing = store->ops->settle == NULL || keys->count == 0;
    return nothing ? WA_OK : store->ops->settle(store, keys, err);
}

int
wa_store_draft(wa_store *store)
{
    return store->ops->draft == NULL || store->read_only ? -1 : store->ops->draft(store);
}

wa_status
wa_store_draft_write(wa_store *store, int draft, uint64_t offset, const void *data, size_t len,
                     wa_error *err)
{
    WA_ASSERT(store->ops->draft_write != NULL);
    return store->ops->draft_write(store, draft, offset, data, len, err);
}

/* get and get_tail into a buffer that is as it was when the call fails. */
static wa_status
get_into(wa_store *store, const char *key, bool tail, uint64_t offset, uint64_t len, wa_buf *ret,
         uint64_t *ret_size, char **ret_meta, wa_error *err)
{
    WA_TRY(check_key(key, err));
    atomic_fetch_add(&store->gets, 1);
    size_t before = ret->len;
    WA_CLEANUP(wa_sink_freep) wa_sink *sink = wa_sink_to_buf(ret);
    wa_status status =
        store->ops->get(store, key, tail, offset, len, sink, ret_size, ret_meta, err);
    if (status != WA_OK && ret->len > before) {
        ret->len = before;
        ret->data[before] = '\0';
    }
    return status;
}

wa_status
wa_store_get(wa_store *store, const char *key, uint64_t offset, uint64_t len, wa_buf *ret,
             char **ret_meta, wa_error *err)
{
    uint64_t size;
    return get_into(store, key, false, offset, len, ret, &size, ret_meta, err);
}

wa_status
wa_store_get_tail(wa_store *store, const char *key, uint64_t len, wa_buf *ret, uint64_t *ret_size,
                  char **ret_meta, wa_error *err)
{
    return get_into(store, key, true, 0, len, ret, ret_size, ret_meta, err);
}

wa_status
wa_store_get_to(wa_store *store, const char *key, wa_sink *to, wa_error *err)
{
    return wa_store_get_range_to(store, key, 0, UINT64_MAX, to, err);
}

wa_status
wa_store_get_range_to(wa_store *store, const char *key, uint64_t offset, uint64_t len, wa_sink *to,
                      wa_error *err)
{
    WA_TRY(check_key(key, err));
    atomic_fetch_add(&store->gets, 1);
    uint64_t size;
    return store->ops->get(store, key, false, offset, len, to, &size, NULL, err);
}

wa_status
wa_store_head(wa_store *store, const char *key, uint64_t *ret_size, wa_time *ret_modified,
              char **ret_meta, wa_error *err)
{
    WA_TRY(check_key(key, err));
    atomic_fetch_add(&store->heads, 1);
    uint64_t size = 0;
    wa_time modified = WA_TIME_NONE;
    WA_TRY(store->ops->head(store, key, &size, &modified, ret_meta, err));
    if (ret_size != NULL)
        *ret_size = size;
    if (ret_modified != NULL)
        *ret_modified = modified;
    return WA_OK;
}

wa_status
wa_store_delete(wa_store *store, const wa_strv *keys, wa_error *err)
{
    for (size_t i = 0; i < keys->count; i++)
        WA_TRY(check_key(keys->items[i], err));
    if (keys->count == 0)
        return WA_OK;
    WA_TRY(check_writable(store, keys->items[0], err));
    atomic_fetch_add(&store->deletes, 1);
    return store->ops->remove(store, keys, err);
}

#define LIST_PAGE 1000u

/* Stands between a driver's listing and the caller's function. */
typedef struct list_filter {
    wa_list_fn fn;
    void *arg;
    const char *after;
    bool enough;
    size_t count; /* objects and prefixes that came */
} list_filter;

static wa_status
filter_object(void *arg, const wa_object *object, wa_error *err)
{
    list_filter *filter = arg;
    if (filter->after != NULL && strcmp(object->key, filter->after) <= 0)
        return WA_OK;
    filter->count++;
    wa_status status = filter->fn(filter->arg, object, err);
    if (status == WA_CANCELLED && err->status != WA_CANCELLED)
        filter->enough = true;
    return status;
}

wa_status
wa_store_list(wa_store *store, const wa_list_options *options, wa_list_fn fn, void *arg,
              wa_error *err)
{
    wa_list_options checked = *options;
    if (checked.prefix == NULL)
        checked.prefix = "";
    if (checked.after != NULL && checked.after[0] == '\0')
        checked.after = NULL;
    WA_TRY(check_prefix(checked.prefix, err));
    atomic_fetch_add(&store->lists, 1);
    wa_error_clear(err);
    list_filter filter = {.fn = fn, .arg = arg, .after = checked.after};
    wa_status status = store->ops->list(store, &checked, filter_object, &filter, err);
    /* One request a page. */
    size_t page = checked.page != 0 ? checked.page : LIST_PAGE;
    atomic_fetch_add(&store->lists, filter.count > 0 ? (filter.count - 1) / page : 0);
    return filter.enough && status == WA_CANCELLED ? WA_OK : status;
}

wa_status
wa_upload_begin(wa_store *store, const char *key, const char *meta, uint64_t part_size,
                wa_upload **ret, wa_error *err)
{
    WA_TRY(check_key(key, err));
    WA_TRY(check_meta(key, meta, err));
    WA_TRY(check_writable(store, key, err));
    WA_ASSERT(part_size > 0);
    atomic_fetch_add(&store->puts, 1);
    return store->ops->upload_begin(store, key, meta, part_size, ret, err);
}

wa_status
wa_upload_part(wa_upload *upload, unsigned number, const void *data, size_t len, wa_error *err)
{
    if (number < 1 || number > WA_STORE_PARTS_MAX) {
        (void)wa_error_set(err, WA_INVALID, "part %u is out of the range 1 to %d", number,
                           WA_STORE_PARTS_MAX);
        return wa_error_hint(err, "The object is too large for parts of this size.");
    }
    atomic_fetch_add(&upload->store->puts, 1);
    return upload->store->ops->upload_part(upload, number, data, len, err);
}

wa_status
wa_upload_commit(wa_upload *upload, wa_error *err)
{
    atomic_fetch_add(&upload->store->puts, 1);
    return upload->store->ops->upload_commit(upload, err);
}

void
wa_upload_free(wa_upload *upload)
{
    if (upload != NULL)
        upload->store->ops->upload_free(upload);
}

wa_status
wa_store_abort_uploads(wa_store *store, const char *prefix, wa_time before, size_t *ret_count,
                       wa_error *err)
{
    WA_TRY(check_prefix(prefix, err));
    atomic_fetch_add(&store->lists, 1);
    size_t count = 0;
    WA_TRY(store->ops->abort_uploads(store, prefix, before, &count, err));
    if (ret_count != NULL)
        *ret_count = count;
    return WA_OK;
}

/* The second, different object must be refused and the first one still be there. */
static wa_status
probe_twice(wa_store *store, const char *key, bool *ret_conditional, wa_error *err)
{
    static const char first[] = "first", second[] = "second";
    wa_body body = {first, sizeof first - 1, -1, 0};
    wa_status status = wa_store_put(store, key, &body, NULL, WA_PUT_CREATE, err);
    if (status == WA_OK) {
        body = (wa_body){second, sizeof second - 1, -1, 0};
        status = wa_store_put(store, key, &body, NULL, WA_PUT_CREATE, err);
    }
    if (status == WA_UNSUPPORTED || status == WA_OK) {
        *ret_conditional = false;
        return WA_OK;
    }
    if (status != WA_EXISTS)
        return status;
    WA_CLEANUP(wa_buf_done) wa_buf found = WA_BUF_INIT(64);
    WA_TRY(wa_store_get(store, key, 0, UINT64_MAX, &found, NULL, err));
    *ret_conditional = wa_str_eq(wa_buf_str(&found), first);
    return WA_OK;
}

wa_status
wa_store_probe(wa_store *store, const char *prefix, bool *ret_conditional, wa_error *err)
{
    if (store->ops->probe != NULL)
        return store->ops->probe(store, prefix, ret_conditional, err);
    uint64_t random = 0;
    if (getrandom(&random, sizeof random, 0) != (ssize_t)sizeof random)
        return wa_error_set(err, WA_IO, "could not get random bytes");
    WA_CLEANUP(wa_freep) char *key = wa_format("%sprobe-%016" PRIx64, prefix, random);
    bool before = store->traits.conditional_put, conditional = false;
    wa_store_set_conditional(store, true);
    wa_status status = probe_twice(store, key, &conditional, err);
    conditional = conditional && store->traits.conditional_put; /* a driver may have fallen back */
    wa_store_set_conditional(store, status == WA_OK ? conditional : before);
    WA_CLEANUP(wa_strv_done) wa_strv keys = {0};
    wa_strv_add(&keys, key);
    wa_error second = WA_ERROR_INIT;
    wa_status removed = wa_store_delete(store, &keys, &second);
    if (status == WA_OK && removed != WA_OK) {
        *err = second;
        return wa_error_wrap(err, "could not remove the probe object");
    }
    if (status == WA_OK)
        *ret_conditional = conditional;
    return status;
}

void
wa_store_set_conditional(wa_store *store, bool conditional)
{
    store->traits.conditional_put = conditional;
    if (store->ops->set_conditional != NULL)
        store->ops->set_conditional(store, conditional);
}

uint64_t
wa_store_requests(const wa_store *store, const char *kind)
{
    if (wa_str_eq(kind, "put"))
        return atomic_load(&store->puts);
    if (wa_str_eq(kind, "get"))
        return atomic_load(&store->gets);
    if (wa_str_eq(kind, "head"))
        return atomic_load(&store->heads);
    if (wa_str_eq(kind, "list"))
        return atomic_load(&store->lists);
    WA_ASSERT(wa_str_eq(kind, "delete"));
    return atomic_load(&store->deletes);
}

wa_status
wa_parts_add(wa_parts *parts, const char *key, unsigned number, uint64_t len, wa_error *err)
{
    if (len > parts->part_size)
        return wa_error_set(err, WA_INVALID,
                            "part %u of object \"%s\" has %" PRIu64 " bytes, more than %" PRIu64,
                            number, key, len, parts->part_size);
    if (number > parts->count) {
        parts->sizes = wa_reallocarray(parts->sizes, number, sizeof *parts->sizes);
        for (size_t i = parts->count; i < number; i++)
            parts->sizes[i] = UINT64_MAX;
        parts->count = number;
    }
    parts->sizes[number - 1] = len;
    return WA_OK;
}

wa_status
wa_parts_check(const wa_parts *parts, const char *key, uint64_t *ret_size, wa_error *err)
{
    if (parts->count == 0)
        return wa_error_set(err, WA_INVALID, "upload of object \"%s\" has no part", key);
    uint64_t size = 0;
    for (size_t i = 0; i < parts->count; i++) {
        if (parts->sizes[i] == UINT64_MAX)
            return wa_error_set(err, WA_INVALID, "part %zu of object \"%s\" is missing", i + 1,
                                key);
        if (i + 1 < parts->count && parts->sizes[i] != parts->part_size)
            return wa_error_set(err, WA_INVALID, "part %zu of object \"%s\" is short", i + 1, key);
        size += parts->sizes[i];
    }
    *ret_size = size;
    return WA_OK;
}
