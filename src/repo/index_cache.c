/*
 * src/repo/index_cache.c - facts of index objects that were read, by key.
 *
 * One answer asks for the same few objects several times (what is there, then where is it). They
 * are created once each, so a copy is as good as another look: what an object says about holes is
 * verified in the store every time, and a copy of one that has gone since says what it said.
 */
#include "index_internal.h"

#include <stdlib.h>
#include <string.h>

#define ENTRIES 64u

struct wa_index_cache {
    wa_mutex mutex;
    size_t next; /* to be replaced */
    wa_index_object items[ENTRIES];
};

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
