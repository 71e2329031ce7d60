/*
 * branch_stream.c - the branch of a server's timeline, by the first record behind the fork, which
 * the server is asked for.
 *
 * The segment that holds the fork is streamed without a slot until the record is whole. The hooks
 * read the same record from pg_wal (branch_of.c), and so agree on the branch.
 */
#include "branch_of_internal.h"

#include "walagent/pg/replication.h"

#include <string.h>

#define CONNECT_MS 5000
#define RECORD_MS 10000 /* a server that has begun a timeline has written its first record */

/* Take what the stream brings until the record is whole, or nothing more of use can come. */
static wa_status
read_first(wa_pg_conn *conn, wa_walreader *r, wa_first_record *f, wa_cancel *cancel, wa_error *err)
{
    wa_mono deadline = wa_mono_now() + RECORD_MS;
    bool more = true;
    while (more) {
        wa_stream_message message;
        if (wa_mono_left(deadline) == 0)
            return wa_error_set(err, WA_UNAVAILABLE,
                                "server %s did not show its timeline's first record in time",
                                wa_pg_host(conn));
        WA_TRY(wa_cancel_check(cancel, err));
        WA_TRY(wa_pg_stream_receive(conn, 200, cancel, -1, &message, err));
        if (message.kind == WA_MSG_TIMELINE_END)
            return wa_error_set(err, WA_UNAVAILABLE, "server %s left its timeline meanwhile",
                                wa_pg_host(conn));
        if (message.kind == WA_MSG_KEEPALIVE && message.reply_requested)
            WA_TRY(wa_pg_stream_status(conn, 0, 0, false, err));
        if (message.kind == WA_MSG_WAL)
            WA_TRY(wa_first_record_feed(r, message.data, message.len, f, &more, err));
    }
    return WA_OK;
}

static wa_status
stream_first(wa_repo *repo, const char *conninfo, wa_tli tli, wa_cancel *cancel, wa_first_record *f,
             wa_error *err)
{
    uint64_t size = wa_repo_cluster(repo)->segment_size;
    wa_lsn start = wa_segment_start(wa_segno_of(f->from, size), size);
    WA_CLEANUP(wa_pg_closep) wa_pg_conn *conn = NULL;
    wa_pg_connect_options options = {.conninfo = conninfo,
                                     .replication = true,
                                     .options = "-c wal_sender_timeout=10s",
                                     .timeout_ms = CONNECT_MS,
                                     .cancel = cancel};
    WA_TRY(wa_pg_connect(&options, &conn, err));
    WA_CLEANUP(wa_walreader_freep) wa_walreader *r = wa_walreader_new(size);
    wa_walreader_expect_system(r, wa_repo_cluster(repo)->system_identifier);
    wa_walreader_lenient(r, true);
    wa_walreader_start(r, start, 0);
    wa_status status = wa_pg_stream_start(conn, NULL, start, tli, err);
    if (status == WA_OK)
        status = read_first(conn, r, f, cancel, err);
    if (status == WA_NOT_FOUND) {
        wa_error_clear(err);
        return WA_OK;
    }
    return status;
}

wa_status
wa_branch_of_server(wa_repo *repo, const char *conninfo, wa_tli tli, const wa_buf *history,
                    wa_cancel *cancel, wa_branch_answer *ret, wa_error *err)
{
    WA_CLEANUP(wa_history_freep) wa_history *parsed = NULL;
    WA_CLEANUP(wa_branch_answer_done)
    wa_branch_answer a = {.history = WA_BUF_INIT(WA_HISTORY_MAX)};
    WA_TRY(wa_history_parse(tli, wa_buf_str(history), history->len, &parsed, err));
    wa_first_record f = {.from = wa_history_begin(parsed),
                         .bytes = WA_BUF_INIT(WA_RECORD_KEEP + WA_RECORD_HEADER)};
    wa_status status = tli > 1 ? stream_first(repo, conninfo, tli, cancel, &f, err) : WA_OK;
    a.branch = wa_branch_of(wa_repo_cluster(repo)->system_identifier, tli, history->data,
                            history->len, f.bytes.data, f.bytes.len);
    bool known = tli == 1 || f.found;
    wa_buf_done(&f.bytes);
    WA_TRY(status);
    if (!known)
        return wa_branch_by_history(repo, tli, history, ret, err);
    WA_TRY(wa_buf_append(&a.history, history->data, history->len, err));
    *ret = a;
    a.history = (wa_buf)WA_BUF_INIT(WA_HISTORY_MAX);
    return WA_OK;
}
