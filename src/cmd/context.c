/*
 * context.c - what commands open on demand: configuration and repository.
 */
#include "cmd_internal.h"

#include "walagent/base/thread.h"

wa_status
wa_context_config(wa_context *ctx, const wa_config **ret, wa_error *err)
{
    if (ctx->config == NULL)
        WA_TRY(wa_config_load(wa_arg_value(ctx, "config"), &ctx->config, err));
    *ret = ctx->config;
    return WA_OK;
}

wa_status
wa_refuse_further_repositories(const wa_config *config, wa_error *err)
{
    const char *const *names = wa_config_repositories(config);
    if (names == NULL || names[0] == NULL)
        return WA_OK;
    wa_error_set(err, WA_UNSUPPORTED,
                 "[repository %s] is configured, and this version keeps one repository only",
                 names[0]);
    return wa_error_hint(err, "Take the section out, and copy the archive by the store's own means "
                              "(bucket replication, rsync): its objects never change.");
}

wa_status
wa_open_repo(const wa_config *config, uint64_t budget_ms, wa_cancel *cancel, bool load,
             wa_repo **ret, wa_error *err)
{
    const char *s = "repository";
    if (wa_str_empty(wa_config_string(config, s, "url"))) {
        wa_error_set(err, WA_INVALID, "no repository is configured");
        return wa_error_hint(
            err, "Set url in [repository], for example \"url = file:///var/lib/walagent/repo\".");
    }
    if (!wa_str_empty(wa_config_string(config, s, "encryption_recipients_file")) ||
        !wa_str_empty(wa_config_string(config, s, "encryption_identity_file"))) {
        wa_error_set(err, WA_UNSUPPORTED,
                     "encryption is configured, and this version cannot encrypt");
        return wa_error_hint(err, "Take encryption_recipients_file and encryption_identity_file "
                                  "out of [repository], or use the store's "
                                  "own encryption (s3_sse).");
    }
    wa_repo_options options = {
        .store = {.url = wa_config_string(config, s, "url"),
                  .s3_endpoint = wa_config_string(config, s, "s3_endpoint"),
                  .s3_region = wa_config_string(config, s, "s3_region"),
                  .s3_addressing = wa_config_string(config, s, "s3_addressing"),
                  .s3_access_key_id = wa_config_string(config, s, "s3_access_key_id"),
                  .s3_secret_access_key = wa_config_string(config, s, "s3_secret_access_key"),
                  .s3_session_token = wa_config_string(config, s, "s3_session_token"),
                  .s3_profile = wa_config_string(config, s, "s3_profile"),
                  .s3_ca_file = wa_config_string(config, s, "s3_ca_file"),
                  .s3_storage_class = wa_config_string(config, s, "s3_storage_class"),
                  .s3_sse = wa_str_eq(wa_config_string(config, s, "s3_sse"), "none")
                                ? NULL
                                : wa_config_string(config, s, "s3_sse"),
                  .s3_sse_kms_key_id = wa_config_string(config, s, "s3_sse_kms_key_id"),
                  .s3_insecure = !wa_config_bool(config, s, "s3_verify_tls"),
                  .budget_ms = budget_ms,
                  .cancel = cancel},
        .name = s,
        .cluster = wa_config_string(config, "cluster", "name"),
        .level = (int)wa_config_int(config, "archive", "compression_level"),
        .scratch_dir = wa_config_string(config, "agent", "state_dir"),
    };
    WA_CLEANUP(wa_repo_freep) wa_repo *repo = NULL;
    WA_TRY(wa_repo_open(&options, &repo, err));
    if (load)
        WA_TRY(wa_repo_load(repo, err));
    *ret = WA_TAKE(repo);
    return WA_OK;
}

wa_status
wa_context_repo(wa_context *ctx, bool load, wa_repo **ret, wa_error *err)
{
    const wa_config *config = NULL;
    WA_TRY(wa_context_config(ctx, &config, err));
    if (!wa_config_bool(config, "repository", "s3_verify_tls"))
        wa_log(WA_LOG_WARNING, "s3_verify_tls is off: the repository's identity is not verified");
    return wa_open_repo(config, 0, ctx->cancel, load, ret, err);
}

wa_status
wa_context_jobs(wa_context *ctx, size_t *ret, wa_error *err)
{
    const wa_config *config = NULL;
    WA_TRY(wa_context_config(ctx, &config, err));
    uint64_t jobs = (uint64_t)wa_config_int(config, "backup", "jobs");
    const char *arg = wa_arg_value(ctx, "jobs");
    if (arg != NULL)
        WA_TRY(wa_parse_u64(arg, &jobs, err));
    if (jobs > 128)
        return wa_error_set(err, WA_INVALID, "jobs must be between 0 and 128, not %llu",
                            (unsigned long long)jobs);
    *ret = jobs == 0 ? wa_processors() : (size_t)jobs;
    return WA_OK;
}
