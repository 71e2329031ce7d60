/*
 * mirror.c - walagent mirror: bring further repositories what the main one has.
 */
#include "commands_internal.h"

#include "walagent/repo/mirrors.h"
#include "walagent/store/mirror.h"

#include <inttypes.h>
#include <string.h>

static json_t *
to_json(const wa_member_status *member, const wa_mirror_sync *r)
{
    json_t *json = json_object();
    wa_json_set_string(json, "name", member->name);
    wa_json_set_string(json, "url", member->url);
    wa_json_set_bool(json, "complete", wa_mirror_sync_is_complete(r));
    wa_json_set_u64(json, "objects", r->objects);
    wa_json_set_u64(json, "object_bytes", r->bytes);
    wa_json_set_u64(json, "missing", r->missing);
    wa_json_set_u64(json, "missing_bytes", r->missing_bytes);
    wa_json_set_u64(json, "copied", r->copied);
    wa_json_set_u64(json, "copied_bytes", r->copied_bytes);
    wa_json_set_u64(json, "different", r->different);
    wa_json_set_u64(json, "extra", r->extra);
    wa_json_set_string(json, "first_missing", r->first_missing[0] ? r->first_missing : NULL);
    wa_json_set_string(json, "first_different", r->first_different[0] ? r->first_different : NULL);
    return json;
}

static void
print_result(const wa_context *ctx, const wa_member_status *member, const wa_mirror_sync *r)
{
    char size[WA_SIZE_TEXT], part[WA_SIZE_TEXT];
    if (!ctx->quiet)
        printf("%s (%s): %" PRIu64 " of %" PRIu64 " objects were missing (%s of %s), %" PRIu64
               " copied\n",
               member->name, member->url, r->missing, r->objects,
               wa_format_size(r->missing_bytes, part), wa_format_size(r->bytes, size), r->copied);
    if (r->extra > 0 && !ctx->quiet)
        printf("  %" PRIu64 " objects are in the mirror only; they are left alone\n", r->extra);
    if (r->different > 0)
        printf("  DIFFERENT: %" PRIu64 " objects have other bytes in the mirror, the first one is "
               "\"%s\"; they are left alone\n",
               r->different, r->first_different);
    if (wa_mirror_sync_is_complete(r)) {
        if (!ctx->quiet)
            puts("  the mirror is complete");
    } else if (!wa_arg_flag(ctx, "dry-run") || ctx->quiet)
        puts("  the mirror is not complete");
}

static wa_status
sync_one(wa_context *ctx, wa_repo *repo, size_t i, json_t *list, bool *complete, wa_error *err)
{
    wa_progress progress = {.phase = "copying"};
    wa_member_status member;
    wa_mirror_sync r = {0};
    wa_mirror_sync_options options = {
        .only_compare = wa_arg_flag(ctx, "dry-run"), .progress = &progress, .cancel = ctx->cancel};
    wa_progress_view *view = wa_progress_show(ctx, &progress, "mirror");
    wa_status status = wa_mirror_sync_run(repo, i, &options, &r, err);
    wa_progress_hide(view);
    WA_TRY(status);
    wa_store_member_status(wa_repo_store(repo), i, &member);
    if (ctx->json)
        json_array_append_new(list, to_json(&member, &r));
    else
        print_result(ctx, &member, &r);
    *complete = *complete && wa_mirror_sync_is_complete(&r);
    return WA_OK;
}

static wa_status
run(wa_context *ctx, wa_error *err)
{
    const char *only = ctx->operand_count > 0 ? ctx->operands[0] : NULL;
    WA_CLEANUP(wa_repo_freep) wa_repo *repo = NULL;
    WA_CLEANUP(wa_json_freep) json_t *json = json_object();
    json_t *list = json_array();
    bool complete = true, any = false;
    wa_json_set(json, "mirrors", list);
    WA_TRY(wa_context_repo(ctx, WA_REPO_READ, true, &repo, err));
    wa_store *store = wa_repo_store(repo);
    for (size_t i = 1; i < wa_store_members(store); i++) {
        wa_member_status member;
        wa_store_member_status(store, i, &member);
        if (only != NULL && strcmp(only, member.name) != 0)
            continue;
        any = true;
        WA_TRY(sync_one(ctx, repo, i, list, &complete, err));
    }
    if (!any) {
        wa_error_set(err, WA_INVALID, "no mirror%s%s is configured", only ? " " : "",
                     only ? only : "");
        return wa_error_hint(err, "Add a section [repository NAME] with a url of its own.");
    }
    if (ctx->json)
        wa_print_json(json);
    ctx->exit_code = complete ? 0 : 3;
    return WA_OK;
}

static const wa_command_option options[] = {
    {"dry-run", 'n', WA_ARG_FLAG, NULL, "Compare, and copy nothing."},
    {"json", 0, WA_ARG_FLAG, NULL, "JSON (docs/json.md)."},
    {NULL, 0, WA_ARG_FLAG, NULL, NULL},
};

const wa_command wa_command_mirror = {
    .name = "mirror",
    .summary = "copy to further repositories what they lack of the main one",
    .operands = "[NAME]",
    .min_operands = 0,
    .max_operands = 1,
    .options = options,
    .description =
        "Each [repository NAME] is a mirror: it holds the same objects as [repository], byte for "
        "byte. Agent, archive-push and backup write to all of them, and what they confirm is in "
        "all of them. This command is for a mirror that is added to an existing archive, and for "
        "one that was left out for a while: it compares the listings and copies what is missing, "
        "while the agent works. Until it has once been completed nothing is archived with that "
        "mirror in the configuration, so run it with a configuration of its own first (-c), and "
        "again when the agent uses it.\n\n"
        "Objects that only the mirror has, or that have other bytes there, are counted and left "
        "alone.",
    .exit_codes =
        "  0   every mirror is complete\n  3   a mirror lacks objects (--dry-run), or has "
        "other bytes\n  4   a repository was not reached in time\n  5   a mirror holds "
        "another archive",
    .example = "  walagent mirror\n  walagent mirror offsite --dry-run",
    .run = run,
};
