/*
 * src/store/mirror.c - a main store and its mirrors: writes, settings, and what is known of each.
 *
 * Order of every write: the main store, and when it is durable there the mirrors. So a mirror never
 * has what the main store refused, and what a crash leaves behind is in the main store only, where
 * the next strict read or the repeated put finds it and completes the mirrors.
 */
#include "mirror_internal.h"

#include "walagent/base/crash.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#define REQUIRED_MAX (64u * 1024)

typedef struct mirror_upload {
    wa_upload base;
    char *key;
    wa_upload *parts[]; /* one a member */
} mirror_upload;

static bool
is_answer(wa_status status)
{
    return status == WA_OK || status == WA_NOT_FOUND || status == WA_EXISTS ||
           status == WA_INVALID || status == WA_CANCELLED;
}

bool
wa_mirror_may_fall_back(wa_status status)
{
    return status == WA_UNAVAILABLE || status == WA_DENIED || status == WA_CORRUPT ||
           status == WA_IO;
}

wa_status
wa_mirror_note(wa_mirror_store *m, size_t i, wa_status status, wa_error *err)
{
    wa_mirror_member *member = &m->members[i];
    if (status != WA_OK && i > 0)
        (void)wa_error_wrap(err, "mirror \"%s\"", member->name);
    if (status == WA_CANCELLED)
        return status;
    WA_LOCK(&m->mutex);
    bool answered = is_answer(status);
    member->up = answered && !member->unfit;
    if (!answered) {
        member->last_error = *err;
        member->last_error_time = wa_time_now();
    }
    return status;
}

wa_status
wa_mirror_note_write(wa_mirror_store *m, size_t i, wa_status status, wa_error *err)
{
    if (i > 0 && status == WA_NOT_FOUND) {
        err->status = WA_UNAVAILABLE;
        status = WA_UNAVAILABLE;
    }
    return wa_mirror_note(m, i, status, err);
}

void
wa_mirror_count_served(wa_mirror_store *m, size_t i, bool listing)
{
    WA_LOCK(&m->mutex);
    m->members[i].served++;
    m->members[i].listed += listing;
}

static wa_status
check_required(wa_mirror_store *m, size_t i, bool *ret_unfit, wa_error *err)
{
    WA_CLEANUP(wa_buf_done) wa_buf ours = WA_BUF_INIT(REQUIRED_MAX);
    WA_CLEANUP(wa_buf_done) wa_buf theirs = WA_BUF_INIT(REQUIRED_MAX);
    const wa_mirror_member *member = &m->members[i];
    wa_status status =
        wa_store_get(m->members[0].store, m->required, 0, UINT64_MAX, &ours, NULL, err);
    if (status == WA_NOT_FOUND)
        status = wa_error_set(err, WA_UNAVAILABLE, "\"%s\" has no entry of the cluster (\"%s\")",
                              m->members[0].store->traits.url, m->required);
    WA_TRY(wa_mirror_note(m, 0, status, err));
    status = wa_store_get(member->store, m->required, 0, UINT64_MAX, &theirs, NULL, err);
    if (status == WA_NOT_FOUND) {
        *ret_unfit = true;
        (void)wa_error_set(err, WA_FAILED, "\"%s\" has no entry of the cluster (\"%s\")",
                           member->store->traits.url, m->required);
        return wa_error_hint(err, "Run \"walagent mirror\": it copies the archive there, and then "
                                  "the entry. (For a new archive \"walagent init\" does it.)");
    }
    WA_TRY(wa_mirror_note(m, i, status, err));
    if (ours.len == theirs.len && (ours.len == 0 || memcmp(ours.data, theirs.data, ours.len) == 0))
        return WA_OK;
    *ret_unfit = true;
    (void)wa_error_set(err, WA_INVALID, "\"%s\" holds another archive: its \"%s\" differs",
                       member->store->traits.url, m->required);
    return wa_error_hint(err, "A mirror needs a place of its own: correct url in [repository %s].",
                         member->name);
}

wa_status
wa_mirror_ready(wa_mirror_store *m, size_t i, wa_error *err)
{
    if (m->required == NULL || atomic_load(&m->members[i].ready))
        return WA_OK;
    wa_mirror_member *member = &m->members[i];
    bool unfit = false;
    wa_status status = check_required(m, i, &unfit, err);
    if (unfit)
        (void)wa_error_wrap(err, "mirror \"%s\"", member->name);
    if (status != WA_OK && !unfit)
        return status; /* whether it is fit is not known */
    WA_LOCK(&m->mutex);
    member->unfit = unfit;
    member->up = !unfit;
    if (unfit) {
        member->last_error = *err;
        member->last_error_time = wa_time_now();
    }
    atomic_store(&member->ready, !unfit);
    return status;
}

bool
wa_mirror_may_serve(wa_mirror_store *m, size_t i)
{
    wa_mirror_member *member = &m->members[i];
    if (m->required == NULL || atomic_load(&member->ready))
        return true;
    {
        WA_LOCK(&m->mutex);
        if (member->unfit)
            return false;
    }
    wa_error ignored = WA_ERROR_INIT;
    if (!atomic_load(&member->has) &&
        wa_mirror_note(m, i, wa_store_head(member->store, m->required, NULL, NULL, NULL, &ignored),
                       &ignored) != WA_OK)
        return false;
    atomic_store(&member->has, true);
    return true;
}

/* Before the main store is written to: what it alone has nobody could acknowledge. */
static wa_status
all_ready(wa_mirror_store *m, wa_error *err)
{
    for (size_t i = 1; i < m->count; i++)
        WA_TRY(wa_mirror_ready(m, i, err));
    return WA_OK;
}

/* ---- writes ---- */

/* Who won a name the main store has said; a mirror that would replace is looked at first. */
static wa_status
put_once(wa_mirror_member *mirror, const char *key, const wa_body *body, const char *meta,
         wa_put_mode mode, wa_error *err)
{
    if (mode == WA_PUT_CREATE && !mirror->conditional) {
        wa_status status = wa_store_head(mirror->store, key, NULL, NULL, NULL, err);
        if (status == WA_OK)
            return wa_error_set(err, WA_EXISTS, "object \"%s\" exists", key);
        if (status != WA_NOT_FOUND)
            return status;
        wa_error_clear(err);
    }
    return wa_store_put(mirror->store, key, body, meta, mode, err);
}

static wa_status
follow_put(wa_mirror_store *m, size_t i, const char *key, const wa_body *body, const char *meta,
           wa_put_mode mode, wa_error *err)
{
    WA_CRASH_POINT("mirror-before-put");
    wa_status status =
        wa_mirror_note_write(m, i, put_once(&m->members[i], key, body, meta, mode, err), err);
    if (status != WA_EXISTS)
        return status;
    wa_error_clear(err); /* another process that met ours was faster, or an earlier try was */
    return wa_mirror_judged(wa_mirror_mend(m, i, key, err), err);
}

/* The name was taken, and whoever wrote it may have died: the main store said so of what lasts. */
static wa_status
lasts_in_mirrors(wa_mirror_store *m, const char *key, wa_error *err)
{
    WA_CLEANUP(wa_strv_done) wa_strv keys = {0};
    wa_strv_add(&keys, key);
    WA_TRY(wa_mirror_everywhere(m, key, err));
    for (size_t i = 1; i < m->count; i++)
        WA_TRY(wa_mirror_settle(m, i, &keys, err));
    return WA_OK;
}

static wa_status
mirror_put(wa_store *store, const char *key, const wa_body *body, const char *meta,
           wa_put_mode mode, wa_error *err)
{
    wa_mirror_store *m = (wa_mirror_store *)store;
    WA_TRY(all_ready(m, err));
    wa_status status =
        wa_mirror_note(m, 0, wa_store_put(m->members[0].store, key, body, meta, mode, err), err);
    if (status == WA_EXISTS) {
        wa_error taken = *err;
        status = lasts_in_mirrors(m, key, err);
        if (status != WA_OK && status != WA_NOT_FOUND) /* deleted since: it was taken */
            return status;
        *err = taken;
        return WA_EXISTS;
    }
    WA_TRY(status);
    bool deleted = false;
    for (size_t i = 1; i < m->count; i++) {
        status = follow_put(m, i, key, body, meta, mode, err);
        if (status != WA_NOT_FOUND)
            WA_TRY(status);
        deleted = deleted || status == WA_NOT_FOUND; /* by another, since it was written */
    }
    wa_error_clear(err);
    if (!deleted)
        wa_mirror_remember(m, key);
    return WA_OK;
}

/* What counts is there in each of them. */
static wa_status
mirror_settle(wa_store *store, const wa_strv *keys, wa_error *err)
{
    wa_mirror_store *m = (wa_mirror_store *)store;
    WA_TRY(wa_mirror_note(m, 0, wa_store_settle(m->members[0].store, keys, err), err));
    for (size_t i = 1; i < m->count; i++)
        WA_TRY(wa_mirror_settle(m, i, keys, err));
    return WA_OK;
}

/* The main store's: a mirror copies what it holds. */
static int
mirror_draft(wa_store *store)
{
    return wa_store_draft(((wa_mirror_store *)store)->members[0].store);
}

static wa_status
mirror_draft_write(wa_store *store, int draft, uint64_t offset, const void *data, size_t len,
                   wa_error *err)
{
    wa_mirror_store *m = (wa_mirror_store *)store;
    return wa_mirror_note(
        m, 0, wa_store_draft_write(m->members[0].store, draft, offset, data, len, err), err);
}

/* The main store last: as long as it has the object a delete that failed is repeated, while one
 * that a mirror alone kept would stand in the way of the next object of that name. */
static wa_status
mirror_remove(wa_store *store, const wa_strv *keys, wa_error *err)
{
    wa_mirror_store *m = (wa_mirror_store *)store;
    for (size_t k = 0; k < keys->count; k++)
        wa_mirror_forget(m, keys->items[k]);
    WA_TRY(all_ready(m, err));
    for (size_t i = m->count; i-- > 0;)
        WA_TRY(wa_mirror_note(m, i, wa_store_delete(m->members[i].store, keys, err), err));
    return WA_OK;
}

static void
mirror_upload_free(wa_upload *upload)
{
    mirror_upload *u = (mirror_upload *)upload;
    const wa_mirror_store *m = (const wa_mirror_store *)upload->store;
    for (size_t i = 0; i < m->count; i++)
        wa_upload_free(u->parts[i]);
    wa_freep(&u->key);
    wa_freep(&u);
}

static wa_status
mirror_upload_begin(wa_store *store, const char *key, const char *meta, uint64_t part_size,
                    wa_upload **ret, wa_error *err)
{
    wa_mirror_store *m = (wa_mirror_store *)store;
    WA_TRY(all_ready(m, err));
    mirror_upload *u = wa_calloc(1, sizeof *u + m->count * sizeof u->parts[0]);
    u->base.store = store;
    u->key = wa_strdup(key);
    WA_CLEANUP(wa_upload_freep) wa_upload *upload = &u->base;
    for (size_t i = 0; i < m->count; i++) {
        WA_TRY(wa_mirror_note_write(
            m, i, wa_upload_begin(m->members[i].store, key, meta, part_size, &u->parts[i], err),
            err));
    }
    *ret = WA_TAKE(upload);
    return WA_OK;
}

static wa_status
mirror_upload_part(wa_upload *upload, unsigned number, const void *data, size_t len, wa_error *err)
{
    mirror_upload *u = (mirror_upload *)upload;
    wa_mirror_store *m = (wa_mirror_store *)upload->store;
    for (size_t i = 0; i < m->count; i++)
        WA_TRY(
            wa_mirror_note_write(m, i, wa_upload_part(u->parts[i], number, data, len, err), err));
    return WA_OK;
}

static wa_status
mirror_upload_commit(wa_upload *upload, wa_error *err)
{
    mirror_upload *u = (mirror_upload *)upload;
    wa_mirror_store *m = (wa_mirror_store *)upload->store;
    for (size_t i = 0; i < m->count; i++) {
        if (i > 0)
            WA_CRASH_POINT("mirror-before-commit");
        WA_TRY(wa_mirror_note_write(m, i, wa_upload_commit(u->parts[i], err), err));
    }
    wa_mirror_remember(m, u->key);
    return WA_OK;
}

static wa_status
mirror_abort_uploads(wa_store *store, const char *prefix, wa_time before, size_t *ret_count,
                     wa_error *err)
{
    wa_mirror_store *m = (wa_mirror_store *)store;
    for (size_t i = 0; i < m->count; i++) {
        size_t count = 0;
        WA_TRY(wa_mirror_note(
            m, i, wa_store_abort_uploads(m->members[i].store, prefix, before, &count, err), err));
        *ret_count = i == 0 ? count : *ret_count;
    }
    return WA_OK;
}

/* An object of a member that another one has, too: they are one place by two names. */
static wa_status
look_for(wa_mirror_store *m, size_t owner, const char *key, wa_error *err)
{
    for (size_t i = owner + 1; i < m->count; i++) {
        wa_status status = wa_mirror_note(
            m, i, wa_store_head(m->members[i].store, key, NULL, NULL, NULL, err), err);
        if (status == WA_OK) {
            (void)wa_error_set(err, WA_INVALID, "mirror \"%s\": \"%s\" is the same place as \"%s\"",
                               m->members[i].name, m->members[i].store->traits.url,
                               m->members[owner].store->traits.url);
            return wa_error_hint(err, "A second copy needs a place of its own.");
        }
        if (status != WA_NOT_FOUND)
            return status;
        wa_error_clear(err);
    }
    return WA_OK;
}

static wa_status
check_places(wa_mirror_store *m, const char *prefix, wa_error *err)
{
    uint64_t random = 0;
    if (getrandom(&random, sizeof random, 0) != (ssize_t)sizeof random)
        return wa_error_set(err, WA_IO, "could not get random bytes");
    wa_body body = {"place", 5, -1, 0};
    for (size_t i = 0; i + 1 < m->count; i++) {
        WA_CLEANUP(wa_strv_done) wa_strv keys = {0};
        WA_CLEANUP(wa_freep)
        char *key = wa_format("%sprobe-place-%016" PRIx64 "-%zu", prefix, random, i);
        wa_store *store = m->members[i].store;
        wa_strv_add(&keys, key);
        WA_TRY(
            wa_mirror_note(m, i, wa_store_put(store, key, &body, NULL, WA_PUT_CREATE, err), err));
        wa_status status = look_for(m, i, key, err);
        wa_error second = WA_ERROR_INIT;
        wa_status removed = wa_mirror_note(m, i, wa_store_delete(store, &keys, &second), &second);
        WA_TRY(status);
        if (removed != WA_OK)
            *err = second;
        WA_TRY(removed);
    }
    return WA_OK;
}

/* Each by itself: the main store's answer counts, a mirror must take objects and give them back. */
static wa_status
mirror_probe(wa_store *store, const char *prefix, bool *ret_conditional, wa_error *err)
{
    wa_mirror_store *m = (wa_mirror_store *)store;
    bool conditional = false;
    WA_TRY(
        wa_mirror_note(m, 0, wa_store_probe(m->members[0].store, prefix, &conditional, err), err));
    for (size_t i = 1; i < m->count; i++) {
        wa_mirror_member *mirror = &m->members[i];
        mirror->conditional = false;
        WA_TRY(wa_mirror_note(
            m, i, wa_store_probe(mirror->store, prefix, &mirror->conditional, err), err));
    }
    WA_TRY(check_places(m, prefix, err));
    store->traits.conditional_put = conditional;
    *ret_conditional = conditional;
    return WA_OK;
}

/* A mirror keeps what its own driver found. */
static void
mirror_set_conditional(wa_store *store, bool conditional)
{
    wa_store_set_conditional(((wa_mirror_store *)store)->members[0].store, conditional);
}

static void
mirror_free(wa_store *store)
{
    wa_mirror_store *m = (wa_mirror_store *)store;
    for (size_t i = 0; i < m->count; i++) {
        wa_store_free(m->members[i].store);
        wa_freep(&m->members[i].name);
    }
    for (size_t i = 0; i < WA_MIRROR_KNOWN; i++)
        wa_freep(&m->known[i]);
    wa_freep(&m->members);
    wa_freep(&m->required);
    wa_mutex_done(&m->mutex);
    wa_freep(&m);
}

static const wa_store_ops mirror_ops = {
    .free = mirror_free,
    .put = mirror_put,
    .settle = mirror_settle,
    .draft = mirror_draft,
    .draft_write = mirror_draft_write,
    .get = wa_mirror_get,
    .head = wa_mirror_head,
    .remove = mirror_remove,
    .list = wa_mirror_list,
    .upload_begin = mirror_upload_begin,
    .upload_part = mirror_upload_part,
    .upload_commit = mirror_upload_commit,
    .upload_free = mirror_upload_free,
    .abort_uploads = mirror_abort_uploads,
    .set_conditional = mirror_set_conditional,
    .probe = mirror_probe,
};

static void
add_member(wa_mirror_store *m, wa_store *store, const char *name)
{
    wa_store_traits *ours = &m->base.traits;
    const wa_store_traits *its = wa_store_get_traits(store);
    m->members[m->count++] = (wa_mirror_member){
        .store = store, .name = wa_strdup(name), .up = true, .last_error = WA_ERROR_INIT};
    if (m->count == 1) {
        *ours = *its;
        return;
    }
    m->members[m->count - 1].conditional = wa_str_eq(its->scheme, "file");
    ours->multipart = ours->multipart && its->multipart;
    ours->part_size = its->part_size > ours->part_size ? its->part_size : ours->part_size;
    ours->parallel = its->parallel < ours->parallel ? its->parallel : ours->parallel;
}

wa_store *
wa_store_mirror_new(wa_store *main_store, const wa_mirror *mirrors, size_t count)
{
    WA_ASSERT(count >= 1);
    wa_mirror_store *m = wa_calloc(1, sizeof *m);
    m->base.ops = &mirror_ops;
    m->members = wa_calloc(count + 1, sizeof *m->members);
    wa_mutex_init(&m->mutex);
    add_member(m, main_store, "");
    for (size_t i = 0; i < count; i++)
        add_member(m, mirrors[i].store, mirrors[i].name);
    return &m->base;
}

/* ---- what the caller may know and set ---- */

static wa_mirror_store *
mirrored(const wa_store *store)
{
    return store->ops == &mirror_ops ? (wa_mirror_store *)(uintptr_t)store : NULL;
}

void
wa_store_mirror_be_strict(wa_store *store)
{
    wa_mirror_store *m = mirrored(store);
    if (m != NULL)
        m->strict = true;
}

void
wa_store_mirror_list_anywhere(wa_store *store)
{
    wa_mirror_store *m = mirrored(store);
    if (m != NULL)
        m->list_anywhere = true;
}

void
wa_store_mirror_require(wa_store *store, const char *key)
{
    wa_mirror_store *m = mirrored(store);
    if (m == NULL || wa_str_eq(m->required, key))
        return;
    wa_freep(&m->required);
    m->required = wa_strdup(key);
    for (size_t i = 0; i < m->count; i++) {
        atomic_store(&m->members[i].ready, false);
        atomic_store(&m->members[i].has, false);
    }
}

size_t
wa_store_members(const wa_store *store)
{
    const wa_mirror_store *m = mirrored(store);
    return m == NULL ? 1 : m->count;
}

wa_store *
wa_store_member(wa_store *store, size_t i)
{
    wa_mirror_store *m = mirrored(store);
    WA_ASSERT(i < wa_store_members(store));
    return m == NULL ? store : m->members[i].store;
}

bool
wa_store_mirror_looks_first(wa_store *store, size_t i)
{
    return wa_store_get_traits(store)->conditional_put &&
           !wa_store_get_traits(wa_store_member(store, i))->conditional_put;
}

void
wa_store_member_status(const wa_store *store, size_t i, wa_member_status *ret)
{
    wa_mirror_store *m = mirrored(store);
    *ret = (wa_member_status){.up = true, .last_error_time = WA_TIME_NONE};
    if (m == NULL) {
        (void)snprintf(ret->url, sizeof ret->url, "%s", store->traits.url);
        return;
    }
    WA_ASSERT(i < m->count);
    WA_LOCK(&m->mutex);
    const wa_mirror_member *member = &m->members[i];
    (void)snprintf(ret->name, sizeof ret->name, "%s", member->name);
    (void)snprintf(ret->url, sizeof ret->url, "%s", member->store->traits.url);
    (void)snprintf(ret->last_error, sizeof ret->last_error, "%.500s", member->last_error.message);
    ret->up = member->up;
    ret->served = member->served;
    ret->copied = member->copied;
    if (member->last_error.status != WA_OK)
        ret->last_error_time = member->last_error_time;
}

void
wa_store_mirror_count_served(wa_store *store, size_t i)
{
    wa_mirror_store *m = mirrored(store);
    WA_ASSERT(m != NULL && i >= 1 && i < m->count);
    wa_mirror_count_served(m, i, false);
}

static uint64_t
count_served(const wa_store *store, bool listings_alone)
{
    wa_mirror_store *m = mirrored(store);
    uint64_t all = 0;
    if (m == NULL)
        return 0;
    WA_LOCK(&m->mutex);
    for (size_t i = 1; i < m->count; i++)
        all += listings_alone ? m->members[i].listed : m->members[i].served;
    return all;
}

uint64_t
wa_store_mirror_served(const wa_store *store)
{
    return count_served(store, false);
}

uint64_t
wa_store_mirror_listed(const wa_store *store)
{
    return count_served(store, true);
}

void
wa_store_mirror_ask_main(wa_store *store)
{
    wa_mirror_store *m = mirrored(store);
    if (m != NULL)
        wa_mirror_set_away(m, WA_OK);
}

wa_status
wa_store_mirror_complete(wa_store *store, const char *key, wa_error *err)
{
    wa_mirror_store *m = mirrored(store);
    if (m == NULL)
        return WA_OK;
    wa_status status = wa_mirror_everywhere(m, key, err);
    if (status != WA_NOT_FOUND)
        return status;
    wa_error_clear(err);
    return WA_OK;
}

wa_status
wa_store_mirror_has(wa_store *store, size_t i, const char *key, bool *ret, wa_error *err)
{
    wa_mirror_store *m = mirrored(store);
    WA_ASSERT(m != NULL && i >= 1 && i < m->count);
    return wa_mirror_compare(m, i, key, ret, err);
}

wa_status
wa_store_mirror_copy(wa_store *store, size_t i, const char *key, bool *ret_copied, wa_error *err)
{
    wa_mirror_store *m = mirrored(store);
    WA_ASSERT(m != NULL && i >= 1 && i < m->count);
    wa_status status =
        wa_mirror_note(m, i, wa_store_head(m->members[i].store, key, NULL, NULL, NULL, err), err);
    bool there = status == WA_OK;
    if (status == WA_NOT_FOUND) {
        wa_error_clear(err);
        WA_TRY(wa_mirror_bring(m, i, key, err));
    } else {
        WA_TRY(status);
        WA_TRY(wa_mirror_mend(m, i, key, err));
    }
    *ret_copied = !there;
    return WA_OK;
}
