/*
 * src/store/fault.c - a store around another one that fails on demand. For tests: set a fault for
 * the n-th call and loop n upward until the operation under test succeeds.
 */
#include "driver_internal.h"

#include "walagent/base/thread.h"
#include "walagent/store/drivers.h"

#include <string.h>

typedef struct fault_store {
    wa_store base;
    wa_store *inner;
    wa_mutex mutex;
    char kind[32];
    unsigned nth, repeat, hits; /* nth 0: nothing set */
    char before_kind[8];
    unsigned before_nth; /* 0: nothing to be called */
    bool before_each;
    void (*before)(void *arg);
    void *before_arg;
    wa_fault what;
} fault_store;

typedef struct fault_upload {
    wa_upload base;
    wa_upload *inner;
} fault_upload;

/* Faults that make no sense for a kind leave its calls alone. */
static bool
applies(wa_fault what, const char *kind)
{
    if (what == WA_FAULT_FLIP)
        return wa_str_eq(kind, "get");
    if (what == WA_FAULT_TRUNCATE_LIST)
        return wa_str_eq(kind, "list");
    if (what == WA_FAULT_OVERWRITE)
        return wa_str_eq(kind, "put");
    return true;
}

/* Does this call meet the fault? */
static bool
strikes(fault_store *f, const char *kind, wa_fault *ret)
{
    WA_LOCK(&f->mutex);
    if (f->nth == 0 || !applies(f->what, kind) ||
        !(wa_str_eq(f->kind, "any") || wa_str_eq(f->kind, kind)))
        return false;
    if (f->nth > 1) {
        f->nth--;
        return false;
    }
    if (f->repeat > 0)
        f->repeat--;
    else
        f->nth = 0;
    f->hits++;
    *ret = f->what;
    return true;
}

static wa_status
injected(const char *kind, const char *key, wa_fault what, wa_error *err)
{
    if (what == WA_FAULT_DENY)
        return wa_error_set(err, WA_DENIED, "could not %s \"%s\": denied by a test fault", kind,
                            key);
    if (what == WA_FAULT_ROT)
        return wa_error_set(err, WA_CORRUPT, "could not %s \"%s\": damaged by a test fault", kind,
                            key);
    if (what == WA_FAULT_GONE)
        return wa_error_set(err, WA_NOT_FOUND, "could not %s \"%s\": gone by a test fault", kind,
                            key);
    return wa_error_set(err, WA_UNAVAILABLE, "could not %s \"%s\": a test fault", kind, key);
}

/* One call whose fault is either before it, or after it was carried out. */
#define AROUND(store_, kind_, key_, call_)                                                         \
    do {                                                                                           \
        wa_fault around_what_;                                                                     \
        if (!strikes((store_), (kind_), &around_what_))                                            \
            return (call_);                                                                        \
        if (around_what_ == WA_FAULT_LOSE_REPLY)                                                   \
            WA_TRY(call_);                                                                         \
        return injected((kind_), (key_), around_what_, err);                                       \
    } while (0)

static void
call_before(fault_store *f, const char *kind)
{
    void (*fn)(void *arg) = NULL;
    {
        WA_LOCK(&f->mutex);
        if (f->before_nth > 0 && wa_str_eq(f->before_kind, kind) &&
            (f->before_each || --f->before_nth == 0))
            fn = f->before;
    }
    if (fn != NULL)
        fn(f->before_arg);
}

static wa_status
fault_put(wa_store *store, const char *key, const wa_body *body, const char *meta, wa_put_mode mode,
          wa_error *err)
{
    fault_store *f = (fault_store *)store;
    wa_fault what;
    call_before(f, "put");
    bool struck = strikes(f, "put", &what);
    if (struck && what == WA_FAULT_OVERWRITE)
        mode = WA_PUT_REPLACE;
    else if (struck && what != WA_FAULT_LOSE_REPLY)
        return injected("put", key, what, err);
    WA_TRY(f->inner->ops->put(f->inner, key, body, meta, mode, err));
    return struck && what == WA_FAULT_LOSE_REPLY ? injected("put", key, what, err) : WA_OK;
}

/* A put of the inner store that waits for its turn. */
typedef struct fault_turn {
    fault_store *f;
    const char *key;
    wa_put_ready_fn ready;
    void *arg;
    bool lose_reply;
} fault_turn;

static wa_status
take_turn(void *arg, wa_error *err)
{
    fault_turn *t = arg;
    wa_fault what;
    WA_TRY(t->ready(t->arg, err));
    call_before(t->f, "put");
    if (!strikes(t->f, "put", &what) || what == WA_FAULT_OVERWRITE)
        return WA_OK;
    t->lose_reply = what == WA_FAULT_LOSE_REPLY;
    return t->lose_reply ? WA_OK : injected("put", t->key, what, err);
}

/* Whether to replace has to be said before the turn comes. */
static bool
overwrites_next(fault_store *f)
{
    WA_LOCK(&f->mutex);
    return f->nth == 1 && f->what == WA_FAULT_OVERWRITE &&
           (wa_str_eq(f->kind, "any") || wa_str_eq(f->kind, "put"));
}

static wa_status
fault_put_when(wa_store *store, const char *key, const wa_body *body, const char *meta,
               wa_put_mode mode, wa_put_ready_fn ready, void *arg, wa_error *err)
{
    fault_store *f = (fault_store *)store;
    if (f->inner->ops->put_when == NULL) {
        WA_TRY(ready(arg, err));
        return fault_put(store, key, body, meta, mode, err);
    }
    fault_turn turn = {.f = f, .key = key, .ready = ready, .arg = arg};
    if (overwrites_next(f))
        mode = WA_PUT_REPLACE;
    WA_TRY(f->inner->ops->put_when(f->inner, key, body, meta, mode, take_turn, &turn, err));
    return turn.lose_reply ? injected("put", key, WA_FAULT_LOSE_REPLY, err) : WA_OK;
}

static int
fault_draft(wa_store *store)
{
    fault_store *f = (fault_store *)store;
    wa_fault what;
    call_before(f, "draft");
    return strikes(f, "draft", &what) ? -1 : wa_store_draft(f->inner);
}

static wa_status
fault_draft_write(wa_store *store, int draft, uint64_t offset, const void *data, size_t len,
                  wa_error *err)
{
    return wa_store_draft_write(((fault_store *)store)->inner, draft, offset, data, len, err);
}

static wa_status
fault_settle(wa_store *store, const wa_strv *keys, wa_error *err)
{
    fault_store *f = (fault_store *)store;
    AROUND(f, "settle", keys->items[0], wa_store_settle(f->inner, keys, err));
}

static wa_status
fault_head(wa_store *store, const char *key, uint64_t *ret_size, wa_time *ret_modified,
           char **ret_meta, wa_error *err)
{
    fault_store *f = (fault_store *)store;
    wa_fault what;
    call_before(f, "head");
    if (strikes(f, "head", &what))
        return injected("head", key, what, err);
    return f->inner->ops->head(f->inner, key, ret_size, ret_modified, ret_meta, err);
}

/* Passes `left` bytes on and then fails, or flips one bit of the first byte. */
typedef struct fault_sink {
    wa_sink base;
    wa_sink *to;
    uint64_t left;
    bool flip;
} fault_sink;

static wa_status
fault_sink_write(wa_sink *sink, const void *data, size_t len, wa_error *err)
{
    fault_sink *s = (fault_sink *)sink;
    if (s->flip && len > 0) {
        s->flip = false;
        char first = (char)(*(const char *)data ^ 0x10);
        WA_TRY(wa_sink_write(s->to, &first, 1, err));
        return wa_sink_write(s->to, (const char *)data + 1, len - 1, err);
    }
    size_t n = len < s->left ? len : (size_t)s->left;
    WA_TRY(wa_sink_write(s->to, data, n, err));
    s->left -= n;
    if (n < len)
        return wa_error_set(err, WA_UNAVAILABLE, "connection lost by a test fault");
    return WA_OK;
}

static wa_status
fault_sink_finish(wa_sink *sink, wa_error *err)
{
    (void)sink;
    (void)err;
    return WA_OK;
}

static void
fault_sink_free(wa_sink *sink)
{
    (void)sink;
}

static const wa_sink_ops fault_sink_ops = {fault_sink_write, fault_sink_finish, fault_sink_free};

/* Half of what the range would give; a body of a byte or none is lost altogether. */
static wa_status
torn_get(fault_store *f, const char *key, bool tail, uint64_t offset, uint64_t len, wa_sink *to,
         wa_error *err)
{
    uint64_t size, ignored_size;
    wa_time modified;
    WA_TRY(f->inner->ops->head(f->inner, key, &size, &modified, NULL, err));
    uint64_t there = tail ? size : size - (offset < size ? offset : size);
    fault_sink sink = {{&fault_sink_ops}, to, (len < there ? len : there) / 2, false};
    WA_TRY(
        f->inner->ops->get(f->inner, key, tail, offset, len, &sink.base, &ignored_size, NULL, err));
    return injected("get", key, WA_FAULT_TEAR, err);
}

static wa_status
fault_get(wa_store *store, const char *key, bool tail, uint64_t offset, uint64_t len, wa_sink *to,
          uint64_t *ret_size, char **ret_meta, wa_error *err)
{
    fault_store *f = (fault_store *)store;
    wa_fault what;
    call_before(f, "get");
    if (!strikes(f, "get", &what))
        return f->inner->ops->get(f->inner, key, tail, offset, len, to, ret_size, ret_meta, err);
    if (what == WA_FAULT_TEAR)
        return torn_get(f, key, tail, offset, len, to, err);
    if (what == WA_FAULT_FLIP) {
        fault_sink sink = {{&fault_sink_ops}, to, UINT64_MAX, true};
        return f->inner->ops->get(f->inner, key, tail, offset, len, &sink.base, ret_size, ret_meta,
                                  err);
    }
    uint64_t size;
    if (what == WA_FAULT_LOSE_REPLY)
        WA_TRY(f->inner->ops->get(f->inner, key, tail, offset, len, to, &size, NULL, err));
    return injected("get", key, what, err);
}

static wa_status
fault_remove(wa_store *store, const wa_strv *keys, wa_error *err)
{
    fault_store *f = (fault_store *)store;
    wa_fault what;
    if (!strikes(f, "delete", &what))
        return f->inner->ops->remove(f->inner, keys, err);
    wa_strv some = *keys;
    if (what == WA_FAULT_TEAR)
        some.count /= 2;
    if ((what == WA_FAULT_TEAR || what == WA_FAULT_LOSE_REPLY) && some.count > 0)
        WA_TRY(f->inner->ops->remove(f->inner, &some, err));
    return injected("delete", keys->items[0], what, err);
}

typedef struct half_list {
    wa_list_fn fn; /* NULL: only count */
    void *arg;
    size_t seen, limit;
} half_list;

static wa_status
half_object(void *arg, const wa_object *object, wa_error *err)
{
    half_list *h = arg;
    if (h->fn != NULL && h->seen == h->limit)
        return injected("list", object->key, WA_FAULT_TRUNCATE_LIST, err);
    h->seen++;
    return h->fn == NULL ? WA_OK : h->fn(h->arg, object, err);
}

static wa_status
fault_list(wa_store *store, const wa_list_options *options, wa_list_fn fn, void *arg, wa_error *err)
{
    fault_store *f = (fault_store *)store;
    wa_fault what;
    call_before(f, "list");
    if (!strikes(f, "list", &what))
        return f->inner->ops->list(f->inner, options, fn, arg, err);
    half_list h = {NULL, NULL, 0, 0};
    if (what == WA_FAULT_TRUNCATE_LIST || what == WA_FAULT_TEAR) {
        WA_TRY(f->inner->ops->list(f->inner, options, half_object, &h, err));
        h = (half_list){fn, arg, 0, h.seen / 2};
        WA_TRY(f->inner->ops->list(f->inner, options, half_object, &h, err));
    } else if (what == WA_FAULT_LOSE_REPLY)
        WA_TRY(f->inner->ops->list(f->inner, options, fn, arg, err));
    return injected("list", options->prefix, what, err);
}

static wa_status
fault_upload_begin(wa_store *store, const char *key, const char *meta, uint64_t part_size,
                   wa_upload **ret, wa_error *err)
{
    fault_store *f = (fault_store *)store;
    wa_fault what;
    if (strikes(f, "upload_begin", &what))
        return injected("begin upload of", key, what, err);
    wa_upload *inner;
    WA_TRY(f->inner->ops->upload_begin(f->inner, key, meta, part_size, &inner, err));
    fault_upload *u = wa_calloc(1, sizeof *u);
    u->base.store = store;
    u->inner = inner;
    *ret = &u->base;
    return WA_OK;
}

static wa_status
fault_upload_part(wa_upload *upload, unsigned number, const void *data, size_t len, wa_error *err)
{
    fault_store *f = (fault_store *)upload->store;
    wa_upload *inner = ((fault_upload *)upload)->inner;
    AROUND(f, "upload_part", "part", f->inner->ops->upload_part(inner, number, data, len, err));
}

static wa_status
fault_upload_commit(wa_upload *upload, wa_error *err)
{
    fault_store *f = (fault_store *)upload->store;
    wa_upload *inner = ((fault_upload *)upload)->inner;
    inner->keeps = upload->keeps;
    AROUND(f, "upload_commit", "upload", f->inner->ops->upload_commit(inner, err));
}

static void
fault_upload_free(wa_upload *upload)
{
    fault_upload *u = (fault_upload *)upload;
    fault_store *f = (fault_store *)upload->store;
    f->inner->ops->upload_free(u->inner);
    wa_freep(&u);
}

static wa_status
fault_abort_uploads(wa_store *store, const char *prefix, wa_time before, size_t *ret_count,
                    wa_error *err)
{
    fault_store *f = (fault_store *)store;
    AROUND(f, "abort_uploads", prefix,
           f->inner->ops->abort_uploads(f->inner, prefix, before, ret_count, err));
}

static void
fault_set_conditional(wa_store *store, bool conditional)
{
    wa_store_set_conditional(((fault_store *)store)->inner, conditional);
}

static void
fault_free(wa_store *store)
{
    fault_store *f = (fault_store *)store;
    wa_store_free(f->inner);
    wa_mutex_done(&f->mutex);
    wa_freep(&f);
}

static const wa_store_ops fault_ops = {
    .free = fault_free,
    .put = fault_put,
    .put_when = fault_put_when,
    .settle = fault_settle,
    .draft = fault_draft,
    .draft_write = fault_draft_write,
    .get = fault_get,
    .head = fault_head,
    .remove = fault_remove,
    .list = fault_list,
    .upload_begin = fault_upload_begin,
    .upload_part = fault_upload_part,
    .upload_commit = fault_upload_commit,
    .upload_free = fault_upload_free,
    .abort_uploads = fault_abort_uploads,
    .set_conditional = fault_set_conditional,
};

wa_store *
wa_store_fault_new(wa_store *inner)
{
    fault_store *f = wa_calloc(1, sizeof *f);
    f->base.ops = &fault_ops;
    f->base.traits = inner->traits;
    f->inner = inner;
    wa_mutex_init(&f->mutex);
    return &f->base;
}

static void
set_before(wa_store *fault, const char *kind, unsigned nth, bool each, void (*fn)(void *arg),
           void *arg)
{
    fault_store *f = (fault_store *)fault;
    WA_ASSERT(strlen(kind) < sizeof f->before_kind);
    WA_LOCK(&f->mutex);
    memcpy(f->before_kind, kind, strlen(kind) + 1);
    f->before_nth = nth;
    f->before_each = each;
    f->before = fn;
    f->before_arg = arg;
}

void
wa_store_fault_before(wa_store *fault, const char *kind, unsigned nth, void (*fn)(void *arg),
                      void *arg)
{
    set_before(fault, kind, nth, false, fn, arg);
}

void
wa_store_fault_before_each(wa_store *fault, const char *kind, void (*fn)(void *arg), void *arg)
{
    set_before(fault, kind, 1, true, fn, arg);
}

void
wa_store_fault_set(wa_store *fault, const char *kind, unsigned nth, unsigned repeat, wa_fault what)
{
    fault_store *f = (fault_store *)fault;
    WA_ASSERT(f->base.ops == &fault_ops && strlen(kind) < sizeof f->kind);
    WA_LOCK(&f->mutex);
    memcpy(f->kind, kind, strlen(kind) + 1);
    f->nth = nth;
    f->repeat = repeat;
    f->what = what;
    f->hits = 0;
}

unsigned
wa_store_fault_hits(const wa_store *fault)
{
    fault_store *f = (fault_store *)(uintptr_t)fault; /* for its lock */
    WA_ASSERT(f->base.ops == &fault_ops);
    WA_LOCK(&f->mutex);
    return f->hits;
}
