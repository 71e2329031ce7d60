/*
 * log_overview.c - commits per interval and the moments worth knowing.
 */
#include "log_internal.h"

#include <stdlib.h>
#include <string.h>

#define US INT64_C(1000000)
#define FINE_PARTS 200u /* pieces that are no larger than such a part of it are fine enough */

typedef struct overview {
    const wa_log_view *view;
    wa_log_overview *out;
    wa_log_pieces pieces;
    size_t moment_capacity;
    const wa_log_limits *limits;
} overview;

void
wa_log_overview_done(wa_log_overview *o)
{
    wa_freep(&o->moments);
    memset(o, 0, sizeof *o);
}

/* ---- moments ---- */

static void
add_moment(void *arg, const wa_moment *m)
{
    overview *v = arg;
    wa_log_overview *o = v->out;
    if (m->time != WA_TIME_NONE && !wa_log_is_within(v->view->options, m->time))
        return;
    if (o->moment_count == v->moment_capacity) {
        v->moment_capacity = v->moment_capacity == 0 ? 64 : v->moment_capacity * 2;
        o->moments = wa_reallocarray(o->moments, v->moment_capacity, sizeof *o->moments);
    }
    o->moments[o->moment_count++] = *m;
}

static void
add_damage(void *arg, wa_lsn begin, wa_lsn end, const char *why)
{
    wa_moment m = {.kind = WA_MOMENT_DAMAGE, .time = WA_TIME_NONE, .lsn = begin, .end_lsn = end};
    snprintf(m.text, sizeof m.text, "%s", why);
    add_moment(arg, &m);
}

/* Forks of the lineage within what is archived, and the holes. */
static void
add_forks_and_holes(overview *v)
{
    const wa_lineage *l = v->view->lineage;
    const wa_coverage *c = &v->view->coverage;
    for (size_t i = 1; i < l->count && c->count > 0; i++) {
        wa_moment m = {.kind = WA_MOMENT_FORK, .time = WA_TIME_NONE, .lsn = l->steps[i].begin};
        wa_branch_format(&l->steps[i].branch, m.text);
        if (m.lsn > c->runs[0].begin)
            add_moment(v, &m);
    }
    for (size_t i = 1; i < c->count; i++) {
        wa_moment m = {.kind = WA_MOMENT_HOLE,
                       .time = WA_TIME_NONE,
                       .lsn = c->runs[i - 1].end,
                       .end_lsn = c->runs[i].begin};
        if (m.end_lsn > m.lsn)
            add_moment(v, &m);
    }
}

static int
compare_moments(const void *a, const void *b)
{
    const wa_moment *x = a, *y = b;
    if (x->lsn != y->lsn)
        return x->lsn < y->lsn ? -1 : 1;
    return (x->kind > y->kind) - (x->kind < y->kind);
}

/* The pieces next to a moment in which transactions ended; both only move on. */
typedef struct neighbours {
    size_t at;             /* the first piece that ends behind the moment */
    size_t before, behind; /* before: one more than its place, 0: none; behind == count: none */
} neighbours;

static void
move_to(const wa_log_pieces *p, wa_lsn lsn, neighbours *n)
{
    for (; n->at < p->count && p->items[n->at].end <= lsn; n->at++) {
        if (p->items[n->at].max_time != WA_TIME_NONE)
            n->before = n->at + 1;
    }
    while (n->behind < p->count &&
           (p->items[n->behind].start < lsn || p->items[n->behind].max_time == WA_TIME_NONE))
        n->behind++;
}

/* Do the transactions around it show that it lies outside from..to? */
static bool
is_outside(const overview *v, const neighbours *n)
{
    const wa_log_options *o = v->view->options;
    const wa_log_pieces *p = &v->pieces;
    bool late = n->before > 0 && o->to != WA_TIME_NONE && p->items[n->before - 1].min_time > o->to;
    bool early =
        n->behind < p->count && o->from != WA_TIME_NONE && p->items[n->behind].max_time < o->from;
    return early || late;
}

/* Sort; leave out repeated ones, and those without a time that lie outside. */
static void
finish_moments(overview *v)
{
    wa_log_overview *o = v->out;
    size_t kept = 0;
    neighbours next = {0};
    if (o->moment_count == 0)
        return;
    qsort(o->moments, o->moment_count, sizeof *o->moments, compare_moments);
    for (size_t i = 0; i < o->moment_count; i++) {
        const wa_moment *m = &o->moments[i];
        move_to(&v->pieces, m->lsn, &next);
        bool repeated =
            kept > 0 && o->moments[kept - 1].kind == m->kind && o->moments[kept - 1].lsn == m->lsn;
        /* From sums only some of these are seen. */
        bool routine =
            o->from_sums && (m->kind == WA_MOMENT_CHECKPOINT || m->kind == WA_MOMENT_SWITCH);
        if (!repeated && !routine && (m->time != WA_TIME_NONE || !is_outside(v, &next)))
            o->moments[kept++] = *m;
    }
    o->moment_count = kept;
}

/* ---- intervals ---- */

/* The smallest round length of which `count` reach over `span`. */
static int64_t
round_length(int64_t span, int64_t count)
{
    static const int64_t round[] = {1,         2,         5,          10,        15,        30,
                                    60,        120,       300,        600,       900,       1800,
                                    3600,      2 * 3600,  3 * 3600,   6 * 3600,  12 * 3600, 86400,
                                    2 * 86400, 7 * 86400, 14 * 86400, 30 * 86400};
    int64_t least = span / count + 1;
    int64_t decimal = 1;
    for (; decimal < US; decimal *= 10) {
        for (int64_t k = 1; k <= 5; k += k == 1 ? 1 : 3) {
            if (k * decimal >= least)
                return k * decimal;
        }
    }
    for (size_t i = 0; i < WA_ARRAY_SIZE(round); i++) {
        if (round[i] * US >= least)
            return round[i] * US;
    }
    return (least / (30 * 86400 * US) + 1) * 30 * 86400 * US;
}

static wa_time
floor_to(wa_time t, int64_t length)
{
    int64_t rest = t % length;
    return t - (rest < 0 ? rest + length : rest);
}

static void
choose_intervals(overview *v, size_t intervals)
{
    const wa_log_options *opt = v->view->options;
    wa_log_overview *o = v->out;
    wa_time low = WA_TIME_NONE, high = WA_TIME_NONE;
    for (size_t i = 0; i < v->pieces.count; i++) {
        const wa_log_piece *p = &v->pieces.items[i];
        if (!wa_log_may_be_within(opt, p->min_time, p->max_time))
            continue;
        if (low == WA_TIME_NONE || p->min_time < low)
            low = p->min_time;
        if (high == WA_TIME_NONE || p->max_time > high)
            high = p->max_time;
    }
    if (low == WA_TIME_NONE)
        return;
    if (opt->from != WA_TIME_NONE && low < opt->from)
        low = opt->from;
    if (opt->to != WA_TIME_NONE && high > opt->to)
        high = opt->to;
    /* Rounding down the beginning may take one interval more. */
    o->interval_us = round_length(high - low, intervals > 1 ? (int64_t)intervals - 1 : 1);
    o->begin = floor_to(low, o->interval_us);
    if (intervals == 1) {
        o->interval_us = high - low + 1;
        o->begin = low;
    }
    o->count = (size_t)((high - o->begin) / o->interval_us) + 1;
    WA_ASSERT(o->count <= intervals);
}

static void
add_lsn(wa_log_interval *i, wa_lsn begin, wa_lsn end)
{
    if (i->begin_lsn == 0 || begin < i->begin_lsn)
        i->begin_lsn = begin;
    if (end > i->end_lsn)
        i->end_lsn = end;
}

static void
add_total(wa_log_overview *o, wa_time first, wa_time last, uint64_t commits, uint64_t aborts)
{
    o->total_commits += commits;
    o->total_aborts += aborts;
    if (o->first == WA_TIME_NONE || first < o->first)
        o->first = first;
    if (o->last == WA_TIME_NONE || last > o->last)
        o->last = last;
}

static void
count_at(overview *v, wa_time t, uint64_t commits, uint64_t aborts, wa_lsn begin, wa_lsn end)
{
    wa_log_overview *o = v->out;
    add_total(o, t, t, commits, aborts);
    if (t < o->begin || (t - o->begin) / o->interval_us >= (int64_t)o->count) {
        add_damage(v, begin, end,
                   "a transaction's time is not within what its segment's facts say");
        return;
    }
    wa_log_interval *i = &o->intervals[(t - o->begin) / o->interval_us];
    i->commits += commits;
    i->aborts += aborts;
    add_lsn(i, begin, end);
}

static wa_status
count_record(void *arg, const wa_branch *branch, const wa_record *record, wa_error *err)
{
    (void)branch;
    (void)err;
    overview *v = arg;
    wa_xact_end end;
    if (wa_record_xact_end(record, &end) && wa_log_is_within(v->view->options, end.time))
        count_at(v, end.time, end.commit, !end.commit, record->lsn, record->end);
    return WA_OK;
}

/* All its transactions are wanted and fall into one interval. */
static bool
is_simple(const overview *v, const wa_log_piece *p)
{
    const wa_log_overview *o = v->out;
    return wa_log_is_within(v->view->options, p->min_time) &&
           wa_log_is_within(v->view->options, p->max_time) &&
           (p->min_time - o->begin) / o->interval_us == (p->max_time - o->begin) / o->interval_us;
}

static void
count_simple(overview *v, const wa_log_piece *p)
{
    count_at(v, p->min_time, p->commits, p->aborts, p->first_record, p->last_end);
    count_at(v, p->max_time, 0, 0, p->first_record, p->last_end);
}

/* All its transactions are wanted; into which of several intervals each one falls isn't known. */
static bool
is_spread(const overview *v, const wa_log_piece *p)
{
    return v->out->from_sums && p->min_time != WA_TIME_NONE &&
           wa_log_is_within(v->view->options, p->min_time) &&
           wa_log_is_within(v->view->options, p->max_time) && !is_simple(v, p);
}

static uint64_t
share_of(uint64_t count, int64_t part, int64_t whole)
{
    return (uint64_t)((__uint128_t)count * (uint64_t)part / (uint64_t)whole);
}

/* Evenly over its time. */
static void
spread(overview *v, const wa_log_piece *p)
{
    wa_log_overview *o = v->out;
    uint64_t commits = 0, aborts = 0;
    int64_t whole = p->max_time - p->min_time + 1;
    add_total(o, p->min_time, p->max_time, p->commits, p->aborts);
    for (size_t i = (size_t)((p->min_time - o->begin) / o->interval_us); i < o->count; i++) {
        wa_time end = o->begin + (wa_time)(i + 1) * o->interval_us;
        int64_t part = end - p->min_time < whole ? end - p->min_time : whole;
        uint64_t c = share_of(p->commits, part, whole), a = share_of(p->aborts, part, whole);
        o->intervals[i].commits += c - commits;
        o->intervals[i].aborts += a - aborts;
        o->intervals[i].uncertain += p->commits + p->aborts;
        add_lsn(&o->intervals[i], p->first_record, p->last_end);
        commits = c;
        aborts = a;
        if (part == whole)
            break;
    }
}

static bool
must_be_read(const overview *v, const wa_log_piece *p)
{
    return wa_log_may_be_within(v->view->options, p->min_time, p->max_time) && !is_simple(v, p) &&
           !is_spread(v, p);
}

static wa_status
count_pieces(overview *v, wa_error *err)
{
    const wa_log_view *view = v->view;
    const wa_log_piece *p = v->pieces.items;
    wa_walk walk = {.repo = view->options->repo,
                    .lineage = view->lineage,
                    .coverage = &view->coverage,
                    .progress = view->options->progress,
                    .cancel = view->options->cancel,
                    .on_record = count_record,
                    .on_damage = add_damage,
                    .arg = v};
    for (size_t i = 0, next = 0; i < v->pieces.count; i = next) {
        next = i + 1;
        if (!must_be_read(v, &p[i])) {
            if (is_spread(v, &p[i]))
                spread(v, &p[i]);
            else if (wa_log_may_be_within(view->options, p[i].min_time, p[i].max_time))
                count_simple(v, &p[i]);
            continue;
        }
        while (next < v->pieces.count && p[next].start == p[next - 1].end &&
               must_be_read(v, &p[next]))
            next++;
        WA_TRY(wa_walk_records(&walk, p[i].start, p[next - 1].end, err));
    }
    return WA_OK;
}

/* ---- from sums ---- */

/* The piece that is to be looked at more closely next: any that reaches over the window's border,
 * then the largest one that reaches over an interval's and has more than `most` segments. */
static bool
coarsest(const overview *v, bool with_intervals, uint64_t most, size_t *ret)
{
    bool found = false;
    for (size_t i = 0; i < v->pieces.count; i++) {
        const wa_log_piece *p = &v->pieces.items[i];
        bool wanted = with_intervals ? is_spread(v, p) : must_be_read(v, p);
        if (!wanted || p->segments <= most)
            continue;
        most = p->segments;
        *ret = i;
        found = true;
    }
    return found;
}

static wa_status
refine_pieces(overview *v, const wa_log_watch *watch, wa_error *err)
{
    size_t at = 0;
    uint64_t all = 0, fine = 0;
    while (coarsest(v, false, 1, &at))
        WA_TRY(wa_log_refine(v->view, watch, at, &v->pieces, err));
    for (size_t i = 0; i < v->pieces.count; i++)
        all += v->pieces.items[i].segments;
    fine = all / FINE_PARTS > 1 ? all / FINE_PARTS : 1;
    for (unsigned i = 0; i < v->limits->refined && coarsest(v, true, fine, &at); i++)
        WA_TRY(wa_log_refine(v->view, watch, at, &v->pieces, err));
    return WA_OK;
}

static wa_status
fill(overview *v, size_t intervals, wa_error *err)
{
    const wa_log_watch watch = {.on_moment = add_moment, .arg = v};
    wa_lsn from = 0, to = 0;
    bool exact = false;
    WA_TRY(wa_log_narrow(v->view, v->limits, &watch, &from, &to, &v->pieces, &exact, err));
    if (exact)
        WA_TRY(wa_log_pieces_load(v->view, from, to, &watch, &v->pieces, err));
    v->out->from_sums = !exact;
    choose_intervals(v, intervals);
    if (!exact && v->out->count > 0)
        WA_TRY(refine_pieces(v, &watch, err));
    if (!exact)
        WA_TRY(wa_log_points_load(v->view, from, to, &watch, err));
    WA_TRY(count_pieces(v, err));
    add_forks_and_holes(v);
    finish_moments(v);
    return WA_OK;
}

wa_status
wa_log_overview_load(const wa_log_options *options, size_t intervals, wa_log_overview *ret,
                     wa_error *err)
{
    return wa_log_overview_within(options, &wa_log_default_limits, intervals, ret, err);
}

wa_status
wa_log_overview_within(const wa_log_options *options, const wa_log_limits *limits, size_t intervals,
                       wa_log_overview *ret, wa_error *err)
{
    WA_ASSERT(intervals > 0 && intervals <= WA_LOG_INTERVALS);
    WA_CLEANUP(wa_log_overview_done)
    wa_log_overview out = {.first = WA_TIME_NONE, .last = WA_TIME_NONE};
    WA_CLEANUP(wa_log_view_done) wa_log_view view = {0};
    WA_TRY(wa_log_view_load(&view, options, err));
    overview v = {.view = &view, .out = &out, .limits = limits};
    wa_status status = fill(&v, intervals, err);
    wa_log_pieces_done(&v.pieces);
    WA_TRY(status);
    if (out.first == WA_TIME_NONE) /* what might have been within was not */
        out.count = 0;
    *ret = out;
    memset(&out, 0, sizeof out);
    return WA_OK;
}
