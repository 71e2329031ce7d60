/*
 * walagent/audit/window.h - which points in time and WAL can be restored: windows and the holes
 * between them.
 *
 * A window begins where the first backup of a gap-free stretch is consistent (its end LSN) and ends
 * where the stretch ends. A segment that was archived unchecked (a chunk, where there is no
 * whole one) interrupts a stretch where its
 * records can't be followed, as it stops a recovery: that is a hole too, marked `archived`. Of many
 * such segments only the first ones are read: `unread_from` tells of the others.
 * Stretches follow the accepted lineage over forks; a branch outside the
 * lineage that has a backup of its own, or hangs on a window, is a window too, marked not accepted.
 * Errors: the store's; CORRUPT never: damaged backups are listed in `damaged`.
 */
#ifndef WALAGENT_AUDIT_WINDOW_H
#define WALAGENT_AUDIT_WINDOW_H

#include "walagent/repo/backup_object.h"
#include "walagent/repo/coverage.h"

typedef struct wa_window {
    wa_branch branch; /* of the end */
    bool accepted;    /* on the accepted lineage */
    wa_lsn begin, end;
    wa_time begin_time; /* of the first backup's end */
    wa_time end_time;   /* of the last commit or abort in it; WA_TIME_NONE: not known, then the
                           backup's end counts */
    char first_backup[WA_LABEL_SIZE];
    size_t backups;
} wa_window;

#define WA_HOLES_MAX 64
/* Between which times a hole lies; WA_TIME_NONE: not known, none near it. */
typedef struct wa_hole_times {
    wa_time last_before, first_after; /* of commits and aborts: the latest in the last WAL before
                                         that has some, the earliest in the first behind */
    wa_time reachable_from; /* the end of the first backup that is usable behind it; NONE: none */
    bool archived;          /* the WAL is there, but its records can't be followed */
} wa_hole_times;

typedef struct wa_windows {
    wa_lineage *lineage;
    wa_backups backups;
    bool *usable; /* each of them */
    wa_coverage coverage;
    size_t count;
    wa_window *items;
    size_t hole_count; /* between the oldest backup's start and the tip */
    wa_hole holes[WA_HOLES_MAX];
    wa_hole_times hole_times[WA_HOLES_MAX];
    wa_lsn unread_from; /* from here on segments were archived unchecked, too many to be read: it is
                           not known whether a recovery gets through them. 0: none */
} wa_windows;

wa_status wa_windows_load(wa_repo *repo, wa_windows *ret, wa_error *err) WA_MUST_CHECK;
void wa_windows_done(wa_windows *w);
/* Can this backup, one of w->backups, be restored to consistency: is its WAL there, on its branch?
 */
bool wa_windows_backup_usable(const wa_windows *w, const wa_backup_info *backup);
/* The shape of `walagent list --json` and GET /window. */
json_t *wa_windows_to_json(const wa_repo *repo, const wa_windows *w);

#endif
