/*
 * preflight.c - broken archiving is found before the copy starts, not after; and one backup of a
 * cluster runs at a time.
 */
#include "backup_internal.h"

#include "walagent/pg/basebackup.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define QUERY_TIMEOUT_MS 10000
#define AGENT_RETURNS_MS 3000
/* The advisory lock of a running backup: ASCII "walagent" as a 64-bit number. */
#define CLAIM_KEY "8602275928856686196"

static wa_status
check_identity(const wa_backup_options *options, wa_pg_conn *repl, wa_error *err)
{
    wa_pg_system system;
    WA_TRY(wa_pg_identify(repl, &system, err));
    const wa_cluster *c = wa_repo_cluster(options->repo);
    if (system.system_identifier != c->system_identifier) {
        wa_error_set(err, WA_CONFLICT,
                     "the server's system identifier is %" PRIu64
                     ", the repository's cluster \"%s\" has %" PRIu64,
                     system.system_identifier, wa_repo_cluster_name(options->repo),
                     c->system_identifier);
        return wa_error_hint(err, "Check conninfo and name in [cluster]; after pg_upgrade run "
                                  "\"walagent init --accept-new-cluster\".");
    }
    if (system.major != c->major) {
        wa_error_set(err, WA_CONFLICT,
                     "the server is PostgreSQL %d, the repository's cluster \"%s\" is %d",
                     system.major, wa_repo_cluster_name(options->repo), c->major);
        return wa_error_hint(err, "Run \"walagent init --accept-new-cluster\" after an upgrade.");
    }
    return WA_OK;
}

static const char *
field(const PGresult *result, int column)
{
    return PQgetisnull(result, 0, column) ? "" : PQgetvalue(result, 0, column);
}

typedef struct archiving {
    bool streams, archives, failing, in_recovery;
    char failed_wal[64];
} archiving;

static wa_status
look_at_archiving(const wa_backup_options *options, wa_pg_conn *conn, archiving *ret, wa_error *err)
{
    WA_CLEANUP(wa_freep) char *slot = wa_pg_quote_literal(options->slot ? options->slot : "");
    WA_CLEANUP(wa_freep)
    char *sql = wa_format(
        "SELECT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = %s AND active)::text,"
        " current_setting('archive_mode'), a.last_failed_wal,"
        " (a.last_failed_time > coalesce(a.last_archived_time, '-infinity'))::text,"
        " pg_is_in_recovery()::text FROM pg_stat_archiver a",
        slot);
    WA_CLEANUP(wa_pg_clearp) PGresult *result = NULL;
    WA_TRY(wa_pg_query(conn, sql, QUERY_TIMEOUT_MS, &result, err));
    *ret = (archiving){.streams = strcmp(field(result, 0), "true") == 0,
                       .archives = strcmp(field(result, 1), "off") != 0,
                       .failing = strcmp(field(result, 3), "true") == 0,
                       .in_recovery = strcmp(field(result, 4), "true") == 0};
    snprintf(ret->failed_wal, sizeof ret->failed_wal, "%s", field(result, 2));
    return WA_OK;
}

/* Somebody must be carrying WAL into an archive: an agent that uses our slot (it may be connecting
 * again just now), or an archiver whose last word was not a failure. */
static wa_status
check_archiving(const wa_backup_options *options, wa_pg_conn *conn, wa_error *err)
{
    wa_mono deadline = wa_mono_now() + AGENT_RETURNS_MS;
    archiving a;
    for (;;) {
        WA_TRY(look_at_archiving(options, conn, &a, err));
        if (a.streams || (a.archives && !a.failing) || a.in_recovery)
            return WA_OK;
        if (wa_mono_now() >= deadline)
            break;
        WA_TRY(wa_cancel_sleep(options->cancel, 500, err));
    }
    if (a.archives) {
        wa_error_set(err, WA_UNREACHABLE,
                     "archiving is broken: the server could not archive WAL segment \"%s\"",
                     a.failed_wal);
        return wa_error_hint(
            err, "Look for archive_command in the server's log; \"walagent check\" tries it.");
    }
    wa_error_set(
        err, WA_UNREACHABLE,
        "nobody archives this server's WAL: no agent streams from it and archive_mode is off");
    return wa_error_hint(err, "Start \"walagent run\", or set archive_mode = on and "
                              "archive_command = 'walagent archive-push %%p'.");
}

static wa_status
check_incremental(const wa_backup_options *options, wa_pg_conn *conn, wa_error *err)
{
    if (!options->incremental)
        return WA_OK;
    if (options->local) {
        wa_error_set(err, WA_UNSUPPORTED,
                     "an incremental backup can't be read from the data directory: which blocks "
                     "changed is known to the server alone");
        return wa_error_hint(err, "Leave --source local away for incremental backups; they may "
                                  "build on a full one that was taken with it.");
    }
    if (wa_pg_major(conn) < 17) {
        wa_error_set(err, WA_UNSUPPORTED,
                     "incremental backups need PostgreSQL 17 or later, the server is %d",
                     wa_pg_major(conn));
        return wa_error_hint(err, "Take a full backup.");
    }
    WA_CLEANUP(wa_freep) char *summarize = NULL;
    WA_TRY(wa_pg_show(conn, "summarize_wal", &summarize, err));
    if (strcmp(summarize, "on") == 0)
        return WA_OK;
    wa_error_set(err, WA_INVALID, "incremental backups need summarize_wal = on");
    return wa_error_hint(
        err, "Set summarize_wal = on, reload the server, and take a full backup first.");
}

/* Before anything is written: is data_dir the server's, and may it be backed up from there? */
static wa_status
check_local(const wa_backup_options *options, wa_error *err)
{
    if (!options->local)
        return WA_OK;
    WA_CLEANUP(wa_pg_closep) wa_pg_conn *conn = NULL;
    WA_TRY(wa_backup_local_connect(options, &conn, err));
    return wa_backup_local_allowed(conn, err);
}

/* Over the protocol the server keeps to the limit: MAX_RATE, in kB. */
static wa_status
check_rate(const wa_backup_options *options, wa_error *err)
{
    if (options->local || options->rate_limit == 0 || options->rate_limit >= WA_BB_RATE_MIN)
        return WA_OK;
    wa_error_set(err, WA_INVALID,
                 "rate_limit in [backup] is below the least that PostgreSQL keeps to, 32 KiB per "
                 "second");
    return wa_error_hint(err, "Raise it, or back up with --source local.");
}

wa_status
wa_backup_preflight(const wa_backup_options *options, wa_error *err)
{
    WA_TRY(check_rate(options, err));
    WA_CLEANUP(wa_pg_closep) wa_pg_conn *repl = NULL;
    WA_TRY(wa_pg_connect(&(wa_pg_connect_options){.conninfo = options->conninfo,
                                                  .replication = true,
                                                  .application_name = "walagent backup check",
                                                  .cancel = options->cancel},
                         &repl, err));
    bool known = false;
    WA_TRY(wa_pg_check_major(repl, &known, err));
    WA_TRY(check_identity(options, repl, err));
    WA_CLEANUP(wa_pg_closep) wa_pg_conn *conn = NULL;
    WA_TRY(wa_pg_connect(&(wa_pg_connect_options){.conninfo = options->conninfo,
                                                  .application_name = "backup check",
                                                  .cancel = options->cancel},
                         &conn, err));
    WA_TRY(check_incremental(options, conn, err));
    WA_TRY(check_local(options, err));
    return check_archiving(options, conn, err);
}

wa_status
wa_backup_claim(const wa_backup_options *options, wa_pg_conn **ret_conn, bool *ret_busy,
                wa_error *err)
{
    WA_CLEANUP(wa_pg_closep) wa_pg_conn *conn = NULL;
    WA_TRY(wa_pg_connect(&(wa_pg_connect_options){.conninfo = options->conninfo,
                                                  .dbname = "postgres",
                                                  .application_name = "backup claim",
                                                  .cancel = options->cancel},
                         &conn, err));
    WA_CLEANUP(wa_pg_clearp) PGresult *result = NULL;
    WA_TRY(wa_pg_query(conn, "SELECT pg_try_advisory_lock(" CLAIM_KEY ")::text", QUERY_TIMEOUT_MS,
                       &result, err));
    *ret_busy = strcmp(field(result, 0), "true") != 0;
    *ret_conn = WA_TAKE(conn);
    return WA_OK;
}
