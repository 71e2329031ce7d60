/*
 * single_writer.c - a repository whose store has no conditional PUT: what can't be safe is refused.
 *
 * Create-only is then a look before a write. A second agent could overwrite what the first has
 * acknowledged, so it doesn't write at all; and a commit must not rely on a chunk that somebody may
 * have overwritten, so the server is told no flush position while it counts this agent among its
 * synchronous standbys (to PostgreSQL a standby without one is asynchronous). Archiving goes on;
 * the slot stays where it is.
 */
#include "streamer_internal.h"

#include "walagent/base/file.h"

#include <string.h>

#define QUERY_MS 3000

wa_status
wa_single_writer_refuse_second(wa_streamer *s, wa_error *err)
{
    if (!s->cluster.single_writer)
        return WA_OK;
    WA_CLEANUP(wa_freep) char *path = wa_path_join(wa_spool_dir(s->spool), "writer");
    wa_error_set(err, WA_UNSUPPORTED,
                 "%s has no conditional PUT, so only one agent may write it, and that is %s",
                 wa_repo_name(s->repo), s->lineage->writer);
    return wa_error_hint(
        err,
        "If that agent is gone for good, let this one take its place: write \"%s\" "
        "into \"%s\" and start it again.",
        s->lineage->writer, path);
}

static wa_status
is_listed(wa_pg_conn *conn, int pid, bool *ret, wa_error *err)
{
    WA_CLEANUP(wa_pg_clearp) PGresult *res = NULL;
    WA_CLEANUP(wa_freep)
    char *sql = wa_format("SELECT EXISTS (SELECT FROM pg_catalog.pg_stat_activity a, "
                          "pg_catalog.regexp_split_to_table(pg_catalog.current_setting("
                          "'synchronous_standby_names'), '[\\s,()\"]+') n WHERE a.pid = %d AND "
                          "(n = '*' OR lower(n) = lower(a.application_name)))",
                          pid);
    WA_TRY(wa_pg_query(conn, sql, QUERY_MS, &res, err));
    *ret = PQntuples(res) == 1 && strcmp(PQgetvalue(res, 0, 0), "t") == 0;
    return WA_OK;
}

wa_status
wa_single_writer_look(wa_streamer *s, wa_pg_conn *conn, int pid, wa_error *err)
{
    bool listed = false;
    if (!s->cluster.single_writer)
        return WA_OK;
    WA_TRY(is_listed(conn, pid, &listed, err));
    if (listed)
        wa_streamer_event(s, "synchronous-refused", WA_LOG_ERROR,
                          "Take it out of synchronous_standby_names, or use a store with "
                          "conditional PUT.",
                          "%s has no conditional PUT: synchronous mode is refused, no position is "
                          "acknowledged, and the slot keeps WAL on server %s",
                          wa_repo_name(s->repo), PQhost(wa_pg_raw(conn)));
    WA_LOCK(&s->mutex);
    s->synchronous_refused = listed;
    wa_streamer_wake(s);
    return WA_OK;
}
