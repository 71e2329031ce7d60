/*
 * src/repo/backup_list.c - all backups of a cluster, damaged and unfinished ones told apart, and
 * the removal of runs that died.
 */
#include "walagent/repo/backup_object.h"

#include "repo_internal.h"

#include <stdlib.h>
#include <string.h>

#define CLEAN_AFTER_MS (24ull * 3600 * 1000)

typedef enum label_state {
    LABEL_DONE,
    LABEL_DAMAGED,
    LABEL_UNFINISHED,
    LABEL_ABANDONED
} label_state;
typedef struct label_entry {
    char *label;
    label_state state;
    wa_backup_info *info;
    char *damage;
} label_entry;
typedef struct load_state {
    wa_repo *repo;
    label_entry *entries;
    size_t count;
} load_state;

static void
load_state_done(load_state *s)
{
    for (size_t i = 0; i < s->count; i++) {
        free(s->entries[i].label);
        wa_backup_info_free(s->entries[i].info);
        free(s->entries[i].damage);
    }
    free(s->entries);
}

void
wa_backups_done(wa_backups *b)
{
    for (size_t i = 0; i < b->count; i++)
        wa_backup_info_free(b->items[i]);
    free(b->items);
    wa_strv_done(&b->damaged);
    wa_strv_done(&b->unfinished);
    *b = (wa_backups){0};
}

static wa_status
list_labels(wa_repo *repo, load_state *s, wa_error *err)
{
    WA_CLEANUP(wa_strv_done) wa_strv keys = {0};
    WA_CLEANUP(wa_freep) char *prefix = wa_repo_key(repo, "backup/");
    WA_TRY(wa_repo_list(repo, prefix, true, NULL, &keys, err));
    s->repo = repo;
    s->entries = wa_calloc(keys.count + 1, sizeof *s->entries);
    for (size_t i = 0; i < keys.count; i++) {
        char *label = wa_key_tail(keys.items[i]);
        if (wa_backup_label_valid(label))
            s->entries[s->count++].label = label;
        else
            free(label);
    }
    return WA_OK;
}

/* One damaged backup.json must not hide the other backups; a store that doesn't answer must. */
static wa_status
load_entry(void *arg, size_t index, wa_error *err)
{
    load_state *s = arg;
    label_entry *entry = &s->entries[index];
    wa_status status = wa_backup_load(s->repo, entry->label, &entry->info, err);
    if (status == WA_OK)
        return WA_OK;
    if (status == WA_CORRUPT) {
        entry->state = LABEL_DAMAGED;
        entry->damage = wa_format("%s: %s", entry->label, err->message);
        wa_error_clear(err);
        return WA_OK;
    }
    if (status != WA_NOT_FOUND)
        return status;
    wa_error_clear(err);
    WA_CLEANUP(wa_freep) char *key = wa_backup_key(s->repo, entry->label, "abandoned.json");
    bool abandoned = false;
    WA_TRY(wa_object_exists(wa_repo_store(s->repo), key, &abandoned, err));
    entry->state = abandoned ? LABEL_ABANDONED : LABEL_UNFINISHED;
    return WA_OK;
}

static int
compare_backups(const void *a, const void *b)
{
    const wa_backup_info *x = *(wa_backup_info *const *)a, *y = *(wa_backup_info *const *)b;
    if (x->end_time != y->end_time)
        return x->end_time < y->end_time ? -1 : 1;
    return strcmp(x->label, y->label);
}

wa_status
wa_backups_load(wa_repo *repo, wa_backups *ret, wa_error *err)
{
    WA_CLEANUP(load_state_done) load_state s = {0};
    WA_TRY(list_labels(repo, &s, err));
    WA_TRY(wa_repo_each(repo, s.count, load_entry, &s, err));
    wa_backups all = {.items = wa_calloc(s.count + 1, sizeof *all.items)};
    for (size_t i = 0; i < s.count; i++) {
        label_entry *entry = &s.entries[i];
        if (entry->info != NULL)
            all.items[all.count++] = WA_TAKE(entry->info);
        else if (entry->state == LABEL_DAMAGED)
            wa_strv_add(&all.damaged, entry->damage);
        else if (entry->state == LABEL_UNFINISHED)
            wa_strv_add(&all.unfinished, entry->label);
    }
    qsort(all.items, all.count, sizeof(wa_backup_info *), compare_backups);
    *ret = all;
    return WA_OK;
}

static wa_status
note_newest(void *arg, const wa_object *object, wa_error *err)
{
    (void)err;
    wa_time *newest = arg;
    if (object->modified > *newest)
        *newest = object->modified;
    return WA_OK;
}

/* When something was last added under the label. */
static wa_status
newest_object(wa_repo *repo, const char *label, wa_time *ret, wa_error *err)
{
    WA_CLEANUP(wa_freep) char *prefix = wa_backup_key(repo, label, "");
    wa_list_options options = {.prefix = prefix};
    wa_time newest = WA_TIME_NONE;
    WA_TRY(wa_store_list(wa_repo_store(repo), &options, note_newest, &newest, err));
    *ret = newest;
    return WA_OK;
}

wa_status
wa_backup_clean(wa_repo *repo, uint64_t older_ms, size_t *ret_count, wa_error *err)
{
    WA_CLEANUP(load_state_done) load_state s = {0};
    WA_TRY(list_labels(repo, &s, err));
    WA_TRY(wa_repo_each(repo, s.count, load_entry, &s, err));
    wa_time limit = wa_time_now() - (wa_time)((older_ms == 0 ? CLEAN_AFTER_MS : older_ms) * 1000);
    size_t cleaned = 0;
    for (size_t i = 0; i < s.count; i++) {
        const label_entry *entry = &s.entries[i];
        if (entry->state != LABEL_UNFINISHED && entry->state != LABEL_ABANDONED)
            continue;
        wa_time newest = WA_TIME_NONE;
        WA_TRY(newest_object(repo, entry->label, &newest, err));
        if (entry->state == LABEL_UNFINISHED && newest > limit)
            continue;
        wa_status status = wa_backup_abandon(repo, entry->label, "nothing was added to it", err);
        if (status == WA_CONFLICT) {
            wa_error_clear(err); /* completed meanwhile */
            continue;
        }
        WA_TRY(status);
        cleaned++;
    }
    if (ret_count != NULL)
        *ret_count = cleaned;
    return WA_OK;
}
