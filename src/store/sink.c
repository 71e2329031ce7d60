/*
 * src/store/sink.c - a sink that becomes an object: one put when it is small, an upload in parts
 * sent by own threads when it is not.
 *
 * Buffers circulate: the writer fills one, `work` carries it to a thread, `idle` brings it back.
 * There are threads + 1 of them, made when first needed, so the writer waits rather than grows.
 *
 * Guarantees:
 *   (1) the object is visible only after a finish that returned OK.
 *   (2) memory: at most part_size x (threads + 1).
 *   (3) the first failure of a thread is what the next write or finish returns.
 */
#include "driver_internal.h"

#include "walagent/base/thread.h"

#include <stdlib.h>
#include <string.h>

#define PART_ALIGN 4096 /* so that a part can be written without a copy */

typedef struct part {
    unsigned number;
    size_t len;
    char *data; /* part_size bytes */
} part;

typedef struct store_sink {
    wa_sink base;
    wa_store *store;
    char *key, *meta;
    size_t part_size, threads;
    bool keeps; /* what is there */

    part *parts;
    size_t made;   /* parts with memory */
    part *filling; /* NULL: none yet */
    unsigned next_number;

    wa_upload *upload; /* NULL while all fits into one part */
    wa_queue *work, *idle;
    pthread_t *workers;
    size_t started;

    wa_mutex mutex;
    wa_error failure; /* status WA_OK: none; guarded by mutex */
} store_sink;

static wa_status
check_failure(store_sink *s, wa_error *err)
{
    WA_LOCK(&s->mutex);
    if (s->failure.status != WA_OK)
        *err = s->failure;
    return s->failure.status;
}

static void *
send_parts(void *arg)
{
    store_sink *s = arg;
    void *item;
    while (wa_queue_pop(s->work, &item)) {
        part *p = item;
        wa_error err = WA_ERROR_INIT;
        /* After a failure the rest only goes back, so that the writer does not wait for ever. */
        if (check_failure(s, &err) == WA_OK &&
            wa_upload_part(s->upload, p->number, p->data, p->len, &err) != WA_OK) {
            WA_LOCK(&s->mutex);
            if (s->failure.status == WA_OK)
                s->failure = err;
        }
        bool returned = wa_queue_push(s->idle, p);
        WA_ASSERT(returned);
    }
    return NULL;
}

/* An empty part to fill: a new one as long as there are fewer than allowed, else one that is back.
 */
static wa_status
next_part(store_sink *s, wa_error *err)
{
    part *p = NULL;
    if (s->made < s->threads + 1) {
        p = &s->parts[s->made];
        p->data = aligned_alloc(PART_ALIGN, s->part_size + PART_ALIGN - s->part_size % PART_ALIGN);
        if (p->data == NULL)
            return wa_error_set(err, WA_NO_SPACE, "could not get memory for a part of %zu bytes",
                                s->part_size);
        s->made++;
    } else {
        void *item;
        bool more = wa_queue_pop(s->idle, &item);
        WA_ASSERT(more);
        p = item;
    }
    p->number = s->next_number++;
    p->len = 0;
    s->filling = p;
    return WA_OK;
}

static wa_status
begin_upload(store_sink *s, wa_error *err)
{
    WA_TRY(wa_upload_begin(s->store, s->key, s->meta, s->part_size, &s->upload, err));
    s->upload->keeps = s->keeps;
    s->work = wa_queue_new(s->threads + 1);
    s->idle = wa_queue_new(s->threads + 1);
    s->workers = wa_calloc(s->threads + 1, sizeof *s->workers);
    for (; s->started < s->threads; s->started++)
        WA_TRY(wa_thread_start(&s->workers[s->started], "upload", send_parts, s, err));
    return WA_OK;
}

static wa_status
send_filling(store_sink *s, wa_error *err)
{
    if (s->upload == NULL)
        WA_TRY(begin_upload(s, err));
    WA_TRY(check_failure(s, err));
    part *p = WA_TAKE(s->filling);
    if (s->threads > 0) {
        bool queued = wa_queue_push(s->work, p);
        WA_ASSERT(queued);
        return WA_OK;
    }
    WA_TRY(wa_upload_part(s->upload, p->number, p->data, p->len, err));
    bool returned = wa_queue_push(s->idle, p);
    WA_ASSERT(returned);
    return WA_OK;
}

static wa_status
store_sink_write(wa_sink *sink, const void *data, size_t len, wa_error *err)
{
    store_sink *s = (store_sink *)sink;
    const char *from = data;
    while (len > 0) {
        if (s->filling != NULL && s->filling->len == s->part_size)
            WA_TRY(send_filling(s, err));
        if (s->filling == NULL)
            WA_TRY(next_part(s, err));
        size_t room = s->part_size - s->filling->len, n = len < room ? len : room;
        memcpy(s->filling->data + s->filling->len, from, n);
        s->filling->len += n;
        from += n;
        len -= n;
    }
    return WA_OK;
}

static void
join_workers(store_sink *s)
{
    if (s->work != NULL)
        wa_queue_close(s->work);
    while (s->started > 0)
        wa_thread_join(s->workers[--s->started]);
}

/* Committing may take long; the next object's parts may need the memory. */
static void
free_parts(store_sink *s)
{
    for (size_t i = 0; i < s->made; i++)
        wa_freep(&s->parts[i].data);
    s->made = 0;
    s->filling = NULL;
}

static wa_status
store_sink_finish(wa_sink *sink, wa_error *err)
{
    store_sink *s = (store_sink *)sink;
    if (s->upload == NULL) {
        wa_body body = {s->filling ? s->filling->data : "", s->filling ? s->filling->len : 0, -1,
                        0};
        return wa_store_put(s->store, s->key, &body, s->meta,
                            s->keeps ? WA_PUT_CREATE : WA_PUT_REPLACE, err);
    }
    if (s->filling != NULL)
        WA_TRY(send_filling(s, err));
    join_workers(s);
    WA_TRY(check_failure(s, err));
    free_parts(s);
    return wa_upload_commit(s->upload, err);
}

static void
store_sink_free(wa_sink *sink)
{
    store_sink *s = (store_sink *)sink;
    {
        /* An abandoned upload sends nothing more. */
        WA_LOCK(&s->mutex);
        if (s->failure.status == WA_OK)
            (void)wa_error_set(&s->failure, WA_CANCELLED, "upload of object \"%s\" was abandoned",
                               s->key);
    }
    join_workers(s);
    wa_upload_free(s->upload);
    wa_queue_free(s->work);
    wa_queue_free(s->idle);
    free_parts(s);
    wa_freep(&s->parts);
    wa_freep(&s->workers);
    wa_freep(&s->key);
    wa_freep(&s->meta);
    wa_mutex_done(&s->mutex);
    wa_freep(&s);
}

static const wa_sink_ops store_sink_ops = {store_sink_write, store_sink_finish, store_sink_free};

wa_status
wa_store_sink_new(wa_store *store, const char *key, const char *meta, size_t threads, wa_sink **ret,
                  wa_error *err)
{
    if (!wa_store_key_is_legal(key))
        return wa_error_set(err, WA_INVALID, "\"%s\" is not a valid object key", key);
    store_sink *s = wa_calloc(1, sizeof *s);
    s->base.ops = &store_sink_ops;
    s->store = store;
    s->key = wa_strdup(key);
    s->meta = wa_strdup(meta);
    s->part_size = (size_t)store->traits.part_size;
    s->threads = threads;
    s->next_number = 1;
    s->parts = wa_calloc(threads + 1, sizeof *s->parts);
    wa_mutex_init(&s->mutex);
    WA_ASSERT(s->part_size > 0);
    *ret = &s->base;
    return WA_OK;
}

void
wa_store_sink_set_part_size(wa_sink *sink, size_t part_size)
{
    store_sink *s = (store_sink *)sink;
    WA_ASSERT(sink->ops == &store_sink_ops && s->next_number == 1 && part_size > 0);
    s->part_size = part_size;
}

void
wa_store_sink_keep(wa_sink *sink)
{
    store_sink *s = (store_sink *)sink;
    WA_ASSERT(sink->ops == &store_sink_ops && s->next_number == 1);
    s->keeps = true;
}
