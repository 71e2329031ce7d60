/*
 * walagent/repo/mirrors.h - bring a mirror what the main repository has (store/mirror.h).
 *
 * Compares listings, name by name and by size (lineage, histories and the cluster's entry in full),
 * and copies what is missing, several objects at a time, a page of names in memory. The cluster's
 * entry comes last, when all else is there: a mirror without it is none yet, and nobody writes to
 * it or relies on it. Nothing in a mirror is replaced (but caches) or removed. It may be run while
 * an agent writes, and again at any time: what only one of them has is looked at again at the end.
 */
#ifndef WALAGENT_REPO_MIRRORS_H
#define WALAGENT_REPO_MIRRORS_H

#include "walagent/base/cancel.h"
#include "walagent/base/progress.h"
#include "walagent/repo/repo.h"

typedef struct wa_mirror_sync_options {
    bool only_compare;
    wa_progress *progress; /* may be NULL */
    wa_cancel *cancel;     /* may be NULL */
} wa_mirror_sync_options;

typedef struct wa_mirror_sync {
    uint64_t objects, bytes;         /* of the main repository */
    uint64_t missing, missing_bytes; /* the mirror lacked them */
    uint64_t copied, copied_bytes;   /* of the missing ones */
    uint64_t different;              /* other bytes under the same name: not touched */
    uint64_t extra;                  /* only the mirror has them: not touched */
    bool has_entry;                  /* the mirror has the cluster's entry */
    char first_missing[256], first_different[256]; /* keys; "" */
} wa_mirror_sync;

/* Member i (1 or more) of a loaded repository. Differing objects are counted, no failure; a mirror
 * that holds another archive is one: CONFLICT. */
wa_status wa_mirror_sync_run(wa_repo *repo, size_t i, const wa_mirror_sync_options *options,
                             wa_mirror_sync *ret, wa_error *err) WA_MUST_CHECK;
/* Cheaply, of an incomplete comparison: is the entry, or the first object that was missing or
 * different, there now, or is that gone from the main repository? Then another comparison finds
 * something else. */
wa_status wa_mirror_sync_is_outdated(wa_repo *repo, size_t i, const wa_mirror_sync *result,
                                     bool *ret, wa_error *err) WA_MUST_CHECK;
/* Has it all that the main repository has, with the same bytes? */
bool wa_mirror_sync_is_complete(const wa_mirror_sync *result);

#endif
