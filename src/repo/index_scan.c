/*
 * src/repo/index_scan.c - facts of a range of segments, a time in it, and sums over it, from index
 * objects first and from segments where there is none.
 */
#include "index_internal.h"

#include "repo_internal.h"

#include <stdlib.h>
#include <string.h>

#define LINE_MAX_BYTES 65536u
#define NEAR_END_LEVEL 3

typedef struct scan {
    wa_repo *repo;
    wa_branch branch;
    wa_segno to; /* the first one behind the range */
    wa_segranges present;
    wa_index_plan plan;
    wa_segno at; /* everything before was delivered */
    wa_index_fn fn;
    void *arg;
    const char *key;    /* of the object being read */
    wa_segno lines_end; /* lines at or behind it belong to a later part of the plan */
} scan;

static void
scan_done(scan *s)
{
    wa_segranges_done(&s->present);
    wa_index_plan_done(&s->plan);
}

static wa_status
deliver_single(scan *s, wa_segno segno, wa_error *err)
{
    wa_wal_facts facts;
    wa_wal_info info = {0};
    wa_status status = wa_wal_get_facts(s->repo, &s->branch, segno, &facts, &info, err);
    if (status == WA_CORRUPT) {
        wa_error_clear(err);
        wa_wal_facts_init(&facts);
        facts.overflow = true;
        info.checked = false;
    } else {
        WA_TRY(status);
    }
    return s->fn(s->arg, segno, &facts, info.checked, err);
}

/* Segments before `before` that no line was about. */
static wa_status
deliver_until(scan *s, wa_segno before, wa_error *err)
{
    for (size_t i = 0; i < s->present.count; i++) {
        const wa_segrange *range = &s->present.items[i];
        wa_segno segno = range->begin > s->at ? range->begin : s->at;
        for (; segno < range->end && segno < before; segno++) {
            WA_TRY(deliver_single(s, segno, err));
            s->at = segno + 1;
        }
    }
    s->at = before > s->at ? before : s->at;
    return WA_OK;
}

static wa_status
take_line(void *arg, const char *line, size_t len, wa_error *err)
{
    scan *s = arg;
    wa_segno segno = 0;
    bool checked = false;
    wa_wal_facts facts;
    WA_TRY(wa_index_parse_line(line, len, s->key, &segno, &checked, &facts, err));
    if (segno < s->at || segno >= s->lines_end || !wa_segranges_has(&s->present, segno))
        return WA_OK;
    WA_TRY(deliver_until(s, segno, err));
    s->at = segno + 1;
    return s->fn(s->arg, segno, &facts, checked, err);
}

/* Lines that turn out damaged are made up for from the segments: s->at is where they ended. */
static wa_status
scan_object(scan *s, const wa_index_object *o, wa_segrange use, wa_error *err)
{
    s->key = o->key;
    s->lines_end = use.end;
    WA_CLEANUP(wa_sink_freep)
    wa_sink *lines = wa_sink_to_lines(LINE_MAX_BYTES, o->key, take_line, s);
    wa_status status = wa_index_read_lines(s->repo, o, lines, err);
    if (status == WA_OK)
        status = wa_sink_finish(lines, err);
    if (status == WA_CORRUPT || status == WA_NOT_FOUND)
        wa_error_clear(err);
    else
        WA_TRY(status);
    return deliver_until(s, use.end, err);
}

wa_status
wa_index_scan_object(wa_repo *repo, const wa_branch *branch, const wa_index_object *o,
                     wa_segrange use, wa_index_fn fn, void *arg, wa_error *err)
{
    WA_CLEANUP(scan_done)
    scan s = {
        .repo = repo, .branch = *branch, .at = use.begin, .to = use.end, .fn = fn, .arg = arg};
    wa_segranges_add(&s.present, use.begin, use.end);
    return scan_object(&s, o, use, err);
}

static wa_status
scan_all(scan *s, wa_error *err)
{
    for (size_t i = 0; i < s->plan.count; i++) {
        WA_TRY(deliver_until(s, s->plan.use[i].begin, err));
        WA_TRY(scan_object(s, &s->plan.objects[i], s->plan.use[i], err));
    }
    return deliver_until(s, s->to, err);
}

static wa_segno
behind(wa_segno to)
{
    return to == UINT64_MAX ? to : to + 1;
}

wa_status
wa_index_scan(wa_repo *repo, const wa_branch *branch, wa_segno from, wa_segno to, wa_index_fn fn,
              void *arg, wa_error *err)
{
    WA_CLEANUP(scan_done)
    scan s = {.repo = repo, .branch = *branch, .to = behind(to), .fn = fn, .arg = arg};
    WA_TRY(wa_index_present(repo, branch, from, s.to, NULL, &s.present, NULL, NULL, err));
    if (s.present.count == 0)
        return WA_OK;
    s.at = s.present.items[0].begin;
    s.to = s.present.items[s.present.count - 1].end;
    WA_TRY(wa_index_plan_make(repo, branch, s.at, s.to, WA_INDEX_LINES_LEVEL, &s.plan, err));
    wa_status status = scan_all(&s, err);
    return status == WA_CANCELLED && err->status == WA_OK ? WA_OK : status;
}

/* ---- walks over summaries ---- */

/* Look at a part of the range. *ret_enter: look into it more closely; false takes it as it is. A
 * single segment is never entered. `done` ends the walk. */
typedef struct walk {
    wa_repo *repo;
    wa_branch branch;
    wa_segranges refilled; /* the index doesn't know them */
    wa_wal_summary sum;
    bool find; /* else sum up */
    wa_time time;
    bool inclusive;
    bool found;
    wa_segno where;
} walk;

static bool
is_candidate(const walk *w, const wa_wal_summary *s)
{
    if (s->segments == 0)
        return false;
    if (s->overflow)
        return true;
    return s->max_time != WA_TIME_NONE &&
           (w->inclusive ? s->max_time >= w->time : s->max_time > w->time);
}

static void
take_part(walk *w, wa_segno segno, const wa_wal_summary *s)
{
    if (!w->find) {
        wa_wal_summary_add(&w->sum, s);
        return;
    }
    w->found = is_candidate(w, s);
    w->where = segno;
}

static wa_status
walk_singles(walk *w, const wa_segranges *present, wa_segrange range, wa_error *err)
{
    for (size_t i = 0; i < present->count; i++) {
        wa_segno at = present->items[i].begin > range.begin ? present->items[i].begin : range.begin;
        for (; at < present->items[i].end && at < range.end && !w->found; at++) {
            wa_wal_facts facts;
            wa_wal_info info = {0};
            wa_wal_summary one;
            wa_wal_summary_init(&one);
            wa_status status = wa_wal_get_facts(w->repo, &w->branch, at, &facts, &info, err);
            bool unknown = status == WA_CORRUPT || status == WA_UNSUPPORTED ||
                           (w->find && status == WA_NOT_FOUND); /* gone since it was listed */
            if (status != WA_OK && !unknown)
                return status;
            if (unknown) {
                wa_wal_facts_init(&facts);
                facts.overflow = true;
                info.checked = false;
            }
            wa_error_clear(err);
            wa_wal_summary_add_facts(&one, &facts, info.checked);
            take_part(w, at, &one);
        }
    }
    return WA_OK;
}

/* A part that was refilled since must be looked at more closely. */
static bool
was_refilled(const walk *w, wa_segrange part)
{
    for (size_t i = 0; i < w->refilled.count; i++) {
        if (w->refilled.items[i].begin < part.end && w->refilled.items[i].end > part.begin)
            return true;
    }
    return false;
}

static wa_status walk_object(walk *w, const wa_segranges *present, const wa_index_object *o,
                             wa_segrange use, wa_error *err);

/* The plan's objects and what lies between them, from range.begin to range.end. */
static wa_status
walk_plan(walk *w, const wa_segranges *present, const wa_index_plan *plan, wa_segrange range,
          wa_error *err)
{
    wa_segno at = range.begin;
    for (size_t i = 0; i < plan->count && !w->found; i++) {
        WA_TRY(walk_singles(w, present, (wa_segrange){at, plan->use[i].begin}, err));
        if (!w->found)
            WA_TRY(walk_object(w, present, &plan->objects[i], plan->use[i], err));
        at = plan->use[i].end;
    }
    return w->found ? WA_OK : walk_singles(w, present, (wa_segrange){at, range.end}, err);
}

/* Where the level's object can't be read those of lower levels tell the same. */
static wa_status
walk_into(walk *w, const wa_segranges *present, int level, wa_segno first, wa_segrange range,
          wa_error *err)
{
    WA_CLEANUP(wa_index_object_done) wa_index_object o = {0};
    wa_status status = wa_index_find(w->repo, &w->branch, level, first, &o, err);
    if (status == WA_NOT_FOUND || (status == WA_OK && o.end < range.end)) {
        wa_error_clear(err);
        WA_CLEANUP(wa_index_plan_done) wa_index_plan plan = {0};
        if (level > 0)
            WA_TRY(wa_index_plan_make(w->repo, &w->branch, range.begin, range.end, level - 1, &plan,
                                      err));
        return walk_plan(w, present, &plan, range, err);
    }
    WA_TRY(status);
    return walk_object(w, present, &o, range, err);
}

static wa_status
walk_object(walk *w, const wa_segranges *present, const wa_index_object *o, wa_segrange use,
            wa_error *err)
{
    uint64_t span = wa_index_part_span(o->level);
    for (size_t i = 0; i < o->parts && !w->found; i++) {
        wa_segrange part = {o->first + i * span, o->first + (i + 1) * span};
        if (part.end <= use.begin || part.begin >= use.end)
            continue;
        bool inside = part.begin >= use.begin && part.end <= use.end;
        bool fresh = was_refilled(w, part);
        /* What holds no transaction late enough holds none in any part of it. */
        if (!fresh && (w->find ? !is_candidate(w, &o->part[i]) : inside)) {
            take_part(w, part.begin, &o->part[i]);
            continue;
        }
        if (o->level == 0 && !fresh) {
            take_part(w, part.begin, &o->part[i]);
            continue;
        }
        part.begin = part.begin > use.begin ? part.begin : use.begin;
        part.end = part.end < use.end ? part.end : use.end;
        if (o->level == 0)
            WA_TRY(walk_singles(w, present, part, err));
        else
            WA_TRY(walk_into(w, present, o->level - 1, o->first + i * span, part, err));
    }
    return WA_OK;
}

static wa_status
walk_range(walk *w, wa_segno from, wa_segno to, wa_error *err)
{
    WA_CLEANUP(wa_segranges_done) wa_segranges present = {0};
    WA_CLEANUP(wa_index_plan_done) wa_index_plan plan = {0};
    WA_TRY(wa_index_present(w->repo, &w->branch, from, behind(to), &plan, &present, &w->refilled,
                            NULL, err));
    if (present.count == 0)
        return WA_OK;
    return walk_plan(w, &present, &plan, (wa_segrange){present.items[0].begin, behind(to)}, err);
}

wa_status
wa_index_find_time(wa_repo *repo, const wa_branch *branch, wa_segno from, wa_segno to, wa_time t,
                   bool inclusive, wa_segno *ret, wa_error *err)
{
    walk w = {.repo = repo, .branch = *branch, .find = true, .time = t, .inclusive = inclusive};
    /* The end takes most requests, since the levels end one after another there: it is looked at
     * only when the time isn't found before. */
    wa_segno near_end = behind(to) / wa_index_span(NEAR_END_LEVEL) * wa_index_span(NEAR_END_LEVEL);
    wa_status status = near_end > from ? walk_range(&w, from, near_end - 1, err) : WA_OK;
    if (status == WA_OK && !w.found) {
        wa_segranges_done(&w.refilled);
        w.refilled = (wa_segranges){0};
        status = walk_range(&w, from > near_end ? from : near_end, to, err);
    }
    wa_segranges_done(&w.refilled);
    WA_TRY(status);
    if (!w.found) {
        char text[WA_TIME_TEXT];
        return wa_error_set(err, WA_NOT_FOUND, "no transaction ended after %s",
                            wa_time_format(t, text));
    }
    *ret = w.where;
    return WA_OK;
}

wa_status
wa_index_sum(wa_repo *repo, const wa_branch *branch, wa_segno from, wa_segno to,
             wa_wal_summary *ret, wa_error *err)
{
    walk w = {.repo = repo, .branch = *branch};
    wa_wal_summary_init(&w.sum);
    wa_status status = walk_range(&w, from, to, err);
    wa_segranges_done(&w.refilled);
    WA_TRY(status);
    *ret = w.sum;
    return WA_OK;
}
