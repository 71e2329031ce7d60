/*
 * src/repo/tip.c - where the archived WAL of a branch ends, and the seal that keeps it there.
 */
#include "walagent/repo/tip.h"

#include "wal_internal.h"

#include "walagent/base/crash.h"

#include <stdio.h>
#include <stdlib.h>

#define SEAL_TRIES 100
#define FENCE_TRIES 10
#define LOOKS_MAX 4 /* at chunks that go meanwhile */

/* The chain has no end inside a segment that is there as a whole. */
static wa_status
skip_whole(wa_repo *repo, const wa_branch *branch, wa_lsn *at, wa_error *err)
{
    uint64_t size = wa_repo_cluster(repo)->segment_size;
    for (;;) {
        wa_wal_info info;
        wa_segno segno = wa_segno_of(*at, size);
        wa_status status = wa_wal_head(repo, branch, segno, &info, err);
        if (status == WA_NOT_FOUND) {
            wa_error_clear(err);
            return WA_OK;
        }
        WA_TRY(status);
        *at = (segno + 1) * size;
    }
}

wa_status
wa_tip_follow(wa_repo *repo, const wa_branch *branch, wa_lsn *tip, wa_error *err)
{
    uint64_t size = wa_repo_cluster(repo)->segment_size;
    for (;;) {
        wa_lsn end = 0, start = *tip;
        bool gone = false;
        wa_segno segno = wa_segno_of(*tip, size);
        wa_status status = wa_tail_end_again(repo, branch, segno, &end, NULL, &gone, NULL, err);
        if (status == WA_CORRUPT || (status == WA_NOT_FOUND && gone)) {
            /* Chunks are being removed: the whole segment is there. */
            wa_error other = WA_ERROR_INIT;
            if (skip_whole(repo, branch, tip, &other) == WA_OK && *tip != start) {
                wa_error_clear(err);
                continue;
            }
        }
        if (status == WA_NOT_FOUND) {
            wa_error_clear(err);
            return WA_OK;
        }
        WA_TRY(status);
        if (end > *tip)
            *tip = end;
        if (end < (segno + 1) * size)
            return WA_OK;
    }
}

/* Only chunks, no whole segment: the newest run of segments that have some. */
static wa_status
first_of_tail_run(wa_repo *repo, const wa_branch *branch, wa_lsn *tip, wa_error *err)
{
    WA_CLEANUP(wa_freep) wa_segno *segments = NULL;
    size_t count = 0;
    WA_TRY(wa_tail_segments(repo, branch, &segments, &count, err));
    if (count == 0)
        return WA_OK;
    size_t first = count - 1;
    while (first > 0 && segments[first - 1] + 1 == segments[first])
        first--;
    *tip = segments[first] * wa_repo_cluster(repo)->segment_size;
    return WA_OK;
}

wa_status
wa_tip_find(wa_repo *repo, const wa_lineage *l, wa_lsn *ret, wa_error *err)
{
    const wa_lineage_step *head = wa_lineage_head(l);
    wa_segno last = 0;
    WA_ASSERT(head != NULL);
    wa_lsn tip = head->begin;
    wa_status status = wa_wal_last(repo, &head->branch, &last, err);
    if (status != WA_OK && status != WA_NOT_FOUND)
        return status;
    wa_error_clear(err);
    if (status == WA_OK && (last + 1) * wa_repo_cluster(repo)->segment_size > tip)
        tip = (last + 1) * wa_repo_cluster(repo)->segment_size;
    else if (tip == 0)
        WA_TRY(first_of_tail_run(repo, &head->branch, &tip, err));
    if (tip != 0)
        WA_TRY(wa_tip_follow(repo, &head->branch, &tip, err));
    *ret = tip;
    return WA_OK;
}

/* *ret_on: what is there rests on the segment before. */
static wa_status
settle_segment(wa_repo *repo, const wa_branch *branch, wa_segno segno, bool *ret_on, wa_error *err)
{
    bool nothing = false; /* was there at a look before */
    for (int look = 0;; look++) {
        size_t chunks = 0;
        wa_status status = wa_wal_settle(repo, branch, segno, err);
        *ret_on = false;
        if (status != WA_NOT_FOUND)
            return status;
        wa_error_clear(err);
        status = wa_tail_settle(repo, branch, segno, &chunks, err);
        *ret_on = chunks > 0;
        if (status == WA_OK && chunks == 0 && !nothing) {
            nothing = true; /* or the whole segment has come between the two */
            continue;
        }
        if (status != WA_NOT_FOUND)
            return status;
        if (look + 1 >= LOOKS_MAX)
            return err->status = WA_UNAVAILABLE;
        wa_error_clear(err); /* chunks went: the whole segment has come */
    }
}

wa_status
wa_tip_settle(wa_repo *repo, const wa_branch *branch, wa_lsn tip, wa_error *err)
{
    uint64_t size = wa_repo_cluster(repo)->segment_size;
    bool on = tip > 0;
    for (wa_segno segno = wa_segno_of(tip - 1, size); on; segno--) {
        WA_TRY(settle_segment(repo, branch, segno, &on, err));
        on = on && segno > 0;
    }
    return WA_OK;
}

wa_status
wa_tip_seal(wa_repo *repo, const wa_branch *branch, uint32_t epoch, wa_lsn from, wa_lsn *ret_lsn,
            wa_error *err)
{
    char text[WA_LSN_TEXT];
    wa_lsn at = from;
    for (int i = 0; i < SEAL_TRIES; i++) {
        wa_lsn next = at;
        WA_CRASH_POINT("seal-before-put");
        wa_status status = wa_tail_put_seal(repo, branch, epoch, at, err);
        if (status != WA_OK && status != WA_EXISTS)
            return status;
        wa_error_clear(err);
        WA_TRY(skip_whole(repo, branch, &next, err));
        if (status == WA_EXISTS) /* bytes: a seal that is there already is OK */
            WA_TRY(wa_tip_follow(repo, branch, &next, err));
        else if (next == at) {
            *ret_lsn = at;
            return wa_tip_settle(repo, branch, at, err);
        }
        if (next == at)
            return wa_error_set(err, WA_CONFLICT,
                                "a chunk of epoch %u begins at %s, where the archived WAL ends",
                                epoch, wa_lsn_format(at, text));
        at = next;
    }
    return wa_error_set(err, WA_UNAVAILABLE, "the writer of epoch %u is faster than the seal",
                        epoch);
}

wa_status
wa_tip_end_epoch(wa_repo *repo, const wa_lineage *l, bool *ret_sealed, wa_error *err)
{
    wa_lsn tip = 0;
    WA_TRY(wa_tip_find(repo, l, &tip, err));
    if (tip != 0)
        WA_TRY(wa_tip_seal(repo, &wa_lineage_head(l)->branch, l->epoch, tip, &tip, err));
    *ret_sealed = tip != 0;
    return WA_OK;
}

static wa_status
check_writer(const wa_lineage *l, wa_error *err)
{
    if (wa_lineage_has_writer(l))
        return WA_OK;
    wa_error_set(err, WA_NOT_FOUND, "no agent writes here: nobody was fenced");
    return wa_error_hint(err, "Only an agent (\"walagent run\") can be fenced; what "
                              "archive_command archives is not. Stop the old primary itself.");
}

/* The tip that a seal goes to. */
static wa_status
find_place(wa_repo *repo, const wa_lineage *l, wa_lsn *ret, wa_error *err)
{
    WA_TRY(check_writer(l, err));
    WA_TRY(wa_tip_find(repo, l, ret, err));
    if (*ret != 0)
        return WA_OK;
    wa_error_set(err, WA_NOT_FOUND, "nothing is archived yet: nobody was fenced");
    return wa_error_hint(err,
                         "Try again when \"walagent lineage\" shows archived WAL, or stop "
                         "the agent that is writer %s.",
                         l->writer);
}

static wa_status
changed_by_others(wa_error *err)
{
    return wa_error_set(err, WA_UNAVAILABLE, "the lineage was changed by others %d times meanwhile",
                        FENCE_TRIES);
}

static wa_status
fence_once(wa_repo *repo, const wa_lineage *l, wa_lsn *ret, wa_error *err)
{
    wa_lsn tip = 0;
    WA_TRY(find_place(repo, l, &tip, err));
    return wa_tip_seal(repo, &wa_lineage_head(l)->branch, l->epoch, tip, ret, err);
}

/* The next lineage, a copy of *l that is changed already. It takes its place. EXISTS: another was
 * faster, and *l is what he wrote. */
static wa_status
store_next(wa_repo *repo, wa_lineage *next, const char *reason, wa_lineage **l, wa_error *err)
{
    snprintf(next->reason, sizeof next->reason, "%s", reason);
    next->since = wa_time_now();
    wa_status status = wa_lineage_store(repo, next, err);
    if (status == WA_OK || status == WA_EXISTS) {
        wa_lineage *now = NULL;
        wa_error other = WA_ERROR_INIT;
        if (wa_lineage_load(repo, &now, &other) != WA_OK) {
            *err = other;
            return other.status;
        }
        wa_lineage_free(*l);
        *l = now;
    }
    return status;
}

/* Said before the seal is there: who starts in between must not write either. */
static wa_status
hold_epoch(wa_repo *repo, wa_lineage **l, wa_error *err)
{
    for (int i = 0; i < FENCE_TRIES; i++) {
        WA_TRY(check_writer(*l, err));
        if (wa_lineage_is_held(*l))
            return WA_OK;
        WA_CLEANUP(wa_lineage_freep) wa_lineage *next = wa_lineage_copy(*l);
        next->held_epoch = next->epoch;
        wa_status status = store_next(repo, next, "sealed and held", l, err);
        if (status != WA_EXISTS)
            return status;
        wa_error_clear(err);
    }
    return changed_by_others(err);
}

/* *l: the lineage whose epoch is sealed; or that is tried with, when it fails. */
static wa_status
fence_newest(wa_repo *repo, bool hold, wa_lineage **l, wa_lsn *ret_lsn, wa_error *err)
{
    for (int i = 0; i < FENCE_TRIES; i++) {
        wa_lsn at = 0;
        WA_CLEANUP(wa_lineage_freep) wa_lineage *newer = NULL;
        if (hold)
            WA_TRY(hold_epoch(repo, l, err));
        WA_TRY(fence_once(repo, *l, &at, err));
        /* Who opens an epoch writes the lineage; after the seal, or it is seen here. */
        WA_TRY(wa_lineage_load(repo, &newer, err));
        if (newer->number == (*l)->number) {
            *ret_lsn = at;
            return WA_OK;
        }
        wa_lineage_free(*l);
        *l = WA_TAKE(newer);
    }
    return changed_by_others(err);
}

wa_status
wa_tip_fence(wa_repo *repo, bool hold, wa_lineage **ret, wa_lsn *ret_lsn, wa_error *err)
{
    WA_CLEANUP(wa_lineage_freep) wa_lineage *l = NULL;
    wa_lsn at = 0;
    WA_TRY(wa_lineage_load(repo, &l, err));
    if (hold) /* nobody is held where nobody can be fenced */
        WA_TRY(find_place(repo, l, &at, err));
    wa_status status = fence_newest(repo, hold, &l, &at, err);
    if (status != WA_OK && hold && wa_lineage_is_held(l)) {
        wa_error_wrap(err, "epoch %u is held, but not known to be sealed: its writer may go on",
                      l->epoch);
        return wa_error_hint(err, "Run it again: \"walagent lineage\" shows what is held and what "
                                  "is sealed. \"walagent lineage unseal\" takes it back.");
    }
    WA_TRY(status);
    *ret = WA_TAKE(l);
    *ret_lsn = at;
    return WA_OK;
}

/* A hold whose seal never came: its writer may run still, and what it puts must not be behind an
 * epoch that others take for the newest. So the epoch ends before the next one begins; where
 * nothing is archived there is no place for a seal, and it doesn't end. Taking back the hold alone
 * would not do: a writer that was started meanwhile waits for an epoch of its own. */
wa_status
wa_tip_unseal(wa_repo *repo, wa_lineage **ret, wa_error *err)
{
    WA_CLEANUP(wa_lineage_freep) wa_lineage *l = NULL;
    WA_TRY(wa_lineage_load(repo, &l, err));
    for (int i = 0; i < FENCE_TRIES; i++) {
        bool sealed = false, ends = true;
        if (l->number != 0 && wa_lineage_head(l) != NULL)
            WA_TRY(wa_tip_is_sealed(repo, &wa_lineage_head(l)->branch, l->epoch, &sealed, err));
        if (!sealed && !wa_lineage_is_held(l))
            return wa_error_set(err, WA_NOT_FOUND, "epoch %u is not sealed: nothing was changed",
                                l->epoch);
        if (!sealed)
            WA_TRY(wa_tip_end_epoch(repo, l, &ends, err));
        WA_CLEANUP(wa_lineage_freep) wa_lineage *next = wa_lineage_copy(l);
        next->held_epoch = 0;
        if (ends)
            next->epoch++;
        wa_status status = store_next(repo, next, "unsealed", &l, err);
        if (status == WA_OK)
            *ret = WA_TAKE(l);
        if (status != WA_EXISTS)
            return status;
        wa_error_clear(err);
    }
    return changed_by_others(err);
}

/* The last chunk of the epoch in a segment; *ret_key NULL: it has none. */
static wa_status
last_of_epoch(wa_repo *repo, const wa_branch *branch, wa_segno segno, uint32_t epoch,
              char **ret_key, wa_error *err)
{
    WA_CLEANUP(wa_chunks_done) wa_chunks chunks = {0};
    WA_TRY(wa_tail_list(repo, branch, segno, &chunks, err));
    for (size_t i = chunks.count; i > 0 && *ret_key == NULL; i--)
        if (chunks.items[i - 1].epoch == epoch)
            *ret_key = WA_TAKE(chunks.items[i - 1].key);
    return WA_OK;
}

static wa_status
is_sealed(wa_repo *repo, const wa_branch *branch, uint32_t epoch, bool *ret, bool *ret_gone,
          wa_error *err)
{
    WA_CLEANUP(wa_freep) wa_segno *segments = NULL;
    WA_CLEANUP(wa_freep) char *key = NULL;
    wa_wal_info info = {0};
    size_t count = 0;
    WA_TRY(wa_tail_segments(repo, branch, &segments, &count, err));
    for (size_t i = count; i > 0 && key == NULL; i--)
        WA_TRY(last_of_epoch(repo, branch, segments[i - 1], epoch, &key, err));
    wa_status status = key == NULL ? WA_OK : wa_wal_object_info(repo, key, &info, err);
    *ret_gone = status == WA_NOT_FOUND;
    WA_TRY(status);
    *ret = key != NULL && info.base == info.end;
    return WA_OK;
}

wa_status
wa_tip_is_sealed(wa_repo *repo, const wa_branch *branch, uint32_t epoch, bool *ret, wa_error *err)
{
    for (int look = 0;; look++) {
        bool gone = false;
        wa_status status = is_sealed(repo, branch, epoch, ret, &gone, err);
        if (!gone)
            return status;
        if (look + 1 == LOOKS_MAX)
            return err->status = WA_UNAVAILABLE;
        wa_error_clear(err); /* its whole segment is there: look which is the last one now */
    }
}
