/*
 * remote.c - a base backup over the replication protocol: BASE_BACKUP's events, its tar streams
 * taken apart, into the packer.
 */
#include "backup_internal.h"

#include "walagent/pg/basebackup.h"

#include "walagent/base/crash.h"
#include <string.h>
#include <unistd.h>

/* The tar reader pulls; this is where the pulled bytes come from. */
typedef struct source {
    const wa_backup_options *options;
    wa_basebackup *bb;
    wa_bb_event event; /* the last one */
    bool pending;      /* event was read ahead and not consumed */
} source;

static wa_status
next_event(source *s, wa_error *err)
{
    if (s->pending) {
        s->pending = false;
        return WA_OK;
    }
    WA_TRY(wa_cancel_check(s->options->cancel, err));
    return wa_bb_next(s->bb, &s->event, err);
}

/* Bytes of the current archive; an event of another kind ends it and is kept. */
static wa_status
pull(void *arg, const void **ret_data, size_t *ret_len, wa_error *err)
{
    source *s = arg;
    for (;;) {
        WA_TRY(next_event(s, err));
        if (s->event.kind == WA_BB_PROGRESS)
            continue;
        if (s->event.kind != WA_BB_DATA) {
            s->pending = true;
            *ret_data = NULL;
            *ret_len = 0;
            return WA_OK;
        }
        if (s->event.len == 0)
            continue;
        *ret_data = s->event.data;
        *ret_len = s->event.len;
        return WA_OK;
    }
}

static wa_status
copy_file(wa_tar_reader *tar, const wa_tar_entry *entry, const char *path, wa_packer *packer,
          wa_error *err)
{
    WA_TRY(wa_packer_begin_file(packer, entry, path, err));
    for (;;) {
        const void *data = NULL;
        size_t len = 0;
        WA_TRY(wa_tar_data(tar, &data, &len, err));
        if (len == 0)
            break;
        WA_TRY(wa_packer_write(packer, data, len, err));
    }
    return wa_packer_end_file(packer, err);
}

/* The tablespace's oid is the archive's name: "16385.tar". The base directory's is "base.tar". */
static char *
archive_prefix(const wa_bb_event *event)
{
    if (wa_str_empty(event->location))
        return wa_strdup("");
    return wa_format("pg_tblspc/%.*s/", (int)strcspn(event->archive, "."), event->archive);
}

/* The server writes "./pg_wal/archive_status" and all other paths without the dot. */
static const char *
plain_path(const char *path)
{
    while (path[0] == '.' && path[1] == '/')
        path += 2;
    return path;
}

static wa_status
copy_archive(source *s, wa_packer *packer, wa_error *err)
{
    WA_CLEANUP(wa_freep) char *prefix = archive_prefix(&s->event);
    WA_CLEANUP(wa_tar_reader_freep) wa_tar_reader *tar = NULL;
    WA_TRY(wa_tar_reader_new(pull, s, &tar, err));
    for (;;) {
        wa_tar_entry entry;
        bool more = false;
        WA_TRY(wa_tar_next(tar, &entry, &more, err));
        if (!more)
            return WA_OK;
        WA_CLEANUP(wa_freep) char *path = wa_format("%s%s", prefix, plain_path(entry.path));
        if (entry.type == WA_TAR_FILE)
            WA_TRY(copy_file(tar, &entry, path, packer, err));
        else
            WA_TRY(wa_packer_add_other(packer, &entry, path, err));
    }
}

static wa_status
copy_archives(source *s, wa_packer *packer, wa_error *err)
{
    for (;;) {
        WA_TRY(next_event(s, err));
        if (s->event.kind == WA_BB_PROGRESS)
            continue;
        if (s->event.kind != WA_BB_ARCHIVE) {
            s->pending = true;
            return WA_OK;
        }
        WA_TRY(copy_archive(s, packer, err));
    }
}

static wa_status
copy_manifest(source *s, wa_packer *packer, wa_backup_info *info, wa_error *err)
{
    WA_CLEANUP(wa_manifest_check_freep) wa_manifest_check *check = NULL;
    WA_TRY(next_event(s, err));
    if (s->event.kind != WA_BB_MANIFEST)
        return wa_error_set(err, WA_CORRUPT, "the server sent no backup manifest");
    WA_TRY(wa_manifest_check_new(s->options->repo, info->label, wa_packer_fingerprints(packer),
                                 s->options->level, &check, err));
    for (;;) {
        WA_TRY(next_event(s, err));
        if (s->event.kind == WA_BB_PROGRESS)
            continue;
        if (s->event.kind == WA_BB_END)
            break;
        if (s->event.kind != WA_BB_DATA)
            return wa_error_set(err, WA_CORRUPT, "unexpected data behind the backup manifest");
        WA_TRY(wa_manifest_check_write(check, s->event.data, s->event.len, err));
    }
    wa_manifest_info manifest;
    uint64_t stored = 0;
    WA_TRY(wa_manifest_check_finish(check, &manifest, &stored, err));
    info->stored_bytes += stored;
    return WA_OK;
}

static void
note_start(const wa_backup_options *options, const wa_basebackup *bb, wa_backup_info *info)
{
    info->start_lsn = bb->start_lsn;
    info->tablespaces = wa_calloc(bb->tablespace_count + 1, sizeof *info->tablespaces);
    for (size_t i = 0; i < bb->tablespace_count; i++) {
        if (bb->tablespaces[i].oid == 0)
            continue;
        wa_backup_tablespace *t = &info->tablespaces[info->tablespace_count++];
        t->oid = bb->tablespaces[i].oid;
        t->location = wa_strdup(bb->tablespaces[i].location);
    }
    if (options->progress != NULL) {
        atomic_store(&options->progress->total_bytes, bb->total_bytes);
        atomic_store(&options->progress->phase, "copying");
    }
}

static void
unlink_and_free(char **path)
{
    if (*path != NULL)
        unlink(*path);
    wa_freep(path);
}

static wa_status
copy_all(source *s, wa_pool *pool, wa_backup_info *info, wa_error *err)
{
    const wa_backup_options *options = s->options;
    size_t uploads = options->jobs < 2 ? 2 : options->jobs > 8 ? 8 : options->jobs;
    WA_CLEANUP(wa_packer_freep) wa_packer *packer = NULL;
    WA_TRY(wa_packer_new(options->repo, info, pool, options->level, uploads, options->progress,
                         &packer, err));
    wa_packer_limit_upload(packer, options->upload_rate_limit, options->cancel);
    WA_TRY(copy_archives(s, packer, err));
    WA_TRY(wa_packer_finish(packer, NULL, NULL, err));
    return copy_manifest(s, packer, info, err);
}

wa_status
wa_backup_copy_remote(const wa_backup_options *options, wa_pg_conn *repl, wa_pool *pool,
                      wa_backup_info *info, wa_error *err)
{
    WA_CLEANUP(unlink_and_free) char *parent_manifest = NULL;
    if (info->incremental)
        WA_TRY(wa_backup_parent_manifest(options->repo, info->parent, &parent_manifest, err));
    wa_bb_options bb_options = {.label = info->label,
                                .fast_checkpoint = options->fast_checkpoint,
                                .manifest_checksums = info->manifest_checksum,
                                .max_rate = options->rate_limit,
                                .incremental_manifest = parent_manifest};
    if (options->progress != NULL)
        atomic_store(&options->progress->phase, "waiting for the checkpoint");
    WA_CLEANUP(wa_bb_freep) wa_basebackup *bb = NULL;
    WA_TRY(wa_bb_begin(repl, &bb_options, options->cancel, &bb, err));
    note_start(options, bb, info);
    WA_TRY(wa_backup_branch(options->repo, bb->start_tli, &info->branch, err));
    source s = {.options = options, .bb = bb};
    WA_TRY(wa_backup_begin(options->repo, info, err));
    WA_TRY(copy_all(&s, pool, info, err));
    info->end_lsn = bb->end_lsn;
    info->end_time = wa_time_now();
    WA_CRASH_POINT("backup-copied");
    return wa_backup_branch(options->repo, bb->end_tli, &info->end_branch, err);
}
