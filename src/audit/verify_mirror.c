/*
 * verify_mirror.c - has a mirror whole what the main repository has damaged? Then restore and
 * archive-get read it there: what lies behind it can be reached. And has it what the main one
 * lacks? That can be reached by --repository.
 */
#include "verify_internal.h"

#include "walagent/base/bytes.h"
#include "walagent/pg/walreader.h"
#include "walagent/repo/coverage.h"
#include "walagent/store/mirror.h"

#include <string.h>

#define LONG_HEADER 2u

typedef struct wanted {
    const wa_branch *branch;
    const wa_tli *timelines; /* that its pages may carry; none: any */
    size_t timeline_count;
    wa_segno segno;
    uint8_t *bytes;
} wanted;

static bool
may_carry(const wanted *w, wa_tli tli)
{
    bool known = w->timeline_count == 0;
    for (size_t i = 0; i < w->timeline_count; i++)
        known |= w->timelines[i] == tli;
    return known && tli <= w->branch->tli;
}

/* Is it this cluster's, and this segment? Of a version that is not known nobody can tell. */
static bool
first_page_fits(const wa_cluster *cluster, const wanted *w)
{
    const uint8_t *page = w->bytes;
    return wa_wal_magic_major(wa_get_u16le(page)) == 0 ||
           ((wa_get_u16le(page + 2) & LONG_HEADER) != 0 &&
            wa_get_u64le(page + 24) == cluster->system_identifier &&
            wa_get_u64le(page + 8) == wa_segment_start(w->segno, cluster->segment_size) &&
            may_carry(w, wa_get_u32le(page + 4)));
}

/* As archive-get takes it. */
static wa_status
read_whole(wa_repo *repo, const wanted *w, wa_error *err)
{
    const wa_cluster *cluster = wa_repo_cluster(repo);
    uint64_t size = cluster->segment_size;
    wa_wal_info info = {0};
    wa_segment_check check = {0};
    WA_TRY(wa_wal_get(repo, w->branch, w->segno, NULL, w->bytes, NULL, &info, err));
    if (!first_page_fits(cluster, w))
        return wa_error_set(err, WA_CORRUPT, "the segment has another first page");
    if (!info.checked)
        return WA_OK;
    WA_TRY(wa_segment_check_all(w->bytes, size, wa_segment_start(w->segno, size), NULL, NULL,
                                &check, err));
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

static bool
was_away(wa_verify *v, size_t member, wa_error *err)
{
    WA_LOCK(&v->mutex);
    if (v->away == NULL || v->away[member] == NULL)
        return false;
    (void)wa_error_set(err, WA_UNAVAILABLE, "%s", v->away[member]);
    return true;
}

static void
note_away(wa_verify *v, size_t member, size_t members, const char *why)
{
    WA_LOCK(&v->mutex);
    if (v->away == NULL)
        v->away = wa_calloc(members, sizeof *v->away);
    if (v->away[member] == NULL)
        v->away[member] = wa_strdup(why);
}

void
wa_verify_away_done(wa_verify *v)
{
    if (v->away != NULL)
        for (size_t i = 0; i < wa_store_members(wa_repo_store(v->options->mirrored)); i++)
            wa_freep(&v->away[i]);
    wa_freep(&v->away);
}

static wa_status
ask(wa_verify *v, size_t member, const wanted *w, wa_error *err)
{
    if (was_away(v, member, err))
        return WA_UNAVAILABLE;
    WA_CLEANUP(wa_repo_freep) wa_repo *repo = wa_repo_member(v->options->mirrored, member);
    wa_status status = read_whole(repo, w, err);
    if (status == WA_NOT_FOUND) {
        wa_error_clear(err);
        status = wa_repo_still_there(repo, err) == WA_OK ? WA_NOT_FOUND : err->status;
    }
    if (status == WA_UNAVAILABLE)
        note_away(v, member, wa_store_members(wa_repo_store(v->options->mirrored)), err->message);
    return status;
}

void
wa_verify_look_in_mirrors(wa_verify *v, const wa_branch *branch, const wa_tli *timelines,
                          size_t timeline_count, wa_segno segno, void *bytes, wa_verify_mirror *ret)
{
    *ret = (wa_verify_mirror){.name = ""};
    if (v->options->mirrored == NULL)
        return;
    const wanted w = {branch, timelines, timeline_count, segno, bytes};
    wa_store *store = wa_repo_store(v->options->mirrored);
    for (size_t i = 1; i < wa_store_members(store) && ret->name[0] == '\0'; i++) {
        wa_error here = WA_ERROR_INIT;
        wa_member_status member;
        wa_status status = ask(v, i, &w, &here);
        wa_store_member_status(store, i, &member);
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

static wa_status
covers(wa_verify *v, size_t member, wa_lsn begin, wa_lsn end, bool *ret, wa_error *err)
{
    if (was_away(v, member, err))
        return WA_UNAVAILABLE;
    WA_CLEANUP(wa_repo_freep) wa_repo *repo = wa_repo_member(v->options->mirrored, member);
    WA_CLEANUP(wa_coverage_done) wa_coverage there = {0};
    wa_status status = wa_coverage_load(repo, v->windows->lineage, begin, &there, err);
    if (status == WA_UNAVAILABLE)
        note_away(v, member, wa_store_members(wa_repo_store(v->options->mirrored)), err->message);
    WA_TRY(status);
    *ret = wa_coverage_from(&there, begin) >= end;
    return WA_OK;
}

char *
wa_verify_cost_of_hole(wa_verify *v, wa_lsn begin, wa_lsn end)
{
    WA_CLEANUP(wa_freep)
    char *cost = wa_verify_cost(v, wa_lineage_at(v->windows->lineage, begin), begin, end);
    wa_repo *mirrored = v->options->mirrored;
    size_t members = mirrored == NULL ? 0 : wa_store_members(wa_repo_store(mirrored));
    WA_CLEANUP(wa_freep) char *away = NULL;
    for (size_t i = 1; i < members; i++) {
        wa_error here = WA_ERROR_INIT;
        wa_member_status mirror;
        bool all = false;
        wa_status status = covers(v, i, begin, end, &all, &here);
        wa_store_member_status(wa_repo_store(mirrored), i, &mirror);
        if (all)
            return wa_format("%s; repository \"%s\" has it: \"--repository %s\" reads that copy "
                             "alone",
                             cost, mirror.name, mirror.name);
        if (status != WA_OK && away == NULL)
            away = wa_format("%s; repository \"%s\" may have it but could not be asked: %s", cost,
                             mirror.name, here.message);
    }
    return away != NULL ? WA_TAKE(away) : WA_TAKE(cost);
}
