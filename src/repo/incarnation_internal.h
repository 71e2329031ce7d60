/*
 * src/repo/incarnation_internal.h - between the repo handle and the cluster's entry.
 */
#ifndef WA_SRC_REPO_INCARNATION_INTERNAL_H
#define WA_SRC_REPO_INCARNATION_INTERNAL_H

#include "walagent/repo/repo.h"

/* From now on repo is this cluster's. */
void wa_repo_adopt(wa_repo *repo, const wa_cluster *cluster);

#endif
