/*
 * get_internal.h - one file on its way from the archive to a path.
 */
#ifndef WALAGENT_GET_INTERNAL_H
#define WALAGENT_GET_INTERNAL_H

#include "walagent/wal/get.h"

/* Below PGDATA: the chain that a restore pinned. */
#define WA_GET_RESTORE_FILE "pg_wal/walagent.restore.json"

#define WA_GET_HEAD 40 /* bytes of a segment's first page header */

/* The branches that a server in recovery may see. */
typedef struct wa_get_chain {
    wa_lineage *steps;
    wa_lsn limit; /* of the last step: nothing at or behind it; 0: open */
} wa_get_chain;
void wa_get_chain_done(wa_get_chain *c);

/* get_chain.c: the accepted lineage. Never NOT_FOUND: one that was there and is gone is no answer
 * about a file. */
wa_status wa_get_accepted(const wa_get_options *options, wa_lineage **ret,
                          wa_error *err) WA_MUST_CHECK;
/* The accepted lineage, or the chain that a restore wrote into the data directory,
 * followed on along the accepted lineage unless that restore had a target of its own. */
wa_status wa_get_chain_load(const wa_get_options *options, wa_get_mode mode, wa_get_chain *ret,
                            wa_error *err) WA_MUST_CHECK;
/* Where the branch's accepted WAL ends; 0: open. */
wa_lsn wa_get_chain_end(const wa_get_chain *c, const wa_branch *branch);

/* get_write.c: a temporary file beside the target, of a name that PostgreSQL removes itself should
 * we be killed; it becomes the target when it is whole, or goes. */
typedef struct wa_get_draft {
    char *path; /* NULL: there is none */
    int fd;
    bool durable;
} wa_get_draft;
#define WA_GET_DRAFT_INIT                                                                          \
    {                                                                                              \
        NULL, -1, false                                                                            \
    }
wa_status wa_get_draft_open(wa_get_draft *d, const char *target, bool durable,
                            wa_error *err) WA_MUST_CHECK;
/* Threads: several at once. */
wa_status wa_get_draft_write(const wa_get_draft *d, uint64_t offset, const void *data, size_t len,
                             wa_error *err) WA_MUST_CHECK;
/* Filled up with zeroes to size. */
wa_status wa_get_draft_publish(wa_get_draft *d, const char *target, uint64_t size,
                               wa_error *err) WA_MUST_CHECK;
void wa_get_draft_done(wa_get_draft *d); /* what was not published is removed */
/* All at once: len bytes, then zeroes up to size. */
wa_status wa_get_write(const char *target, const void *data, size_t len, size_t size, bool durable,
                       wa_error *err) WA_MUST_CHECK;
/* The highest end of this unfinished segment that was served in this data directory; 0: none. */
wa_lsn wa_get_served(const char *data_dir, const char *name);
wa_status wa_get_remember_served(const char *data_dir, const char *name, wa_lsn end,
                                 wa_error *err) WA_MUST_CHECK;

/* get_whole.c: a whole segment. */
typedef struct wa_get_whole {
    const char *name; /* for messages */
    uint8_t *bytes;   /* where it goes; NULL: into the draft, which is then opened beside target */
    wa_get_draft *draft;
    const char *target;
    bool durable;
    wa_status (*check_head)(const void *arg, const uint8_t *head, wa_error *err);
    const void *arg; /* check_head's */
} wa_get_whole;
/* OK: every checksum was right, and the records too if they were when it was archived
 * (*ret_checked). Else there is no draft. NOT_FOUND: the archive hasn't it. */
wa_status wa_get_whole_read(const wa_get_whole *whole, wa_repo *repo, const wa_branch *branch,
                            wa_segno segno, wa_pool *pool, bool *ret_checked,
                            wa_error *err) WA_MUST_CHECK;

/* get_segment.c. whole_only: an unfinished segment is NOT_FOUND (prefetch). */
wa_status wa_get_segment(const wa_get_options *options, wa_get_mode mode, const char *name,
                         const char *target, bool whole_only, wa_get_result *ret,
                         wa_error *err) WA_MUST_CHECK;

#endif
