/*
 * verify_cost.c - what damage costs, in words: which times can't be reached because of it.
 */
#include "verify_internal.h"

#include "walagent/audit/window.h"

#define LOOK_BACK_SEGMENTS 16
#define TIMES_FOR_DAMAGES 100 /* of more the times are not looked up */

/* The last commit or abort before `lsn`; WA_TIME_NONE: not found out. Of a hole it is known, with
 * the chunks before it; of damage the whole segments before it tell. */
static wa_time
last_time_before(wa_verify *v, const wa_branch *branch, wa_lsn lsn)
{
    for (size_t i = 0; i < v->windows->hole_count; i++)
        if (v->windows->holes[i].begin == lsn)
            return v->windows->hole_times[i].last_before;
    wa_repo *repo = v->options->repo;
    wa_segno at = wa_segno_of(lsn, wa_repo_cluster(repo)->segment_size);
    WA_CLEANUP(wa_freep) wa_wal_facts *facts = wa_malloc(sizeof *facts);
    for (wa_segno n = 1; n <= LOOK_BACK_SEGMENTS && n <= at; n++) {
        wa_error ignored = WA_ERROR_INIT;
        if (wa_wal_get_facts(repo, branch, at - n, facts, NULL, &ignored) != WA_OK)
            return WA_TIME_NONE;
        if (facts->max_time != WA_TIME_NONE)
            return facts->max_time;
    }
    return WA_TIME_NONE;
}

/* The backup that can be restored without the bytes before `lsn`: it begins first behind them. */
static const wa_backup_info *
next_backup(const wa_windows *w, wa_lsn lsn)
{
    const wa_backup_info *next = NULL;
    for (size_t i = 0; i < w->backups.count; i++) {
        const wa_backup_info *b = w->backups.items[i];
        if (b->start_lsn >= lsn && wa_lineage_has(w->lineage, &b->branch) &&
            (next == NULL || b->start_lsn < next->start_lsn))
            next = b;
    }
    return next;
}

static const wa_backup_info *
last_backup_before(const wa_windows *w, wa_lsn lsn)
{
    const wa_backup_info *last = NULL;
    for (size_t i = 0; i < w->backups.count; i++) {
        const wa_backup_info *b = w->backups.items[i];
        if (b->start_lsn < lsn && (last == NULL || b->end_lsn > last->end_lsn))
            last = b;
    }
    return last;
}

/* "2026-11-23T02:14:00Z", or what is known instead. */
static char *
from_words(wa_verify *v, const wa_branch *branch, wa_lsn begin, const wa_backup_info *before)
{
    char lsn[WA_LSN_TEXT], time[WA_TIME_TEXT];
    wa_time last = WA_TIME_NONE;
    wa_lock(&v->mutex);
    bool look = v->result->damage_count < TIMES_FOR_DAMAGES;
    wa_unlock(&v->mutex);
    if (look)
        last = last_time_before(v, branch, begin);
    if (before->end_lsn > begin)
        return wa_format("the start of backup %s", before->label);
    if (last != WA_TIME_NONE && last >= before->end_time)
        return wa_strdup(wa_time_format_rfc3339(last, time));
    if (look && before->end_time != WA_TIME_NONE)
        return wa_strdup(wa_time_format_rfc3339(before->end_time, time));
    return wa_strdup(wa_lsn_format(begin, lsn));
}

char *
wa_verify_cost(wa_verify *v, const wa_branch *branch, wa_lsn begin, wa_lsn end)
{
    const wa_windows *w = v->windows;
    char a[WA_LSN_TEXT], b[WA_LSN_TEXT], time[WA_TIME_TEXT], name[WA_BRANCH_TEXT];
    wa_lsn_format(begin, a);
    wa_lsn_format(end, b);
    if (!wa_lineage_has(w->lineage, branch))
        return wa_format("WAL from %s to %s of branch %s, which is not the accepted one: nothing "
                         "behind it can be reached on that branch",
                         a, b, wa_branch_format(branch, name));
    const wa_backup_info *before = last_backup_before(w, end), *next = next_backup(w, end);
    if (before == NULL)
        return wa_format("WAL from %s to %s: no backup needs it", a, b);
    WA_CLEANUP(wa_freep) char *from = from_words(v, branch, begin, before);
    if (next == NULL)
        return wa_format("WAL from %s to %s: times after %s can't be reached, until there is a "
                         "new backup",
                         a, b, from);
    return wa_format("WAL from %s to %s: times between %s and %s (backup %s) can't be reached", a,
                     b, from, wa_time_format_rfc3339(next->end_time, time), next->label);
}
