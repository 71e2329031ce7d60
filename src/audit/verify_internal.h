/*
 * verify_internal.h - the parts of verify.
 */
#ifndef WALAGENT_VERIFY_INTERNAL_H
#define WALAGENT_VERIFY_INTERNAL_H

#include "walagent/audit/verify.h"
#include "walagent/base/thread.h"
#include "walagent/repo/branch.h"

typedef struct wa_verify {
    const wa_verify_options *options;
    wa_verify_result *result;
    wa_mutex mutex; /* guards result */
} wa_verify;

/* Takes nothing; cost may be NULL. */
void wa_verify_damage(wa_verify *v, const char *kind, const char *object, const char *cost,
                      const char *fmt, ...) WA_PRINTF(5, 6);

/* verify_wal.c: one branch. */
wa_status wa_verify_branch(wa_verify *v, const wa_branch *branch, wa_error *err) WA_MUST_CHECK;
/* verify_backup.c: one backup. */
wa_status wa_verify_backup(wa_verify *v, const char *label, wa_error *err) WA_MUST_CHECK;

/* verify_mark.c: up to which segment a branch was verified earlier (0: never), and recording it. */
wa_status wa_verify_mark_load(wa_repo *repo, const wa_branch *branch, wa_segno *ret,
                              wa_error *err) WA_MUST_CHECK;
wa_status wa_verify_mark_store(wa_repo *repo, const wa_branch *branch, wa_segno upto,
                               wa_error *err) WA_MUST_CHECK;

#endif
