/*
 * local_session.c - the server's part of a local backup: an ordinary session that begins the
 * backup, lives through it, and ends it; and the proof that data_dir is that server's.
 *
 * The proof: a snapshot that the session exports is a file in pg_snapshots while its transaction
 * is open, and gone afterwards. A copy of the cluster on this machine, or the same path on another
 * one, has the same system identifier and not this file.
 */
#include "backup_internal.h"

#include "walagent/base/file.h"
#include "walagent/pg/control.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#define QUERY_TIMEOUT_MS 30000
#define START_TIMEOUT_MS 7200000 /* a spread checkpoint comes first */
#define STOP_TIMEOUT_MS 600000   /* a standby waits for what it has to replay */

static wa_status
run(wa_pg_conn *conn, const char *sql, wa_error *err)
{
    WA_CLEANUP(wa_pg_clearp) PGresult *result = NULL;
    return wa_pg_query(conn, sql, QUERY_TIMEOUT_MS, &result, err);
}

static wa_status
check_data_dir(const wa_backup_options *options, wa_error *err)
{
    if (wa_str_empty(options->data_dir)) {
        wa_error_set(err, WA_INVALID, "a local backup needs to know the data directory");
        return wa_error_hint(err, "Set data_dir in [cluster], or leave --source local away.");
    }
    wa_control control;
    wa_status status = wa_control_read(options->data_dir, &control, err);
    if (status == WA_NOT_FOUND) {
        wa_error_set(err, WA_INVALID, "\"%s\" is not a data directory on this machine",
                     options->data_dir);
        return wa_error_hint(err, "Check data_dir in [cluster]; a local backup runs on the "
                                  "server's host.");
    }
    if (status == WA_DENIED)
        return wa_error_hint(err, "Run walagent as the user of the server, or leave --source local "
                                  "away.");
    WA_TRY(status);
    const wa_cluster *c = wa_repo_cluster(options->repo);
    if (control.system_identifier == c->system_identifier)
        return WA_OK;
    wa_error_set(err, WA_INVALID,
                 "data directory \"%s\" has system identifier %" PRIu64
                 ", the repository's cluster \"%s\" has %" PRIu64,
                 options->data_dir, control.system_identifier, wa_repo_cluster_name(options->repo),
                 c->system_identifier);
    return wa_error_hint(err, "Check data_dir in [cluster].");
}

/* Exports a snapshot and looks for it. */
static wa_status
owns_data_dir(wa_pg_conn *conn, const char *data_dir, bool *ret, wa_error *err)
{
    WA_CLEANUP(wa_pg_clearp) PGresult *result = NULL;
    WA_TRY(run(conn, "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY", err));
    WA_TRY(wa_pg_query(conn, "SELECT pg_export_snapshot()", QUERY_TIMEOUT_MS, &result, err));
    WA_CLEANUP(wa_freep)
    char *path = wa_format("%s/pg_snapshots/%s", data_dir, PQgetvalue(result, 0, 0));
    bool there = access(path, F_OK) == 0;
    int why = errno;
    WA_TRY(run(conn, "ROLLBACK", err));
    if (!there && why != ENOENT)
        return wa_error_errno(err, why, "could not look up \"%s\": %m", path);
    *ret = there && access(path, F_OK) != 0;
    return WA_OK;
}

/* The session may be idle for as long as the copy takes. */
static wa_status
prepare(wa_pg_conn *conn, wa_error *err)
{
    return run(conn,
               "SET idle_session_timeout = 0; SET statement_timeout = 0; SET lock_timeout = 0; "
               "SET idle_in_transaction_session_timeout = 0",
               err);
}

static wa_status
try_host(const wa_backup_options *options, const char *conninfo, wa_pg_conn **ret, bool *ret_owns,
         wa_error *err)
{
    WA_CLEANUP(wa_pg_closep) wa_pg_conn *conn = NULL;
    WA_TRY(wa_pg_connect(&(wa_pg_connect_options){.conninfo = conninfo,
                                                  .dbname = "postgres",
                                                  .application_name = "walagent backup",
                                                  .cancel = options->cancel},
                         &conn, err));
    WA_TRY(prepare(conn, err));
    WA_TRY(owns_data_dir(conn, options->data_dir, ret_owns, err));
    if (*ret_owns)
        *ret = WA_TAKE(conn);
    return WA_OK;
}

wa_status
wa_backup_local_connect(const wa_backup_options *options, wa_pg_conn **ret, wa_error *err)
{
    WA_TRY(check_data_dir(options, err));
    WA_CLEANUP(wa_strv_done) wa_strv hosts = {0};
    WA_TRY(wa_pg_split_hosts(options->conninfo, &hosts, err));
    wa_error failure = WA_ERROR_INIT;
    size_t failures = 0;
    for (size_t i = 0; i < hosts.count; i++) {
        bool owns = false;
        wa_error_clear(err);
        wa_status status = try_host(options, hosts.items[i], ret, &owns, err);
        if (status == WA_CANCELLED || (status == WA_OK && owns))
            return status;
        if (status != WA_OK && failures++ == 0)
            failure = *err;
    }
    if (failures > 0) {
        *err = failure;
        return err->status;
    }
    wa_error_set(err, WA_INVALID, "data directory \"%s\" is not that of %s", options->data_dir,
                 hosts.count == 1 ? "the server in conninfo" : "any server in conninfo");
    return wa_error_hint(err, "A local backup runs on the server's host with data_dir in [cluster] "
                              "set to its data directory; from elsewhere leave --source local "
                              "away.");
}

static wa_status
denied(wa_error *err)
{
    return wa_error_hint(err, "GRANT EXECUTE ON FUNCTION pg_backup_start(text, boolean), "
                              "pg_backup_stop(boolean) TO the role in conninfo, in the database "
                              "postgres.");
}

wa_status
wa_backup_local_allowed(wa_pg_conn *conn, wa_error *err)
{
    WA_CLEANUP(wa_pg_clearp) PGresult *result = NULL;
    WA_TRY(wa_pg_query(
        conn,
        "SELECT (has_function_privilege('pg_backup_start(text, boolean)', 'execute') AND"
        " has_function_privilege('pg_backup_stop(boolean)', 'execute'))::text",
        QUERY_TIMEOUT_MS, &result, err));
    if (strcmp(PQgetvalue(result, 0, 0), "true") == 0)
        return WA_OK;
    wa_error_set(err, WA_DENIED, "the role \"%s\" may not begin and end backups",
                 PQuser(wa_pg_raw(conn)));
    return denied(err);
}

wa_status
wa_backup_local_start(const wa_backup_options *options, wa_pg_conn *conn, const char *label,
                      wa_lsn *ret_start, wa_error *err)
{
    WA_CLEANUP(wa_freep) char *name = wa_pg_quote_literal(label);
    WA_CLEANUP(wa_freep)
    char *sql = wa_format("SELECT pg_backup_start(%s, fast := %s)::text", name,
                          options->fast_checkpoint ? "true" : "false");
    WA_CLEANUP(wa_pg_clearp) PGresult *result = NULL;
    wa_status status = wa_pg_query(conn, sql, START_TIMEOUT_MS, &result, err);
    if (status == WA_DENIED)
        return denied(err);
    if (status != WA_OK)
        return wa_error_wrap(err, "could not begin the backup");
    return wa_lsn_parse(PQgetvalue(result, 0, 0), ret_start, err);
}

wa_status
wa_backup_local_stop(wa_pg_conn *conn, char **ret_label, wa_lsn *ret_end, wa_error *err)
{
    /* We wait for the WAL ourselves: it may come to the archive without archive_command. */
    WA_CLEANUP(wa_pg_clearp) PGresult *result = NULL;
    if (wa_pg_query(conn,
                    "SELECT lsn::text, labelfile FROM pg_backup_stop(wait_for_archive := false)",
                    STOP_TIMEOUT_MS, &result, err) != WA_OK)
        return wa_error_wrap(err, "could not end the backup");
    WA_TRY(wa_lsn_parse(PQgetvalue(result, 0, 0), ret_end, err));
    *ret_label = wa_strdup(PQgetvalue(result, 0, 1));
    return WA_OK;
}

wa_status
wa_backup_local_alive(wa_pg_conn *conn, wa_error *err)
{
    PGconn *pg = wa_pg_raw(conn);
    if (PQconsumeInput(pg) == 1 && PQstatus(pg) == CONNECTION_OK)
        return WA_OK;
    return wa_error_set(err, WA_UNAVAILABLE,
                        "the session that keeps the backup open has ended: %.*s",
                        (int)strcspn(PQerrorMessage(pg), "\n"), PQerrorMessage(pg));
}
