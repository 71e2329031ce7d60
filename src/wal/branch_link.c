/*
 * branch_link.c - does a segment go on where a branch's previous segment ends?
 *
 * Two servers that were promoted at one point write WAL that looks alike, and this is what tells
 * them apart where the first record behind the fork is gone. The evidence: the segment before, as
 * far as pg_wal still has it, is the archived one or not; and the first record that begins in the
 * segment links back to the one before it, which is the last that ends in the segment before, or
 * the one that begins where that ends and crosses over. Evidence that is not there is no answer.
 */
#include "branch_of_internal.h"

#include "walagent/base/file.h"
#include "walagent/codec/hash.h"
#include "walagent/repo/resolution.h"
#include "walagent/repo/wal_object.h"

#include <string.h>
#include <unistd.h>

#define SHORT_HEADER 24u /* of a page that begins no segment, access/xlog_internal.h */

static wa_status
read_link(const wa_branch_question *q, wa_lsn *ret, wa_error *err)
{
    uint64_t size = wa_repo_cluster(q->repo)->segment_size;
    WA_CLEANUP(wa_walreader_freep) wa_walreader *r = wa_walreader_new(size);
    wa_walreader_start(r, wa_segment_start(q->segno, size), 0);
    wa_first_record f = {.bytes = WA_BUF_INIT(WA_RECORD_KEEP + WA_RECORD_HEADER)};
    bool more = false;
    wa_status status = wa_first_record_feed(r, q->data, size, &f, &more, err);
    *ret = f.prev;
    wa_buf_done(&f.bytes);
    return status;
}

static wa_status
hash_before(const wa_branch_question *q, char ret[static WA_XXH_HEX], wa_error *err)
{
    uint64_t size = wa_repo_cluster(q->repo)->segment_size;
    WA_CLEANUP(wa_closep) int fd = wa_branch_open_segment(q, q->segno - 1);
    if (fd < 0)
        return WA_OK;
    WA_CLEANUP(wa_freep) void *data = wa_malloc(size);
    WA_TRY(wa_pread_all(fd, data, size, 0, "pg_wal", err));
    wa_xxh_of(data, size, ret);
    return WA_OK;
}

wa_status
wa_segment_link_read(const wa_branch_question *q, wa_segment_link *link, wa_error *err)
{
    if (q->data == NULL || q->segno == 0 || link->read)
        return WA_OK;
    wa_segment_link found = {.read = true};
    wa_segment_name(q->tli, q->segno - 1, wa_repo_cluster(q->repo)->segment_size, found.name);
    WA_TRY(read_link(q, &found.prev, err));
    WA_TRY(hash_before(q, found.before, err));
    *link = found;
    return WA_OK;
}

/* Where a record begins that follows one that ends at `end`. */
static wa_lsn
next_begin(wa_lsn end)
{
    return end % WA_WAL_PAGE == 0 ? end + SHORT_HEADER : end;
}

static wa_continues
by_link(const wa_segment_link *link, const wa_wal_facts *facts)
{
    if (link->prev == 0 || facts->last_record == 0)
        return WA_CONTINUES_UNKNOWN;
    bool fits = link->prev == facts->last_record || link->prev == next_begin(facts->last_end);
    return fits ? WA_CONTINUES_YES : WA_CONTINUES_NO;
}

wa_status
wa_branch_continues(wa_repo *repo, const wa_branch *branch, wa_segno segno,
                    const wa_segment_link *link, wa_continues *ret, wa_error *err)
{
    *ret = WA_CONTINUES_UNKNOWN;
    if (segno == 0 || link->name[0] == '\0')
        return WA_OK;
    WA_CLEANUP(wa_freep) wa_wal_facts *facts = wa_malloc(sizeof *facts);
    wa_wal_info info = {0};
    wa_status status = wa_wal_get_facts(repo, branch, segno - 1, facts, &info, err);
    if (status == WA_NOT_FOUND || status == WA_CORRUPT || status == WA_UNSUPPORTED) {
        wa_error_clear(err);
        return WA_OK;
    }
    WA_TRY(status);
    wa_continues answer = by_link(link, facts);
    if (!info.checked && answer == WA_CONTINUES_NO)
        answer = WA_CONTINUES_UNKNOWN; /* its facts end where its damage begins */
    if (link->before[0] != '\0' && strcmp(info.xxh3, link->before) == 0) {
        answer = WA_CONTINUES_YES;
    } else if (link->before[0] != '\0') {
        /* a person may have said that archiving goes on although it has other bytes there */
        bool settled = false;
        WA_TRY(wa_resolution_exists(repo, branch, link->name, link->before, &settled, err));
        answer = settled ? answer : WA_CONTINUES_NO;
    }
    *ret = answer;
    return WA_OK;
}
