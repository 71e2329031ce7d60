/*
 * walagent/pg/basebackup.h - BASE_BACKUP over a replication connection, majors 15 to 18, as a
 * sequence of events.
 *
 * START, then for each archive ARCHIVE and its DATA (a tar stream), then MANIFEST and its DATA,
 * PROGRESS in between, END. The base directory's archive has an empty tablespace path. No WAL is
 * asked for: the archive has it. Majors differ in one table in basebackup.c.
 */
#ifndef WALAGENT_PG_BASEBACKUP_H
#define WALAGENT_PG_BASEBACKUP_H

#include "walagent/pg/conn.h"

/* What MAX_RATE may be: from 32 kB to 1 GB a second ("BASE_BACKUP" of the streaming replication
 * protocol's chapter); more than that is limited to that. */
#define WA_BB_RATE_MIN (32u * 1024)
#define WA_BB_RATE_MAX (1u << 30)

typedef struct wa_bb_options {
    const char *label;
    bool fast_checkpoint;
    const char *manifest_checksums;   /* "CRC32C" */
    uint64_t max_rate;                /* bytes/s, at least WA_BB_RATE_MIN; 0: unlimited */
    const char *incremental_manifest; /* path of the parent's manifest (17+); NULL: full */
} wa_bb_options;

typedef struct wa_bb_tablespace {
    uint32_t oid;    /* 0: the base directory */
    char *location;  /* NULL for the base directory */
    int64_t size_kb; /* -1: unknown */
} wa_bb_tablespace;

typedef struct wa_basebackup {
    wa_lsn start_lsn, end_lsn; /* end_lsn after END */
    wa_tli start_tli, end_tli;
    wa_bb_tablespace *tablespaces; /* base directory last */
    size_t tablespace_count;
    uint64_t total_bytes; /* estimate; 0: unknown */
    struct wa_bb_private *private_;
} wa_basebackup;

typedef enum wa_bb_event_kind {
    WA_BB_ARCHIVE,
    WA_BB_MANIFEST,
    WA_BB_DATA,
    WA_BB_PROGRESS,
    WA_BB_END
} wa_bb_event_kind;
typedef struct wa_bb_event {
    wa_bb_event_kind kind;
    const char *archive;  /* ARCHIVE: "base.tar", "16385.tar" */
    const char *location; /* ARCHIVE: tablespace's directory, "" for base */
    const void *data;     /* DATA; borrowed until the next call */
    size_t len;
    uint64_t bytes_done; /* PROGRESS */
} wa_bb_event;

/* Sends the command (and the parent's manifest) and waits for the start result. */
wa_status wa_bb_begin(wa_pg_conn *repl, const wa_bb_options *options, wa_cancel *cancel,
                      wa_basebackup **ret, wa_error *err) WA_MUST_CHECK;
/* UNAVAILABLE when nothing comes for 5 minutes. */
wa_status wa_bb_next(wa_basebackup *bb, wa_bb_event *ret, wa_error *err) WA_MUST_CHECK;
void wa_bb_free(wa_basebackup *bb);
WA_DEFINE_CLEANUP(wa_basebackup, wa_bb_free)

#endif
