/*
 * walagent/pg/conn.h - connections to PostgreSQL through libpq, with deadlines and our errors.
 *
 * Every call polls the socket with a deadline and a cancel (looking up a host name is the one
 * exception: the resolver has its own). Errors: UNAVAILABLE when the server can't be reached,
 * starts up or shuts down (08xxx, 57P0x), has no free connection (53300) or the object is in use
 * (55006, a slot that somebody streams from); DENIED (28xxx, 42501); NOT_FOUND (42704 a slot,
 * 58P01 removed WAL); EXISTS (42710); INVALID (42601, 22xxx, 3D000); UNSUPPORTED (0A000); FAILED.
 * wa_pg_sqlstate() tells apart what shares a status. The message holds the server's primary
 * message, the hint its detail or hint. Passwords never appear in messages.
 *
 * A call that was cancelled or timed out leaves the connection unusable: wa_pg_is_good() is false
 * and further calls are UNAVAILABLE. Threads: one at a time.
 */
#ifndef WALAGENT_PG_CONN_H
#define WALAGENT_PG_CONN_H

#include "walagent/base/cancel.h"
#include "walagent/base/error.h"
#include "walagent/base/mem.h"
#include "walagent/base/str.h"
#include "walagent/pg/lsn.h"

#include <libpq-fe.h>

typedef struct wa_pg_conn wa_pg_conn;
typedef struct wa_pg_connect_options {
    const char *conninfo;
    bool replication;             /* physical replication connection */
    const char *application_name; /* NULL: as in conninfo, else "walagent" */
    const char *dbname;  /* for ordinary connections; NULL: as in conninfo, else "postgres" */
    const char *options; /* e.g. "-c wal_sender_timeout=10s"; NULL: none */
    int timeout_ms;      /* of connecting to all hosts of conninfo together; 0: 10 s */
    wa_cancel *cancel;   /* borrowed as long as the connection lives */
} wa_pg_connect_options;
wa_status wa_pg_connect(const wa_pg_connect_options *options, wa_pg_conn **ret,
                        wa_error *err) WA_MUST_CHECK;
void wa_pg_close(wa_pg_conn *conn);
WA_DEFINE_CLEANUP(wa_pg_conn, wa_pg_close)
PGconn *wa_pg_raw(wa_pg_conn *conn);
int wa_pg_major(const wa_pg_conn *conn);       /* 15 */
int wa_pg_version_num(const wa_pg_conn *conn); /* 150020 */
bool wa_pg_is_good(const wa_pg_conn *conn);
/* SQLSTATE of the last error that the server reported on this connection; "" when there is none. */
const char *wa_pg_sqlstate(const wa_pg_conn *conn);
/* "host:port" or the socket directory, for messages. Borrowed. */
const char *wa_pg_host(const wa_pg_conn *conn);
/* UNSUPPORTED for majors below 15 (too old) and above 18 (WAL is archived unparsed; a warning is
 * the caller's): ret_known. */
wa_status wa_pg_check_major(const wa_pg_conn *conn, bool *ret_known, wa_error *err) WA_MUST_CHECK;
/* One simple-protocol query with a deadline; the result (tuples or command) is the caller's. */
wa_status wa_pg_query(wa_pg_conn *conn, const char *sql, int timeout_ms, PGresult **ret,
                      wa_error *err) WA_MUST_CHECK;
static inline void
wa_pg_clearp(PGresult **p)
{
    PQclear(*p);
    *p = NULL;
}
char *
wa_pg_quote_literal(const char *s); /* a new string with its quotes, for replication commands */
char *wa_pg_quote_ident(const char *s);
/* Value of a parameter (SHOW) - a new string. Works on replication connections. */
wa_status wa_pg_show(wa_pg_conn *conn, const char *name, char **ret, wa_error *err) WA_MUST_CHECK;

/* One conninfo per host of a multi-host conninfo (host=a,b port=1,2; a URI; a service file's or
 * PGHOST's hosts), everything else kept but target_session_attrs and load_balance_hosts, which
 * choose among hosts. The strings contain the password, if conninfo has one. */
wa_status wa_pg_split_hosts(const char *conninfo, wa_strv *ret, wa_error *err) WA_MUST_CHECK;
/* conninfo without its password, for files and messages. A new string. */
wa_status wa_pg_conninfo_public(const char *conninfo, char **ret, wa_error *err) WA_MUST_CHECK;

#endif
