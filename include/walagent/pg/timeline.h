/*
 * walagent/pg/timeline.h - timeline history files.
 *
 * A history file has one line per ancestor: parent TLI, TAB, the LSN at which it was left, TAB,
 * reason. Blank lines and lines that begin with '#' are ignored. Parents increase strictly, switch
 * points do not decrease. Source: PostgreSQL src/backend/access/transam/timeline.c.
 */
#ifndef WALAGENT_PG_TIMELINE_H
#define WALAGENT_PG_TIMELINE_H

#include "walagent/base/error.h"
#include "walagent/base/mem.h"
#include "walagent/pg/lsn.h"

#include <stddef.h>

typedef struct wa_history_entry {
    wa_tli tli;
    wa_lsn end; /* the first LSN that is not on this timeline */
} wa_history_entry;

typedef struct wa_history {
    wa_tli tli; /* the timeline that the file belongs to */
    size_t count;
    wa_history_entry *entries; /* oldest first, without `tli` itself */
} wa_history;

/* Timeline 1 has no file: len 0 gives an empty history. CORRUPT with the line number otherwise. At
 * most 1 MiB. */
wa_status wa_history_parse(wa_tli tli, const char *text, size_t len, wa_history **ret,
                           wa_error *err) WA_MUST_CHECK;
void wa_history_free(wa_history *h);
WA_DEFINE_CLEANUP(wa_history, wa_history_free)
bool wa_history_has(const wa_history *h, wa_tli tli); /* itself or an ancestor */
/* Where `tli` was left: 0 for h->tli itself (open end). Asserts wa_history_has. */
wa_lsn wa_history_end_of(const wa_history *h, wa_tli tli);
/* Where h->tli begins (0 for timeline 1) and its parent (0). */
wa_lsn wa_history_begin(const wa_history *h);
wa_tli wa_history_parent(const wa_history *h);
/* The timeline of the chain on which the byte at lsn lies. */
wa_tli wa_history_tli_at(const wa_history *h, wa_lsn lsn);
char *wa_history_name(wa_tli tli, char out[static WA_SEGMENT_NAME]); /* "00000002.history" */
bool wa_history_name_parse(const char *name, wa_tli *ret);

#endif
