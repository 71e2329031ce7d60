/*
 * lineage_resolve.c - walagent lineage resolve: end a conflict between archived and pushed bytes.
 */
#include "commands_internal.h"

#include "walagent/pg/lsn.h"
#include "walagent/repo/event.h"
#include "walagent/repo/resolution.h"

#include <string.h>

static wa_status
parse_keep(wa_context *ctx, const char *name, wa_keep *ret, wa_error *err)
{
    const char *text = wa_arg_value(ctx, "keep");
    if (wa_str_empty(text)) {
        wa_error_set(err, WA_INVALID, "\"walagent lineage resolve\" needs --keep");
        return wa_error_hint(err, "Say --keep archived (what was pushed is wrong) or --keep both "
                                  "(both are right, of two servers).");
    }
    if (strcmp(text, "archived") == 0)
        *ret = WA_KEEP_ARCHIVED;
    else if (strcmp(text, "both") == 0)
        *ret = WA_KEEP_BOTH;
    else if (strcmp(text, "pushed") != 0)
        return wa_error_set(err, WA_INVALID, "--keep takes \"archived\" or \"both\", not \"%s\"",
                            text);
    else {
        wa_error_set(err, WA_INVALID,
                     "what is archived is never replaced: \"%s\" stays as it is, and the pushed "
                     "bytes stay where they are kept, below quarantine/",
                     name);
        return wa_error_hint(err,
                             "If the pushed bytes are the right ones, say --keep both, so that "
                             "archiving goes on, take a new base backup, and use the kept object "
                             "for restores from earlier ones.");
    }
    return WA_OK;
}

static wa_status
nothing_kept(wa_repo *repo, const char *name, wa_error *err)
{
    wa_error_set(err, WA_NOT_FOUND, "no other content of \"%s\" is kept in the archive of \"%s\"",
                 name, wa_repo_cluster_name(repo));
    return wa_error_hint(err, "NAME is the WAL segment that archive-push names, for example "
                              "00000001000000000000002A. A file of another cluster is never kept: "
                              "\"walagent init\" accepts a new identity.");
}

static json_t *
kept_json(const wa_quarantined *kept, wa_keep keep, bool created)
{
    char text[WA_BRANCH_TEXT];
    json_t *one = json_object();
    wa_json_set_string(one, "branch", wa_branch_format(&kept->branch, text));
    wa_json_set_string(one, "name", kept->name);
    wa_json_set_string(one, "xxh3", kept->xxh3);
    wa_json_set_string(one, "kept_as", kept->key);
    wa_json_set_string(one, "keep", wa_keep_name(keep));
    wa_json_set_bool(one, "new", created);
    return one;
}

static wa_status
settle(wa_context *ctx, wa_repo *repo, const wa_quarantined *kept, wa_keep keep, json_t *list,
       wa_error *err)
{
    bool created = false;
    wa_error lost = WA_ERROR_INIT;
    WA_TRY(wa_resolution_put(repo, kept, keep, &created, err));
    json_t *one = kept_json(kept, keep, created);
    json_array_append_new(list, one);
    WA_CLEANUP(wa_freep)
    char *message = wa_format("\"%s\" with content %s is settled (--keep %s): it stays kept as "
                              "\"%s\", and archive-push accepts it",
                              kept->name, kept->xxh3, wa_keep_name(keep), kept->key);
    if (created && wa_event_put(repo, "resolved", message, one, &lost) != WA_OK)
        wa_log_error(WA_LOG_WARNING, &lost, "the event was not recorded");
    if (!ctx->quiet && !ctx->json)
        printf("%s%s\n", message, created ? "" : "; that was said before");
    return WA_OK;
}

/* resolve NAME --keep archived|both */
wa_status
wa_lineage_resolve(wa_context *ctx, wa_repo *repo, wa_error *err)
{
    const char *name = ctx->operands[1];
    wa_keep keep = WA_KEEP_ARCHIVED;
    wa_tli tli;
    wa_segno segno;
    WA_TRY(parse_keep(ctx, name, &keep, err));
    if (!wa_segment_parse(name, wa_repo_cluster(repo)->segment_size, &tli, &segno))
        return wa_error_set(err, WA_INVALID, "\"%s\" is no name of a WAL segment", name);
    WA_CLEANUP(wa_quarantine_list_done) wa_quarantine_list kept = {0};
    WA_TRY(wa_quarantine_find(repo, name, &kept, err));
    if (kept.count == 0)
        return nothing_kept(repo, name, err);
    WA_CLEANUP(wa_json_freep) json_t *list = json_array();
    for (size_t i = 0; i < kept.count; i++)
        WA_TRY(settle(ctx, repo, &kept.items[i], keep, list, err));
    if (ctx->json) {
        WA_CLEANUP(wa_json_freep) json_t *json = json_object();
        wa_json_set(json, "resolved", WA_TAKE(list));
        wa_print_json(json);
    }
    return WA_OK;
}
