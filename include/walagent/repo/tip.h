/*
 * walagent/repo/tip.h - where the archived WAL of a branch ends, and the seal that keeps it there.
 *
 *   whole segments |--- chunks, over segment ends ---|tip
 *
 * The chain of chunks may reach over a segment's end before the whole segment was written.
 */
#ifndef WALAGENT_REPO_TIP_H
#define WALAGENT_REPO_TIP_H

#include "walagent/repo/lineage.h"
#include "walagent/repo/tail.h"

/* The tip of the lineage's head: behind the last whole segment or where the head begins, on with
 * the chunks. 0: nothing is archived. CORRUPT: a chain without its first chunk. */
wa_status wa_tip_find(wa_repo *repo, const wa_lineage *l, wa_lsn *ret, wa_error *err) WA_MUST_CHECK;
/* On from *tip over the chunks, as far as they reach. */
wa_status wa_tip_follow(wa_repo *repo, const wa_branch *branch, wa_lsn *tip,
                        wa_error *err) WA_MUST_CHECK;
/* What a tip rests on stays after a power failure, for one who acknowledges it: the last whole
 * segment before it, and the chunks from there on (wa_wal_settle). Who wrote what lies before saw
 * to that before it went on. */
wa_status wa_tip_settle(wa_repo *repo, const wa_branch *branch, wa_lsn tip,
                        wa_error *err) WA_MUST_CHECK;
/* Seal an epoch at `from` (a tip), or where the chain ends that its writer extended meanwhile;
 * *ret_lsn: there. A seal that is there already is fine. A whole segment that was under way may
 * have come after the seal was thought of and before it was there; then its writer has not seen the
 * seal and has acknowledged it: sealed behind it, too. What it is the end of is settled.
 * UNAVAILABLE: its writer was faster each time. CONFLICT: the name is taken by bytes that are no
 * part of the chain. */
wa_status wa_tip_seal(wa_repo *repo, const wa_branch *branch, uint32_t epoch, wa_lsn from,
                      wa_lsn *ret_lsn, wa_error *err) WA_MUST_CHECK;
/* Seal this lineage's epoch at the head's tip. Where nothing is archived there is no place for a
 * seal: *ret_sealed false. */
wa_status wa_tip_end_epoch(wa_repo *repo, const wa_lineage *l, bool *ret_sealed,
                           wa_error *err) WA_MUST_CHECK;
/* Seal the epoch of the head's writer, as the lineage says: of the newest one when somebody took
 * over or opened another epoch meanwhile. *ret: the lineage whose epoch is sealed. NOT_FOUND:
 * nobody was fenced, since no agent writes here or nothing is archived. hold: the lineage says so
 * before that, and no agent opens another epoch on this timeline until it is unsealed. When it
 * fails in between, the error says that the epoch is held and not known to be sealed. */
wa_status wa_tip_fence(wa_repo *repo, bool hold, wa_lineage **ret, wa_lsn *ret_lsn,
                       wa_error *err) WA_MUST_CHECK;
/* Open the next epoch for the writer whose epoch was sealed. One that is held and was not sealed is
 * sealed first, so that a writer that still runs ends there; where nothing is archived only the
 * hold is taken back. NOT_FOUND: neither sealed nor held. */
wa_status wa_tip_unseal(wa_repo *repo, wa_lineage **ret, wa_error *err) WA_MUST_CHECK;
/* Is the last chunk of the epoch a seal? Also where a whole segment came behind it, that was under
 * way or that archive_command pushed. */
wa_status wa_tip_is_sealed(wa_repo *repo, const wa_branch *branch, uint32_t epoch, bool *ret,
                           wa_error *err) WA_MUST_CHECK;

#endif
