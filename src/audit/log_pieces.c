/*
 * log_pieces.c - the accepted WAL, piece by piece, from facts where they tell and from records
 * where they don't.
 *
 * Facts don't tell when the segment is cut by a fork (they are about all of it), when they overflow
 * (more points than are kept, damage, a first record whose beginning was not known), and when there
 * is no whole object: the unfinished segment, one that only a descendant has.
 */
#include "log_internal.h"

#include "walagent/repo/index.h"

#include <string.h>

#define POINTS_FEW 2u /* restore points for which single segments are asked */

wa_status
wa_log_view_load(wa_log_view *v, const wa_log_options *options, wa_error *err)
{
    v->options = options;
    v->segment_size = wa_repo_cluster(options->repo)->segment_size;
    WA_TRY(wa_lineage_load(options->repo, &v->lineage, err));
    return wa_coverage_load(options->repo, v->lineage, 0, &v->coverage, err);
}

void
wa_log_view_done(wa_log_view *v)
{
    wa_lineage_free(v->lineage);
    v->lineage = NULL;
    wa_coverage_done(&v->coverage);
}

bool
wa_log_is_within(const wa_log_options *o, wa_time t)
{
    return (o->from == WA_TIME_NONE || t >= o->from) && (o->to == WA_TIME_NONE || t <= o->to);
}

bool
wa_log_may_be_within(const wa_log_options *o, wa_time low, wa_time high)
{
    return low != WA_TIME_NONE && (o->to == WA_TIME_NONE || low <= o->to) &&
           (o->from == WA_TIME_NONE || high >= o->from);
}

void
wa_log_pieces_done(wa_log_pieces *p)
{
    wa_freep(&p->items);
    *p = (wa_log_pieces){0};
}

typedef struct loader {
    const wa_log_view *view;
    const wa_log_watch *watch;
    const wa_run *run;
    wa_segno next; /* segment of the run to be delivered */
    wa_log_pieces out;
    size_t at; /* the piece that records are read for */
} loader;

static void
tell(const loader *l, wa_moment_kind kind, wa_time time, wa_lsn lsn, wa_lsn end, const char *text)
{
    if (l->watch == NULL)
        return;
    wa_moment m = {.kind = kind, .time = time, .lsn = lsn, .end_lsn = end};
    snprintf(m.text, sizeof m.text, "%s", text);
    l->watch->on_moment(l->watch->arg, &m);
}

static wa_lsn
behind_segment(const loader *l, wa_lsn lsn)
{
    return lsn - lsn % l->view->segment_size + l->view->segment_size;
}

static wa_log_piece *
add_piece(loader *l, wa_segno segno)
{
    wa_log_pieces *p = &l->out;
    uint64_t size = l->view->segment_size;
    wa_lsn start = wa_segment_start(segno, size), end = start + size;
    if (p->count == p->capacity) {
        p->capacity = p->capacity == 0 ? 64 : p->capacity * 2;
        p->items = wa_reallocarray(p->items, p->capacity, sizeof *p->items);
    }
    wa_log_piece *piece = &p->items[p->count++];
    *piece = (wa_log_piece){.start = start < l->run->begin ? l->run->begin : start,
                            .end = end > l->run->end ? l->run->end : end,
                            .min_time = WA_TIME_NONE,
                            .max_time = WA_TIME_NONE,
                            .segments = 1};
    return piece;
}

/* Segments before `segno` of which the index knows nothing. */
static void
add_unknown(loader *l, wa_segno segno)
{
    for (; l->next < segno; l->next++)
        add_piece(l, l->next)->read = true;
}

static void
tell_facts(const loader *l, const wa_wal_facts *f)
{
    for (size_t i = 0; i < f->restore_point_count; i++)
        tell(l, WA_MOMENT_RESTORE_POINT, f->restore_points[i].time, f->restore_points[i].lsn, 0,
             f->restore_points[i].name);
    for (size_t i = 0; i < f->checkpoint_count; i++)
        tell(l, WA_MOMENT_CHECKPOINT, f->checkpoints[i].time, f->checkpoints[i].lsn, 0,
             f->checkpoints[i].shutdown ? "shutdown" : "online");
    if (f->switched)
        tell(l, WA_MOMENT_SWITCH, WA_TIME_NONE, f->last_record, behind_segment(l, f->last_record),
             "");
}

static wa_status
on_segment(void *arg, wa_segno segno, const wa_wal_facts *f, bool checked, wa_error *err)
{
    (void)checked;
    loader *l = arg;
    WA_TRY(wa_cancel_check(l->view->options->cancel, err));
    add_unknown(l, segno);
    wa_log_piece *piece = add_piece(l, segno);
    l->next = segno + 1;
    if (f->overflow || piece->end - piece->start < l->view->segment_size) {
        piece->read = true;
        return WA_OK;
    }
    piece->first_record = f->first_record;
    piece->last_end = f->last_end;
    piece->commits = f->commits;
    piece->aborts = f->aborts;
    piece->min_time = f->min_time;
    piece->max_time = f->max_time;
    tell_facts(l, f);
    return WA_OK;
}

static void
note_end(wa_log_piece *piece, const wa_xact_end *end)
{
    piece->commits += end->commit;
    piece->aborts += !end->commit;
    if (piece->min_time == WA_TIME_NONE || end->time < piece->min_time)
        piece->min_time = end->time;
    if (piece->max_time == WA_TIME_NONE || end->time > piece->max_time)
        piece->max_time = end->time;
}

static wa_status
on_record(void *arg, const wa_branch *branch, const wa_record *record, wa_error *err)
{
    (void)branch;
    (void)err;
    loader *l = arg;
    wa_xact_end end;
    wa_restore_point point;
    wa_checkpoint_fact checkpoint;
    while (l->out.items[l->at].end < record->end)
        l->at++;
    wa_log_piece *piece = &l->out.items[l->at];
    if (piece->first_record == 0)
        piece->first_record = record->lsn;
    piece->last_end = record->end;
    if (wa_record_xact_end(record, &end))
        note_end(piece, &end);
    else if (wa_record_restore_point(record, &point))
        tell(l, WA_MOMENT_RESTORE_POINT, point.time, point.lsn, 0, point.name);
    else if (wa_record_checkpoint(record, &checkpoint))
        tell(l, WA_MOMENT_CHECKPOINT, checkpoint.time, checkpoint.lsn, 0,
             checkpoint.shutdown ? "shutdown" : "online");
    else if (wa_record_is_switch(record))
        tell(l, WA_MOMENT_SWITCH, WA_TIME_NONE, record->lsn, behind_segment(l, record->lsn), "");
    return WA_OK;
}

static void
on_damage(void *arg, wa_lsn begin, wa_lsn end, const char *why)
{
    tell(arg, WA_MOMENT_DAMAGE, WA_TIME_NONE, begin, end, why);
}

/* Pieces that touch each other are read in one go. */
static wa_status
read_pieces(loader *l, wa_error *err)
{
    const wa_log_view *v = l->view;
    wa_walk walk = {.repo = v->options->repo,
                    .lineage = v->lineage,
                    .coverage = &v->coverage,
                    .cancel = v->options->cancel,
                    .on_record = on_record,
                    .on_damage = on_damage,
                    .arg = l};
    for (size_t i = 0, next = 0; i < l->out.count; i = next) {
        next = i + 1;
        if (!l->out.items[i].read)
            continue;
        for (; next < l->out.count && l->out.items[next].read; next++) {
            if (l->out.items[next].start != l->out.items[next - 1].end)
                break;
        }
        l->at = i;
        WA_TRY(wa_walk_records(&walk, l->out.items[i].start, l->out.items[next - 1].end, err));
        for (size_t k = i; k < next; k++)
            l->out.items[k].read = false;
    }
    return WA_OK;
}

static wa_status
load_run(loader *l, const wa_run *run, wa_lsn from, wa_lsn to, wa_error *err)
{
    uint64_t size = l->view->segment_size;
    wa_lsn begin = run->begin > from ? run->begin : from, end = run->end < to ? run->end : to;
    if (begin >= end)
        return WA_OK;
    wa_segno last = wa_segno_of(end - 1, size);
    l->run = run;
    l->next = wa_segno_of(begin, size);
    WA_TRY(wa_index_scan(l->view->options->repo, &run->branch, l->next, last, on_segment, l, err));
    add_unknown(l, last + 1);
    return WA_OK;
}

wa_status
wa_log_pieces_load(const wa_log_view *v, wa_lsn from, wa_lsn to, const wa_log_watch *watch,
                   wa_log_pieces *ret, wa_error *err)
{
    loader l = {.view = v, .watch = watch};
    wa_status status = WA_OK;
    for (size_t i = 0; i < v->coverage.count && status == WA_OK; i++)
        status = load_run(&l, &v->coverage.runs[i], from, to, err);
    if (status == WA_OK)
        status = read_pieces(&l, err);
    if (status != WA_OK) {
        wa_log_pieces_done(&l.out);
        return status;
    }
    *ret = l.out;
    return WA_OK;
}

/* ---- from sums ---- */

typedef struct sums {
    loader l; /* first: on_segment() takes it */
    uint64_t most;
} sums;

static wa_visit
choose_sum(void *arg, wa_segno first, uint64_t count, const wa_wal_summary *sum, bool whole)
{
    sums *s = arg;
    if (sum->overflow)
        return count > 1 ? WA_VISIT_READ : WA_VISIT_ENTER;
    if (!whole || count > s->most)
        return WA_VISIT_ENTER;
    wa_log_piece *piece = add_piece(&s->l, first);
    piece->end = piece->start + count * s->l.view->segment_size;
    piece->first_record = piece->start;
    piece->last_end = piece->end;
    piece->commits = sum->commits;
    piece->aborts = sum->aborts;
    piece->min_time = sum->min_time;
    piece->max_time = sum->max_time;
    piece->segments = count;
    s->l.next = first + count;
    return WA_VISIT_PASS;
}

/* Its facts don't tell. */
static wa_status
read_segment(void *arg, wa_segno segno, const wa_wal_summary *sum, wa_error *err)
{
    sums *s = arg;
    (void)sum;
    (void)err;
    add_piece(&s->l, segno)->read = true;
    s->l.next = segno + 1;
    return WA_OK;
}

/* A single segment, whose object may be missing: an unfinished one, or a descendant's. */
static wa_status
load_single(loader *l, wa_segno segno, wa_error *err)
{
    WA_CLEANUP(wa_freep) wa_wal_facts *facts = wa_malloc(sizeof *facts);
    wa_status status =
        wa_wal_get_facts(l->view->options->repo, &l->run->branch, segno, facts, NULL, err);
    if (status == WA_OK)
        return on_segment(l, segno, facts, true, err);
    if (status != WA_NOT_FOUND && status != WA_CORRUPT && status != WA_UNSUPPORTED)
        return status;
    wa_error_clear(err);
    add_unknown(l, segno + 1);
    return WA_OK;
}

/* The run's segments within [from, to) of which all bytes are accepted, and whose objects are
 * there. False: none. */
static bool
whole_segments(const wa_log_view *v, const wa_run *run, wa_lsn from, wa_lsn to, wa_segno *ret_first,
               wa_segno *ret_end)
{
    uint64_t size = v->segment_size;
    wa_lsn begin = run->begin > from ? run->begin : from, end = run->end < to ? run->end : to;
    wa_segno last = wa_segno_of(run->end - 1, size); /* may be a part, or chunks */
    *ret_first = (begin + size - 1) / size;
    *ret_end = end / size < last ? end / size : last;
    return begin < end && *ret_first < *ret_end;
}

static wa_status
load_run_sums(sums *s, const wa_run *run, wa_lsn from, wa_lsn to, wa_error *err)
{
    loader *l = &s->l;
    const wa_index_visitor visitor = {
        .arg = s, .choose = choose_sum, .segment = read_segment, .facts = on_segment};
    uint64_t size = l->view->segment_size;
    wa_lsn begin = run->begin > from ? run->begin : from, end = run->end < to ? run->end : to;
    wa_segno first = 0, behind = 0;
    if (begin >= end)
        return WA_OK;
    l->run = run;
    l->next = wa_segno_of(begin, size);
    if (whole_segments(l->view, run, from, to, &first, &behind)) {
        add_unknown(l, first); /* what a fork cuts */
        WA_TRY(wa_index_visit(l->view->options->repo, &l->view->coverage, &run->branch, first,
                              behind - 1, &visitor, err));
    }
    while (l->next <= wa_segno_of(end - 1, size))
        WA_TRY(load_single(l, l->next, err));
    return WA_OK;
}

wa_status
wa_log_pieces_load_sums(const wa_log_view *v, wa_lsn from, wa_lsn to, uint64_t most,
                        const wa_log_watch *watch, wa_log_pieces *ret, wa_error *err)
{
    sums s = {.l = {.view = v, .watch = watch}, .most = most};
    wa_status status = WA_OK;
    for (size_t i = 0; i < v->coverage.count && status == WA_OK; i++)
        status = load_run_sums(&s, &v->coverage.runs[i], from, to, err);
    if (status == WA_OK)
        status = read_pieces(&s.l, err);
    if (status != WA_OK) {
        wa_log_pieces_done(&s.l.out);
        return status;
    }
    *ret = s.l.out;
    return WA_OK;
}

/* ---- restore points ---- */

static wa_visit
choose_points(void *arg, wa_segno first, uint64_t count, const wa_wal_summary *sum, bool whole)
{
    (void)arg;
    (void)first;
    (void)whole;
    if (sum->restore_points == 0)
        return WA_VISIT_PASS;
    return count > 1 && sum->restore_points <= POINTS_FEW ? WA_VISIT_ENTER : WA_VISIT_READ;
}

static wa_status
tell_points(void *arg, wa_segno segno, const wa_wal_facts *f, bool checked, wa_error *err)
{
    const loader *l = arg;
    (void)segno;
    (void)checked;
    (void)err;
    for (size_t i = 0; i < f->restore_point_count; i++)
        tell(l, WA_MOMENT_RESTORE_POINT, f->restore_points[i].time, f->restore_points[i].lsn, 0,
             f->restore_points[i].name);
    return WA_OK;
}

/* Those of segments that facts don't tell about were seen when the pieces were loaded. */
wa_status
wa_log_points_load(const wa_log_view *v, wa_lsn from, wa_lsn to, const wa_log_watch *watch,
                   wa_error *err)
{
    loader l = {.view = v, .watch = watch};
    const wa_index_visitor visitor = {.arg = &l, .choose = choose_points, .facts = tell_points};
    for (size_t i = 0; i < v->coverage.count; i++) {
        const wa_run *run = &v->coverage.runs[i];
        wa_segno first = 0, behind = 0;
        if (whole_segments(v, run, from, to, &first, &behind))
            WA_TRY(wa_index_visit(v->options->repo, &v->coverage, &run->branch, first, behind - 1,
                                  &visitor, err));
    }
    return WA_OK;
}
