/*
 * check_synchronous.c - the preflight's look at synchronous mode: does the server make its commits
 * wait for the agent, and can the agent give them what they wait for?
 */
#include "check_internal.h"

#include <stdlib.h>
#include <string.h>

#define QUERY_TIMEOUT_MS 10000

/* The agent's name as the server sees it (the default one while none streams), whether the setting
 * lists it, and where remote_apply is in force. */
#define QUERY                                                                                      \
    "WITH agent AS (SELECT coalesce((SELECT r.application_name FROM pg_stat_replication r JOIN "   \
    "pg_replication_slots s ON s.active_pid = r.pid WHERE s.slot_name = %s), 'walagent') AS "      \
    "name) SELECT name, EXISTS (SELECT FROM "                                                      \
    "regexp_split_to_table(current_setting('synchronous_standby_names'), '[\\s,()\"]+') n WHERE "  \
    "n = '*' OR lower(n) = lower(name)), coalesce((SELECT 'the server' FROM pg_settings WHERE "    \
    "pg_settings.name = 'synchronous_commit' AND setting = 'remote_apply'), (SELECT "              \
    "'a role or a database' FROM pg_db_role_setting WHERE 'synchronous_commit=remote_apply' = "    \
    "ANY (setconfig) LIMIT 1)) FROM agent"

void
wa_check_synchronous(check *c)
{
    wa_error err = WA_ERROR_INIT;
    WA_CLEANUP(wa_pg_clearp) PGresult *r = NULL;
    if (c->conn == NULL || c->options->slot == NULL)
        return;
    WA_CLEANUP(wa_freep) char *slot = wa_pg_quote_literal(c->options->slot);
    WA_CLEANUP(wa_freep) char *sql = wa_format(QUERY, slot);
    if (wa_pg_query(c->conn, sql, QUERY_TIMEOUT_MS, &r, &err) != WA_OK) {
        wa_check_add_error(c, WA_VERDICT_WARNING, "synchronous", &err);
        return;
    }
    const char *name = PQgetvalue(r, 0, 0);
    if (strcmp(PQgetvalue(r, 0, 1), "t") != 0)
        return;
    if (c->repo_loaded && wa_repo_cluster(c->options->repo)->single_writer)
        wa_check_add(
            c, WA_VERDICT_FAILED, "synchronous",
            "Take it out of synchronous_standby_names, or use a store with conditional "
            "PUT.",
            "synchronous_standby_names lists \"%s\", but the store has no conditional PUT: "
            "the agent refuses synchronous mode and lets no commit return",
            name);
    else if (!PQgetisnull(r, 0, 2))
        wa_check_add(c, WA_VERDICT_FAILED, "synchronous",
                     "Set synchronous_commit to on or remote_write.",
                     "synchronous_standby_names lists \"%s\" and synchronous_commit of %s is "
                     "remote_apply: an archive applies nothing, such commits wait for ever",
                     name, PQgetvalue(r, 0, 2));
    else
        wa_check_add(c, WA_VERDICT_OK, "synchronous", NULL,
                     "commits may wait for \"%s\": those that do are in the repository", name);
}
