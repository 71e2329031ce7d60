/*
 * local.c - a base backup from the data directory: begin it on the server, copy the files,
 * pg_control last, end it, backup_label from the server's answer, and our own manifest.
 */
#include "local_internal.h"

#include "walagent/base/crash.h"
#include "walagent/base/file.h"
#include "walagent/pg/timeline.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CONTROL_SIZE 8192
#define CONTROL_TRIES 10
#define HISTORY_MAX (1024u * 1024)

/* The bytes, not only what they say. The server rewrites the file in place: read again when the
 * checksum is wrong. */
static wa_status
copy_control(wa_local *l, wa_error *err)
{
    WA_CLEANUP(wa_freep) char *path = wa_path_join(l->options->data_dir, "global/pg_control");
    WA_CLEANUP(wa_closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0)
        return wa_error_errno(err, errno, "could not open file \"%s\": %m", path);
    uint8_t content[CONTROL_SIZE];
    wa_control control;
    for (int i = 1;; i++) {
        WA_TRY(wa_pread_all(fd, content, sizeof content, 0, path, err));
        wa_status status = wa_control_parse(content, sizeof content, &control, err);
        if (status == WA_OK)
            break;
        if (status != WA_CORRUPT || i == CONTROL_TRIES)
            return wa_error_wrap(err, "could not read \"%s\"", path);
        WA_TRY(wa_cancel_sleep(l->options->cancel, 10, err));
    }
    return wa_local_add_memory(l, "global/pg_control", st.st_mode, st.st_mtime, content,
                               sizeof content, err);
}

/* "START TIMELINE: 3" of backup_label. */
static wa_status
check_label(const char *label, wa_tli tli, wa_error *err)
{
    static const char key[] = "\nSTART TIMELINE: ";
    const char *at = strstr(label, key);
    unsigned long found = at != NULL ? strtoul(at + sizeof key - 1, NULL, 10) : 0;
    if (found == tli)
        return WA_OK;
    wa_error_set(err, WA_UNREACHABLE, "the timeline changed from %u to %lu while the backup began",
                 tli, found);
    return wa_error_hint(err, "Take the backup again.");
}

/* The history of the timeline on which the backup ended. */
static wa_status
read_history(const wa_local *l, wa_tli tli, wa_history **ret, wa_error *err)
{
    char name[WA_SEGMENT_NAME];
    WA_CLEANUP(wa_buf_done) wa_buf text = WA_BUF_INIT(2 * HISTORY_MAX);
    if (tli > 1) {
        WA_CLEANUP(wa_freep)
        char *path = wa_format("%s/pg_wal/%s", l->options->data_dir, wa_history_name(tli, name));
        WA_TRY(wa_file_read(path, HISTORY_MAX, &text, err));
    }
    return wa_history_parse(tli, wa_buf_str(&text), text.len, ret, err);
}

typedef struct manifest_end {
    wa_local *l;
    wa_tli start_tli, end_tli;
    uint64_t stored; /* comes of it */
} manifest_end;

static wa_status
finish_manifest(void *arg, wa_error *err)
{
    manifest_end *end = arg;
    wa_local *l = end->l;
    const wa_backup_info *info = l->info;
    wa_tli start_tli = end->start_tli, end_tli = end->end_tli;
    WA_CLEANUP(wa_history_freep) wa_history *history = NULL;
    wa_manifest_range ranges[64] = {
        {.tli = start_tli, .start = info->start_lsn, .end = info->end_lsn}};
    size_t count = 1;
    if (end_tli != start_tli) {
        WA_TRY(read_history(l, end_tli, &history, err));
        count = wa_local_wal_ranges(history, start_tli, info->start_lsn, info->end_lsn, ranges);
    }
    return wa_local_manifest_finish(l->manifest, ranges, count, &end->stored, err);
}

/* Ends the backup on the server; what it says becomes backup_label. */
static wa_status
end_backup(wa_local *l, wa_error *err)
{
    const wa_backup_options *options = l->options;
    WA_CLEANUP(wa_freep) char *label = NULL;
    WA_TRY(wa_backup_local_stop(l->conn, &label, &l->info->end_lsn, err));
    l->info->end_time = wa_time_now();
    wa_tli start_tli = l->control.tli, end_tli = start_tli;
    WA_TRY(check_label(label, start_tli, err));
    if (l->info->from_standby) {
        wa_control now;
        WA_TRY(wa_control_read(options->data_dir, &now, err));
        end_tli = now.min_recovery_tli;
    }
    WA_TRY(wa_local_add_memory(l, "backup_label", 0600, l->info->end_time / 1000000, label,
                               strlen(label), err));
    manifest_end end = {.l = l, .start_tli = start_tli, .end_tli = end_tli};
    WA_TRY(wa_packer_finish(l->packer, finish_manifest, &end, err));
    l->info->stored_bytes += end.stored;
    return wa_backup_branch(options->repo, end_tli, &l->info->end_branch, err);
}

static void
estimate_total(const wa_backup_options *options, wa_pg_conn *conn)
{
    WA_CLEANUP(wa_pg_clearp) PGresult *result = NULL;
    wa_error ignored = WA_ERROR_INIT;
    uint64_t total = 0;
    if (options->progress == NULL)
        return;
    if (wa_pg_query(conn, "SELECT sum(pg_tablespace_size(oid))::int8::text FROM pg_tablespace",
                    30000, &result, &ignored) == WA_OK &&
        wa_parse_u64(PQgetvalue(result, 0, 0), &total, &ignored) == WA_OK)
        atomic_store(&options->progress->total_bytes, total);
    atomic_store(&options->progress->phase, "copying");
}

static void
local_done(wa_local *l)
{
    wa_local_pipe_free(l->pipe); /* its readers end first */
    wa_local_manifest_free(l->manifest);
    wa_packer_free(l->packer);
    wa_buf_done(&l->damage.places);
    wa_mutex_done(&l->damage.mutex);
}

wa_status
wa_backup_copy_local(const wa_backup_options *options, wa_pg_conn *conn, wa_pool *pool,
                     wa_backup_info *info, wa_error *err)
{
    WA_CLEANUP(local_done)
    wa_local l = {
        .options = options, .conn = conn, .info = info, .check_pages = info->data_checksums};
    size_t uploads = options->jobs < 2 ? 2 : options->jobs > 8 ? 8 : options->jobs;
    wa_buf_init(&l.damage.places, 64 * 1024);
    wa_mutex_init(&l.damage.mutex);
    if (options->progress != NULL)
        atomic_store(&options->progress->phase, "waiting for the checkpoint");
    WA_TRY(wa_backup_local_start(options, conn, info->label, &info->start_lsn, err));
    WA_TRY(wa_control_read(options->data_dir, &l.control, err));
    WA_TRY(wa_backup_branch(options->repo, l.control.tli, &info->branch, err));
    WA_TRY(wa_backup_begin(options->repo, info, err));
    estimate_total(options, conn);
    WA_TRY(wa_packer_new(options->repo, info, pool, options->level, uploads, options->progress,
                         &l.packer, err));
    wa_packer_limit_upload(l.packer, options->upload_rate_limit, options->cancel);
    WA_TRY(wa_local_manifest_new(options->repo, info, options->level, &l.manifest, err));
    l.looked = wa_mono_now();
    l.reading.rate = options->rate_limit;
    WA_TRY(wa_local_pipe_new(&l, &l.pipe, err));
    WA_TRY(wa_local_walk(&l, err));
    WA_TRY(wa_local_pipe_drain(l.pipe, err));
    WA_TRY(copy_control(&l, err));
    WA_TRY(wa_local_damage(&l, err));
    WA_TRY(end_backup(&l, err));
    WA_CRASH_POINT("backup-copied");
    return WA_OK;
}
