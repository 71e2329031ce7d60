/*
 * check_mirrors.c - the preflight's look at further repositories: has each what the main one has?
 */
#include "check_internal.h"

#include "walagent/repo/mirrors.h"
#include "walagent/store/mirror.h"

#include <inttypes.h>

#define HINT_COPY "Run \"walagent mirror\": it copies what is missing."

static void
check_mirror(check *c, size_t i)
{
    wa_error err = WA_ERROR_INIT;
    wa_member_status status;
    wa_mirror_sync r = {0};
    wa_mirror_sync_options options = {.only_compare = true, .cancel = c->options->cancel};
    wa_store *store = wa_repo_store(c->options->repo);
    wa_store_member_status(store, i, &status);
    if (wa_mirror_sync_run(c->options->repo, i, &options, &r, &err) != WA_OK) {
        wa_check_add_error(c, WA_VERDICT_FAILED, "mirror", &err);
        return;
    }
    if (!c->repo_away && wa_store_mirror_looks_first(store, i))
        wa_check_add(c, WA_VERDICT_WARNING, "mirror",
                     "The main repository decides who wins a name; a store with conditional PUT is "
                     "the safer mirror.",
                     "\"%s\" (%s) has no conditional PUT: it is looked at before each write",
                     status.name, status.url);
    if (!r.has_entry)
        wa_check_add(
            c, WA_VERDICT_FAILED, "mirror", HINT_COPY,
            "\"%s\" (%s) is no mirror yet: nothing is archived as long as it is configured",
            status.name, status.url);
    else if (r.different > 0)
        wa_check_add(c, WA_VERDICT_FAILED, "mirror",
                     "Look at both, move the mirror's away, and run \"walagent mirror\".",
                     "\"%s\" (%s) has other bytes than the main repository in %" PRIu64
                     " objects, the first one \"%s\"",
                     status.name, status.url, r.different, r.first_different);
    else if (r.missing > 0)
        wa_check_add(c, WA_VERDICT_FAILED, "mirror", HINT_COPY,
                     "\"%s\" (%s) lacks %" PRIu64 " objects of the main repository, the first one "
                     "\"%s\"",
                     status.name, status.url, r.missing, r.first_missing);
    else
        wa_check_add(c, WA_VERDICT_OK, "mirror", NULL,
                     "\"%s\" (%s) has all %" PRIu64 " objects of the main repository", status.name,
                     status.url, r.objects);
}

void
wa_check_mirrors(check *c)
{
    if (!c->repo_loaded)
        return;
    for (size_t i = 1; i < wa_store_members(wa_repo_store(c->options->repo)); i++)
        check_mirror(c, i);
}
