/*
 * src/store/mirror_list.c - listings of the main store.
 *
 * A strict store looks page by page what the mirrors have of it, by name and size, and brings what
 * they lack before it shows the page: a crash leaves a few objects. Where a mirror lacks many, it
 * is not one yet, and that is said instead.
 */
#include "mirror_internal.h"

#include <string.h>

#define PAGE 1000
#define BRING_MAX 1000 /* objects, within one listing */

typedef struct listed {
    char *key, *etag;
    uint64_t size;
    wa_time modified;
} listed;

typedef struct page {
    wa_mirror_store *m;
    const wa_list_options *options;
    wa_list_fn fn;
    void *arg;
    listed *items;
    size_t count, max;
    char *after; /* the last key of the page before; NULL: none */
    size_t brought;
    bool ended; /* by the caller's function */
} page;

static void
page_clear(page *p)
{
    for (size_t k = 0; k < p->count; k++) {
        wa_freep(&p->items[k].key);
        wa_freep(&p->items[k].etag);
    }
    p->count = 0;
}

static void
page_done(page *p)
{
    page_clear(p);
    wa_freep(&p->items);
    wa_freep(&p->after);
}

static bool
is_prefix(const listed *item)
{
    return wa_str_ends(item->key, "/");
}

/* A mirror's listing beside the page's. */
typedef struct beside {
    page *page;
    size_t i;    /* the mirror */
    size_t next; /* of the page */
    bool failed; /* what was done about an object, not the listing */
} beside;

static wa_status
bring_missing(beside *b, const listed *item, wa_error *err)
{
    page *p = b->page;
    if (is_prefix(item) || wa_mirror_knows(p->m, item->key))
        return WA_OK;
    if (++p->brought > BRING_MAX) {
        (void)wa_error_set(err, WA_UNAVAILABLE,
                           "mirror \"%s\" lacks more than %d objects below \"%s\"",
                           p->m->members[b->i].name, BRING_MAX, p->options->prefix);
        return wa_error_hint(err, "Run \"walagent mirror\": it copies what is missing.");
    }
    wa_status status = wa_mirror_bring(p->m, b->i, item->key, err);
    if (status != WA_NOT_FOUND)
        return status;
    wa_error_clear(err); /* deleted meanwhile */
    return WA_OK;
}

static wa_status
bring(beside *b, const listed *item, wa_error *err)
{
    wa_status status = wa_mirror_judged(bring_missing(b, item, err), err);
    b->failed = status != WA_OK;
    return status;
}

static wa_status
see_beside(void *arg, const wa_object *object, wa_error *err)
{
    beside *b = arg;
    page *p = b->page;
    while (b->next < p->count && strcmp(p->items[b->next].key, object->key) < 0)
        WA_TRY(bring(b, &p->items[b->next++], err));
    if (b->next == p->count)
        return WA_CANCELLED; /* enough */
    const listed *item = &p->items[b->next];
    if (strcmp(item->key, object->key) != 0)
        return WA_OK; /* only in the mirror */
    b->next++;
    if (is_prefix(item) || item->size == object->size)
        return WA_OK;
    wa_status status = wa_mirror_judged(wa_mirror_mend(p->m, b->i, item->key, err), err);
    if (status == WA_NOT_FOUND) { /* deleted meanwhile, says the main store */
        wa_error_clear(err);
        return WA_OK;
    }
    b->failed = status != WA_OK;
    return status;
}

static wa_status
look_beside(page *p, size_t i, wa_error *err)
{
    wa_mirror_store *m = p->m;
    WA_TRY(wa_mirror_ready(m, i, err));
    beside b = {p, i, 0, false};
    wa_list_options options = *p->options;
    options.after = p->after != NULL ? p->after : p->options->after;
    wa_status status = wa_store_list(m->members[i].store, &options, see_beside, &b, err);
    if (!b.failed)
        status = wa_mirror_note(m, i, status, err);
    WA_TRY(status);
    while (b.next < p->count)
        WA_TRY(bring(&b, &p->items[b.next++], err));
    return WA_OK;
}

static wa_status
deliver(page *p, wa_error *err)
{
    if (p->count == 0)
        return WA_OK;
    for (size_t i = 1; i < p->m->count; i++)
        WA_TRY(look_beside(p, i, err));
    for (size_t k = 0; k < p->count; k++) {
        const listed *item = &p->items[k];
        wa_object object = {item->key, item->size, item->modified, item->etag, NULL};
        wa_status status = p->fn(p->arg, &object, err);
        p->ended = status != WA_OK;
        WA_TRY(status);
    }
    wa_freep(&p->after);
    p->after = wa_strdup(p->items[p->count - 1].key);
    page_clear(p);
    return WA_OK;
}

static wa_status
collect(void *arg, const wa_object *object, wa_error *err)
{
    page *p = arg;
    p->items[p->count++] =
        (listed){wa_strdup(object->key), wa_strdup(object->etag), object->size, object->modified};
    return p->count == p->max ? deliver(p, err) : WA_OK;
}

static wa_status
list_strictly(wa_mirror_store *m, const wa_list_options *options, wa_list_fn fn, void *arg,
              wa_error *err)
{
    WA_CLEANUP(page_done)
    page p = {.m = m,
              .options = options,
              .fn = fn,
              .arg = arg,
              .max = options->page != 0 && options->page < PAGE ? options->page : PAGE};
    p.items = wa_calloc(p.max, sizeof *p.items);
    WA_TRY(wa_store_list(m->members[0].store, options, collect, &p, err));
    return p.ended ? WA_OK : deliver(&p, err);
}

/* Tells a failing store from a failing caller, and a listing that has begun. */
typedef struct shown {
    wa_list_fn fn;
    void *arg;
    bool any;
    wa_status caller; /* what the caller's function said last */
} shown;

static wa_status
show(void *arg, const wa_object *object, wa_error *err)
{
    shown *s = arg;
    s->any = true;
    s->caller = s->fn(s->arg, object, err);
    return s->caller;
}

static wa_status
list_from(wa_mirror_store *m, size_t i, const wa_list_options *options, shown *s, wa_error *err)
{
    wa_status status = wa_store_list(m->members[i].store, options, show, s, err);
    return s->caller != WA_OK ? status : wa_mirror_note(m, i, status, err);
}

/* From the first mirror that answers, and may; before it is known which one may (nothing is
 * required yet) one that shows nothing is no answer, since it may be no copy at all. False: none
 * did, or one broke off, which is in err. */
static bool
list_elsewhere(wa_mirror_store *m, const wa_list_options *options, shown *s, wa_error *err)
{
    for (size_t i = 1; i < m->count && !s->any; i++) {
        wa_error failed = WA_ERROR_INIT;
        if (!wa_mirror_may_serve(m, i))
            continue;
        wa_status status = list_from(m, i, options, s, &failed);
        if (status == WA_OK && (s->any || m->required != NULL)) {
            wa_mirror_count_served(m, i, true);
            return true;
        }
        if (status != WA_OK && s->any)
            *err = failed;
    }
    return false;
}

wa_status
wa_mirror_list(wa_store *store, const wa_list_options *options, wa_list_fn fn, void *arg,
               wa_error *err)
{
    wa_mirror_store *m = (wa_mirror_store *)store;
    if (m->strict)
        return list_strictly(m, options, fn, arg, err);
    shown s = {fn, arg, false, WA_OK};
    bool away = m->list_anywhere && wa_mirror_is_away(m);
    if (away && list_elsewhere(m, options, &s, err))
        return WA_OK;
    if (s.any)
        return err->status;
    wa_status status = list_from(m, 0, options, &s, err);
    if (s.caller == WA_OK)
        wa_mirror_set_away(m, status);
    if (away || !m->list_anywhere || s.any || !wa_mirror_may_fall_back(status))
        return status;
    if (!list_elsewhere(m, options, &s, err))
        return err->status;
    wa_error_clear(err);
    return WA_OK;
}
