/*
 * prefetch_pace.c - how many segments are fetched ahead, how many at a time, and when.
 *
 * The server has what the prefetcher leaves it of the processors, the memory and the disk. So as
 * long as enough lies ready, no more are fetched at a time than keep up with the replay, and for at
 * most 20 ms, while the server takes a segment into its pg_wal (a process, three fsyncs), none is
 * begun. When the run of those that lie ready gets short, or somebody waits, all workers fetch.
 */
#include "prefetch_internal.h"

#define WORKERS 4
#define CACHED_BEHIND 4 /* replayed segments: a standby of this one may read them */
#define REST_MS 20      /* at most, and a quarter of what the server replays a segment in */

uint64_t
wa_prefetch_mean(uint64_t mean, uint64_t value)
{
    return mean == 0 ? value + 1 : (mean * 3 + value) / 4;
}

/* What is more than four times off is no replay (a pause, a conflict), or the mean was none. */
void
wa_prefetch_note_replay(wa_prefetch *p, wa_segno taken, wa_mono now)
{
    uint64_t took = now - p->asked;
    if (!p->in_time || taken != p->position + 1)
        return;
    if (p->replay_ms != 0 && took > 4 * p->replay_ms)
        took = 4 * p->replay_ms;
    p->replay_ms = wa_prefetch_mean(4 * took < p->replay_ms ? 0 : p->replay_ms, took);
}

size_t
wa_prefetch_workers(wa_repo *repo)
{
    const wa_store_traits *store = wa_store_get_traits(wa_repo_store(repo));
    size_t processors = wa_processors();
    if (!wa_str_eq(store->scheme, "file") || processors > WORKERS)
        return WORKERS;
    return processors;
}

size_t
wa_prefetch_depth(size_t least, uint64_t fetch_ms, uint64_t replay_ms, uint64_t max_bytes,
                  uint64_t segment_size)
{
    uint64_t most = max_bytes / segment_size;
    if (most > WA_PREFETCH_SLOTS)
        most = WA_PREFETCH_SLOTS;
    /* And what is replayed while one is fetched, twice, if that is known. */
    uint64_t depth = least + (replay_ms == 0 ? 0 : 2 * fetch_ms / replay_ms);
    return (size_t)(depth < most ? depth : most);
}

size_t
wa_prefetch_at_once(uint64_t fetch_ms, uint64_t replay_ms, size_t workers)
{
    if (replay_ms == 0)
        return workers;
    uint64_t count = fetch_ms / replay_ms + 1;
    return (size_t)(count < workers ? count : workers);
}

bool
wa_prefetch_has(const wa_prefetch *p, wa_segno segno)
{
    for (size_t i = 0; i < WA_PREFETCH_SLOTS; i++)
        if (p->slots[i].state == WA_SLOT_READY && p->slots[i].segno == segno)
            return true;
    return false;
}

static bool
somebody_waits(const wa_prefetch *p)
{
    for (size_t i = 0; i < WA_PREFETCH_SLOTS; i++)
        if (p->slots[i].state == WA_SLOT_WANTED && p->slots[i].waiter >= 0)
            return true;
    return false;
}

/* Half of what has to lie ready does, in a row. */
static bool
is_ahead(const wa_prefetch *p)
{
    size_t depth = wa_prefetch_depth(p->least, p->fetch_ms, p->replay_ms, p->options->max_bytes,
                                     p->segment_size);
    size_t least = (p->least < depth ? p->least : depth) / 2;
    if (least < 2)
        least = depth < 2 ? depth : 2;
    for (size_t i = 1; i <= least; i++)
        if (!wa_prefetch_has(p, p->position + i))
            return false;
    return !somebody_waits(p);
}

static wa_prefetch_slot *
next_wanted(wa_prefetch *p)
{
    wa_prefetch_slot *first = NULL;
    for (size_t i = 0; i < WA_PREFETCH_SLOTS; i++) {
        wa_prefetch_slot *s = &p->slots[i];
        if (s->state == WA_SLOT_WANTED && (first == NULL || s->segno < first->segno))
            first = s;
    }
    return first;
}

/* Those whose segment somebody may still ask for. */
static size_t
count_running(const wa_prefetch *p)
{
    size_t count = 0;
    for (size_t i = 0; i < WA_PREFETCH_SLOTS; i++) {
        const wa_prefetch_slot *s = &p->slots[i];
        count +=
            s->state == WA_SLOT_RUNNING && s->generation == p->generation && s->segno > p->position;
    }
    return count;
}

wa_prefetch_slot *
wa_prefetch_next(wa_prefetch *p)
{
    size_t most = wa_prefetch_at_once(p->fetch_ms, p->replay_ms, p->options->workers);
    return count_running(p) >= most && is_ahead(p) ? NULL : next_wanted(p);
}

wa_prefetch_slot *
wa_prefetch_unsent(wa_prefetch *p)
{
    wa_prefetch_slot *first = NULL;
    if (wa_prefetch_next(p) != NULL)
        return NULL;
    for (size_t i = 0; i < WA_PREFETCH_SLOTS; i++) {
        wa_prefetch_slot *s = &p->slots[i];
        if (s->state == WA_SLOT_READY && !s->sent && (first == NULL || s->segno < first->segno))
            first = s;
    }
    return first;
}

wa_mono
wa_prefetch_rests_until(const wa_prefetch *p)
{
    uint64_t rest = p->replay_ms / 4 < REST_MS ? p->replay_ms / 4 : REST_MS;
    return is_ahead(p) ? p->asked + rest : 0;
}

bool
wa_prefetch_may_let_go(wa_prefetch *p)
{
    return p->position > p->let_go + CACHED_BEHIND && wa_prefetch_next(p) == NULL;
}
