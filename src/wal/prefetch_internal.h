/*
 * prefetch_internal.h - state of a prefetcher; what its tests look at.
 */
#ifndef WALAGENT_PREFETCH_INTERNAL_H
#define WALAGENT_PREFETCH_INTERNAL_H

#include "get_internal.h"

#include "walagent/base/thread.h"
#include "walagent/wal/prefetch.h"

#include <sys/socket.h>
#include <sys/stat.h>

#define WA_PREFETCH_SLOTS 64

typedef enum wa_slot_state {
    WA_SLOT_FREE,
    WA_SLOT_WANTED,
    WA_SLOT_RUNNING,
    WA_SLOT_READY,
    WA_SLOT_ABSENT
} wa_slot_state;

typedef struct wa_prefetch_slot {
    wa_slot_state state;
    wa_segno segno;
    wa_mono again;       /* ABSENT: when to look again */
    int waiter;          /* WANTED, RUNNING: a call that waits for it; -1 */
    bool sent;           /* READY: its bytes are on their way to the disk */
    uint64_t generation; /* RUNNING: when it was begun */
} wa_prefetch_slot;

typedef struct wa_prefetch {
    const wa_prefetch_options *options;
    uint64_t segment_size;
    struct stat pinned; /* of the restore's file, when this began */
    struct stat socket; /* ours */
    wa_mutex mutex;     /* guards what follows */
    wa_cond cond;
    bool stop;
    uint64_t generation; /* counts timelines, and chains */
    wa_get_chain chain;  /* what the server may see */
    wa_mono confirmed;   /* when that was so; 0: never */
    wa_tli tli;
    wa_segno position; /* the segment served last */
    wa_mono asked;     /* when */
    bool in_time;      /* the next one lay ready then: what passes is the replay's time */
    wa_segno let_go;   /* segments up to here left the page cache, or are left alone */
    uint64_t fetch_ms, replay_ms;
    size_t least; /* segments ahead, however fast the replay seems: doubled when somebody waits */
    wa_prefetch_slot slots[WA_PREFETCH_SLOTS];
} wa_prefetch;

/* prefetch_pace.c; p: mutex held. */

/* A moving mean that begins with its first value; never 0 afterwards. */
uint64_t wa_prefetch_mean(uint64_t mean, uint64_t value);
/* The server asks for a segment: it has replayed the one before, if this lay ready all the while.
 */
void wa_prefetch_note_replay(wa_prefetch *p, wa_segno taken, wa_mono now);
/* How many segments ahead, `least` if there is room. */
size_t wa_prefetch_depth(size_t least, uint64_t fetch_ms, uint64_t replay_ms, uint64_t max_bytes,
                         uint64_t segment_size);
/* How many keep up with the replay; all when it isn't known how fast that is. */
size_t wa_prefetch_at_once(uint64_t fetch_ms, uint64_t replay_ms, size_t workers);
bool wa_prefetch_has(const wa_prefetch *p, wa_segno segno); /* READY */
/* What a worker fetches next; NULL: nothing is wanted, or enough are at it. */
wa_prefetch_slot *wa_prefetch_next(wa_prefetch *p);
/* The next file to be sent to the disk; NULL: none, or this worker may fetch. */
wa_prefetch_slot *wa_prefetch_unsent(wa_prefetch *p);
/* Until when nothing is begun: the server, which has just been given a segment, ends its call and
 * fsyncs, and waits for processor and disk meanwhile. 0: no rest, not enough lies ready. */
wa_mono wa_prefetch_rests_until(const wa_prefetch *p);
/* Is there a replayed segment in the page cache, and nothing for this worker to fetch? */
bool wa_prefetch_may_let_go(wa_prefetch *p);

#endif
