/*
 * walagent/base/thread.h - threads, a bounded queue, a worker pool, and ordered results.
 *
 * pthreads underneath (C11 threads crash under ThreadSanitizer). All waits are on CLOCK_MONOTONIC.
 */
#ifndef WALAGENT_BASE_THREAD_H
#define WALAGENT_BASE_THREAD_H

#include "walagent/base/cancel.h"
#include "walagent/base/error.h"
#include "walagent/base/mem.h"
#include "walagent/base/time.h"

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

typedef pthread_mutex_t wa_mutex;
/* Locks for the rest of the scope. */
#define WA_LOCK(m)                                                                                 \
    WA_CLEANUP(wa_unlockp)                                                                         \
    __attribute__((unused)) wa_mutex *WA_LOCK_NAME_(__LINE__) = wa_lock(m)
#define WA_LOCK_NAME_(line) WA_LOCK_NAME2_(line)
#define WA_LOCK_NAME2_(line) wa_lock_##line
wa_mutex *wa_lock(wa_mutex *m);
void wa_unlock(wa_mutex *m);
void wa_unlockp(wa_mutex **m);
void wa_mutex_init(wa_mutex *m);
void wa_mutex_done(wa_mutex *m);

typedef pthread_cond_t wa_cond; /* on CLOCK_MONOTONIC */
void wa_cond_init(wa_cond *c);
void wa_cond_done(wa_cond *c);
void wa_cond_wait(wa_cond *c, wa_mutex *m);
bool wa_cond_wait_until(wa_cond *c, wa_mutex *m, wa_mono deadline); /* false: deadline passed */
void wa_cond_signal(wa_cond *c);
void wa_cond_broadcast(wa_cond *c);

/* A joinable thread with a name (15 characters at most) and all signals blocked. */
typedef void *(*wa_thread_fn)(void *arg);
wa_status wa_thread_start(pthread_t *ret, const char *name, wa_thread_fn fn, void *arg,
                          wa_error *err) WA_MUST_CHECK;
void wa_thread_join(pthread_t thread);

/* Bounded queue of pointers. push blocks while full, pop while empty. */
typedef struct wa_queue wa_queue;
wa_queue *wa_queue_new(size_t capacity);
void wa_queue_free(wa_queue *q);
WA_DEFINE_CLEANUP(wa_queue, wa_queue_free)
bool wa_queue_push(wa_queue *q, void *item); /* false: closed (item not taken) */
bool wa_queue_pop(wa_queue *q, void **ret);  /* false: closed and drained */
void wa_queue_close(wa_queue *q);

/*
 * Worker pool. A job runs once on some worker; jobs are started in the order of submission. Submit
 * blocks while `backlog` jobs wait. wait() waits for one job.
 * The job's result lives in memory of the caller. Threads: all calls from any thread, but submit
 * and wait not from inside a job of the same pool (it could wait for itself).
 */
typedef struct wa_pool wa_pool;
typedef struct wa_job {
    void (*run)(struct wa_job *job,
                size_t worker); /* worker: 0 .. workers-1, for per-worker contexts */
    bool done;                  /* guarded by the pool */
} wa_job;
wa_status wa_pool_new(const char *name, size_t workers, size_t backlog, wa_pool **ret,
                      wa_error *err) WA_MUST_CHECK;
void wa_pool_free(wa_pool *pool); /* runs what was submitted, then joins */
WA_DEFINE_CLEANUP(wa_pool, wa_pool_free)
size_t wa_pool_workers(const wa_pool *pool);
void wa_pool_submit(wa_pool *pool, wa_job *job); /* the job stays the caller's, alive until done */
void wa_pool_wait(wa_pool *pool, wa_job *job);
bool wa_pool_poll(wa_pool *pool, wa_job *job); /* true: done */
/*
 * Memory that the pool's users need again and again, kept until the pool is freed instead of being
 * asked of the kernel anew (whose pages cost more than filling them). Blocks: taken and given back
 * by any thread, with the same size; content undefined; those of 2 MiB and more are asked for on
 * huge pages: looking for matches all over one takes a tenth less time. Context: one value a
 * worker, asked for by that worker's job; the first call for a worker stores what make() returns.
 */
void *wa_pool_take_block(wa_pool *pool, size_t size);
void wa_pool_give_block(wa_pool *pool, void *block, size_t size); /* NULL: nothing */
void *wa_pool_context(wa_pool *pool, size_t worker, void *(*make)(void), void (*drop)(void *));
size_t wa_processors(void); /* usable processors, at least 1 */

#endif
