/*
 * check_arrival.c - does WAL arrive? Write a record on the server, and wait until the archive holds
 * it.
 */
#include "check_internal.h"

#include "walagent/repo/branch.h"
#include "walagent/repo/lineage.h"
#include "walagent/repo/tail.h"

#define QUERY_TIMEOUT_MS 10000
#define POLL_MS 200

/* A transactional message is flushed at commit and needs no privilege; archive_command gets to see
 * it only after a switch, which may be denied. */
static wa_status
write_record(check *c, bool *ret_switched, wa_lsn *ret, wa_error *err)
{
    WA_CLEANUP(wa_pg_clearp) PGresult *written = NULL;
    WA_TRY(wa_pg_query(c->conn, "SELECT pg_logical_emit_message(true, 'walagent', 'check')",
                       QUERY_TIMEOUT_MS, &written, err));
    WA_CLEANUP(wa_pg_clearp) PGresult *end = NULL;
    WA_TRY(wa_pg_query(c->conn, "SELECT pg_current_wal_flush_lsn()", QUERY_TIMEOUT_MS, &end, err));
    WA_TRY(wa_lsn_parse(PQgetvalue(end, 0, 0), ret, err));
    WA_CLEANUP(wa_pg_clearp) PGresult *switched = NULL;
    *ret_switched =
        wa_pg_query(c->conn, "SELECT pg_switch_wal()", QUERY_TIMEOUT_MS, &switched, err) == WA_OK;
    wa_error_clear(err);
    return WA_OK;
}

static wa_status
find_branch(check *c, wa_branch *ret, wa_error *err)
{
    wa_repo *repo = c->options->repo;
    WA_CLEANUP(wa_lineage_freep) wa_lineage *lineage = NULL;
    WA_TRY(wa_lineage_load(repo, &lineage, err));
    const wa_branch *branch = wa_lineage_branch_of_tli(lineage, c->system.tli);
    if (branch != NULL) {
        *ret = *branch;
        return WA_OK;
    }
    if (c->system.tli == 1) {
        *ret = wa_branch_of(wa_repo_cluster(repo)->system_identifier, 1, NULL, 0, NULL, 0);
        return WA_OK;
    }
    wa_error_set(err, WA_NOT_FOUND, "timeline %u is not accepted in the archive", c->system.tli);
    return wa_error_hint(err, "Start the agent, or see \"walagent lineage adopt\".");
}

static wa_status
is_there(check *c, const wa_branch *branch, wa_lsn lsn, bool *ret, wa_error *err)
{
    wa_repo *repo = c->options->repo;
    wa_segno segno = wa_segno_of(lsn - 1, wa_repo_cluster(repo)->segment_size);
    wa_wal_info info;
    wa_status status = wa_wal_head(repo, branch, segno, &info, err);
    wa_lsn end = 0;
    if (status == WA_NOT_FOUND) {
        wa_error_clear(err);
        status = wa_tail_end(repo, branch, segno, &end, NULL, err);
        if (status == WA_NOT_FOUND) {
            wa_error_clear(err);
            status = WA_OK;
        }
        *ret = status == WA_OK && end >= lsn;
        return status;
    }
    *ret = status == WA_OK;
    return status;
}

wa_status
wa_check_arrival(check *c, wa_error *err)
{
    static const char *const what = "wal-arrives";
    if (c->conn == NULL || !c->repo_loaded)
        return WA_OK;
    if (c->in_recovery) {
        wa_check_add(c, WA_VERDICT_WARNING, what, "Point conninfo at the primary as well.",
                     "not tried: the server is in recovery and can't write WAL");
        return WA_OK;
    }
    wa_error problem = WA_ERROR_INIT;
    wa_branch branch;
    wa_lsn lsn = 0;
    bool switched = false;
    if (write_record(c, &switched, &lsn, &problem) != WA_OK ||
        find_branch(c, &branch, &problem) != WA_OK) {
        wa_check_add_error(c, WA_VERDICT_FAILED, what, &problem);
        return WA_OK;
    }
    if (!switched && !c->streams) {
        wa_check_add(c, WA_VERDICT_WARNING, what,
                     "GRANT EXECUTE ON FUNCTION pg_switch_wal() to the role.",
                     "not tried: the role may not switch WAL, and no agent streams");
        return WA_OK;
    }
    wa_mono begin = wa_mono_now(), deadline = begin + c->options->arrive_timeout_ms;
    char text[WA_LSN_TEXT];
    for (;;) {
        bool there = false;
        wa_status status = is_there(c, &branch, lsn, &there, &problem);
        if (there) {
            wa_check_add(c, WA_VERDICT_OK, what, NULL,
                         "a WAL record written at %s was in the archive after %.1f s",
                         wa_lsn_format(lsn, text), (double)(wa_mono_now() - begin) / 1000);
            return WA_OK;
        }
        if (wa_mono_now() >= deadline) {
            if (status != WA_OK)
                wa_check_add_error(c, WA_VERDICT_FAILED, what, &problem);
            else
                wa_check_add(c, WA_VERDICT_FAILED, what,
                             "See \"walagent status\" and the server's log.",
                             "a WAL record written at %s did not arrive in the archive in time",
                             wa_lsn_format(lsn, text));
            return WA_OK;
        }
        wa_error_clear(&problem);
        WA_TRY(wa_cancel_sleep(c->options->cancel, POLL_MS, err));
    }
}
