/*
 * tests/unit/restore/plan_fixture.h - what the tests of planning have in common: the cluster, and
 * backups that consist of their backup.json alone.
 *
 * Included behind cmocka.h.
 */
#ifndef WA_TESTS_PLAN_FIXTURE_H
#define WA_TESTS_PLAN_FIXTURE_H

#include "walagent/repo/backup_object.h"

#include <stdio.h>

#define SYSTEM_ID UINT64_C(7000000000000000001)
#define SEGMENT (1024u * 1024)
/* The caller has a wa_error err. */
#define OK(call)                                                                                   \
    do {                                                                                           \
        if ((call) != WA_OK)                                                                       \
            fail_msg("line %d: %s: %s", __LINE__, #call, err.message);                             \
    } while (0)

/* what: branches, LSNs and times. */
static inline void
put_backup(wa_repo *repo, const char *label, const wa_backup_info *what)
{
    wa_error err = WA_ERROR_INIT;
    wa_backup_info *info = wa_backup_info_new();
    snprintf(info->label, sizeof info->label, "%s", label);
    info->branch = what->branch;
    info->end_branch = what->end_branch;
    info->start_lsn = what->start_lsn;
    info->end_lsn = what->end_lsn;
    info->start_time = what->start_time;
    info->end_time = what->end_time;
    info->major = 15;
    info->system_identifier = SYSTEM_ID;
    info->segment_size = SEGMENT;
    snprintf(info->source, sizeof info->source, "remote");
    snprintf(info->manifest_checksum, sizeof info->manifest_checksum, "CRC32C");
    OK(wa_backup_begin(repo, info, &err));
    OK(wa_backup_commit(repo, info, &err));
    wa_backup_info_free(info);
}

#endif
