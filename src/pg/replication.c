/*
 * replication.c - identify the server, receive WAL, report positions.
 *
 * CopyData messages from the server (all integers big-endian, times in microseconds since 2000):
 *   'w'  u64 start, u64 server's end, i64 time, then WAL bytes
 *   'k'  u64 server's end, i64 time, u8 1: answer at once
 * to the server:
 *   'r'  u64 write, u64 flush, u64 apply, i64 time, u8 1: answer at once     (34 bytes)
 * LSNs that the server takes for "written up to" are the position after the last byte.
 */
#include "walagent/pg/replication.h"

#include "conn_internal.h"
#include "walagent/base/bytes.h"

#include <poll.h>
#include <string.h>

#define WAL_HEADER 25
#define KEEPALIVE_SIZE 18
#define STATUS_SIZE 34
#define STATUS_TIMEOUT_MS 10000

wa_status
wa_pg_identify(wa_pg_conn *repl, wa_pg_system *ret, wa_error *err)
{
    WA_CLEANUP(wa_pg_clearp) PGresult *res = NULL;
    wa_pg_system out = {.major = wa_pg_major(repl)};
    uint64_t tli = 0;
    WA_TRY(wa_pg_query(repl, "IDENTIFY_SYSTEM", 0, &res, err));
    WA_TRY(wa_pg_expect_row(res, 3, "IDENTIFY_SYSTEM", err));
    WA_TRY(wa_parse_u64(PQgetvalue(res, 0, 0), &out.system_identifier, err));
    WA_TRY(wa_parse_u64(PQgetvalue(res, 0, 1), &tli, err));
    WA_TRY(wa_lsn_parse(PQgetvalue(res, 0, 2), &out.flush, err));
    WA_CLEANUP(wa_freep) char *size = NULL;
    WA_TRY(wa_pg_show(repl, "wal_segment_size", &size, err));
    WA_TRY(wa_parse_size(size, &out.segment_size, err));
    if (tli == 0 || tli > UINT32_MAX || !wa_segment_size_valid(out.segment_size))
        return wa_error_set(err, WA_CORRUPT,
                            "unexpected answer to IDENTIFY_SYSTEM: timeline %s, "
                            "segment size %s",
                            PQgetvalue(res, 0, 1), size);
    out.tli = (wa_tli)tli;
    *ret = out;
    return WA_OK;
}

wa_status
wa_pg_in_recovery(wa_pg_conn *conn, bool *ret, wa_error *err)
{
    /* The server computes the parameter when it is shown, so that a promotion is seen at once. */
    WA_CLEANUP(wa_freep) char *value = NULL;
    WA_TRY(wa_pg_show(conn, "in_hot_standby", &value, err));
    *ret = strcmp(value, "on") == 0;
    return WA_OK;
}

wa_status
wa_pg_timeline_history(wa_pg_conn *repl, wa_tli tli, wa_buf *ret, wa_error *err)
{
    WA_CLEANUP(wa_freep) char *sql = wa_format("TIMELINE_HISTORY %u", tli);
    WA_CLEANUP(wa_pg_clearp) PGresult *res = NULL;
    if (wa_pg_query(repl, sql, 0, &res, err) != WA_OK)
        return wa_error_wrap(err, "could not get the history of timeline %u", tli);
    WA_TRY(wa_pg_expect_row(res, 2, "TIMELINE_HISTORY", err));
    return wa_buf_append(ret, PQgetvalue(res, 0, 1), (size_t)PQgetlength(res, 0, 1), err);
}

/*
 * The server's refusals of a start have no SQLSTATE of their own and may be translated; the C
 * function that raised them is not. "Not in this server's history" comes with a detail (the fork),
 * "ahead of the WAL flush position" without.
 */
static wa_status
refine_start_error(wa_pg_conn *conn, const PGresult *res, wa_error *err)
{
    wa_status status = wa_pg_result_error(conn, res, err);
    const char *function = PQresultErrorField(res, PG_DIAG_SOURCE_FUNCTION);
    if (strcmp(conn->sqlstate, "XX000") != 0 || function == NULL)
        return status;
    if (strcmp(function, "tliSwitchPoint") == 0)
        err->status = WA_CONFLICT;
    else if (strcmp(function, "StartReplication") == 0)
        err->status =
            PQresultErrorField(res, PG_DIAG_MESSAGE_DETAIL) != NULL ? WA_CONFLICT : WA_INVALID;
    return err->status;
}

/* The next result with refined errors. After an error the connection is idle again. */
static wa_status
stream_result(wa_pg_conn *conn, wa_cancel *cancel, wa_mono deadline, PGresult **ret, wa_error *err)
{
    while (PQisBusy(conn->pg)) {
        wa_pg_ready ready = WA_PG_READY_NOTHING;
        wa_status status =
            wa_pg_wait(conn, POLLIN, cancel, -1, wa_mono_left(deadline), &ready, err);
        if (status == WA_OK && ready == WA_PG_READY_NOTHING)
            status =
                wa_error_set(err, WA_UNAVAILABLE, "server %s did not answer in time", conn->host);
        if (status != WA_OK) {
            conn->broken = true;
            return status;
        }
        if (PQconsumeInput(conn->pg) == 0)
            return wa_pg_conn_error(conn, err);
    }
    WA_CLEANUP(wa_pg_clearp) PGresult *res = PQgetResult(conn->pg);
    if (res != NULL && PQresultStatus(res) == PGRES_FATAL_ERROR) {
        wa_status status = refine_start_error(conn, res, err);
        wa_error ignored = WA_ERROR_INIT;
        conn->stream = WA_PG_IDLE;
        if (!conn->broken && wa_pg_drain(conn, cancel, deadline, &ignored) != WA_OK &&
            PQstatus(conn->pg) == CONNECTION_BAD)
            conn->broken = true;
        return status;
    }
    if (res == NULL && PQstatus(conn->pg) == CONNECTION_BAD)
        return wa_pg_conn_error(conn, err);
    *ret = WA_TAKE(res);
    return WA_OK;
}

/* The result (next_tli, next_tli_startpos) at a timeline's end, and what follows it. */
static wa_status
take_timeline_end(wa_pg_conn *conn, const PGresult *res, wa_cancel *cancel, wa_mono deadline,
                  wa_error *err)
{
    uint64_t tli = 0;
    wa_lsn start = 0;
    WA_TRY(wa_pg_expect_row(res, 2, "START_REPLICATION at the end of a timeline", err));
    WA_TRY(wa_parse_u64(PQgetvalue(res, 0, 0), &tli, err));
    WA_TRY(wa_lsn_parse(PQgetvalue(res, 0, 1), &start, err));
    if (tli == 0 || tli > UINT32_MAX)
        return wa_error_set(err, WA_CORRUPT, "server %s announced timeline %s as the next",
                            conn->host, PQgetvalue(res, 0, 0));
    WA_TRY(wa_pg_drain(conn, cancel, deadline, err));
    conn->next_tli = (wa_tli)tli;
    conn->next_start = start;
    conn->stream = WA_PG_END_PENDING;
    return WA_OK;
}

wa_status
wa_pg_stream_start(wa_pg_conn *repl, const char *slot, wa_lsn start, wa_tli tli, wa_error *err)
{
    char lsn[WA_LSN_TEXT];
    WA_CLEANUP(wa_freep) char *ident = slot != NULL ? wa_pg_quote_ident(slot) : NULL;
    WA_CLEANUP(wa_freep)
    char *sql =
        wa_format("START_REPLICATION %s%s PHYSICAL %s TIMELINE %u", slot != NULL ? "SLOT " : "",
                  slot != NULL ? ident : "", wa_lsn_format(start, lsn), tli);
    wa_mono deadline = wa_mono_now() + WA_PG_COMMAND_TIMEOUT_MS;
    WA_CLEANUP(wa_pg_clearp) PGresult *res = NULL;
    wa_status status = wa_pg_send(repl, sql, repl->cancel, deadline, err);
    if (status == WA_OK)
        status = stream_result(repl, repl->cancel, deadline, &res, err);
    if (status == WA_OK && PQresultStatus(res) == PGRES_COPY_BOTH) {
        repl->stream = WA_PG_STREAMING;
        return WA_OK;
    }
    if (status == WA_OK)
        status = take_timeline_end(repl, res, repl->cancel, deadline, err);
    if (status != WA_OK)
        return wa_error_wrap(err, "could not start streaming at %s on timeline %u", lsn, tli);
    return WA_OK;
}

static wa_status
parse_message(const uint8_t *data, size_t len, wa_stream_message *ret, wa_error *err)
{
    wa_stream_message m = {0};
    if (data[0] == 'w' && len >= WAL_HEADER) {
        m.kind = WA_MSG_WAL;
        m.start = wa_get_u64be(data + 1);
        m.server_end = wa_get_u64be(data + 9);
        m.server_time = (wa_time)wa_get_u64be(data + 17);
        m.data = data + WAL_HEADER;
        m.len = len - WAL_HEADER;
    } else if (data[0] == 'k' && len >= KEEPALIVE_SIZE) {
        m.kind = WA_MSG_KEEPALIVE;
        m.server_end = wa_get_u64be(data + 1);
        m.server_time = (wa_time)wa_get_u64be(data + 9);
        m.reply_requested = data[17] != 0;
    } else {
        return wa_error_set(err, WA_CORRUPT,
                            "unexpected streaming message of type %d with %zu bytes", data[0], len);
    }
    *ret = m;
    return WA_OK;
}

static wa_status
hand_out_end(wa_pg_conn *conn, wa_stream_message *ret)
{
    *ret = (wa_stream_message){
        .kind = WA_MSG_TIMELINE_END, .next_tli = conn->next_tli, .next_start = conn->next_start};
    conn->stream = WA_PG_IDLE;
    return WA_OK;
}

/* The server's COPY ended: a timeline's end, a shutdown, or an error. */
static wa_status
finish_copy(wa_pg_conn *conn, wa_cancel *cancel, wa_stream_message *ret, wa_error *err)
{
    wa_mono deadline = wa_mono_now() + WA_PG_COMMAND_TIMEOUT_MS;
    WA_CLEANUP(wa_pg_clearp) PGresult *res = NULL;
    WA_TRY(stream_result(conn, cancel, deadline, &res, err));
    if (PQresultStatus(res) == PGRES_COPY_IN) {
        WA_TRY(wa_pg_copy_end(conn, cancel, deadline, err));
        PQclear(res);
        res = NULL;
        WA_TRY(stream_result(conn, cancel, deadline, &res, err));
    }
    if (PQresultStatus(res) == PGRES_TUPLES_OK) {
        WA_TRY(take_timeline_end(conn, res, cancel, deadline, err));
        return hand_out_end(conn, ret);
    }
    conn->broken = true;
    return wa_error_set(err, WA_UNAVAILABLE, "server %s ended the stream (it shuts down)",
                        conn->host);
}

wa_status
wa_pg_stream_receive(wa_pg_conn *repl, int timeout_ms, wa_cancel *cancel, int wake_fd,
                     wa_stream_message *ret, wa_error *err)
{
    if (repl->stream == WA_PG_END_PENDING)
        return hand_out_end(repl, ret);
    if (repl->stream != WA_PG_STREAMING || repl->broken)
        return wa_error_set(err, WA_UNAVAILABLE, "no stream from server %s", repl->host);
    int len = 0;
    WA_TRY(wa_pg_copy_get(repl, cancel, wake_fd, timeout_ms, &len, err));
    if (len < 0)
        return finish_copy(repl, cancel, ret, err);
    if (len == 0) {
        *ret = (wa_stream_message){.kind = WA_MSG_NONE};
        return WA_OK;
    }
    return parse_message((const uint8_t *)repl->copy_data, (size_t)len, ret, err);
}

wa_status
wa_pg_stream_status(wa_pg_conn *repl, wa_lsn write, wa_lsn flush, bool reply_requested,
                    wa_error *err)
{
    uint8_t message[STATUS_SIZE];
    message[0] = 'r';
    wa_put_u64be(message + 1, write);
    wa_put_u64be(message + 9, flush);
    /* Nothing is applied here: another value would let remote_apply commits return. */
    wa_put_u64be(message + 17, 0);
    wa_put_u64be(message + 25, (uint64_t)wa_time_now());
    message[33] = reply_requested ? 1 : 0;
    if (repl->stream != WA_PG_STREAMING || repl->broken)
        return wa_error_set(err, WA_UNAVAILABLE, "no stream from server %s", repl->host);
    return wa_pg_copy_put(repl, message, sizeof message, repl->cancel,
                          wa_mono_now() + STATUS_TIMEOUT_MS, err);
}

void
wa_pg_stream_stop(wa_pg_conn *repl, int timeout_ms)
{
    wa_mono deadline = wa_mono_now() + (wa_mono)(timeout_ms > 0 ? timeout_ms : 0);
    wa_error err = WA_ERROR_INIT;
    int len = 0;
    if (repl->stream != WA_PG_STREAMING || repl->broken ||
        wa_pg_copy_end(repl, NULL, deadline, &err) != WA_OK) {
        repl->broken = repl->broken || repl->stream == WA_PG_STREAMING;
        repl->stream = WA_PG_IDLE;
        return;
    }
    do {
        if (wa_pg_copy_get(repl, NULL, -1, wa_mono_left(deadline), &len, &err) != WA_OK || len == 0)
            repl->broken = true;
    } while (!repl->broken && len > 0);
    repl->stream = WA_PG_IDLE;
    if (!repl->broken && wa_pg_drain(repl, NULL, deadline, &err) != WA_OK)
        repl->broken = true;
}
