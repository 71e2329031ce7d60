/*
 * check_lineage.c - is the server's timeline the one that restores use? A hook never adopts one: it
 * archives a promoted server's WAL beside the accepted lineage.
 */
#include "check_internal.h"

#include "walagent/repo/branch.h"
#include "walagent/repo/lineage.h"
#include "walagent/repo/tip.h"

static void
left_behind(check *c, const wa_lineage *lineage)
{
    wa_check_add(c, WA_VERDICT_WARNING, "lineage",
                 "Is this the right server? See \"walagent lineage\".",
                 "the server is on timeline %u, but the archive's lineage has gone on to timeline "
                 "%u",
                 c->system.tli, wa_lineage_head(lineage)->branch.tli);
}

static void
not_accepted(check *c, const wa_lineage *lineage)
{
    wa_error ignored = WA_ERROR_INIT;
    WA_CLEANUP(wa_freep) wa_branch *branches = NULL;
    size_t count = 0, last = 0, left = 0;
    char text[WA_BRANCH_TEXT] = "";
    if (wa_branches_of(c->options->repo, c->system.tli, &branches, &count, &ignored) != WA_OK)
        count = 0;
    for (size_t i = 0; i < count; i++)
        if (!wa_lineage_is_rejected(lineage, &branches[i])) {
            last = i;
            left++;
        }
    WA_CLEANUP(wa_freep)
    char *adopt = wa_format("walagent lineage adopt %s",
                            left == 1 ? wa_branch_format(&branches[last], text) : "BRANCH");
    WA_CLEANUP(wa_freep)
    char *hint =
        c->streams
            ? wa_format("The agent adopts it once it has archived what the old timeline has; see "
                        "\"walagent status\".")
            : wa_format("Start the agent (\"walagent run\"), which adopts what it streams, or run "
                        "\"%s\"; \"walagent lineage\" lists the branches.",
                        adopt);
    wa_check_add(c, WA_VERDICT_WARNING, "lineage", hint,
                 "the server is on timeline %u, which the archive's lineage has not accepted: "
                 "what it archives is kept, but restores and standbys don't use it",
                 c->system.tli);
}

/* A hold is in the lineage before its seal is put, which may have failed. */
static void
held(check *c, const wa_lineage *lineage)
{
    wa_error err = WA_ERROR_INIT;
    bool sealed = false;
    if (wa_tip_is_sealed(c->options->repo, &wa_lineage_head(lineage)->branch, lineage->epoch,
                         &sealed, &err) != WA_OK)
        wa_check_add_error(c, WA_VERDICT_FAILED, "lineage", &err);
    else if (sealed)
        wa_check_add(c, WA_VERDICT_FAILED, "lineage",
                     "\"walagent lineage unseal\" ends it, or the promotion of a server.",
                     "epoch %u was sealed by \"walagent lineage seal --hold\": no agent archives "
                     "on timeline %u",
                     lineage->epoch, c->system.tli);
    else
        wa_check_add(c, WA_VERDICT_FAILED, "lineage",
                     "Run \"walagent lineage seal --hold\" again, or \"walagent lineage unseal\".",
                     "epoch %u is held by \"walagent lineage seal --hold\" but was not sealed: its "
                     "writer goes on where it runs, and archives nothing once it is started again",
                     lineage->epoch);
}

void
wa_check_lineage(check *c)
{
    wa_error err = WA_ERROR_INIT;
    WA_CLEANUP(wa_lineage_freep) wa_lineage *lineage = NULL;
    if (!c->repo_loaded || c->conn == NULL || c->in_recovery || c->system.tli == 0)
        return;
    if (wa_lineage_load(c->options->repo, &lineage, &err) != WA_OK) {
        wa_check_add_error(c, WA_VERDICT_FAILED, "lineage", &err);
        return;
    }
    const wa_branch *branch = wa_lineage_branch_of_tli(lineage, c->system.tli);
    if (branch == NULL)
        not_accepted(c, lineage);
    else if (!wa_branch_eq(branch, &wa_lineage_head(lineage)->branch))
        left_behind(c, lineage);
    else if (wa_lineage_is_held(lineage))
        held(c, lineage);
    else
        wa_check_add(c, WA_VERDICT_OK, "lineage", NULL, "timeline %u is the archive's accepted one",
                     c->system.tli);
}
