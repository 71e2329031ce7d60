/*
 * unread_internal.h - WAL that is in the archive, and that nobody can follow.
 */
#ifndef WALAGENT_UNREAD_INTERNAL_H
#define WALAGENT_UNREAD_INTERNAL_H

#include "walagent/repo/backup_object.h"
#include "walagent/repo/coverage.h"

typedef struct wa_unread { /* from the end of the last record to where reading can go on */
    wa_hole *items;
    size_t count;
    wa_lsn unread_from; /* the first unchecked segment that was not read, there are too many; 0:
                           none */
} wa_unread;
void wa_unread_done(wa_unread *u);
/* Looks at what was archived unchecked, which the index tells, from `from` on. Reading can go on at
 * the next segment and where a backup begins. */
wa_status wa_unread_find(wa_repo *repo, const wa_coverage *c, const wa_backups *backups,
                         wa_lsn from, wa_unread *ret, wa_error *err) WA_MUST_CHECK;
/* Takes it out of the runs: then it is a hole like any other. */
void wa_unread_cut(const wa_unread *u, wa_coverage *c);
bool wa_unread_has(const wa_unread *u, const wa_hole *hole);

#endif
