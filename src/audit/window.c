/*
 * window.c - what can be restored, computed from backups, lineage and coverage.
 */
#include "walagent/audit/window.h"

#include "unread_internal.h"
#include "walk_internal.h"

#include <inttypes.h>
#include <string.h>

#define LOOK_BACK_SEGMENTS 16 /* how far the last commit of a window is searched */

void
wa_windows_done(wa_windows *w)
{
    wa_lineage_free(w->lineage);
    wa_backups_done(&w->backups);
    wa_coverage_done(&w->coverage);
    wa_freep(&w->items);
    wa_freep(&w->usable);
    memset(w, 0, sizeof *w);
}

static wa_window *
add_window(wa_windows *w)
{
    w->items = wa_reallocarray(w->items, w->count + 1, sizeof *w->items);
    wa_window *window = &w->items[w->count++];
    memset(window, 0, sizeof *window);
    window->begin_time = window->end_time = WA_TIME_NONE;
    return window;
}

static wa_lsn
oldest_start(const wa_backups *backups)
{
    wa_lsn oldest = 0;
    for (size_t i = 0; i < backups->count; i++)
        if (oldest == 0 || backups->items[i]->start_lsn < oldest)
            oldest = backups->items[i]->start_lsn;
    return oldest;
}

/* A lineage and the WAL that is there along it. */
typedef struct chain_view {
    wa_repo *repo;
    const wa_lineage *lineage;
    const wa_coverage *coverage;
} chain_view;

/* Facts of a segment, of its chunks where it is unfinished. NOT_FOUND, CORRUPT: none. */
static wa_status
load_facts(wa_repo *repo, const wa_run *run, wa_segno segno, wa_wal_facts *facts, wa_error *err)
{
    uint64_t size = wa_repo_cluster(repo)->segment_size;
    wa_wal_facts_init(facts);
    wa_status status = wa_wal_get_facts(repo, &run->branch, segno, facts, NULL, err);
    if (status != WA_NOT_FOUND || !run->tail || segno != wa_segno_of(run->end - 1, size))
        return status;
    wa_error_clear(err);
    WA_CLEANUP(wa_freep) void *bytes = wa_malloc(size);
    wa_lsn end = 0;
    return wa_tail_assemble(repo, &run->branch, segno, bytes, &end, facts, err);
}

static wa_status
add_fact(void *arg, const wa_branch *branch, const wa_record *record, wa_error *err)
{
    (void)branch, (void)err;
    wa_wal_facts_add(arg, record);
    return WA_OK;
}

/* Where a child leaves within a segment, the object goes on past the fork, or only the child's is
 * there: what counts for the run are the records up to the fork. */
static bool
ends_at_fork_within(const chain_view *v, const wa_run *run, wa_segno segno)
{
    uint64_t size = wa_repo_cluster(v->repo)->segment_size;
    return segno == wa_segno_of(run->end - 1, size) && run->end % size != 0 &&
           wa_lineage_end_of(v->lineage, &run->branch) == run->end;
}

static wa_status
read_facts(const chain_view *v, const wa_run *run, wa_segno segno, wa_wal_facts *facts,
           wa_error *err)
{
    wa_walk walk = {.repo = v->repo,
                    .lineage = v->lineage,
                    .coverage = v->coverage,
                    .on_record = add_fact,
                    .arg = facts};
    wa_lsn start = wa_segment_start(segno, wa_repo_cluster(v->repo)->segment_size);
    wa_wal_facts_init(facts);
    wa_lsn end = start + wa_repo_cluster(v->repo)->segment_size;
    return wa_walk_records(&walk, start > run->begin ? start : run->begin,
                           end < run->end ? end : run->end, err);
}

/* A commit's or abort's time at an end of a run: the latest of the last segment that has some, or
 * the earliest of the first. Unknown is an answer; a failed look-up is not. */
static wa_status
find_time(const chain_view *v, const wa_run *run, bool last, wa_time *ret, wa_error *err)
{
    uint64_t size = wa_repo_cluster(v->repo)->segment_size;
    wa_segno low = wa_segno_of(run->begin, size), high = wa_segno_of(run->end - 1, size);
    WA_CLEANUP(wa_freep) wa_wal_facts *facts = wa_malloc(sizeof *facts);
    *ret = WA_TIME_NONE;
    for (wa_segno n = 0; n < LOOK_BACK_SEGMENTS && n <= high - low; n++) {
        wa_segno segno = last ? high - n : low + n;
        wa_lsn at = last ? run->end : run->begin;
        bool cut = n == 0 && at % size != 0 && !(last && run->tail);
        wa_status status = cut || ends_at_fork_within(v, run, segno)
                               ? read_facts(v, run, segno, facts, err)
                               : load_facts(v->repo, run, segno, facts, err);
        if (status == WA_OK && facts->overflow && run->tail && segno == high)
            status = read_facts(v, run, segno, facts, err); /* a chunk has none */
        if (status == WA_NOT_FOUND || status == WA_CORRUPT) {
            wa_error_clear(err);
            continue;
        }
        WA_TRY(status);
        if (facts->last_time != WA_TIME_NONE) {
            *ret = last ? facts->max_time : facts->min_time;
            return WA_OK;
        }
    }
    return WA_OK;
}

/* Stretch: adjacent runs without a gap, [first, last] of coverage->runs. */
static size_t
end_of_stretch(const wa_coverage *c, size_t first)
{
    size_t last = first;
    while (last + 1 < c->count && c->runs[last + 1].begin == c->runs[last].end)
        last++;
    return last;
}

static wa_status
window_of_stretch(const chain_view *v, size_t first, size_t last, bool accepted, wa_windows *w,
                  wa_error *err)
{
    const wa_coverage *c = v->coverage;
    wa_lsn begin = c->runs[first].begin, end = c->runs[last].end;
    const wa_backup_info *oldest = NULL;
    size_t count = 0;
    for (size_t i = 0; i < w->backups.count; i++) {
        const wa_backup_info *b = w->backups.items[i];
        if (b->start_lsn < begin || b->end_lsn > end || !wa_lineage_has(v->lineage, &b->branch))
            continue;
        wa_lsn fork = wa_lineage_end_of(v->lineage, &b->branch);
        if (fork != 0 && b->end_lsn > fork)
            continue;
        w->usable[i] = true;
        count++;
        if (oldest == NULL || b->end_lsn < oldest->end_lsn)
            oldest = b;
    }
    if (oldest == NULL)
        return WA_OK;
    wa_window *window = add_window(w);
    window->branch = c->runs[last].branch;
    window->accepted = accepted;
    window->begin = oldest->end_lsn;
    window->end = end;
    window->begin_time = oldest->end_time;
    window->backups = count;
    memcpy(window->first_backup, oldest->label, sizeof window->first_backup);
    return find_time(v, &c->runs[last], true, &window->end_time, err);
}

static wa_status
windows_of(const chain_view *v, bool accepted, wa_windows *w, wa_error *err)
{
    for (size_t first = 0; first < v->coverage->count;) {
        size_t last = end_of_stretch(v->coverage, first);
        WA_TRY(window_of_stretch(v, first, last, accepted, w, err));
        first = last + 1;
    }
    return WA_OK;
}

/* What is there along a lineage and can be followed. */
static wa_status
load_readable(wa_repo *repo, const wa_lineage *lineage, const wa_backups *backups, wa_lsn from,
              wa_coverage *ret, wa_unread *ret_unread, wa_error *err)
{
    WA_CLEANUP(wa_coverage_done) wa_coverage c = {0};
    WA_TRY(wa_coverage_load(repo, lineage, from, &c, err));
    WA_TRY(wa_unread_find(repo, &c, backups, from, ret_unread, err));
    wa_unread_cut(ret_unread, &c);
    *ret = c;
    c = (wa_coverage){.count = 0};
    return WA_OK;
}

/* Branches that the lineage does not hold: another server's promotion, a test copy, the WAL of a
 * demoted primary on a timeline of its own. */
static wa_status
other_branches(wa_repo *repo, wa_windows *w, wa_lsn from, wa_error *err)
{
    WA_CLEANUP(wa_freep) wa_branch *branches = NULL;
    size_t count = 0;
    WA_TRY(wa_branches_all(repo, &branches, &count, err));
    for (size_t i = 0; i < count; i++) {
        if (wa_lineage_has(w->lineage, &branches[i]))
            continue;
        WA_CLEANUP(wa_lineage_freep) wa_lineage *chain = NULL;
        wa_status status = wa_lineage_to_branch(repo, w->lineage, &branches[i], &chain, err);
        if (status == WA_NOT_FOUND || status == WA_CONFLICT || status == WA_CORRUPT) {
            wa_error_clear(err); /* nothing can be said of it, and nothing is said for it */
            continue;
        }
        WA_TRY(status);
        WA_CLEANUP(wa_coverage_done) wa_coverage coverage = {0};
        WA_CLEANUP(wa_unread_done) wa_unread unread = {0};
        WA_TRY(load_readable(repo, chain, &w->backups, from, &coverage, &unread, err));
        w->unread_from = w->unread_from == 0 ? unread.unread_from : w->unread_from;
        size_t before = w->count;
        chain_view v = {repo, chain, &coverage};
        WA_TRY(windows_of(&v, false, w, err));
        /* Only what ends on the branch itself is news. */
        for (size_t k = before; k < w->count;)
            if (!wa_branch_eq(&w->items[k].branch, &branches[i])) {
                memmove(&w->items[k], &w->items[k + 1], (w->count - k - 1) * sizeof *w->items);
                w->count--;
            } else {
                k++;
            }
    }
    return WA_OK;
}

static wa_time
reachable_from(const wa_windows *w, wa_lsn lsn)
{
    const wa_backup_info *first = NULL;
    for (size_t i = 0; i < w->backups.count; i++) {
        const wa_backup_info *b = w->backups.items[i];
        if (w->usable[i] && b->start_lsn >= lsn && wa_lineage_has(w->lineage, &b->branch) &&
            (first == NULL || b->end_lsn < first->end_lsn))
            first = b;
    }
    return first == NULL ? WA_TIME_NONE : first->end_time;
}

/* What can't be followed at the very end: no run lies behind it. */
static wa_status
add_last_hole(const chain_view *v, const wa_unread *unread, wa_windows *w, wa_error *err)
{
    const wa_coverage *c = v->coverage;
    const wa_hole *last = unread->count > 0 ? &unread->items[unread->count - 1] : NULL;
    if (last == NULL || c->count == 0 || last->begin < wa_coverage_tip(c))
        return WA_OK;
    size_t at = w->hole_count++;
    if (at >= WA_HOLES_MAX)
        return WA_OK;
    w->holes[at] = *last;
    w->hole_times[at] = (wa_hole_times){
        .first_after = WA_TIME_NONE, .reachable_from = WA_TIME_NONE, .archived = true};
    return find_time(v, &c->runs[c->count - 1], true, &w->hole_times[at].last_before, err);
}

/* Usable backups are known by now. */
static wa_status
load_holes(wa_repo *repo, const wa_unread *unread, wa_windows *w, wa_error *err)
{
    const wa_coverage *c = &w->coverage;
    const chain_view v = {repo, w->lineage, c};
    size_t at = 0;
    w->hole_count = wa_coverage_holes(c, w->holes, WA_HOLES_MAX);
    for (size_t i = 1; i < c->count && at < WA_HOLES_MAX; i++) {
        if (c->runs[i].begin <= c->runs[i - 1].end)
            continue;
        wa_hole_times *times = &w->hole_times[at];
        times->archived = wa_unread_has(unread, &w->holes[at++]);
        times->reachable_from = reachable_from(w, c->runs[i].begin);
        WA_TRY(find_time(&v, &c->runs[i - 1], true, &times->last_before, err));
        WA_TRY(find_time(&v, &c->runs[i], false, &times->first_after, err));
    }
    return add_last_hole(&v, unread, w, err);
}

wa_status
wa_windows_load(wa_repo *repo, wa_windows *ret, wa_error *err)
{
    WA_CLEANUP(wa_windows_done) wa_windows w = {0};
    WA_TRY(wa_lineage_load(repo, &w.lineage, err));
    WA_TRY(wa_backups_load(repo, &w.backups, err));
    w.usable = wa_calloc(w.backups.count + 1, sizeof *w.usable);
    wa_lsn from = oldest_start(&w.backups);
    WA_CLEANUP(wa_unread_done) wa_unread unread = {0};
    WA_TRY(load_readable(repo, w.lineage, &w.backups, from, &w.coverage, &unread, err));
    w.unread_from = unread.unread_from;
    chain_view v = {repo, w.lineage, &w.coverage};
    WA_TRY(windows_of(&v, true, &w, err));
    WA_TRY(load_holes(repo, &unread, &w, err));
    WA_TRY(other_branches(repo, &w, from, err));
    *ret = w;
    memset(&w, 0, sizeof w);
    return WA_OK;
}

bool
wa_windows_backup_usable(const wa_windows *w, const wa_backup_info *backup)
{
    for (size_t i = 0; i < w->backups.count; i++)
        if (w->backups.items[i] == backup)
            return w->usable[i];
    return false;
}

static void
set_lsn(json_t *obj, const char *key, wa_lsn lsn)
{
    char text[WA_LSN_TEXT];
    wa_json_set_string(obj, key, wa_lsn_format(lsn, text));
}

static void
set_time(json_t *obj, const char *key, wa_time time)
{
    char text[WA_TIME_TEXT];
    wa_json_set_string(obj, key, time == WA_TIME_NONE ? NULL : wa_time_format_rfc3339(time, text));
}

static json_t *
window_to_json(const wa_window *window)
{
    char branch[WA_BRANCH_TEXT];
    json_t *one = json_object();
    wa_json_set_string(one, "branch", wa_branch_format(&window->branch, branch));
    wa_json_set_i64(one, "timeline", window->branch.tli);
    wa_json_set_bool(one, "accepted", window->accepted);
    set_lsn(one, "begin_lsn", window->begin);
    set_lsn(one, "end_lsn", window->end);
    set_time(one, "begin_time", window->begin_time);
    set_time(one, "end_time", window->end_time);
    wa_json_set_string(one, "first_backup", window->first_backup);
    wa_json_set_u64(one, "backups", window->backups);
    return one;
}

static json_t *
strings_to_json(const wa_strv *v)
{
    json_t *array = json_array();
    for (size_t i = 0; i < v->count; i++)
        wa_json_add_string(array, v->items[i]);
    return array;
}

json_t *
wa_windows_to_json(const wa_repo *repo, const wa_windows *w)
{
    json_t *json = json_object();
    wa_json_set_string(json, "cluster", wa_repo_cluster_name(repo));
    WA_CLEANUP(wa_freep)
    char *system = wa_format("%" PRIu64, wa_repo_cluster(repo)->system_identifier);
    wa_json_set_string(json, "system_identifier", system);
    json_t *backups = json_array(), *windows = json_array(), *holes = json_array();
    for (size_t i = 0; i < w->backups.count; i++) {
        json_t *one = wa_backup_info_to_json(w->backups.items[i]);
        wa_json_set_bool(one, "usable", wa_windows_backup_usable(w, w->backups.items[i]));
        json_array_append_new(backups, one);
    }
    for (size_t i = 0; i < w->count; i++)
        json_array_append_new(windows, window_to_json(&w->items[i]));
    for (size_t i = 0; i < w->hole_count && i < WA_ARRAY_SIZE(w->holes); i++) {
        json_t *one = json_object();
        set_lsn(one, "begin_lsn", w->holes[i].begin);
        set_lsn(one, "end_lsn", w->holes[i].end);
        set_time(one, "last_time_before", w->hole_times[i].last_before);
        set_time(one, "first_time_after", w->hole_times[i].first_after);
        set_time(one, "reachable_from_time", w->hole_times[i].reachable_from);
        wa_json_set_bool(one, "archived", w->hole_times[i].archived);
        json_array_append_new(holes, one);
    }
    wa_json_set(json, "backups", backups);
    wa_json_set(json, "windows", windows);
    wa_json_set(json, "holes", holes);
    wa_json_set_u64(json, "hole_count", w->hole_count);
    char lsn[WA_LSN_TEXT];
    wa_json_set_string(json, "unread_from_lsn",
                       w->unread_from == 0 ? NULL : wa_lsn_format(w->unread_from, lsn));
    wa_json_set(json, "damaged", strings_to_json(&w->backups.damaged));
    wa_json_set(json, "unfinished", strings_to_json(&w->backups.unfinished));
    return json;
}
