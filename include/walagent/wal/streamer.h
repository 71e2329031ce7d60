/*
 * walagent/wal/streamer.h - WAL from the server into the archive: receiver, spool, shipper.
 *
 *   server --COPY BOTH--> receiver --checks--> spool --> tail thread ------> chunks    --+
 *     ^                      |                   `-----> segments thread --> segments  --+
 *     |                      `-- catch-up: straight into a segment's writer --^          |
 *     `---- flush <-------------------- durable position <-------------------------------'
 *
 * Guarantees (asserted where they can be):
 *   (1) flush is reported only for bytes that were checked, are contiguous, and durable in the
 *       repository (or the spool, with acknowledge = spool); write only for bytes fsynced in the
 *       spool or durable in the repository; apply never.
 *   (2) reported positions never go backwards on one timeline, and a server must first show the
 *       acknowledged bytes again: every connection streams from the start of the segment that
 *       holds the end of what is known, and is compared with it, before more is acknowledged.
 *   (3) bytes of one timeline are archived in order without holes, or the hole is declared: an
 *       event, status, and a base backup asked for.
 *   (4) kill -9 at any instruction loses nothing acknowledged and leaves nothing half-written
 *       under a final name.
 *   (5) the spool stays within spool_max: then reading stops and status messages go on.
 * States:    STARTING (repository and server not both seen yet), RECONCILING, STREAMING, SWITCHING
 *            (timeline), WAITING (another writer), FENCED, RETRYING (with backoff), STOPPED.
 * Ownership: borrows repo; copies the option strings; owns connections, spool, threads.
 * Threads:   run() blocks in one thread until cancelled and is the receiver; it starts the tail,
 *            segments and watch threads and joins them. status() and wait_durable() from any.
 * Errors:    run() returns only when cancelled (OK after an orderly end) or on what retrying can't
 *            cure: CONFLICT (another cluster's server), UNSUPPORTED, INVALID (configuration). All
 *            else is retried and shown in status.
 * Crash points, in the order of a byte's way: stream-received, spool-written, spool-synced,
 *            chunk-before-put, chunk-after-put, segment-before-put, segment-after-put,
 *            spool-before-remove, before-acknowledge, after-acknowledge; at a switch
 *            history-before-put, seal-before-put, lineage-before-put, lineage-after-put.
 * Source:    PostgreSQL documentation, "Streaming Replication Protocol".
 */
#ifndef WALAGENT_WAL_STREAMER_H
#define WALAGENT_WAL_STREAMER_H

#include "walagent/base/cancel.h"
#include "walagent/base/event.h"
#include "walagent/repo/lineage.h"
#include "walagent/repo/wal_object.h"

typedef struct wa_streamer_options {
    const char *conninfo; /* several hosts allowed */
    const char *slot;
    const char *spool_dir;
    uint64_t spool_max;
    uint64_t tail_interval_ms;
    bool acknowledge_spool; /* flush = spooled */
    bool stop_on_damage;    /* [archive] on_damage */
    size_t jobs;            /* compression workers */
    wa_listener listener;   /* hears what is worth a line in the log; must not block */
} wa_streamer_options;

typedef enum wa_stream_state {
    WA_STREAM_STARTING,
    WA_STREAM_RECONCILING,
    WA_STREAM_STREAMING,
    WA_STREAM_SWITCHING,
    WA_STREAM_WAITING,
    WA_STREAM_FENCED,
    WA_STREAM_RETRYING,
    WA_STREAM_STOPPED
} wa_stream_state;

typedef struct wa_streamer_status {
    wa_stream_state state;
    char host[256]; /* of the server streamed from; "" */
    wa_branch branch;
    bool synchronous; /* the server waits for our flush */
    wa_lsn received, spooled, durable, server_end, slot_restart;
    wa_lsn began; /* durable, when the session or the timeline began */
    wa_time received_time, durable_time, server_time; /* when each last moved */
    uint64_t lag_bytes;                               /* server_end - durable; 0: one is unknown */
    uint64_t lag_limit;   /* of lag_bytes: the spool is full or the slot lost; alarms at quarters */
    uint64_t lag_ms;      /* age of the oldest received byte that is not durable; 0: none */
    uint64_t lag_commits; /* commits received and not durable */
    uint64_t spool_bytes, spool_max;
    uint64_t segments_archived, chunks_archived, bytes_received, bytes_stored;
    uint64_t reconnects, conflicts, damaged;
    uint32_t epoch;
    char slot_status[16];
    int64_t slot_safe_wal_size;
    wa_lsn hole_begin, hole_end; /* the newest declared hole; 0: none */
    char last_error[512];
    wa_time last_error_time;
} wa_streamer_status;
const char *wa_stream_state_name(wa_stream_state s);

typedef struct wa_streamer wa_streamer;
wa_status wa_streamer_new(wa_repo *repo, const wa_streamer_options *options, wa_streamer **ret,
                          wa_error *err) WA_MUST_CHECK;
wa_status wa_streamer_run(wa_streamer *s, wa_cancel *cancel, wa_error *err) WA_MUST_CHECK;
void wa_streamer_get_status(wa_streamer *s, wa_streamer_status *ret);
/* What the streamer knows about a whole segment: true when it is durable in the archive, then with
 * its content's XXH3-128 (raw bytes), so that archive-push of a streamed segment costs one
 * checksum. Remembers the last 4,096. */
bool wa_streamer_knows(wa_streamer *s, const char *segment_name, char ret_xxh3[static WA_XXH_HEX],
                       wa_branch *ret_branch);
/* It was received whole and is not archived as one yet, though its chunks may be durable. */
bool wa_streamer_has_in_hand(wa_streamer *s, const char *segment_name);
/* The agent's spool can serve the unfinished segment: bytes that are durable, or (for a local
 * standby) received. NOT_FOUND. */
wa_status wa_streamer_wait_durable(wa_streamer *s, wa_lsn lsn, int timeout_ms,
                                   wa_error *err) WA_MUST_CHECK;
void wa_streamer_free(wa_streamer *s);
WA_DEFINE_CLEANUP(wa_streamer, wa_streamer_free)

#endif
