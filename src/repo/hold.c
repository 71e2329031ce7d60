/*
 * src/repo/hold.c - hold/<LABEL>: the object's presence is the hold, its content says why.
 *
 *   {"v":1,"label":LABEL,"reason":"...","time":RFC 3339,"writer":"<host-pid-random>"}
 */
#include "walagent/repo/hold.h"

#include "repo_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void
wa_holds_done(wa_holds *h)
{
    for (size_t i = 0; i < h->count; i++)
        free(h->items[i].reason);
    free(h->items);
    *h = (wa_holds){0};
}

bool
wa_holds_has(const wa_holds *h, const char *label)
{
    for (size_t i = 0; i < h->count; i++) {
        if (strcmp(h->items[i].label, label) == 0)
            return true;
    }
    return false;
}

wa_status
wa_hold_put(wa_repo *repo, const char *label, const char *reason, wa_error *err)
{
    WA_CLEANUP(wa_backup_info_freep) wa_backup_info *backup = NULL;
    WA_TRY(wa_backup_load(repo, label, &backup, err));
    WA_CLEANUP(wa_freep) char *key = wa_repo_key(repo, "hold/%s", label);
    WA_CLEANUP(wa_json_freep) json_t *json = json_object();
    wa_json_set_i64(json, "v", 1);
    wa_json_set_string(json, "label", label);
    wa_json_set_string(json, "reason", reason);
    return wa_object_put_note(repo, key, "hold", json, NULL, err);
}

wa_status
wa_hold_release(wa_repo *repo, const char *label, wa_error *err)
{
    if (!wa_backup_label_valid(label))
        return wa_error_set(err, WA_INVALID, "invalid backup label \"%s\"", label);
    WA_CLEANUP(wa_freep) char *key = wa_repo_key(repo, "hold/%s", label);
    bool held = false;
    WA_TRY(wa_object_exists(wa_repo_store(repo), key, &held, err));
    if (!held)
        return wa_error_set(err, WA_NOT_FOUND, "backup \"%s\" is not held", label);
    return wa_object_delete(repo, key, err);
}

typedef struct load_state {
    wa_repo *repo;
    wa_holds *holds;
} load_state;

/* A damaged hold still holds: only its reason is lost. */
static wa_status
load_hold(void *arg, size_t index, wa_error *err)
{
    load_state *s = arg;
    wa_hold *hold = &s->holds->items[index];
    WA_CLEANUP(wa_freep) char *key = wa_repo_key(s->repo, "hold/%s", hold->label);
    WA_CLEANUP(wa_json_freep) json_t *json = NULL;
    hold->time = WA_TIME_NONE;
    wa_status status = wa_object_get_json(s->repo, key, &json, err);
    if (status == WA_OK)
        status = wa_repo_json_time(json, "time", key, &hold->time, err);
    if (status == WA_OK)
        hold->reason = wa_strdup(wa_json_string_or(json, "reason", NULL));
    if (status != WA_OK && status != WA_CORRUPT && status != WA_NOT_FOUND)
        return status;
    wa_error_clear(err);
    return WA_OK;
}

wa_status
wa_holds_load(wa_repo *repo, wa_holds *ret, wa_error *err)
{
    WA_CLEANUP(wa_strv_done) wa_strv keys = {0};
    WA_CLEANUP(wa_holds_done) wa_holds holds = {0};
    WA_CLEANUP(wa_freep) char *prefix = wa_repo_key(repo, "hold/");
    WA_TRY(wa_repo_list(repo, prefix, false, NULL, &keys, err));
    holds.items = wa_calloc(keys.count + 1, sizeof *holds.items);
    for (size_t i = 0; i < keys.count; i++) {
        WA_CLEANUP(wa_freep) char *label = wa_key_tail(keys.items[i]);
        if (wa_backup_label_valid(label))
            snprintf(holds.items[holds.count++].label, WA_LABEL_SIZE, "%s", label);
    }
    load_state state = {repo, &holds};
    WA_TRY(wa_repo_each(repo, holds.count, load_hold, &state, err));
    *ret = holds;
    holds = (wa_holds){0};
    return WA_OK;
}
