/*
 * verify.c - walagent verify: read the archive back and check it.
 */
#include "commands_internal.h"

#include "walagent/audit/verify.h"
#include "walagent/base/hook.h"

#include <inttypes.h>
#include <string.h>

static const char *
plural(uint64_t n)
{
    return n == 1 ? "" : "s";
}

static void
print_result(const wa_context *ctx, const wa_verify_result *r)
{
    char wal[WA_SIZE_TEXT], backup[WA_SIZE_TEXT];
    for (size_t i = 0; i < r->damage_count; i++) {
        const wa_damage *d = &r->damage[i];
        printf("%s: %s\n", d->warning ? "WARNING" : "DAMAGE", d->message);
        printf("         object: %s\n", d->object);
        if (d->cost != NULL)
            printf("         cost:   %s\n", d->cost);
    }
    if (ctx->quiet)
        return;
    printf("verified %" PRIu64 " segment%s (%s, %" PRIu64 " records), %" PRIu64
           " unfinished segment%s, %" PRIu64 " backup%s (%" PRIu64 " files, %s)\n",
           r->segments, plural(r->segments), wa_format_size(r->wal_bytes, wal), r->records,
           r->chunks, plural(r->chunks), r->backups, plural(r->backups), r->files,
           wa_format_size(r->backup_bytes, backup));
    if (r->skipped_segments > 0)
        printf("%" PRIu64 " segment%s verified by an earlier run\n", r->skipped_segments,
               r->skipped_segments == 1 ? " was" : "s were");
    puts(r->damage_count == r->warning_count ? "no damage and no hole" : "the archive is damaged");
}

/* To be asked for what is damaged; stays NULL without mirrors, and for one alone. */
static wa_status
open_mirrored(wa_context *ctx, wa_repo **ret, wa_error *err)
{
    const wa_config *config = NULL;
    WA_TRY(wa_context_config(ctx, &config, err));
    if (wa_arg_value(ctx, "repository") != NULL || wa_config_repositories(config)[0] == NULL)
        return WA_OK;
    WA_CLEANUP(wa_repo_freep) wa_repo *repo = NULL;
    WA_TRY(wa_open_repo(config, NULL, 0, ctx->cancel, WA_REPO_READ, &repo, err));
    WA_TRY(wa_repo_load(repo, err));
    *ret = WA_TAKE(repo);
    return WA_OK;
}

static wa_lsn
lsn_of(const json_t *json, const char *key)
{
    wa_error ignored = WA_ERROR_INIT;
    wa_lsn lsn = 0;
    const char *text = wa_json_string_or(json, key, NULL);
    return text != NULL && wa_lsn_parse(text, &lsn, &ignored) == WA_OK ? lsn : 0;
}

/* The running agent, if one of this archive answers, says up to where it has made WAL durable:
 * asked before anything is read, so that all of that must be there. Behind a hole it begins with
 * nothing. */
static void
ask_how_far(wa_context *ctx, const wa_config *config, const wa_repo *repo, wa_verify_options *o)
{
    wa_error ignored = WA_ERROR_INIT;
    WA_CLEANUP(wa_freep) char *socket = wa_hook_socket_path(config);
    WA_CLEANUP(wa_json_freep) json_t *status = NULL;
    if (wa_ask_agent(ctx, socket, &status, &ignored) != WA_OK)
        return;
    const json_t *stream = json_object_get(status, "stream");
    wa_lsn durable = lsn_of(stream, "durable_lsn");
    bool ours = wa_json_u64_or(status, "system_identifier", 0) ==
                    wa_repo_cluster(repo)->system_identifier &&
                wa_str_eq(wa_json_string_or(status, "cluster", ""),
                          wa_config_string(config, "cluster", "name")) &&
                wa_str_eq(wa_json_string_or(status, "repository", ""),
                          wa_config_string(config, "repository", "url"));
    if (ours && durable > lsn_of(json_object_get(stream, "hole"), "end_lsn") &&
        wa_branch_parse(wa_json_string_or(stream, "branch", ""), &o->acknowledged_branch))
        o->acknowledged = durable;
    o->acknowledged_from = lsn_of(stream, "began_lsn");
    o->acknowledged_epoch = (uint32_t)wa_json_u64_or(stream, "epoch", 0);
}

static wa_status
run(wa_context *ctx, wa_error *err)
{
    const wa_config *config = NULL;
    wa_progress progress = {.phase = "reading"};
    bool wal = wa_arg_flag(ctx, "wal");
    const char *backup = wa_arg_value(ctx, "backup"), *since = wa_arg_value(ctx, "since");
    if (since != NULL && strcmp(since, "verified") != 0 && strcmp(since, "all") != 0) {
        wa_error_set(err, WA_INVALID, "invalid value \"%s\" for --since", since);
        return wa_error_hint(err, "Say \"verified\" or \"all\".");
    }
    wa_verify_options options = {.wal = wal || backup == NULL,
                                 .backup = backup,
                                 .progress = &progress,
                                 .cancel = ctx->cancel};
    if (!wal && backup == NULL)
        options.backup = "all";
    options.since_verified = since != NULL && strcmp(since, "verified") == 0;
    WA_TRY(wa_context_jobs(ctx, &options.jobs, err));
    WA_CLEANUP(wa_repo_freep) wa_repo *repo = NULL;
    WA_CLEANUP(wa_repo_freep) wa_repo *mirrored = NULL;
    WA_TRY(wa_context_config(ctx, &config, err));
    WA_TRY(wa_context_repo(ctx, WA_REPO_MAIN, true, &repo, err));
    options.repo = repo;
    if (options.wal && wa_arg_value(ctx, "repository") == NULL)
        ask_how_far(ctx, config, repo, &options);
    WA_TRY(open_mirrored(ctx, &mirrored, err));
    options.mirrored = mirrored;
    WA_CLEANUP(wa_verify_result_done) wa_verify_result result = {0};
    wa_progress_view *view = wa_progress_show(ctx, &progress, "verify");
    wa_status status = wa_verify_run(&options, &result, err);
    wa_progress_hide(view);
    WA_TRY(status);
    if (ctx->json) {
        WA_CLEANUP(wa_json_freep) json_t *json = wa_verify_to_json(&result);
        wa_print_json(json);
    } else {
        print_result(ctx, &result);
    }
    ctx->exit_code = result.damage_count > result.warning_count ? 3 : 0;
    return WA_OK;
}

static const wa_command_option options[] = {
    {"backup", 0, WA_ARG_VALUE, "LABEL|all", "Verify a backup, or all of them."},
    {"wal", 0, WA_ARG_FLAG, NULL,
     "Verify the WAL. (Without --backup and --wal both are verified.)"},
    {"since", 0, WA_ARG_VALUE, "verified|all",
     "Leave out WAL that an earlier run verified (default: all)."},
    {"jobs", 'j', WA_ARG_VALUE, "N", "Workers; 0: one per processor."},
    {"json", 0, WA_ARG_FLAG, NULL, "JSON (docs/json.md)."},
    WA_OPTION_REPOSITORY,
    {NULL, 0, WA_ARG_FLAG, NULL, NULL},
};

const wa_command wa_command_verify = {
    .name = "verify",
    .summary = "read the archive back: checksums, record chains, coverage",
    .options = options,
    .description =
        "Fetches objects and checks everything that can be checked: the containers' "
        "checksums, every WAL record in one chain across segments, every file of a "
        "backup against PostgreSQL's manifest, "
        "and that the WAL from each backup on is there without a hole.\n\n"
        "Each damage names the object and what it costs. A run without damage records "
        "how far the WAL was verified.\n\n"
        "That the newest bytes of the WAL are there nothing in the archive can tell. A "
        "running agent of this configuration is asked for it: where the archive ends "
        "before what the agent has made durable, that is damage. Where no WAL is archived at "
        "all, it is damage when the agent has made some durable since its session began; "
        "before that nothing tells that there was any. Without an agent the archive's end is "
        "believed.\n\n"
        "What is read is the main repository alone, never a mirror in its place; "
        "--repository NAME verifies that mirror, from the beginning. Of a segment that "
        "is damaged the mirrors are asked: where one has it whole, restore and "
        "archive-get read it there, and the damage names it instead of a cost.",
    .exit_codes = "  0   no damage and no hole\n  3   damage or a hole\n  4   the repository was "
                  "not reached in time",
    .example = "  walagent verify\n  walagent verify --wal --since verified\n  walagent verify "
               "--backup 20261123T020000Z-F-1a2b",
    .run = run,
};
