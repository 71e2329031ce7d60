/*
 * backup_fixture.h - what tests of backups begin with: a repository in memory that a cluster was
 * entered into, and a backup's description.
 */
#ifndef WALAGENT_BACKUP_FIXTURE_H
#define WALAGENT_BACKUP_FIXTURE_H

#include "backup_internal.h"

#include "walagent/store/drivers.h"

/* The call's error is f->err. */
#define OK(call)                                                                                   \
    do {                                                                                           \
        wa_status s_ = (call);                                                                     \
        if (s_ != WA_OK)                                                                           \
            fail_msg("%s", f->err.message);                                                        \
    } while (0)

/* Takes the store. */
static inline wa_status
make_repo_of(wa_store *store, wa_repo **ret, wa_error *err)
{
    wa_cluster identity = {.system_identifier = 7412345678901234567u,
                           .major = 15,
                           .segment_size = 16 * 1024 * 1024,
                           .since = wa_time_now()};
    bool created = false;
    WA_TRY(wa_repo_of_store(store, "main", 1, ret, err));
    return wa_repo_init(*ret, &identity, false, &created, err);
}

static inline wa_status
make_repo(wa_repo **ret, wa_error *err)
{
    return make_repo_of(wa_store_mem_new(), ret, err);
}

static inline wa_backup_info *
make_info(void)
{
    wa_backup_info *info = wa_backup_info_new();
    wa_backup_new_label(false, wa_time_now(), info->label);
    return info;
}

#endif
