/*
 * src/repo/event.c - events: event/<YYYYMMDD>/<YYYYMMDDTHHMMSS>.<6 digits>Z-<8 hex>.json, created
 * once each; their keys sort by time.
 *
 *   {"v":1,"kind":"conflict","time":"<RFC 3339>","message":"...","writer":"...","details":{...}}
 */
#include "walagent/repo/event.h"

#include "repo_internal.h"

#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#define EVENTS_MAX 10000

/* "<YYYYMMDDTHHMMSS>.<6 digits>Z" */
static void
stamp(wa_time t, char out[static WA_TIME_TEXT])
{
    char compact[WA_TIME_TEXT];
    wa_time_format_compact(t, compact);
    int64_t us = wa_time_to_unix_us(t) % 1000000;
    snprintf(out, WA_TIME_TEXT, "%.15s.%06lldZ", compact, (long long)(us < 0 ? us + 1000000 : us));
}

wa_status
wa_event_put(wa_repo *repo, const char *kind, const char *message, const json_t *details,
             wa_error *err)
{
    wa_time now = wa_time_now();
    char text[WA_TIME_TEXT];
    uint32_t salt = 0;
    if (getrandom(&salt, sizeof salt, 0) != (ssize_t)sizeof salt)
        salt = (uint32_t)wa_mono_now_us();
    stamp(now, text);
    WA_CLEANUP(wa_freep)
    char *key = wa_repo_key(repo, "event/%.8s/%s-%08x.json", text, text, salt);
    WA_CLEANUP(wa_json_freep) json_t *json = json_object();
    wa_json_set_i64(json, "v", 1);
    wa_json_set_string(json, "kind", kind);
    wa_repo_json_set_time(json, "time", now);
    wa_json_set_string(json, "message", message);
    wa_json_set_string(json, "writer", wa_repo_writer(repo));
    if (details != NULL)
        wa_json_set(json, "details", json_deep_copy(details));
    return wa_object_put_json(repo, key, "event", json, err);
}

typedef struct load_state {
    wa_repo *repo;
    const wa_strv *keys;
    json_t **events;
} load_state;

/* A damaged event is shown as what it is; it must not hide the others. */
static wa_status
load_one(void *arg, size_t index, wa_error *err)
{
    load_state *s = arg;
    wa_status status = wa_object_get_json(s->repo, s->keys->items[index], &s->events[index], err);
    if (status == WA_NOT_FOUND) {
        wa_error_clear(err); /* expired since the listing */
        return WA_OK;
    }
    if (status != WA_CORRUPT)
        return status;
    json_t *damaged = json_object();
    wa_json_set_i64(damaged, "v", 1);
    wa_json_set_string(damaged, "kind", "damage");
    wa_json_set(damaged, "time", json_null());
    wa_json_set_string(damaged, "message", err->message);
    s->events[index] = damaged;
    wa_error_clear(err);
    return WA_OK;
}

wa_status
wa_events_load(wa_repo *repo, wa_time since, json_t **ret, wa_error *err)
{
    WA_CLEANUP(wa_freep) char *prefix = wa_repo_key(repo, "event/");
    WA_CLEANUP(wa_freep) char *after = NULL;
    if (since != WA_TIME_NONE) {
        char text[WA_TIME_TEXT];
        stamp(since, text);
        after = wa_format("%s%.8s/%s", prefix, text, text);
    }
    WA_CLEANUP(wa_strv_done) wa_strv keys = {0};
    WA_TRY(wa_repo_list(repo, prefix, false, after, &keys, err));
    if (keys.count > EVENTS_MAX)
        return wa_error_set(err, WA_NO_SPACE, "there are %zu events since then, more than %d",
                            keys.count, EVENTS_MAX);
    WA_CLEANUP(wa_freep) json_t **events = wa_calloc(keys.count + 1, sizeof *events);
    load_state state = {repo, &keys, events};
    wa_status status = wa_repo_each(repo, keys.count, load_one, &state, err);
    json_t *all = json_array();
    for (size_t i = 0; i < keys.count; i++) {
        if (events[i] != NULL)
            json_array_append_new(all, events[i]);
    }
    if (status != WA_OK) {
        json_decref(all);
        return status;
    }
    *ret = all;
    return WA_OK;
}
