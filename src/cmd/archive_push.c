/*
 * archive_push.c - walagent archive-push: archive_command, when no agent answers.
 */
#include "commands_internal.h"

#include "walagent/base/hook.h"
#include "walagent/base/thread.h"
#include "walagent/wal/push.h"

#define WORKERS 4
#define BACKLOG 8

static wa_status
run(wa_context *ctx, wa_error *err)
{
    if (wa_arg_flag(ctx, "helper"))
        return wa_push_helper_run(ctx, err);
    const wa_config *config = NULL;
    WA_CLEANUP(wa_repo_freep) wa_repo *repo = NULL;
    WA_CLEANUP(wa_pool_freep) wa_pool *pool = NULL;
    wa_malloc_keep();
    WA_TRY(wa_context_config(ctx, &config, err));
    WA_TRY(wa_context_repo(ctx, WA_REPO_WRITE, true, &repo, err));
    size_t workers = wa_processors() < WORKERS ? wa_processors() : WORKERS;
    WA_TRY(wa_pool_new("compress", workers, BACKLOG, &pool, err));
    const char *on_damage = wa_config_string(config, "archive", "on_damage");
    wa_push_options options = {.repo = repo,
                               .pool = pool,
                               .stop_on_damage = wa_str_eq(on_damage, "stop"),
                               .cancel = ctx->cancel};
    wa_push_result result = {0};
    WA_TRY(wa_push_file(&options, ctx->operands[0], &result, err));
    if (result.warning[0] != '\0')
        fprintf(stderr, "walagent: WARNING:  %s\n", result.warning);
    if (result.xxh3[0] != '\0')
        wa_push_helper_leave(config, ctx->operands[0]);
    return WA_OK;
}

static const wa_command_option options[] = {
    {"helper", 0, WA_ARG_FLAG, NULL,
     "Started by archive-push itself: archive what is ready behind PATH and answer the next calls; "
     "ends by itself."},
    {NULL, 0, WA_ARG_FLAG, NULL, NULL},
};

const wa_command wa_command_archive_push = {
    .name = "archive-push",
    .summary = "put a file of pg_wal into the archive (archive_command)",
    .operands = "PATH",
    .min_operands = 1,
    .max_operands = 1,
    .options = options,
    .description =
        "Set archive_command = 'walagent archive-push %p'. It returns 0 only when the file is "
        "durable in the archive. A segment is checked record by record before it is stored; the "
        "same content again is fine, other content under the same name is refused with 5 and "
        "kept in quarantine; \"walagent lineage resolve\" ends such a conflict.\n\n"
        "A running agent answers at once for what it has streamed already, waits a moment for what "
        "it is about to stream, and archives up to 16 further segments that are ready, in order, "
        "so that a backlog is soon through. Without one the command does everything itself; called "
        "by a server with more segments ready, it leaves a helper behind, which does the same as "
        "the agent for this backlog and ends when nothing was pushed for a minute, or soon after "
        "the server.\n\n"
        "An unfinished segment under a whole name is never stored under that name: its valid "
        "part is archived as a chunk. A segment that contradicts itself is read twice; when it "
        "reads the same both times it is archived as it is, with a warning (see on_damage in "
        "[archive]).",
    .exit_codes = "5  the archive holds other content under this name, or the file is not of this "
                  "cluster",
    .example = "  archive_command = 'walagent archive-push -c /etc/walagent/main.conf %p'",
    .run = run,
};
