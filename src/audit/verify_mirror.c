/*
 * verify_mirror.c - has a mirror whole what the main repository has damaged? Then restore and
 * archive-get read it there: what lies behind it can be reached.
 */
#include "verify_internal.h"

#include "walagent/pg/walreader.h"
#include "walagent/store/mirror.h"

#include <string.h>

/* As archive-get takes it. */
static wa_status
read_whole(wa_repo *repo, const wa_branch *branch, wa_segno segno, void *bytes, wa_error *err)
{
    uint64_t size = wa_repo_cluster(repo)->segment_size;
    wa_wal_info info = {0};
    wa_segment_check check = {0};
    WA_TRY(wa_wal_get(repo, branch, segno, NULL, bytes, NULL, &info, err));
    if (!info.checked)
        return WA_OK;
    WA_TRY(
        wa_segment_check_all(bytes, size, wa_segment_start(segno, size), NULL, NULL, &check, err));
    if (check.parsed && !check.complete)
        return wa_error_set(err, WA_CORRUPT, "the segment is not complete");
    return WA_OK;
}

static bool
has_or_lacks(wa_status status)
{
    return status == WA_OK || status == WA_NOT_FOUND || status == WA_CORRUPT ||
           status == WA_CONFLICT || status == WA_UNSUPPORTED;
}

void
wa_verify_look_in_mirrors(wa_verify *v, const wa_branch *branch, wa_segno segno, void *bytes,
                          wa_verify_mirror *ret)
{
    *ret = (wa_verify_mirror){.name = ""};
    if (v->options->mirrored == NULL)
        return;
    wa_store *store = wa_repo_store(v->options->mirrored);
    for (size_t i = 1; i < wa_store_members(store) && ret->name[0] == '\0'; i++) {
        wa_error here = WA_ERROR_INIT;
        wa_member_status member;
        WA_CLEANUP(wa_repo_freep) wa_repo *repo = wa_repo_member(v->options->mirrored, i);
        wa_store_member_status(store, i, &member);
        wa_status status = read_whole(repo, branch, segno, bytes, &here);
        if (status == WA_NOT_FOUND) {
            wa_error_clear(&here);
            status = wa_repo_still_there(repo, &here) == WA_OK ? WA_NOT_FOUND : here.status;
        }
        if (status == WA_OK)
            memcpy(ret->name, member.name, sizeof ret->name);
        if (has_or_lacks(status))
            continue;
        memcpy(ret->away, member.name, sizeof ret->away);
        snprintf(ret->why, sizeof ret->why, "%.255s", here.message);
    }
}

char *
wa_verify_cost_with(wa_verify *v, const wa_branch *branch, wa_lsn begin, wa_lsn end,
                    const wa_verify_mirror *mirror)
{
    char a[WA_LSN_TEXT], b[WA_LSN_TEXT];
    if (mirror->name[0] != '\0')
        return wa_format("WAL from %s to %s: nothing as long as repository \"%s\" has it whole: "
                         "restore and archive-get read it there",
                         wa_lsn_format(begin, a), wa_lsn_format(end, b), mirror->name);
    WA_CLEANUP(wa_freep) char *cost = wa_verify_cost(v, branch, begin, end);
    if (mirror->away[0] == '\0')
        return WA_TAKE(cost);
    return wa_format("%s; repository \"%s\" may have it whole but could not be asked: %s", cost,
                     mirror->away, mirror->why);
}
