/*
 * src/repo/resolution.c - what is kept in quarantine, and which of it a person has settled.
 *
 *   quarantine/<TLI8>-<id8>/<name>-<xxh3>.zst
 *   resolution/<TLI8>-<id8>/<name>-<xxh3>.json
 *     {"v":1,"branch","name","xxh3","keep","kept_as","time","writer"}
 */
#include "walagent/repo/resolution.h"

#include "repo_internal.h"

#include <stdlib.h>
#include <string.h>

#define HASH_LEN (WA_XXH_HEX - 1)

void
wa_quarantine_list_done(wa_quarantine_list *l)
{
    for (size_t i = 0; i < l->count; i++) {
        free(l->items[i].name);
        free(l->items[i].key);
    }
    free(l->items);
    *l = (wa_quarantine_list){0};
}

const char *
wa_keep_name(wa_keep keep)
{
    return keep == WA_KEEP_BOTH ? "both" : "archived";
}

static char *
resolution_key(wa_repo *repo, const wa_branch *branch, const char *name, const char *xxh3)
{
    char text[WA_BRANCH_TEXT];
    return wa_repo_key(repo, "resolution/%s/%s-%s.json", wa_branch_format(branch, text), name,
                       xxh3);
}

/* "<name>-<xxh3>.zst" with a name that belongs to the segment; else it is not taken. */
static void
take_kept(const wa_branch *branch, const char *key, const char *segment, wa_quarantine_list *list)
{
    WA_CLEANUP(wa_freep) char *tail = wa_key_tail(key);
    size_t len = strlen(tail);
    if (!wa_str_ends(tail, ".zst") || len < HASH_LEN + 6 || tail[len - HASH_LEN - 5] != '-')
        return;
    wa_quarantined kept = {.branch = *branch};
    memcpy(kept.xxh3, tail + len - HASH_LEN - 4, HASH_LEN);
    kept.name = wa_strndup(tail, len - HASH_LEN - 5);
    if (strspn(kept.xxh3, "0123456789abcdef") != HASH_LEN ||
        strncmp(kept.name, segment, strlen(segment)) != 0 ||
        (kept.name[strlen(segment)] != '\0' &&
         strcmp(kept.name + strlen(segment), ".partial") != 0)) {
        wa_freep(&kept.name);
        return;
    }
    kept.key = wa_strdup(key);
    list->items = wa_reallocarray(list->items, list->count + 1, sizeof *list->items);
    list->items[list->count++] = kept;
}

/* Branches come from the listing itself: bytes may be kept for one that has nothing else. */
wa_status
wa_quarantine_find(wa_repo *repo, const char *segment_name, wa_quarantine_list *ret, wa_error *err)
{
    WA_CLEANUP(wa_quarantine_list_done) wa_quarantine_list list = {0};
    WA_CLEANUP(wa_freep) char *root = wa_repo_key(repo, "quarantine/");
    WA_CLEANUP(wa_strv_done) wa_strv branches = {0};
    WA_TRY(wa_repo_list(repo, root, true, NULL, &branches, err));
    for (size_t i = 0; i < branches.count; i++) {
        WA_CLEANUP(wa_freep) char *text = wa_key_tail(branches.items[i]);
        WA_CLEANUP(wa_freep) char *prefix = wa_format("%s%s/%s", root, text, segment_name);
        WA_CLEANUP(wa_strv_done) wa_strv keys = {0};
        wa_branch branch;
        if (!wa_branch_parse(text, &branch))
            continue;
        WA_TRY(wa_repo_list(repo, prefix, false, NULL, &keys, err));
        for (size_t k = 0; k < keys.count; k++)
            take_kept(&branch, keys.items[k], segment_name, &list);
    }
    *ret = list;
    list = (wa_quarantine_list){0};
    return WA_OK;
}

wa_status
wa_resolution_put(wa_repo *repo, const wa_quarantined *kept, wa_keep keep, bool *ret_created,
                  wa_error *err)
{
    WA_CLEANUP(wa_freep)
    char *key = resolution_key(repo, &kept->branch, kept->name, kept->xxh3);
    WA_CLEANUP(wa_json_freep) json_t *json = json_object();
    wa_json_set_i64(json, "v", 1);
    wa_repo_json_set_branch(json, "branch", &kept->branch);
    wa_json_set_string(json, "name", kept->name);
    wa_json_set_string(json, "xxh3", kept->xxh3);
    wa_json_set_string(json, "keep", wa_keep_name(keep));
    wa_json_set_string(json, "kept_as", kept->key);
    return wa_object_put_note(repo, key, "resolution", json, ret_created, err);
}

wa_status
wa_resolution_exists(wa_repo *repo, const wa_branch *branch, const char *name, const char *xxh3,
                     bool *ret, wa_error *err)
{
    WA_CLEANUP(wa_freep) char *key = resolution_key(repo, branch, name, xxh3);
    WA_CLEANUP(wa_json_freep) json_t *json = NULL;
    wa_status status = wa_object_get_json(repo, key, &json, err);
    if (status == WA_NOT_FOUND) {
        wa_error_clear(err);
        *ret = false;
        return WA_OK;
    }
    WA_TRY(status);
    if (!wa_str_eq(wa_json_string_or(json, "name", NULL), name) ||
        !wa_str_eq(wa_json_string_or(json, "xxh3", NULL), xxh3))
        return wa_error_set(err, WA_CORRUPT, "object \"%s\" is about other bytes", key);
    *ret = true;
    return WA_OK;
}
