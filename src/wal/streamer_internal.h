/*
 * streamer_internal.h - what the threads of the streamer share.
 *
 * Positions of the branch that is streamed (all in wa_flow, guarded by the streamer's mutex):
 *
 *   durable <= shippable <= received           spooled <= received
 *
 *   received   behind the last byte taken from the server (in the spool file or a writer)
 *   checked    end of the last record whose CRC was right (or received, where WAL is unparsed)
 *   spooled    behind the last byte that fdatasync has put on the local disk
 *   durable    behind the last byte that is, without a gap, in the repository
 *   acknowledged = min(checked, durable), or min(checked, spooled) with acknowledge = spool,
 *              and only after the server has shown again what was acknowledged before
 *
 * Who moves what: the receiver moves received, checked, spooled and hands each finished segment
 * over as a job. The segments thread archives jobs in order. The tail thread extends the chain of
 * chunks in the one segment that holds `durable`, and never touches the next before durable has
 * reached it. So durable is one number which both may only advance, and the archive has no hole
 * whatever the interleaving. A switch of timeline waits until everything was shipped.
 */
#ifndef WALAGENT_STREAMER_INTERNAL_H
#define WALAGENT_STREAMER_INTERNAL_H

#include "spool_internal.h"
#include "walagent/base/thread.h"
#include "walagent/pg/replication.h"
#include "walagent/repo/tail.h"
#include "walagent/repo/tip.h"
#include "walagent/wal/streamer.h"

#define WA_KNOWN_SEGMENTS 4096
#define WA_CHUNK_GRACE_MS 60000 /* chunks outlive their segment, for readers that are half-way */
#define WA_BACKOFF_MIN_MS 100
#define WA_BACKOFF_MAX_MS 5000
#define WA_SHUTDOWN_MS 8000 /* to make the rest durable when cancelled */
#define WA_WATCH_MS 10000

/* A segment whose last byte has come; archived in order. */
typedef struct wa_segment_job {
    struct wa_segment_job *next;
    wa_segno segno;
    wa_wal_writer *writer; /* owned; its bytes, when direct */
    bool direct;           /* else its bytes are in the spool */
    wa_wal_facts facts;    /* of all records that end in it */
    wa_wal_facts rest;     /* of those that no chunk holds yet */
    bool checked;          /* every record was verified */
    bool parsed;
} wa_segment_job;

typedef struct wa_flow {
    bool ready;       /* reconciled; the threads may ship */
    wa_branch branch; /* id "" until the first record of a new timeline was seen: nothing ships */
    uint32_t epoch;
    wa_lsn received, checked, spooled, durable;
    wa_lsn began;          /* durable when it was installed */
    wa_lsn handed;         /* start of the first segment that is not handed over yet */
    wa_mono pending_since; /* when the oldest byte that can be shipped came; 0: none waits */
    bool tail_in_spool;    /* the segment being received is in the spool (else in a writer) */
    bool damaged;          /* it holds a record that contradicts its CRC */
    bool parsed;
    bool drain;           /* ship what there is at once, records complete or not */
    wa_wal_facts segment; /* of the segment being received, up to counted */
    wa_lsn counted;       /* 0: from its start on nothing is */
    wa_wal_facts rest;    /* those of them that no chunk holds yet */
    wa_segment_job *jobs, **jobs_end;
    size_t job_count;
    unsigned small;      /* chunks since the last cumulative one in durable's segment */
    uint64_t size_limit; /* a chunk is cut at this size */
    wa_segno looked_at;  /* segment for which the whole object was looked for before a chunk */
    wa_mono last_put;
    wa_lsn last_chunk; /* START of the last chunk of our epoch that is known to have bytes */
    uint64_t commits_received, commits_durable;
} wa_flow;

typedef struct wa_known_segment {
    wa_branch branch;
    wa_segno segno;
    char xxh3[WA_XXH_HEX];
} wa_known_segment;

typedef struct wa_removable {
    wa_branch branch;
    wa_segno first, segno; /* chunks of [first, segno] */
    wa_mono at;
} wa_removable;

/* What an index object needs of a segment that was just archived. */
typedef struct wa_archived_facts {
    wa_branch branch;
    wa_segno segno;
    bool valid, checked;
    wa_wal_facts facts;
} wa_archived_facts;

typedef struct wa_pending_event {
    struct wa_pending_event *next;
    char kind[24];
    char message[512];
} wa_pending_event;

struct wa_streamer {
    wa_repo *repo;
    wa_streamer_options options; /* strings owned */
    wa_cluster cluster;
    wa_spool *spool;
    wa_pool *pool;
    int wake_fd;         /* eventfd: durable moved, or a thread wants the receiver's attention */
    wa_cancel *cancel;   /* run's, while it runs */
    wa_cancel stop;      /* ends threads and connections, after the drain */
    uint64_t chunk_most; /* new bytes in a chunk; WA_CUT_MOST but in tests */
    char identity[96];   /* names this installation as a writer; kept in the spool directory */

    wa_mutex mutex; /* guards what follows */
    wa_cond cond;
    wa_flow flow;
    uint64_t generation; /* counts flows; what was cut from an older one is void */
    wa_streamer_status status;
    wa_error fault; /* a thread's verdict that ends the session: fenced, conflict */
    bool fenced;
    uint32_t fenced_epoch; /* that a seal took from us; 0: none, or not known */
    bool stopping;         /* cancelled: what was received is made durable, nothing more is read */
    bool piece_running;    /* the tail thread ships a chunk */
    bool job_running;      /* the segments thread uses the first job outside the mutex */
    bool full_said;
    bool synchronous_refused; /* see single_writer.c: no flush position is told */
    unsigned backlog_level;   /* told last */
    uint64_t backlog_limit;   /* as of the last look at the slot; 0: none yet */
    bool away_said;           /* that the repository can't be written */
    char *host_conninfo;      /* of the server streamed from; NULL: none */
    wa_known_segment *known;  /* ring */
    size_t known_next;
    wa_tli reported_tli;
    wa_lsn reported; /* highest flush told to the server on reported_tli */
    wa_pending_event *events, **events_end;
    char last_event[512]; /* not told again for a while */
    wa_mono last_event_at;
    int backend_pid;         /* of the replication connection; 0: none */
    wa_removable *removable; /* segments whose chunks may go */
    size_t removable_count, removable_capacity;
    wa_mono removed_at; /* when chunks were removed last */

    /* Segments thread only. */
    wa_archived_facts *archived; /* ring of WA_INDEX_FANOUT */
    struct {
        wa_branch branch;
        uint32_t epoch;
        wa_segno from; /* nobody had sealed our epoch in this segment or behind it */
        wa_mono at;    /* 0: never looked */
    } unsealed;

    /* Receiver only. */
    wa_lineage *lineage;
    bool began;           /* this run has seen the lineage */
    uint32_t may_pass;    /* the epoch that was sealed already when this run began; 0: none */
    uint32_t taking_over; /* the epoch that we follow, until it is known that nobody sealed it */
    wa_segno last_segno;  /* the last whole segment received, to prove it at a reconnect */
    char last_xxh3[WA_XXH_HEX];
    struct wa_damage *damage;
    wa_buf history;    /* of the timeline that begins, until its branch is known */
    wa_lsn parent_end; /* where its parent's chain is sealed */
    bool major_said;
    wa_mono stream_began; /* this session's first stream; 0: none yet */
    wa_lsn stream_from;   /* flow.received then */
    bool anchored; /* the flow begins where nothing is missing that the server keeps for us */
    wa_branch hole_branch; /* of status.hole_begin and hole_end */
};

/* streamer_flow.c: positions; the mutex is taken inside unless named _locked. */
void wa_flow_init(wa_flow *flow);
/* Nothing more is shipped of this flow; returns when the threads have left it, each with the one
 * call to the store that it was in. Spool and archive then hold still for a reconciliation. */
void wa_flow_suspend(wa_streamer *s);
/* Replaces the flow (its jobs are taken) and clears a fault, when no thread uses the old one. */
void wa_flow_install(wa_streamer *s, wa_flow *flow);
void wa_flow_done(wa_flow *flow);
void wa_flow_advance_locked(wa_streamer *s, wa_lsn durable);
void wa_flow_add_job_locked(wa_streamer *s, wa_segment_job *job); /* takes */
wa_segment_job *wa_flow_job_locked(wa_streamer *s, wa_segno segno);
void wa_segment_job_free(wa_segment_job *job);
/* What may be told to the server. */
wa_lsn wa_flow_acknowledgeable_locked(const wa_streamer *s);
wa_lsn wa_flow_durable(wa_streamer *s);
bool wa_streamer_is_fenced(wa_streamer *s);
/* Wait until everything received is durable; a fault or a cancel ends it. */
wa_status wa_flow_drain(wa_streamer *s, wa_cancel *cancel, wa_error *err) WA_MUST_CHECK;
void wa_streamer_wake(wa_streamer *s);
void wa_streamer_fault(wa_streamer *s, const wa_error *err, bool fenced);
wa_status wa_streamer_check_fault(wa_streamer *s, wa_error *err) WA_MUST_CHECK;

/* streamer.c */
void wa_streamer_set_state(wa_streamer *s, wa_stream_state state);
/* WAL of the server that is not durable, and how much of it fits. */
void wa_streamer_backlog_locked(const wa_streamer *s, uint64_t *ret_backlog, uint64_t *ret_limit);
void wa_streamer_note_error_locked(wa_streamer *s, const wa_error *err);
void wa_streamer_note_error(wa_streamer *s, const wa_error *err);
void wa_streamer_say(wa_streamer *s, wa_log_level level, const char *hint, const char *fmt, ...)
    WA_PRINTF(4, 5);
/* Said, and kept in the archive (by the watch thread, best effort). */
void wa_streamer_event(wa_streamer *s, const char *kind, wa_log_level level, const char *hint,
                       const char *fmt, ...) WA_PRINTF(5, 6);
void wa_streamer_remember(wa_streamer *s, const wa_branch *branch, wa_segno segno,
                          const char *xxh3);

/* shipper_tail.c, shipper_segments.c, watch.c: thread bodies; arg is the streamer. */
void *wa_tail_thread(void *arg);
void *wa_segments_thread(void *arg);
void *wa_watch_thread(void *arg);
/* Chunks of the segments [first, segno] may go after their grace. */
void wa_segments_schedule_removal(wa_streamer *s, wa_segno first, wa_segno segno);

/* role.c: who writes. */
typedef enum wa_role { WA_ROLE_WRITER, WA_ROLE_WAITING } wa_role;
wa_status wa_role_identity(wa_streamer *s, wa_error *err) WA_MUST_CHECK;
/* Loads the lineage; WRITER when it names us. Needs no server. */
wa_status wa_role_load(wa_streamer *s, wa_role *ret, bool *ret_fresh, wa_error *err) WA_MUST_CHECK;
/* conninfo: of the one server. */
wa_status wa_role_first(wa_streamer *s, wa_pg_conn *repl, const char *conninfo,
                        const wa_pg_system *sys, wa_error *err) WA_MUST_CHECK;
/* The next lineage, written by us. UNAVAILABLE when another was faster. */
wa_status wa_role_store(wa_streamer *s, wa_lineage *l, const char *reason,
                        wa_error *err) WA_MUST_CHECK;
/* Waits beside another writer until it may take over; then does. */
wa_status wa_role_wait(wa_streamer *s, wa_pg_conn *repl, const char *conninfo,
                       wa_error *err) WA_MUST_CHECK;
/* OK when the accepted timeline has come to this server. */
wa_status wa_role_check_descends(wa_streamer *s, wa_pg_conn *repl, wa_error *err) WA_MUST_CHECK;
/* A person sealed the epoch for good: says so, and leaves it. */
wa_status wa_role_held(wa_streamer *s, wa_error *err) WA_MUST_CHECK;
/* Was the next epoch opened for us, which had been fenced ("lineage unseal")? */
wa_status wa_role_was_unsealed(wa_streamer *s, bool *ret, wa_error *err) WA_MUST_CHECK;
/* A seal ended our epoch (by gate, or by us before a crash): this run opens the next one. */
wa_status wa_role_reopen(wa_streamer *s, wa_error *err) WA_MUST_CHECK;

/* reconcile.c: spool, archive and slot into a flow. */
/* kept: the first LSN that the server keeps for us. Where to begin when neither archive nor spool
 * has anything, and from where on nothing may be missing. 0: not known yet (then NOT_FOUND in the
 * first case). */
wa_status wa_reconcile(wa_streamer *s, wa_lsn kept, wa_error *err) WA_MUST_CHECK;
/* Bytes [segment start, upto) of branch from the archive into the spool, as `into`'s. */
wa_status wa_reconcile_prefix(wa_streamer *s, const wa_branch *from, const wa_branch *into,
                              wa_lsn upto, wa_error *err) WA_MUST_CHECK;
/* The server has no WAL before `available` any more: declare what is missing. */
void wa_reconcile_declare_hole(wa_streamer *s, const wa_branch *branch, wa_lsn begin, wa_lsn end);
/* The same, and go on behind it. */
wa_status wa_reconcile_hole(wa_streamer *s, wa_lsn available, wa_error *err) WA_MUST_CHECK;

/* single_writer.c */
wa_status wa_single_writer_refuse_second(wa_streamer *s, wa_error *err) WA_MUST_CHECK;
/* Does the server list the backend `pid` (ours) as a synchronous standby? conn: an ordinary one. */
wa_status wa_single_writer_look(wa_streamer *s, wa_pg_conn *conn, int pid,
                                wa_error *err) WA_MUST_CHECK;

/* spool_release.c: removes the file when its branch was rejected and the archive has its bytes. */
wa_status wa_spool_release(wa_streamer *s, const wa_lineage *l, const wa_spool_file *file,
                           wa_error *err) WA_MUST_CHECK;

/* switch.c: from one timeline to the next. */
wa_status wa_switch_to(wa_streamer *s, wa_pg_conn *repl, wa_tli next, wa_lsn fork,
                       wa_error *err) WA_MUST_CHECK;
/* The same when the server has neither the parent's WAL before the fork any more, nor the segment
 * with the fork: a hole up to the fork is declared, and the child is adopted without having seen
 * its first record. */
wa_status wa_switch_behind_hole(wa_streamer *s, wa_pg_conn *repl, wa_tli next, wa_lsn fork,
                                wa_error *err) WA_MUST_CHECK;
/* The first record of a new timeline names its branch: adopt it. */
wa_status wa_switch_resolve(wa_streamer *s, const wa_buf *record, wa_lsn fork,
                            wa_error *err) WA_MUST_CHECK;

/* backlog.c: what the server says of the slot is taken in; and tells, from the receiver and the
 * watch thread, how near the limit is. */
void wa_backlog_slot_locked(wa_streamer *s, const wa_pg_slot *slot);
void wa_backlog_look(wa_streamer *s);

/* receive_check.c */
void wa_damage_free(struct wa_damage *damage);

/* session.c: one connection's life. */
wa_status wa_session_run(wa_streamer *s, wa_error *err) WA_MUST_CHECK;

#endif
