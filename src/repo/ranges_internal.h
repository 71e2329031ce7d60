/*
 * src/repo/ranges_internal.h - sets of segment numbers as ordered ranges.
 */
#ifndef WA_SRC_REPO_RANGES_INTERNAL_H
#define WA_SRC_REPO_RANGES_INTERNAL_H

#include "walagent/pg/lsn.h"

#include <stdbool.h>
#include <stddef.h>

typedef struct wa_segrange {
    wa_segno begin, end; /* end: the first one behind */
} wa_segrange;
typedef struct wa_segranges { /* ordered, disjoint, not adjacent */
    wa_segrange *items;
    size_t count, capacity;
} wa_segranges;
void wa_segranges_done(wa_segranges *r);
void wa_segranges_add(wa_segranges *r, wa_segno begin, wa_segno end); /* nothing when empty */
void wa_segranges_remove(wa_segranges *r, wa_segno begin, wa_segno end);
bool wa_segranges_has(const wa_segranges *r, wa_segno segno);

#endif
