/*
 * loopback.c - a scripted HTTP server on 127.0.0.1, in threads of the test. libc only.
 */
#include "loopback.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define REPLIES_MAX 64
#define REQUESTS_MAX 256
#define CONNECTIONS_MAX 64
#define REQUEST_MAX (1u << 20)

typedef struct connection {
    loopback *server;
    int fd;
    pthread_t thread;
} connection;

struct loopback {
    int fd, port;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t came;
    char *replies[REPLIES_MAX];
    loopback_after after[REPLIES_MAX];
    size_t reply_count, next_reply;
    char *requests[REQUESTS_MAX];
    size_t request_count;
    connection connections[CONNECTIONS_MAX];
    size_t connection_count;
};

static void
must(bool ok)
{
    if (!ok)
        abort();
}

/* One whole request into a new string; NULL when the client went away. */
static char *
read_request(int fd)
{
    char *text = malloc(REQUEST_MAX);
    must(text != NULL);
    size_t len = 0, wanted = 0;
    while (wanted == 0 || len < wanted) {
        ssize_t n = recv(fd, text + len, REQUEST_MAX - 1 - len, 0);
        if (n <= 0) {
            free(text);
            return NULL;
        }
        len += (size_t)n;
        text[len] = '\0';
        char *end = strstr(text, "\r\n\r\n");
        if (end == NULL)
            continue;
        const char *length = strcasestr(text, "\r\nContent-Length:");
        size_t body = length != NULL && length < end ? strtoul(length + 17, NULL, 10) : 0;
        wanted = (size_t)(end + 4 - text) + body;
        must(wanted < REQUEST_MAX);
    }
    return text;
}

/* False: close the connection. */
static bool
answer(loopback *server, int fd, char *request)
{
    static const char none[] = "HTTP/1.1 500 Script Ended\r\nContent-Length: 0\r\n\r\n";
    const char *reply = none;
    loopback_after after = LOOPBACK_CLOSE;
    (void)pthread_mutex_lock(&server->mutex);
    must(server->request_count < REQUESTS_MAX);
    server->requests[server->request_count++] = request;
    if (server->next_reply < server->reply_count) {
        reply = server->replies[server->next_reply];
        after = server->after[server->next_reply++];
    }
    (void)pthread_cond_broadcast(&server->came);
    (void)pthread_mutex_unlock(&server->mutex);
    for (size_t sent = 0, len = strlen(reply); sent < len;) {
        ssize_t n = send(fd, reply + sent, len - sent, MSG_NOSIGNAL);
        if (n <= 0)
            return false;
        sent += (size_t)n;
    }
    char byte;
    if (after == LOOPBACK_HANG)
        (void)recv(fd, &byte, 1, 0);
    return after == LOOPBACK_KEEP;
}

static void *
serve_connection(void *arg)
{
    connection *c = arg;
    char *request;
    while ((request = read_request(c->fd)) != NULL && answer(c->server, c->fd, request))
        ;
    (void)shutdown(c->fd, SHUT_RDWR);
    return NULL;
}

static void *
serve(void *arg)
{
    loopback *server = arg;
    for (;;) {
        int fd = accept4(server->fd, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0)
            return NULL;
        must(server->connection_count < CONNECTIONS_MAX);
        connection *c = &server->connections[server->connection_count++];
        c->server = server;
        c->fd = fd;
        must(pthread_create(&c->thread, NULL, serve_connection, c) == 0);
    }
}

loopback *
loopback_start(void)
{
    loopback *server = calloc(1, sizeof *server);
    must(server != NULL);
    (void)pthread_mutex_init(&server->mutex, NULL);
    (void)pthread_cond_init(&server->came, NULL);
    server->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof address;
    must(server->fd >= 0 && bind(server->fd, (struct sockaddr *)&address, len) == 0 &&
         listen(server->fd, 64) == 0 &&
         getsockname(server->fd, (struct sockaddr *)&address, &len) == 0);
    server->port = ntohs(address.sin_port);
    must(pthread_create(&server->thread, NULL, serve, server) == 0);
    return server;
}

void
loopback_stop(loopback *server)
{
    (void)shutdown(server->fd, SHUT_RDWR);
    (void)pthread_join(server->thread, NULL);
    (void)close(server->fd);
    for (size_t i = 0; i < server->connection_count; i++) {
        (void)shutdown(server->connections[i].fd, SHUT_RDWR);
        (void)pthread_join(server->connections[i].thread, NULL);
        (void)close(server->connections[i].fd);
    }
    for (size_t i = 0; i < server->reply_count; i++)
        free(server->replies[i]);
    for (size_t i = 0; i < server->request_count; i++)
        free(server->requests[i]);
    (void)pthread_cond_destroy(&server->came);
    (void)pthread_mutex_destroy(&server->mutex);
    free(server);
}

int
loopback_port(const loopback *server)
{
    return server->port;
}

void
loopback_script(loopback *server, const char *raw, loopback_after after)
{
    (void)pthread_mutex_lock(&server->mutex);
    must(server->reply_count < REPLIES_MAX);
    server->after[server->reply_count] = after;
    server->replies[server->reply_count++] = strdup(raw);
    (void)pthread_mutex_unlock(&server->mutex);
}

void
loopback_reply(loopback *server, int status, const char *headers, const char *body)
{
    char *raw = NULL;
    must(asprintf(&raw, "HTTP/1.1 %d Scripted\r\nContent-Length: %zu\r\n%s\r\n%s", status,
                  strlen(body), headers, body) > 0);
    loopback_script(server, raw, LOOPBACK_KEEP);
    free(raw);
}

size_t
loopback_count(loopback *server)
{
    (void)pthread_mutex_lock(&server->mutex);
    size_t count = server->request_count;
    (void)pthread_mutex_unlock(&server->mutex);
    return count;
}

const char *
loopback_request(loopback *server, size_t n)
{
    (void)pthread_mutex_lock(&server->mutex);
    must(n < server->request_count);
    const char *request = server->requests[n];
    (void)pthread_mutex_unlock(&server->mutex);
    return request;
}

void
loopback_wait(loopback *server, size_t n)
{
    (void)pthread_mutex_lock(&server->mutex);
    while (server->request_count < n)
        (void)pthread_cond_wait(&server->came, &server->mutex);
    (void)pthread_mutex_unlock(&server->mutex);
}
