/*
 * context.c - what commands open on demand: configuration and repository.
 */
#include "commands_internal.h"

#include "walagent/base/thread.h"
#include "walagent/codec/hash.h"
#include "walagent/store/mirror.h"

#include <string.h>

wa_status
wa_context_config(wa_context *ctx, const wa_config **ret, wa_error *err)
{
    if (ctx->config == NULL)
        WA_TRY(wa_config_load(wa_arg_value(ctx, "config"), &ctx->config, err));
    *ret = ctx->config;
    return WA_OK;
}

/* The settings of [repository] or [repository NAME]. */
static wa_status
read_store_options(const wa_config *config, const char *s, uint64_t budget_ms, wa_cancel *cancel,
                   wa_store_options *ret, wa_error *err)
{
    if (wa_str_empty(wa_config_string(config, s, "url"))) {
        wa_error_set(err, WA_INVALID, "no url is configured in [%s]", s);
        return wa_error_hint(err, "Set it, for example \"url = file:///var/lib/walagent/repo\".");
    }
    if (!wa_str_empty(wa_config_string(config, s, "encryption_recipients_file")) ||
        !wa_str_empty(wa_config_string(config, s, "encryption_identity_file"))) {
        wa_error_set(err, WA_UNSUPPORTED,
                     "encryption is configured, and this version cannot encrypt");
        return wa_error_hint(err,
                             "Take encryption_recipients_file and encryption_identity_file "
                             "out of [%s], or use the store's own encryption (s3_sse).",
                             s);
    }
    const char *sse = wa_config_string(config, s, "s3_sse");
    *ret = (wa_store_options){.url = wa_config_string(config, s, "url"),
                              .s3_endpoint = wa_config_string(config, s, "s3_endpoint"),
                              .s3_region = wa_config_string(config, s, "s3_region"),
                              .s3_addressing = wa_config_string(config, s, "s3_addressing"),
                              .s3_access_key_id = wa_config_string(config, s, "s3_access_key_id"),
                              .s3_secret_access_key =
                                  wa_config_string(config, s, "s3_secret_access_key"),
                              .s3_session_token = wa_config_string(config, s, "s3_session_token"),
                              .s3_profile = wa_config_string(config, s, "s3_profile"),
                              .s3_ca_file = wa_config_string(config, s, "s3_ca_file"),
                              .s3_storage_class = wa_config_string(config, s, "s3_storage_class"),
                              .s3_sse = wa_str_eq(sse, "none") ? NULL : sse,
                              .s3_sse_kms_key_id = wa_config_string(config, s, "s3_sse_kms_key_id"),
                              .s3_insecure = !wa_config_bool(config, s, "s3_verify_tls"),
                              .budget_ms = budget_ms,
                              .cancel = cancel};
    return WA_OK;
}

static wa_repo_options
repo_options(const wa_config *config, const char *section)
{
    return (wa_repo_options){.name = section,
                             .cluster = wa_config_string(config, "cluster", "name"),
                             .level = (int)wa_config_int(config, "archive", "compression_level"),
                             .scratch_dir = wa_config_string(config, "agent", "state_dir")};
}

/* A directory or a bucket that is given twice is no second copy. */
static wa_status
check_other_place(const wa_store_options *a, const wa_store_options *b, const char *name,
                  wa_error *err)
{
    size_t len = strlen(a->url), other = strlen(b->url);
    while (len > 0 && a->url[len - 1] == '/')
        len--;
    while (other > 0 && b->url[other - 1] == '/')
        other--;
    bool file = wa_str_starts(a->url, "file:");
    if (len != other || strncmp(a->url, b->url, len) != 0 ||
        (!file && !wa_str_eq(a->s3_endpoint, b->s3_endpoint)))
        return WA_OK;
    wa_error_set(err, WA_INVALID, "[repository %s] has the url of another repository, \"%s\"", name,
                 b->url);
    return wa_error_hint(err, "A second copy needs a place of its own.");
}

static wa_status
open_with_mirrors(const wa_config *config, uint64_t budget_ms, wa_cancel *cancel, wa_repo_use use,
                  wa_repo **ret, wa_error *err)
{
    const char *const *names = wa_config_repositories(config);
    size_t count = 0;
    while (names[count] != NULL)
        count++;
    wa_repo_options options = repo_options(config, "repository");
    WA_CLEANUP(wa_freep) wa_repo_mirror *mirrors = wa_calloc(count + 1, sizeof *mirrors);
    WA_TRY(read_store_options(config, "repository", budget_ms, cancel, &options.store, err));
    for (size_t i = 0; i < count; i++) {
        WA_CLEANUP(wa_freep) char *section = wa_format("repository %s", names[i]);
        mirrors[i].name = names[i];
        WA_TRY(read_store_options(config, section, budget_ms, cancel, &mirrors[i].store, err));
        WA_TRY(check_other_place(&options.store, &mirrors[i].store, names[i], err));
        for (size_t k = 0; k < i; k++)
            WA_TRY(check_other_place(&mirrors[k].store, &mirrors[i].store, names[i], err));
    }
    options.mirrors = mirrors;
    options.mirror_count = use == WA_REPO_MAIN ? 0 : count;
    return wa_repo_open(&options, ret, err);
}

static wa_status
open_alone(const wa_config *config, const char *name, uint64_t budget_ms, wa_cancel *cancel,
           wa_repo **ret, wa_error *err)
{
    const char *const *names = wa_config_repositories(config);
    size_t i = 0;
    while (names[i] != NULL && strcmp(names[i], name) != 0)
        i++;
    if (names[i] == NULL) {
        wa_error_set(err, WA_INVALID, "there is no [repository %s] in the configuration", name);
        return wa_error_hint(err, "\"walagent config show\" lists the repositories.");
    }
    WA_CLEANUP(wa_freep) char *section = wa_format("repository %s", name);
    wa_repo_options options = repo_options(config, section);
    WA_TRY(read_store_options(config, section, budget_ms, cancel, &options.store, err));
    WA_TRY(wa_repo_open(&options, ret, err));
    wa_store_make_read_only(wa_repo_store(*ret));
    return WA_OK;
}

wa_status
wa_open_repo(const wa_config *config, const char *alone, uint64_t budget_ms, wa_cancel *cancel,
             wa_repo_use use, wa_repo **ret, wa_error *err)
{
    WA_CLEANUP(wa_repo_freep) wa_repo *repo = NULL;
    if (alone != NULL)
        WA_TRY(open_alone(config, alone, budget_ms, cancel, &repo, err));
    else
        WA_TRY(open_with_mirrors(config, budget_ms, cancel, use, &repo, err));
    if (use == WA_REPO_READ || use == WA_REPO_GET)
        wa_repo_only_read(repo, use == WA_REPO_GET);
    *ret = WA_TAKE(repo);
    return WA_OK;
}

static void
warn_of_tls(const wa_config *config, const char *section)
{
    if (!wa_config_bool(config, section, "s3_verify_tls"))
        wa_log(WA_LOG_WARNING, "s3_verify_tls is off: the identity of [%s] is not verified",
               section);
}

static bool
has_option(const wa_context *ctx, const char *name)
{
    const wa_command_option *o = ctx->command->options;
    while (o != NULL && o->name != NULL && strcmp(o->name, name) != 0)
        o++;
    return o != NULL && o->name != NULL;
}

wa_status
wa_context_repo(wa_context *ctx, wa_repo_use use, bool load, wa_repo **ret, wa_error *err)
{
    const wa_config *config = NULL;
    WA_CLEANUP(wa_repo_freep) wa_repo *repo = NULL;
    const char *alone = wa_arg_value(ctx, "repository");
    WA_TRY(wa_context_config(ctx, &config, err));
    /* A hook has no time for it, and no need: S3 loads it itself. */
    if (ctx->command != &wa_command_archive_push)
        WA_TRY(wa_crypto_load(err));
    warn_of_tls(config, "repository");
    const char *const *names = wa_config_repositories(config);
    for (size_t i = 0; names[i] != NULL; i++) {
        WA_CLEANUP(wa_freep) char *section = wa_format("repository %s", names[i]);
        warn_of_tls(config, section);
    }
    WA_TRY(wa_open_repo(config, alone, 0, ctx->cancel, use, &repo, err));
    if (load && wa_repo_load(repo, err) != WA_OK) {
        bool others = alone == NULL && names[0] != NULL && has_option(ctx, "repository");
        WA_CLEANUP(wa_freep) char *hint = wa_strdup(err->hint);
        if (others && use == WA_REPO_READ)
            wa_error_hint(err, "%s%s\"--repository %s\" reads that copy alone.", hint,
                          hint[0] ? " " : "", names[0]);
        return err->status;
    }
    *ret = WA_TAKE(repo);
    return WA_OK;
}

void
wa_tell_of_mirrors(const wa_repo *repo)
{
    const wa_store *store = wa_repo_store((wa_repo *)(uintptr_t)repo);
    wa_member_status main_repository, mirror;
    wa_store_member_status(store, 0, &main_repository);
    for (size_t i = 1; i < wa_store_members(store); i++) {
        bool failed = main_repository.last_error[0] != '\0';
        wa_store_member_status(store, i, &mirror);
        if (mirror.served > 0)
            wa_log(WA_LOG_WARNING, "%llu read%s answered by repository \"%s\": %s%s",
                   (unsigned long long)mirror.served, mirror.served == 1 ? " was" : "s were",
                   mirror.name, failed ? "the main one failed: " : "the main one has it damaged",
                   main_repository.last_error);
    }
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
