/*
 * src/store/mem.c - a store in memory: a sorted array under one lock. For tests of the layers
 * above.
 */
#include "driver_internal.h"

#include "walagent/base/file.h"
#include "walagent/base/thread.h"
#include "walagent/store/drivers.h"

#include <string.h>

typedef struct mem_object {
    char *key, *meta;
    char *data;
    uint64_t size;
    wa_time modified;
} mem_object;

typedef struct mem_upload mem_upload;
typedef struct mem_store {
    wa_store base;
    wa_mutex mutex;
    mem_object *objects; /* in key order */
    size_t count, capacity;
    mem_upload *uploads; /* begun and neither committed, aborted nor freed */
} mem_store;

struct mem_upload {
    wa_upload base;
    char *key, *meta;
    wa_parts parts;
    char **data; /* by number - 1 */
    wa_time begun;
    bool listed;
    mem_upload *next;
};

/* The index of the first object whose key is not before `key`. */
static size_t
lower_bound(const mem_store *s, const char *key)
{
    size_t low = 0, high = s->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (strcmp(s->objects[middle].key, key) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static mem_object *
find(const mem_store *s, const char *key)
{
    size_t at = lower_bound(s, key);
    return at < s->count && strcmp(s->objects[at].key, key) == 0 ? &s->objects[at] : NULL;
}

static wa_status
not_found(const char *key, wa_error *err)
{
    return wa_error_set(err, WA_NOT_FOUND, "object \"%s\" does not exist in \"mem://\"", key);
}

static void
object_done(mem_object *o)
{
    wa_freep(&o->key);
    wa_freep(&o->meta);
    wa_freep(&o->data);
}

/* Takes data. The lock is held. */
static void
set_object(mem_store *s, const char *key, char *data, uint64_t size, const char *meta)
{
    mem_object *o = find(s, key);
    if (o == NULL) {
        size_t at = lower_bound(s, key);
        if (s->count == s->capacity) {
            s->capacity = s->capacity ? 2 * s->capacity : 64;
            s->objects = wa_reallocarray(s->objects, s->capacity, sizeof *s->objects);
        }
        memmove(&s->objects[at + 1], &s->objects[at], (s->count - at) * sizeof *s->objects);
        s->count++;
        o = &s->objects[at];
    } else
        object_done(o);
    *o = (mem_object){wa_strdup(key), wa_strdup(meta ? meta : ""), data, size, wa_time_now()};
}

static wa_status
read_body(const wa_body *body, const char *key, char **ret, wa_error *err)
{
    WA_CLEANUP(wa_freep) char *data = wa_malloc(body->len + 1);
    if (body->data != NULL)
        memcpy(data, body->data, body->len);
    else
        WA_TRY(wa_pread_all(body->fd, data, body->len, (off_t)body->offset, key, err));
    *ret = WA_TAKE(data);
    return WA_OK;
}

static wa_status
taken(const char *key, wa_error *err)
{
    return wa_error_set(err, WA_EXISTS, "object \"%s\" already exists in \"mem://\"", key);
}

static wa_status
mem_put(wa_store *store, const char *key, const wa_body *body, const char *meta, wa_put_mode mode,
        wa_error *err)
{
    mem_store *s = (mem_store *)store;
    WA_CLEANUP(wa_freep) char *data = NULL;
    WA_TRY(read_body(body, key, &data, err));
    WA_LOCK(&s->mutex);
    if (mode == WA_PUT_CREATE && find(s, key) != NULL)
        return taken(key, err);
    set_object(s, key, WA_TAKE(data), body->len, meta);
    return WA_OK;
}

/* A copy of the wanted range, so that the sink is written without the lock. */
static wa_status
copy_range(mem_store *s, const char *key, bool tail, uint64_t offset, uint64_t *len, char **ret,
           uint64_t *ret_size, char **ret_meta, wa_error *err)
{
    WA_LOCK(&s->mutex);
    mem_object *o = find(s, key);
    if (o == NULL)
        return not_found(key, err);
    if (tail)
        offset = o->size - (*len < o->size ? *len : o->size);
    else if (offset > 0 && offset >= o->size)
        return wa_error_set(err, WA_INVALID, "range of object \"%s\" begins behind its end", key);
    if (*len > o->size - offset)
        *len = o->size - offset;
    *ret = wa_malloc(*len + 1);
    memcpy(*ret, o->data + offset, *len);
    *ret_size = o->size;
    *ret_meta = wa_strdup(o->meta);
    return WA_OK;
}

static wa_status
mem_get(wa_store *store, const char *key, bool tail, uint64_t offset, uint64_t len, wa_sink *to,
        uint64_t *ret_size, char **ret_meta, wa_error *err)
{
    WA_CLEANUP(wa_freep) char *data = NULL;
    WA_CLEANUP(wa_freep) char *meta = NULL;
    uint64_t size = 0;
    WA_TRY(copy_range((mem_store *)store, key, tail, offset, &len, &data, &size, &meta, err));
    WA_TRY(wa_sink_write(to, data, len, err));
    *ret_size = size;
    if (ret_meta != NULL)
        *ret_meta = WA_TAKE(meta);
    return WA_OK;
}

static wa_status
mem_head(wa_store *store, const char *key, uint64_t *ret_size, wa_time *ret_modified,
         char **ret_meta, wa_error *err)
{
    mem_store *s = (mem_store *)store;
    WA_LOCK(&s->mutex);
    mem_object *o = find(s, key);
    if (o == NULL)
        return not_found(key, err);
    *ret_size = o->size;
    *ret_modified = o->modified;
    if (ret_meta != NULL)
        *ret_meta = wa_strdup(o->meta);
    return WA_OK;
}

static wa_status
mem_remove(wa_store *store, const wa_strv *keys, wa_error *err)
{
    (void)err;
    mem_store *s = (mem_store *)store;
    WA_LOCK(&s->mutex);
    for (size_t i = 0; i < keys->count; i++) {
        mem_object *o = find(s, keys->items[i]);
        if (o == NULL)
            continue;
        object_done(o);
        s->count--;
        memmove(o, o + 1, (size_t)(s->objects + s->count - o) * sizeof *o);
    }
    return WA_OK;
}

/* The next object or prefix behind `last`; false at the end. Strings are new. */
static bool
next_object(mem_store *s, const wa_list_options *options, const char *last, char **ret_key,
            wa_object *ret)
{
    WA_LOCK(&s->mutex);
    size_t prefix_len = strlen(options->prefix), last_len = last ? strlen(last) : 0;
    /* A prefix that was listed is longer than the one listed under. */
    bool last_is_prefix = last_len > prefix_len && last[last_len - 1] == '/';
    size_t at =
        lower_bound(s, last != NULL && strcmp(last, options->prefix) > 0 ? last : options->prefix);
    for (; at < s->count; at++) {
        const mem_object *o = &s->objects[at];
        if (strncmp(o->key, options->prefix, prefix_len) != 0)
            return false;
        if (last != NULL && strcmp(o->key, last) <= 0)
            continue;
        if (options->delimited && last_is_prefix && wa_str_starts(o->key, last))
            continue;
        const char *slash = options->delimited ? strchr(o->key + prefix_len, '/') : NULL;
        *ret_key =
            slash != NULL ? wa_strndup(o->key, (size_t)(slash + 1 - o->key)) : wa_strdup(o->key);
        *ret = (wa_object){*ret_key, slash != NULL ? 0 : o->size, o->modified, NULL, NULL};
        return true;
    }
    return false;
}

static wa_status
mem_list(wa_store *store, const wa_list_options *options, wa_list_fn fn, void *arg, wa_error *err)
{
    WA_CLEANUP(wa_freep) char *last = wa_strdup(options->after);
    WA_CLEANUP(wa_freep) char *key = NULL;
    wa_object object;
    while (next_object((mem_store *)store, options, last, &key, &object)) {
        WA_TRY(fn(arg, &object, err));
        wa_freep(&last);
        last = WA_TAKE(key);
    }
    return WA_OK;
}

/* Off the list of live uploads. The lock is held. */
static void
unlist(mem_store *s, mem_upload *u)
{
    for (mem_upload **p = &s->uploads; *p != NULL; p = &(*p)->next) {
        if (*p == u) {
            *p = u->next;
            u->listed = false;
            return;
        }
    }
}

static wa_status
mem_upload_begin(wa_store *store, const char *key, const char *meta, uint64_t part_size,
                 wa_upload **ret, wa_error *err)
{
    (void)err;
    mem_store *s = (mem_store *)store;
    mem_upload *u = wa_calloc(1, sizeof *u);
    u->base.store = store;
    u->key = wa_strdup(key);
    u->meta = wa_strdup(meta);
    u->parts.part_size = part_size;
    u->begun = wa_time_now();
    u->listed = true;
    WA_LOCK(&s->mutex);
    u->next = s->uploads;
    s->uploads = u;
    *ret = &u->base;
    return WA_OK;
}

static wa_status
check_live(const mem_upload *u, wa_error *err)
{
    if (u->listed)
        return WA_OK;
    return wa_error_set(err, WA_NOT_FOUND, "upload of object \"%s\" was ended", u->key);
}

static wa_status
mem_upload_part(wa_upload *upload, unsigned number, const void *data, size_t len, wa_error *err)
{
    mem_upload *u = (mem_upload *)upload;
    mem_store *s = (mem_store *)upload->store;
    WA_LOCK(&s->mutex);
    WA_TRY(check_live(u, err));
    size_t before = u->parts.count;
    WA_TRY(wa_parts_add(&u->parts, u->key, number, len, err));
    if (u->parts.count > before) {
        u->data = wa_reallocarray(u->data, u->parts.count, sizeof *u->data);
        memset(&u->data[before], 0, (u->parts.count - before) * sizeof *u->data);
    }
    wa_freep(&u->data[number - 1]);
    u->data[number - 1] = wa_memdup(data, len);
    return WA_OK;
}

static wa_status
mem_upload_commit(wa_upload *upload, wa_error *err)
{
    mem_upload *u = (mem_upload *)upload;
    mem_store *s = (mem_store *)upload->store;
    WA_LOCK(&s->mutex);
    WA_TRY(check_live(u, err));
    uint64_t size = 0, at = 0;
    WA_TRY(wa_parts_check(&u->parts, u->key, &size, err));
    if (upload->keeps && find(s, u->key) != NULL)
        return taken(u->key, err);
    char *whole = wa_malloc(size + 1);
    for (size_t i = 0; i < u->parts.count; i++) {
        memcpy(whole + at, u->data[i], u->parts.sizes[i]);
        at += u->parts.sizes[i];
    }
    set_object(s, u->key, whole, size, u->meta);
    unlist(s, u);
    return WA_OK;
}

static void
mem_upload_free(wa_upload *upload)
{
    mem_upload *u = (mem_upload *)upload;
    mem_store *s = (mem_store *)upload->store;
    {
        WA_LOCK(&s->mutex);
        unlist(s, u);
    }
    for (size_t i = 0; i < u->parts.count; i++)
        wa_freep(&u->data[i]);
    wa_freep(&u->data);
    wa_freep(&u->parts.sizes);
    wa_freep(&u->key);
    wa_freep(&u->meta);
    wa_freep(&u);
}

static wa_status
mem_abort_uploads(wa_store *store, const char *prefix, wa_time before, size_t *ret_count,
                  wa_error *err)
{
    (void)err;
    mem_store *s = (mem_store *)store;
    WA_LOCK(&s->mutex);
    size_t count = 0;
    for (mem_upload *u = s->uploads, *next; u != NULL; u = next) {
        next = u->next;
        if (u->begun >= before || !wa_str_starts(u->key, prefix))
            continue;
        unlist(s, u);
        count++;
    }
    *ret_count = count;
    return WA_OK;
}

static void
mem_free(wa_store *store)
{
    mem_store *s = (mem_store *)store;
    for (size_t i = 0; i < s->count; i++)
        object_done(&s->objects[i]);
    wa_freep(&s->objects);
    wa_mutex_done(&s->mutex);
    wa_freep(&s);
}

static const wa_store_ops mem_ops = {
    .free = mem_free,
    .put = mem_put,
    .get = mem_get,
    .head = mem_head,
    .remove = mem_remove,
    .list = mem_list,
    .upload_begin = mem_upload_begin,
    .upload_part = mem_upload_part,
    .upload_commit = mem_upload_commit,
    .upload_free = mem_upload_free,
    .abort_uploads = mem_abort_uploads,
};

wa_store *
wa_store_mem_new(void)
{
    mem_store *s = wa_calloc(1, sizeof *s);
    s->base.ops = &mem_ops;
    s->base.traits = (wa_store_traits){"mem", "mem://", true, true, 1024 * 1024, 2};
    wa_mutex_init(&s->mutex);
    return &s->base;
}
