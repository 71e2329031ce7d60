/*
 * src/repo/wal_list.c - which whole segments of a branch there are.
 */
#include "walagent/repo/wal_object.h"

#include "repo_internal.h"
#include "wal_internal.h"

#include <string.h>

typedef struct list_state {
    uint64_t segment_size;
    const wa_branch *branch;
    wa_segno from;
    wa_wal_list_fn fn;
    void *arg;
} list_state;

/* ".../<SEG24>.zst" of the branch's timeline. */
static bool
segment_of_key(const char *key, wa_tli tli, uint64_t segment_size, wa_segno *ret)
{
    WA_CLEANUP(wa_freep) char *name = wa_key_tail(key);
    wa_tli named = 0;
    if (strlen(name) != 28 || strcmp(name + 24, ".zst") != 0)
        return false;
    name[24] = '\0';
    return wa_segment_parse(name, segment_size, &named, ret) && named == tli;
}

static wa_status
list_one(void *arg, const wa_object *object, wa_error *err)
{
    list_state *s = arg;
    wa_segno segno = 0;
    if (!segment_of_key(object->key, s->branch->tli, s->segment_size, &segno) || segno < s->from)
        return WA_OK; /* a stray object under the prefix is no segment */
    return s->fn(s->arg, segno, object->size, object->modified, err);
}

wa_status
wa_wal_list_page(wa_repo *repo, const wa_branch *branch, wa_segno from, size_t page,
                 wa_wal_list_fn fn, void *arg, wa_error *err)
{
    char text[WA_BRANCH_TEXT];
    WA_CLEANUP(wa_freep)
    char *prefix = wa_repo_key(repo, "wal/%s/", wa_branch_format(branch, text));
    WA_CLEANUP(wa_freep) char *after = from == 0 ? NULL : wa_wal_key(repo, branch, from - 1);
    list_state state = {wa_repo_cluster(repo)->segment_size, branch, from, fn, arg};
    wa_list_options options = {.prefix = prefix, .after = after, .page = page};
    return wa_store_list(wa_repo_store(repo), &options, list_one, &state, err);
}

wa_status
wa_wal_list(wa_repo *repo, const wa_branch *branch, wa_segno from, wa_wal_list_fn fn, void *arg,
            wa_error *err)
{
    return wa_wal_list_page(repo, branch, from, 0, fn, arg, err);
}

typedef struct first_state {
    bool found;
    wa_segno segno;
} first_state;

static wa_status
take_first(void *arg, wa_segno segno, uint64_t stored_size, wa_time modified, wa_error *err)
{
    (void)stored_size;
    (void)modified;
    (void)err;
    first_state *first = arg;
    first->found = true;
    first->segno = segno;
    return WA_CANCELLED; /* enough */
}

wa_status
wa_wal_next(wa_repo *repo, const wa_branch *branch, wa_segno from, bool *ret_found, wa_segno *ret,
            wa_error *err)
{
    first_state first = {0};
    WA_TRY(wa_wal_list_page(repo, branch, from, 1, take_first, &first, err));
    *ret_found = first.found;
    *ret = first.segno;
    return WA_OK;
}

/* The branch's log ids behind `after` ("" for all), at most 1,000: the last one seen. */
typedef struct log_state {
    size_t count;
    uint64_t last;
} log_state;

static wa_status
take_log(void *arg, const wa_object *object, wa_error *err)
{
    (void)err;
    log_state *s = arg;
    WA_CLEANUP(wa_freep) char *name = wa_key_tail(object->key);
    uint64_t log = 0;
    if (strlen(name) != 8 || !wa_parse_hex(name, 8, &log))
        return WA_OK;
    s->last = log;
    s->count++;
    return WA_OK;
}

static wa_status
last_log(wa_repo *repo, const wa_branch *branch, bool *ret_found, uint64_t *ret, wa_error *err)
{
    char text[WA_BRANCH_TEXT];
    WA_CLEANUP(wa_freep)
    char *prefix = wa_repo_key(repo, "wal/%s/", wa_branch_format(branch, text));
    wa_list_options options = {.prefix = prefix, .delimited = true};
    log_state state = {0};
    WA_TRY(wa_store_list(wa_repo_store(repo), &options, take_log, &state, err));
    *ret_found = state.count > 0;
    *ret = state.last;
    return WA_OK;
}

static wa_status
take_last(void *arg, wa_segno segno, uint64_t stored_size, wa_time modified, wa_error *err)
{
    (void)stored_size;
    (void)modified;
    (void)err;
    first_state *last = arg;
    last->found = true;
    last->segno = segno;
    return WA_OK;
}

wa_status
wa_wal_last(wa_repo *repo, const wa_branch *branch, wa_segno *ret, wa_error *err)
{
    bool found = false;
    uint64_t log = 0;
    WA_TRY(last_log(repo, branch, &found, &log, err));
    first_state last = {0};
    uint64_t per_log = (UINT64_C(1) << 32) / wa_repo_cluster(repo)->segment_size;
    if (found)
        WA_TRY(wa_wal_list(repo, branch, log * per_log, take_last, &last, err));
    if (!last.found) {
        char text[WA_BRANCH_TEXT];
        return wa_error_set(err, WA_NOT_FOUND, "branch %s has no whole WAL segment in the archive",
                            wa_branch_format(branch, text));
    }
    *ret = last.segno;
    return WA_OK;
}
