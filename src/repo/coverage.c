/*
 * src/repo/coverage.c - runs of WAL without a gap along a lineage.
 *
 * Each step of the lineage is looked at on its own branch: whole segments, then chunks of segments
 * that have no whole object, both cut to the step. The segment that holds a fork begins with the
 * parent's bytes on every descendant that leaves within it, so a descendant's object also covers
 * the parent up to the fork.
 */
#include "walagent/repo/coverage.h"

#include "index_internal.h"
#include "repo_internal.h"
#include "wal_internal.h"

#include <stdlib.h>
#include <string.h>

typedef struct tail_piece {
    wa_segno segno;
    wa_lsn end;
    bool checked;
} tail_piece;

typedef struct step_state {
    wa_branch branch;
    wa_lsn begin, end; /* end: UINT64_MAX when open */
    wa_segranges whole;
    tail_piece *tails;
    size_t tail_count;
    wa_time newest;
} step_state;

typedef struct piece {
    wa_lsn begin, end;
    bool tail;
} piece;
typedef struct pieces {
    piece *items;
    size_t count, capacity;
} pieces;

typedef struct coverage_state {
    wa_repo *repo;
    uint64_t size; /* of a segment */
    step_state *steps;
    size_t count;
    wa_coverage_index *index;
} coverage_state;

static void
free_index(wa_coverage_index *index)
{
    for (size_t i = 0; index != NULL && i < index->count; i++) {
        wa_index_plan_done(&index->steps[i].plan);
        free(index->steps[i].chunked);
        free(index->steps[i].chunked_checked);
    }
    free(index);
}

static void
coverage_state_done(coverage_state *s)
{
    for (size_t i = 0; i < s->count; i++) {
        wa_segranges_done(&s->steps[i].whole);
        free(s->steps[i].tails);
    }
    free(s->steps);
    free_index(s->index);
}

static void
pieces_done(pieces *p)
{
    free(p->items);
}

static void
add_piece(pieces *p, const step_state *step, wa_lsn begin, wa_lsn end, bool tail)
{
    begin = begin < step->begin ? step->begin : begin;
    end = end > step->end ? step->end : end;
    if (begin >= end)
        return;
    if (p->count == p->capacity) {
        p->capacity = p->capacity == 0 ? 16 : 2 * p->capacity;
        p->items = wa_reallocarray(p->items, p->capacity, sizeof *p->items);
    }
    p->items[p->count++] = (piece){begin, end, tail};
}

/* Chunks of segments that have no whole object. A chain without its first chunk covers nothing. */
static wa_status
load_tails(coverage_state *s, step_state *step, wa_segno low, wa_segno high, wa_error *err)
{
    WA_CLEANUP(wa_freep) wa_segno *segments = NULL;
    size_t count = 0;
    WA_TRY(wa_tail_segments(s->repo, &step->branch, &segments, &count, err));
    step->tails = wa_calloc(count + 1, sizeof *step->tails);
    for (size_t i = 0; i < count; i++) {
        wa_lsn end = 0;
        wa_time modified = WA_TIME_NONE;
        bool checked = true;
        if (segments[i] < low || segments[i] >= high || wa_segranges_has(&step->whole, segments[i]))
            continue;
        wa_status status = wa_tail_end_again(s->repo, &step->branch, segments[i], &end, &modified,
                                             NULL, &checked, err);
        if (status == WA_NOT_FOUND || status == WA_CORRUPT) {
            wa_error_clear(err);
            continue;
        }
        WA_TRY(status);
        step->tails[step->tail_count++] = (tail_piece){segments[i], end, checked};
        if (modified > step->newest)
            step->newest = modified;
    }
    return WA_OK;
}

static void
note_chunked(coverage_state *s, size_t i)
{
    const step_state *step = &s->steps[i];
    wa_segno *chunked = wa_calloc(step->tail_count + 1, sizeof *chunked);
    bool *checked = wa_calloc(step->tail_count + 1, sizeof *checked);
    for (size_t t = 0; t < step->tail_count; t++) {
        chunked[t] = step->tails[t].segno;
        checked[t] = step->tails[t].checked;
    }
    s->index->steps[i].chunked = chunked;
    s->index->steps[i].chunked_checked = checked;
    s->index->steps[i].chunked_count = step->tail_count;
}

static wa_status
load_step(coverage_state *s, size_t i, wa_lsn from, wa_error *err)
{
    step_state *step = &s->steps[i];
    wa_lsn begin = step->begin > from ? step->begin : from;
    wa_segno low = begin / s->size, high = UINT64_MAX;
    step->newest = WA_TIME_NONE;
    if (step->end <= from)
        return WA_OK;
    if (step->end != UINT64_MAX)
        high = (step->end + s->size - 1) / s->size;
    if (low >= high)
        return WA_OK;
    WA_TRY(wa_index_present(s->repo, &step->branch, low, high, &s->index->steps[i].plan,
                            &step->whole, NULL, &step->newest, err));
    WA_TRY(load_tails(s, step, low, high, err));
    note_chunked(s, i);
    return WA_OK;
}

/* The descendants that leave within the segment of step i's end. */
static void
add_fork_segment(const coverage_state *s, size_t i, pieces *p)
{
    const step_state *step = &s->steps[i];
    if (step->end == UINT64_MAX || step->end % s->size == 0)
        return;
    wa_segno segno = step->end / s->size;
    wa_lsn start = segno * s->size;
    for (size_t j = i + 1; j < s->count && s->steps[j].begin < start + s->size; j++) {
        const step_state *child = &s->steps[j];
        if (wa_segranges_has(&child->whole, segno))
            add_piece(p, step, start, step->end, false);
        for (size_t t = 0; t < child->tail_count; t++) {
            if (child->tails[t].segno == segno)
                add_piece(p, step, start, child->tails[t].end, true);
        }
    }
}

static int
compare_pieces(const void *a, const void *b)
{
    const piece *x = a, *y = b;
    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    return x->end < y->end ? -1 : x->end > y->end;
}

static void
add_runs(const step_state *step, pieces *p, wa_coverage *c)
{
    if (p->count == 0)
        return;
    qsort(p->items, p->count, sizeof *p->items, compare_pieces);
    c->runs = wa_reallocarray(c->runs, c->count + p->count, sizeof *c->runs);
    size_t first = c->count;
    for (size_t i = 0; i < p->count; i++) {
        const piece *next = &p->items[i];
        wa_run *last = c->count > first ? &c->runs[c->count - 1] : NULL;
        if (last != NULL && next->begin <= last->end) {
            if (next->end > last->end) {
                last->end = next->end;
                last->tail = next->tail;
            }
            continue;
        }
        c->runs[c->count++] = (wa_run){step->branch, next->begin, next->end, next->tail};
    }
}

static void
build_runs(const coverage_state *s, wa_coverage *c)
{
    for (size_t i = 0; i < s->count; i++) {
        const step_state *step = &s->steps[i];
        WA_CLEANUP(pieces_done) pieces p = {0};
        for (size_t r = 0; r < step->whole.count; r++)
            add_piece(&p, step, step->whole.items[r].begin * s->size,
                      step->whole.items[r].end * s->size, false);
        for (size_t t = 0; t < step->tail_count; t++)
            add_piece(&p, step, step->tails[t].segno * s->size, step->tails[t].end, true);
        add_fork_segment(s, i, &p);
        add_runs(step, &p, c);
        if (step->newest > c->tip_time)
            c->tip_time = step->newest;
    }
}

wa_status
wa_coverage_load(wa_repo *repo, const wa_lineage *l, wa_lsn from, wa_coverage *ret, wa_error *err)
{
    WA_CLEANUP(coverage_state_done)
    coverage_state s = {.repo = repo, .size = wa_repo_cluster(repo)->segment_size};
    s.steps = wa_calloc(l->count + 1, sizeof *s.steps);
    s.count = l->count;
    for (size_t i = 0; i < l->count; i++) {
        s.steps[i].branch = l->steps[i].branch;
        s.steps[i].begin = l->steps[i].begin;
        s.steps[i].end = i + 1 < l->count ? l->steps[i + 1].begin : UINT64_MAX;
        s.steps[i].newest = WA_TIME_NONE;
    }
    s.index = wa_calloc(1, sizeof *s.index + l->count * sizeof s.index->steps[0]);
    for (; s.index->count < s.count; s.index->count++) {
        s.index->steps[s.index->count].branch = s.steps[s.index->count].branch;
        WA_TRY(load_step(&s, s.index->count, from, err));
    }
    wa_coverage c = {.tip_time = WA_TIME_NONE, .index = WA_TAKE(s.index)};
    build_runs(&s, &c);
    *ret = c;
    return WA_OK;
}

void
wa_coverage_done(wa_coverage *c)
{
    free(c->runs);
    free_index(c->index);
    *c = (wa_coverage){.tip_time = WA_TIME_NONE};
}

static bool
next_chunked(const wa_coverage *c, const wa_branch *branch, wa_segno from, bool unchecked,
             wa_segno *ret)
{
    for (size_t i = 0; c->index != NULL && i < c->index->count; i++) {
        if (!wa_branch_eq(&c->index->steps[i].branch, branch))
            continue;
        for (size_t k = 0; k < c->index->steps[i].chunked_count; k++) {
            if (c->index->steps[i].chunked[k] < from ||
                (unchecked && c->index->steps[i].chunked_checked[k]))
                continue;
            *ret = c->index->steps[i].chunked[k];
            return true;
        }
    }
    return false;
}

bool
wa_coverage_next_chunked(const wa_coverage *c, const wa_branch *branch, wa_segno from,
                         wa_segno *ret)
{
    return next_chunked(c, branch, from, false, ret);
}

bool
wa_coverage_next_unchecked_chunks(const wa_coverage *c, const wa_branch *branch, wa_segno from,
                                  wa_segno *ret)
{
    return next_chunked(c, branch, from, true, ret);
}

wa_lsn
wa_coverage_from(const wa_coverage *c, wa_lsn lsn)
{
    wa_lsn end = lsn;
    for (size_t i = 0; i < c->count; i++) {
        if (c->runs[i].begin <= end && c->runs[i].end > end)
            end = c->runs[i].end;
    }
    return end;
}

wa_lsn
wa_coverage_tip(const wa_coverage *c)
{
    wa_lsn tip = 0;
    for (size_t i = 0; i < c->count; i++)
        tip = c->runs[i].end > tip ? c->runs[i].end : tip;
    return tip;
}

size_t
wa_coverage_holes(const wa_coverage *c, wa_hole *out, size_t max)
{
    size_t count = 0;
    for (size_t i = 1; i < c->count; i++) {
        if (c->runs[i].begin <= c->runs[i - 1].end)
            continue;
        if (count < max)
            out[count] = (wa_hole){c->runs[i - 1].end, c->runs[i].begin};
        count++;
    }
    return count;
}
