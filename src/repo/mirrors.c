/*
 * src/repo/mirrors.c - what a mirror lacks of the main repository, and copying it; the cluster's
 * entry in mirrors.
 */
#include "walagent/repo/mirrors.h"

#include "incarnation_internal.h"
#include "repo_internal.h"

#include "walagent/store/mirror.h"

#include <stdio.h>
#include <string.h>

#define PAGE 1000
#define DOUBTS                                                                                     \
    1000 /* so many are looked at again: what others write and delete meanwhile is less */

typedef struct item {
    char *key;
    uint64_t size;
    bool missing, compare;
} item;

/* What a second look at the end must confirm. */
typedef struct doubts {
    item items[DOUBTS];
    size_t count;
    bool overflown; /* the mirror lacks, or has, so many that a few don't matter */
} doubts;

typedef struct sync {
    wa_repo *repo;
    size_t i;
    const wa_mirror_sync_options *options;
    wa_mirror_sync result;
    char *entries; /* the prefix of the cluster's entries */
    char *probes;
    item items[PAGE];
    size_t count;
    char *after; /* the last key of the page before */
    size_t next; /* of the page, while the mirror is listed beside it */
    bool last_page;
    doubts missing, extra;
    wa_mutex mutex; /* over result */
} sync;

static void
clear(item *items, size_t count)
{
    for (size_t k = 0; k < count; k++)
        wa_freep(&items[k].key);
}

static void
doubt(doubts *d, const char *key, uint64_t size)
{
    if (d->count == DOUBTS)
        d->overflown = true;
    else
        d->items[d->count++] = (item){wa_strdup(key), size, true, false};
}

static void
sync_done(sync *s)
{
    clear(s->items, s->count);
    clear(s->missing.items, s->missing.count);
    clear(s->extra.items, s->extra.count);
    wa_freep(&s->entries);
    wa_freep(&s->probes);
    wa_freep(&s->after);
    wa_mutex_done(&s->mutex);
}

static wa_store *
store_of(const sync *s)
{
    return wa_repo_store(s->repo);
}

/* Small, and what everything else hangs on: an equal size is not enough. */
static bool
is_crucial(const char *key)
{
    return strstr(key, "/lineage/") != NULL || strstr(key, "/timeline/") != NULL ||
           strstr(key, "/incarnation/") != NULL;
}

static void
note_first(char *out, size_t size, const char *key)
{
    if (out[0] == '\0')
        (void)snprintf(out, size, "%s", key);
}

static void
count_different(sync *s, const char *key)
{
    WA_LOCK(&s->mutex);
    s->result.different++;
    note_first(s->result.first_different, sizeof s->result.first_different, key);
}

/* The cluster's entries, which come last; what a probe leaves; and what verify says of the main
 * repository's objects, which is no word about a mirror's. */
static bool
is_apart(const sync *s, const char *key)
{
    return wa_str_starts(key, s->entries) || wa_str_starts(key, s->probes) ||
           strstr(key, "/verified/") != NULL;
}

static wa_status
see_mirrors(void *arg, const wa_object *object, wa_error *err)
{
    sync *s = arg;
    (void)err;
    while (s->next < s->count && strcmp(s->items[s->next].key, object->key) < 0)
        s->items[s->next++].missing = true;
    bool behind = s->next == s->count;
    if (behind && !s->last_page)
        return WA_CANCELLED; /* enough */
    item *one = &s->items[s->next];
    if (behind || strcmp(one->key, object->key) != 0) {
        if (!is_apart(s, object->key)) {
            s->result.extra++;
            doubt(&s->extra, object->key, object->size);
        }
        return WA_OK;
    }
    s->next++;
    if (one->size != object->size && strstr(one->key, "/index/") != NULL)
        one->missing = true; /* a cache: the copy replaces it */
    else if (one->size != object->size)
        count_different(s, one->key);
    else
        one->compare = is_crucial(one->key);
    return WA_OK;
}

/* Compares or copies one object of the page. What remains `missing` was missing indeed. */
static wa_status
settle(void *arg, size_t index, wa_error *err)
{
    sync *s = arg;
    item *one = &s->items[index];
    bool same = true, copied = false;
    if (one->missing ? s->options->only_compare : !one->compare)
        return WA_OK;
    WA_TRY(wa_cancel_check(s->options->cancel, err));
    wa_status status = one->missing || !s->options->only_compare
                           ? wa_store_mirror_copy(store_of(s), s->i, one->key, &copied, err)
                           : wa_store_mirror_has(store_of(s), s->i, one->key, &same, err);
    if (status == WA_NOT_FOUND) { /* deleted meanwhile */
        wa_error_clear(err);
        one->missing = false;
        return WA_OK;
    }
    if (status == WA_FAILED) { /* another object is there */
        wa_error_clear(err);
        one->missing = false;
        count_different(s, one->key);
        return WA_OK;
    }
    WA_TRY(status);
    one->missing = one->missing && copied; /* else its writer came to the mirror meanwhile */
    WA_LOCK(&s->mutex);
    s->result.copied += copied;
    s->result.copied_bytes += copied ? one->size : 0;
    if (s->options->progress != NULL && copied) {
        atomic_fetch_add(&s->options->progress->done_bytes, one->size);
        atomic_fetch_add(&s->options->progress->done_files, 1);
    }
    return WA_OK;
}

static void
add_missing(sync *s, const item *one)
{
    s->result.missing++;
    s->result.missing_bytes += one->size;
    note_first(s->result.first_missing, sizeof s->result.first_missing, one->key);
}

static void
count_missing(sync *s)
{
    for (size_t k = 0; k < s->count; k++) {
        const item *one = &s->items[k];
        if (!one->missing)
            continue;
        add_missing(s, one);
        if (s->options->only_compare)
            doubt(&s->missing, one->key, one->size);
    }
}

/* Does the main store have it still, and the mirror not? */
static wa_status
look_at_missing(void *arg, size_t index, wa_error *err)
{
    sync *s = arg;
    item *one = &s->missing.items[index];
    bool there = false;
    WA_TRY(wa_cancel_check(s->options->cancel, err));
    wa_status status = wa_store_mirror_has(store_of(s), s->i, one->key, &there, err);
    if (status == WA_OK && !there)
        WA_TRY(wa_object_exists(wa_store_member(store_of(s), 0), one->key, &one->missing, err));
    else
        one->missing = false;
    if (status != WA_FAILED && status != WA_NOT_FOUND)
        return status;
    wa_error_clear(err);
    if (status == WA_FAILED)
        count_different(s, one->key);
    return WA_OK;
}

static wa_status
look_at_extra(void *arg, size_t index, wa_error *err)
{
    sync *s = arg;
    item *one = &s->extra.items[index];
    bool ours = false;
    WA_TRY(wa_cancel_check(s->options->cancel, err));
    WA_TRY(wa_object_exists(wa_store_member(store_of(s), s->i), one->key, &one->missing, err));
    if (one->missing)
        WA_TRY(wa_object_exists(wa_store_member(store_of(s), 0), one->key, &ours, err));
    one->missing = one->missing && !ours;
    return WA_OK;
}

/* Between the two listings others wrote and deleted. */
static wa_status
look_again(sync *s, wa_error *err)
{
    if (!s->extra.overflown) {
        WA_TRY(wa_repo_each(s->repo, s->extra.count, look_at_extra, s, err));
        s->result.extra = 0;
        for (size_t k = 0; k < s->extra.count; k++)
            s->result.extra += s->extra.items[k].missing;
    }
    if (!s->options->only_compare || s->missing.overflown)
        return WA_OK;
    WA_TRY(wa_repo_each(s->repo, s->missing.count, look_at_missing, s, err));
    s->result.missing = s->result.missing_bytes = 0;
    s->result.first_missing[0] = '\0';
    for (size_t k = 0; k < s->missing.count; k++) {
        const item *one = &s->missing.items[k];
        if (!one->missing)
            continue;
        add_missing(s, one);
    }
    return WA_OK;
}

static wa_status
settle_page(sync *s, wa_error *err)
{
    WA_CLEANUP(wa_freep) char *prefix = wa_format("%s/", wa_repo_cluster_name(s->repo));
    wa_list_options options = {.prefix = prefix, .after = s->after};
    s->next = 0;
    if (wa_store_list(wa_store_member(store_of(s), s->i), &options, see_mirrors, s, err) != WA_OK)
        return wa_error_wrap(err, "could not list the mirror");
    while (s->next < s->count)
        s->items[s->next++].missing = true;
    WA_TRY(wa_repo_each(s->repo, s->count, settle, s, err));
    count_missing(s);
    if (s->count > 0) {
        wa_freep(&s->after);
        s->after = WA_TAKE(s->items[s->count - 1].key);
    }
    clear(s->items, s->count);
    s->count = 0;
    return WA_OK;
}

static wa_status
see_mains(void *arg, const wa_object *object, wa_error *err)
{
    sync *s = arg;
    if (is_apart(s, object->key))
        return WA_OK;
    s->result.objects++;
    s->result.bytes += object->size;
    s->items[s->count++] = (item){wa_strdup(object->key), object->size, false, false};
    return s->count == PAGE ? settle_page(s, err) : WA_OK;
}

/* Is the mirror's entry, if it has one, this cluster's? */
static wa_status
check_entry(sync *s, wa_error *err)
{
    uint64_t newest = wa_repo_cluster(s->repo)->incarnation;
    for (uint64_t n = 1; n <= newest; n++) {
        WA_CLEANUP(wa_freep) char *key = wa_incarnation_key(s->repo, n);
        wa_status status = wa_store_mirror_has(store_of(s), s->i, key, &s->result.has_entry, err);
        if (status == WA_FAILED)
            err->status = WA_CONFLICT;
        WA_TRY(err->status);
    }
    return WA_OK;
}

static wa_status
copy_entries(sync *s, wa_error *err)
{
    uint64_t newest = wa_repo_cluster(s->repo)->incarnation;
    for (uint64_t n = 1; n <= newest; n++) {
        WA_CLEANUP(wa_freep) char *key = wa_incarnation_key(s->repo, n);
        bool copied = false;
        WA_TRY(wa_store_mirror_copy(store_of(s), s->i, key, &copied, err));
    }
    s->result.has_entry = true;
    return WA_OK;
}

static wa_status
run(sync *s, wa_error *err)
{
    WA_TRY(check_entry(s, err));
    WA_CLEANUP(wa_freep) char *prefix = wa_format("%s/", wa_repo_cluster_name(s->repo));
    wa_list_options options = {.prefix = prefix};
    WA_TRY(wa_store_list(wa_store_member(store_of(s), 0), &options, see_mains, s, err));
    s->last_page = true;
    WA_TRY(settle_page(s, err));
    WA_TRY(look_again(s, err));
    if (!s->options->only_compare && s->result.different == 0)
        WA_TRY(copy_entries(s, err));
    return WA_OK;
}

wa_status
wa_mirror_sync_run(wa_repo *repo, size_t i, const wa_mirror_sync_options *options,
                   wa_mirror_sync *ret, wa_error *err)
{
    WA_CLEANUP(wa_freep) sync *s = wa_calloc(1, sizeof *s);
    s->repo = repo;
    s->i = i;
    s->options = options;
    s->entries = wa_format("%s/incarnation/", wa_repo_cluster_name(repo));
    s->probes = wa_format("%s/probe/", wa_repo_cluster_name(repo));
    wa_mutex_init(&s->mutex);
    wa_status status = run(s, err);
    if (status == WA_OK)
        *ret = s->result;
    sync_done(s);
    return status;
}

/* What is said of a key now; the repository not to have it, or other bytes, is an answer. */
static wa_status
ask_again(wa_repo *repo, size_t i, const char *key, bool *ret_has, wa_status *ret, wa_error *err)
{
    *ret = wa_store_mirror_has(wa_repo_store(repo), i, key, ret_has, err);
    if (*ret != WA_OK && *ret != WA_NOT_FOUND && *ret != WA_FAILED)
        return *ret;
    wa_error_clear(err);
    return WA_OK;
}

wa_status
wa_mirror_sync_is_outdated(wa_repo *repo, size_t i, const wa_mirror_sync *r, bool *ret,
                           wa_error *err)
{
    const char *key = r->different > 0 ? r->first_different : r->first_missing;
    bool has = false;
    wa_status status = WA_OK;
    if (!r->has_entry) { /* often all that is missing */
        WA_CLEANUP(wa_freep)
        char *entry = wa_incarnation_key(repo, wa_repo_cluster(repo)->incarnation);
        WA_TRY(ask_again(repo, i, entry, &has, &status, err));
        if (status != WA_OK || has) {
            *ret = true;
            return WA_OK;
        }
    }
    if (key[0] == '\0' || strlen(key) + 1 == sizeof r->first_missing) { /* none, or cut short */
        *ret = false;
        return WA_OK;
    }
    WA_TRY(ask_again(repo, i, key, &has, &status, err));
    *ret = r->different > 0 ? status != WA_FAILED : status != WA_OK || has;
    return WA_OK;
}

bool
wa_mirror_sync_is_complete(const wa_mirror_sync *r)
{
    return r->has_entry && r->missing == r->copied && r->different == 0;
}

/* ---- the entry at init ---- */

static wa_status
see_any(void *arg, const wa_object *object, wa_error *err)
{
    (void)object;
    (void)err;
    *(bool *)arg = true;
    return WA_CANCELLED;
}

static wa_status
init_mirror(wa_repo *repo, size_t i, const wa_cluster *cluster, bool fresh, wa_error *err)
{
    wa_store *store = wa_repo_store(repo);
    for (uint64_t n = 1; n <= cluster->incarnation; n++) {
        WA_CLEANUP(wa_freep) char *key = wa_incarnation_key(repo, n);
        bool there = false;
        wa_status status = wa_store_mirror_has(store, i, key, &there, err);
        if (status == WA_FAILED)
            err->status = WA_CONFLICT;
        if (status == WA_OK && !there && fresh)
            status = wa_store_mirror_copy(store, i, key, &there, err);
        if (status != WA_OK)
            return err->status;
        if (there || fresh)
            continue;
        wa_error_set(err, WA_INVALID,
                     "mirror \"%s\" lacks the archive that the main repository has",
                     wa_store_get_traits(wa_store_member(store, i))->url);
        return wa_error_hint(err, "Run \"walagent mirror\": it copies the archive there.");
    }
    return WA_OK;
}

wa_status
wa_mirrors_init(wa_repo *repo, const wa_cluster *cluster, wa_error *err)
{
    wa_store *store = wa_repo_store(repo);
    size_t members = wa_store_members(store);
    if (members == 1)
        return WA_OK;
    bool any = false;
    WA_CLEANUP(wa_freep)
    char *prefix = wa_format("%s/%llu/", wa_repo_cluster_name(repo),
                             (unsigned long long)cluster->system_identifier);
    wa_list_options options = {.prefix = prefix, .page = 1};
    WA_TRY(wa_store_list(wa_store_member(store, 0), &options, see_any, &any, err));
    for (size_t i = 1; i < members; i++)
        WA_TRY(init_mirror(repo, i, cluster, !any && cluster->incarnation == 1, err));
    return WA_OK;
}
