/*
 * src/repo/backup_object.c - the life of a base backup in the archive.
 *
 *   begin.json       first                     a run has begun; its WAL is kept
 *   ...              packs, files, manifest
 *   backup.json      last, create-only         the backup exists
 *   abandoned.json   instead of backup.json    nothing of it counts; removal is under way
 *
 * Commit and abandon may race (a cleaner that takes a slow run for dead). Each writes its own
 * object before it looks for the other's, so at least one of them sees the other: abandon gives
 * way to a backup.json, and a commit that then finds abandoned.json, or begin.json gone (abandon
 * removes it before abandoned.json), takes its backup.json back, since data may be gone already.
 */
#include "walagent/repo/backup_object.h"

#include "repo_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

void
wa_backup_new_label(bool incremental, wa_time now, char out[static WA_LABEL_SIZE])
{
    char compact[WA_TIME_TEXT];
    uint16_t salt = 0;
    if (getrandom(&salt, sizeof salt, 0) != (ssize_t)sizeof salt)
        salt = (uint16_t)wa_mono_now_us();
    snprintf(out, WA_LABEL_SIZE, "%.16s-%c-%04x", wa_time_format_compact(now, compact),
             incremental ? 'I' : 'F', salt);
}

bool
wa_backup_label_valid(const char *label)
{
    static const char shape[] = "ddddddddTddddddZ-t-hhhh";
    if (label == NULL || strlen(label) != sizeof shape - 1)
        return false;
    for (size_t i = 0; shape[i] != '\0'; i++) {
        const char *allowed = shape[i] == 'd'   ? "0123456789"
                              : shape[i] == 'h' ? "0123456789abcdef"
                              : shape[i] == 't' ? "FI"
                                                : NULL;
        if (allowed == NULL ? label[i] != shape[i] : strchr(allowed, label[i]) == NULL)
            return false;
    }
    return true;
}

char *
wa_backup_key(wa_repo *repo, const char *label, const char *name)
{
    WA_ASSERT(wa_backup_label_valid(label));
    return wa_repo_key(repo, "backup/%s/%s", label, name);
}

wa_status
wa_backup_open_manifest(wa_repo *repo, const char *label, wa_ranges **ret_ranges,
                        wa_container **ret, wa_error *err)
{
    if (!wa_backup_label_valid(label))
        return wa_error_set(err, WA_INVALID, "invalid backup label \"%s\"", label);
    WA_CLEANUP(wa_freep) char *key = wa_backup_key(repo, label, "backup_manifest.zst");
    WA_CLEANUP(wa_ranges_freep) wa_ranges *ranges = NULL;
    WA_CLEANUP(wa_container_freep) wa_container *c = NULL;
    WA_TRY(wa_store_ranges(wa_repo_store(repo), key, UINT64_MAX, &ranges, err));
    WA_TRY(wa_container_open(ranges, &c, err));
    const char *kind = wa_json_string_or(wa_container_facts(c), "kind", "");
    const char *of = wa_json_string_or(wa_container_facts(c), "label", label);
    if (!wa_str_eq(kind, "manifest"))
        return wa_error_set(err, WA_CORRUPT, "object \"%s\" is of kind \"%s\"", key, kind);
    if (!wa_str_eq(of, label))
        return wa_error_set(err, WA_CORRUPT, "\"%s\" is about another backup: \"%s\"", key, of);
    *ret_ranges = WA_TAKE(ranges);
    *ret = WA_TAKE(c);
    return WA_OK;
}

wa_status
wa_backup_load(wa_repo *repo, const char *label, wa_backup_info **ret, wa_error *err)
{
    if (!wa_backup_label_valid(label)) {
        wa_error_set(err, WA_INVALID, "invalid backup label \"%s\"", label);
        return wa_error_hint(err, "\"walagent list\" shows the labels.");
    }
    WA_CLEANUP(wa_freep) char *key = wa_backup_key(repo, label, "backup.json");
    WA_CLEANUP(wa_json_freep) json_t *json = NULL;
    WA_CLEANUP(wa_backup_info_freep) wa_backup_info *b = NULL;
    WA_TRY(wa_object_get_json(repo, key, &json, err));
    WA_TRY(wa_backup_info_from_json(json, key, &b, err));
    if (strcmp(b->label, label) != 0)
        return wa_error_set(err, WA_CORRUPT, "\"%s\" is about another backup: \"%s\"", key,
                            b->label);
    *ret = WA_TAKE(b);
    return WA_OK;
}

static wa_status
put_info(wa_repo *repo, const wa_backup_info *b, const char *name, wa_error *err)
{
    WA_CLEANUP(wa_freep) char *key = wa_backup_key(repo, b->label, name);
    WA_CLEANUP(wa_json_freep) json_t *json = wa_backup_info_to_json(b);
    WA_CLEANUP(wa_freep) char *dumped = wa_json_dump(json, 2);
    WA_CLEANUP(wa_freep) char *text = wa_format("%s\n", dumped);
    wa_status status = wa_object_put_same(repo, key, "backup", text, strlen(text), err);
    if (status == WA_EXISTS)
        return wa_error_set(err, WA_CONFLICT, "backup \"%s\" exists already with other content",
                            b->label);
    return status;
}

wa_status
wa_backup_begin(wa_repo *repo, const wa_backup_info *partial, wa_error *err)
{
    return put_info(repo, partial, "begin.json", err);
}

/* In this order: begin.json is removed before abandoned.json. */
static wa_status
was_abandoned(wa_repo *repo, const char *label, bool *ret, wa_error *err)
{
    WA_CLEANUP(wa_freep) char *abandoned = wa_backup_key(repo, label, "abandoned.json");
    WA_CLEANUP(wa_freep) char *begin = wa_backup_key(repo, label, "begin.json");
    bool marked = false, begun = false;
    WA_TRY(wa_object_exists(wa_repo_store(repo), abandoned, &marked, err));
    if (!marked)
        WA_TRY(wa_object_exists(wa_repo_store(repo), begin, &begun, err));
    *ret = marked || !begun;
    return WA_OK;
}

static wa_status
refuse_abandoned(const char *label, wa_error *err)
{
    wa_error_set(err, WA_CONFLICT, "backup \"%s\" was abandoned while it ran", label);
    return wa_error_hint(err, "A clean-up took it for dead. Run the backup again.");
}

wa_status
wa_backup_commit(wa_repo *repo, const wa_backup_info *b, wa_error *err)
{
    bool abandoned = false;
    WA_TRY(was_abandoned(repo, b->label, &abandoned, err));
    if (abandoned)
        return refuse_abandoned(b->label, err);
    WA_TRY(put_info(repo, b, "backup.json", err));
    WA_TRY(was_abandoned(repo, b->label, &abandoned, err));
    if (!abandoned)
        return WA_OK;
    WA_CLEANUP(wa_freep) char *key = wa_backup_key(repo, b->label, "backup.json");
    WA_TRY(wa_object_delete(repo, key, err));
    return refuse_abandoned(b->label, err);
}

/* Everything under the label but begin.json and abandoned.json. */
static wa_status
remove_data(wa_repo *repo, const char *label, wa_error *err)
{
    WA_CLEANUP(wa_freep) char *prefix = wa_backup_key(repo, label, "");
    WA_CLEANUP(wa_strv_done) wa_strv keys = {0};
    WA_CLEANUP(wa_strv_done) wa_strv data = {0};
    WA_TRY(wa_store_abort_uploads(wa_repo_store(repo), prefix, wa_time_now(), NULL, err));
    WA_TRY(wa_repo_list(repo, prefix, false, NULL, &keys, err));
    for (size_t i = 0; i < keys.count; i++) {
        if (!wa_str_ends(keys.items[i], "/begin.json") &&
            !wa_str_ends(keys.items[i], "/abandoned.json"))
            wa_strv_add(&data, keys.items[i]);
    }
    return data.count == 0 ? WA_OK : wa_store_delete(wa_repo_store(repo), &data, err);
}

static wa_status
put_abandoned(wa_repo *repo, const char *label, const char *reason, wa_error *err)
{
    WA_CLEANUP(wa_freep) char *key = wa_backup_key(repo, label, "abandoned.json");
    WA_CLEANUP(wa_json_freep) json_t *json = json_object();
    wa_json_set_i64(json, "v", 1);
    wa_json_set_string(json, "label", label);
    wa_json_set_string(json, "reason", reason);
    return wa_object_put_note(repo, key, "abandoned", json, NULL, err);
}

wa_status
wa_backup_abandon(wa_repo *repo, const char *label, const char *reason, wa_error *err)
{
    if (!wa_backup_label_valid(label))
        return wa_error_set(err, WA_INVALID, "invalid backup label \"%s\"", label);
    WA_CLEANUP(wa_freep) char *done = wa_backup_key(repo, label, "backup.json");
    WA_CLEANUP(wa_freep) char *abandoned = wa_backup_key(repo, label, "abandoned.json");
    WA_CLEANUP(wa_freep) char *begin = wa_backup_key(repo, label, "begin.json");
    bool complete = false;
    WA_TRY(wa_object_exists(wa_repo_store(repo), done, &complete, err));
    if (!complete) {
        WA_TRY(put_abandoned(repo, label, reason, err));
        WA_TRY(wa_object_exists(wa_repo_store(repo), done, &complete, err));
        if (complete)
            WA_TRY(wa_object_delete(repo, abandoned, err));
    }
    if (complete)
        return wa_error_set(err, WA_CONFLICT, "backup \"%s\" is complete", label);
    WA_TRY(remove_data(repo, label, err));
    WA_TRY(wa_object_delete(repo, begin, err));
    return wa_object_delete(repo, abandoned, err);
}
