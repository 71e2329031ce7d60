/*
 * push_ahead.c - a short queue of segments in the order of their names, workers that prepare one
 * each, and the turn that lets only the first of the queue become visible.
 *
 * A worker reads, checks and compresses its segment by itself, a frame at a time, while that is in
 * its processor's cache. Two a processor do so, since each waits now and then; more workers wait
 * for the disk or for their turn meanwhile, which takes no memory where the store has drafts (and
 * there are none of them elsewhere). A segment of a later timeline is read as a whole: two at a
 * time, compressed by the pool.
 */
#include "push_ahead_internal.h"

#include "walagent/base/file.h"
#include "walagent/base/log.h"

#include <stdio.h>
#include <string.h>

#define ROOMS_MAX 4      /* of those who read and compress */
#define WHOLE_ROOMS 2    /* of whole segments */
#define WAITING 3        /* workers beyond those, for the disk or their turn: they need no room */
#define WITHOUT_DRAFTS 3 /* workers in all: what waits is in memory, compressed */
#define LARGE_LEVEL 10   /* from here on a compressor is so large that there are but WHOLE_ROOMS */
#define KNOWN (4 * WA_PUSH_AHEAD_SEGMENTS)
#define GLANCE_MS 250 /* how often a wait looks at its cancel */

typedef struct entry {
    char name[WA_SEGMENT_NAME];
    bool running;
    bool doomed; /* one before it failed */
} entry;

typedef struct known {
    const wa_repo *repo; /* NULL: unused */
    char name[WA_SEGMENT_NAME];
    char xxh3[WA_XXH_HEX];
    wa_branch branch;
    wa_push_source source;
} known;

/* Kept with its pages as long as there is work. */
typedef struct room {
    wa_push_room push;
    bool taken;
} room;

struct wa_push_ahead {
    wa_push_ahead_options options;
    wa_mutex mutex; /* guards all that follows */
    wa_cond cond;
    bool stopping, scanning;
    bool failing; /* nothing is added until the queue is empty */
    pthread_t threads[ROOMS_MAX + WAITING];
    size_t thread_count, thread_limit;   /* the limit is 0 until it is known */
    entry queue[WA_PUSH_AHEAD_SEGMENTS]; /* in order; the first one may be written */
    size_t count;
    room rooms[ROOMS_MAX];
    size_t room_count;
    char *wal_dir; /* of everything in the queue */
    wa_repo *repo;
    bool stop_on_damage;
    known known[KNOWN];
    size_t known_next;
};

/* ---- the queue, under the mutex ---- */

static bool
find_locked(const wa_push_ahead *a, const char *name, size_t *ret)
{
    for (size_t i = 0; i < a->count; i++) {
        if (strcmp(a->queue[i].name, name) == 0) {
            *ret = i;
            return true;
        }
    }
    return false;
}

static void
remove_locked(wa_push_ahead *a, size_t i)
{
    memmove(a->queue + i, a->queue + i + 1, (a->count - i - 1) * sizeof a->queue[0]);
    if (--a->count == 0)
        a->failing = false;
    wa_cond_broadcast(&a->cond);
}

/* What stands before goes on; what waits behind is dropped, and what runs learns it at its turn. */
static void
fail_locked(wa_push_ahead *a, size_t at)
{
    size_t kept = at;
    for (size_t i = at + 1; i < a->count; i++) {
        if (!a->queue[i].running)
            continue;
        a->queue[kept] = a->queue[i];
        a->queue[kept++].doomed = true;
    }
    a->count = kept;
    a->failing = kept > 0;
    wa_cond_broadcast(&a->cond);
}

static void
remember_locked(wa_push_ahead *a, const char *name, const wa_push_result *result)
{
    known *k = &a->known[a->known_next++ % KNOWN];
    *k = (known){.repo = a->repo, .branch = result->branch, .source = result->source};
    snprintf(k->name, sizeof k->name, "%s", name);
    memcpy(k->xxh3, result->xxh3, sizeof k->xxh3);
}

/* ---- workers ---- */

typedef struct work {
    wa_push_ahead *ahead;
    char name[WA_SEGMENT_NAME];
    room *room; /* NULL: given back */
} work;

static wa_status
await_turn(void *arg, wa_error *err)
{
    work *w = arg;
    wa_push_ahead *a = w->ahead;
    size_t at = 0;
    WA_LOCK(&a->mutex);
    for (;;) {
        WA_ASSERT(find_locked(a, w->name, &at));
        if (a->stopping || a->queue[at].doomed)
            return wa_error_set(err, WA_CANCELLED, "nothing is archived ahead any more");
        if (at == 0)
            return WA_OK;
        wa_cond_wait(&a->cond, &a->mutex);
    }
}

/* A warning is for archive_command's own call to give; so is what became no whole segment. */
static void
work_done(work *w, wa_status status, const wa_push_result *result, const wa_error *err)
{
    wa_push_ahead *a = w->ahead;
    size_t at = 0;
    bool good = status == WA_OK && result->xxh3[0] != '\0' && result->warning[0] == '\0';
    if (status != WA_OK && status != WA_CANCELLED)
        wa_log_error(WA_LOG_WARNING, err, "could not archive ahead");
    WA_LOCK(&a->mutex);
    if (good)
        remember_locked(a, w->name, result);
    WA_ASSERT(find_locked(a, w->name, &at));
    if (good)
        remove_locked(a, at);
    else
        fail_locked(a, at);
}

/* Everything in the queue is of one timeline. */
static bool
is_streamed_locked(const wa_push_ahead *a)
{
    wa_tli tli = 0;
    wa_segno segno = 0;
    return a->count > 0 &&
           wa_segment_parse(a->queue[0].name, wa_repo_cluster(a->repo)->segment_size, &tli,
                            &segno) &&
           tli == 1;
}

/* NULL: all are in use. */
static room *
free_room_locked(wa_push_ahead *a, bool streamed)
{
    bool all = streamed && wa_repo_level(a->repo) < LARGE_LEVEL;
    size_t most = all || a->room_count < WHOLE_ROOMS ? a->room_count : WHOLE_ROOMS;
    for (size_t i = 0; i < most; i++)
        if (!a->rooms[i].taken)
            return &a->rooms[i];
    return NULL;
}

static void
give_room(void *arg)
{
    work *w = arg;
    WA_LOCK(&w->ahead->mutex);
    if (w->room == NULL)
        return;
    w->room->taken = false;
    w->room = NULL;
    wa_cond_broadcast(&w->ahead->cond);
}

static void
drop_rooms_locked(wa_push_ahead *a)
{
    for (size_t i = 0; i < a->room_count; i++)
        if (!a->rooms[i].taken)
            wa_push_room_done(&a->rooms[i].push);
}

/* In the order of the queue: whoever waits for a turn waits for one that has had its room. */
static bool
take_work(wa_push_ahead *a, work *ret, wa_push_options *options, char **ret_path)
{
    WA_LOCK(&a->mutex);
    while (!a->stopping) {
        bool streamed = is_streamed_locked(a);
        room *free_room = free_room_locked(a, streamed);
        for (size_t i = 0; i < a->count && !a->failing && free_room != NULL; i++) {
            if (a->queue[i].running)
                continue;
            a->queue[i].running = true;
            free_room->taken = true;
            *ret = (work){.ahead = a, .room = free_room};
            snprintf(ret->name, sizeof ret->name, "%s", a->queue[i].name);
            *options = (wa_push_options){.repo = a->repo,
                                         .pool = streamed ? NULL : a->options.pool,
                                         .turn = await_turn,
                                         .turn_arg = ret,
                                         .room = &free_room->push,
                                         .room_done = give_room,
                                         .room_arg = ret,
                                         .stop_on_damage = a->stop_on_damage,
                                         .cancel = a->options.cancel};
            *ret_path = wa_path_join(a->wal_dir, ret->name);
            return true;
        }
        if (a->count == 0)
            drop_rooms_locked(a);
        wa_cond_wait(&a->cond, &a->mutex);
    }
    return false;
}

static void *
worker_main(void *arg)
{
    wa_push_ahead *a = arg;
    work w;
    wa_push_options options;
    char *path = NULL;
    while (take_work(a, &w, &options, &path)) {
        wa_error err = WA_ERROR_INIT;
        wa_push_result result = {0};
        options.look_first =
            a->options.hooks->ships(a->options.hooks->arg, w.name) == WA_SHIPS_PAST;
        wa_status status = wa_push_file(&options, path, &result, &err);
        give_room(&w);
        work_done(&w, status, &result, &err);
        wa_freep(&path);
    }
    return NULL;
}

/* ---- what comes next ---- */

/* Segments that follow `answered` without a gap, are ready, and neither queued (up to `last`) nor
 * archived ahead before; none while an older one is ready. */
static void
ready_behind(wa_push_ahead *a, const wa_repo *repo, const char *wal_dir, const char *answered,
             const char *last, wa_strv *ret)
{
    wa_error ignored = WA_ERROR_INIT;
    uint64_t size = wa_repo_cluster(repo)->segment_size;
    size_t most = WA_PUSH_AHEAD_BYTES / size;
    most = most < WA_PUSH_AHEAD_SEGMENTS ? most : WA_PUSH_AHEAD_SEGMENTS;
    WA_CLEANUP(wa_strv_done) wa_strv ready = {0};
    char expected[WA_SEGMENT_NAME], xxh3[WA_XXH_HEX];
    wa_branch branch;
    wa_tli tli;
    wa_segno segno;
    if (!wa_segment_parse(answered, size, &tli, &segno) ||
        wa_push_ready_after(wal_dir, "", most + 1, &ready, &ignored) != WA_OK)
        return;
    size_t at = ready.count > 0 && strcmp(ready.items[0], answered) == 0 ? 1 : 0;
    for (size_t i = 0; at + i < ready.count && i < most; i++) {
        const char *name = ready.items[at + i];
        wa_ships ships = a->options.hooks->ships(a->options.hooks->arg, name);
        wa_segment_name(tli, segno + 1 + i, size, expected);
        if (strcmp(name, expected) != 0 || (ships != WA_SHIPS_NOT && ships != WA_SHIPS_PAST))
            break;
        if (strcmp(name, last) > 0 && !wa_push_ahead_knows(a, repo, name, xxh3, &branch))
            wa_strv_add(ret, name);
    }
}

static bool
start_workers_locked(wa_push_ahead *a, wa_repo *repo)
{
    wa_error err = WA_ERROR_INIT;
    if (a->thread_limit == 0) {
        WA_CLEANUP(wa_closep) int draft = wa_store_draft(wa_repo_store(repo));
        a->thread_limit = draft >= 0 ? a->room_count + WAITING : WITHOUT_DRAFTS;
    }
    while (a->thread_count < a->thread_limit &&
           wa_thread_start(&a->threads[a->thread_count], "push-ahead", worker_main, a, &err) ==
               WA_OK)
        a->thread_count++;
    return a->thread_count > 0;
}

/* Copies into `last` what the queue ends with; false: nothing is to be added now. */
static bool
begin_scan_locked(wa_push_ahead *a, const wa_repo *repo, const char *wal_dir, const char *name,
                  char last[static WA_SEGMENT_NAME])
{
    if (a->stopping || a->failing || a->scanning || a->count > WA_PUSH_AHEAD_SEGMENTS / 2 ||
        (a->count > 0 && (a->repo != repo || strcmp(a->wal_dir, wal_dir) != 0)))
        return false;
    snprintf(last, WA_SEGMENT_NAME, "%s", name);
    if (a->count > 0 && strcmp(a->queue[a->count - 1].name, name) > 0)
        snprintf(last, WA_SEGMENT_NAME, "%s", a->queue[a->count - 1].name);
    a->scanning = true;
    return true;
}

void
wa_push_ahead_after(wa_push_ahead *a, wa_repo *repo, const char *path, bool stop_on_damage)
{
    char last[WA_SEGMENT_NAME];
    const char *name = wa_path_base(path);
    WA_CLEANUP(wa_freep) char *wal_dir = wa_path_dir(path);
    WA_CLEANUP(wa_strv_done) wa_strv names = {0};
    if (wa_wal_file_kind_of(name) != WA_WAL_SEGMENT)
        return;
    {
        WA_LOCK(&a->mutex);
        if (!begin_scan_locked(a, repo, wal_dir, name, last))
            return;
    }
    ready_behind(a, repo, wal_dir, name, last, &names);
    WA_LOCK(&a->mutex);
    a->scanning = false;
    /* A failure meanwhile emptied the queue: what was found may not follow what is durable. */
    bool follows = strcmp(last, name) == 0
                       ? a->count == 0
                       : a->count > 0 && strcmp(a->queue[a->count - 1].name, last) == 0;
    if (a->stopping || a->failing || !follows || names.count == 0 || !start_workers_locked(a, repo))
        return;
    if (a->count == 0) {
        wa_freep(&a->wal_dir);
        a->wal_dir = WA_TAKE(wal_dir);
        a->repo = repo;
        a->stop_on_damage = stop_on_damage;
    }
    for (size_t i = 0; i < names.count && a->count < WA_PUSH_AHEAD_SEGMENTS; i++) {
        entry *e = &a->queue[a->count++];
        *e = (entry){.running = false};
        snprintf(e->name, sizeof e->name, "%s", names.items[i]);
    }
    wa_cond_broadcast(&a->cond);
}

void
wa_push_ahead_join(wa_push_ahead *a, const char *path, wa_cancel *cancel)
{
    size_t at = 0;
    const char *name = wa_path_base(path);
    WA_CLEANUP(wa_freep) char *wal_dir = wa_path_dir(path);
    WA_LOCK(&a->mutex);
    while (a->count > 0 && strcmp(a->wal_dir, wal_dir) == 0 && find_locked(a, name, &at) &&
           !a->stopping && !wa_cancelled(cancel))
        wa_cond_wait_until(&a->cond, &a->mutex, wa_mono_now() + GLANCE_MS);
}

/* Mutex held. */
static const known *
known_of(const wa_push_ahead *a, const wa_repo *repo, const char *name)
{
    for (size_t i = 0; i < KNOWN; i++)
        if (a->known[i].repo == repo && strcmp(a->known[i].name, name) == 0)
            return &a->known[i];
    return NULL;
}

bool
wa_push_ahead_answers(wa_push_ahead *a, const wa_repo *repo, const char *path, wa_push_result *ret)
{
    wa_push_result result = {.outcome = WA_PUT_SAME, .checked = true};
    {
        WA_LOCK(&a->mutex);
        const known *k = known_of(a, repo, wa_path_base(path));
        if (k == NULL)
            return false;
        result.branch = k->branch;
        result.source = k->source;
        memcpy(result.xxh3, k->xxh3, sizeof result.xxh3);
    }
    if (!wa_push_source_is(&result.source, path))
        return false;
    *ret = result;
    return true;
}

bool
wa_push_ahead_knows(wa_push_ahead *a, const wa_repo *repo, const char *name,
                    char ret_xxh3[static WA_XXH_HEX], wa_branch *ret_branch)
{
    WA_LOCK(&a->mutex);
    const known *k = known_of(a, repo, name);
    if (k == NULL)
        return false;
    memcpy(ret_xxh3, k->xxh3, sizeof k->xxh3);
    *ret_branch = k->branch;
    return true;
}

wa_push_ahead *
wa_push_ahead_new(const wa_push_ahead_options *options)
{
    wa_push_ahead *a = wa_calloc(1, sizeof *a);
    size_t rooms = 2 * wa_processors();
    a->options = *options;
    a->room_count = rooms < ROOMS_MAX ? rooms : ROOMS_MAX;
    wa_mutex_init(&a->mutex);
    wa_cond_init(&a->cond);
    return a;
}

void
wa_push_ahead_free(wa_push_ahead *a)
{
    if (a == NULL)
        return;
    {
        WA_LOCK(&a->mutex);
        a->stopping = true;
        wa_cond_broadcast(&a->cond);
    }
    for (size_t i = 0; i < a->thread_count; i++)
        wa_thread_join(a->threads[i]);
    drop_rooms_locked(a); /* nobody has one any more */
    wa_freep(&a->wal_dir);
    wa_cond_done(&a->cond);
    wa_mutex_done(&a->mutex);
    wa_freep(&a);
}
