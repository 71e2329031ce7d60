/*
 * pool.c - the worker pool of thread.h: a ring of waiting jobs and the threads that run them.
 */
#include "walagent/base/thread.h"

#include <stdlib.h>

#define KEPT_PER_WORKER 4 /* blocks that nobody uses at the moment */

typedef struct worker {
    wa_pool *pool;
    size_t number;
    pthread_t thread;
    void *context; /* touched by the worker's own jobs only */
    void (*drop_context)(void *);
} worker;

typedef struct block {
    void *memory;
    size_t size;
} block;

struct wa_pool {
    wa_mutex mutex;
    wa_cond not_full;
    wa_cond not_empty;
    wa_cond finished; /* some job is done */
    bool closing;
    size_t backlog;
    size_t first;
    size_t count;
    wa_job **ring;
    size_t started; /* of the workers below, those that run */
    worker *workers;
    block *kept; /* the last one was given back last */
    size_t kept_count, kept_max;
};

/* The pool whose job this thread runs: waiting for that pool could be waiting for oneself. */
static _Thread_local const wa_pool *running_in;

static wa_job *
next_job(wa_pool *pool)
{
    WA_LOCK(&pool->mutex);
    while (pool->count == 0 && !pool->closing)
        wa_cond_wait(&pool->not_empty, &pool->mutex);
    if (pool->count == 0)
        return NULL;
    wa_job *job = pool->ring[pool->first];
    pool->first = (pool->first + 1) % pool->backlog;
    pool->count--;
    wa_cond_signal(&pool->not_full);
    return job;
}

static void
finish_job(wa_pool *pool, wa_job *job)
{
    WA_LOCK(&pool->mutex);
    job->done = true; /* from here on the job's memory may be gone */
    wa_cond_broadcast(&pool->finished);
}

static void *
work(void *arg)
{
    worker *self = arg;
    wa_job *job;
    running_in = self->pool;
    while ((job = next_job(self->pool)) != NULL) {
        job->run(job, self->number);
        finish_job(self->pool, job);
    }
    return NULL;
}

wa_status
wa_pool_new(const char *name, size_t workers, size_t backlog, wa_pool **ret, wa_error *err)
{
    WA_ASSERT(workers > 0 && backlog > 0);
    WA_CLEANUP(wa_pool_freep) wa_pool *pool = wa_calloc(1, sizeof *pool);
    wa_mutex_init(&pool->mutex);
    wa_cond_init(&pool->not_full);
    wa_cond_init(&pool->not_empty);
    wa_cond_init(&pool->finished);
    pool->backlog = backlog;
    pool->ring = wa_calloc(backlog, sizeof(wa_job *));
    pool->workers = wa_calloc(workers, sizeof *pool->workers);
    pool->kept_max = workers * KEPT_PER_WORKER;
    pool->kept = wa_calloc(pool->kept_max, sizeof *pool->kept);
    for (size_t i = 0; i < workers; i++) {
        worker *w = &pool->workers[i];
        w->pool = pool;
        w->number = i;
        WA_TRY(wa_thread_start(&w->thread, name, work, w, err));
        pool->started++;
    }
    *ret = WA_TAKE(pool);
    return WA_OK;
}

static void
close_pool(wa_pool *pool)
{
    WA_LOCK(&pool->mutex);
    pool->closing = true;
    wa_cond_broadcast(&pool->not_empty);
}

void
wa_pool_free(wa_pool *pool)
{
    if (pool == NULL)
        return;
    close_pool(pool);
    for (size_t i = 0; i < pool->started; i++)
        wa_thread_join(pool->workers[i].thread);
    for (size_t i = 0; i < pool->started; i++)
        if (pool->workers[i].context != NULL)
            pool->workers[i].drop_context(pool->workers[i].context);
    for (size_t i = 0; i < pool->kept_count; i++)
        free(pool->kept[i].memory);
    wa_cond_done(&pool->finished);
    wa_cond_done(&pool->not_empty);
    wa_cond_done(&pool->not_full);
    wa_mutex_done(&pool->mutex);
    free(pool->kept);
    free(pool->workers);
    free(pool->ring);
    free(pool);
}

size_t
wa_pool_workers(const wa_pool *pool)
{
    return pool->started;
}

void
wa_pool_submit(wa_pool *pool, wa_job *job)
{
    WA_ASSERT(running_in != pool);
    WA_LOCK(&pool->mutex);
    WA_ASSERT(!pool->closing);
    while (pool->count == pool->backlog)
        wa_cond_wait(&pool->not_full, &pool->mutex);
    job->done = false;
    pool->ring[(pool->first + pool->count) % pool->backlog] = job;
    pool->count++;
    wa_cond_signal(&pool->not_empty);
}

void
wa_pool_wait(wa_pool *pool, wa_job *job)
{
    WA_ASSERT(running_in != pool);
    WA_LOCK(&pool->mutex);
    while (!job->done)
        wa_cond_wait(&pool->finished, &pool->mutex);
}

bool
wa_pool_poll(wa_pool *pool, wa_job *job)
{
    WA_LOCK(&pool->mutex);
    return job->done;
}

/* The latest block of that size: its pages are the warmest. */
static void *
take_kept(wa_pool *pool, size_t size)
{
    WA_LOCK(&pool->mutex);
    for (size_t i = pool->kept_count; i-- > 0;) {
        if (pool->kept[i].size != size)
            continue;
        void *memory = pool->kept[i].memory;
        pool->kept_count--;
        for (; i < pool->kept_count; i++)
            pool->kept[i] = pool->kept[i + 1];
        return memory;
    }
    return NULL;
}

void *
wa_pool_take_block(wa_pool *pool, size_t size)
{
    void *memory = take_kept(pool, size);
    return memory != NULL ? memory : wa_malloc_large(size);
}

static void *
keep(wa_pool *pool, void *memory, size_t size)
{
    WA_LOCK(&pool->mutex);
    if (pool->kept_count == pool->kept_max)
        return memory;
    pool->kept[pool->kept_count++] = (block){memory, size};
    return NULL;
}

void
wa_pool_give_block(wa_pool *pool, void *memory, size_t size)
{
    if (memory != NULL)
        free(keep(pool, memory, size));
}

void *
wa_pool_context(wa_pool *pool, size_t worker_number, void *(*make)(void), void (*drop)(void *))
{
    WA_ASSERT(running_in == pool && worker_number < pool->started);
    worker *w = &pool->workers[worker_number];
    if (w->context == NULL) {
        w->context = make();
        w->drop_context = drop;
    }
    WA_ASSERT(w->drop_context == drop);
    return w->context;
}
