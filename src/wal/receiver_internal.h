/*
 * receiver_internal.h - one timeline received on one connection.
 *
 * Each segment is received in one of three modes:
 *   PROVE   it is archived already; the server shows it again and its hash is compared
 *   SPOOL   into the spool; where the spool holds bytes already they are compared first
 *   DIRECT  catching up: into the segment's writer, without touching the disk
 */
#ifndef WALAGENT_RECEIVER_INTERNAL_H
#define WALAGENT_RECEIVER_INTERNAL_H

#include "streamer_internal.h"
#include "walagent/codec/hash.h"

typedef enum wa_receive_mode {
    WA_RECEIVE_SPOOL,
    WA_RECEIVE_DIRECT,
    WA_RECEIVE_PROVE
} wa_receive_mode;

typedef struct wa_receiver {
    wa_streamer *s; /* borrowed, like conn */
    wa_pg_conn *conn;
    wa_tli tli;
    wa_lsn fork;         /* where this timeline begins; 0: with the cluster */
    wa_lsn prove_until;  /* until position has passed it, nothing new is acknowledged */
    wa_lsn direct_until; /* segments that end at or before it bypass the spool */
    wa_lsn flush_floor;  /* the slot's restart_lsn: less is never reported */

    wa_lsn position; /* behind the last byte received on this connection */
    wa_receive_mode mode;
    wa_wal_writer *writer; /* DIRECT */
    wa_lsn spool_end;      /* SPOOL: behind the last byte of the file */
    wa_xxh *hash;          /* of the segment so far */

    wa_walreader *reader;
    wa_wal_facts *segment; /* of the records that ended in it */
    wa_wal_facts *fresh;   /* of those not published, on an earlier connection neither */
    wa_wal_facts *message; /* of those of the message that belong to both: publish adds them */
    wa_lsn fresh_from;
    wa_lsn counted; /* what ends at or before it is in `segment`, from an earlier connection */
    bool begins;    /* a segment: its first page tells whether a record goes on into it */
    bool damaged, parsed;
    bool blind;        /* the reader was started again behind damage and has no record yet */
    wa_lsn skip_until; /* rest of a damaged page */
    char page_xxh3[WA_XXH_HEX]; /* of the segment up to the page being read */
    wa_buf first_record;        /* bytes of the first record at or behind the fork */

    wa_mono heard_at; /* when the server last said something */
    wa_mono asked_at; /* when it was asked whether it is there; 0: not since */
    wa_mono told_at;
    wa_lsn told_write, told_flush;
    wa_tli next_tli; /* at the timeline's end */
    wa_lsn next_start;
} wa_receiver;

void wa_receiver_init(wa_receiver *rx, wa_streamer *s, wa_pg_conn *conn);
void wa_receiver_done(wa_receiver *rx);
/* Start the stream at the segment's start `start` and receive until the timeline ends (OK, next_tli
 * set), the connection or a check fails, a thread's fault, or the cancel. */
wa_status wa_receiver_run(wa_receiver *rx, const wa_tli *chain, size_t chain_count, wa_lsn start,
                          wa_error *err) WA_MUST_CHECK;
/* The two parts of run that need no server: where reading begins, and what a message brings. */
void wa_receiver_begin(wa_receiver *rx, const wa_tli *chain, size_t chain_count, wa_lsn start);
wa_status wa_receiver_take(wa_receiver *rx, const wa_stream_message *message,
                           wa_error *err) WA_MUST_CHECK;
/* Report positions; always when forced, else when something changed or 10 s have passed. */
wa_status wa_receiver_tell(wa_receiver *rx, bool force, wa_error *err) WA_MUST_CHECK;

/* After the cancel: make durable what was received, tell the server, end the stream in order. */
void wa_receiver_finish(wa_receiver *rx);

/* receive_check.c: the bytes of one segment, [position, position + len). CORRUPT: read again. */
wa_status wa_receiver_check(wa_receiver *rx, const uint8_t *data, size_t len,
                            wa_error *err) WA_MUST_CHECK;
/* End of what was checked. */
wa_lsn wa_receiver_checked(const wa_receiver *rx);

#endif
