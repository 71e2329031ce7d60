/*
 * log_coarse.c - answers over so much WAL that its segments can't be looked at one by one.
 *
 * Sums of the index are the pieces then. For a time window they tell which WAL is needed; when that
 * is little enough it is looked at as in a small archive. A checkpoint's time is that of its
 * beginning, and its record comes later: WAL of one hour more is looked at for those.
 */
#include "log_internal.h"

#include <string.h>

#define LATE (INT64_C(3600) * 1000000)
#define FINE 16u      /* pieces at the window's borders have at most so many segments */
#define ROUNDS_MAX 64 /* of narrowing */

const wa_log_limits wa_log_default_limits = {.exact = WA_LOG_EXACT_SEGMENTS, .refined = 16};

uint64_t
wa_log_count_segments(const wa_log_view *v)
{
    uint64_t count = 0;
    for (size_t i = 0; i < v->coverage.count; i++)
        count += (v->coverage.runs[i].end - v->coverage.runs[i].begin) / v->segment_size + 1;
    return count;
}

wa_status
wa_log_refine(const wa_log_view *v, const wa_log_watch *watch, size_t at, wa_log_pieces *pieces,
              wa_error *err)
{
    WA_CLEANUP(wa_log_pieces_done) wa_log_pieces parts = {0};
    const wa_log_piece *p = &pieces->items[at];
    WA_ASSERT(p->segments > 1);
    WA_TRY(wa_log_pieces_load_sums(v, p->start, p->end, p->segments - 1, watch, &parts, err));
    WA_ASSERT(parts.count > 1);
    size_t count = pieces->count + parts.count - 1;
    if (count > pieces->capacity) {
        pieces->capacity = 2 * count;
        pieces->items = wa_reallocarray(pieces->items, pieces->capacity, sizeof *pieces->items);
    }
    memmove(&pieces->items[at + parts.count], &pieces->items[at + 1],
            (pieces->count - at - 1) * sizeof *pieces->items);
    memcpy(&pieces->items[at], parts.items, parts.count * sizeof *pieces->items);
    pieces->count = count;
    return WA_OK;
}

/* The pieces from the first that ends late enough to the last that begins early enough (whichever
 * comes first), and the ones next to those in which transactions ended. */
typedef struct stretch {
    size_t at[4]; /* outer, inner, inner, outer */
} stretch;

static stretch
find_stretch(const wa_log_options *o, const wa_log_pieces *p)
{
    size_t low = p->count - 1, high = 0;
    for (size_t i = p->count; i > 0; i--)
        if (p->items[i - 1].max_time != WA_TIME_NONE &&
            (o->from == WA_TIME_NONE || p->items[i - 1].max_time >= o->from))
            low = i - 1;
    for (size_t i = 0; i < p->count; i++)
        if (p->items[i].min_time != WA_TIME_NONE &&
            (o->to == WA_TIME_NONE || o->to > INT64_MAX - LATE ||
             p->items[i].min_time <= o->to + LATE))
            high = i;
    size_t first = low < high ? low : high, last = low < high ? high : low;
    stretch s = {{first, first, last, last}};
    while (s.at[0] > 0 && (s.at[0] == first || p->items[s.at[0]].max_time == WA_TIME_NONE))
        s.at[0]--;
    while (s.at[3] + 1 < p->count &&
           (s.at[3] == last || p->items[s.at[3]].max_time == WA_TIME_NONE))
        s.at[3]++;
    return s;
}

static uint64_t
count_stretch(const wa_log_pieces *p, const stretch *s)
{
    uint64_t count = 0;
    for (size_t i = s->at[0]; i <= s->at[3]; i++)
        count += p->items[i].segments;
    return count;
}

/* The piece at a border of the stretch that is to be looked at more closely. False: none. */
static bool
coarse_border(const wa_log_pieces *p, const stretch *s, size_t *ret)
{
    for (size_t i = 0; i < WA_ARRAY_SIZE(s->at); i++)
        if (p->items[s->at[i]].segments > FINE) {
            *ret = s->at[i];
            return true;
        }
    return false;
}

wa_status
wa_log_narrow(const wa_log_view *v, const wa_log_limits *limits, const wa_log_watch *watch,
              wa_lsn *ret_from, wa_lsn *ret_to, wa_log_pieces *ret, bool *ret_exact, wa_error *err)
{
    const wa_log_options *o = v->options;
    WA_CLEANUP(wa_log_pieces_done) wa_log_pieces p = {0};
    *ret_from = 0;
    *ret_to = UINT64_MAX;
    *ret_exact = wa_log_count_segments(v) <= limits->exact;
    if (*ret_exact)
        return WA_OK;
    WA_TRY(wa_log_pieces_load_sums(v, 0, UINT64_MAX, UINT64_MAX, watch, &p, err));
    bool window = p.count > 0 && (o->from != WA_TIME_NONE || o->to != WA_TIME_NONE);
    for (int round = 0; window && round < ROUNDS_MAX; round++) {
        size_t at = 0;
        stretch s = find_stretch(o, &p);
        *ret_from = p.items[s.at[0]].start;
        *ret_to = p.items[s.at[3]].end;
        *ret_exact = count_stretch(&p, &s) <= limits->exact;
        if (!coarse_border(&p, &s, &at))
            break;
        WA_TRY(wa_log_refine(v, watch, at, &p, err));
    }
    if (!*ret_exact) {
        *ret = p;
        p = (wa_log_pieces){0};
    }
    return WA_OK;
}
