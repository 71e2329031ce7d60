/*
 * src/repo/ranges.c - sets of segment numbers as ordered ranges.
 */
#include "ranges_internal.h"

#include "walagent/base/mem.h"

#include <stdlib.h>
#include <string.h>

void
wa_segranges_done(wa_segranges *r)
{
    free(r->items);
    *r = (wa_segranges){0};
}

static void
insert_at(wa_segranges *r, size_t index, wa_segrange range)
{
    if (r->count == r->capacity) {
        r->capacity = r->capacity == 0 ? 8 : 2 * r->capacity;
        r->items = wa_reallocarray(r->items, r->capacity, sizeof *r->items);
    }
    memmove(r->items + index + 1, r->items + index, (r->count - index) * sizeof *r->items);
    r->items[index] = range;
    r->count++;
}

static void
erase(wa_segranges *r, size_t index, size_t count)
{
    memmove(r->items + index, r->items + index + count,
            (r->count - index - count) * sizeof *r->items);
    r->count -= count;
}

/* Index of the first range that ends at or behind segno. */
static size_t
first_reaching(const wa_segranges *r, wa_segno segno)
{
    size_t low = 0, high = r->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (r->items[middle].end < segno)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

void
wa_segranges_add(wa_segranges *r, wa_segno begin, wa_segno end)
{
    if (begin >= end)
        return;
    size_t first = first_reaching(r, begin), last = first;
    for (; last < r->count && r->items[last].begin <= end; last++) {
        begin = r->items[last].begin < begin ? r->items[last].begin : begin;
        end = r->items[last].end > end ? r->items[last].end : end;
    }
    if (last == first) {
        insert_at(r, first, (wa_segrange){begin, end});
        return;
    }
    r->items[first] = (wa_segrange){begin, end};
    erase(r, first + 1, last - first - 1);
}

void
wa_segranges_remove(wa_segranges *r, wa_segno begin, wa_segno end)
{
    if (begin >= end)
        return;
    for (size_t i = first_reaching(r, begin); i < r->count && r->items[i].begin < end;) {
        wa_segrange old = r->items[i];
        if (old.end <= begin) {
            i++;
            continue;
        }
        erase(r, i, 1);
        if (old.begin < begin)
            insert_at(r, i++, (wa_segrange){old.begin, begin});
        if (old.end > end)
            insert_at(r, i++, (wa_segrange){end, old.end});
    }
}

bool
wa_segranges_has(const wa_segranges *r, wa_segno segno)
{
    size_t i = first_reaching(r, segno + 1);
    return i < r->count && r->items[i].begin <= segno;
}
