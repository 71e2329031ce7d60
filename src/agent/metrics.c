/*
 * metrics.c - the agent's numbers in Prometheus' text format.
 *
 * walagent_ prefix, base units, totals in _total, times of events as _timestamp_seconds, positions
 * as plain numbers. No label of unbounded range. Source: Prometheus documentation, "Exposition
 * formats".
 */
#include "agent_internal.h"

#include "walagent/base/buf.h"
#include "walagent/base/log.h"
#include "walagent/store/mirror.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void
head(wa_buf *out, const char *name, const char *type, const char *help)
{
    wa_buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void
gauge(wa_buf *out, const char *name, const char *help, uint64_t value)
{
    head(out, name, "gauge", help);
    wa_buf_printf(out, "%s %" PRIu64 "\n", name, value);
}

static void
counter(wa_buf *out, const char *name, const char *help, uint64_t value)
{
    head(out, name, "counter", help);
    wa_buf_printf(out, "%s %" PRIu64 "\n", name, value);
}

static void
seconds(wa_buf *out, const char *name, const char *help, double value)
{
    head(out, name, "gauge", help);
    wa_buf_printf(out, "%s %.6f\n", name, value);
}

static void
timestamp(wa_buf *out, const char *name, const char *help, wa_time t)
{
    if (t == WA_TIME_NONE || t == 0)
        return;
    seconds(out, name, help, (double)wa_time_to_unix_us(t) / 1e6);
}

static void
states(wa_buf *out, wa_stream_state state)
{
    head(out, "walagent_stream_state", "gauge", "1 for the state the streamer is in.");
    for (wa_stream_state s = WA_STREAM_STARTING; s <= WA_STREAM_STOPPED; s++)
        wa_buf_printf(out, "walagent_stream_state{state=\"%s\"} %d\n", wa_stream_state_name(s),
                      s == state);
}

static void
stream_metrics(wa_buf *out, const wa_streamer_status *s)
{
    states(out, s->state);
    gauge(out, "walagent_received_lsn_bytes", "End of the WAL received, as a number of bytes.",
          s->received);
    gauge(out, "walagent_spooled_lsn_bytes", "End of the WAL fsynced in the spool.", s->spooled);
    gauge(out, "walagent_durable_lsn_bytes",
          "End of the WAL durable in the repository (what flush reports).", s->durable);
    gauge(out, "walagent_server_lsn_bytes", "End of the server's WAL as it last said.",
          s->server_end);
    gauge(out, "walagent_lag_bytes", "WAL of the server that is not durable in the repository.",
          s->lag_bytes);
    gauge(out, "walagent_lag_limit_bytes",
          "Lag at which the spool is full or the server invalidates the slot.", s->lag_limit);
    seconds(out, "walagent_lag_seconds", "Age of the oldest received byte that is not durable.",
            (double)s->lag_ms / 1000);
    gauge(out, "walagent_lag_commits", "Commits received and not durable.", s->lag_commits);
    gauge(out, "walagent_timeline", "Timeline streamed.", s->branch.tli);
    gauge(out, "walagent_epoch", "The writer's epoch.", s->epoch);
    gauge(out, "walagent_synchronous", "1 when the server waits for this agent's flush.",
          s->synchronous);
    gauge(out, "walagent_spool_bytes", "Bytes in the spool.", s->spool_bytes);
    gauge(out, "walagent_spool_max_bytes", "Limit of the spool.", s->spool_max);
    counter(out, "walagent_received_bytes_total", "WAL bytes received.", s->bytes_received);
    counter(out, "walagent_stored_bytes_total", "Bytes of WAL objects written to the repository.",
            s->bytes_stored);
    counter(out, "walagent_segments_archived_total", "Whole segments archived.",
            s->segments_archived);
    counter(out, "walagent_chunks_archived_total", "Tail chunks archived.", s->chunks_archived);
    counter(out, "walagent_reconnects_total", "Connections to the server that were made again.",
            s->reconnects);
    counter(out, "walagent_conflicts_total", "Objects that met other content under their name.",
            s->conflicts);
    counter(out, "walagent_damaged_records_total",
            "WAL that the server sent identically twice and that fails its checks.", s->damaged);
    gauge(out, "walagent_hole_bytes", "Size of the newest declared hole, 0: none.",
          s->hole_end - s->hole_begin);
    if (s->slot_safe_wal_size >= 0)
        gauge(out, "walagent_slot_safe_wal_bytes",
              "WAL the server can write before the slot is lost.", (uint64_t)s->slot_safe_wal_size);
    timestamp(out, "walagent_last_durable_timestamp_seconds",
              "When the durable position last moved.", s->durable_time);
    timestamp(out, "walagent_last_received_timestamp_seconds", "When WAL was last received.",
              s->received_time);
    timestamp(out, "walagent_last_error_timestamp_seconds", "When the streamer last met an error.",
              s->last_error_time);
}

/* Resident and proportional memory of this process, from the kernel. */
static void
memory_metrics(wa_buf *out)
{
    FILE *f = fopen("/proc/self/smaps_rollup", "re");
    if (f == NULL)
        return;
    char line[256];
    unsigned long long kb = 0;
    while (fgets(line, sizeof line, f) != NULL)
        if (strncmp(line, "Pss:", 4) == 0) {
            kb = strtoull(line + 4, NULL, 10);
            break;
        }
    fclose(f);
    gauge(out, "walagent_process_pss_bytes", "Proportional set size of the agent.", kb * 1024);
}

static void
mirror_metrics(const wa_agent *agent, wa_buf *out)
{
    const wa_store *store = wa_repo_store(agent->repo);
    size_t count = wa_store_members(store);
    wa_member_status s;
    if (count == 1)
        return;
    head(out, "walagent_mirror_up", "gauge", "1 when the mirror's last call was answered.");
    for (size_t i = 1; i < count; i++) {
        wa_store_member_status(store, i, &s);
        wa_buf_printf(out, "walagent_mirror_up{repository=\"%s\"} %d\n", s.name, s.up);
    }
    head(out, "walagent_mirror_copied_objects_total", "counter",
         "Objects that were brought to the mirror after the fact.");
    for (size_t i = 1; i < count; i++) {
        wa_store_member_status(store, i, &s);
        wa_buf_printf(out, "walagent_mirror_copied_objects_total{repository=\"%s\"} %" PRIu64 "\n",
                      s.name, s.copied);
    }
    head(out, "walagent_mirror_missing_objects", "gauge",
         "Objects that the mirror lacked, or had with other bytes, when it was last compared.");
    for (size_t i = 1; i < count && i < WA_MIRRORS_MAX; i++) {
        wa_store_member_status(store, i, &s);
        if (agent->mirrors[i].compared != 0)
            wa_buf_printf(out, "walagent_mirror_missing_objects{repository=\"%s\"} %" PRIu64 "\n",
                          s.name, agent->mirrors[i].missing + agent->mirrors[i].different);
    }
}

void
wa_agent_metrics(wa_agent *agent, wa_buf *out)
{
    WA_LOCK(&agent->mutex);
    head(out, "walagent_info", "gauge", "Version of the agent.");
    wa_buf_printf(out, "walagent_info{version=\"%s\"} 1\n", agent->options->version);
    timestamp(out, "walagent_start_timestamp_seconds", "When the agent started.", agent->started);
    gauge(out, "walagent_repository_up", "1 when the repository's cluster entry was read.",
          agent->repo != NULL);
    head(out, "walagent_log_lines_total", "counter", "Log lines by level.");
    wa_buf_printf(out, "walagent_log_lines_total{level=\"warning\"} %lu\n",
                  wa_log_count(WA_LOG_WARNING));
    wa_buf_printf(out, "walagent_log_lines_total{level=\"error\"} %lu\n",
                  wa_log_count(WA_LOG_ERROR));
    memory_metrics(out);
    if (agent->repo != NULL)
        mirror_metrics(agent, out);
    if (agent->repo != NULL) {
        static const char *const kinds[] = {"put", "get", "head", "list", "delete"};
        const wa_store *store = wa_store_member(wa_repo_store(agent->repo), 0);
        head(out, "walagent_store_requests_total", "counter",
             "Requests to the main repository's store by kind.");
        for (size_t i = 0; i < WA_ARRAY_SIZE(kinds); i++)
            wa_buf_printf(out, "walagent_store_requests_total{kind=\"%s\"} %" PRIu64 "\n", kinds[i],
                          wa_store_requests(store, kinds[i]));
    }
    if (agent->streamer == NULL)
        return;
    wa_streamer_status s;
    wa_streamer_get_status(agent->streamer, &s);
    stream_metrics(out, &s);
}
