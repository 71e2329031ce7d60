/*
 * log_overview.c - commits per interval and the moments worth knowing, from facts.
 */
#include "walagent/audit/log.h"

#include "walk_internal.h"

#include "walagent/repo/index.h"

#include <string.h>

/* One segment's facts, small enough to keep for all. */
typedef struct piece {
    wa_lsn start, end;
    uint64_t commits, aborts;
    wa_time min_time, max_time;
} piece;

typedef struct overview {
    const wa_log_options *options;
    wa_log_overview *out;
    const wa_coverage *coverage;
    const wa_run *run;
    uint64_t segment_size;
    piece *pieces;
    size_t piece_count, capacity;
} overview;

void
wa_log_overview_done(wa_log_overview *o)
{
    wa_freep(&o->moments);
    memset(o, 0, sizeof *o);
}

static bool
is_within(const wa_log_options *o, wa_time t)
{
    return (o->from == WA_TIME_NONE || t >= o->from) && (o->to == WA_TIME_NONE || t <= o->to);
}

static void
add_moment(overview *v, wa_moment_kind kind, wa_time time, wa_lsn lsn, const char *text)
{
    if (time != WA_TIME_NONE && !is_within(v->options, time))
        return;
    wa_log_overview *o = v->out;
    o->moments = wa_reallocarray(o->moments, o->moment_count + 1, sizeof *o->moments);
    wa_moment *m = &o->moments[o->moment_count++];
    *m = (wa_moment){.kind = kind, .time = time, .lsn = lsn};
    snprintf(m->text, sizeof m->text, "%s", text);
}

/* A record is accepted only below the end of the run: WAL past a fork is not history. */
static bool
is_accepted(const overview *v, wa_lsn lsn)
{
    return lsn >= v->run->begin && lsn < v->run->end;
}

static void
add_piece(overview *v, wa_segno segno, const wa_wal_facts *f)
{
    if (v->piece_count == v->capacity) {
        v->capacity = v->capacity == 0 ? 256 : v->capacity * 2;
        v->pieces = wa_reallocarray(v->pieces, v->capacity, sizeof *v->pieces);
    }
    wa_lsn start = wa_segment_start(segno, v->segment_size), end = start + v->segment_size;
    v->pieces[v->piece_count++] = (piece){.start = start < v->run->begin ? v->run->begin : start,
                                          .end = end > v->run->end ? v->run->end : end,
                                          .commits = f->commits,
                                          .aborts = f->aborts,
                                          .min_time = f->min_time,
                                          .max_time = f->max_time};
}

static wa_status
on_segment(void *arg, wa_segno segno, const wa_wal_facts *f, bool checked, wa_error *err)
{
    (void)checked;
    overview *v = arg;
    WA_TRY(wa_cancel_check(v->options->cancel, err));
    for (size_t i = 0; i < f->restore_point_count; i++)
        if (is_accepted(v, f->restore_points[i].lsn))
            add_moment(v, WA_MOMENT_RESTORE_POINT, f->restore_points[i].time,
                       f->restore_points[i].lsn, f->restore_points[i].name);
    for (size_t i = 0; i < f->checkpoint_count; i++)
        if (is_accepted(v, f->checkpoints[i].lsn))
            add_moment(v, WA_MOMENT_CHECKPOINT, f->checkpoints[i].time, f->checkpoints[i].lsn,
                       f->checkpoints[i].shutdown ? "shutdown" : "online");
    if (f->commits + f->aborts > 0)
        add_piece(v, segno, f);
    return WA_OK;
}

static wa_status
scan_run(overview *v, const wa_run *run, wa_error *err)
{
    v->run = run;
    wa_segno first = wa_segno_of(run->begin, v->segment_size),
             last = wa_segno_of(run->end - 1, v->segment_size);
    WA_TRY(wa_index_scan(v->options->repo, &run->branch, first, last, on_segment, v, err));
    if (!run->tail)
        return WA_OK;
    /* The unfinished segment is in no index. */
    WA_CLEANUP(wa_freep) void *bytes = wa_malloc(v->segment_size);
    WA_CLEANUP(wa_freep) wa_wal_facts *facts = wa_malloc(sizeof *facts);
    wa_wal_facts_init(facts);
    wa_lsn end = 0;
    wa_status status =
        wa_tail_assemble(v->options->repo, &run->branch, last, bytes, &end, facts, err);
    if (status == WA_NOT_FOUND) {
        wa_error_clear(err);
        return WA_OK;
    }
    WA_TRY(status);
    return on_segment(v, last, facts, true, err);
}

static wa_status
scan_all(overview *v, wa_error *err)
{
    char text[WA_BRANCH_TEXT], lsn[WA_LSN_TEXT];
    for (size_t i = 0; i < v->coverage->count; i++) {
        const wa_run *run = &v->coverage->runs[i];
        WA_TRY(scan_run(v, run, err));
        if (i + 1 == v->coverage->count)
            break;
        const wa_run *next = &v->coverage->runs[i + 1];
        if (next->begin > run->end)
            add_moment(v, WA_MOMENT_HOLE, WA_TIME_NONE, run->end, wa_lsn_format(next->begin, lsn));
        if (!wa_branch_eq(&next->branch, &run->branch))
            add_moment(v, WA_MOMENT_FORK, WA_TIME_NONE, next->begin,
                       wa_branch_format(&next->branch, text));
    }
    return WA_OK;
}

static void
note_span(overview *v, wa_time t)
{
    wa_log_overview *o = v->out;
    if (o->first == WA_TIME_NONE || t < o->first)
        o->first = t;
    if (o->last == WA_TIME_NONE || t > o->last)
        o->last = t;
}

static void
choose_intervals(overview *v, size_t intervals)
{
    const wa_log_options *opt = v->options;
    wa_log_overview *o = v->out;
    wa_time low = WA_TIME_NONE, high = WA_TIME_NONE;
    for (size_t i = 0; i < v->piece_count; i++) {
        const piece *p = &v->pieces[i];
        if ((opt->to != WA_TIME_NONE && p->min_time > opt->to) ||
            (opt->from != WA_TIME_NONE && p->max_time < opt->from))
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
    o->begin = low;
    o->count = intervals;
    o->interval_us = (high - low) / (int64_t)intervals + 1;
}

static void
count_at(overview *v, wa_time t, uint64_t commits, uint64_t aborts)
{
    wa_log_overview *o = v->out;
    int64_t at = (t - o->begin) / o->interval_us;
    if (at < 0 || at >= (int64_t)o->count)
        return;
    o->commits[at] += commits;
    o->aborts[at] += aborts;
    o->total_commits += commits;
    o->total_aborts += aborts;
}

static wa_status
count_record(void *arg, const wa_branch *branch, const wa_record *record, wa_error *err)
{
    (void)branch;
    (void)err;
    overview *v = arg;
    wa_xact_end end;
    if (wa_record_xact_end(record, &end) && is_within(v->options, end.time)) {
        note_span(v, end.time);
        count_at(v, end.time, end.commit, !end.commit);
    }
    return WA_OK;
}

static wa_status
count_pieces(overview *v, wa_error *err)
{
    const wa_log_overview *o = v->out;
    wa_walk walk = {.repo = v->options->repo,
                    .coverage = v->coverage,
                    .progress = v->options->progress,
                    .cancel = v->options->cancel,
                    .on_record = count_record,
                    .arg = v};
    for (size_t i = 0; i < v->piece_count; i++) {
        const piece *p = &v->pieces[i];
        bool whole = is_within(v->options, p->min_time) && is_within(v->options, p->max_time);
        bool partly = (v->options->to == WA_TIME_NONE || p->min_time <= v->options->to) &&
                      (v->options->from == WA_TIME_NONE || p->max_time >= v->options->from);
        bool accepted_whole = p->end - p->start == v->segment_size;
        if (whole && accepted_whole &&
            (p->min_time - o->begin) / o->interval_us ==
                (p->max_time - o->begin) / o->interval_us) {
            note_span(v, p->min_time);
            note_span(v, p->max_time);
            count_at(v, p->min_time, p->commits, p->aborts);
        } else if (partly) {
            WA_TRY(wa_walk_records(&walk, p->start, p->end, err));
        }
    }
    return WA_OK;
}

wa_status
wa_log_overview_load(const wa_log_options *options, size_t intervals, wa_log_overview *ret,
                     wa_error *err)
{
    WA_ASSERT(intervals > 0 && intervals <= WA_LOG_INTERVALS);
    WA_CLEANUP(wa_log_overview_done)
    wa_log_overview out = {.first = WA_TIME_NONE, .last = WA_TIME_NONE};
    WA_CLEANUP(wa_lineage_freep) wa_lineage *lineage = NULL;
    WA_CLEANUP(wa_coverage_done) wa_coverage coverage = {0};
    WA_TRY(wa_lineage_load(options->repo, &lineage, err));
    WA_TRY(wa_coverage_load(options->repo, lineage, 0, &coverage, err));
    overview v = {.options = options,
                  .out = &out,
                  .coverage = &coverage,
                  .segment_size = wa_repo_cluster(options->repo)->segment_size};
    wa_status status = scan_all(&v, err);
    if (status == WA_OK) {
        choose_intervals(&v, intervals);
        status = out.count > 0 ? count_pieces(&v, err) : WA_OK;
    }
    wa_freep(&v.pieces);
    WA_TRY(status);
    *ret = out;
    memset(&out, 0, sizeof out);
    return WA_OK;
}
