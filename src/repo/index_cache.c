/*
 * src/repo/index_cache.c - facts of index objects that were read, by key, those of single segments,
 * and names that were listed.
 *
 * One answer asks for the same few objects several times (what is there, then where is it). They
 * are created once each, so a copy is as good as another look: what an object says about holes is
 * verified in the store every time, and a copy of one that has gone since says what it said.
 * Listings grow old: who uses their names lists again where a newer one could tell more.
 */
#include "index_internal.h"

#include <stdlib.h>
#include <string.h>

#define ENTRIES 64u
#define LISTINGS 8u /* a level each, and some for forks */
#define FACTS 16u   /* of the last segments, which no object speaks about yet */

typedef struct listing {
    char *prefix;
    wa_segno begin, end;
    wa_index_name *names;
    size_t count;
} listing;

typedef struct segment_facts {
    wa_branch branch;
    wa_segno segno;
    bool checked;
    wa_wal_facts *facts; /* NULL: none */
} segment_facts;

struct wa_index_cache {
    wa_mutex mutex;
    size_t next; /* to be replaced */
    wa_index_object items[ENTRIES];
    size_t next_listing;
    listing listings[LISTINGS];
    size_t next_facts;
    segment_facts segments[FACTS];
};

static void
listing_done(listing *l)
{
    wa_freep(&l->prefix);
    wa_freep(&l->names);
    *l = (listing){0};
}

wa_index_cache *
wa_index_cache_new(void)
{
    wa_index_cache *c = wa_calloc(1, sizeof *c);
    wa_mutex_init(&c->mutex);
    return c;
}

void
wa_index_cache_free(wa_index_cache *c)
{
    if (c == NULL)
        return;
    for (size_t i = 0; i < ENTRIES; i++)
        wa_index_object_done(&c->items[i]);
    for (size_t i = 0; i < LISTINGS; i++)
        listing_done(&c->listings[i]);
    for (size_t i = 0; i < FACTS; i++)
        free(c->segments[i].facts);
    wa_mutex_done(&c->mutex);
    free(c);
}

static void
copy_object(const wa_index_object *from, wa_index_object *to)
{
    *to = *from;
    to->key = wa_strdup(from->key);
    to->holes = (wa_segranges){0};
    for (size_t i = 0; i < from->holes.count; i++)
        wa_segranges_add(&to->holes, from->holes.items[i].begin, from->holes.items[i].end);
}

bool
wa_index_cache_get(wa_index_cache *c, const char *key, wa_index_object *ret)
{
    WA_LOCK(&c->mutex);
    for (size_t i = 0; i < ENTRIES; i++) {
        if (c->items[i].key == NULL || strcmp(c->items[i].key, key) != 0)
            continue;
        copy_object(&c->items[i], ret);
        return true;
    }
    return false;
}

void
wa_index_cache_put(wa_index_cache *c, const wa_index_object *o)
{
    WA_LOCK(&c->mutex);
    wa_index_object *slot = &c->items[c->next];
    c->next = (c->next + 1) % ENTRIES;
    wa_index_object_done(slot);
    copy_object(o, slot);
}

/* The place of what is known of this prefix around `first`, or the one to be replaced. */
static listing *
place_for(wa_index_cache *c, const char *prefix, wa_segno begin, wa_segno end)
{
    for (size_t i = 0; i < LISTINGS; i++) {
        listing *l = &c->listings[i];
        if (l->prefix != NULL && strcmp(l->prefix, prefix) == 0 && l->begin < end && begin < l->end)
            return l;
    }
    listing *l = &c->listings[c->next_listing];
    c->next_listing = (c->next_listing + 1) % LISTINGS;
    return l;
}

void
wa_index_cache_put_names(wa_index_cache *c, const char *prefix, wa_segno begin, wa_segno end,
                         const wa_index_name *names, size_t count)
{
    WA_LOCK(&c->mutex);
    listing *l = place_for(c, prefix, begin, end);
    listing_done(l);
    *l = (listing){.prefix = wa_strdup(prefix), .begin = begin, .end = end, .count = count};
    l->names = wa_reallocarray(NULL, count + 1, sizeof *names);
    if (count > 0)
        memcpy(l->names, names, count * sizeof *names);
}

bool
wa_index_cache_names(wa_index_cache *c, const char *prefix, wa_segno first, wa_index_name **ret,
                     size_t *ret_count)
{
    WA_LOCK(&c->mutex);
    for (size_t i = 0; i < LISTINGS; i++) {
        const listing *l = &c->listings[i];
        if (l->prefix == NULL || strcmp(l->prefix, prefix) != 0 || first < l->begin ||
            first >= l->end)
            continue;
        wa_index_name *names = wa_reallocarray(NULL, l->count + 1, sizeof *names);
        size_t count = 0;
        for (size_t k = 0; k < l->count; k++)
            if (l->names[k].first == first)
                names[count++] = l->names[k];
        *ret = names;
        *ret_count = count;
        return true;
    }
    return false;
}

bool
wa_index_cache_facts(wa_index_cache *c, const wa_branch *branch, wa_segno segno, wa_wal_facts *ret,
                     bool *ret_checked)
{
    WA_LOCK(&c->mutex);
    for (size_t i = 0; i < FACTS; i++) {
        const segment_facts *s = &c->segments[i];
        if (s->facts == NULL || s->segno != segno || !wa_branch_eq(&s->branch, branch))
            continue;
        *ret = *s->facts;
        *ret_checked = s->checked;
        return true;
    }
    return false;
}

void
wa_index_cache_put_facts(wa_index_cache *c, const wa_branch *branch, wa_segno segno,
                         const wa_wal_facts *facts, bool checked)
{
    WA_LOCK(&c->mutex);
    segment_facts *s = &c->segments[c->next_facts];
    c->next_facts = (c->next_facts + 1) % FACTS;
    if (s->facts == NULL)
        s->facts = wa_malloc(sizeof *s->facts);
    *s->facts = *facts;
    s->branch = *branch;
    s->segno = segno;
    s->checked = checked;
}
