/*
 * thread.c - mutexes, conditions on the monotonic clock, threads, and the bounded queue.
 */
#include "walagent/base/thread.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

wa_mutex *
wa_lock(wa_mutex *m)
{
    WA_ASSERT(pthread_mutex_lock(m) == 0);
    return m;
}

void
wa_unlock(wa_mutex *m)
{
    WA_ASSERT(pthread_mutex_unlock(m) == 0);
}

void
wa_unlockp(wa_mutex **m)
{
    if (*m != NULL)
        wa_unlock(*m);
}

void
wa_mutex_init(wa_mutex *m)
{
    WA_ASSERT(pthread_mutex_init(m, NULL) == 0);
}

void
wa_mutex_done(wa_mutex *m)
{
    WA_ASSERT(pthread_mutex_destroy(m) == 0);
}

void
wa_cond_init(wa_cond *c)
{
    pthread_condattr_t attr;
    WA_ASSERT(pthread_condattr_init(&attr) == 0);
    WA_ASSERT(pthread_condattr_setclock(&attr, CLOCK_MONOTONIC) == 0);
    WA_ASSERT(pthread_cond_init(c, &attr) == 0);
    pthread_condattr_destroy(&attr);
}

void
wa_cond_done(wa_cond *c)
{
    WA_ASSERT(pthread_cond_destroy(c) == 0);
}

void
wa_cond_wait(wa_cond *c, wa_mutex *m)
{
    WA_ASSERT(pthread_cond_wait(c, m) == 0);
}

bool
wa_cond_wait_until(wa_cond *c, wa_mutex *m, wa_mono deadline)
{
    uint64_t seconds = deadline / 1000;
    if (seconds > INT32_MAX) /* some 68 years of uptime: for ever */
        seconds = INT32_MAX;
    struct timespec until = {.tv_sec = (time_t)seconds,
                             .tv_nsec = (long)(deadline % 1000) * 1000000L};
    int result = pthread_cond_timedwait(c, m, &until);
    WA_ASSERT(result == 0 || result == ETIMEDOUT);
    return result == 0;
}

void
wa_cond_signal(wa_cond *c)
{
    WA_ASSERT(pthread_cond_signal(c) == 0);
}

void
wa_cond_broadcast(wa_cond *c)
{
    WA_ASSERT(pthread_cond_broadcast(c) == 0);
}

/* Everything but the signals that a thread raises by its own fault. */
static void
fill_asynchronous_signals(sigset_t *set)
{
    static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP};
    sigfillset(set);
    for (size_t i = 0; i < WA_ARRAY_SIZE(faults); i++)
        sigdelset(set, faults[i]);
}

wa_status
wa_thread_start(pthread_t *ret, const char *name, wa_thread_fn fn, void *arg, wa_error *err)
{
    sigset_t blocked;
    sigset_t before;
    pthread_t thread;
    fill_asynchronous_signals(&blocked);
    /* The new thread inherits the mask: no signal can reach it before it could set its own. */
    WA_ASSERT(pthread_sigmask(SIG_SETMASK, &blocked, &before) == 0);
    int result = pthread_create(&thread, NULL, fn, arg);
    WA_ASSERT(pthread_sigmask(SIG_SETMASK, &before, NULL) == 0);
    if (result != 0)
        return wa_error_errno(err, result, "could not start thread \"%s\": %m", name);
    char short_name[16];
    snprintf(short_name, sizeof short_name, "%.15s", name);
    pthread_setname_np(thread, short_name);
    *ret = thread;
    return WA_OK;
}

void
wa_thread_join(pthread_t thread)
{
    WA_ASSERT(pthread_join(thread, NULL) == 0);
}

size_t
wa_processors(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0)
        return (size_t)CPU_COUNT(&set);
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    return online > 0 ? (size_t)online : 1;
}

struct wa_queue {
    wa_mutex mutex;
    wa_cond not_full;
    wa_cond not_empty;
    size_t capacity;
    size_t first;
    size_t count;
    bool closed;
    void *items[];
};

wa_queue *
wa_queue_new(size_t capacity)
{
    WA_ASSERT(capacity > 0 && capacity < SIZE_MAX / sizeof(void *) / 2);
    wa_queue *q = wa_calloc(1, sizeof *q + capacity * sizeof q->items[0]);
    wa_mutex_init(&q->mutex);
    wa_cond_init(&q->not_full);
    wa_cond_init(&q->not_empty);
    q->capacity = capacity;
    return q;
}

void
wa_queue_free(wa_queue *q)
{
    if (q == NULL)
        return;
    wa_cond_done(&q->not_empty);
    wa_cond_done(&q->not_full);
    wa_mutex_done(&q->mutex);
    free(q);
}

bool
wa_queue_push(wa_queue *q, void *item)
{
    WA_LOCK(&q->mutex);
    while (q->count == q->capacity && !q->closed)
        wa_cond_wait(&q->not_full, &q->mutex);
    if (q->closed)
        return false;
    q->items[(q->first + q->count) % q->capacity] = item;
    q->count++;
    wa_cond_signal(&q->not_empty);
    return true;
}

bool
wa_queue_pop(wa_queue *q, void **ret)
{
    WA_LOCK(&q->mutex);
    while (q->count == 0 && !q->closed)
        wa_cond_wait(&q->not_empty, &q->mutex);
    if (q->count == 0)
        return false;
    *ret = q->items[q->first];
    q->first = (q->first + 1) % q->capacity;
    q->count--;
    wa_cond_signal(&q->not_full);
    return true;
}

void
wa_queue_close(wa_queue *q)
{
    WA_LOCK(&q->mutex);
    q->closed = true;
    wa_cond_broadcast(&q->not_full);
    wa_cond_broadcast(&q->not_empty);
}
