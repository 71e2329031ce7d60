/*
 * check_server.c - the preflight's questions to the server: identity, privileges, slot, who
 * archives, clocks.
 */
#include "check_internal.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define QUERY_TIMEOUT_MS 10000
#define CLOCK_WARNING_US                                                                           \
    2000000 /* later than this, a time target means another moment than the person thinks */

static const char *
field(const PGresult *result, int column)
{
    return PQgetisnull(result, 0, column) ? "" : PQgetvalue(result, 0, column);
}

static bool
is_true(const PGresult *result, int column)
{
    return strcmp(field(result, column), "t") == 0;
}

static bool
query(check *c, const char *what, const char *sql, PGresult **ret)
{
    wa_error err = WA_ERROR_INIT;
    if (c->conn == NULL)
        return false;
    if (wa_pg_query(c->conn, sql, QUERY_TIMEOUT_MS, ret, &err) == WA_OK && PQntuples(*ret) == 1)
        return true;
    wa_check_add_error(c, WA_VERDICT_FAILED, what, &err);
    return false;
}

static void
check_identity(check *c)
{
    char size[WA_SIZE_TEXT];
    if (!c->repo_loaded) {
        wa_check_add(c, WA_VERDICT_OK, "server", NULL,
                     "%s answers: PostgreSQL %d, system identifier %" PRIu64, wa_pg_host(c->repl),
                     c->system.major, c->system.system_identifier);
        return;
    }
    const wa_cluster *cluster = wa_repo_cluster(c->options->repo);
    if (cluster->system_identifier != c->system.system_identifier ||
        cluster->major != c->system.major || cluster->segment_size != c->system.segment_size)
        wa_check_add(c, WA_VERDICT_FAILED, "server",
                     "Check conninfo and name in [cluster]; after pg_upgrade run \"walagent init "
                     "--accept-new-cluster\".",
                     "%s is another cluster: system identifier %" PRIu64
                     ", PostgreSQL %d, WAL segments of %s",
                     wa_pg_host(c->repl), c->system.system_identifier, c->system.major,
                     wa_format_size(c->system.segment_size, size));
    else
        wa_check_add(c, WA_VERDICT_OK, "server", NULL, "%s is this cluster, on timeline %u%s",
                     wa_pg_host(c->repl), c->system.tli, c->in_recovery ? " (in recovery)" : "");
}

void
wa_check_server(check *c)
{
    wa_error err = WA_ERROR_INIT;
    wa_pg_connect_options repl = {.conninfo = c->options->conninfo,
                                  .replication = true,
                                  .application_name = "walagent check",
                                  .cancel = c->options->cancel};
    bool known = true;
    if (wa_pg_connect(&repl, &c->repl, &err) != WA_OK ||
        wa_pg_check_major(c->repl, &known, &err) != WA_OK ||
        wa_pg_identify(c->repl, &c->system, &err) != WA_OK) {
        if (err.status == WA_DENIED && err.hint[0] == '\0')
            wa_error_hint(&err, "The role needs REPLICATION, and pg_hba.conf a line for the "
                                "database \"replication\".");
        wa_check_add_error(c, WA_VERDICT_FAILED, "server", &err);
        return;
    }
    if (!known)
        wa_check_add(
            c, WA_VERDICT_WARNING, "major", "Update walagent.",
            "PostgreSQL %d is newer than this version knows: WAL is archived without being checked",
            c->system.major);
    wa_pg_connect_options ordinary = {.conninfo = c->options->conninfo,
                                      .application_name = "walagent check",
                                      .cancel = c->options->cancel};
    if (wa_pg_connect(&ordinary, &c->conn, &err) != WA_OK) {
        wa_check_add_error(c, WA_VERDICT_FAILED, "server", &err);
        return;
    }
    WA_CLEANUP(wa_pg_clearp) PGresult *r = NULL;
    if (!query(c, "privileges",
               "SELECT pg_is_in_recovery(), rolsuper, rolreplication, pg_has_role(current_user, "
               "'pg_monitor', 'MEMBER'), current_user FROM pg_roles WHERE rolname = current_user",
               &r))
        return;
    c->in_recovery = is_true(r, 0);
    check_identity(c);
    if (is_true(r, 1))
        wa_check_add(c, WA_VERDICT_WARNING, "privileges",
                     "A role with REPLICATION and pg_monitor is enough.",
                     "role \"%s\" is a superuser", field(r, 4));
    else if (!is_true(r, 3))
        wa_check_add(c, WA_VERDICT_WARNING, "privileges", "GRANT pg_monitor to the role.",
                     "role \"%s\" lacks pg_monitor: slots and replication can't be seen fully",
                     field(r, 4));
    else
        wa_check_add(c, WA_VERDICT_OK, "privileges", NULL,
                     "role \"%s\" has REPLICATION and pg_monitor", field(r, 4));
}

void
wa_check_slot(check *c)
{
    wa_error err = WA_ERROR_INIT;
    wa_pg_slot slot;
    const char *name = c->options->slot;
    if (c->conn == NULL || name == NULL)
        return;
    if (wa_pg_slot_query(c->conn, name, &slot, &err) != WA_OK) {
        wa_check_add_error(c, WA_VERDICT_FAILED, "slot", &err);
        return;
    }
    if (!slot.exists) {
        wa_check_add(c, WA_VERDICT_FAILED, "slot",
                     "Run \"walagent init\" (the agent makes it too).",
                     "replication slot \"%s\" does not exist", name);
        return;
    }
    if (strcmp(slot.wal_status, "lost") == 0) {
        wa_check_add(c, WA_VERDICT_FAILED, "slot",
                     "Drop the slot, run \"walagent init\", and take a base backup; raise "
                     "max_slot_wal_keep_size.",
                     "replication slot \"%s\" has lost its WAL %s", name, slot.invalidation_reason);
        return;
    }
    c->streams = slot.active;
    wa_check_add(
        c, slot.active || c->in_recovery ? WA_VERDICT_OK : WA_VERDICT_WARNING, "slot",
        slot.active || c->in_recovery
            ? NULL
            : "Start the agent: an unused slot keeps WAL on the server until its disk is full.",
        "replication slot \"%s\" is %s, WAL %s", name, slot.active ? "in use" : "not in use",
        slot.wal_status[0] ? slot.wal_status : "reserved");
    WA_CLEANUP(wa_pg_clearp) PGresult *r = NULL;
    if (!query(c, "slot-limit",
               "SELECT setting::bigint FROM pg_settings WHERE name = 'max_slot_wal_keep_size'", &r))
        return;
    long long limit = strtoll(field(r, 0), NULL, 10);
    if (limit < 0)
        wa_check_add(
            c, WA_VERDICT_WARNING, "slot-limit",
            "Set max_slot_wal_keep_size to what pg_wal's file system can spare beside spool_max.",
            "max_slot_wal_keep_size is unlimited: while the archive is away WAL fills the server's "
            "disk");
    else
        wa_check_add(c, WA_VERDICT_OK, "slot-limit", NULL, "max_slot_wal_keep_size is %lld MB",
                     limit);
}

void
wa_check_archiver(check *c)
{
    WA_CLEANUP(wa_pg_clearp) PGresult *r = NULL;
    if (!query(c, "archiver",
               "SELECT current_setting('archive_mode'), coalesce(last_failed_wal, ''),"
               " coalesce(last_failed_time > coalesce(last_archived_time, '-infinity'), false) "
               "FROM pg_stat_archiver",
               &r))
        return;
    bool archives = strcmp(field(r, 0), "off") != 0;
    if (archives && is_true(r, 2))
        wa_check_add(c, WA_VERDICT_FAILED, "archiver",
                     "The reason is in the server's log, in the line of \"walagent archive-push\".",
                     "archive_command fails: the last failure was at \"%s\"", field(r, 1));
    else if (!archives && !c->streams)
        wa_check_add(c, WA_VERDICT_FAILED, "archiver",
                     "Start \"walagent run\", or set archive_mode = on and archive_command = "
                     "'walagent archive-push %p'.",
                     "nobody archives: no agent streams and archive_mode is off");
    else
        wa_check_add(c, WA_VERDICT_OK, "archiver", NULL, "%s%s%s",
                     c->streams ? "an agent streams" : "", c->streams && archives ? ", and " : "",
                     archives ? "archive_command works" : "");
}

void
wa_check_clock(check *c)
{
    WA_CLEANUP(wa_pg_clearp) PGresult *r = NULL;
    if (!query(c, "clock", "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint", &r))
        return;
    int64_t server = strtoll(field(r, 0), NULL, 10), here = wa_time_to_unix_us(wa_time_now());
    int64_t apart = server > here ? server - here : here - server;
    if (apart > CLOCK_WARNING_US)
        wa_check_add(c, WA_VERDICT_WARNING, "clock",
                     "Let both machines follow NTP: times of restores are the server's.",
                     "the server's clock and this machine's are %.1f s apart", (double)apart / 1e6);
    else
        wa_check_add(c, WA_VERDICT_OK, "clock", NULL,
                     "the server's clock agrees with this machine's");
}
