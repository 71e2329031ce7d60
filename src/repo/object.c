/*
 * src/repo/object.c - small objects (JSON, histories): create-only, with public facts that carry
 * the content's identity, which every read checks; listings; parallel requests.
 *
 *   public facts: {"v":1,"kind":"<word>","writer":"<host-pid-random>","raw":n,"xxh3":"<32 hex>"}
 */
#include "repo_internal.h"

#include "walagent/codec/hash.h"

#include <stdatomic.h>
#include <string.h>

static char *
small_meta(const wa_repo *repo, const char *kind, const void *data, size_t len)
{
    char hash[WA_XXH_HEX];
    WA_CLEANUP(wa_json_freep) json_t *json = json_object();
    wa_json_set_i64(json, "v", 1);
    wa_json_set_string(json, "kind", kind);
    wa_json_set_string(json, "writer", wa_repo_writer(repo));
    wa_json_set_u64(json, "raw", len);
    wa_json_set_string(json, "xxh3", wa_xxh_of(data, len, hash));
    return wa_json_dump(json, 0);
}

wa_status
wa_object_put(wa_repo *repo, const char *key, const char *kind, const void *data, size_t len,
              wa_error *err)
{
    WA_CLEANUP(wa_freep) char *meta = small_meta(repo, kind, data, len);
    wa_body body = {.data = len == 0 ? "" : data, .len = len, .fd = -1};
    return wa_store_put(wa_repo_store(repo), key, &body, meta, WA_PUT_CREATE, err);
}

wa_status
wa_object_put_same(wa_repo *repo, const char *key, const char *kind, const void *data, size_t len,
                   wa_error *err)
{
    wa_status status = wa_object_put(repo, key, kind, data, len, err);
    if (status != WA_EXISTS)
        return status;
    WA_CLEANUP(wa_buf_done) wa_buf there = WA_BUF_INIT(WA_SMALL_MAX);
    WA_TRY(wa_object_get(repo, key, &there, err));
    if (there.len == len && (len == 0 || memcmp(there.data, data, len) == 0)) {
        wa_error_clear(err);
        return WA_OK;
    }
    return wa_error_set(err, WA_EXISTS, "\"%s\" exists with other content", key);
}

static wa_status
check_identity(const char *key, const char *meta, const wa_buf *content, wa_error *err)
{
    if (wa_str_empty(meta))
        return WA_OK; /* a copy made by other tools may have lost them */
    WA_CLEANUP(wa_json_freep) json_t *json = NULL;
    if (wa_json_parse(meta, strlen(meta), key, &json, err) != WA_OK)
        return wa_error_wrap(err, "public facts");
    char hash[WA_XXH_HEX];
    const char *expected = wa_json_string_or(json, "xxh3", NULL);
    if (expected != NULL && strcmp(expected, wa_xxh_of(content->data, content->len, hash)) != 0)
        return wa_error_set(err, WA_CORRUPT, "object \"%s\" has content %s where its facts say %s",
                            key, hash, expected);
    return WA_OK;
}

wa_status
wa_object_get(wa_repo *repo, const char *key, wa_buf *ret, wa_error *err)
{
    WA_CLEANUP(wa_freep) char *meta = NULL;
    WA_CLEANUP(wa_buf_done) wa_buf content = WA_BUF_INIT(ret->max);
    WA_TRY(wa_store_get(wa_repo_store(repo), key, 0, UINT64_MAX, &content, &meta, err));
    WA_TRY(check_identity(key, meta, &content, err));
    wa_buf_reset(ret);
    return wa_buf_append(ret, content.data, content.len, err);
}

wa_status
wa_object_put_json(wa_repo *repo, const char *key, const char *kind, const json_t *json,
                   wa_error *err)
{
    WA_CLEANUP(wa_freep) char *dumped = wa_json_dump(json, 2);
    WA_CLEANUP(wa_freep) char *text = wa_format("%s\n", dumped);
    size_t len = strlen(text);
    if (len > WA_SMALL_MAX)
        return wa_error_set(err, WA_NO_SPACE, "object \"%s\" would have %zu bytes, the limit is %u",
                            key, len, WA_SMALL_MAX);
    return wa_object_put(repo, key, kind, text, len, err);
}

wa_status
wa_object_put_note(wa_repo *repo, const char *key, const char *kind, json_t *json,
                   bool *ret_created, wa_error *err)
{
    wa_repo_json_set_time(json, "time", wa_time_now());
    wa_json_set_string(json, "writer", wa_repo_writer(repo));
    wa_status status = wa_object_put_json(repo, key, kind, json, err);
    if (status != WA_OK && status != WA_EXISTS)
        return status;
    wa_error_clear(err);
    if (ret_created != NULL)
        *ret_created = status == WA_OK;
    return WA_OK;
}

wa_status
wa_object_get_json(wa_repo *repo, const char *key, json_t **ret, wa_error *err)
{
    WA_CLEANUP(wa_buf_done) wa_buf text = WA_BUF_INIT(WA_SMALL_MAX);
    WA_TRY(wa_object_get(repo, key, &text, err));
    WA_CLEANUP(wa_json_freep) json_t *json = NULL;
    WA_TRY(wa_json_parse(wa_buf_str(&text), text.len, key, &json, err));
    if (!json_is_object(json))
        return wa_error_set(err, WA_CORRUPT, "\"%s\" is not a JSON object", key);
    *ret = WA_TAKE(json);
    return WA_OK;
}

wa_status
wa_object_delete(wa_repo *repo, const char *key, wa_error *err)
{
    WA_CLEANUP(wa_strv_done) wa_strv keys = {0};
    wa_strv_add(&keys, key);
    return wa_store_delete(wa_repo_store(repo), &keys, err);
}

wa_status
wa_object_exists(wa_store *store, const char *key, bool *ret, wa_error *err)
{
    wa_status status = wa_store_head(store, key, NULL, NULL, NULL, err);
    if (status != WA_OK && status != WA_NOT_FOUND)
        return status;
    *ret = status == WA_OK;
    wa_error_clear(err);
    return WA_OK;
}

static wa_status
collect_key(void *arg, const wa_object *object, wa_error *err)
{
    (void)err;
    wa_strv_add(arg, object->key);
    return WA_OK;
}

wa_status
wa_repo_list(wa_repo *repo, const char *prefix, bool delimited, const char *after, wa_strv *ret,
             wa_error *err)
{
    wa_list_options options = {.prefix = prefix, .delimited = delimited, .after = after};
    WA_CLEANUP(wa_strv_done) wa_strv keys = {0};
    WA_TRY(wa_store_list(wa_repo_store(repo), &options, collect_key, &keys, err));
    wa_strv_done(ret);
    *ret = keys;
    keys = (wa_strv){0};
    return WA_OK;
}

char *
wa_key_tail(const char *key)
{
    size_t len = strlen(key);
    if (len > 0 && key[len - 1] == '/')
        len--;
    size_t begin = len;
    while (begin > 0 && key[begin - 1] != '/')
        begin--;
    return wa_strndup(key + begin, len - begin);
}

bool
wa_key_number(const char *key, const char *suffix, uint64_t *ret)
{
    WA_CLEANUP(wa_freep) char *name = wa_key_tail(key);
    return strlen(name) == 8 + strlen(suffix) && strcmp(name + 8, suffix) == 0 &&
           strspn(name, "0123456789ABCDEF") >= 8 && wa_parse_hex(name, 8, ret);
}

typedef struct each_run {
    wa_each_fn fn;
    void *arg;
    size_t count;
    atomic_size_t next;
    atomic_bool failed;
    wa_mutex mutex;
    size_t failed_index;
    wa_error error;
} each_run;
typedef struct each_job {
    wa_job job; /* first: the pool gives its address back */
    each_run *run;
} each_job;

static void
run_each(wa_job *job, size_t worker)
{
    (void)worker;
    each_run *run = ((each_job *)job)->run;
    for (;;) {
        size_t index = atomic_fetch_add(&run->next, 1);
        if (index >= run->count || atomic_load(&run->failed))
            return;
        wa_error err = WA_ERROR_INIT;
        if (run->fn(run->arg, index, &err) == WA_OK)
            continue;
        WA_LOCK(&run->mutex);
        if (!atomic_load(&run->failed) || index < run->failed_index) {
            run->failed_index = index;
            run->error = err;
        }
        atomic_store(&run->failed, true);
    }
}

wa_status
wa_repo_each(wa_repo *repo, size_t count, wa_each_fn fn, void *arg, wa_error *err)
{
    size_t workers = wa_store_get_traits(wa_repo_store(repo))->parallel;
    workers = workers < 1 ? 1 : workers > 8 ? 8 : workers;
    workers = workers > count ? count : workers;
    if (workers <= 1) {
        for (size_t i = 0; i < count; i++)
            WA_TRY(fn(arg, i, err));
        return WA_OK;
    }
    WA_CLEANUP(wa_pool_freep) wa_pool *pool = NULL;
    WA_TRY(wa_pool_new("repo", workers, workers, &pool, err));
    each_run run = {.fn = fn, .arg = arg, .count = count};
    wa_mutex_init(&run.mutex);
    each_job jobs[8] = {0};
    for (size_t i = 0; i < workers; i++) {
        jobs[i].job.run = run_each;
        jobs[i].run = &run;
        wa_pool_submit(pool, &jobs[i].job);
    }
    for (size_t i = 0; i < workers; i++)
        wa_pool_wait(pool, &jobs[i].job);
    wa_mutex_done(&run.mutex);
    if (!atomic_load(&run.failed))
        return WA_OK;
    *err = run.error;
    return err->status;
}
