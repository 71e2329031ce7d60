/*
 * verify.c - walagent verify: read the archive back and check it.
 */
#include "commands_internal.h"

#include "walagent/audit/verify.h"

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

static wa_status
run(wa_context *ctx, wa_error *err)
{
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
    WA_TRY(wa_context_repo(ctx, WA_REPO_MAIN, true, &repo, err));
    options.repo = repo;
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
    .description = "Fetches objects and checks everything that can be checked: the containers' "
                   "checksums, every WAL record in one chain across segments, every file of a "
                   "backup against PostgreSQL's manifest, "
                   "and that the WAL from each backup on is there without a hole.\n\n"
                   "Each damage names the object and what it costs. A run without damage records "
                   "how far the WAL was verified.\n\n"
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
