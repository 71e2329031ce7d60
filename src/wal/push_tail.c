/*
 * push_tail.c - an unfinished segment under a whole name, and .partial files.
 *
 * Never stored under the whole name. Its valid prefix is in the archive already (a whole segment or
 * the chain of chunks holds the same bytes: then it is seen to that they stay, for another process
 * may have written them and died), or becomes a cumulative chunk behind the chain's end. Other
 * bytes are a conflict.
 */
#include "push_internal.h"

#include "walagent/repo/lineage.h"
#include "walagent/repo/tail.h"

#include <stdio.h>
#include <string.h>

#define ATTEMPTS 8 /* against a writer that extends the chain at the same time */

static wa_status
conflicting(wa_push_job *job, const wa_branch *branch, size_t len, const char *with, wa_error *err)
{
    WA_CLEANUP(wa_freep) char *kept = NULL;
    WA_CLEANUP(wa_freep)
    char *reason = wa_format("%s segment that contradicts %s",
                             len < job->size ? "an unfinished" : "a whole", with);
    WA_TRY(wa_wal_quarantine(job->repo, branch, job->name, job->data, len, reason, &kept, err));
    char segment[WA_SEGMENT_NAME];
    wa_segment_name(job->tli, job->segno, job->size, segment);
    wa_error_set(err, WA_CONFLICT, "%s \"%s\" contradicts %s; it is kept as \"%s\"",
                 len < job->size ? "unfinished WAL segment" : "WAL segment", job->name, with, kept);
    return wa_error_hint(err,
                         "Two servers wrote this segment. Find out which one is right, then run "
                         "\"walagent lineage resolve %s --keep archived|both\".",
                         segment);
}

/* NOT_FOUND: it went meanwhile. */
static wa_status
compare_whole(wa_push_job *job, const wa_branch *branch, size_t len, wa_error *err)
{
    WA_CLEANUP(wa_freep) void *whole = wa_malloc(job->size);
    WA_TRY(wa_wal_get(job->repo, branch, job->segno, job->options->pool, whole, NULL, NULL, err));
    if (memcmp(whole, job->data, len) != 0)
        return conflicting(job, branch, len, "the archived one", err);
    return wa_wal_settle(job->repo, branch, job->segno, err);
}

/* Does the whole segment, if there is one, begin with these bytes? */
static wa_status
in_whole_segment(wa_push_job *job, const wa_branch *branch, size_t len, bool *ret_there,
                 wa_error *err)
{
    wa_wal_info info = {0};
    wa_status status = wa_wal_head(job->repo, branch, job->segno, &info, err);
    if (status == WA_OK)
        status = compare_whole(job, branch, len, err);
    *ret_there = status == WA_OK;
    if (status != WA_NOT_FOUND)
        return status;
    wa_error_clear(err);
    return WA_OK;
}

/* The end of the chain of chunks; its bytes and ours agree as far as both go. */
static wa_status
compare_chain(wa_push_job *job, const wa_branch *branch, size_t len, wa_lsn *ret_end, wa_error *err)
{
    WA_CLEANUP(wa_freep) uint8_t *bytes = wa_malloc(job->size);
    wa_lsn end = 0;
    wa_status status = wa_tail_assemble(job->repo, branch, job->segno, bytes, &end, NULL, err);
    if (status == WA_NOT_FOUND) {
        wa_error_clear(err);
        *ret_end = job->start;
        return WA_OK;
    }
    WA_TRY(status);
    size_t both = (size_t)(end - job->start);
    if (memcmp(bytes, job->data, both < len ? both : len) != 0)
        return conflicting(job, branch, len, "its archived chunks", err);
    *ret_end = end;
    return WA_OK;
}

/* The chain can't be extended (its epoch is sealed): keep the bytes as a file of their own. */
static wa_status
keep_beside(wa_push_job *job, const wa_branch *branch, size_t len, wa_push_result *ret,
            wa_error *err)
{
    char segment[WA_SEGMENT_NAME];
    wa_segment_name(job->tli, job->segno, job->size, segment);
    WA_CLEANUP(wa_freep) char *name = wa_format("%s.partial", segment);
    WA_TRY(wa_wal_put_other(job->repo, branch, name, job->data, len, err));
    snprintf(ret->warning, sizeof ret->warning,
             "WAL segment \"%s\" is unfinished and its chain of chunks is sealed: its valid part "
             "is kept as \"%s\"",
             segment, name);
    return WA_OK;
}

wa_status
wa_push_compare_chain(wa_push_job *job, const wa_branch *branch, size_t len, wa_error *err)
{
    wa_lsn end = 0;
    wa_status status = compare_chain(job, branch, len, &end, err);
    if (status != WA_CORRUPT)
        return status;
    wa_error_clear(err); /* damaged chunks are all the more a reason to have the whole */
    return WA_OK;
}

wa_status
wa_push_prefix(wa_push_job *job, const wa_branch *branch, wa_push_result *ret, wa_error *err)
{
    char lsn[WA_LSN_TEXT];
    wa_lsn end = job->check.valid_end;
    size_t len = (size_t)(end - job->start);
    snprintf(ret->warning, sizeof ret->warning,
             "WAL file \"%s\" is unfinished: its valid part, up to %s, is archived as a chunk",
             job->name, wa_lsn_format(end, lsn));
    ret->outcome = WA_PUT_SAME;
    if (len == 0)
        return WA_OK; /* nothing that could be lost */
    WA_CLEANUP(wa_lineage_freep) wa_lineage *lineage = NULL;
    WA_TRY(wa_lineage_load(job->repo, &lineage, err));
    for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
        wa_lsn have = 0;
        bool whole = false;
        WA_TRY(in_whole_segment(job, branch, len, &whole, err));
        if (whole)
            return WA_OK;
        WA_TRY(compare_chain(job, branch, len, &have, err));
        bool held = have >= end;
        wa_status status = held ? wa_tail_settle(job->repo, branch, job->segno, NULL, err)
                                : wa_tail_put(job->repo, branch, lineage->epoch, have, job->start,
                                              job->data, len, job->facts, !job->damaged, err);
        if (status == WA_OK && !held)
            ret->outcome = WA_PUT_CREATED;
        /* Chunks go when the whole segment has come. */
        if (status != (held ? WA_NOT_FOUND : WA_EXISTS))
            return status;
        wa_error_clear(err);
    }
    return keep_beside(job, branch, len, ret, err);
}
