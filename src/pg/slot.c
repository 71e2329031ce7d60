/*
 * slot.c - physical replication slots.
 */
#include "conn_internal.h"

#include "walagent/pg/replication.h"

#include <stdio.h>
#include <string.h>

/* Errors keep the server's words; those that a DBA can act on get a hint of ours. */
static wa_status
slot_failed(wa_pg_conn *conn, const char *doing, const char *slot, wa_error *err)
{
    const char *sqlstate = wa_pg_sqlstate(conn);
    if (strcmp(sqlstate, "53400") == 0)
        (void)wa_error_hint(err, "Free one or increase \"max_replication_slots\".");
    else if (strcmp(sqlstate, "42501") == 0)
        (void)wa_error_hint(err, "The role needs the REPLICATION attribute.");
    return wa_error_wrap(err, "could not %s replication slot \"%s\"", doing, slot);
}

static wa_status
run(wa_pg_conn *conn, const char *sql, const char *doing, const char *slot, PGresult **ret,
    wa_error *err)
{
    if (wa_pg_query(conn, sql, 0, ret, err) != WA_OK)
        return slot_failed(conn, doing, slot, err);
    return WA_OK;
}

wa_status
wa_pg_slot_read(wa_pg_conn *repl, const char *slot, wa_pg_slot *ret, wa_error *err)
{
    WA_CLEANUP(wa_freep) char *ident = wa_pg_quote_ident(slot);
    WA_CLEANUP(wa_freep) char *sql = wa_format("READ_REPLICATION_SLOT %s", ident);
    WA_CLEANUP(wa_pg_clearp) PGresult *res = NULL;
    wa_pg_slot out = {.safe_wal_size = -1};
    if (wa_pg_query(repl, sql, 0, &res, err) != WA_OK) {
        if (strcmp(wa_pg_sqlstate(repl), "0A000") != 0)
            return slot_failed(repl, "read", slot, err);
        out.exists = true; /* a logical one */
        *ret = out;
        return WA_OK;
    }
    WA_TRY(wa_pg_expect_row(res, 3, "READ_REPLICATION_SLOT", err));
    if (!PQgetisnull(res, 0, 0)) {
        out.exists = true;
        out.physical = strcmp(PQgetvalue(res, 0, 0), "physical") == 0;
        if (!PQgetisnull(res, 0, 1))
            WA_TRY(wa_lsn_parse(PQgetvalue(res, 0, 1), &out.restart_lsn, err));
    }
    *ret = out;
    return WA_OK;
}

static wa_status
parse_slot_row(const PGresult *res, wa_pg_slot *ret, wa_error *err)
{
    wa_pg_slot out = {.exists = true, .safe_wal_size = -1};
    out.physical = strcmp(PQgetvalue(res, 0, 0), "physical") == 0;
    out.active = strcmp(PQgetvalue(res, 0, 1), "t") == 0;
    if (!PQgetisnull(res, 0, 2))
        WA_TRY(wa_lsn_parse(PQgetvalue(res, 0, 2), &out.restart_lsn, err));
    (void)snprintf(out.wal_status, sizeof out.wal_status, "%s", PQgetvalue(res, 0, 3));
    if (!PQgetisnull(res, 0, 4))
        WA_TRY(wa_parse_i64(PQgetvalue(res, 0, 4), &out.safe_wal_size, err));
    (void)snprintf(out.invalidation_reason, sizeof out.invalidation_reason, "%s",
                   PQgetvalue(res, 0, 5));
    *ret = out;
    return WA_OK;
}

wa_status
wa_pg_slot_query(wa_pg_conn *conn, const char *slot, wa_pg_slot *ret, wa_error *err)
{
    WA_CLEANUP(wa_freep) char *literal = wa_pg_quote_literal(slot);
    const char *reason = wa_pg_major(conn) >= 17 ? "invalidation_reason" : "NULL::text";
    WA_CLEANUP(wa_freep)
    char *sql = wa_format("SELECT slot_type, active, restart_lsn, wal_status, safe_wal_size, %s "
                          "FROM pg_catalog.pg_replication_slots WHERE slot_name = %s",
                          reason, literal);
    WA_CLEANUP(wa_pg_clearp) PGresult *res = NULL;
    WA_TRY(run(conn, sql, "look up", slot, &res, err));
    if (PQresultStatus(res) == PGRES_TUPLES_OK && PQntuples(res) == 0) {
        *ret = (wa_pg_slot){.safe_wal_size = -1};
        return WA_OK;
    }
    WA_TRY(wa_pg_expect_row(res, 6, "a query of pg_replication_slots", err));
    if (parse_slot_row(res, ret, err) != WA_OK)
        return wa_error_wrap(err, "could not look up replication slot \"%s\"", slot);
    return WA_OK;
}

wa_status
wa_pg_slot_create(wa_pg_conn *repl, const char *slot, wa_error *err)
{
    WA_CLEANUP(wa_freep) char *ident = wa_pg_quote_ident(slot);
    WA_CLEANUP(wa_freep)
    char *sql = wa_format("CREATE_REPLICATION_SLOT %s PHYSICAL RESERVE_WAL", ident);
    WA_CLEANUP(wa_pg_clearp) PGresult *res = NULL;
    return run(repl, sql, "create", slot, &res, err);
}

wa_status
wa_pg_slot_drop(wa_pg_conn *repl, const char *slot, wa_error *err)
{
    WA_CLEANUP(wa_freep) char *ident = wa_pg_quote_ident(slot);
    WA_CLEANUP(wa_freep) char *sql = wa_format("DROP_REPLICATION_SLOT %s", ident);
    WA_CLEANUP(wa_pg_clearp) PGresult *res = NULL;
    return run(repl, sql, "drop", slot, &res, err);
}

wa_status
wa_pg_slot_advance(wa_pg_conn *conn, const char *slot, wa_lsn lsn, wa_error *err)
{
    char text[WA_LSN_TEXT];
    WA_CLEANUP(wa_freep) char *literal = wa_pg_quote_literal(slot);
    /* CASE keeps the server from being asked to go backwards, which is an error there. */
    WA_CLEANUP(wa_freep)
    char *sql = wa_format(
        "SELECT CASE WHEN restart_lsn < '%s'::pg_lsn "
        "THEN (pg_catalog.pg_replication_slot_advance(slot_name, '%s'::pg_lsn)).end_lsn END "
        "FROM pg_catalog.pg_replication_slots WHERE slot_name = %s",
        wa_lsn_format(lsn, text), text, literal);
    WA_CLEANUP(wa_pg_clearp) PGresult *res = NULL;
    WA_TRY(run(conn, sql, "advance", slot, &res, err));
    if (PQntuples(res) == 0)
        return wa_error_set(err, WA_NOT_FOUND, "replication slot \"%s\" does not exist", slot);
    return WA_OK;
}
