/*
 * restore.c - walagent restore: a base backup plus WAL into a directory.
 */
#include "commands_internal.h"

#include "walagent/pg/recovery.h"
#include "walagent/restore/restore.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static wa_status
set_target(const char *name, const char *value, wa_restore_options *o, wa_error *err)
{
    if (strcmp(name, "to-time") == 0) {
        o->kind = WA_TARGET_TIME;
        return wa_time_parse(value, wa_time_now(), &o->time, err);
    }
    if (strcmp(name, "to-lsn") == 0) {
        o->kind = WA_TARGET_LSN;
        return wa_lsn_parse(value, &o->lsn, err);
    }
    if (strcmp(name, "to-xid") == 0) {
        uint64_t xid = 0;
        o->kind = WA_TARGET_XID;
        WA_TRY(wa_parse_u64(value, &xid, err));
        if ((uint32_t)xid == 0)
            return wa_error_set(err, WA_INVALID, "\"%s\" is no transaction id", value);
        o->xid = xid;
        return WA_OK;
    }
    if (strcmp(name, "to-name") == 0) {
        o->kind = WA_TARGET_NAME;
        o->name = value;
        if (strlen(value) == 0 || strlen(value) > 63)
            return wa_error_set(err, WA_INVALID,
                                "\"%s\" is no name of a restore point (1 to 63 bytes)", value);
        return WA_OK;
    }
    o->kind = strcmp(name, "to-consistent") == 0 ? WA_TARGET_CONSISTENT : WA_TARGET_LATEST;
    return WA_OK;
}

static wa_status
read_target(const wa_context *ctx, wa_restore_options *o, wa_error *err)
{
    const char *given = NULL;
    for (size_t i = 0; i < ctx->parsed_count; i++) {
        const char *name = ctx->parsed[i].option->name;
        if (strncmp(name, "to-", 3) != 0)
            continue;
        if (given != NULL) {
            wa_error_set(err, WA_INVALID, "two targets were given: --%s and --%s", given, name);
            return wa_error_hint(err, "Give one --to-... option.");
        }
        given = name;
        WA_TRY(set_target(name, ctx->parsed[i].value, o, err));
    }
    o->exclusive = wa_arg_flag(ctx, "exclusive");
    if (o->exclusive && (o->kind == WA_TARGET_LATEST || o->kind == WA_TARGET_CONSISTENT ||
                         o->kind == WA_TARGET_NAME))
        return wa_error_set(err, WA_INVALID,
                            "--exclusive goes with --to-time, --to-lsn or --to-xid");
    return WA_OK;
}

static wa_status
read_action(const wa_context *ctx, wa_restore_options *o, wa_error *err)
{
    static const struct {
        const char *name;
        wa_target_action action;
    } actions[] = {{"promote", WA_ACTION_PROMOTE},
                   {"pause", WA_ACTION_PAUSE},
                   {"shutdown", WA_ACTION_SHUTDOWN}};
    const char *value = wa_arg_value(ctx, "action");
    if (value == NULL)
        return WA_OK;
    for (size_t i = 0; i < WA_ARRAY_SIZE(actions); i++)
        if (strcmp(value, actions[i].name) == 0) {
            o->action = actions[i].action;
            return WA_OK;
        }
    wa_error_set(err, WA_INVALID, "invalid value \"%s\" for --action", value);
    return wa_error_hint(err, "Say \"promote\", \"pause\" or \"shutdown\".");
}

static wa_status
check_pairs(const wa_strv *list, const char *option, const char *form, wa_error *err)
{
    for (size_t i = 0; i < list->count; i++) {
        const char *equals = strchr(list->items[i], '=');
        if (equals == NULL || equals == list->items[i]) {
            wa_error_set(err, WA_INVALID, "invalid value \"%s\" for --%s", list->items[i], option);
            return wa_error_hint(err, "Write --%s %s.", option, form);
        }
    }
    return WA_OK;
}

static wa_status
check_combination(const wa_restore_options *o, wa_error *err)
{
    if (wa_str_empty(o->directory)) {
        wa_error_set(err, WA_INVALID, "no directory was given");
        return wa_error_hint(err, "Say where to restore: -D DIRECTORY.");
    }
    if (o->standby && o->kind != WA_TARGET_LATEST)
        return wa_error_set(err, WA_INVALID,
                            "--standby takes no target: a standby follows its primary");
    if (o->standby && o->action != WA_ACTION_DEFAULT)
        return wa_error_set(err, WA_INVALID, "--standby takes no --action");
    if (!o->standby && (o->primary_conninfo != NULL || o->primary_slot != NULL))
        return wa_error_set(err, WA_INVALID,
                            "--primary-conninfo and --primary-slot go with --standby");
    if (o->standby && o->no_recovery)
        return wa_error_set(err, WA_INVALID, "--standby and --no-recovery exclude each other");
    return WA_OK;
}

/* The command that the restored server runs: this program by its absolute path, with this
 * configuration. */
static wa_status
make_restore_command(wa_context *ctx, const wa_config *config, char **ret, wa_error *err)
{
    char self[PATH_MAX];
    ssize_t len = readlink("/proc/self/exe", self, sizeof self - 1);
    if (len < 0)
        return wa_error_errno(err, errno, "could not find this program's own path: %m");
    self[len] = '\0';
    const char *front = getenv("WALAGENT_FRONT"); /* set by the front to its own path */
    WA_CLEANUP(wa_freep) char *program = wa_str_empty(front) ? wa_strdup(self) : wa_strdup(front);
    WA_CLEANUP(wa_freep) char *quoted = wa_shell_quote(program);
    const char *path = wa_config_path(config);
    const char *alone = wa_arg_value(ctx, "repository"); /* a checked name: no quotes needed */
    WA_CLEANUP(wa_freep)
    char *from = wa_format("%s%s", alone ? " --repository " : "", alone ? alone : "");
    if (path == NULL) {
        *ret = wa_format("%s archive-get%s %%f %%p", quoted, from);
        return WA_OK;
    }
    char *absolute = realpath(path, NULL);
    WA_CLEANUP(wa_freep) char *quoted_config = wa_shell_quote(absolute != NULL ? absolute : path);
    free(absolute);
    *ret = wa_format("%s archive-get -c %s%s %%f %%p", quoted, quoted_config, from);
    return WA_OK;
}

/* counts NULL: nothing was done. */
static void
print_json(const wa_restore_plan *plan, const wa_restore_counts *counts)
{
    WA_CLEANUP(wa_json_freep) json_t *json = wa_restore_plan_to_json(plan);
    wa_json_set_bool(json, "dry_run", counts == NULL);
    const struct {
        const char *key;
        const atomic_uint_fast64_t *value;
    } members[] = {{"kept_files", counts != NULL ? &counts->kept_files : NULL},
                   {"kept_bytes", counts != NULL ? &counts->kept_bytes : NULL},
                   {"kept_block_bytes", counts != NULL ? &counts->kept_block_bytes : NULL},
                   {"fetched_bytes", counts != NULL ? &counts->fetched_bytes : NULL}};
    for (size_t i = 0; i < WA_ARRAY_SIZE(members); i++)
        if (members[i].value != NULL)
            wa_json_set_u64(json, members[i].key, atomic_load(members[i].value));
        else
            wa_json_set(json, members[i].key, json_null());
    wa_print_json(json);
}

static void
print_done(const wa_restore_options *o)
{
    char kept[WA_SIZE_TEXT], blocks[WA_SIZE_TEXT], fetched[WA_SIZE_TEXT];
    if (o->delta)
        printf("kept: %s in %llu files that were right, %s of files that were not; fetched: %s of "
               "backup\n",
               wa_format_size(atomic_load(&o->counts->kept_bytes), kept),
               (unsigned long long)atomic_load(&o->counts->kept_files),
               wa_format_size(atomic_load(&o->counts->kept_block_bytes), blocks),
               wa_format_size(atomic_load(&o->counts->fetched_bytes), fetched));
    printf("restored into %s; start it with: pg_ctl -D %s start\n", o->directory, o->directory);
}

static wa_status
plan_and_run(wa_context *ctx, wa_restore_options *o, wa_error *err)
{
    WA_CLEANUP(wa_restore_plan_freep) wa_restore_plan *plan = NULL;
    WA_TRY(wa_restore_plan_make(o, &plan, err));
    bool dry = wa_arg_flag(ctx, "dry-run");
    if (ctx->json && dry)
        print_json(plan, NULL);
    else if (!ctx->json && !ctx->quiet)
        fputs(plan->text, stdout);
    fflush(stdout);
    if (dry)
        return WA_OK;
    wa_progress progress = {.phase = NULL};
    wa_restore_counts counts = {.kept_files = 0};
    o->progress = &progress;
    o->counts = &counts;
    wa_progress_view *view = wa_progress_show(ctx, &progress, "restore");
    wa_status status = wa_restore_run(o, plan, err);
    wa_progress_hide(view);
    WA_TRY(status);
    if (ctx->json)
        print_json(plan, &counts);
    else if (!ctx->quiet)
        print_done(o);
    return WA_OK;
}

static wa_status
run(wa_context *ctx, wa_error *err)
{
    const wa_config *config = NULL;
    WA_TRY(wa_context_config(ctx, &config, err));
    WA_CLEANUP(wa_strv_done) wa_strv map = {0};
    WA_CLEANUP(wa_strv_done) wa_strv settings = {0};
    wa_arg_list(ctx, "tablespace-map", &map);
    wa_arg_list(ctx, "set", &settings);
    WA_TRY(check_pairs(&map, "tablespace-map", "OLD=NEW", err));
    WA_TRY(check_pairs(&settings, "set", "NAME=VALUE", err));
    wa_restore_options o = {
        .directory = wa_arg_value(ctx, "pgdata"),
        .timeline = wa_arg_value(ctx, "timeline"),
        .backup_label = wa_arg_value(ctx, "backup"),
        .standby = wa_arg_flag(ctx, "standby"),
        .primary_conninfo = wa_arg_value(ctx, "primary-conninfo"),
        .primary_slot = wa_arg_value(ctx, "primary-slot"),
        .delta = wa_arg_flag(ctx, "delta"),
        .no_recovery = wa_arg_flag(ctx, "no-recovery"),
        .read_wal_max = wa_arg_flag(ctx, "check-wal") ? UINT64_MAX : 0,
        .accept_unchecked_wal = wa_arg_flag(ctx, "accept-unchecked-wal"),
        .keep_archiving = wa_arg_flag(ctx, "keep-archiving"),
        .tablespace_map = &map,
        .settings = &settings,
        .cancel = ctx->cancel,
        .listener = {wa_print_event, ctx},
    };
    WA_TRY(read_target(ctx, &o, err));
    WA_TRY(read_action(ctx, &o, err));
    WA_TRY(check_combination(&o, err));
    WA_TRY(wa_context_jobs(ctx, &o.jobs, err));
    WA_CLEANUP(wa_freep) char *command = NULL;
    WA_TRY(make_restore_command(ctx, config, &command, err));
    o.restore_command = command;
    WA_CLEANUP(wa_repo_freep) wa_repo *repo = NULL;
    WA_TRY(wa_context_repo(ctx, WA_REPO_READ, true, &repo, err));
    o.repo = repo;
    wa_status status = plan_and_run(ctx, &o, err);
    wa_tell_of_mirrors(repo);
    return status;
}

static const wa_command_option options[] = {
    {"pgdata", 'D', WA_ARG_VALUE, "DIR", "Where to restore; empty or absent, unless --delta."},
    {"to-time", 0, WA_ARG_VALUE, "TIME",
     "Everything that was committed at this time: \"2026-11-23 02:14:00+00\", RFC 3339, or "
     "relative (\"-10min\")."},
    {"to-lsn", 0, WA_ARG_VALUE, "LSN", "Up to this place in the WAL."},
    {"to-xid", 0, WA_ARG_VALUE, "XID",
     "Up to and including this transaction's commit. As pg_current_xact_id() gives it, or its low "
     "32 bits: the WAL holds only these, and the newest transaction that has them is taken."},
    {"to-name", 0, WA_ARG_VALUE, "NAME", "Up to this restore point (pg_create_restore_point)."},
    {"to-consistent", 0, WA_ARG_FLAG, NULL, "Only as far as the backup needs to be consistent."},
    {"to-latest", 0, WA_ARG_FLAG, NULL, "To the end of the archive (the default)."},
    {"exclusive", 0, WA_ARG_FLAG, NULL, "Stop before the target instead of behind it."},
    {"timeline", 0, WA_ARG_VALUE, "N|latest|current",
     "Which timeline to follow (default: latest, the accepted one)."},
    {"action", 0, WA_ARG_VALUE, "promote|pause|shutdown",
     "What the server does at the target (default: promote for a point in time)."},
    {"backup", 0, WA_ARG_VALUE, "LABEL",
     "Start from this backup (default: the one with the shortest replay)."},
    {"standby", 0, WA_ARG_FLAG, NULL,
     "Make a replica: standby.signal, restore_command, and the primary's connection if given."},
    {"primary-conninfo", 0, WA_ARG_VALUE, "CONNINFO",
     "The replica streams from here as well as from the archive."},
    {"primary-slot", 0, WA_ARG_VALUE, "NAME", "primary_slot_name of the replica."},
    {"delta", 0, WA_ARG_FLAG, NULL,
     "Keep what is right already in the directory: files by the manifest's checksums, and of large "
     "files that differ the blocks (of up to 4 MiB) that have the backup's checksums. Remove what "
     "doesn't belong."},
    {"tablespace-map", 0, WA_ARG_LIST, "OLD=NEW",
     "Put the tablespace of directory OLD into NEW; may be given several times."},
    {"set", 0, WA_ARG_LIST, "NAME=VALUE",
     "A further setting in postgresql.auto.conf; may be given several times."},
    {"no-recovery", 0, WA_ARG_FLAG, NULL, "Lay the files down and write no recovery settings."},
    {"check-wal", 0, WA_ARG_FLAG, NULL,
     "Read all WAL that the recovery needs before anything is written, even if it is much (up to "
     "256 MiB is read anyway, for about ten seconds): a target behind damage is refused."},
    {"accept-unchecked-wal", 0, WA_ARG_FLAG, NULL,
     "Go on where WAL that was archived unchecked (\"walagent list\" shows it) can't be followed "
     "by walagent: only a warning, since the server may be able to read it. A target that would "
     "have to be looked for in such WAL the server finds, or recovery ends with an error."},
    {"keep-archiving", 0, WA_ARG_FLAG, NULL,
     "Leave archive_mode as it was (default: off in a point-in-time copy)."},
    {"jobs", 'j', WA_ARG_VALUE, "N", "Workers; 0: one per processor."},
    {"dry-run", 'n', WA_ARG_FLAG, NULL, "Print the plan and write nothing."},
    {"json", 0, WA_ARG_FLAG, NULL, "The plan in JSON, and at the end what was done."},
    WA_OPTION_REPOSITORY,
    {NULL, 0, WA_ARG_FLAG, NULL, NULL},
};

const wa_command wa_command_restore = {
    .name = "restore",
    .summary = "restore a backup and WAL into a directory: a replica or a point in time",
    .options = options,
    .description =
        "Prints the plan first: which backup, which WAL from where to where, what has "
        "to be fetched, between which two commits the target lies. A target that can't "
        "be reached is refused "
        "before a byte is written, with the nearest reachable points. So is one behind "
        "WAL that can't be read: of up to 256 MiB every record is read beforehand, for "
        "about ten seconds; of more, for longer, and for a replica that has a primary only "
        "with --check-wal. The plan says what was not read. A replica that has a primary is not "
        "refused for damaged WAL: it asks its primary for what the archive can't give, and the "
        "plan "
        "warns of what is known to be missing or, with --check-wal, damaged.\n\n"
        "Files are written by several workers, checked against the backup's manifest, "
        "and made durable; pg_control is written last, so a directory of an interrupted "
        "run does not start. Repeat "
        "the command with --delta to complete it.\n\n"
        "A point-in-time copy does not archive into the source's archive: archive_mode "
        "is off unless --keep-archiving.",
    .exit_codes =
        "  0   restored (or planned)\n  2   wrong usage, a directory in the way\n  3   the target "
        "can't be reached; a damaged object\n  4   the repository was not reached in time",
    .example =
        "  walagent restore -D /var/lib/postgresql/15/copy --to-time '2026-11-23 02:14:00+00'\n  "
        "walagent restore -D /srv/replica --standby --primary-conninfo 'host=db1 user=replicator'\n"
        "  walagent restore -D /srv/copy --to-time -10min --dry-run",
    .run = run,
};
