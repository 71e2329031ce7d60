/*
 * walagent/repo/resolution.h - a person's answer to a conflict: these bytes are settled.
 *
 *   resolution/<TLI8>-<id8>/<name>-<xxh3>.json   created once
 *   {"v":1,"branch":...,"name":...,"xxh3":...,"keep":"archived"|"both","kept_as":KEY,"time":...,"writer":...}
 *
 * archive-push of exactly this content under this name on this branch then answers OK: what is
 * archived stays as it is, the pushed bytes stay in quarantine. Other content is a conflict as
 * before. Threads: any.
 */
#ifndef WALAGENT_REPO_RESOLUTION_H
#define WALAGENT_REPO_RESOLUTION_H

#include "walagent/codec/hash.h"
#include "walagent/repo/repo.h"

typedef struct wa_quarantined { /* bytes that were refused and kept */
    wa_branch branch;
    char *name; /* of the WAL file */
    char xxh3[WA_XXH_HEX];
    char *key;
} wa_quarantined;
typedef struct wa_quarantine_list {
    wa_quarantined *items;
    size_t count;
} wa_quarantine_list;
void wa_quarantine_list_done(wa_quarantine_list *l);
/* What is kept of a segment: under its name and as its .partial, on every branch. */
wa_status wa_quarantine_find(wa_repo *repo, const char *segment_name, wa_quarantine_list *ret,
                             wa_error *err) WA_MUST_CHECK;

typedef enum wa_keep { WA_KEEP_ARCHIVED, WA_KEEP_BOTH } wa_keep;
const char *wa_keep_name(wa_keep keep);
/* Settled already, whatever was said then: OK, *ret_created false. */
wa_status wa_resolution_put(wa_repo *repo, const wa_quarantined *kept, wa_keep keep,
                            bool *ret_created, wa_error *err) WA_MUST_CHECK;
/* False: positively none. A damaged one settles nothing: CORRUPT. */
wa_status wa_resolution_exists(wa_repo *repo, const wa_branch *branch, const char *name,
                               const char *xxh3, bool *ret, wa_error *err) WA_MUST_CHECK;

#endif
