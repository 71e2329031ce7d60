/*
 * backup.c - walagent backup: take a base backup into the archive.
 */
#include "commands_internal.h"

#include "walagent/backup/backup.h"

#include <inttypes.h>
#include <string.h>

#define CLEANUP_BUDGET_MS 10000 /* of each call to the store after an interruption */

static wa_status
one_of(const wa_context *ctx, const char *name, const char *first, const char *second,
       bool *ret_second, wa_error *err)
{
    const char *value = wa_arg_value(ctx, name);
    *ret_second = value != NULL && strcmp(value, second) == 0;
    if (value == NULL || *ret_second || strcmp(value, first) == 0)
        return WA_OK;
    wa_error_set(err, WA_INVALID, "invalid value \"%s\" for --%s", value, name);
    return wa_error_hint(err, "Say \"%s\" or \"%s\".", first, second);
}

static wa_status
check_annotations(const wa_strv *annotations, wa_error *err)
{
    for (size_t i = 0; i < annotations->count; i++) {
        const char *equals = strchr(annotations->items[i], '=');
        if (equals == NULL || equals == annotations->items[i]) {
            wa_error_set(err, WA_INVALID, "invalid note \"%s\"", annotations->items[i]);
            return wa_error_hint(err, "Write --note KEY=VALUE.");
        }
    }
    return WA_OK;
}

static wa_status
fill_options(wa_context *ctx, const wa_config *config, wa_strv *annotations, wa_backup_options *o,
             wa_error *err)
{
    WA_TRY(one_of(ctx, "type", "full", "incremental", &o->incremental, err));
    WA_TRY(one_of(ctx, "source", "remote", "local", &o->local, err));
    wa_arg_list(ctx, "note", annotations);
    WA_TRY(check_annotations(annotations, err));
    WA_TRY(wa_context_jobs(ctx, &o->jobs, err));
    o->conninfo = wa_config_string(config, "cluster", "conninfo");
    o->slot = wa_config_string(config, "cluster", "slot");
    o->data_dir = wa_config_string(config, "cluster", "data_dir");
    if (wa_str_empty(o->conninfo)) {
        wa_error_set(err, WA_INVALID, "no server is configured");
        return wa_error_hint(err, "Set conninfo in [cluster].");
    }
    o->note = wa_arg_value(ctx, "label");
    o->annotations = annotations;
    o->level = (int)wa_config_int(config, "backup", "compression_level");
    o->rate_limit = wa_config_size(config, "backup", "rate_limit");
    o->upload_rate_limit = wa_config_size(config, "backup", "upload_rate_limit");
    o->wal_timeout_ms = 600000;
    const char *timeout = wa_arg_value(ctx, "wal-timeout");
    if (timeout != NULL)
        WA_TRY(wa_parse_duration_ms(timeout, &o->wal_timeout_ms, err));
    bool spread = false;
    WA_TRY(one_of(ctx, "checkpoint", "fast", "spread", &spread, err));
    o->fast_checkpoint = !spread;
    return WA_OK;
}

static void
report(const wa_context *ctx, const wa_backup_info *info)
{
    if (ctx->json) {
        WA_CLEANUP(wa_json_freep) json_t *json = wa_backup_info_to_json(info);
        wa_print_json(json);
        return;
    }
    if (ctx->quiet)
        return;
    char raw[WA_SIZE_TEXT], stored[WA_SIZE_TEXT], took[WA_SIZE_TEXT], start[WA_LSN_TEXT],
        end[WA_LSN_TEXT];
    printf("backup %s: %" PRIu64 " files, %s, %s stored, in %s, WAL %s to %s\n", info->label,
           info->regular_files, wa_format_size(info->raw_bytes, raw),
           wa_format_size(info->stored_bytes, stored),
           wa_format_duration_ms((uint64_t)(info->end_time - info->start_time) / 1000, took),
           wa_lsn_format(info->start_lsn, start), wa_lsn_format(info->end_lsn, end));
}

static wa_status
run(wa_context *ctx, wa_error *err)
{
    const wa_config *config = NULL;
    WA_TRY(wa_context_config(ctx, &config, err));
    WA_CLEANUP(wa_strv_done) wa_strv annotations = {0};
    wa_progress progress = {.phase = NULL};
    wa_backup_options o = {.program = "walagent " WA_VERSION,
                           .progress = &progress,
                           .cancel = ctx->cancel,
                           .listener = {wa_print_event, ctx}};
    WA_TRY(fill_options(ctx, config, &annotations, &o, err));
    WA_CLEANUP(wa_repo_freep) wa_repo *repo = NULL;
    WA_TRY(wa_context_repo(ctx, WA_REPO_WRITE, true, &repo, err));
    o.repo = repo;
    WA_CLEANUP(wa_repo_freep) wa_repo *cleanup = NULL;
    WA_TRY(wa_open_repo(config, NULL, CLEANUP_BUDGET_MS, NULL, WA_REPO_WRITE, &cleanup, err));
    o.cleanup = cleanup;
    WA_TRY(wa_backup_preflight(&o, err));
    if (wa_arg_flag(ctx, "dry-run")) {
        if (!ctx->quiet)
            puts("pre-flight checks passed; nothing was copied");
        return WA_OK;
    }
    WA_CLEANUP(wa_backup_info_freep) wa_backup_info *info = NULL;
    wa_progress_view *view = wa_progress_show(ctx, &progress, "backup");
    wa_status status = wa_backup_take(&o, &info, err);
    wa_progress_hide(view);
    WA_TRY(status);
    if (info != NULL) /* NULL: another backup runs, and that was said */
        report(ctx, info);
    return WA_OK;
}

static const wa_command_option options[] = {
    {"type", 't', WA_ARG_VALUE, "full|incremental",
     "Kind of backup (default: full). Incremental needs PostgreSQL 17 with summarize_wal."},
    {"source", 0, WA_ARG_VALUE, "remote|local",
     "Copy over the replication protocol (default), or read data_dir on the server's host: "
     "for full backups, with less work for the server."},
    {"label", 'l', WA_ARG_VALUE, "TEXT", "A note kept with the backup and shown by list."},
    {"note", 0, WA_ARG_LIST, "KEY=VALUE",
     "An annotation kept with the backup; may be given several times."},
    {"jobs", 'j', WA_ARG_VALUE, "N",
     "Workers that compress and upload, and as many that read a local source; 0: one per "
     "processor (default: [backup] jobs)."},
    {"checkpoint", 0, WA_ARG_VALUE, "fast|spread",
     "How the backup's checkpoint is done (default: fast)."},
    {"wal-timeout", 0, WA_ARG_VALUE, "TIME",
     "How long the WAL of the copy may take to arrive in the archive (default: 10min)."},
    {"dry-run", 0, WA_ARG_FLAG, NULL, "Only the pre-flight checks."},
    {"json", 0, WA_ARG_FLAG, NULL, "The backup's description in JSON."},
    {NULL, 0, WA_ARG_FLAG, NULL, NULL},
};

const wa_command wa_command_backup = {
    .name = "backup",
    .summary = "take a base backup into the archive",
    .options = options,
    .description =
        "Copies the cluster, checks every file against the server's manifest, and returns when all "
        "the WAL that the backup needs is in the archive. Only then the backup becomes "
        "visible; an interrupted run leaves nothing that looks like one.\n\n"
        "Before the copy starts, a pre-flight look finds out whether WAL arrives in the archive at "
        "all. Only one backup of a cluster runs at a time: a second one says so and exits with "
        "0.\n\n"
        "With --source local the files are read from the directory data_dir, which must be that of "
        "a server in conninfo, on this host; a standby will do. The role needs EXECUTE on "
        "pg_backup_start(text, boolean) and pg_backup_stop(boolean) in the database postgres, and "
        "walagent runs as the server's user. Every page's checksum is verified: a page that stays "
        "wrong is named by file and block, and no backup is made, as with the remote source. What "
        "the server had not read before does not stay in the page cache.",
    .example = "  walagent backup\n  walagent backup --label \"before the migration\" --note "
               "ticket=4711\n  walagent backup --type incremental --jobs 4",
    .run = run,
};
