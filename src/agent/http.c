/*
 * http.c - the agent's HTTP: metrics, health, and the answers of the commands as JSON. GET and HEAD
 * only.
 *
 * libmicrohttpd's own threads serve; every answer is built in memory and bounded. Answers that read
 * the archive (/backups, /window) go to the store on each request, one at a time, so a
 * scraper cannot multiply requests.
 */
#include "agent_internal.h"

#include "walagent/audit/window.h"
#include "walagent/base/buf.h"
#include "walagent/repo/lineage.h"

#include <arpa/inet.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <string.h>

#define ANSWER_MAX (64u * 1024 * 1024)
#define REQUEST_TIMEOUT_S 30
#define CONNECTIONS_MAX 32

struct wa_http_server {
    wa_agent *agent;
    struct MHD_Daemon *daemon;
    wa_mutex archive; /* one reader of the archive at a time */
};

typedef struct answer {
    unsigned status;
    const char *type;
    wa_buf body;
} answer;

static void
answer_json(answer *a, unsigned status, const json_t *json)
{
    WA_CLEANUP(wa_freep) char *text = wa_json_dump(json, 0);
    a->status = status;
    a->type = "application/json";
    wa_buf_puts(&a->body, text);
    wa_buf_putc(&a->body, '\n');
}

static void
answer_error(answer *a, unsigned status, const wa_error *err)
{
    WA_CLEANUP(wa_json_freep) json_t *json = json_object();
    wa_json_set_string(json, "error", err->message);
    wa_json_set_string(json, "hint", err->hint[0] ? err->hint : NULL);
    wa_json_set_string(json, "status", wa_status_name(err->status));
    answer_json(a, status, json);
}

static void
serve_metrics(wa_http_server *server, answer *a)
{
    a->type = "text/plain; version=0.0.4; charset=utf-8";
    wa_agent_metrics(server->agent, &a->body);
}

static void
serve_health(wa_http_server *server, answer *a)
{
    (void)server;
    wa_buf_puts(&a->body, "ok\n");
}

static void
serve_ready(wa_http_server *server, answer *a)
{
    char reason[512];
    bool ready = wa_agent_is_ready(server->agent, reason, sizeof reason);
    a->status = ready ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE;
    wa_buf_printf(&a->body, "%s\n", ready ? "ready" : reason);
}

static void
serve_status(wa_http_server *server, answer *a)
{
    WA_CLEANUP(wa_json_freep) json_t *json = wa_agent_status(server->agent);
    answer_json(a, MHD_HTTP_OK, json);
}

/* The repository stays open for the agent's life once it was loaded. */
static wa_repo *
loaded_repo(wa_http_server *server, answer *a)
{
    WA_LOCK(&server->agent->mutex);
    if (server->agent->repo == NULL) {
        wa_error err = WA_ERROR_INIT;
        wa_error_set(&err, WA_UNAVAILABLE, "the repository was not reached yet");
        answer_error(a, MHD_HTTP_SERVICE_UNAVAILABLE, &err);
    }
    return server->agent->repo;
}

static unsigned
http_status_of(wa_status status)
{
    return status == WA_UNAVAILABLE ? MHD_HTTP_SERVICE_UNAVAILABLE : MHD_HTTP_INTERNAL_SERVER_ERROR;
}

static void
serve_windows(wa_http_server *server, answer *a, bool only_backups)
{
    wa_repo *repo = loaded_repo(server, a);
    if (repo == NULL)
        return;
    wa_error err = WA_ERROR_INIT;
    WA_CLEANUP(wa_windows_done) wa_windows w = {0};
    wa_lock(&server->archive);
    wa_status status = wa_windows_load(repo, &w, &err);
    wa_unlock(&server->archive);
    if (status != WA_OK) {
        answer_error(a, http_status_of(status), &err);
        return;
    }
    WA_CLEANUP(wa_json_freep) json_t *json = wa_windows_to_json(repo, &w);
    if (only_backups)
        answer_json(a, MHD_HTTP_OK, json_object_get(json, "backups"));
    else
        answer_json(a, MHD_HTTP_OK, json);
}

static void
serve_backups(wa_http_server *server, answer *a)
{
    serve_windows(server, a, true);
}

static void
serve_window(wa_http_server *server, answer *a)
{
    serve_windows(server, a, false);
}

static const struct route {
    const char *path;
    void (*serve)(wa_http_server *server, answer *a);
} routes[] = {
    {"/metrics", serve_metrics}, {"/healthz", serve_health},  {"/ready", serve_ready},
    {"/status", serve_status},   {"/backups", serve_backups}, {"/window", serve_window},
};

static void
serve_not_found(answer *a)
{
    a->status = MHD_HTTP_NOT_FOUND;
    wa_buf_puts(&a->body, "not found; there is:");
    for (size_t i = 0; i < WA_ARRAY_SIZE(routes); i++)
        wa_buf_printf(&a->body, " %s", routes[i].path);
    wa_buf_putc(&a->body, '\n');
}

static enum MHD_Result
send_answer(struct MHD_Connection *connection, answer *a)
{
    size_t len = a->body.len;
    char *body = wa_buf_detach(&a->body);
    struct MHD_Response *response =
        MHD_create_response_from_buffer(len, body, MHD_RESPMEM_MUST_FREE);
    if (response == NULL) {
        wa_freep(&body);
        return MHD_NO;
    }
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, a->type);
    MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
    if (a->status == MHD_HTTP_METHOD_NOT_ALLOWED)
        MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
    enum MHD_Result result = MHD_queue_response(connection, a->status, response);
    MHD_destroy_response(response);
    return result;
}

static enum MHD_Result
on_request(void *arg, struct MHD_Connection *connection, const char *url, const char *method,
           const char *version, const char *upload_data, size_t *upload_size, void **state)
{
    (void)version;
    (void)upload_data;
    static char seen; /* the first call only announces the request */
    if (*state == NULL) {
        *state = &seen;
        return MHD_YES;
    }
    if (*upload_size != 0) {
        *upload_size = 0;
        return MHD_YES;
    }
    wa_http_server *server = arg;
    answer a = {.status = MHD_HTTP_OK,
                .type = "text/plain; charset=utf-8",
                .body = WA_BUF_INIT(ANSWER_MAX)};
    if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0) {
        a.status = MHD_HTTP_METHOD_NOT_ALLOWED;
        wa_buf_puts(&a.body, "GET and HEAD only\n");
        return send_answer(connection, &a);
    }
    for (size_t i = 0; i < WA_ARRAY_SIZE(routes); i++)
        if (strcmp(url, routes[i].path) == 0) {
            routes[i].serve(server, &a);
            return send_answer(connection, &a);
        }
    serve_not_found(&a);
    return send_answer(connection, &a);
}

/* "127.0.0.1:9877", "[::1]:9877". */
static wa_status
parse_listen(const char *listen, struct sockaddr_storage *ret, wa_error *err)
{
    const char *colon = strrchr(listen, ':');
    uint64_t port = 0;
    wa_error ignored = WA_ERROR_INIT;
    if (colon == NULL || wa_parse_u64(colon + 1, &port, &ignored) != WA_OK || port == 0 ||
        port > 65535)
        return wa_error_set(err, WA_INVALID,
                            "invalid value \"%s\" for listen in [agent]: it takes ADDRESS:PORT",
                            listen);
    bool bracketed = listen[0] == '[' && colon > listen && colon[-1] == ']';
    WA_CLEANUP(wa_freep)
    char *host = bracketed ? wa_strndup(listen + 1, (size_t)(colon - listen) - 2)
                           : wa_strndup(listen, (size_t)(colon - listen));
    struct sockaddr_in *v4 = (struct sockaddr_in *)ret;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)ret;
    memset(ret, 0, sizeof *ret);
    if (inet_pton(AF_INET, host, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons((uint16_t)port);
        return WA_OK;
    }
    if (inet_pton(AF_INET6, host, &v6->sin6_addr) == 1) {
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons((uint16_t)port);
        return WA_OK;
    }
    wa_error_set(err, WA_INVALID, "\"%s\" in listen of [agent] is no address", host);
    return wa_error_hint(err, "Write a numeric address, for example \"listen = 127.0.0.1:9877\".");
}

wa_status
wa_http_server_start(wa_agent *agent, const char *listen, wa_http_server **ret, wa_error *err)
{
    if (wa_str_empty(listen)) {
        *ret = NULL;
        return WA_OK;
    }
    struct sockaddr_storage address;
    WA_TRY(parse_listen(listen, &address, err));
    WA_TRY(wa_libmicrohttpd_load(err));
    wa_http_server *server = wa_calloc(1, sizeof *server);
    server->agent = agent;
    wa_mutex_init(&server->archive);
    unsigned flags = MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_AUTO |
                     (address.ss_family == AF_INET6 ? MHD_USE_IPv6 : 0);
    server->daemon = MHD_start_daemon(
        flags, 0, NULL, NULL, on_request, server, MHD_OPTION_SOCK_ADDR, (struct sockaddr *)&address,
        MHD_OPTION_THREAD_POOL_SIZE, 2u, MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)REQUEST_TIMEOUT_S,
        MHD_OPTION_CONNECTION_LIMIT, (unsigned)CONNECTIONS_MAX, MHD_OPTION_END);
    if (server->daemon == NULL) {
        wa_mutex_done(&server->archive);
        wa_freep(&server);
        wa_error_set(err, WA_INVALID, "could not listen on \"%s\"", listen);
        return wa_error_hint(err, "Another program may use the port: change listen in [agent], or "
                                  "leave it empty to turn HTTP off.");
    }
    *ret = server;
    return WA_OK;
}

void
wa_http_server_stop(wa_http_server *server)
{
    if (server == NULL)
        return;
    MHD_stop_daemon(server->daemon);
    wa_mutex_done(&server->archive);
    wa_freep(&server);
}
