/*
 * walagent/agent/hook_server.h - the agent's local socket: serves archive-push and archive-get.
 *
 * One request a connection, a thread each, at most 32; requests and answers: base/hook.h. Peers are
 * the agent's own user and root. A segment that was streamed is answered from what the streamer
 * knows when PostgreSQL asks for it, and by the archive when it asks again or somebody else does;
 * one that the streamer is about to ship is waited for, 5 s at most, rather than sent twice.
 * Behind a segment that was pushed, what else is ready is archived ahead (push_ahead_internal.h).
 * In recovery of a server it fetches ahead, one prefetcher a data directory. Ownership: borrows the
 * options' arg and strings. Threads: start and stop from one thread; the callbacks are called from
 * any.
 */
#ifndef WALAGENT_AGENT_HOOK_SERVER_H
#define WALAGENT_AGENT_HOOK_SERVER_H

#include "walagent/base/error.h"
#include "walagent/codec/hash.h"
#include "walagent/repo/repo.h"

typedef struct wa_hook_limits { /* may change with the configuration */
    uint64_t get_timeout_ms, pitr_timeout_ms, prefetch_max;
    bool stop_on_damage;
} wa_hook_limits;

/* What the streamer does about a segment of this name. */
typedef enum wa_ships {
    WA_SHIPS_NOT,  /* nothing, or it is far from it */
    WA_SHIPS_SOON, /* it has received it, or is about to */
    WA_SHIPS_DONE, /* its durable position is behind it, and it has the whole one in hand no more */
    WA_SHIPS_PAST  /* it began behind it: archived before, or not at all */
} wa_ships;

typedef struct wa_hook_server_options {
    const char *socket_path;
    void *arg;
    /* The loaded repository, valid until the server was stopped; NULL: not reached yet, and what is
     * waited for in reason. */
    wa_repo *(*repo)(void *arg, char *reason, size_t reason_size);
    /* Another handle of it, not loaded, with a cancel of its own. */
    wa_status (*open_repo)(void *arg, wa_cancel *cancel, wa_repo **ret, wa_error *err);
    /* As wa_streamer_knows. */
    bool (*knows)(void *arg, const char *segment_name, char ret_xxh3[static WA_XXH_HEX],
                  wa_branch *ret_branch);
    wa_ships (*ships)(void *arg, const char *segment_name);
    void (*limits)(void *arg, wa_hook_limits *ret);
    char *(*status)(void *arg); /* JSON; a new string */
} wa_hook_server_options;

typedef struct wa_hook_server wa_hook_server;
/* CONFLICT: an agent answers on the socket already. */
wa_status wa_hook_server_start(const wa_hook_server_options *options, wa_hook_server **ret,
                               wa_error *err) WA_MUST_CHECK;
/* The file at this path was archived by somebody else: go on behind it. Doesn't wait. */
void wa_hook_server_push_ahead(wa_hook_server *server, const char *path);
/* How long nobody has asked for anything; 0 while somebody waits for an answer. */
uint64_t wa_hook_server_idle_ms(wa_hook_server *server);
/* Nobody new is let in; what is in flight is answered, until grace_ms, then cancelled. */
void wa_hook_server_stop(wa_hook_server *server, uint64_t grace_ms); /* NULL is fine */

#endif
