/*
 * push_internal.h - one file on its way from pg_wal into the archive.
 */
#ifndef WALAGENT_PUSH_INTERNAL_H
#define WALAGENT_PUSH_INTERNAL_H

#include "branch_of_internal.h"

#include "walagent/wal/push.h"

#include <sys/stat.h>

typedef struct wa_push_job {
    const wa_push_options *options;
    wa_repo *repo;
    const char *path;
    const char *name; /* of the file */
    char *wal_dir;
    uint64_t size; /* of segments */
    wa_tli tli;
    wa_segno segno;
    wa_lsn start;
    uint8_t *data; /* one segment; the caller's room, or ours; NULL: the writer has all of it */
    /* Compresses while the file is read and its records are checked; NULL: nothing was begun. Its
     * jobs read `data`. */
    wa_wal_writer *writer;
    wa_error full; /* the archive has no room for it: why nothing was begun */
    bool absent;   /* the archive was asked, and has nothing of that name */
    wa_push_source source;
    wa_wal_facts *facts;
    wa_segment_check check;
    bool damaged;
    char damage[WA_ERROR_MESSAGE_SIZE];
} wa_push_job;
void wa_push_job_done(wa_push_job *job);

/* push_read.c. The segment's bytes are not needed any more. */
void wa_push_drop_data(wa_push_job *job);
/* The state of a file that is looked at now. */
wa_push_source wa_push_source_of(const struct stat *st, struct timespec now);
/* Read the file (exactly one segment; a .partial may be shorter and is padded), tell
 * whether it is what its name says (CONFLICT). `early`: it is compressed from then on. */
wa_status wa_push_read(wa_push_job *job, bool may_be_short, bool early,
                       wa_error *err) WA_MUST_CHECK;
/* Opens the file, of exactly one segment (CONFLICT), and notes its state. */
wa_status wa_push_open(wa_push_job *job, int *ret_fd, wa_error *err) WA_MUST_CHECK;
/* Is it, by the first page in `data`, what its name says? CONFLICT. */
wa_status wa_push_check_first_page(const wa_push_job *job, wa_error *err) WA_MUST_CHECK;
/* A writer of the segment; its branch may be told later. */
wa_status wa_push_begin(const wa_push_job *job, const wa_branch *branch, wa_wal_writer **ret,
                        wa_error *err) WA_MUST_CHECK;
/* XXH3-128 of the file, which is one segment, without holding it in memory. */
wa_status wa_push_hash(const wa_push_job *job, char ret[static WA_XXH_HEX],
                       wa_error *err) WA_MUST_CHECK;
/* Once more, over what was read before; *ret_same: it reads as before. What was compressed of it is
 * dropped. */
wa_status wa_push_read_again(wa_push_job *job, bool *ret_same, wa_error *err) WA_MUST_CHECK;

/* push_check.c: walk the records, read the file again when they contradict. */
wa_status wa_push_check(wa_push_job *job, wa_error *err) WA_MUST_CHECK;

/* Does the segment, of which the first `len` bytes are in `data`, go on where the one in pg_wal
 * before it ends? *ret_decided: they were enough to tell, and the facts have the record that
 * crosses. */
wa_status wa_push_check_boundary(wa_push_job *job, size_t len, bool *ret_decided,
                                 wa_error *err) WA_MUST_CHECK;

/* push_stream.c: reads, checks and compresses a whole segment of timeline 1 without ever holding
 * it. True: it is complete, its facts and `check` are there, and the writer has all of it. False:
 * as if it had not been called; wa_push_read and wa_push_check find out why. */
bool wa_push_stream(wa_push_job *job);

/* push_tail.c: the valid prefix of an unfinished segment as a cumulative chunk. */
wa_status wa_push_prefix(wa_push_job *job, const wa_branch *branch, wa_push_result *ret,
                         wa_error *err) WA_MUST_CHECK;

/* CONFLICT (what was pushed is kept): the segment's chunks have other bytes. */
wa_status wa_push_compare_chain(wa_push_job *job, const wa_branch *branch, size_t len,
                                wa_error *err) WA_MUST_CHECK;

/* push_branch.c: where the branch is not known by its first record, and the whole segment provably
 * doesn't continue it: the numbered branch beside it. CONFLICT as wa_push_compare_chain. */
wa_status wa_push_choose_branch(wa_push_job *job, wa_branch_answer *a, wa_push_result *result,
                                wa_error *err) WA_MUST_CHECK;

#endif
