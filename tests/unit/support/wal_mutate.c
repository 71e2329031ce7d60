/*
 * support/wal_mutate.c - damage WAL at random and see whether the reader notices.
 */
#include "wal_mutate.h"

#include "walagent/base/bytes.h"
#include "walagent/base/mem.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct outcome {
    wa_status status;
    wa_wal_end end_kind;
    wa_lsn first; /* where the first record begins */
    wa_lsn end;
} outcome;

typedef struct subject {
    const uint8_t *segment;
    size_t len;
    wa_lsn start;
    uint64_t system;
    wa_tli tlis[64];
    size_t tli_count;
} subject;

static wa_status
note_first(void *arg, const wa_record *record, wa_error *err)
{
    outcome *o = arg;

    (void)err;
    if (o->first == 0)
        o->first = record->lsn;
    return WA_OK;
}

static outcome
read_all(const subject *s, const uint8_t *bytes)
{
    WA_CLEANUP(wa_walreader_freep) wa_walreader *r = wa_walreader_new(s->len);
    wa_error err = WA_ERROR_INIT;
    outcome o = {.end_kind = WA_WAL_MORE};

    wa_walreader_expect_system(r, s->system);
    wa_walreader_expect_timelines(r, s->tlis, s->tli_count);
    wa_walreader_start(r, s->start, 0);
    o.status = wa_walreader_feed(r, bytes, s->len, note_first, &o, &o.end_kind, &err);
    o.end = wa_walreader_end(r);
    return o;
}

static void
collect_timelines(subject *s)
{
    for (size_t at = 0; at < s->len; at += WA_WAL_PAGE) {
        wa_tli tli = wa_get_u32le(s->segment + at + 4);
        bool new_one = s->tli_count == 0 || tli > s->tlis[s->tli_count - 1];
        if (tli != 0 && new_one && s->tli_count < WA_ARRAY_SIZE(s->tlis))
            s->tlis[s->tli_count++] = tli;
    }
}

static size_t
below(size_t n)
{
    return ((size_t)random() << 20 ^ (size_t)random()) % n;
}

void
wal_mutate(uint8_t *bytes, size_t len, size_t range)
{
    size_t at = below(range);
    size_t pages = range / WA_WAL_PAGE;
    uint8_t page[WA_WAL_PAGE];

    switch (random() % 6) {
    case 0:
    case 1:
        bytes[at] ^= (uint8_t)(1u << below(8));
        break;
    case 2:
        bytes[at] = (uint8_t)random();
        break;
    case 3:
        memset(bytes + at, 0, len - at);
        break;
    case 4:
        if (pages >= 2) {
            size_t a = below(pages) * WA_WAL_PAGE, b = below(pages) * WA_WAL_PAGE;
            memcpy(page, bytes + a, sizeof page);
            memcpy(bytes + a, bytes + b, sizeof page);
            memcpy(bytes + b, page, sizeof page);
            break;
        }
        __attribute__((fallthrough));
    default:
        memset(bytes + at / WA_WAL_PAGE * WA_WAL_PAGE, 0,
               range - at < WA_WAL_PAGE ? range - at : WA_WAL_PAGE);
        break;
    }
}

/* Are the checked bytes the same but for the flag that says nothing? */
bool
wal_is_same(const uint8_t *segment, const uint8_t *bytes, size_t from, size_t range)
{
    for (size_t i = from; i < range; i++) {
        uint8_t differs = bytes[i] ^ segment[i];
        if (differs != 0 && !(i % WA_WAL_PAGE == 2 && differs == 4))
            return false;
    }
    return true;
}

size_t
wal_mutate_unnoticed(const uint8_t *segment, size_t len, wa_lsn start, unsigned seed, size_t count)
{
    subject s = {.segment = segment, .len = len, .start = start};
    WA_CLEANUP(wa_freep) uint8_t *bytes = wa_malloc(len);
    size_t unnoticed = 0;

    s.system = wa_get_u64le(segment + 24);
    collect_timelines(&s);
    outcome whole = read_all(&s, segment);
    WA_ASSERT(whole.status == WA_OK && whole.end > start);
    size_t range = (size_t)(whole.end - start);
    /* The rest of a record that began before can't be checked. */
    bool continued = (segment[2] & 1) != 0;
    size_t from = continued ? (size_t)(whole.first - start) : 0;

    srandom(seed);
    for (size_t i = 0; i < count; i++) {
        memcpy(bytes, segment, len);
        wal_mutate(bytes, len, range);
        if (wal_is_same(segment, bytes, from, range))
            continue;
        outcome o = read_all(&s, bytes);
        if (o.status != WA_OK || o.end_kind != whole.end_kind || o.end < whole.end)
            continue;
        unnoticed++;
        for (size_t at = from; at < range; at++)
            if (bytes[at] != segment[at]) {
                fprintf(stderr, "seed %u, mutation %zu at offset %zu (%zu in its page)\n", seed, i,
                        at, at % WA_WAL_PAGE);
                break;
            }
    }
    return unnoticed;
}
