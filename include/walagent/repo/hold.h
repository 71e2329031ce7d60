/*
 * walagent/repo/hold.h - backups that a person wants kept, whatever the retention says.
 *
 *   hold/<LABEL>   {"v":1,"label":...,"reason":...,"time":...,"writer":...}
 *
 * A hold is a promise about a backup and everything it needs: its chain and the WAL from its start
 * on. Threads: any.
 */
#ifndef WALAGENT_REPO_HOLD_H
#define WALAGENT_REPO_HOLD_H

#include "walagent/repo/backup_object.h"

typedef struct wa_hold {
    char label[WA_LABEL_SIZE];
    char *reason;
    wa_time time; /* WA_TIME_NONE: its object is damaged; it holds all the same */
} wa_hold;
typedef struct wa_holds {
    wa_hold *items; /* in the order of labels */
    size_t count;
} wa_holds;
void wa_holds_done(wa_holds *h);
bool wa_holds_has(const wa_holds *h, const char *label);
/* Held already is fine. NOT_FOUND: there is no such backup. */
wa_status wa_hold_put(wa_repo *repo, const char *label, const char *reason,
                      wa_error *err) WA_MUST_CHECK;
/* NOT_FOUND: it isn't held. */
wa_status wa_hold_release(wa_repo *repo, const char *label, wa_error *err) WA_MUST_CHECK;
wa_status wa_holds_load(wa_repo *repo, wa_holds *ret, wa_error *err) WA_MUST_CHECK;

#endif
