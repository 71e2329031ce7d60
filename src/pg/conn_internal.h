/*
 * conn_internal.h - what the files that speak to a server share.
 */
#ifndef WALAGENT_PG_CONN_INTERNAL_H
#define WALAGENT_PG_CONN_INTERNAL_H

#include "walagent/base/buf.h"
#include "walagent/base/time.h"
#include "walagent/pg/conn.h"

#define WA_PG_SQLSTATE 6
#define WA_PG_COMMAND_TIMEOUT_MS 30000

typedef enum wa_pg_stream_state {
    WA_PG_IDLE,
    WA_PG_STREAMING,   /* COPY BOTH */
    WA_PG_END_PENDING, /* the timeline's end is known and not yet handed out */
} wa_pg_stream_state;

struct wa_pg_conn {
    PGconn *pg;
    wa_cancel *cancel; /* borrowed, may be NULL */
    char *host;
    bool broken; /* an answer is still owed: the connection can't be used again */
    char sqlstate[WA_PG_SQLSTATE];
    char warning[256]; /* the first WARNING since the last command */
    char *copy_data;   /* what the last COPY message lent out */
    wa_pg_stream_state stream;
    wa_tli next_tli; /* END_PENDING */
    wa_lsn next_start;
};

typedef enum wa_pg_ready {
    WA_PG_READY_NOTHING, /* the time passed */
    WA_PG_READY_SOCKET,
    WA_PG_READY_WAKE
} wa_pg_ready;

/* Before the first call of libpq: where it fails, it can still be told. */
wa_status wa_libpq_load(wa_error *err) WA_MUST_CHECK;

/* Poll the connection's socket, the cancel and wake_fd (-1: none). */
wa_status wa_pg_wait(wa_pg_conn *conn, short events, wa_cancel *cancel, int wake_fd, int timeout_ms,
                     wa_pg_ready *ret, wa_error *err) WA_MUST_CHECK;
wa_status wa_pg_flush(wa_pg_conn *conn, wa_cancel *cancel, wa_mono deadline,
                      wa_error *err) WA_MUST_CHECK;
wa_status wa_pg_send(wa_pg_conn *conn, const char *sql, wa_cancel *cancel, wa_mono deadline,
                     wa_error *err) WA_MUST_CHECK;
/* The next result, NULL after the last; an error result is turned into err. */
wa_status wa_pg_next_result(wa_pg_conn *conn, wa_cancel *cancel, wa_mono deadline, PGresult **ret,
                            wa_error *err) WA_MUST_CHECK;
/* Read results until there is none; the first error counts. */
wa_status wa_pg_drain(wa_pg_conn *conn, wa_cancel *cancel, wa_mono deadline,
                      wa_error *err) WA_MUST_CHECK;
/* One CopyData message into conn->copy_data (valid until the next call). ret_len: > 0 its length,
 * 0 nothing came within the time or wake_fd woke us, -1 the COPY ended. */
wa_status wa_pg_copy_get(wa_pg_conn *conn, wa_cancel *cancel, int wake_fd, int timeout_ms,
                         int *ret_len, wa_error *err) WA_MUST_CHECK;
wa_status wa_pg_copy_put(wa_pg_conn *conn, const void *data, size_t len, wa_cancel *cancel,
                         wa_mono deadline, wa_error *err) WA_MUST_CHECK;
wa_status wa_pg_copy_end(wa_pg_conn *conn, wa_cancel *cancel, wa_mono deadline,
                         wa_error *err) WA_MUST_CHECK;
/* err from an error result, or from the connection's own message. */
wa_status wa_pg_result_error(wa_pg_conn *conn, const PGresult *res, wa_error *err);
wa_status wa_pg_conn_error(wa_pg_conn *conn, wa_error *err);
wa_status wa_pg_status_of(const char *sqlstate);
/* Columns of the one row of a result; CORRUPT when there is another number of either. */
wa_status wa_pg_expect_row(const PGresult *res, int columns, const char *what,
                           wa_error *err) WA_MUST_CHECK;
/* The text of an own message of libpq on one line: SQLSTATE and LOCATION taken out (ret_sqlstate
 * has the last one, "" when there is none). A new string. */
char *wa_pg_tidy_message(const char *message, char ret_sqlstate[static WA_PG_SQLSTATE]);

/* keyword='value' pairs. */
typedef struct wa_pg_params {
    wa_strv names, values;
} wa_pg_params;
void wa_pg_params_done(wa_pg_params *params);
/* Replaces an earlier value; value NULL takes the keyword out. */
void wa_pg_params_set(wa_pg_params *params, const char *name, const char *value);
const char *wa_pg_params_get(const wa_pg_params *params, const char *name); /* NULL: not there */
char *wa_pg_params_format(const wa_pg_params *params);
wa_status wa_pg_params_parse(const char *conninfo, wa_pg_params *ret, wa_error *err) WA_MUST_CHECK;
/* How many hosts, and the parameters for host i. */
wa_status wa_pg_params_hosts(const wa_pg_params *params, size_t *ret_count,
                             wa_error *err) WA_MUST_CHECK;
wa_status wa_pg_params_for_host(const wa_pg_params *params, size_t i, wa_pg_params *ret,
                                wa_error *err) WA_MUST_CHECK;

#endif
