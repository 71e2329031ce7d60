/*
 * cut_internal.h - when the tail thread cuts a chunk, and of what. A pure function of positions.
 *
 * A chunk carries everything that can be shipped in durable's segment, up to `most` of it, so
 * chunks grow by themselves while the store is slow; what is more follows in the next one. It is
 * cut
 *   - at once, when the server waits for us (synchronous) or the stream drains;
 *   - when the oldest byte has waited for the interval;
 *   - when size_limit has gathered. The limit doubles (up to `most` and the segment) while twice as
 *     much is found, so that a busy server costs few, large chunks, and shrinks again when it is
 *     quiet.
 * A segment that is complete is written as a whole by another thread: its last bytes become a
 * chunk only when somebody waits for them (synchronous, drain) or have waited for two intervals.
 * After WA_CUT_SMALL chunks the next is cumulative: it begins at the segment's start.
 */
#ifndef WALAGENT_CUT_INTERNAL_H
#define WALAGENT_CUT_INTERNAL_H

#include "walagent/pg/lsn.h"

#include <stdbool.h>
#include <stdint.h>

#define WA_CUT_SMALL 32u
#define WA_CUT_SIZE (1024u * 1024)
#define WA_CUT_MOST (16u * 1024 * 1024)
#define WA_CUT_NEVER UINT64_MAX

typedef struct wa_cut_input {
    wa_lsn durable;
    wa_lsn available; /* behind the last byte that may be shipped */
    uint64_t segment_size;
    bool complete;   /* durable's segment is complete: a job writes it as a whole */
    uint64_t age_ms; /* how long the oldest byte has waited */
    uint64_t interval_ms;
    bool synchronous, drain;
    unsigned small; /* chunks since the last cumulative one; 0 of them: none in the segment */
    bool first;     /* no chunk in this segment's chain yet */
    uint64_t size_limit;
    uint64_t most; /* new bytes in a chunk */
} wa_cut_input;

typedef struct wa_cut {
    bool cut;
    bool part; /* more could be shipped: what the records say of the rest doesn't belong to it */
    wa_lsn start, base, end;
    uint64_t wait_ms; /* not now: look again then; WA_CUT_NEVER: when something moves */
    uint64_t size_limit;
} wa_cut;

wa_cut wa_cut_decide(const wa_cut_input *in);

#endif
