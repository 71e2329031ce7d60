/*
 * walagent/agent/agent.h - `walagent run`: the streamer, the hook server and HTTP under one
 * supervisor.
 *
 * Order of life: configuration checked -> socket and HTTP listen -> READY=1 -> repository and
 * server are connected to (and tried again, with backoff, while either is away: the agent starts
 * even when the store is down, serves its socket, and says what it waits for) -> SIGHUP reloads
 * what can be reloaded, SIGTERM ends in order within 10 s (receiver stops, what is spooled is
 * shipped as far as the time allows, hooks in flight are answered). Threads: main (signals by
 * signalfd, supervision, WATCHDOG=1), streamer's own, one per hook connection (at most 32),
 * libmicrohttpd's. Errors: only what retrying can't cure ends it: INVALID, CONFLICT (another
 * cluster), UNSUPPORTED.
 */
#ifndef WALAGENT_AGENT_AGENT_H
#define WALAGENT_AGENT_AGENT_H

#include "walagent/base/config.h"
#include "walagent/base/error.h"
#include "walagent/repo/repo.h"

typedef struct wa_agent_options {
    const char *config_path; /* as given with -c; NULL: default */
    const char *version;
    /* Opens the repository of a configuration without touching the network (cmd's own way, so that
     * hooks, agent and commands agree). Not for writing: for archive-get. */
    wa_status (*open_repo)(const wa_config *config, bool for_writing, wa_cancel *cancel,
                           wa_repo **ret, wa_error *err);
} wa_agent_options;
/* Blocks until SIGTERM or SIGINT. Takes config (it may be replaced on reload). */
wa_status wa_agent_run(const wa_agent_options *options, wa_config *config,
                       wa_error *err) WA_MUST_CHECK;

#endif
