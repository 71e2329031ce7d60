/*
 * backup.c - a base backup from beginning to end: claim, clean-up, copy, WAL, and backup.json as
 * the last object.
 */
#include "walagent/backup/backup.h"

#include "backup_internal.h"

#include "walagent/base/crash.h"
#include "walagent/base/log.h"
#include "walagent/store/mirror.h"

#include <string.h>
#include <unistd.h>

#define ABANDON_AFTER_MS (24ull * 3600 * 1000)

static wa_status
see_object(void *arg, const wa_object *object, wa_error *err)
{
    (void)arg;
    (void)object;
    (void)err;
    return WA_OK;
}

/* A mirror that was left out for a while may lack what the new backup builds on: a strict listing
 * brings it (store/mirror.h). */
static wa_status
complete_mirrors(wa_repo *repo, const wa_backups *backups, const char *parent, wa_error *err)
{
    if (wa_store_members(wa_repo_store(repo)) == 1)
        return WA_OK;
    for (size_t i = backups->count; i > 0 && parent[0] != '\0'; i--) {
        const wa_backup_info *b = backups->items[i - 1];
        if (strcmp(b->label, parent) != 0)
            continue;
        WA_CLEANUP(wa_freep) char *prefix = wa_backup_key(repo, b->label, "");
        if (wa_store_list(wa_repo_store(repo), &(wa_list_options){.prefix = prefix}, see_object,
                          NULL, err) != WA_OK)
            return wa_error_wrap(err, "could not complete backup \"%s\" in each repository",
                                 b->label);
        parent = b->parent;
    }
    return WA_OK;
}

/* The newest full or incremental backup of the branch's chain that can be a parent. */
static wa_status
choose_parent(const wa_backup_options *options, wa_backup_info *info, wa_error *err)
{
    WA_CLEANUP(wa_backups_done) wa_backups backups = {0};
    WA_TRY(wa_backups_load(options->repo, &backups, err));
    for (size_t i = backups.count; i > 0; i--) {
        const wa_backup_info *b = backups.items[i - 1];
        if (b->system_identifier != info->system_identifier || b->major != info->major)
            continue;
        memcpy(info->parent, b->label, sizeof info->parent);
        return complete_mirrors(options->repo, &backups, info->parent, err);
    }
    wa_error_set(err, WA_UNREACHABLE, "there is no backup that an incremental one could build on");
    return wa_error_hint(err, "Take a full backup first: \"walagent backup\".");
}

static wa_status
new_info(const wa_backup_options *options, wa_pg_conn *conn, wa_backup_info **ret, wa_error *err)
{
    WA_CLEANUP(wa_backup_info_freep) wa_backup_info *info = wa_backup_info_new();
    const wa_cluster *c = wa_repo_cluster(options->repo);
    info->start_time = wa_time_now();
    info->incremental = options->incremental;
    wa_backup_new_label(options->incremental, info->start_time, info->label);
    info->note = wa_strdup(options->note);
    for (size_t i = 0; options->annotations != NULL && i < options->annotations->count; i++)
        wa_strv_add(&info->annotations, options->annotations->items[i]);
    info->major = c->major;
    info->system_identifier = c->system_identifier;
    info->segment_size = c->segment_size;
    snprintf(info->source, sizeof info->source, "%s", options->local ? "local" : "remote");
    snprintf(info->manifest_checksum, sizeof info->manifest_checksum, "CRC32C");
    snprintf(info->program, sizeof info->program, "%s", options->program ? options->program : "");
    if (gethostname(info->host, sizeof info->host - 1) != 0)
        snprintf(info->host, sizeof info->host, "unknown");
    const char *standby = PQparameterStatus(wa_pg_raw(conn), "in_hot_standby");
    info->from_standby = standby != NULL && strcmp(standby, "on") == 0;
    if (options->incremental)
        WA_TRY(choose_parent(options, info, err));
    *ret = WA_TAKE(info);
    return WA_OK;
}

/* Data checksums are said by the server over the same connection. */
static wa_status
note_checksums(wa_pg_conn *conn, wa_backup_info *info, wa_error *err)
{
    WA_CLEANUP(wa_freep) char *value = NULL;
    WA_TRY(wa_pg_show(conn, "data_checksums", &value, err));
    info->data_checksums = strcmp(value, "on") == 0;
    return WA_OK;
}

static wa_status
copy_and_commit(const wa_backup_options *options, wa_pg_conn *conn, wa_backup_info *info,
                wa_error *err)
{
    WA_CLEANUP(wa_pool_freep) wa_pool *pool = NULL;
    WA_TRY(wa_pool_new("compress", options->jobs, options->jobs + 1, &pool, err));
    if (options->local)
        WA_TRY(wa_backup_copy_local(options, conn, pool, info, err));
    else
        WA_TRY(wa_backup_copy_remote(options, conn, pool, info, err));
    WA_TRY(wa_backup_wait_wal(options, info, err));
    WA_CRASH_POINT("backup-before-commit");
    WA_TRY(wa_backup_commit(options->repo, info, err));
    WA_CRASH_POINT("backup-after-commit");
    return WA_OK;
}

/* What a failed run left is removed at once where the store answers; otherwise the next run does
 * it. */
static void
discard(const wa_backup_options *options, const wa_backup_info *info, const wa_error *why)
{
    wa_error err = WA_ERROR_INIT;
    wa_repo *repo = options->cleanup != NULL ? options->cleanup : options->repo;
    wa_status status = wa_repo_loaded(repo) ? WA_OK : wa_repo_load(repo, &err);
    if (status == WA_OK)
        status = wa_backup_abandon(repo, info->label, why->message, &err);
    if (status != WA_OK)
        wa_say(&options->listener, WA_LOG_WARNING, "The next backup removes it.",
               "could not remove what the interrupted backup %s left: %s", info->label,
               err.message);
}

/* The connection that the backup goes over, or that keeps it open. */
static wa_status
connect_source(const wa_backup_options *options, wa_pg_conn **ret, wa_error *err)
{
    if (options->local)
        return wa_backup_local_connect(options, ret, err);
    return wa_pg_connect(&(wa_pg_connect_options){.conninfo = options->conninfo,
                                                  .replication = true,
                                                  .application_name = "walagent_backup",
                                                  .cancel = options->cancel},
                         ret, err);
}

wa_status
wa_backup_take(const wa_backup_options *options, wa_backup_info **ret, wa_error *err)
{
    WA_CLEANUP(wa_pg_closep) wa_pg_conn *claim = NULL;
    bool busy = false;
    WA_TRY(wa_backup_claim(options, &claim, &busy, err));
    if (busy) {
        wa_say(&options->listener, WA_LOG_NOTICE, NULL,
               "another backup of this cluster is running: nothing to do");
        *ret = NULL;
        return WA_OK;
    }
    size_t cleaned = 0, dead = 0;
    WA_TRY(wa_backup_clean_dead(options->repo, &dead, err));
    WA_TRY(wa_backup_clean(options->repo, ABANDON_AFTER_MS, &cleaned, err));
    cleaned += dead;
    if (cleaned > 0)
        wa_say(&options->listener, WA_LOG_NOTICE, NULL,
               "removed what %zu interrupted backup%s left", cleaned, cleaned == 1 ? "" : "s");
    WA_CLEANUP(wa_pg_closep) wa_pg_conn *conn = NULL;
    WA_TRY(connect_source(options, &conn, err));
    WA_CLEANUP(wa_backup_info_freep) wa_backup_info *info = NULL;
    WA_TRY(new_info(options, conn, &info, err));
    WA_TRY(note_checksums(conn, info, err));
    wa_status status = copy_and_commit(options, conn, info, err);
    if (status != WA_OK) {
        discard(options, info, err);
        return status;
    }
    *ret = WA_TAKE(info);
    return WA_OK;
}
