/*
 * stream.c - the agent's stream thread: reach the repository, then stream until told to stop.
 *
 * While the store is away the agent is up: it serves its socket and says what it waits for. What
 * retrying can't cure ends the thread, and with it the agent.
 */
#include "agent_internal.h"

#include "walagent/base/file.h"
#include "walagent/base/log.h"

#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define BACKOFF_FIRST_MS 500
#define BACKOFF_LAST_MS 15000

static void
log_event(void *arg, wa_log_level level, const char *message, const char *hint)
{
    (void)arg;
    if (hint != NULL && hint[0] != '\0') {
        wa_error e = WA_ERROR_INIT;
        wa_error_set(&e, WA_FAILED, "%s", message);
        wa_error_hint(&e, "%s", hint);
        wa_log_error(level, &e, NULL);
    } else {
        wa_log(level, "%s", message);
    }
}

static void
set_waiting(wa_agent *agent, const char *text)
{
    WA_LOCK(&agent->mutex);
    snprintf(agent->waiting_for, sizeof agent->waiting_for, "%.511s", text);
}

static bool
can_be_retried(wa_status status)
{
    return status == WA_UNAVAILABLE || status == WA_DENIED || status == WA_IO ||
           status == WA_NO_SPACE || status == WA_FAILED;
}

/* Open and load the repository; again, with backoff, while it is away. */
static wa_status
reach_repository(wa_agent *agent, wa_error *err)
{
    uint64_t backoff = BACKOFF_FIRST_MS;
    for (;;) {
        WA_CLEANUP(wa_repo_freep) wa_repo *repo = NULL;
        wa_status status = agent->options->open_repo(agent->config, true, &agent->stop, &repo, err);
        if (status == WA_OK)
            status = wa_repo_load(repo, err);
        if (status == WA_OK) {
            WA_LOCK(&agent->mutex);
            agent->repo = WA_TAKE(repo);
            agent->waiting_for[0] = '\0';
            return WA_OK;
        }
        if (!can_be_retried(status))
            return status;
        set_waiting(agent, err->message);
        wa_log_error(WA_LOG_WARNING, err, "the repository can't be reached, trying again in %.1f s",
                     (double)backoff / 1000);
        wa_error_clear(err);
        WA_TRY(wa_cancel_sleep(&agent->stop_stream, backoff, err));
        backoff = backoff * 2 > BACKOFF_LAST_MS ? BACKOFF_LAST_MS : backoff * 2;
    }
}

static wa_status
start_streamer(wa_agent *agent, wa_error *err)
{
    const wa_config *c = agent->config;
    WA_CLEANUP(wa_freep)
    char *spool = wa_format("%s/spool/%s", wa_config_string(c, "agent", "state_dir"),
                            wa_config_string(c, "cluster", "name"));
    WA_TRY(wa_mkdir_p(spool, 0700, err));
    wa_streamer_options options = {
        .conninfo = wa_config_string(c, "cluster", "conninfo"),
        .slot = wa_config_string(c, "cluster", "slot"),
        .spool_dir = spool,
        .spool_max = wa_config_size(c, "archive", "spool_max"),
        .tail_interval_ms = wa_config_duration_ms(c, "archive", "tail_interval"),
        .acknowledge_spool = strcmp(wa_config_string(c, "archive", "acknowledge"), "spool") == 0,
        .stop_on_damage = strcmp(wa_config_string(c, "archive", "on_damage"), "stop") == 0,
        .jobs = wa_processors(),
        .listener = {.fn = log_event},
    };
    wa_streamer *streamer = NULL;
    WA_TRY(wa_streamer_new(agent->repo, &options, &streamer, err));
    WA_LOCK(&agent->mutex);
    agent->streamer = streamer;
    return WA_OK;
}

static wa_status
stream(wa_agent *agent, wa_error *err)
{
    if (agent->repo == NULL)
        WA_TRY(reach_repository(agent, err));
    WA_TRY(start_streamer(agent, err));
    wa_log(WA_LOG_INFO, "streaming WAL of cluster \"%s\" into %s",
           wa_repo_cluster_name(agent->repo), wa_store_get_traits(wa_repo_store(agent->repo))->url);
    wa_status status = wa_streamer_run(agent->streamer, &agent->stop_stream, err);
    wa_lock(&agent->mutex);
    wa_streamer *streamer = WA_TAKE(agent->streamer);
    wa_unlock(&agent->mutex);
    wa_streamer_free(streamer);
    return status;
}

void *
wa_agent_stream_main(void *arg)
{
    wa_agent *agent = arg;
    agent->stream_status = stream(agent, &agent->stream_error);
    uint64_t one = 1;
    ssize_t written = write(agent->stream_ended, &one, sizeof one);
    WA_ASSERT(written == sizeof one);
    return NULL;
}
