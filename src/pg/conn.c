/*
 * conn.c - connections through libpq's asynchronous calls: every wait is a poll with a deadline and
 * a cancel. libpq is in non-blocking mode, so nothing blocks in a send either.
 */
#include "conn_internal.h"

#include <ctype.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CONNECT_TIMEOUT_MS 10000
#define FIRST_MAJOR 15
#define LAST_MAJOR 18

/* Libraries don't log. The first warning during a command is kept: it is the only place where the
 * server names the file and block of a checksum failure. */
static void
keep_notice(void *arg, const PGresult *res)
{
    wa_pg_conn *conn = arg;
    const char *severity = PQresultErrorField(res, PG_DIAG_SEVERITY_NONLOCALIZED);
    const char *text = PQresultErrorField(res, PG_DIAG_MESSAGE_PRIMARY);
    if (severity == NULL || text == NULL || strcmp(severity, "WARNING") != 0)
        return;
    if (conn->warning[0] == '\0')
        (void)snprintf(conn->warning, sizeof conn->warning, "%s", text);
}

/* ---- waiting ---- */

static wa_status
poll_socket(int fd, short events, wa_cancel *cancel, int wake_fd, int timeout_ms, wa_pg_ready *ret,
            wa_error *err)
{
    struct pollfd fds[3] = {{.fd = fd, .events = events},
                            {.fd = cancel != NULL ? cancel->fd : -1, .events = POLLIN},
                            {.fd = wake_fd, .events = POLLIN}};
    wa_mono deadline = wa_mono_now() + (wa_mono)(timeout_ms > 0 ? timeout_ms : 0);
    for (;;) {
        WA_TRY(wa_cancel_check(cancel, err));
        int n = poll(fds, WA_ARRAY_SIZE(fds), wa_mono_left(deadline));
        if (n < 0 && errno != EINTR)
            return wa_error_errno(err, errno, "could not wait for the server: %m");
        if (n < 0 || (n > 0 && fds[1].revents != 0))
            continue;
        if (n == 0)
            *ret = WA_PG_READY_NOTHING;
        else
            *ret = fds[0].revents != 0 ? WA_PG_READY_SOCKET : WA_PG_READY_WAKE;
        return WA_OK;
    }
}

wa_status
wa_pg_wait(wa_pg_conn *conn, short events, wa_cancel *cancel, int wake_fd, int timeout_ms,
           wa_pg_ready *ret, wa_error *err)
{
    int fd = PQsocket(conn->pg);
    if (fd < 0)
        return wa_pg_conn_error(conn, err);
    return poll_socket(fd, events, cancel, wake_fd, timeout_ms, ret, err);
}

/* Wait with a deadline that is an error. */
static wa_status
wait_or_fail(wa_pg_conn *conn, short events, wa_cancel *cancel, wa_mono deadline, wa_error *err)
{
    wa_pg_ready ready = WA_PG_READY_NOTHING;
    wa_status status = wa_pg_wait(conn, events, cancel, -1, wa_mono_left(deadline), &ready, err);
    if (status == WA_OK && ready == WA_PG_READY_NOTHING)
        status = wa_error_set(err, WA_UNAVAILABLE, "server %s did not answer in time", conn->host);
    if (status != WA_OK)
        conn->broken = true;
    return status;
}

/* ---- errors ---- */

wa_status
wa_pg_status_of(const char *sqlstate)
{
    static const struct {
        const char *prefix;
        wa_status status;
    } table[] = {
        {"08", WA_UNAVAILABLE},    {"57P", WA_UNAVAILABLE}, {"57014", WA_UNAVAILABLE},
        {"53300", WA_UNAVAILABLE}, {"53100", WA_NO_SPACE},  {"53", WA_FAILED},
        {"55006", WA_UNAVAILABLE}, {"40", WA_UNAVAILABLE},  {"28", WA_DENIED},
        {"42501", WA_DENIED},      {"42704", WA_NOT_FOUND}, {"58P01", WA_NOT_FOUND},
        {"58030", WA_IO},          {"42710", WA_EXISTS},    {"42601", WA_INVALID},
        {"42602", WA_INVALID},     {"22", WA_INVALID},      {"3D000", WA_INVALID},
        {"0A000", WA_UNSUPPORTED}, {"XX001", WA_CORRUPT},   {"XX002", WA_CORRUPT},
    };
    for (size_t i = 0; i < WA_ARRAY_SIZE(table); i++)
        if (wa_str_starts(sqlstate, table[i].prefix))
            return table[i].status;
    return WA_FAILED;
}

/* "LOG-WORD:  XXXXX: text": the SQLSTATE of a verbose message, or NULL. */
static const char *
find_sqlstate(const char *line)
{
    for (const char *p = strstr(line, ":  "); p != NULL; p = strstr(p + 1, ":  ")) {
        const char *code = p + 3;
        size_t n = strspn(code, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ");
        if (n == 5 && code[5] == ':' && code[6] == ' ')
            return code;
    }
    return NULL;
}

char *
wa_pg_tidy_message(const char *message, char ret_sqlstate[static WA_PG_SQLSTATE])
{
    WA_CLEANUP(wa_buf_done) wa_buf out = WA_BUF_INIT(WA_ERROR_MESSAGE_SIZE);
    ret_sqlstate[0] = '\0';
    while (*message != '\0') {
        size_t len = strcspn(message, "\n");
        WA_CLEANUP(wa_freep) char *line = wa_strndup(message, len);
        message += len + (message[len] == '\n');
        /* The verbose form ends with "LOCATION:  function, file.c:line", translated or not. */
        if (strstr(line, ".c:") != NULL && strchr(line, ',') != NULL && find_sqlstate(line) == NULL)
            continue;
        const char *code = find_sqlstate(line);
        size_t head = strlen(line);
        if (code != NULL) {
            memcpy(ret_sqlstate, code, 5);
            ret_sqlstate[5] = '\0';
            head = (size_t)(code - line) - 1;
        }
        const char *start = line + strspn(line, " \t");
        size_t skipped = (size_t)(start - line);
        if (head <= skipped)
            continue;
        if (out.len + strlen(line) + 3 > out.max)
            break;
        if (out.len > 0)
            wa_buf_puts(&out, "; ");
        wa_buf_add(&out, start, head - skipped);
        if (code != NULL)
            wa_buf_puts(&out, code + 7);
    }
    return wa_buf_detach(&out);
}

wa_status
wa_pg_conn_error(wa_pg_conn *conn, wa_error *err)
{
    char sqlstate[WA_PG_SQLSTATE];
    WA_CLEANUP(wa_freep) char *text = wa_pg_tidy_message(PQerrorMessage(conn->pg), sqlstate);
    conn->broken = true;
    return wa_error_set(err, WA_UNAVAILABLE, "lost the connection to server %s%s%s", conn->host,
                        text[0] != '\0' ? ": " : "", text);
}

wa_status
wa_pg_result_error(wa_pg_conn *conn, const PGresult *res, wa_error *err)
{
    const char *sqlstate = PQresultErrorField(res, PG_DIAG_SQLSTATE);
    const char *primary = PQresultErrorField(res, PG_DIAG_MESSAGE_PRIMARY);
    const char *detail = PQresultErrorField(res, PG_DIAG_MESSAGE_DETAIL);
    const char *hint = PQresultErrorField(res, PG_DIAG_MESSAGE_HINT);
    if (sqlstate == NULL || primary == NULL) {
        if (PQstatus(conn->pg) == CONNECTION_BAD)
            return wa_pg_conn_error(conn, err);
        char ignored[WA_PG_SQLSTATE];
        WA_CLEANUP(wa_freep) char *text = wa_pg_tidy_message(PQresultErrorMessage(res), ignored);
        return wa_error_set(err, WA_FAILED, "%s", text[0] != '\0' ? text : "unknown server error");
    }
    memcpy(conn->sqlstate, sqlstate, 5);
    conn->sqlstate[5] = '\0';
    (void)wa_error_set(err, wa_pg_status_of(sqlstate), "%s", primary);
    if (hint != NULL)
        (void)wa_error_hint(err, "%s", hint);
    else if (detail != NULL)
        (void)wa_error_hint(err, "%s", detail);
    else if (conn->warning[0] != '\0')
        (void)wa_error_hint(err, "The server warned: %s.", conn->warning);
    return err->status;
}

/* ---- connecting ---- */

static void
set_default(wa_pg_params *params, const char *name, const char *value)
{
    if (wa_pg_params_get(params, name) == NULL)
        wa_pg_params_set(params, name, value);
}

static void
add_own_params(const wa_pg_connect_options *o, wa_pg_params *params)
{
    if (o->application_name != NULL)
        wa_pg_params_set(params, "application_name", o->application_name);
    else
        wa_pg_params_set(params, "fallback_application_name", "walagent");
    if (o->options != NULL) {
        const char *theirs = wa_pg_params_get(params, "options");
        WA_CLEANUP(wa_freep)
        char *both =
            theirs != NULL ? wa_format("%s %s", theirs, o->options) : wa_strdup(o->options);
        wa_pg_params_set(params, "options", both);
    }
    if (o->replication) {
        wa_pg_params_set(params, "replication", "true");
        /* The server ignores it; it is what password files name replication connections by. */
        wa_pg_params_set(params, "dbname", "replication");
    } else {
        if (o->dbname != NULL)
            wa_pg_params_set(params, "dbname", o->dbname);
        set_default(params, "dbname", "postgres");
        set_default(params, "client_encoding", "UTF8");
    }
    set_default(params, "keepalives_idle", "10");
    set_default(params, "keepalives_interval", "5");
    set_default(params, "keepalives_count", "3");
}

static wa_status
connect_failed(PGconn *pg, wa_error *err)
{
    char sqlstate[WA_PG_SQLSTATE];
    WA_CLEANUP(wa_freep) char *text = wa_pg_tidy_message(PQerrorMessage(pg), sqlstate);
    wa_status status = sqlstate[0] != '\0' ? wa_pg_status_of(sqlstate) : WA_UNAVAILABLE;
    if (sqlstate[0] == '\0' && PQconnectionNeedsPassword(pg))
        status = WA_DENIED;
    return wa_error_set(err, status, "could not connect to the server: %s", text);
}

static char *
describe_host(PGconn *pg)
{
    const char *host = PQhost(pg);
    const char *port = PQport(pg);
    if (wa_str_empty(host))
        return wa_strdup("(default)");
    if (host[0] == '/' || host[0] == '@')
        return wa_strdup(host);
    return wa_format("%s:%s", host, wa_str_empty(port) ? "5432" : port);
}

static wa_status
drive_connect(PGconn *pg, wa_cancel *cancel, wa_mono deadline, wa_error *err)
{
    PostgresPollingStatusType poll_status = PGRES_POLLING_WRITING;
    while (poll_status != PGRES_POLLING_OK) {
        if (poll_status == PGRES_POLLING_FAILED || PQstatus(pg) == CONNECTION_BAD)
            return connect_failed(pg, err);
        wa_pg_ready ready = WA_PG_READY_NOTHING;
        short events = poll_status == PGRES_POLLING_READING ? POLLIN : POLLOUT;
        int fd = PQsocket(pg);
        /* Before the first poll there may be no socket yet (libpq 16 resolves names in it). */
        if (fd >= 0) {
            WA_TRY(poll_socket(fd, events, cancel, -1, wa_mono_left(deadline), &ready, err));
            if (ready == WA_PG_READY_NOTHING) {
                WA_CLEANUP(wa_freep) char *host = describe_host(pg);
                return wa_error_set(err, WA_UNAVAILABLE,
                                    "could not connect to the server: %s did not answer in time",
                                    host);
            }
        }
        poll_status = PQconnectPoll(pg);
    }
    return WA_OK;
}

static wa_status
connect_one(const wa_pg_params *params, wa_cancel *cancel, wa_mono deadline, wa_pg_conn **ret,
            wa_error *err)
{
    size_t n = params->names.count;
    WA_CLEANUP(wa_freep) const char **names = wa_calloc(n + 1, sizeof *names);
    WA_CLEANUP(wa_freep) const char **values = wa_calloc(n + 1, sizeof *values);
    for (size_t i = 0; i < n; i++) {
        names[i] = params->names.items[i];
        values[i] = params->values.items[i];
    }
    WA_CLEANUP(wa_pg_closep) wa_pg_conn *conn = wa_calloc(1, sizeof *conn);
    conn->pg = PQconnectStartParams(names, values, 0);
    if (conn->pg == NULL)
        return wa_error_set(err, WA_FAILED, "could not allocate a connection");
    PQsetNoticeReceiver(conn->pg, keep_notice, conn);
    /* Only the verbose form of a refusal has its SQLSTATE in it. */
    PQsetErrorVerbosity(conn->pg, PQERRORS_VERBOSE);
    WA_TRY(drive_connect(conn->pg, cancel, deadline, err));
    PQsetErrorVerbosity(conn->pg, PQERRORS_DEFAULT);
    if (PQsetnonblocking(conn->pg, 1) != 0)
        return connect_failed(conn->pg, err);
    conn->cancel = cancel;
    conn->host = describe_host(conn->pg);
    *ret = WA_TAKE(conn);
    return WA_OK;
}

wa_status
wa_pg_connect(const wa_pg_connect_options *options, wa_pg_conn **ret, wa_error *err)
{
    WA_CLEANUP(wa_pg_params_done) wa_pg_params params = {0};
    size_t count = 0;
    WA_TRY(wa_pg_params_parse(options->conninfo, &params, err));
    add_own_params(options, &params);
    WA_TRY(wa_pg_params_hosts(&params, &count, err));
    int timeout_ms = options->timeout_ms > 0 ? options->timeout_ms : CONNECT_TIMEOUT_MS;
    wa_mono deadline = wa_mono_now() + (wa_mono)timeout_ms;
    wa_status status = WA_FAILED;
    /* One host after the other, each with its share of the time: libpq's asynchronous connect has
     * no time-out per host. */
    for (size_t i = 0; i < count && status != WA_OK && status != WA_CANCELLED; i++) {
        WA_CLEANUP(wa_pg_params_done) wa_pg_params one = {0};
        WA_TRY(wa_pg_params_for_host(&params, i, &one, err));
        wa_mono share = (wa_mono)wa_mono_left(deadline) / (count - i);
        status = connect_one(&one, options->cancel, wa_mono_now() + share, ret, err);
    }
    return status;
}

void
wa_pg_close(wa_pg_conn *conn)
{
    if (conn == NULL)
        return;
    PQfreemem(conn->copy_data);
    PQfinish(conn->pg);
    free(conn->host);
    free(conn);
}

PGconn *
wa_pg_raw(wa_pg_conn *conn)
{
    return conn->pg;
}

int
wa_pg_version_num(const wa_pg_conn *conn)
{
    return PQserverVersion(conn->pg);
}

int
wa_pg_major(const wa_pg_conn *conn)
{
    return PQserverVersion(conn->pg) / 10000;
}

bool
wa_pg_is_good(const wa_pg_conn *conn)
{
    return !conn->broken && PQstatus(conn->pg) == CONNECTION_OK;
}

const char *
wa_pg_sqlstate(const wa_pg_conn *conn)
{
    return conn->sqlstate;
}

const char *
wa_pg_host(const wa_pg_conn *conn)
{
    return conn->host;
}

wa_status
wa_pg_check_major(const wa_pg_conn *conn, bool *ret_known, wa_error *err)
{
    int major = wa_pg_major(conn);
    if (major < FIRST_MAJOR) {
        (void)wa_error_set(err, WA_UNSUPPORTED, "server %s is PostgreSQL %d", conn->host, major);
        return wa_error_hint(err, "walagent works with PostgreSQL %d to %d.", FIRST_MAJOR,
                             LAST_MAJOR);
    }
    *ret_known = major <= LAST_MAJOR;
    return WA_OK;
}

/* ---- sending and receiving ---- */

wa_status
wa_pg_flush(wa_pg_conn *conn, wa_cancel *cancel, wa_mono deadline, wa_error *err)
{
    for (;;) {
        int left = PQflush(conn->pg);
        if (left < 0)
            return wa_pg_conn_error(conn, err);
        if (left == 0)
            return WA_OK;
        /* The server may itself wait for us to read. */
        WA_TRY(wait_or_fail(conn, POLLIN | POLLOUT, cancel, deadline, err));
        if (PQconsumeInput(conn->pg) == 0)
            return wa_pg_conn_error(conn, err);
    }
}

wa_status
wa_pg_send(wa_pg_conn *conn, const char *sql, wa_cancel *cancel, wa_mono deadline, wa_error *err)
{
    if (conn->broken || conn->stream != WA_PG_IDLE)
        return wa_error_set(err, WA_UNAVAILABLE, "the connection to server %s is %s", conn->host,
                            conn->broken ? "broken" : "busy with streaming");
    conn->sqlstate[0] = '\0';
    conn->warning[0] = '\0';
    if (PQsendQuery(conn->pg, sql) == 0)
        return wa_pg_conn_error(conn, err);
    return wa_pg_flush(conn, cancel, deadline, err);
}

wa_status
wa_pg_next_result(wa_pg_conn *conn, wa_cancel *cancel, wa_mono deadline, PGresult **ret,
                  wa_error *err)
{
    while (PQisBusy(conn->pg)) {
        WA_TRY(wait_or_fail(conn, POLLIN, cancel, deadline, err));
        if (PQconsumeInput(conn->pg) == 0)
            return wa_pg_conn_error(conn, err);
    }
    WA_CLEANUP(wa_pg_clearp) PGresult *res = PQgetResult(conn->pg);
    ExecStatusType status = PQresultStatus(res);
    if (res != NULL && (status == PGRES_FATAL_ERROR || status == PGRES_BAD_RESPONSE))
        return wa_pg_result_error(conn, res, err);
    if (res == NULL && PQstatus(conn->pg) == CONNECTION_BAD)
        return wa_pg_conn_error(conn, err);
    *ret = WA_TAKE(res);
    return WA_OK;
}

wa_status
wa_pg_drain(wa_pg_conn *conn, wa_cancel *cancel, wa_mono deadline, wa_error *err)
{
    wa_status first = WA_OK;
    for (;;) {
        WA_CLEANUP(wa_pg_clearp) PGresult *res = NULL;
        wa_error later = WA_ERROR_INIT;
        wa_status status =
            wa_pg_next_result(conn, cancel, deadline, &res, first == WA_OK ? err : &later);
        if (first == WA_OK)
            first = status;
        if (conn->broken || (status == WA_OK && res == NULL))
            return first;
    }
}

wa_status
wa_pg_query(wa_pg_conn *conn, const char *sql, int timeout_ms, PGresult **ret, wa_error *err)
{
    int timeout = timeout_ms > 0 ? timeout_ms : WA_PG_COMMAND_TIMEOUT_MS;
    wa_mono deadline = wa_mono_now() + (wa_mono)timeout;
    WA_TRY(wa_pg_send(conn, sql, conn->cancel, deadline, err));
    WA_CLEANUP(wa_pg_clearp) PGresult *last = NULL;
    for (;;) {
        PGresult *res = NULL;
        wa_status status = wa_pg_next_result(conn, conn->cancel, deadline, &res, err);
        if (status != WA_OK) {
            wa_error ignored = WA_ERROR_INIT;
            if (!conn->broken && wa_pg_drain(conn, conn->cancel, deadline, &ignored) != WA_OK)
                conn->broken = true;
            return status;
        }
        if (res == NULL)
            break;
        PQclear(last);
        last = res;
    }
    if (last == NULL)
        return wa_error_set(err, WA_FAILED, "server %s sent no result", conn->host);
    *ret = WA_TAKE(last);
    return WA_OK;
}

wa_status
wa_pg_copy_get(wa_pg_conn *conn, wa_cancel *cancel, int wake_fd, int timeout_ms, int *ret_len,
               wa_error *err)
{
    PQfreemem(conn->copy_data);
    conn->copy_data = NULL;
    /* TLS may hold decrypted bytes that poll doesn't see; two reads take the longest TLS record. */
    int reads_before_poll = PQsslInUse(conn->pg) ? 2 : 0;
    wa_mono deadline = wa_mono_now() + (wa_mono)(timeout_ms > 0 ? timeout_ms : 0);
    for (bool polled = false;;) {
        int n = PQgetCopyData(conn->pg, &conn->copy_data, 1);
        if (n == -2)
            return wa_pg_conn_error(conn, err);
        if (n != 0) {
            *ret_len = n;
            return WA_OK;
        }
        if (reads_before_poll > 0) {
            reads_before_poll--;
        } else {
            wa_pg_ready ready = WA_PG_READY_NOTHING;
            if (polled && wa_mono_left(deadline) == 0) {
                *ret_len = 0;
                return WA_OK;
            }
            WA_TRY(wa_pg_wait(conn, POLLIN, cancel, wake_fd, wa_mono_left(deadline), &ready, err));
            polled = true;
            if (ready != WA_PG_READY_SOCKET) {
                *ret_len = 0;
                return WA_OK;
            }
            reads_before_poll = PQsslInUse(conn->pg) ? 2 : 0;
        }
        if (PQconsumeInput(conn->pg) == 0)
            return wa_pg_conn_error(conn, err);
    }
}

wa_status
wa_pg_copy_put(wa_pg_conn *conn, const void *data, size_t len, wa_cancel *cancel, wa_mono deadline,
               wa_error *err)
{
    WA_ASSERT(len <= INT32_MAX);
    for (;;) {
        int queued = PQputCopyData(conn->pg, data, (int)len);
        if (queued < 0)
            return wa_pg_conn_error(conn, err);
        WA_TRY(wa_pg_flush(conn, cancel, deadline, err));
        if (queued > 0)
            return WA_OK;
    }
}

wa_status
wa_pg_copy_end(wa_pg_conn *conn, wa_cancel *cancel, wa_mono deadline, wa_error *err)
{
    for (;;) {
        int queued = PQputCopyEnd(conn->pg, NULL);
        if (queued < 0)
            return wa_pg_conn_error(conn, err);
        WA_TRY(wa_pg_flush(conn, cancel, deadline, err));
        if (queued > 0)
            return WA_OK;
    }
}

/* ---- small things ---- */

static char *
quote(const char *s, char q)
{
    char *out = wa_malloc(2 * strlen(s) + 3);
    char *p = out;
    *p++ = q;
    for (; *s != '\0'; s++) {
        if (*s == q)
            *p++ = q;
        *p++ = *s;
    }
    *p++ = q;
    *p = '\0';
    return out;
}

char *
wa_pg_quote_literal(const char *s)
{
    return quote(s, '\'');
}

char *
wa_pg_quote_ident(const char *s)
{
    return quote(s, '"');
}

wa_status
wa_pg_expect_row(const PGresult *res, int columns, const char *what, wa_error *err)
{
    if (PQresultStatus(res) == PGRES_TUPLES_OK && PQntuples(res) == 1 && PQnfields(res) >= columns)
        return WA_OK;
    return wa_error_set(err, WA_CORRUPT, "unexpected answer to %s: %s with %d rows and %d columns",
                        what, PQresStatus(PQresultStatus(res)), PQntuples(res), PQnfields(res));
}

wa_status
wa_pg_show(wa_pg_conn *conn, const char *name, char **ret, wa_error *err)
{
    WA_CLEANUP(wa_pg_clearp) PGresult *res = NULL;
    for (const char *p = name; *p != '\0'; p++)
        if (!isalnum((unsigned char)*p) && *p != '_' && *p != '.')
            return wa_error_set(err, WA_INVALID, "\"%s\" is not the name of a parameter", name);
    WA_CLEANUP(wa_freep) char *sql = wa_format("SHOW %s", name);
    WA_TRY(wa_pg_query(conn, sql, 0, &res, err));
    WA_TRY(wa_pg_expect_row(res, 1, sql, err));
    *ret = wa_strdup(PQgetvalue(res, 0, 0));
    return WA_OK;
}
