/*
 * branch_of_internal.h - which branch of its timeline does a file of pg_wal belong to?
 *
 * Timeline 1 has one branch. For the others the history comes from the local pg_wal, or from the
 * archive (branches, then histories that wait for their first record), and the first record that
 * begins at or after the fork from the segment that holds the fork: the bytes given, or the local
 * file. Where neither is there any more, the archive's branches with this history are the
 * candidates: the only one, or the one that the given bytes continue (branch_link.c), or the
 * accepted one. No candidate: named by the history alone. Where the branch so chosen turns out to
 * be another server's: push_branch.c.
 */
#ifndef WALAGENT_BRANCH_OF_INTERNAL_H
#define WALAGENT_BRANCH_OF_INTERNAL_H

#include "walagent/base/buf.h"
#include "walagent/codec/hash.h"
#include "walagent/pg/walreader.h"
#include "walagent/repo/branch.h"

#define WA_HISTORY_MAX (1u << 20)

typedef struct wa_branch_question {
    wa_repo *repo;
    const char *wal_dir; /* the local pg_wal; NULL: none */
    wa_tli tli;
    wa_segno segno;
    const void *data; /* the segment's bytes (a whole segment, padded); NULL: not at hand */
} wa_branch_question;

/* What a segment shows of the one before it (branch_link.c). */
typedef struct wa_segment_link {
    bool read;
    char name[WA_SEGMENT_NAME]; /* of the segment before; "": nothing is known */
    wa_lsn prev;                /* what the first record that begins in the segment links to; 0 */
    char before[WA_XXH_HEX];    /* the segment before in pg_wal; "": it isn't there any more */
} wa_segment_link;

typedef struct wa_branch_answer {
    wa_branch branch;
    wa_buf history;  /* its exact bytes; empty for timeline 1, or when only the archive's branch is
                        known */
    bool in_archive; /* the branch has its history there */
    bool by_record;  /* its first record was seen: no other one has this id */
    wa_segment_link link; /* of the question's bytes, when it had to be read */
} wa_branch_answer;
void wa_branch_answer_done(wa_branch_answer *a);

/* NOT_FOUND: no history of the timeline anywhere. */
wa_status wa_branch_find(const wa_branch_question *q, wa_branch_answer *ret,
                         wa_error *err) WA_MUST_CHECK;
/* The local file of a segment, when it is there in full size; -1. */
int wa_branch_open_segment(const wa_branch_question *q, wa_segno segno);

/* branch_link.c: does a segment go on where a branch's previous segment ends? YES and NO only by
 * evidence: a previous segment that is not there says nothing. */
typedef enum wa_continues { WA_CONTINUES_UNKNOWN, WA_CONTINUES_YES, WA_CONTINUES_NO } wa_continues;
/* Nothing is done when it was read before: it takes two segments' bytes. */
wa_status wa_segment_link_read(const wa_branch_question *q, wa_segment_link *link,
                               wa_error *err) WA_MUST_CHECK;
wa_status wa_branch_continues(wa_repo *repo, const wa_branch *branch, wa_segno segno,
                              const wa_segment_link *link, wa_continues *ret,
                              wa_error *err) WA_MUST_CHECK;
/* Make the branch visible: its history, create-only; then the one that waited as pending is removed
 * (best effort). Nothing to do when it is in the archive. */
wa_status wa_branch_settle(wa_repo *repo, const wa_branch_answer *a, wa_error *err) WA_MUST_CHECK;
/* The first record that begins at or after `from`, of what is fed to a reader. */
typedef struct wa_first_record {
    wa_lsn from, prev; /* prev: where the found record says that the one before it begins */
    wa_buf bytes;      /* of the found record: what names a branch */
    bool found;
} wa_first_record;
/* *ret_more false: found, or the bytes end; that they contradict is not this function's subject. */
wa_status wa_first_record_feed(wa_walreader *r, const void *data, size_t len, wa_first_record *f,
                               bool *ret_more, wa_error *err) WA_MUST_CHECK;
/* Which branch would a history make with what pg_wal holds now? *ret_known false: the segment with
 * the fork, or its first record, is not there yet. */
wa_status wa_branch_of_local_history(wa_repo *repo, const char *wal_dir, wa_tli tli,
                                     const void *history, size_t len, bool *ret_known,
                                     wa_branch *ret, wa_error *err) WA_MUST_CHECK;

/* The branch of the server's own timeline, by the first record behind the fork, which the server
 * shows on a connection of its own (conninfo of the one server); by_history where it is gone. */
wa_status wa_branch_of_server(wa_repo *repo, const char *conninfo, wa_tli tli,
                              const wa_buf *history, wa_cancel *cancel, wa_branch_answer *ret,
                              wa_error *err) WA_MUST_CHECK;
/* The branch of a timeline whose first record can't be had any more: the accepted one with this
 * history, else one that nobody rejected, else the one named by the history alone. */
wa_status wa_branch_by_history(wa_repo *repo, wa_tli tli, const wa_buf *history,
                               wa_branch_answer *ret, wa_error *err) WA_MUST_CHECK;

#endif
