/*
 * wal_wait.c - a backup exists when the archive holds all the WAL it needs: find the branch, then
 * wait for [start, end).
 */
#include "backup_internal.h"

#include "walagent/repo/branch.h"
#include "walagent/repo/tail.h"

/* A streaming agent has archived the last segment within tenths of a second: for that long it is
 * looked for often, with one request a time. Without one it may take long: ever less often, and
 * then chunks count too. */
#define POLL_FIRST_MS 10
#define POLL_LAST_MS 250
#define QUICK_LOOKS 40

wa_status
wa_backup_branch(wa_repo *repo, wa_tli tli, wa_branch *ret, wa_error *err)
{
    if (tli == 1) {
        *ret = wa_branch_of(wa_repo_cluster(repo)->system_identifier, 1, NULL, 0, NULL, 0);
        return WA_OK;
    }
    WA_CLEANUP(wa_lineage_freep) wa_lineage *lineage = NULL;
    WA_TRY(wa_lineage_load(repo, &lineage, err));
    const wa_branch *accepted = wa_lineage_branch_of_tli(lineage, tli);
    if (accepted != NULL) {
        *ret = *accepted;
        return WA_OK;
    }
    /* Archives fed by archive_command alone have no accepted child: then the only branch of the
     * timeline is the one. */
    WA_CLEANUP(wa_freep) wa_branch *branches = NULL;
    size_t count = 0;
    WA_TRY(wa_branches_of(repo, tli, &branches, &count, err));
    if (count == 1) {
        *ret = branches[0];
        return WA_OK;
    }
    wa_error_set(err, WA_UNREACHABLE,
                 count == 0
                     ? "timeline %u is not in the archive yet"
                     : "the archive has several branches of timeline %u and none is accepted",
                 tli);
    return wa_error_hint(
        err, count == 0
                 ? "Let \"walagent run\" stream from this server, or let archive_command archive "
                   "the timeline's history first."
                 : "See \"walagent lineage\" and accept one with \"walagent lineage adopt\".");
}

/* The end of what is archived of one segment, without a gap from its start; its start when nothing
 * is. quick: nothing but the whole segment counts. */
static wa_status
segment_reach(wa_repo *repo, const wa_branch *branch, wa_segno segno, bool quick, wa_lsn *ret,
              wa_error *err)
{
    uint64_t size = wa_repo_cluster(repo)->segment_size;
    wa_wal_info info;
    wa_status status = wa_wal_head(repo, branch, segno, &info, err);
    if (status == WA_OK) {
        *ret = wa_segment_start(segno, size) + size;
        return WA_OK;
    }
    if (status != WA_NOT_FOUND)
        return status;
    wa_error_clear(err);
    if (quick) {
        *ret = wa_segment_start(segno, size);
        return WA_OK;
    }
    wa_lsn end = 0;
    status = wa_tail_end(repo, branch, segno, &end, NULL, err);
    if (status == WA_NOT_FOUND) {
        wa_error_clear(err);
        *ret = wa_segment_start(segno, size);
        return WA_OK;
    }
    WA_TRY(status);
    *ret = end;
    return WA_OK;
}

/* Advances *at over what is there; done when it reaches end. Each segment is asked about once. */
static wa_status
advance(const wa_backup_options *options, const wa_backup_info *info, bool quick, wa_lsn *at,
        wa_error *err)
{
    uint64_t size = wa_repo_cluster(options->repo)->segment_size;
    while (*at < info->end_lsn) {
        wa_segno segno = wa_segno_of(*at, size);
        wa_lsn reach = 0, segment_end = wa_segment_start(segno, size) + size;
        WA_TRY(segment_reach(options->repo, &info->branch, segno, quick, &reach, err));
        /* After a promotion during a standby's backup the rest is on the next branch. */
        if (reach < info->end_lsn && reach < segment_end &&
            !wa_branch_eq(&info->branch, &info->end_branch))
            WA_TRY(segment_reach(options->repo, &info->end_branch, segno, quick, &reach, err));
        if (reach > *at)
            *at = reach;
        if (reach < segment_end)
            return WA_OK;
    }
    return WA_OK;
}

wa_status
wa_backup_wait_wal(const wa_backup_options *options, const wa_backup_info *info, wa_error *err)
{
    if (options->progress != NULL)
        atomic_store(&options->progress->phase, "waiting for WAL");
    wa_mono deadline = wa_mono_now() + options->wal_timeout_ms;
    wa_lsn at = info->start_lsn;
    uint64_t pause = POLL_FIRST_MS;
    for (unsigned looks = 0;; looks++) {
        bool late = wa_mono_now() >= deadline;
        bool quick = !late && looks % 8 != 0 && looks < QUICK_LOOKS;
        wa_status status = advance(options, info, quick, &at, err);
        if (status != WA_OK && status != WA_UNAVAILABLE)
            return status;
        if (status == WA_OK && at >= info->end_lsn)
            return WA_OK;
        if (late) {
            char from[WA_LSN_TEXT], to[WA_LSN_TEXT];
            if (status != WA_OK)
                return wa_error_wrap(err,
                                     "could not find out whether the backup's WAL is archived");
            wa_error_set(err, WA_UNAVAILABLE,
                         "the WAL that the backup needs, from %s to %s, did not arrive in the "
                         "archive in time",
                         wa_lsn_format(at, from), wa_lsn_format(info->end_lsn, to));
            return wa_error_hint(err, "See \"walagent status\" and the server's log for why WAL is "
                                      "not archived; the backup is discarded.");
        }
        wa_error_clear(err);
        WA_TRY(wa_cancel_sleep(options->cancel, pause, err));
        if (looks >= QUICK_LOOKS)
            pause = pause * 2 < POLL_LAST_MS ? pause * 2 : POLL_LAST_MS;
    }
}
