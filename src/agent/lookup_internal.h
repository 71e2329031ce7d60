/*
 * lookup_internal.h - one question to the archive that ends when nobody waits for its answer.
 *
 * The store's calls are cancelled by the store's own cancel, so a look-up has a repository handle
 * of its own: taken from a few that are kept open (a connection that is alive answers sooner), and
 * given up, not given back, when it had to be cancelled.
 * Threads: all calls from any, free from one, when no look-up runs.
 */
#ifndef WALAGENT_LOOKUP_INTERNAL_H
#define WALAGENT_LOOKUP_INTERNAL_H

#include "walagent/agent/hook_server.h"
#include "walagent/base/cancel.h"

typedef struct wa_lookups wa_lookups;
wa_lookups *wa_lookups_new(const wa_hook_server_options *hooks, wa_cancel *cancel);
void wa_lookups_free(wa_lookups *l); /* NULL is fine */

typedef struct wa_lookup wa_lookup;
/* Like `like` (the agent's own, loaded). It is cancelled when the peer of fd hangs up, at the
 * deadline (UINT64_MAX: none), and with the server. */
wa_status wa_lookup_begin(wa_lookups *l, const wa_repo *like, int fd, wa_mono deadline,
                          wa_lookup **ret, wa_error *err) WA_MUST_CHECK;
wa_repo *wa_lookup_repo(wa_lookup *lookup); /* perhaps not loaded yet */
wa_cancel *wa_lookup_cancel(wa_lookup *lookup);
void wa_lookup_end(wa_lookup *lookup);

#endif
