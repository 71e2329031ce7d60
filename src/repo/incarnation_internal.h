/*
 * src/repo/incarnation_internal.h - between the repo handle and the cluster's entry.
 */
#ifndef WA_SRC_REPO_INCARNATION_INTERNAL_H
#define WA_SRC_REPO_INCARNATION_INTERNAL_H

#include "walagent/repo/repo.h"

/* From now on repo is this cluster's. */
void wa_repo_adopt(wa_repo *repo, const wa_cluster *cluster);
/* The key of that entry; a new string. */
char *wa_incarnation_key(const wa_repo *repo, uint64_t incarnation);
/* mirrors.c: every mirror has the entries up to this one. A new archive's are copied; a mirror that
 * lacks more than them is INVALID. */
wa_status wa_mirrors_init(wa_repo *repo, const wa_cluster *cluster, wa_error *err) WA_MUST_CHECK;

#endif
