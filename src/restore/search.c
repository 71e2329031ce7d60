/*
 * restore/search.c - find the records that targets mean.
 *
 * The index tells which segments can hold the answer (commit times are not monotonic: one whose
 * latest time is past T); only those are read. The last segment of each run is looked at directly:
 * it may consist of chunks, or lie in a descendant's object.
 */
#include "restore_internal.h"

#include "walagent/repo/index.h"

#include <string.h>

#define LOOK_BACK 64u /* pieces that are searched backwards for a transaction */
#define NAMES_MAX 1000u
#define POINTS_FEW 2u /* restore points for which single segments are asked */

static wa_lsn
aligned(wa_lsn lsn)
{
    return (lsn + 7) & ~UINT64_C(7);
}

static wa_commit_point
point_of(const wa_record *record, const wa_xact_end *end)
{
    return (wa_commit_point){.known = true,
                             .commit = end->commit,
                             .lsn = record->lsn,
                             .end = aligned(record->end),
                             .xid = end->xid,
                             .time = end->time};
}

/* Facts that can't be read tell nothing; the records may. */
static wa_status
facts_of(const wa_view *v, const wa_piece *piece, wa_wal_facts *ret, wa_error *err)
{
    wa_wal_facts_init(ret);
    wa_status status = wa_view_facts(v, piece, ret, err);
    if (!wa_is_damage(status))
        return status;
    wa_error_clear(err);
    wa_wal_facts_init(ret);
    ret->overflow = true;
    return WA_OK;
}

/* Damage ends no search: what is looked for may lie elsewhere. */
static wa_status
read_what_can_be(const wa_view *v, const wa_piece *piece, wa_record_fn fn, void *arg,
                 wa_search_damage *damage, wa_error *err)
{
    wa_status status = wa_view_records(v, piece, fn, arg, NULL, err);
    if (!wa_is_damage(status) && status != WA_CONFLICT)
        return status;
    if (damage->count++ == 0)
        damage->first = *err;
    if (damage->count == 1 || piece->begin < damage->begin)
        damage->begin = piece->begin;
    wa_error_clear(err);
    return WA_OK;
}

/* ---- the first transaction end that fits ---- */

typedef struct first_search {
    const wa_view *v;
    wa_lsn from;
    wa_time t;
    bool at_or_after;
    unsigned near_pieces; /* that were looked at without the index */
    wa_commit_point found;
} first_search;

static wa_status
first_record(void *arg, const wa_record *record, wa_error *err)
{
    first_search *s = arg;
    wa_xact_end end;
    (void)err;
    if (record->lsn < s->from || !wa_record_xact_end(record, &end))
        return WA_OK;
    if (s->at_or_after ? end.time < s->t : end.time <= s->t)
        return WA_OK;
    s->found = point_of(record, &end);
    return WA_CANCELLED;
}

static bool
facts_may_fit(const first_search *s, const wa_wal_facts *f)
{
    if (f->overflow)
        return true;
    return f->max_time != WA_TIME_NONE &&
           (s->at_or_after ? f->max_time >= s->t : f->max_time > s->t);
}

/* Segments [*segno, last] of a run, all but its last: the next that may hold it, by the index, or
 * by itself where the index can't know: it has only chunks. False: none. */
static wa_status
next_candidate(const first_search *s, const wa_run *run, wa_segno *segno, wa_segno last, bool *ret,
               wa_error *err)
{
    wa_segno chunked = 0, indexed = 0;
    bool has_chunked = wa_coverage_next_chunked(&s->v->coverage, &run->branch, *segno, &chunked) &&
                       chunked <= last;
    wa_segno end = has_chunked ? chunked : last + 1; /* the index speaks about what is before */
    wa_status status = WA_NOT_FOUND;
    if (*segno < end)
        status = wa_index_find_time(s->v->repo, &run->branch, *segno, end - 1, s->t, s->at_or_after,
                                    &indexed, err);
    if (status != WA_NOT_FOUND)
        WA_TRY(status);
    wa_error_clear(err);
    *ret = status == WA_OK || has_chunked;
    if (*ret)
        *segno = status == WA_OK ? indexed : chunked;
    return WA_OK;
}

static wa_status
first_in_piece(first_search *s, const wa_piece *piece, bool by_facts, wa_error *err)
{
    if (by_facts) {
        WA_CLEANUP(wa_freep) wa_wal_facts *facts = wa_malloc(sizeof *facts);
        WA_TRY(facts_of(s->v, piece, facts, err));
        if (!facts_may_fit(s, facts))
            return WA_OK;
    }
    return wa_view_records(s->v, piece, first_record, s, NULL, err);
}

static wa_status
first_in_run(first_search *s, const wa_run *run, wa_lsn to, wa_error *err)
{
    uint64_t size = wa_repo_cluster(s->v->repo)->segment_size;
    wa_lsn begin = run->begin < s->from ? s->from : run->begin;
    wa_lsn end = run->end > to ? to : run->end;
    if (begin >= end)
        return WA_OK;
    wa_segno segno = wa_segno_of(begin, size), last = wa_segno_of(end - 1, size);
    wa_piece piece = {run->branch, 0, 0, 0, false};
    while (segno < last) {
        bool more = false;
        WA_TRY(next_candidate(s, run, &segno, last - 1, &more, err));
        if (!more)
            break;
        piece.segno = segno;
        piece.begin = wa_segment_start(segno, size);
        piece.begin = piece.begin < begin ? begin : piece.begin;
        piece.end = wa_segment_start(segno + 1, size);
        WA_TRY(first_in_piece(s, &piece, false, err));
        if (s->found.known)
            return WA_OK;
        segno++;
    }
    piece.segno = last;
    piece.begin = wa_segment_start(last, size);
    piece.begin = piece.begin < begin ? begin : piece.begin;
    piece.end = end;
    piece.tail = run->tail;
    return first_in_piece(s, &piece, !run->tail, err);
}

static wa_status
first_fitting(first_search *s, wa_lsn to, wa_commit_point *ret, wa_error *err)
{
    const wa_coverage *c = &s->v->coverage;
    for (size_t i = 0; i < c->count && !s->found.known; i++)
        WA_TRY(first_in_run(s, &c->runs[i], to, err));
    *ret = s->found;
    return WA_OK;
}

wa_status
wa_search_time(const wa_view *v, wa_lsn from, wa_lsn to, wa_time t, bool exclusive,
               wa_commit_point *ret, wa_error *err)
{
    first_search s = {.v = v, .from = from, .t = t, .at_or_after = exclusive};
    return first_fitting(&s, to, ret, err);
}

/* Nearly always it is in the same segment or the next: look there before the index is asked. */
static wa_status
near_piece(void *arg, const wa_piece *piece, wa_error *err)
{
    first_search *s = arg;
    WA_TRY(wa_view_records(s->v, piece, first_record, s, NULL, err));
    return s->found.known || ++s->near_pieces == 2 ? WA_CANCELLED : WA_OK;
}

wa_status
wa_search_after(const wa_view *v, wa_lsn lsn, wa_lsn to, wa_commit_point *ret, wa_error *err)
{
    first_search s = {.v = v, .from = lsn, .t = INT64_MIN + 1, .at_or_after = true};
    WA_TRY(wa_view_pieces(v, lsn, to, false, near_piece, &s, err));
    return first_fitting(&s, to, ret, err);
}

/* ---- the last one before ---- */

typedef struct before_search {
    const wa_view *v;
    wa_lsn from, before;
    unsigned pieces;
    wa_commit_point found;
} before_search;

static wa_status
before_record(void *arg, const wa_record *record, wa_error *err)
{
    before_search *s = arg;
    wa_xact_end end;
    (void)err;
    if (record->lsn >= s->before)
        return WA_CANCELLED;
    if (record->lsn >= s->from && wa_record_xact_end(record, &end))
        s->found = point_of(record, &end);
    return WA_OK;
}

static wa_status
before_piece(void *arg, const wa_piece *piece, wa_error *err)
{
    before_search *s = arg;
    if (s->pieces++ >= LOOK_BACK)
        return WA_CANCELLED;
    WA_CLEANUP(wa_freep) wa_wal_facts *facts = wa_malloc(sizeof *facts);
    WA_TRY(facts_of(s->v, piece, facts, err));
    if (facts->commits + facts->aborts == 0 && !facts->overflow)
        return WA_OK;
    WA_TRY(wa_view_records(s->v, piece, before_record, s, NULL, err));
    return s->found.known ? WA_CANCELLED : WA_OK;
}

wa_status
wa_search_before(const wa_view *v, wa_lsn from, wa_lsn lsn, wa_lsn to, wa_commit_point *ret,
                 wa_error *err)
{
    before_search s = {.v = v, .from = from, .before = lsn};
    WA_TRY(wa_view_pieces(v, from, to, true, before_piece, &s, err));
    *ret = s.found;
    return WA_OK;
}

/* ---- whole runs, by sums ---- */

/* The part of a run within [from, to). False: none. */
static bool
cut_run(const wa_view *v, const wa_run *run, wa_lsn from, wa_lsn to, wa_piece *ret_last,
        wa_segno *ret_first)
{
    uint64_t size = wa_repo_cluster(v->repo)->segment_size;
    wa_lsn begin = run->begin < from ? from : run->begin, end = run->end > to ? to : run->end;
    if (begin >= end)
        return false;
    wa_segno last = wa_segno_of(end - 1, size);
    wa_lsn start = wa_segment_start(last, size);
    *ret_first = wa_segno_of(begin, size);
    *ret_last = (wa_piece){run->branch, last, start < begin ? begin : start, end, run->tail};
    return true;
}

/* A whole segment of the run. */
static wa_piece
piece_of(const wa_view *v, const wa_run *run, wa_segno segno)
{
    uint64_t size = wa_repo_cluster(v->repo)->segment_size;
    wa_lsn begin = wa_segment_start(segno, size);
    return (wa_piece){run->branch, segno, begin < run->begin ? run->begin : begin, begin + size,
                      false};
}

/* ---- a transaction ---- */

typedef struct xid_search {
    const wa_view *v;
    const wa_run *run;
    wa_lsn from;
    uint32_t xid;
    wa_xid_search ret;
} xid_search;

static wa_status
xid_record(void *arg, const wa_record *record, wa_error *err)
{
    xid_search *s = arg;
    wa_xact_end end;
    (void)err;
    if (record->lsn < s->from || !wa_record_xact_end(record, &end))
        return WA_OK;
    if (end.xid == s->xid)
        s->ret.found = point_of(record, &end);
    s->ret.nameless += end.xid == 0;
    return WA_OK;
}

static wa_visit
choose_for_xid(void *arg, wa_segno first, uint64_t count, const wa_wal_summary *sum, bool whole)
{
    const xid_search *s = arg;
    (void)first;
    (void)count;
    (void)whole;
    if (sum->overflow)
        return WA_VISIT_ENTER;
    bool may = sum->xids_unknown || wa_xid_range_has(sum->min_xid, sum->max_xid, s->xid);
    return may && sum->commits + sum->aborts > 0 ? WA_VISIT_ENTER : WA_VISIT_PASS;
}

static wa_status
xid_in_piece(xid_search *s, const wa_piece *piece, wa_error *err)
{
    WA_TRY(read_what_can_be(s->v, piece, xid_record, s, &s->ret.damage, err));
    return s->ret.found.known ? WA_CANCELLED : WA_OK;
}

static wa_status
xid_in_segment(void *arg, wa_segno segno, const wa_wal_summary *sum, wa_error *err)
{
    xid_search *s = arg;
    (void)sum;
    wa_piece piece = piece_of(s->v, s->run, segno);
    return xid_in_piece(s, &piece, err);
}

/* The run's last segment, which may have only chunks. */
static wa_status
xid_in_last(xid_search *s, const wa_piece *last, wa_error *err)
{
    WA_CLEANUP(wa_freep) wa_wal_facts *facts = wa_malloc(sizeof *facts);
    WA_TRY(facts_of(s->v, last, facts, err));
    wa_wal_summary sum;
    wa_wal_summary_init(&sum);
    wa_wal_summary_add_facts(&sum, facts, true);
    if (choose_for_xid(s, last->segno, 1, &sum, true) == WA_VISIT_PASS)
        return WA_OK;
    wa_status status = xid_in_piece(s, last, err);
    return status == WA_CANCELLED && err->status == WA_OK ? WA_OK : status;
}

/* Backwards: xids come again, and of several ends the last one counts. */
static wa_status
xid_in_run(xid_search *s, wa_lsn to, wa_error *err)
{
    const wa_index_visitor visitor = {
        .arg = s, .choose = choose_for_xid, .segment = xid_in_segment, .backwards = true};
    wa_piece last;
    wa_segno first = 0;
    if (!cut_run(s->v, s->run, s->from, to, &last, &first))
        return WA_OK;
    WA_TRY(xid_in_last(s, &last, err));
    if (s->ret.found.known || first == last.segno)
        return WA_OK;
    return wa_index_visit(s->v->repo, &s->v->coverage, &s->run->branch, first, last.segno - 1,
                          &visitor, err);
}

wa_status
wa_search_xid(const wa_view *v, wa_lsn from, wa_lsn to, uint32_t xid, wa_xid_search *ret,
              wa_error *err)
{
    xid_search s = {.v = v, .from = from, .xid = xid};
    for (size_t i = v->coverage.count; i > 0 && !s.ret.found.known; i--) {
        s.run = &v->coverage.runs[i - 1];
        WA_TRY(xid_in_run(&s, to, err));
    }
    *ret = s.ret;
    return WA_OK;
}

/* ---- a restore point ---- */

typedef struct name_search {
    const wa_view *v;
    const wa_run *run;
    wa_lsn from, to;
    const char *name;
    wa_point_search *ret;
} name_search;

static void
note_point(name_search *s, const wa_restore_point *point)
{
    if (point->lsn < s->from || point->end > s->to)
        return;
    if (strcmp(point->name, s->name) == 0) {
        s->ret->found = *point;
        s->ret->count++;
    } else if (s->ret->names.count < NAMES_MAX && !wa_strv_contains(&s->ret->names, point->name)) {
        wa_strv_add(&s->ret->names, point->name);
    }
}

static wa_status
name_record(void *arg, const wa_record *record, wa_error *err)
{
    wa_restore_point point;
    (void)err;
    if (wa_record_restore_point(record, &point))
        note_point(arg, &point);
    return WA_OK;
}

static wa_status
name_in_piece(name_search *s, const wa_piece *piece, const wa_wal_facts *facts, wa_error *err)
{
    if (facts->overflow)
        return read_what_can_be(s->v, piece, name_record, s, &s->ret->damage, err);
    for (size_t i = 0; i < facts->restore_point_count; i++) {
        const wa_restore_point *point = &facts->restore_points[i];
        if (point->end > piece->begin && point->end <= piece->end)
            note_point(s, point);
    }
    return WA_OK;
}

static wa_status
name_in_facts(void *arg, wa_segno segno, const wa_wal_facts *facts, bool checked, wa_error *err)
{
    name_search *s = arg;
    (void)checked;
    wa_piece piece = piece_of(s->v, s->run, segno);
    return name_in_piece(s, &piece, facts, err);
}

static wa_status
name_in_segment(void *arg, wa_segno segno, const wa_wal_summary *sum, wa_error *err)
{
    name_search *s = arg;
    WA_CLEANUP(wa_freep) wa_wal_facts *facts = wa_malloc(sizeof *facts);
    (void)sum;
    wa_piece piece = piece_of(s->v, s->run, segno);
    WA_TRY(facts_of(s->v, &piece, facts, err));
    return name_in_piece(s, &piece, facts, err);
}

/* Few points: down to their segments. Many: the lines of all segments are less work. */
static wa_visit
choose_for_name(void *arg, wa_segno first, uint64_t count, const wa_wal_summary *sum, bool whole)
{
    (void)arg;
    (void)first;
    (void)whole;
    if (sum->restore_points == 0 && !sum->overflow)
        return WA_VISIT_PASS;
    return count > 1 && (sum->overflow || sum->restore_points > POINTS_FEW) ? WA_VISIT_READ
                                                                            : WA_VISIT_ENTER;
}

static wa_status
name_in_run(name_search *s, wa_error *err)
{
    const wa_index_visitor visitor = {
        .arg = s, .choose = choose_for_name, .segment = name_in_segment, .facts = name_in_facts};
    wa_piece last;
    wa_segno first = 0;
    if (!cut_run(s->v, s->run, s->from, s->to, &last, &first))
        return WA_OK;
    if (first < last.segno)
        WA_TRY(wa_index_visit(s->v->repo, &s->v->coverage, &s->run->branch, first, last.segno - 1,
                              &visitor, err));
    WA_CLEANUP(wa_freep) wa_wal_facts *facts = wa_malloc(sizeof *facts);
    WA_TRY(facts_of(s->v, &last, facts, err));
    return name_in_piece(s, &last, facts, err);
}

wa_status
wa_search_name(const wa_view *v, wa_lsn from, wa_lsn to, const char *name, wa_point_search *ret,
               wa_error *err)
{
    name_search s = {.v = v, .from = from, .to = to, .name = name, .ret = ret};
    for (size_t i = 0; i < v->coverage.count; i++) {
        s.run = &v->coverage.runs[i];
        WA_TRY(name_in_run(&s, err));
    }
    return WA_OK;
}

/* ---- any record, and the last time ---- */

typedef struct record_search {
    const wa_view *v;
    wa_lsn from, found, end;
} record_search;

static wa_status
any_record(void *arg, const wa_record *record, wa_error *err)
{
    record_search *s = arg;
    (void)err;
    if (record->lsn < s->from)
        return WA_OK;
    s->found = record->lsn;
    s->end = aligned(record->end);
    return WA_CANCELLED;
}

static wa_status
record_piece(void *arg, const wa_piece *piece, wa_error *err)
{
    record_search *s = arg;
    WA_TRY(wa_view_records(s->v, piece, any_record, s, NULL, err));
    return s->found != 0 ? WA_CANCELLED : WA_OK;
}

wa_status
wa_search_record(const wa_view *v, wa_lsn lsn, wa_lsn to, wa_lsn *ret, wa_lsn *ret_end,
                 wa_error *err)
{
    record_search s = {.v = v, .from = lsn};
    WA_TRY(wa_view_pieces(v, lsn, to, false, record_piece, &s, err));
    *ret = s.found;
    *ret_end = s.end;
    return WA_OK;
}

typedef struct time_search {
    const wa_view *v;
    unsigned pieces;
    wa_time latest;
} time_search;

static void
note_time(time_search *s, wa_time time)
{
    if (time != WA_TIME_NONE && (s->latest == WA_TIME_NONE || time > s->latest))
        s->latest = time;
}

/* An object whose facts can't be read: are the bytes to be had, so that a server may read them? */
static void
note_whether_lost(const wa_view *v, const wa_piece *piece)
{
    wa_error ignored = WA_ERROR_INIT;
    WA_CLEANUP(wa_freep) uint8_t *bytes = wa_malloc(wa_repo_cluster(v->repo)->segment_size);
    if (wa_view_bytes(v, piece, bytes, NULL, &ignored) != WA_OK)
        wa_error_clear(&ignored);
}

static wa_status
time_piece(void *arg, const wa_piece *piece, wa_error *err)
{
    time_search *s = arg;
    if (s->pieces++ >= LOOK_BACK)
        return WA_CANCELLED;
    WA_CLEANUP(wa_freep) wa_wal_facts *facts = wa_malloc(sizeof *facts);
    wa_wal_facts_init(facts);
    wa_status status = wa_view_facts(s->v, piece, facts, err);
    if (wa_is_damage(status))
        note_whether_lost(s->v, piece);
    WA_TRY(status);
    note_time(s, facts->last_time);
    for (size_t i = 0; i < facts->restore_point_count; i++)
        if (facts->restore_points[i].end <= piece->end)
            note_time(s, facts->restore_points[i].time);
    for (size_t i = 0; i < facts->checkpoint_count; i++)
        if (facts->checkpoints[i].lsn < piece->end)
            note_time(s, facts->checkpoints[i].time);
    return s->latest != WA_TIME_NONE ? WA_CANCELLED : WA_OK;
}

wa_status
wa_search_last_time(const wa_view *v, wa_lsn from, wa_lsn to, wa_time *ret, wa_error *err)
{
    time_search s = {.v = v, .latest = WA_TIME_NONE};
    WA_TRY(wa_view_pieces(v, from, to, true, time_piece, &s, err));
    *ret = s.latest;
    return WA_OK;
}
