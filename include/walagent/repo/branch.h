/*
 * walagent/repo/branch.h - branches of timelines in the archive, and their history files.
 *
 * A history file names neither server nor time: two replicas promoted at the same LSN write
 * identical ones. So a branch is identified by id8 = first 8 hex digits of SHA-256 over: decimal
 * system identifier, NUL, exact history bytes, NUL, bytes of the first record that begins at or
 * after the fork on the timeline (both parts empty for timeline 1). Where that record is gone, by
 * the history alone.
 *
 *   timeline/<TLI8>-<id8>/history           exact bytes
 *   timeline/<TLI8>-pending/<sha256>        a history that came before the first record
 */
#ifndef WALAGENT_REPO_BRANCH_H
#define WALAGENT_REPO_BRANCH_H

#include "walagent/base/buf.h"
#include "walagent/pg/timeline.h"
#include "walagent/pg/walreader.h"
#include "walagent/repo/repo.h"

#define WA_RECORD_HEADER 24u

/* The record's bytes without page headers: what names a branch (its body must be kept whole). */
void wa_branch_record_bytes(const wa_record *record, wa_buf *ret);
/* record NULL: not known. history NULL and len 0 for timeline 1. */
wa_branch wa_branch_of(uint64_t system_identifier, wa_tli tli, const void *history,
                       size_t history_len, const void *record, size_t record_len);
/* Branches of a timeline that exist in the archive (have a history; timeline 1 always has its one).
 * Caller frees the array. */
wa_status wa_branches_of(wa_repo *repo, wa_tli tli, wa_branch **ret, size_t *ret_count,
                         wa_error *err) WA_MUST_CHECK;
/* All, ordered by timeline and id. */
wa_status wa_branches_all(wa_repo *repo, wa_branch **ret, size_t *ret_count,
                          wa_error *err) WA_MUST_CHECK;
/* Create-only; the same bytes again are fine; other bytes: CONFLICT. Timeline 1 takes no bytes:
 * that makes a further branch of it ("...-2") known. */
wa_status wa_history_put(wa_repo *repo, const wa_branch *branch, const void *data, size_t len,
                         wa_error *err) WA_MUST_CHECK;
wa_status wa_history_get(wa_repo *repo, const wa_branch *branch, wa_buf *ret,
                         wa_error *err) WA_MUST_CHECK;
wa_status wa_history_load(wa_repo *repo, const wa_branch *branch, wa_history **ret,
                          wa_error *err) WA_MUST_CHECK; /* timeline 1: empty */
wa_status wa_history_put_pending(wa_repo *repo, wa_tli tli, const void *data, size_t len,
                                 wa_error *err) WA_MUST_CHECK;
/* Pending histories of a timeline as raw texts (strv items may hold no NUL). */
wa_status wa_history_pending(wa_repo *repo, wa_tli tli, wa_strv *ret, wa_error *err) WA_MUST_CHECK;

#endif
