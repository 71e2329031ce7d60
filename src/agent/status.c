/*
 * status.c - what the running agent knows of itself, as JSON.
 */
#include "agent_internal.h"

#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#define READY_LAG_MS 60000 /* received and not durable for longer: not ready */

static void
set_lsn(json_t *obj, const char *key, wa_lsn lsn)
{
    char text[WA_LSN_TEXT];
    wa_json_set_string(obj, key, lsn == 0 ? NULL : wa_lsn_format(lsn, text));
}

static void
set_time(json_t *obj, const char *key, wa_time time)
{
    char text[WA_TIME_TEXT];
    wa_json_set_string(
        obj, key, time == WA_TIME_NONE || time == 0 ? NULL : wa_time_format_rfc3339(time, text));
}

static json_t *
stream_json(const wa_streamer_status *s)
{
    char branch[WA_BRANCH_TEXT];
    json_t *json = json_object();
    wa_json_set_string(json, "state", wa_stream_state_name(s->state));
    wa_json_set_string(json, "host", s->host[0] ? s->host : NULL);
    wa_json_set_string(json, "branch",
                       s->branch.tli != 0 ? wa_branch_format(&s->branch, branch) : NULL);
    wa_json_set_i64(json, "timeline", s->branch.tli);
    wa_json_set_u64(json, "epoch", s->epoch);
    wa_json_set_bool(json, "synchronous", s->synchronous);
    set_lsn(json, "began_lsn", s->began);
    set_lsn(json, "received_lsn", s->received);
    set_lsn(json, "spooled_lsn", s->spooled);
    set_lsn(json, "durable_lsn", s->durable);
    set_lsn(json, "server_end_lsn", s->server_end);
    set_time(json, "received_time", s->received_time);
    set_time(json, "durable_time", s->durable_time);
    wa_json_set_u64(json, "lag_bytes", s->lag_bytes);
    wa_json_set_u64(json, "lag_limit_bytes", s->lag_limit);
    wa_json_set_u64(json, "lag_ms", s->lag_ms);
    wa_json_set_u64(json, "lag_commits", s->lag_commits);
    wa_json_set_u64(json, "reconnects", s->reconnects);
    wa_json_set_u64(json, "conflicts", s->conflicts);
    wa_json_set_u64(json, "damaged", s->damaged);
    wa_json_set_u64(json, "segments_archived", s->segments_archived);
    wa_json_set_u64(json, "chunks_archived", s->chunks_archived);
    wa_json_set_u64(json, "bytes_received", s->bytes_received);
    wa_json_set_u64(json, "bytes_stored", s->bytes_stored);
    if (s->hole_begin != 0) {
        json_t *hole = json_object();
        set_lsn(hole, "begin_lsn", s->hole_begin);
        set_lsn(hole, "end_lsn", s->hole_end);
        wa_json_set(json, "hole", hole);
    }
    wa_json_set_string(json, "last_error", s->last_error[0] ? s->last_error : NULL);
    set_time(json, "last_error_time", s->last_error_time);
    return json;
}

static json_t *
slot_json(const wa_streamer_status *s)
{
    json_t *json = json_object();
    set_lsn(json, "restart_lsn", s->slot_restart);
    wa_json_set_string(json, "wal_status", s->slot_status[0] ? s->slot_status : NULL);
    if (s->slot_safe_wal_size >= 0)
        wa_json_set_i64(json, "safe_wal_size", s->slot_safe_wal_size);
    return json;
}

json_t *
wa_agent_status(wa_agent *agent)
{
    WA_LOCK(&agent->mutex);
    json_t *json = json_object();
    wa_json_set_string(json, "cluster", wa_config_string(agent->config, "cluster", "name"));
    wa_json_set_string(json, "version", agent->options->version);
    wa_json_set_i64(json, "pid", getpid());
    set_time(json, "started", agent->started);
    wa_json_set_string(json, "repository", wa_config_string(agent->config, "repository", "url"));
    wa_json_set_string(json, "waiting_for", agent->waiting_for[0] ? agent->waiting_for : NULL);
    if (agent->repo != NULL) {
        WA_CLEANUP(wa_freep)
        char *id = wa_format("%" PRIu64, wa_repo_cluster(agent->repo)->system_identifier);
        wa_json_set_string(json, "system_identifier", id);
        wa_json_set_i64(json, "major", wa_repo_cluster(agent->repo)->major);
        wa_json_set(json, "repositories", wa_agent_repositories_json(agent));
    }
    if (agent->streamer != NULL) {
        wa_streamer_status s;
        wa_streamer_get_status(agent->streamer, &s);
        wa_json_set(json, "stream", stream_json(&s));
        wa_json_set(json, "slot", slot_json(&s));
        json_t *spool = json_object();
        wa_json_set_u64(spool, "bytes", s.spool_bytes);
        wa_json_set_u64(spool, "max_bytes", s.spool_max);
        wa_json_set(json, "spool", spool);
    }
    return json;
}

bool
wa_agent_is_ready(wa_agent *agent, char *reason, size_t size)
{
    WA_LOCK(&agent->mutex);
    if (agent->streamer == NULL) {
        snprintf(reason, size, "%s",
                 agent->waiting_for[0] ? agent->waiting_for : "not streaming yet");
        return false;
    }
    wa_streamer_status s;
    wa_streamer_get_status(agent->streamer, &s);
    /* A waiting agent is healthy: another one is the writer. */
    if (s.state != WA_STREAM_STREAMING && s.state != WA_STREAM_SWITCHING &&
        s.state != WA_STREAM_WAITING) {
        snprintf(reason, size, "%s%s%s", wa_stream_state_name(s.state), s.last_error[0] ? ": " : "",
                 s.last_error);
        return false;
    }
    if (s.lag_ms > READY_LAG_MS) {
        snprintf(reason, size, "WAL received %" PRIu64 " s ago is not durable yet",
                 s.lag_ms / 1000);
        return false;
    }
    if (size > 0)
        reason[0] = '\0';
    return true;
}
