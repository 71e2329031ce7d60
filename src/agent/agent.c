/*
 * agent.c - the supervisor: signals, watchdog, reload, and an end in order.
 */
#include "agent_internal.h"

#include "walagent/agent/hook_server.h"
#include "walagent/base/hook.h"
#include "walagent/base/log.h"
#include "walagent/base/str.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#define STOP_MS 8000 /* of the 10 s that an orderly end may take */
#define HOOK_GRACE_MS 1000
#define SOON_SEGMENTS 4 /* behind the durable position: what the streamer ships within seconds */

static void
setup_log(const wa_config *config)
{
    static const struct {
        const char *name;
        int value;
    } levels[] = {{"debug", WA_LOG_DEBUG},
                  {"info", WA_LOG_INFO},
                  {"notice", WA_LOG_NOTICE},
                  {"warning", WA_LOG_WARNING},
                  {"error", WA_LOG_ERROR}},
      formats[] = {{"text", WA_LOG_TEXT}, {"logfmt", WA_LOG_LOGFMT}, {"json", WA_LOG_JSON}};
    int level = WA_LOG_INFO, format = WA_LOG_TEXT;
    for (size_t i = 0; i < WA_ARRAY_SIZE(levels); i++)
        if (wa_str_eq(levels[i].name, wa_config_string(config, "agent", "log_level")))
            level = levels[i].value;
    for (size_t i = 0; i < WA_ARRAY_SIZE(formats); i++)
        if (wa_str_eq(formats[i].name, wa_config_string(config, "agent", "log_format")))
            format = formats[i].value;
    wa_log_setup((wa_log_level)level, (wa_log_format)format);
}

static wa_status
open_signals(int *ret_fd, wa_error *err)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    if (pthread_sigmask(SIG_BLOCK, &set, NULL) != 0)
        return wa_error_set(err, WA_FAILED, "could not block signals");
    int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (fd < 0)
        return wa_error_errno(err, errno, "could not open a signalfd: %m");
    *ret_fd = fd;
    return WA_OK;
}

typedef enum reload_effect { EFFECT_NONE, EFFECT_STREAM, EFFECT_REPOSITORY } reload_effect;

static bool
same_mirrors(const wa_config *old, const wa_config *new)
{
    const char *const *a = wa_config_repositories(old), *const *b = wa_config_repositories(new);
    for (; *a != NULL && *b != NULL; a++, b++) {
        WA_CLEANUP(wa_freep) char *section = wa_format("repository %s", *a);
        if (strcmp(*a, *b) != 0)
            return false;
        for (const wa_option *o = wa_options; o->section != NULL; o++)
            if (strcmp(o->section, "repository") == 0 &&
                !wa_str_eq(wa_config_string(old, section, o->key),
                           wa_config_string(new, section, o->key)))
                return false;
    }
    return *a == *b;
}

/* Keys that differ between two configurations: reloadable ones make the streamer start again, with
 * the repository opened anew where its settings changed; others need a restart of the agent. */
static reload_effect
compare_configs(const wa_config *old, const wa_config *new)
{
    reload_effect effect = EFFECT_NONE;
    for (const wa_option *o = wa_options; o->section != NULL; o++) {
        if (wa_str_eq(wa_config_string(old, o->section, o->key),
                      wa_config_string(new, o->section, o->key)))
            continue;
        if (!o->reloadable)
            wa_log(WA_LOG_WARNING,
                   "[%s] %s was changed; the change takes effect when the agent is restarted",
                   o->section, o->key);
        else if (strcmp(o->section, "repository") == 0 ||
                 wa_str_eq(o->key, "compression_level")) /* the open repository has it */
            effect = EFFECT_REPOSITORY;
        else if (strcmp(o->section, "archive") == 0 && effect == EFFECT_NONE)
            effect = EFFECT_STREAM;
    }
    return same_mirrors(old, new) ? effect : EFFECT_REPOSITORY;
}

static reload_effect
reload(wa_agent *agent)
{
    wa_error err = WA_ERROR_INIT;
    wa_config *config = NULL;
    wa_notify("RELOADING=1");
    if (wa_config_load(agent->options->config_path, &config, &err) != WA_OK) {
        wa_log_error(WA_LOG_ERROR, &err, "the configuration was not reloaded");
        wa_notify("READY=1");
        return EFFECT_NONE;
    }
    reload_effect effect = compare_configs(agent->config, config);
    wa_lock(&agent->mutex);
    wa_config *old = agent->config;
    agent->config = config;
    /* A running stream thread borrows strings of the configuration it was started with. */
    agent->retired = wa_reallocarray(agent->retired, agent->retired_count + 1, sizeof(wa_config *));
    agent->retired[agent->retired_count++] = old;
    wa_unlock(&agent->mutex);
    setup_log(config);
    wa_log(WA_LOG_INFO, "configuration reloaded");
    wa_notify("READY=1");
    return effect;
}

/* The next stream thread opens the repository with the settings in force. */
static void
retire_repo(wa_agent *agent)
{
    WA_LOCK(&agent->mutex);
    if (agent->repo == NULL)
        return;
    agent->retired_repos =
        wa_reallocarray(agent->retired_repos, agent->retired_repo_count + 1, sizeof(wa_repo *));
    agent->retired_repos[agent->retired_repo_count++] = WA_TAKE(agent->repo);
    memset(agent->mirrors, 0, sizeof agent->mirrors);
}

static wa_status
start_stream(wa_agent *agent, pthread_t *ret, wa_error *err)
{
    wa_error_clear(&agent->stream_error);
    return wa_thread_start(ret, "stream", wa_agent_stream_main, agent, err);
}

/* One round of waiting: signals, the end of the stream thread, the watchdog. */
typedef enum next_step { STEP_AGAIN, STEP_STOP, STEP_RELOAD, STEP_STREAM_ENDED } next_step;

static next_step
wait_step(wa_agent *agent, int signals, int timeout_ms)
{
    struct pollfd fds[] = {{.fd = signals, .events = POLLIN},
                           {.fd = agent->stream_ended, .events = POLLIN}};
    int n = poll(fds, WA_ARRAY_SIZE(fds), timeout_ms);
    if (n <= 0)
        return STEP_AGAIN;
    struct signalfd_siginfo info;
    if (fds[0].revents != 0 && read(signals, &info, sizeof info) == (ssize_t)sizeof info)
        return info.ssi_signo == SIGHUP ? STEP_RELOAD : STEP_STOP;
    uint64_t count;
    if (fds[1].revents != 0 &&
        read(agent->stream_ended, &count, sizeof count) == (ssize_t)sizeof count)
        return STEP_STREAM_ENDED;
    return STEP_AGAIN;
}

/* In order: the streamer ships what it has while the store answers, then everything that still
 * waits is cancelled. */
static void
end_stream(wa_agent *agent, pthread_t stream)
{
    wa_notify("STOPPING=1");
    wa_log(WA_LOG_INFO, "stopping");
    wa_cancel_trigger(&agent->stop_stream);
    struct pollfd ended = {.fd = agent->stream_ended, .events = POLLIN};
    wa_mono deadline = wa_mono_now() + STOP_MS;
    while (poll(&ended, 1, wa_mono_left(deadline)) < 0 && errno == EINTR)
        continue;
    wa_cancel_trigger(&agent->stop);
    wa_thread_join(stream);
}

static wa_status
supervise(wa_agent *agent, int signals, wa_error *err)
{
    pthread_t stream;
    WA_TRY(start_stream(agent, &stream, err));
    uint64_t watchdog = wa_notify_watchdog_ms();
    wa_notify("READY=1");
    reload_effect pending = EFFECT_NONE, effect;
    for (;;) {
        switch (wait_step(agent, signals, watchdog > 0 ? (int)watchdog : 60000)) {
        case STEP_AGAIN:
            if (watchdog > 0)
                wa_notify("WATCHDOG=1");
            break;
        case STEP_RELOAD:
            effect = reload(agent);
            pending = effect > pending ? effect : pending;
            if (pending != EFFECT_NONE)
                wa_cancel_trigger(&agent->stop_stream);
            break;
        case STEP_STOP:
            end_stream(agent, stream);
            return WA_OK;
        case STEP_STREAM_ENDED:
            wa_thread_join(stream);
            if (pending == EFFECT_NONE) {
                *err = agent->stream_error;
                return agent->stream_status;
            }
            if (pending == EFFECT_REPOSITORY)
                retire_repo(agent);
            pending = EFFECT_NONE;
            wa_cancel_done(&agent->stop_stream);
            WA_TRY(wa_cancel_init(&agent->stop_stream, err));
            WA_TRY(start_stream(agent, &stream, err));
            break;
        }
    }
}

/* ---- what the hook server asks for, from its threads ---- */

static wa_repo *
hook_repo(void *arg, char *reason, size_t size)
{
    wa_agent *agent = arg;
    WA_LOCK(&agent->mutex);
    snprintf(reason, size, "%s", agent->waiting_for);
    return agent->repo;
}

static wa_status
hook_open_repo(void *arg, wa_cancel *cancel, wa_repo **ret, wa_error *err)
{
    wa_agent *agent = arg;
    const wa_config *config;
    {
        WA_LOCK(&agent->mutex);
        config = agent->config; /* lives to the end, even when it is replaced */
    }
    return agent->options->open_repo(config, false, cancel, ret, err);
}

static bool
hook_knows(void *arg, const char *segment_name, char ret_xxh3[static WA_XXH_HEX],
           wa_branch *ret_branch)
{
    wa_agent *agent = arg;
    WA_LOCK(&agent->mutex);
    return agent->streamer != NULL &&
           wa_streamer_knows(agent->streamer, segment_name, ret_xxh3, ret_branch);
}

static wa_ships
hook_ships(void *arg, const char *segment_name)
{
    wa_agent *agent = arg;
    wa_streamer_status status;
    uint64_t size = 0;
    bool in_hand = false;
    {
        WA_LOCK(&agent->mutex);
        if (agent->streamer == NULL || agent->repo == NULL)
            return WA_SHIPS_NOT;
        wa_streamer_get_status(agent->streamer, &status);
        in_hand = wa_streamer_has_in_hand(agent->streamer, segment_name);
        size = wa_repo_cluster(agent->repo)->segment_size;
    }
    wa_tli tli;
    wa_segno segno;
    if (status.state != WA_STREAM_STREAMING ||
        !wa_segment_parse(segment_name, size, &tli, &segno) || tli != status.branch.tli)
        return WA_SHIPS_NOT;
    wa_lsn end = wa_segment_start(segno, size) + size;
    if (end <= status.began)
        return WA_SHIPS_PAST;
    if (end <= status.durable && !in_hand)
        return WA_SHIPS_DONE;
    return end <= status.durable + SOON_SEGMENTS * size ? WA_SHIPS_SOON : WA_SHIPS_NOT;
}

static void
hook_limits(void *arg, wa_hook_limits *ret)
{
    wa_agent *agent = arg;
    WA_LOCK(&agent->mutex);
    const wa_config *c = agent->config;
    *ret = (wa_hook_limits){.get_timeout_ms = wa_config_duration_ms(c, "archive", "get_timeout"),
                            .pitr_timeout_ms = wa_config_duration_ms(c, "archive", "pitr_timeout"),
                            .prefetch_max = wa_config_size(c, "archive", "prefetch_max"),
                            .stop_on_damage =
                                wa_str_eq(wa_config_string(c, "archive", "on_damage"), "stop")};
}

static char *
hook_status(void *arg)
{
    WA_CLEANUP(wa_json_freep) json_t *json = wa_agent_status(arg);
    return wa_json_dump(json, 0);
}

static wa_status
start_hooks(wa_agent *agent, wa_hook_server **ret, wa_error *err)
{
    WA_CLEANUP(wa_freep) char *path = wa_hook_socket_path(agent->config);
    wa_hook_server_options options = {.socket_path = path,
                                      .arg = agent,
                                      .repo = hook_repo,
                                      .open_repo = hook_open_repo,
                                      .knows = hook_knows,
                                      .ships = hook_ships,
                                      .limits = hook_limits,
                                      .status = hook_status};
    return wa_hook_server_start(&options, ret, err);
}

static wa_status
run_parts(wa_agent *agent, wa_error *err)
{
    WA_CLEANUP(wa_closep) int signals = -1;
    WA_TRY(open_signals(&signals, err));
    wa_http_server *http = NULL;
    wa_hook_server *hooks = NULL;
    WA_TRY(start_hooks(agent, &hooks, err));
    wa_status status =
        wa_http_server_start(agent, wa_config_string(agent->config, "agent", "listen"), &http, err);
    pthread_t mirrors;
    bool compares = false;
    if (status == WA_OK) {
        status = wa_thread_start(&mirrors, "mirrors", wa_agent_mirrors_main, agent, err);
        compares = status == WA_OK;
    }
    if (status == WA_OK)
        status = supervise(agent, signals, err);
    wa_http_server_stop(http);
    wa_hook_server_stop(hooks, HOOK_GRACE_MS);
    if (compares) {
        wa_cancel_trigger(&agent->stop);
        wa_thread_join(mirrors);
    }
    return status;
}

wa_status
wa_agent_run(const wa_agent_options *options, wa_config *config, wa_error *err)
{
    wa_agent agent = {
        .options = options, .config = config, .started = wa_time_now(), .stream_ended = -1};
    setup_log(config);
    wa_mutex_init(&agent.mutex);
    wa_status status = wa_cancel_init(&agent.stop, err);
    if (status == WA_OK)
        status = wa_cancel_init(&agent.stop_stream, err);
    if (status == WA_OK && (agent.stream_ended = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) < 0)
        status = wa_error_errno(err, errno, "could not open an eventfd: %m");
    if (status == WA_OK)
        status = run_parts(&agent, err);
    wa_repo_free(agent.repo);
    wa_config_free(agent.config);
    for (size_t i = 0; i < agent.retired_count; i++)
        wa_config_free(agent.retired[i]);
    wa_freep(&agent.retired);
    for (size_t i = 0; i < agent.retired_repo_count; i++)
        wa_repo_free(agent.retired_repos[i]);
    wa_freep(&agent.retired_repos);
    wa_closep(&agent.stream_ended);
    wa_cancel_done(&agent.stop_stream);
    wa_cancel_done(&agent.stop);
    wa_mutex_done(&agent.mutex);
    return status;
}
