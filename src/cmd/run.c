/*
 * run.c - walagent run: the agent.
 */
#include "commands_internal.h"

#include "walagent/agent/agent.h"
#include "walagent/codec/hash.h"

static wa_status
open_repo(const wa_config *config, bool for_writing, wa_cancel *cancel, wa_repo **ret,
          wa_error *err)
{
    const char *const *mirrors = wa_config_repositories(config);
    /* A main repository that is away leaves a look-up the time to ask a mirror. */
    uint64_t budget = for_writing || mirrors[0] == NULL
                          ? 0
                          : wa_config_duration_ms(config, "archive", "get_timeout") / 2;
    return wa_open_repo(config, NULL, budget, cancel, for_writing ? WA_REPO_WRITE : WA_REPO_GET,
                        ret, err);
}

static wa_status
run(wa_context *ctx, wa_error *err)
{
    const wa_config *config = NULL;
    WA_TRY(wa_context_config(ctx, &config, err));
    if (wa_str_empty(wa_config_string(config, "cluster", "conninfo"))) {
        wa_error_set(err, WA_INVALID, "no server is configured");
        return wa_error_hint(err, "Set conninfo in [cluster].");
    }
    wa_malloc_give_back();
    WA_TRY(wa_crypto_load(err));
    wa_agent_options options = {
        .config_path = wa_arg_value(ctx, "config"), .version = WA_VERSION, .open_repo = open_repo};
    return wa_agent_run(&options, WA_TAKE(ctx->config), err);
}

const wa_command wa_command_run = {
    .name = "run",
    .summary = "the agent: stream WAL into the archive, serve the hooks, metrics",
    .description =
        "Receives WAL over the replication protocol, checks every record, and makes it durable in "
        "the repository; serves archive-push and archive-get on a local socket, and "
        "metrics and health over HTTP. It speaks to systemd (READY=1, WATCHDOG=1).\n\n"
        "SIGHUP reads the configuration again. SIGTERM and SIGINT end it in order within 10 "
        "seconds: what was received is shipped as far as the time allows, and everything else is "
        "resumed at the next start. Killed at any moment it loses nothing that was acknowledged.",
    .exit_codes = "  0   ended by a signal\n  2   configuration\n  5   the repository belongs to "
                  "another cluster",
    .example = "  walagent run -c /etc/walagent/main.conf\n  systemctl enable --now walagent@main",
    .run = run,
};
