/*
 * log_find.c - the first piece in which a transaction ended at or after a time, by few requests.
 *
 * The index names candidates among whole segments. What it can't speak for is looked at itself: the
 * segments that a fork cuts, and those that have only chunks.
 */
#include "log_internal.h"

#include "walagent/repo/index.h"

typedef struct finder {
    const wa_log_view *view;
    const wa_run *run;
    wa_segno *chunked; /* segments with chunks, in order */
    size_t chunked_count;
    wa_segno last;
    wa_time t;
} finder;

/* The first segment from `next` on that must be looked at whatever the index says; last + 1: none.
 */
static wa_segno
next_suspect(const finder *f, wa_segno next)
{
    uint64_t size = f->view->segment_size;
    wa_segno best = f->last + 1, first = wa_segno_of(f->run->begin, size);
    if (f->run->begin % size != 0 && next <= first)
        best = first;
    if (f->run->end % size != 0 && f->last < best)
        best = f->last;
    for (size_t i = 0; i < f->chunked_count; i++) {
        if (f->chunked[i] >= next && f->chunked[i] < best)
            best = f->chunked[i];
    }
    return best;
}

static wa_status
next_candidate(const finder *f, wa_segno next, wa_segno *ret, wa_error *err)
{
    wa_status status = wa_index_find_time(f->view->options->repo, &f->run->branch, next, f->last,
                                          f->t, true, ret, err);
    if (status == WA_NOT_FOUND) {
        wa_error_clear(err);
        *ret = f->last + 1;
        return WA_OK;
    }
    return status;
}

static wa_status
holds(const finder *f, wa_segno segno, wa_lsn *ret, bool *ret_found, wa_error *err)
{
    uint64_t size = f->view->segment_size;
    wa_lsn start = wa_segment_start(segno, size);
    WA_CLEANUP(wa_log_pieces_done) wa_log_pieces pieces = {0};
    wa_lsn begin = start > f->run->begin ? start : f->run->begin;
    wa_lsn end = start + size < f->run->end ? start + size : f->run->end;
    WA_TRY(wa_log_pieces_load(f->view, begin, end, NULL, &pieces, err));
    *ret_found = false;
    for (size_t i = 0; i < pieces.count && !*ret_found; i++) {
        const wa_log_piece *p = &pieces.items[i];
        *ret_found = p->max_time != WA_TIME_NONE && p->max_time >= f->t;
        *ret = p->start;
    }
    return WA_OK;
}

static wa_status
search_run(finder *f, wa_lsn *ret, bool *ret_found, wa_error *err)
{
    wa_segno next = wa_segno_of(f->run->begin, f->view->segment_size), candidate = 0;
    bool known = false;
    while (next <= f->last && !*ret_found) {
        if (!known || candidate < next)
            WA_TRY(next_candidate(f, next, &candidate, err));
        known = true;
        wa_segno suspect = next_suspect(f, next);
        wa_segno look = candidate < suspect ? candidate : suspect;
        if (look > f->last)
            return WA_OK;
        WA_TRY(holds(f, look, ret, ret_found, err));
        next = look + 1;
    }
    return WA_OK;
}

wa_status
wa_log_find_time(const wa_log_view *v, wa_time t, wa_lsn *ret, wa_error *err)
{
    for (size_t i = 0; i < v->coverage.count; i++) {
        const wa_run *run = &v->coverage.runs[i];
        finder f = {
            .view = v, .run = run, .t = t, .last = wa_segno_of(run->end - 1, v->segment_size)};
        WA_CLEANUP(wa_freep) wa_segno *chunked = NULL;
        bool found = false;
        wa_lsn at = 0;
        WA_TRY(wa_tail_segments(v->options->repo, &run->branch, &chunked, &f.chunked_count, err));
        f.chunked = chunked;
        WA_TRY(search_run(&f, &at, &found, err));
        if (found) {
            *ret = at;
            return WA_OK;
        }
    }
    return wa_error_set(err, WA_NOT_FOUND, "no transaction ended at or after this time");
}
