/*
 * src/repo/lineage_object.c - lineage/<N8>.json: numbered, created once each, the highest is valid.
 *
 *   {"v":1,"epoch":n,"writer":"...","since":RFC 3339|null,"reason":"...",
 *    "steps":[{"branch":"<TLI8>-<id8>","begin":"X/X"},...],
 *    "seals":[{"epoch":n,"branch":"...","lsn":"X/X"},...],"rejected":["<TLI8>-<id8>",...]}
 *
 * Steps are oldest first; their timelines increase, their begins don't decrease.
 */
#include "walagent/repo/lineage.h"

#include "repo_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SEALS_MAX 100000u

json_t *
wa_lineage_to_json(const wa_lineage *l)
{
    json_t *json = json_object();
    wa_json_set_i64(json, "v", 1);
    wa_json_set_i64(json, "epoch", l->epoch);
    wa_json_set_string(json, "writer", l->writer);
    wa_repo_json_set_time(json, "since", l->since);
    wa_json_set_string(json, "reason", l->reason);
    if (wa_lineage_is_held(l))
        wa_json_set_i64(json, "held_epoch", l->held_epoch);
    json_t *steps = json_array(), *seals = json_array(), *rejected = json_array();
    for (size_t i = 0; i < l->count; i++) {
        json_t *step = json_object();
        wa_repo_json_set_branch(step, "branch", &l->steps[i].branch);
        wa_repo_json_set_lsn(step, "begin", l->steps[i].begin);
        json_array_append_new(steps, step);
    }
    for (size_t i = 0; i < l->seal_count; i++) {
        json_t *seal = json_object();
        wa_json_set_i64(seal, "epoch", l->seals[i].epoch);
        wa_repo_json_set_branch(seal, "branch", &l->seals[i].branch);
        wa_repo_json_set_lsn(seal, "lsn", l->seals[i].lsn);
        json_array_append_new(seals, seal);
    }
    for (size_t i = 0; i < l->rejected_count; i++) {
        char text[WA_BRANCH_TEXT];
        json_array_append_new(rejected, json_string(wa_branch_format(&l->rejected[i], text)));
    }
    wa_json_set(json, "steps", steps);
    wa_json_set(json, "seals", seals);
    wa_json_set(json, "rejected", rejected);
    return json;
}

static wa_status
parse_steps(const json_t *json, const char *what, wa_lineage *l, wa_error *err)
{
    const json_t *steps = json_object_get(json, "steps");
    if (!json_is_array(steps) || json_array_size(steps) > WA_LINEAGE_MAX)
        return wa_error_set(err, WA_CORRUPT, "\"steps\" of \"%s\" is no array of at most %d", what,
                            WA_LINEAGE_MAX);
    for (size_t i = 0; i < json_array_size(steps); i++) {
        const json_t *item = json_array_get(steps, i);
        const wa_lineage_step *head = wa_lineage_head(l);
        wa_lineage_step step = {0};
        WA_TRY(wa_repo_json_branch(item, "branch", what, &step.branch, err));
        WA_TRY(wa_repo_json_lsn(item, "begin", what, &step.begin, err));
        if (head != NULL && (step.branch.tli <= head->branch.tli || step.begin < head->begin))
            return wa_error_set(err, WA_CORRUPT, "the steps of \"%s\" are out of order", what);
        wa_lineage_append(l, &step.branch, step.begin);
    }
    return WA_OK;
}

static wa_status
parse_seals(const json_t *json, const char *what, wa_lineage *l, wa_error *err)
{
    const json_t *seals = json_object_get(json, "seals");
    const json_t *rejected = json_object_get(json, "rejected");
    if (!json_is_array(seals) || !json_is_array(rejected) || json_array_size(seals) > SEALS_MAX)
        return wa_error_set(err, WA_CORRUPT, "\"%s\" has no valid seals and rejected branches",
                            what);
    for (size_t i = 0; i < json_array_size(seals); i++) {
        const json_t *item = json_array_get(seals, i);
        wa_branch branch = {0};
        wa_lsn lsn = 0;
        uint64_t epoch = 0;
        WA_TRY(wa_json_get_u64(item, "epoch", what, &epoch, err));
        WA_TRY(wa_repo_json_branch(item, "branch", what, &branch, err));
        WA_TRY(wa_repo_json_lsn(item, "lsn", what, &lsn, err));
        if (epoch > UINT32_MAX)
            return wa_error_set(err, WA_CORRUPT, "a seal of \"%s\" has an impossible epoch", what);
        wa_lineage_add_seal(l, (uint32_t)epoch, &branch, lsn);
    }
    for (size_t i = 0; i < json_array_size(rejected); i++) {
        const char *text = json_string_value(json_array_get(rejected, i));
        wa_branch branch = {0};
        if (text == NULL || !wa_branch_parse(text, &branch))
            return wa_error_set(err, WA_CORRUPT, "\"%s\" rejects something that is no branch",
                                what);
        wa_lineage_reject(l, &branch);
    }
    return WA_OK;
}

wa_status
wa_lineage_from_json(const json_t *json, const char *what, wa_lineage **ret, wa_error *err)
{
    WA_CLEANUP(wa_lineage_freep) wa_lineage *l = wa_lineage_new();
    uint64_t epoch = 0;
    WA_TRY(wa_json_get_u64(json, "epoch", what, &epoch, err));
    if (epoch > UINT32_MAX)
        return wa_error_set(err, WA_CORRUPT, "\"%s\" has an impossible epoch", what);
    l->epoch = (uint32_t)epoch;
    snprintf(l->writer, sizeof l->writer, "%s", wa_json_string_or(json, "writer", ""));
    snprintf(l->reason, sizeof l->reason, "%s", wa_json_string_or(json, "reason", ""));
    l->held_epoch = (uint32_t)wa_json_u64_or(json, "held_epoch", 0);
    WA_TRY(wa_repo_json_time(json, "since", what, &l->since, err));
    WA_TRY(parse_steps(json, what, l, err));
    WA_TRY(parse_seals(json, what, l, err));
    *ret = WA_TAKE(l);
    return WA_OK;
}

static char *
lineage_key(wa_repo *repo, uint64_t number)
{
    return wa_repo_key(repo, "lineage/%08llX.json", (unsigned long long)number);
}

/* The highest number, 0 when there is none. Numbers seen before are not listed again. */
static wa_status
newest_number(wa_repo *repo, uint64_t *ret, wa_error *err)
{
    uint64_t newest = wa_repo_lineage_seen(repo);
    WA_CLEANUP(wa_freep) char *prefix = wa_repo_key(repo, "lineage/");
    WA_CLEANUP(wa_freep) char *after = newest == 0 ? NULL : lineage_key(repo, newest);
    WA_CLEANUP(wa_strv_done) wa_strv keys = {0};
    WA_TRY(wa_repo_list(repo, prefix, false, after, &keys, err));
    for (size_t i = 0; i < keys.count; i++) {
        uint64_t number = 0;
        if (wa_key_number(keys.items[i], ".json", &number) && number > newest)
            newest = number;
    }
    *ret = newest;
    return WA_OK;
}

wa_status
wa_lineage_load(wa_repo *repo, wa_lineage **ret, wa_error *err)
{
    uint64_t number = 0;
    WA_TRY(newest_number(repo, &number, err));
    if (number == 0) {
        wa_lineage *l = wa_lineage_new();
        wa_branch first =
            wa_branch_of(wa_repo_cluster(repo)->system_identifier, 1, NULL, 0, NULL, 0);
        wa_lineage_append(l, &first, 0);
        *ret = l;
        return WA_OK;
    }
    WA_CLEANUP(wa_freep) char *key = lineage_key(repo, number);
    WA_CLEANUP(wa_json_freep) json_t *json = NULL;
    WA_CLEANUP(wa_lineage_freep) wa_lineage *l = NULL;
    WA_TRY(wa_object_get_json(repo, key, &json, err));
    WA_TRY(wa_lineage_from_json(json, key, &l, err));
    l->number = number;
    wa_repo_lineage_saw(repo, number);
    *ret = WA_TAKE(l);
    return WA_OK;
}

wa_status
wa_lineage_store(wa_repo *repo, wa_lineage *l, wa_error *err)
{
    WA_ASSERT(l->count > 0 && l->number < UINT32_MAX);
    WA_CLEANUP(wa_freep) char *key = lineage_key(repo, l->number + 1);
    WA_CLEANUP(wa_json_freep) json_t *json = wa_lineage_to_json(l);
    WA_CLEANUP(wa_freep) char *dumped = wa_json_dump(json, 2);
    WA_CLEANUP(wa_freep) char *text = wa_format("%s\n", dumped);
    /* The same bytes (writer and time are among them): our own try whose answer got lost. */
    WA_TRY(wa_object_put_same(repo, key, "lineage", text, strlen(text), err));
    l->number++;
    wa_repo_lineage_saw(repo, l->number);
    return WA_OK;
}

/* Does the candidate's own history say the same about its ancestors as `history` does? */
static wa_status
is_ancestor(wa_repo *repo, const wa_branch *candidate, const wa_history *history, size_t depth,
            bool *ret, wa_error *err)
{
    WA_CLEANUP(wa_history_freep) wa_history *own = NULL;
    WA_TRY(wa_history_load(repo, candidate, &own, err));
    bool same = own->count == depth;
    for (size_t i = 0; same && i < depth; i++)
        same = own->entries[i].tli == history->entries[i].tli &&
               own->entries[i].end == history->entries[i].end;
    *ret = same;
    return WA_OK;
}

/* The branch of history->entries[depth]: the one whose history fits; the accepted one of several.
 */
static wa_status
resolve_ancestor(wa_repo *repo, const wa_lineage *accepted, const wa_history *history, size_t depth,
                 wa_branch *ret, wa_error *err)
{
    wa_tli tli = history->entries[depth].tli;
    WA_CLEANUP(wa_freep) wa_branch *all = NULL;
    size_t count = 0, fitting = 0;
    wa_branch chosen = {0};
    bool is_accepted = false;
    WA_TRY(wa_branches_of(repo, tli, &all, &count, err));
    for (size_t i = 0; i < count; i++) {
        bool fits = false;
        WA_TRY(is_ancestor(repo, &all[i], history, depth, &fits, err));
        if (!fits || is_accepted)
            continue;
        fitting++;
        chosen = all[i];
        is_accepted = wa_lineage_has(accepted, &all[i]);
    }
    if (fitting == 0)
        return wa_error_set(err, WA_NOT_FOUND,
                            "the archive has no history of timeline %u that fits its descendant %u",
                            tli, history->tli);
    if (fitting > 1 && !is_accepted) {
        wa_error_set(err, WA_CONFLICT, "timeline %u has %zu branches that could be the ancestor",
                     tli, fitting);
        return wa_error_hint(err, "Run \"walagent lineage adopt\" for the right one first.");
    }
    *ret = chosen;
    return WA_OK;
}

wa_status
wa_lineage_to_branch(wa_repo *repo, const wa_lineage *accepted, const wa_branch *branch,
                     wa_lineage **ret, wa_error *err)
{
    for (size_t i = 0; i < accepted->count; i++) {
        if (!wa_branch_eq(&accepted->steps[i].branch, branch))
            continue;
        wa_lineage *l = wa_lineage_copy(accepted);
        wa_lineage_cut_after(l, i + 1);
        *ret = l;
        return WA_OK;
    }
    WA_CLEANUP(wa_history_freep) wa_history *history = NULL;
    WA_TRY(wa_history_load(repo, branch, &history, err));
    WA_CLEANUP(wa_lineage_freep) wa_lineage *l = wa_lineage_new();
    wa_lsn begin = 0;
    for (size_t depth = 0; depth < history->count; depth++) {
        wa_branch ancestor = {0};
        WA_TRY(resolve_ancestor(repo, accepted, history, depth, &ancestor, err));
        wa_lineage_append(l, &ancestor, begin);
        begin = history->entries[depth].end;
    }
    char text[WA_BRANCH_TEXT];
    wa_lineage_append(l, branch, begin);
    snprintf(l->reason, sizeof l->reason, "to %s", wa_branch_format(branch, text));
    *ret = WA_TAKE(l);
    return WA_OK;
}
