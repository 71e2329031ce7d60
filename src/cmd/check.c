/*
 * check.c - walagent check: the end-to-end preflight, one line a finding.
 */
#include "commands_internal.h"

#include "walagent/audit/check.h"
#include "walagent/codec/hash.h"

#include <string.h>

/* One cause makes several checks fail: the advice is given once. */
static const wa_finding *
same_hint_before(const wa_findings *f, size_t i)
{
    for (size_t k = 0; k < i; k++)
        if (f->items[k].verdict != WA_VERDICT_OK && strcmp(f->items[k].hint, f->items[i].hint) == 0)
            return &f->items[k];
    return NULL;
}

static void
print_findings(const wa_context *ctx, const wa_findings *f)
{
    for (size_t i = 0; i < f->count; i++) {
        const wa_finding *one = &f->items[i];
        if (ctx->quiet && one->verdict == WA_VERDICT_OK)
            continue;
        printf("%-8s %-12s %s\n", wa_verdict_name(one->verdict), one->what, one->detail);
        if (one->verdict == WA_VERDICT_OK || one->hint[0] == '\0')
            continue;
        const wa_finding *before = same_hint_before(f, i);
        if (before != NULL)
            printf("%-8s %-12s HINT:  as for \"%s\"\n", "", "", before->what);
        else
            printf("%-8s %-12s HINT:  %s\n", "", "", one->hint);
    }
}

static json_t *
findings_json(const wa_findings *f)
{
    json_t *json = json_object(), *list = json_array();
    for (size_t i = 0; i < f->count; i++) {
        json_t *one = json_object();
        wa_json_set_string(one, "what", f->items[i].what);
        wa_json_set_string(one, "verdict", wa_verdict_name(f->items[i].verdict));
        wa_json_set_string(one, "detail", f->items[i].detail);
        wa_json_set_string(one, "hint", f->items[i].hint[0] ? f->items[i].hint : NULL);
        json_array_append_new(list, one);
    }
    wa_json_set(json, "findings", list);
    wa_json_set_u64(json, "failed", f->failed);
    wa_json_set_u64(json, "warnings", f->warnings);
    return json;
}

static wa_status
run(wa_context *ctx, wa_error *err)
{
    const wa_config *config = NULL;
    WA_TRY(wa_context_config(ctx, &config, err));
    uint64_t timeout = 30000;
    const char *value = wa_arg_value(ctx, "timeout");
    if (value != NULL)
        WA_TRY(wa_parse_duration_ms(value, &timeout, err));
    WA_TRY(wa_crypto_load(err));
    WA_CLEANUP(wa_repo_freep) wa_repo *repo = NULL;
    WA_TRY(wa_open_repo(config, NULL, timeout, ctx->cancel, WA_REPO_READ, &repo, err));
    wa_check_options options = {
        .repo = repo,
        .conninfo = wa_config_string(config, "cluster", "conninfo"),
        .slot = wa_config_string(config, "cluster", "slot"),
        .state_dir = wa_config_string(config, "agent", "state_dir"),
        .arrive_timeout_ms = timeout,
        .cancel = ctx->cancel,
    };
    WA_CLEANUP(wa_findings_done) wa_findings findings = {0};
    WA_TRY(wa_check_run(&options, &findings, err));
    if (ctx->json) {
        WA_CLEANUP(wa_json_freep) json_t *json = findings_json(&findings);
        wa_print_json(json);
    } else {
        print_findings(ctx, &findings);
    }
    ctx->exit_code = findings.failed > 0 ? 3 : 0;
    return WA_OK;
}

static const wa_command_option options[] = {
    {"timeout", 0, WA_ARG_VALUE, "TIME",
     "How long a WAL record may take to arrive in the archive, and a call to the store may take "
     "(default: 30s)."},
    {"json", 0, WA_ARG_FLAG, NULL, "JSON (docs/json.md)."},
    {NULL, 0, WA_ARG_FLAG, NULL, NULL},
};

const wa_command wa_command_check = {
    .name = "check",
    .summary = "end-to-end preflight: would WAL arrive, would a backup work",
    .options = options,
    .description =
        "Looks at the state directory, the repository, the store (a probe object is written, read, "
        "written again and removed), the server's identity, the role's privileges, the slot and "
        "max_slot_wal_keep_size, who archives, and the clocks; then writes one small WAL record on "
        "the server and waits until the archive holds it.\n\n"
        "What could not be tried is a warning, never passed as fine.",
    .exit_codes = "  0   no finding failed (warnings may be there)\n  2   configuration\n  3   a "
                  "finding failed",
    .example = "  walagent check\n  walagent check -q --timeout 10s",
    .run = run,
};
