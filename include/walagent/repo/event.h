/*
 * walagent/repo/event.h - what happened, kept in the archive: event/<day>/<time>-<id>.json, created
 * once each.
 *
 * Kinds are short stable words: "conflict", "hole", "damage", "fenced", "took-over", "adopted",
 * "rejected", "resolved", "backup-wanted", "unadopted-child". Writing one is best effort at the
 * caller: losing an event never stops WAL.
 */
#ifndef WALAGENT_REPO_EVENT_H
#define WALAGENT_REPO_EVENT_H

#include "walagent/codec/json.h"
#include "walagent/repo/repo.h"

/* details: borrowed, may be NULL. */
wa_status wa_event_put(wa_repo *repo, const char *kind, const char *message, const json_t *details,
                       wa_error *err) WA_MUST_CHECK;
/* Events since a time, oldest first: a JSON array, owned by the caller. */
wa_status wa_events_load(wa_repo *repo, wa_time since, json_t **ret, wa_error *err) WA_MUST_CHECK;

#endif
