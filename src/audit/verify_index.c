/*
 * verify_index.c - the index objects of a branch: a cache, so damage is a warning, and made good.
 */
#include "verify_internal.h"

#include "walagent/repo/index.h"

#include <string.h>

static bool
is_among(const wa_strv *keys, const char *key)
{
    for (size_t i = 0; i < keys->count; i++)
        if (strcmp(keys->items[i], key) == 0)
            return true;
    return false;
}

wa_status
wa_verify_index(wa_verify *v, const wa_branch *branch, wa_segno last, wa_error *err)
{
    wa_repo *repo = v->options->repo;
    WA_CLEANUP(wa_strv_done) wa_strv damaged = {0};
    WA_CLEANUP(wa_strv_done) wa_strv still = {0};
    WA_TRY(wa_index_check(repo, branch, &damaged, err));
    if (damaged.count == 0)
        return WA_OK;
    if (wa_index_update(repo, branch, last, err) != WA_OK)
        wa_error_clear(err); /* it is not needed for any answer */
    WA_TRY(wa_index_check(repo, branch, &still, err));
    for (size_t i = 0; i < damaged.count; i++)
        wa_verify_damage(
            v, "index", damaged.items[i], NULL, "%s",
            is_among(&still, damaged.items[i])
                ? "an index object is damaged: others, or the segments themselves, answer"
                : "an index object was damaged and was rebuilt");
    return WA_OK;
}
