/*
 * src/repo/index_visit.c - walk over sums of a range of segments that are all there, from the
 * largest ones down to where the visitor wants to know more.
 *
 * What the index calls a hole was filled since, so a sum over it says too little: such a part is
 * entered without asking. Where an object is missing those of lower levels stand in, and at last
 * the segments' own facts.
 */
#include "index_internal.h"

#include "repo_internal.h"
#include "walagent/repo/coverage.h"

#include <string.h>

typedef struct visit {
    wa_repo *repo;
    wa_branch branch;
    wa_segrange range;
    const wa_index_visitor *to;
} visit;

static wa_status visit_object(const visit *v, const wa_index_object *o, wa_segrange use,
                              wa_error *err);
static wa_status visit_plan(const visit *v, const wa_index_plan *plan, wa_error *err);

static wa_status
facts_of(const visit *v, wa_segno segno, wa_wal_facts *ret, bool *ret_checked, wa_error *err)
{
    wa_index_cache *cache = wa_repo_index_cache(v->repo);
    wa_wal_info info = {0};
    if (wa_index_cache_facts(cache, &v->branch, segno, ret, ret_checked))
        return WA_OK;
    wa_status status = wa_wal_get_facts(v->repo, &v->branch, segno, ret, &info, err);
    if (status == WA_CORRUPT || status == WA_UNSUPPORTED || status == WA_NOT_FOUND) {
        wa_error_clear(err);
        wa_wal_facts_init(ret);
        ret->overflow = true;
        *ret_checked = false;
        return WA_OK;
    }
    WA_TRY(status);
    *ret_checked = info.checked;
    wa_index_cache_put_facts(cache, &v->branch, segno, ret, info.checked);
    return WA_OK;
}

/* A damaged segment is a sum of which nothing is known, and so is one that has only chunks. */
static wa_status
visit_segment(const visit *v, wa_segno segno, wa_error *err)
{
    WA_CLEANUP(wa_freep) wa_wal_facts *facts = wa_malloc(sizeof *facts);
    bool checked = false;
    wa_wal_summary sum;
    WA_TRY(facts_of(v, segno, facts, &checked, err));
    wa_wal_summary_init(&sum);
    wa_wal_summary_add_facts(&sum, facts, checked);
    wa_visit choice = v->to->choose(v->to->arg, segno, 1, &sum, true);
    if (choice == WA_VISIT_READ)
        return v->to->facts(v->to->arg, segno, facts, checked, err);
    return choice == WA_VISIT_ENTER ? v->to->segment(v->to->arg, segno, &sum, err) : WA_OK;
}

typedef struct several {
    const visit *v;
    wa_segno first;
} several;

static wa_status
fetch_one(void *arg, size_t index, wa_error *err)
{
    const several *s = arg;
    WA_CLEANUP(wa_freep) wa_wal_facts *facts = wa_malloc(sizeof *facts);
    bool checked = false;
    return facts_of(s->v, s->first + index, facts, &checked, err);
}

static wa_status
visit_singles(const visit *v, wa_segrange range, wa_error *err)
{
    for (wa_segno i = range.begin; i < range.end; i++) {
        if (v->to->eager && (i - range.begin) % WA_INDEX_FANOUT == 0) { /* they are kept */
            several s = {v, i};
            size_t count = range.end - i < WA_INDEX_FANOUT ? range.end - i : WA_INDEX_FANOUT;
            WA_TRY(wa_repo_each(v->repo, count, fetch_one, &s, err));
        }
        WA_TRY(visit_segment(v, v->to->backwards ? range.end - 1 - (i - range.begin) : i, err));
    }
    return WA_OK;
}

/* The object of a part, if there is one that reaches as far as it is needed. */
static wa_status
find_part(const visit *v, int level, wa_segno first, wa_segno end, wa_index_object *ret,
          bool *ret_found, wa_error *err)
{
    wa_status status = wa_index_find_again(v->repo, &v->branch, level, first, ret, err);
    *ret_found = status == WA_OK && ret->end >= end;
    if (status != WA_NOT_FOUND)
        return status;
    wa_error_clear(err);
    return WA_OK;
}

/* Objects of lower levels tell the same as one that can't be read. */
static wa_status
visit_below(const visit *v, int level, wa_segrange use, wa_error *err)
{
    WA_CLEANUP(wa_index_plan_done) wa_index_plan plan = {0};
    visit part = *v;
    part.range = use;
    if (level > 0)
        WA_TRY(wa_index_plan_make(v->repo, &v->branch, use.begin, use.end, level - 1, &plan, err));
    return visit_plan(&part, &plan, err);
}

static wa_status
enter_part(const visit *v, int level, wa_segno first, wa_segrange use, bool read, wa_error *err)
{
    WA_CLEANUP(wa_index_object_done) wa_index_object o = {0};
    bool found = false;
    WA_TRY(find_part(v, level, first, use.end, &o, &found, err));
    if (!found)
        return visit_below(v, level, use, err);
    if (read && level <= WA_INDEX_LINES_LEVEL)
        return wa_index_scan_object(v->repo, &v->branch, &o, use, v->to->facts, v->to->arg, err);
    return visit_object(v, &o, use, err);
}

static bool
touches(const wa_segranges *ranges, wa_segrange part)
{
    for (size_t i = 0; i < ranges->count; i++)
        if (ranges->items[i].begin < part.end && ranges->items[i].end > part.begin)
            return true;
    return false;
}

/* Does the part beside `use` hold nothing? */
static bool
rest_is_hole(const wa_segranges *holes, wa_segrange part, wa_segrange use)
{
    WA_CLEANUP(wa_segranges_done) wa_segranges rest = {0};
    wa_segranges_add(&rest, part.begin, part.end);
    wa_segranges_remove(&rest, use.begin, use.end);
    for (size_t i = 0; i < holes->count; i++)
        wa_segranges_remove(&rest, holes->items[i].begin, holes->items[i].end);
    return rest.count == 0;
}

static wa_status
visit_part(const visit *v, const wa_index_object *o, size_t i, wa_segrange use, wa_error *err)
{
    uint64_t span = wa_index_part_span(o->level);
    const wa_wal_summary *sum = &o->part[i];
    wa_segrange part = {o->first + i * span, o->first + (i + 1) * span};
    if (part.end <= use.begin || part.begin >= use.end)
        return WA_OK;
    wa_segrange wanted = {part.begin > use.begin ? part.begin : use.begin,
                          part.end < use.end ? part.end : use.end};
    bool whole = wanted.begin == part.begin && wanted.end == part.end;
    wa_visit choice = WA_VISIT_ENTER;
    if (touches(&o->holes, wanted)) {
        if (o->level == 0)
            return visit_singles(v, wanted, err);
    } else {
        whole = whole || rest_is_hole(&o->holes, part, wanted);
        choice = v->to->choose(v->to->arg, wanted.begin, wanted.end - wanted.begin, sum, whole);
    }
    if (choice == WA_VISIT_PASS)
        return WA_OK;
    if (o->level > 0)
        return enter_part(v, o->level - 1, part.begin, wanted, choice == WA_VISIT_READ, err);
    if (choice == WA_VISIT_ENTER)
        return v->to->segment(v->to->arg, part.begin, sum, err);
    return wa_index_scan_object(v->repo, &v->branch, o, wanted, v->to->facts, v->to->arg, err);
}

static wa_status
visit_object(const visit *v, const wa_index_object *o, wa_segrange use, wa_error *err)
{
    for (size_t i = 0; i < o->parts; i++)
        WA_TRY(visit_part(v, o, v->to->backwards ? o->parts - 1 - i : i, use, err));
    return WA_OK;
}

static wa_segrange
clip(const visit *v, wa_segrange r)
{
    return (wa_segrange){r.begin > v->range.begin ? r.begin : v->range.begin,
                         r.end < v->range.end ? r.end : v->range.end};
}

/* What lies before the plan's object `at`, or behind the last one. */
static wa_segrange
gap_before(const visit *v, const wa_index_plan *plan, size_t at)
{
    wa_segno begin = at == 0 ? v->range.begin : plan->use[at - 1].end;
    wa_segno end = at == plan->count ? v->range.end : plan->use[at].begin;
    return clip(v, (wa_segrange){begin, end});
}

/* The plan's objects and the gaps between them, in order. */
static wa_status
visit_plan(const visit *v, const wa_index_plan *plan, wa_error *err)
{
    for (size_t i = 0; i < 2 * plan->count + 1; i++) {
        size_t at = v->to->backwards ? 2 * plan->count - i : i;
        if (at % 2 == 0) {
            WA_TRY(visit_singles(v, gap_before(v, plan, at / 2), err));
            continue;
        }
        wa_segrange use = clip(v, plan->use[at / 2]);
        if (use.begin < use.end)
            WA_TRY(visit_object(v, &plan->objects[at / 2], use, err));
    }
    return WA_OK;
}

wa_status
wa_index_visit(wa_repo *repo, const wa_coverage *coverage, const wa_branch *branch, wa_segno from,
               wa_segno to, const wa_index_visitor *visitor, wa_error *err)
{
    static const wa_index_plan none;
    visit v = {repo, *branch, {from, to + 1}, visitor};
    const wa_index_plan *plan = &none;
    for (size_t i = 0; coverage->index != NULL && i < coverage->index->count; i++)
        if (wa_branch_eq(&coverage->index->steps[i].branch, branch))
            plan = &coverage->index->steps[i].plan;
    wa_status status = visit_plan(&v, plan, err);
    return status == WA_CANCELLED && err->status == WA_OK ? WA_OK : status;
}
