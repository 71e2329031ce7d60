/*
 * hook_server.c - serve the hooks over the local socket.
 */
#include "lookup_internal.h"
#include "push_ahead_internal.h"

#include "walagent/base/file.h"
#include "walagent/base/hook.h"
#include "walagent/base/log.h"
#include "walagent/base/socket.h"
#include "walagent/base/thread.h"
#include "walagent/wal/get.h"
#include "walagent/wal/prefetch.h"
#include "walagent/wal/push.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define CONNECTIONS_MAX 32
#define PREFETCHERS_MAX 4
#define REQUEST_TIMEOUT_MS 5000
#define POOL_WORKERS_MAX 4
#define POOL_BACKLOG 16
#define STREAMER_PATIENCE_MS 5000
#define STREAMER_DONE_MS 200 /* its position may pass a segment shortly before the whole object */
#define STREAMER_LOOK_MS 10

struct wa_hook_server {
    wa_hook_server_options options;
    char *socket_path;
    int listener;
    wa_pool *pool;
    wa_push_ahead *ahead;
    wa_lookups *lookups;
    wa_cancel closing; /* nobody new */
    wa_cancel cancel;  /* ends what is in flight */
    pthread_t thread;
    wa_mutex mutex;
    wa_cond cond;
    size_t connections, prefetchers; /* threads that run */
    wa_mono asked;                   /* when the last connection ended */
    char pushed[WA_SEGMENT_NAME];    /* the last segment that the server asked for; "": none yet */
};

typedef struct connection {
    wa_hook_server *server;
    int fd;
} connection;

typedef struct prefetcher {
    wa_hook_server *server;
    char *data_dir, *after;
    wa_get_mode mode;
    uint64_t max_bytes;
    wa_repo *repo;
} prefetcher;

/* ---- answers ---- */

static void
answer(int fd, const wa_strv *fields)
{
    wa_error ignored = WA_ERROR_INIT;
    if (wa_socket_send(fd, fields, &ignored) != WA_OK)
        wa_error_clear(&ignored); /* the peer went away: nobody is left to be told */
}

static void
answer_ok(int fd, const char *text)
{
    WA_CLEANUP(wa_strv_done) wa_strv fields = {0};
    wa_strv_add(&fields, "ok");
    wa_strv_add(&fields, text);
    answer(fd, &fields);
}

static void
answer_error(int fd, const wa_error *err)
{
    WA_CLEANUP(wa_strv_done) wa_strv fields = {0};
    wa_strv_add(&fields, "error");
    wa_strv_add(&fields, wa_status_name(err->status));
    wa_strv_add(&fields, err->message);
    wa_strv_add(&fields, err->hint);
    answer(fd, &fields);
}

static wa_status
reach_repo(wa_hook_server *s, wa_repo **ret, wa_error *err)
{
    char reason[512] = "";
    wa_repo *repo = s->options.repo(s->options.arg, reason, sizeof reason);
    if (repo == NULL)
        return wa_error_set(err, WA_UNAVAILABLE, "the agent has not reached the archive yet%s%s",
                            reason[0] != '\0' ? ": " : "", reason);
    *ret = repo;
    return WA_OK;
}

/* ---- prefetch ---- */

static void *
prefetcher_main(void *arg)
{
    prefetcher *p = arg;
    wa_hook_server *s = p->server;
    wa_error err = WA_ERROR_INIT;
    wa_prefetch_options options = {.repo = p->repo,
                                   .data_dir = p->data_dir,
                                   .mode = p->mode,
                                   .after = p->after,
                                   .max_bytes = p->max_bytes,
                                   .idle_ms = WA_PREFETCH_IDLE_MS,
                                   .chain_ms = WA_PREFETCH_CHAIN_MS,
                                   .workers = wa_prefetch_workers(p->repo),
                                   .cancel = &s->cancel};
    if (wa_prefetch_run(&options, &err) != WA_OK)
        wa_log_error(WA_LOG_WARNING, &err, "could not fetch ahead for \"%s\"", p->data_dir);
    wa_freep(&p->data_dir);
    wa_freep(&p->after);
    wa_freep(&p);
    WA_LOCK(&s->mutex);
    s->prefetchers--;
    wa_cond_broadcast(&s->cond);
    return NULL;
}

/* Detached; counted in *count before it starts. */
static bool
start_thread(wa_hook_server *s, size_t *count, size_t most, const char *name, wa_thread_fn fn,
             void *arg)
{
    wa_error err = WA_ERROR_INIT;
    pthread_t thread;
    WA_LOCK(&s->mutex);
    if (*count >= most || wa_cancelled(&s->closing) ||
        wa_thread_start(&thread, name, fn, arg, &err) != WA_OK)
        return false;
    (*count)++; /* the thread needs the mutex before it counts itself out */
    pthread_detach(thread);
    return true;
}

static void
fetch_ahead(wa_hook_server *s, wa_repo *repo, wa_get_mode mode, const char *data_dir,
            const char *name, uint64_t max_bytes)
{
    if (mode == WA_GET_RAW || wa_wal_file_kind_of(name) != WA_WAL_SEGMENT ||
        max_bytes < wa_repo_cluster(repo)->segment_size || wa_hook_prefetch_tell(data_dir, name))
        return;
    prefetcher *p = wa_malloc(sizeof *p);
    *p = (prefetcher){.server = s,
                      .data_dir = wa_strdup(data_dir),
                      .after = wa_strdup(name),
                      .mode = mode,
                      .max_bytes = max_bytes,
                      .repo = repo};
    if (start_thread(s, &s->prefetchers, PREFETCHERS_MAX, "prefetch", prefetcher_main, p))
        return;
    wa_freep(&p->data_dir);
    wa_freep(&p->after);
    wa_freep(&p);
}

/* ---- verbs ---- */

static wa_status
parse_mode(const char *text, wa_get_mode *ret, wa_error *err)
{
    static const wa_get_mode modes[] = {WA_GET_RAW, WA_GET_STANDBY, WA_GET_RECOVERY};
    for (size_t i = 0; i < WA_ARRAY_SIZE(modes); i++) {
        if (wa_str_eq(wa_get_mode_name(modes[i]), text)) {
            *ret = modes[i];
            return WA_OK;
        }
    }
    return wa_error_set(err, WA_INVALID, "unknown mode \"%s\"", text);
}

static uint64_t
patience_ms(wa_get_mode mode, const char *data_dir, const wa_hook_limits *limits)
{
    uint64_t left = 0;
    if (mode == WA_GET_RAW)
        return 0;
    if (mode == WA_GET_RECOVERY)
        return limits->pitr_timeout_ms;
    return wa_hook_promoting(data_dir, &left) ? left : limits->get_timeout_ms;
}

/* The store's own time is the only limit in raw mode: nobody's recovery waits. */
static wa_status
look_up(wa_hook_server *s, wa_repo *repo, wa_get_mode mode, const wa_strv *request, int fd,
        uint64_t patience, wa_get_result *ret, wa_error *err)
{
    const char *data_dir = request->items[2], *name = request->items[3];
    wa_mono deadline = wa_mono_now() + patience;
    wa_lookup *lookup = NULL;
    WA_TRY(wa_lookup_begin(s->lookups, repo, fd, mode == WA_GET_RAW ? UINT64_MAX : deadline,
                           &lookup, err));
    wa_get_options options = {.repo = wa_lookup_repo(lookup),
                              .pool = s->pool,
                              .data_dir = data_dir,
                              .cancel = wa_lookup_cancel(lookup)};
    wa_status status =
        wa_get_file_until(&options, mode, name, request->items[4], deadline, ret, err);
    wa_lookup_end(lookup);
    if (status == WA_CANCELLED && !wa_cancelled(&s->cancel))
        status = wa_error_set(err, WA_UNAVAILABLE,
                              "the archive did not answer within %.1f s about \"%s\"",
                              (double)patience / 1000, name);
    return status;
}

/* MODE PGDATA NAME TARGET */
static wa_status
serve_get(wa_hook_server *s, const wa_strv *request, int fd, wa_error *err)
{
    wa_repo *repo = NULL;
    wa_get_mode mode = WA_GET_RAW;
    wa_hook_limits limits = {0};
    wa_get_result result = {0};
    if (request->count != 5)
        return wa_error_set(err, WA_INVALID, "archive-get needs mode, directory, name and target");
    const char *data_dir = request->items[2], *name = request->items[3];
    WA_TRY(parse_mode(request->items[1], &mode, err));
    WA_TRY(reach_repo(s, &repo, err));
    s->options.limits(s->options.arg, &limits);
    WA_TRY(look_up(s, repo, mode, request, fd, patience_ms(mode, data_dir, &limits), &result, err));
    if (result.note[0] != '\0')
        wa_log(WA_LOG_WARNING, "archive-get: WAL segment \"%s\": %s", name, result.note);
    answer_ok(fd, result.note);
    if (!result.from_tail)
        fetch_ahead(s, repo, mode, data_dir, name, limits.prefetch_max);
    return WA_OK;
}

/* MODE PGDATA NAME */
static wa_status
serve_hint(wa_hook_server *s, const wa_strv *request, int fd, wa_error *err)
{
    wa_repo *repo = NULL;
    wa_get_mode mode = WA_GET_RAW;
    wa_hook_limits limits = {0};
    if (request->count != 4)
        return wa_error_set(err, WA_INVALID, "prefetch-hint needs mode, directory and name");
    WA_TRY(parse_mode(request->items[1], &mode, err));
    WA_TRY(reach_repo(s, &repo, err));
    s->options.limits(s->options.arg, &limits);
    answer_ok(fd, "");
    fetch_ahead(s, repo, mode, request->items[2], request->items[3], limits.prefetch_max);
    return WA_OK;
}

/* ---- archive-push ---- */

typedef struct push_call {
    wa_hook_server *server;
    wa_repo *repo;
} push_call;

static bool
push_knows(void *arg, const char *name, char ret_xxh3[static WA_XXH_HEX], wa_branch *ret_branch)
{
    push_call *c = arg;
    wa_hook_server *s = c->server;
    return s->options.knows(s->options.arg, name, ret_xxh3, ret_branch) ||
           wa_push_ahead_knows(s->ahead, c->repo, name, ret_xxh3, ret_branch);
}

/* Give the streamer the time to ship a segment that it has in hand. True: the archive probably has
 * it by now, though nobody here remembers its content. */
static bool
await_streamer(push_call *c, const char *name)
{
    wa_hook_server *s = c->server;
    wa_error ignored = WA_ERROR_INIT;
    char xxh3[WA_XXH_HEX];
    wa_branch branch;
    wa_mono began = wa_mono_now();
    wa_ships ships = WA_SHIPS_NOT;
    if (wa_wal_file_kind_of(name) != WA_WAL_SEGMENT)
        return false;
    while (!push_knows(c, name, xxh3, &branch)) {
        ships = s->options.ships(s->options.arg, name);
        uint64_t patience = ships == WA_SHIPS_SOON   ? STREAMER_PATIENCE_MS
                            : ships == WA_SHIPS_DONE ? STREAMER_DONE_MS
                                                     : 0;
        if (wa_mono_now() - began >= patience ||
            wa_cancel_sleep(&s->cancel, STREAMER_LOOK_MS, &ignored) != WA_OK)
            return ships == WA_SHIPS_DONE || ships == WA_SHIPS_PAST;
    }
    return false;
}

/* PostgreSQL asks for segments in order, once each, while archive_status says that they are ready:
 * that may be answered from memory. Whoever asks again, after a crash, or by hand for what the
 * server does not wait for, may do so because the object is gone: then the archive is asked. */
static bool
is_in_turn(wa_hook_server *s, const char *path)
{
    const char *name = wa_path_base(path);
    WA_CLEANUP(wa_freep) char *dir = wa_path_dir(path);
    WA_CLEANUP(wa_freep) char *ready = wa_format("%s/archive_status/%s.ready", dir, name);
    if (!wa_path_exists(ready))
        return false;
    WA_LOCK(&s->mutex);
    return strcmp(name, s->pushed) > 0;
}

static void
note_pushed(wa_hook_server *s, const char *path)
{
    WA_LOCK(&s->mutex);
    (void)snprintf(s->pushed, sizeof s->pushed, "%s", wa_path_base(path));
}

static wa_status
push(wa_hook_server *s, wa_repo *repo, const char *path, bool in_turn, bool stop_on_damage,
     wa_push_result *ret, wa_error *err)
{
    push_call call = {.server = s, .repo = repo};
    bool waited_for = await_streamer(&call, wa_path_base(path));
    wa_push_options options = {.repo = repo,
                               .knows = in_turn ? push_knows : NULL,
                               .knows_arg = &call,
                               .pool = s->pool,
                               .look_first = waited_for || !in_turn,
                               .stop_on_damage = stop_on_damage,
                               .cancel = &s->cancel};
    return wa_push_file(&options, path, ret, err);
}

/* PATH */
static wa_status
serve_push(wa_hook_server *s, const wa_strv *request, int fd, wa_error *err)
{
    wa_repo *repo = NULL;
    wa_hook_limits limits = {0};
    wa_push_result result = {0};
    if (request->count != 2 || request->items[1][0] != '/')
        return wa_error_set(err, WA_INVALID, "archive-push needs an absolute path");
    WA_TRY(reach_repo(s, &repo, err));
    s->options.limits(s->options.arg, &limits);
    const char *path = request->items[1];
    wa_push_ahead_join(s->ahead, path, &s->cancel);
    bool in_turn = is_in_turn(s, path);
    if (!(in_turn && wa_push_ahead_answers(s->ahead, repo, path, &result)) &&
        push(s, repo, path, in_turn, limits.stop_on_damage, &result, err) != WA_OK) {
        wa_log_error(WA_LOG_WARNING, err, "archive-push");
        return err->status;
    }
    if (result.warning[0] != '\0')
        wa_log(WA_LOG_WARNING, "archive-push: %s", result.warning);
    /* Before the answer: the next call must find in the queue what it is going to ask for. */
    if (result.xxh3[0] != '\0')
        wa_push_ahead_after(s->ahead, repo, path, limits.stop_on_damage);
    if (in_turn && wa_wal_file_kind_of(wa_path_base(path)) == WA_WAL_SEGMENT)
        note_pushed(s, path);
    answer_ok(fd, result.warning);
    return WA_OK;
}

static wa_status
serve_status(wa_hook_server *s, const wa_strv *request, int fd, wa_error *err)
{
    (void)request;
    (void)err;
    WA_CLEANUP(wa_freep) char *json = s->options.status(s->options.arg);
    answer_ok(fd, json);
    return WA_OK;
}

static wa_status
dispatch(wa_hook_server *s, const wa_strv *request, int fd, wa_error *err)
{
    static const struct {
        const char *verb;
        wa_status (*serve)(wa_hook_server *s, const wa_strv *request, int fd, wa_error *err);
    } verbs[] = {{"archive-get", serve_get},
                 {"archive-push", serve_push},
                 {"prefetch-hint", serve_hint},
                 {"status", serve_status}};
    for (size_t i = 0; i < WA_ARRAY_SIZE(verbs); i++)
        if (wa_str_eq(request->items[0], verbs[i].verb))
            return verbs[i].serve(s, request, fd, err);
    return wa_error_set(err, WA_UNSUPPORTED, "the agent does not know \"%s\"", request->items[0]);
}

/* ---- connections ---- */

static wa_status
check_peer(int fd, wa_error *err)
{
    unsigned uid = 0;
    WA_TRY(wa_socket_peer_uid(fd, &uid, err));
    if (uid == geteuid() || uid == 0)
        return WA_OK;
    return wa_error_set(err, WA_DENIED, "the agent serves its own user (%u) and root, not %u",
                        (unsigned)geteuid(), uid);
}

static void *
connection_main(void *arg)
{
    connection *c = arg;
    wa_hook_server *s = c->server;
    wa_error err = WA_ERROR_INIT;
    WA_CLEANUP(wa_strv_done) wa_strv request = {0};
    wa_status status = check_peer(c->fd, &err);
    if (status == WA_OK)
        status = wa_socket_receive(c->fd, &s->cancel, REQUEST_TIMEOUT_MS, &request, &err);
    if (status == WA_OK)
        status = dispatch(s, &request, c->fd, &err);
    if (status != WA_OK)
        answer_error(c->fd, &err);
    close(c->fd);
    wa_freep(&c);
    WA_LOCK(&s->mutex);
    s->connections--;
    s->asked = wa_mono_now();
    wa_cond_broadcast(&s->cond);
    return NULL;
}

static void
let_in(wa_hook_server *s, int fd)
{
    connection *c = wa_malloc(sizeof *c);
    *c = (connection){.server = s, .fd = fd};
    if (start_thread(s, &s->connections, CONNECTIONS_MAX, "hook", connection_main, c))
        return;
    wa_error err = WA_ERROR_INIT;
    wa_error_set(&err, WA_UNAVAILABLE, "the agent serves %d hooks already", CONNECTIONS_MAX);
    answer_error(fd, &err);
    close(fd);
    wa_freep(&c);
}

static void *
listener_main(void *arg)
{
    wa_hook_server *s = arg;
    wa_error err = WA_ERROR_INIT;
    while (wa_cancel_poll(&s->closing, s->listener, POLLIN, -1, &err) == WA_OK) {
        int fd = accept4(s->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd >= 0)
            let_in(s, fd);
        else if (errno == EMFILE || errno == ENFILE || errno == ENOMEM) {
            wa_log(WA_LOG_WARNING, "could not accept a hook: %s", strerror(errno));
            if (wa_cancel_sleep(&s->closing, 100, &err) != WA_OK)
                break;
        }
    }
    return NULL;
}

static void
server_free(wa_hook_server *s)
{
    wa_closep(&s->listener);
    wa_push_ahead_free(s->ahead);
    wa_lookups_free(s->lookups);
    wa_pool_free(s->pool);
    wa_cancel_done(&s->closing);
    wa_cancel_done(&s->cancel);
    wa_cond_done(&s->cond);
    wa_mutex_done(&s->mutex);
    wa_freep(&s->socket_path);
    wa_freep(&s);
}

static wa_status
open_parts(wa_hook_server *s, wa_error *err)
{
    size_t workers = wa_processors();
    WA_TRY(wa_cancel_init(&s->closing, err));
    WA_TRY(wa_cancel_init(&s->cancel, err));
    WA_TRY(wa_pool_new("hook-work", workers < POOL_WORKERS_MAX ? workers : POOL_WORKERS_MAX,
                       POOL_BACKLOG, &s->pool, err));
    s->lookups = wa_lookups_new(&s->options, &s->cancel);
    s->ahead = wa_push_ahead_new(
        &(wa_push_ahead_options){.hooks = &s->options, .pool = s->pool, .cancel = &s->cancel});
    WA_TRY(wa_socket_listen(s->socket_path, &s->listener, err));
    return wa_thread_start(&s->thread, "hooks", listener_main, s, err);
}

wa_status
wa_hook_server_start(const wa_hook_server_options *options, wa_hook_server **ret, wa_error *err)
{
    wa_hook_server *s = wa_calloc(1, sizeof *s);
    s->options = *options;
    s->socket_path = wa_strdup(options->socket_path);
    s->listener = s->closing.fd = s->cancel.fd = -1;
    s->asked = wa_mono_now();
    wa_mutex_init(&s->mutex);
    wa_cond_init(&s->cond);
    if (open_parts(s, err) != WA_OK) {
        server_free(s);
        return err->status;
    }
    *ret = s;
    return WA_OK;
}

void
wa_hook_server_push_ahead(wa_hook_server *s, const char *path)
{
    wa_error ignored = WA_ERROR_INIT;
    wa_hook_limits limits = {0};
    wa_repo *repo = NULL;
    if (reach_repo(s, &repo, &ignored) != WA_OK)
        return;
    s->options.limits(s->options.arg, &limits);
    wa_push_ahead_after(s->ahead, repo, path, limits.stop_on_damage);
}

uint64_t
wa_hook_server_idle_ms(wa_hook_server *s)
{
    WA_LOCK(&s->mutex);
    return s->connections > 0 ? 0 : wa_mono_now() - s->asked;
}

void
wa_hook_server_stop(wa_hook_server *s, uint64_t grace_ms)
{
    if (s == NULL)
        return;
    wa_cancel_trigger(&s->closing);
    wa_thread_join(s->thread);
    (void)unlink(s->socket_path);
    wa_mono deadline = wa_mono_now() + grace_ms;
    wa_lock(&s->mutex);
    while (s->connections > 0 && wa_cond_wait_until(&s->cond, &s->mutex, deadline))
        continue;
    wa_cancel_trigger(&s->cancel);
    while (s->connections > 0 || s->prefetchers > 0)
        wa_cond_wait(&s->cond, &s->mutex);
    wa_unlock(&s->mutex);
    server_free(s);
}
