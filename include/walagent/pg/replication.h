/*
 * walagent/pg/replication.h - the streaming replication protocol.
 *
 * Source: PostgreSQL documentation, "Streaming Replication Protocol"; measured facts in
 * docs/formats.md.
 */
#ifndef WALAGENT_PG_REPLICATION_H
#define WALAGENT_PG_REPLICATION_H

#include "walagent/base/buf.h"
#include "walagent/base/time.h"
#include "walagent/pg/conn.h"

typedef struct wa_pg_system {
    uint64_t system_identifier;
    wa_tli tli;   /* on a standby: of replay */
    wa_lsn flush; /* primary: flushed; standby: max(replayed, received) */
    uint64_t segment_size;
    int major;
} wa_pg_system;
/* IDENTIFY_SYSTEM and SHOW wal_segment_size. */
wa_status wa_pg_identify(wa_pg_conn *repl, wa_pg_system *ret, wa_error *err) WA_MUST_CHECK;
/* Is the server in recovery? Asked over an ordinary connection, or by the replication connection
 * where that works. */
wa_status wa_pg_in_recovery(wa_pg_conn *conn, bool *ret, wa_error *err) WA_MUST_CHECK;

typedef struct wa_pg_slot {
    bool exists;
    bool physical;
    bool active;
    wa_lsn restart_lsn;    /* 0: reserves nothing */
    char wal_status[16];   /* "" when it can't be told */
    int64_t safe_wal_size; /* -1: unlimited or unknown */
    char invalidation_reason[64];
} wa_pg_slot;
/* By READ_REPLICATION_SLOT on a replication connection (existence and restart_lsn only). */
wa_status wa_pg_slot_read(wa_pg_conn *repl, const char *slot, wa_pg_slot *ret,
                          wa_error *err) WA_MUST_CHECK;
/* By pg_replication_slots on an ordinary connection: everything. */
wa_status wa_pg_slot_query(wa_pg_conn *conn, const char *slot, wa_pg_slot *ret,
                           wa_error *err) WA_MUST_CHECK;
/* CREATE_REPLICATION_SLOT ... PHYSICAL RESERVE_WAL; EXISTS when it is there. */
wa_status wa_pg_slot_create(wa_pg_conn *repl, const char *slot, wa_error *err) WA_MUST_CHECK;
wa_status wa_pg_slot_drop(wa_pg_conn *repl, const char *slot, wa_error *err) WA_MUST_CHECK;
/* pg_replication_slot_advance on an ordinary connection; never backwards. */
wa_status wa_pg_slot_advance(wa_pg_conn *conn, const char *slot, wa_lsn lsn,
                             wa_error *err) WA_MUST_CHECK;
/* Exact bytes of the history file; NOT_FOUND when the server has none. */
wa_status wa_pg_timeline_history(wa_pg_conn *repl, wa_tli tli, wa_buf *ret,
                                 wa_error *err) WA_MUST_CHECK;

typedef enum wa_stream_end { WA_STREAM_OPEN, WA_STREAM_TIMELINE_END } wa_stream_end;
typedef struct wa_stream_message {
    enum { WA_MSG_NONE, WA_MSG_WAL, WA_MSG_KEEPALIVE, WA_MSG_TIMELINE_END } kind;
    wa_lsn start;      /* WAL: of data */
    wa_lsn server_end; /* WAL, KEEPALIVE: the server's current end */
    wa_time server_time;
    const uint8_t *data; /* borrowed until the next call */
    size_t len;
    bool reply_requested;
    wa_tli next_tli; /* TIMELINE_END */
    wa_lsn next_start;
} wa_stream_message;

/* slot NULL: without one. start must be a segment's start. Errors told apart: NOT_FOUND "requested
 * WAL segment ... has already been removed"; CONFLICT "requested starting point ... is not in this
 * server's history"; WA_INVALID "ahead of the WAL flush position". */
wa_status wa_pg_stream_start(wa_pg_conn *repl, const char *slot, wa_lsn start, wa_tli tli,
                             wa_error *err) WA_MUST_CHECK;
/* Waits up to timeout_ms (0: look only) for a message; kind NONE when nothing came. UNAVAILABLE
 * when the connection broke. Wakes for wake_fd (>= 0) too, and then returns NONE. */
wa_status wa_pg_stream_receive(wa_pg_conn *repl, int timeout_ms, wa_cancel *cancel, int wake_fd,
                               wa_stream_message *ret, wa_error *err) WA_MUST_CHECK;
/* Standby status update; apply is always sent as 0. */
wa_status wa_pg_stream_status(wa_pg_conn *repl, wa_lsn write, wa_lsn flush, bool reply_requested,
                              wa_error *err) WA_MUST_CHECK;
/* End the stream in order (CopyDone both ways); best effort within timeout_ms. */
void wa_pg_stream_stop(wa_pg_conn *repl, int timeout_ms);

#endif
