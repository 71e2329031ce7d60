/*
 * agent_internal.h - the agent's parts and what they share.
 *
 * One `wa_agent` lives on the main thread's stack. `mutex` guards config, repo, streamer and the
 * texts; readers (HTTP, hooks) hold it only to copy or to call a provider that doesn't block.
 */
#ifndef WALAGENT_AGENT_INTERNAL_H
#define WALAGENT_AGENT_INTERNAL_H

#include "walagent/agent/agent.h"
#include "walagent/base/thread.h"
#include "walagent/codec/json.h"
#include "walagent/repo/mirrors.h"
#include "walagent/wal/streamer.h"

typedef struct wa_http_server wa_http_server;

#define WA_MIRRORS_MAX 16 /* that are looked at; more may be configured */

/* What the last comparison of a mirror with the main repository found. */
typedef struct wa_agent_mirror {
    wa_time compared; /* 0: not yet */
    bool complete;
    uint64_t missing, different;
} wa_agent_mirror;

typedef struct wa_agent {
    const wa_agent_options *options;
    wa_mutex mutex;
    wa_config *config;
    wa_config **retired; /* replaced by reloads; freed at the end */
    size_t retired_count;
    wa_repo **retired_repos; /* of earlier settings; requests in flight may still use them */
    size_t retired_repo_count;
    wa_repo *repo;                           /* loaded; NULL: not reached yet */
    wa_streamer *streamer;                   /* NULL: not running */
    wa_agent_mirror mirrors[WA_MIRRORS_MAX]; /* by member; [0] is unused */
    char waiting_for[512];                   /* why nothing streams; "" when it does */
    wa_time started;
    wa_cancel stop;        /* the whole agent */
    wa_cancel stop_stream; /* the streamer alone (reload) */
    int stream_ended;      /* eventfd: the stream thread ended */
    wa_status stream_status;
    wa_error stream_error;
} wa_agent;

/* ---- status.c ---- */
/* The shape of `walagent status --json` and GET /status. */
json_t *wa_agent_status(wa_agent *agent);
/* Streaming, and the durable lag within limits. reason: at most `size` bytes, "" when ready. */
bool wa_agent_is_ready(wa_agent *agent, char *reason, size_t size);

/* ---- mirrors.c ---- */
/* The thread that compares the mirrors with the main repository. */
void *wa_agent_mirrors_main(void *agent);
/* How long to wait after a comparison, in ms. before: how long it was after the one before, which
 * found `then`; 0: there was none. */
uint64_t wa_agent_mirror_pause(uint64_t before, const wa_mirror_sync *then,
                               const wa_mirror_sync *now);
/* The main repository and its mirrors; the repository was reached, the mutex is held. */
json_t *wa_agent_repositories_json(wa_agent *agent);

/* ---- metrics.c ---- */
/* Prometheus text format 0.0.4. */
void wa_agent_metrics(wa_agent *agent, wa_buf *out);

/* ---- http.c ---- */
/* listen: "ADDRESS:PORT"; empty: none (ret NULL). */
wa_status wa_http_server_start(wa_agent *agent, const char *listen, wa_http_server **ret,
                               wa_error *err) WA_MUST_CHECK;
void wa_http_server_stop(wa_http_server *server); /* NULL is fine */

/* ---- libmicrohttpd.c ---- */
wa_status wa_libmicrohttpd_load(wa_error *err) WA_MUST_CHECK;

/* ---- notify.c ---- */
/* A datagram to systemd's $NOTIFY_SOCKET; nothing without it. */
void wa_notify(const char *state);
/* Milliseconds between two WATCHDOG=1 (half of $WATCHDOG_USEC), 0: none wanted. */
uint64_t wa_notify_watchdog_ms(void);

/* ---- stream.c ---- */
/* The thread that connects to the repository, then streams; restarted by the supervisor on reload.
 */
void *wa_agent_stream_main(void *agent);

#endif
