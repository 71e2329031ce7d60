/*
 * lineage.c - walagent lineage: the accepted chain of timelines, other branches, and a person's
 * word on them.
 */
#include "commands_internal.h"

#include "walagent/repo/event.h"
#include "walagent/repo/lineage.h"
#include "walagent/repo/tip.h"

#include <string.h>

#define CAS_TRIES 5

static const char *
standing(const wa_lineage *l, const wa_branch *b)
{
    return wa_lineage_has(l, b)           ? "accepted"
           : wa_lineage_is_rejected(l, b) ? "rejected"
                                          : "not accepted";
}

/* The end of what the archive holds of a branch: tail, else the last whole segment; 0: nothing. */
static wa_status
branch_end(wa_repo *repo, const wa_branch *branch, wa_lsn *ret, wa_error *err)
{
    uint64_t size = wa_repo_cluster(repo)->segment_size;
    wa_segno last = 0;
    wa_lsn end = 0, tail = 0;
    wa_status status = wa_wal_last(repo, branch, &last, err);
    if (status == WA_OK)
        end = wa_segment_start(last, size) + size;
    else if (status != WA_NOT_FOUND)
        return status;
    wa_error_clear(err);
    WA_CLEANUP(wa_freep) wa_segno *segments = NULL;
    size_t count = 0;
    WA_TRY(wa_tail_segments(repo, branch, &segments, &count, err));
    for (size_t i = count; i > 0 && tail == 0 && (segments[i - 1] + 1) * size > end; i--) {
        status = wa_tail_end(repo, branch, segments[i - 1], &tail, NULL, err);
        if (status != WA_OK && status != WA_NOT_FOUND && status != WA_CORRUPT)
            return status;
        wa_error_clear(err); /* a seal alone, or no first chunk: covers nothing */
    }
    *ret = tail > end ? tail : end;
    return WA_OK;
}

/* Where a branch leaves its parent: as accepted, else as its history says. A history that is
 * damaged says nothing. */
static wa_status
branch_begin(wa_repo *repo, const wa_lineage *l, const wa_branch *b, wa_lsn *ret,
             wa_tli *ret_parent, wa_error *err)
{
    WA_CLEANUP(wa_history_freep) wa_history *history = NULL;
    *ret = 0;
    *ret_parent = 0;
    wa_status status = wa_history_load(repo, b, &history, err);
    if (status == WA_OK) {
        *ret = wa_history_begin(history);
        *ret_parent = wa_history_parent(history);
    } else if (status != WA_CORRUPT && status != WA_NOT_FOUND) {
        return status;
    }
    wa_error_clear(err);
    for (size_t i = 0; i < l->count; i++) {
        if (wa_branch_eq(&l->steps[i].branch, b) && l->steps[i].begin != 0)
            *ret = l->steps[i].begin;
    }
    return WA_OK;
}

static wa_status
branch_json(wa_repo *repo, const wa_lineage *l, const wa_branch *b, json_t **ret, wa_error *err)
{
    char text[WA_BRANCH_TEXT], lsn[WA_LSN_TEXT];
    wa_lsn begin = 0, end = 0;
    wa_tli parent = 0;
    WA_TRY(branch_begin(repo, l, b, &begin, &parent, err));
    WA_TRY(branch_end(repo, b, &end, err));
    json_t *one = json_object();
    const wa_lineage_step *head = wa_lineage_head(l);
    wa_json_set_string(one, "branch", wa_branch_format(b, text));
    wa_json_set_i64(one, "timeline", b->tli);
    wa_json_set_string(one, "standing", standing(l, b));
    wa_json_set_bool(one, "head", head != NULL && wa_branch_eq(&head->branch, b));
    if (parent != 0)
        wa_json_set_i64(one, "parent_timeline", parent);
    wa_json_set_string(one, "begin_lsn", begin == 0 ? NULL : wa_lsn_format(begin, lsn));
    wa_json_set_string(one, "end_lsn", end == 0 ? NULL : wa_lsn_format(end, lsn));
    *ret = one;
    return WA_OK;
}

/* Two things: a hold is said before its seal is put, and a seal may be held or not. */
static wa_status
epoch_sealed(wa_repo *repo, const wa_lineage *l, bool *ret, wa_error *err)
{
    *ret = false;
    if (!wa_lineage_has_writer(l))
        return WA_OK;
    return wa_tip_is_sealed(repo, &wa_lineage_head(l)->branch, l->epoch, ret, err);
}

static void
print_lineage(const wa_lineage *l, bool sealed)
{
    char time[WA_TIME_TEXT];
    if (l->number == 0)
        puts("no lineage is recorded yet: timeline 1 is taken as accepted");
    else
        printf("lineage %llu, epoch %u, writer %s, since %s (%s)\n", (unsigned long long)l->number,
               l->epoch, l->writer[0] ? l->writer : "-", wa_time_format(l->since, time), l->reason);
    if (wa_lineage_is_held(l) && sealed)
        puts("sealed and held: no agent writes on this timeline until \"walagent lineage unseal\"");
    else if (wa_lineage_is_held(l))
        puts("held but not sealed: the writer goes on where it runs, and no agent that starts "
             "writes on this timeline; run \"walagent lineage seal --hold\" again, or \"unseal\"");
    else if (sealed)
        puts("sealed: an agent that is started opens the next epoch");
}

static wa_status
show(wa_context *ctx, wa_repo *repo, wa_error *err)
{
    WA_CLEANUP(wa_lineage_freep) wa_lineage *l = NULL;
    WA_CLEANUP(wa_freep) wa_branch *branches = NULL;
    size_t count = 0;
    bool sealed = false;
    WA_TRY(wa_lineage_load(repo, &l, err));
    WA_TRY(epoch_sealed(repo, l, &sealed, err));
    WA_TRY(wa_branches_all(repo, &branches, &count, err));
    WA_CLEANUP(wa_json_freep) json_t *list = json_array();
    WA_CLEANUP(wa_table_freep) wa_table *t = wa_table_new(4);
    static const char *const head[] = {"BRANCH", "FROM LSN", "ARCHIVED TO", "STANDING"};
    for (size_t i = 0; i < WA_ARRAY_SIZE(head); i++)
        wa_table_cell(t, head[i]);
    for (size_t i = 0; i < count; i++) {
        json_t *one = NULL;
        WA_TRY(branch_json(repo, l, &branches[i], &one, err));
        wa_table_cell(t, wa_json_string_or(one, "branch", ""));
        wa_table_cell(t, wa_json_string_or(one, "begin_lsn", "-"));
        wa_table_cell(t, wa_json_string_or(one, "end_lsn", "-"));
        wa_table_cell(t, json_is_true(json_object_get(one, "head"))
                             ? "accepted, head"
                             : wa_json_string_or(one, "standing", ""));
        json_array_append_new(list, one);
    }
    if (!ctx->json) {
        print_lineage(l, sealed);
        wa_table_print(t, stdout);
        return WA_OK;
    }
    char time[WA_TIME_TEXT];
    WA_CLEANUP(wa_json_freep) json_t *json = json_object();
    wa_json_set_u64(json, "number", l->number);
    wa_json_set_u64(json, "epoch", l->epoch);
    wa_json_set_string(json, "writer", l->writer[0] ? l->writer : NULL);
    wa_json_set_string(json, "since",
                       l->number == 0 ? NULL : wa_time_format_rfc3339(l->since, time));
    wa_json_set_string(json, "reason", l->reason);
    wa_json_set_bool(json, "held", wa_lineage_is_held(l));
    wa_json_set_bool(json, "epoch_sealed", sealed);
    wa_json_set(json, "branches", WA_TAKE(list));
    wa_print_json(json);
    return WA_OK;
}

/* Builds the next lineage from the newest one; NULL in *ret_next: nothing to change. */
typedef wa_status (*change_fn)(wa_repo *repo, const wa_lineage *now, const wa_branch *branch,
                               wa_lineage **ret_next, wa_error *err);

static wa_status
adopt(wa_repo *repo, const wa_lineage *now, const wa_branch *branch, wa_lineage **ret_next,
      wa_error *err)
{
    const wa_lineage_step *head = wa_lineage_head(now);
    *ret_next = NULL;
    if (head != NULL && wa_branch_eq(&head->branch, branch))
        return WA_OK;
    WA_CLEANUP(wa_lineage_freep) wa_lineage *chain = NULL;
    WA_TRY(wa_lineage_to_branch(repo, now, branch, &chain, err));
    WA_CLEANUP(wa_lineage_freep) wa_lineage *next = wa_lineage_copy(now);
    wa_lineage_cut_after(next, 0);
    for (size_t i = 0; i < chain->count; i++)
        wa_lineage_append(next, &chain->steps[i].branch, chain->steps[i].begin);
    size_t kept = 0;
    for (size_t i = 0; i < next->rejected_count; i++)
        if (!wa_branch_eq(&next->rejected[i], branch))
            next->rejected[kept++] = next->rejected[i];
    next->rejected_count = kept;
    /* Whoever streams the new head becomes its writer, in an epoch of his own. */
    next->epoch++;
    next->writer[0] = '\0';
    *ret_next = WA_TAKE(next);
    return WA_OK;
}

static wa_status
reject(wa_repo *repo, const wa_lineage *now, const wa_branch *branch, wa_lineage **ret_next,
       wa_error *err)
{
    (void)repo;
    *ret_next = NULL;
    if (wa_lineage_has(now, branch)) {
        char text[WA_BRANCH_TEXT];
        wa_error_set(err, WA_INVALID, "branch %s is accepted and can't be rejected",
                     wa_branch_format(branch, text));
        return wa_error_hint(
            err, "Adopt the branch that is to take its place: \"walagent lineage adopt BRANCH\".");
    }
    if (wa_lineage_is_rejected(now, branch))
        return WA_OK;
    *ret_next = wa_lineage_copy(now);
    wa_lineage_reject(*ret_next, branch);
    return WA_OK;
}

static wa_status
find_branch(wa_repo *repo, const char *text, wa_branch *ret, wa_error *err)
{
    WA_CLEANUP(wa_freep) wa_branch *branches = NULL;
    size_t count = 0;
    wa_branch wanted;
    if (!wa_branch_parse(text, &wanted)) {
        wa_error_set(err, WA_INVALID, "\"%s\" is no branch", text);
        return wa_error_hint(
            err, "A branch looks like 00000002-1a2b3c4d; \"walagent lineage\" lists them.");
    }
    WA_TRY(wa_branches_all(repo, &branches, &count, err));
    for (size_t i = 0; i < count; i++)
        if (wa_branch_eq(&branches[i], &wanted)) {
            *ret = wanted;
            return WA_OK;
        }
    wa_error_set(err, WA_NOT_FOUND, "branch %s is not in the archive", text);
    return wa_error_hint(err, "\"walagent lineage\" lists the branches.");
}

static void
record(wa_repo *repo, const wa_lineage *before, const wa_lineage *next, const char *verb,
       bool adopts)
{
    wa_error lost = WA_ERROR_INIT;
    bool sealed = false;
    /* The writer of the head before must not acknowledge anything more. */
    if (adopts && wa_lineage_has_writer(before) &&
        wa_tip_end_epoch(repo, before, &sealed, &lost) != WA_OK)
        wa_log_error(WA_LOG_WARNING, &lost,
                     "the writer of the branch that was the head could not be fenced");
    wa_error_clear(&lost);
    if (wa_event_put(repo, verb, next->reason, NULL, &lost) != WA_OK)
        wa_log_error(WA_LOG_WARNING, &lost, "the event was not recorded");
}

/* One try. EXISTS: somebody else changed it meanwhile. */
static wa_status
change_once(wa_context *ctx, wa_repo *repo, const char *verb, const wa_branch *branch, change_fn fn,
            wa_error *err)
{
    WA_CLEANUP(wa_lineage_freep) wa_lineage *now = NULL;
    WA_CLEANUP(wa_lineage_freep) wa_lineage *next = NULL;
    bool silent = ctx->quiet || ctx->json;
    WA_TRY(wa_lineage_load(repo, &now, err));
    WA_TRY(fn(repo, now, branch, &next, err));
    if (next == NULL) {
        if (!silent)
            printf("branch %s is %s already\n", ctx->operands[1], standing(now, branch));
        return WA_OK;
    }
    snprintf(next->reason, sizeof next->reason, "%s %s", verb, ctx->operands[1]);
    next->since = wa_time_now();
    WA_TRY(wa_lineage_store(repo, next, err));
    record(repo, now, next, verb, fn == adopt);
    if (!silent)
        printf("branch %s %s; lineage %llu\n", ctx->operands[1], verb,
               (unsigned long long)next->number);
    return WA_OK;
}

static wa_status
change(wa_context *ctx, wa_repo *repo, const char *verb, change_fn fn, wa_error *err)
{
    wa_branch branch;
    WA_TRY(find_branch(repo, ctx->operands[1], &branch, err));
    for (int i = 0; i < CAS_TRIES; i++) {
        wa_status status = change_once(ctx, repo, verb, &branch, fn, err);
        if (status == WA_OK)
            return ctx->json ? show(ctx, repo, err) : WA_OK;
        if (status != WA_EXISTS)
            return status;
        wa_error_clear(err);
    }
    return wa_error_set(err, WA_UNAVAILABLE, "the lineage was changed by others %d times meanwhile",
                        CAS_TRIES);
}

static void
report_seal(const wa_context *ctx, const wa_lineage *l, wa_lsn sealed)
{
    char text[WA_BRANCH_TEXT], at[WA_LSN_TEXT];
    const wa_branch *head = &wa_lineage_head(l)->branch;
    wa_branch_format(head, text);
    wa_lsn_format(sealed, at);
    if (ctx->json) {
        WA_CLEANUP(wa_json_freep) json_t *json = json_object();
        json_t *seal = json_object();
        wa_json_set_string(seal, "branch", text);
        wa_json_set_u64(seal, "epoch", l->epoch);
        wa_json_set_string(seal, "lsn", at);
        wa_json_set_bool(seal, "held", wa_lineage_is_held(l));
        wa_json_set(json, "sealed", seal);
        wa_print_json(json);
    } else if (!ctx->quiet) {
        printf("epoch %u of branch %s is sealed at %s%s\n", l->epoch, text, at,
               wa_lineage_is_held(l) ? " and held" : "");
    }
}

/* What a failover manager asks for before it promotes: from now on the writer, and so the server
 * that waits for it, acknowledges nothing behind the LSN that is told. */
static wa_status
seal(wa_context *ctx, wa_repo *repo, wa_error *err)
{
    WA_CLEANUP(wa_lineage_freep) wa_lineage *l = NULL;
    wa_error lost = WA_ERROR_INIT;
    wa_lsn sealed = 0;
    if (wa_repo_cluster(repo)->single_writer)
        return wa_error_set(err, WA_UNSUPPORTED,
                            "the store has no conditional PUT: a seal there would fence nobody");
    bool hold = wa_arg_flag(ctx, "hold");
    WA_TRY(wa_tip_fence(repo, hold, &l, &sealed, err));
    report_seal(ctx, l, sealed);
    if (wa_event_put(repo, "sealed",
                     hold ? "the writer was fenced by \"lineage seal --hold\""
                          : "the writer was fenced by \"lineage seal\"",
                     NULL, &lost) != WA_OK)
        wa_log_error(WA_LOG_WARNING, &lost, "the event was not recorded");
    return WA_OK;
}

static wa_status
unseal(wa_context *ctx, wa_repo *repo, wa_error *err)
{
    WA_CLEANUP(wa_lineage_freep) wa_lineage *l = NULL;
    wa_error lost = WA_ERROR_INIT;
    WA_TRY(wa_tip_unseal(repo, &l, err));
    if (wa_event_put(repo, "unsealed", "archiving was let go on by \"lineage unseal\"", NULL,
                     &lost) != WA_OK)
        wa_log_error(WA_LOG_WARNING, &lost, "the event was not recorded");
    if (ctx->json)
        return show(ctx, repo, err);
    if (!ctx->quiet)
        printf("epoch %u is open: writer %s goes on\n", l->epoch, l->writer);
    return WA_OK;
}

static wa_status
run(wa_context *ctx, wa_error *err)
{
    const char *verb = ctx->operand_count > 0 ? ctx->operands[0] : "show";
    bool adopts = strcmp(verb, "adopt") == 0, rejects = strcmp(verb, "reject") == 0;
    bool resolves = strcmp(verb, "resolve") == 0, seals = strcmp(verb, "seal") == 0;
    bool unseals = strcmp(verb, "unseal") == 0, shows = strcmp(verb, "show") == 0;
    if (!adopts && !rejects && !resolves && !seals && !unseals && !shows) {
        wa_error_set(err, WA_INVALID, "unknown verb \"%s\" for \"walagent lineage\"", verb);
        return wa_error_hint(err, "Say \"show\", \"adopt BRANCH\", \"reject BRANCH\", \"seal\", "
                                  "\"unseal\" or \"resolve NAME --keep archived|both\".");
    }
    if ((adopts || rejects || resolves) != (ctx->operand_count == 2))
        return wa_error_set(err, WA_INVALID,
                            resolves            ? "\"walagent lineage %s\" needs a WAL file name"
                            : adopts || rejects ? "\"walagent lineage %s\" needs a branch"
                                                : "\"walagent lineage %s\" takes no branch",
                            verb);
    if (!resolves && wa_arg_value(ctx, "keep") != NULL)
        return wa_error_set(err, WA_INVALID, "--keep is for \"walagent lineage resolve\"");
    if (!seals && wa_arg_flag(ctx, "hold"))
        return wa_error_set(err, WA_INVALID, "--hold is for \"walagent lineage seal\"");
    if (!shows && wa_arg_value(ctx, "repository") != NULL)
        return wa_error_set(err, WA_INVALID, "--repository is for \"walagent lineage show\"");
    WA_CLEANUP(wa_repo_freep) wa_repo *repo = NULL;
    WA_TRY(wa_context_repo(ctx, shows ? WA_REPO_READ : WA_REPO_WRITE, true, &repo, err));
    if (resolves)
        return wa_lineage_resolve(ctx, repo, err);
    if (seals)
        return seal(ctx, repo, err);
    if (unseals)
        return unseal(ctx, repo, err);
    if (adopts)
        return change(ctx, repo, "adopted", adopt, err);
    if (rejects)
        return change(ctx, repo, "rejected", reject, err);
    WA_TRY(show(ctx, repo, err));
    wa_tell_of_mirrors(repo);
    return WA_OK;
}

static const wa_command_option options[] = {
    {"json", 0, WA_ARG_FLAG, NULL, "JSON (docs/json.md)."},
    {"hold", 0, WA_ARG_FLAG, NULL,
     "With seal: no agent opens the next epoch on this timeline, started again or not, until "
     "\"unseal\" or a promotion."},
    {"keep", 0, WA_ARG_VALUE, "archived|both", "With resolve: what is right."},
    WA_OPTION_REPOSITORY,
    {NULL, 0, WA_ARG_FLAG, NULL, NULL},
};

const wa_command wa_command_lineage = {
    .name = "lineage",
    .summary = "the accepted chain of timelines; adopt or reject a branch, fence, end a conflict",
    .operands = "[show | adopt BRANCH | reject BRANCH | seal | unseal | resolve NAME]",
    .min_operands = 0,
    .max_operands = 2,
    .options = options,
    .description =
        "Two servers can both promote to timeline 2; both archive side by side, each on its own "
        "branch. The lineage says which branch is accepted: restores to \"latest\", archive-get "
        "and backups follow "
        "it. The agent that streams from the cluster's primary adopts its timeline by itself.\n\n"
        "show lists the branches with their standing. adopt makes a branch the head, the branches "
        "that it descends from accepted up to their forks, and fences the agent that wrote the "
        "head before. Without an agent nobody adopts by himself: archive_command never does. "
        "reject says that a branch is not to be asked about again. "
        "Nothing is ever removed.\n\n"
        "seal fences the agent that writes, as before a promotion: what is behind the LSN that it "
        "tells is not acknowledged any more, so with synchronous_standby_names no commit returns "
        "that the archive doesn't have. An agent that waits beside it, on any node, does not take "
        "over on this timeline: they go on when a server is promoted, or when one of them is "
        "started again. With --hold a start changes nothing either, which a supervisor or a "
        "reboot may cause at any time: they wait, and \"status\", \"check\" and the log say so, "
        "until a server is promoted or unseal opens the next epoch for the writer. Agents of "
        "versions "
        "without --hold know nothing of it, and open the next epoch when they are started. Where "
        "no agent "
        "writes nobody is fenced, and that is an error. archive_command is not fenced.\n\n"
        "resolve ends a conflict: archive-push refused a WAL file (exit 5) because the archive has "
        "other content under its name. The pushed bytes that are kept in quarantine/ are settled "
        "from then on, --keep archived (they are wrong) or both (two servers, both right): "
        "archive-push accepts exactly them, with a warning, and archiving goes on. What is "
        "archived is never replaced.",
    .exit_codes =
        "  0   done; seal: the writer is fenced\n"
        "  1   no such branch, nothing is kept under the name, or seal: nobody was fenced\n"
        "  2   wrong usage",
    .example = "  walagent lineage\n  walagent lineage adopt 00000002-1a2b3c4d\n"
               "  walagent lineage resolve 00000001000000000000002A --keep archived",
    .run = run,
};
