/*
 * test_thread.c - queue, worker pool, and waiting that can be cancelled.
 */
/* clang-format off */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
/* clang-format on */

#include "walagent/base/thread.h"

#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ITEMS 5000

static int numbers[ITEMS];

static void *
push_all(void *arg)
{
    wa_queue *q = arg;
    for (int i = 0; i < ITEMS; i++)
        if (!wa_queue_push(q, &numbers[i]))
            return NULL;
    wa_queue_close(q);
    return arg;
}

static void
a_queue_keeps_the_order_and_drains_after_closing(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    static const size_t capacities[] = {1, 2, 7, ITEMS};
    for (size_t c = 0; c < WA_ARRAY_SIZE(capacities); c++) {
        WA_CLEANUP(wa_queue_freep) wa_queue *q = wa_queue_new(capacities[c]);
        pthread_t producer;
        assert_int_equal(wa_thread_start(&producer, "producer", push_all, q, &err), WA_OK);
        void *item;
        int got = 0;
        while (wa_queue_pop(q, &item))
            assert_ptr_equal(item, &numbers[got++]);
        assert_int_equal(got, ITEMS);
        wa_thread_join(producer);
    }
}

static void
a_closed_queue_takes_nothing_more(void **state)
{
    (void)state;
    WA_CLEANUP(wa_queue_freep) wa_queue *q = wa_queue_new(2);
    void *item = NULL;
    assert_true(wa_queue_push(q, &numbers[0]));
    wa_queue_close(q);
    assert_false(wa_queue_push(q, &numbers[1]));
    assert_true(wa_queue_pop(q, &item));
    assert_ptr_equal(item, &numbers[0]);
    assert_false(wa_queue_pop(q, &item));
}

static void *
push_until_refused(void *arg)
{
    while (wa_queue_push(arg, arg))
        continue;
    return NULL;
}

static void
closing_releases_a_producer_that_waits(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    WA_CLEANUP(wa_queue_freep) wa_queue *q = wa_queue_new(1);
    pthread_t producer;
    void *item;
    assert_int_equal(wa_thread_start(&producer, "producer", push_until_refused, q, &err), WA_OK);
    assert_true(wa_queue_pop(q, &item));
    wa_queue_close(q);
    wa_thread_join(producer); /* hangs if it were not released */
}

typedef struct counted {
    wa_job job; /* first: the job is the struct */
    int number;
    size_t worker;
    int *order;
    atomic_int *next;
} counted;

static void
count_job(wa_job *job, size_t worker)
{
    counted *c = (counted *)job;
    c->worker = worker;
    c->order[atomic_fetch_add(c->next, 1)] = c->number;
}

static void
one_worker_runs_jobs_in_the_order_of_submission(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    enum { JOBS = 500 };
    static counted jobs[JOBS];
    int order[JOBS];
    atomic_int next = 0;
    wa_pool *pool = NULL;
    assert_int_equal(wa_pool_new("test", 1, 3, &pool, &err), WA_OK);
    for (int i = 0; i < JOBS; i++) {
        jobs[i] = (counted){.job = {.run = count_job}, .number = i, .order = order, .next = &next};
        wa_pool_submit(pool, &jobs[i].job);
    }
    wa_pool_free(pool); /* runs what was submitted */
    assert_int_equal(atomic_load(&next), JOBS);
    for (int i = 0; i < JOBS; i++)
        assert_int_equal(order[i], i);
}

static void
many_workers_run_every_job_once_and_waiting_sees_its_result(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    enum { JOBS = 2000 };
    static counted jobs[JOBS];
    static int order[JOBS];
    static bool seen[JOBS];
    atomic_int next = 0;
    WA_CLEANUP(wa_pool_freep) wa_pool *pool = NULL;
    assert_int_equal(wa_pool_new("a name that is too long", 4, 8, &pool, &err), WA_OK);
    assert_int_equal(wa_pool_workers(pool), 4);
    for (int i = 0; i < JOBS; i++) {
        jobs[i] = (counted){.job = {.run = count_job},
                            .number = i,
                            .worker = SIZE_MAX,
                            .order = order,
                            .next = &next};
        wa_pool_submit(pool, &jobs[i].job);
    }
    for (int i = 0; i < JOBS; i++) {
        wa_pool_wait(pool, &jobs[i].job);
        assert_true(wa_pool_poll(pool, &jobs[i].job));
        assert_true(jobs[i].worker < 4);
    }
    for (int i = 0; i < JOBS; i++) {
        assert_false(seen[order[i]]);
        seen[order[i]] = true;
    }
}

static void
a_block_that_was_given_back_is_taken_again_by_who_wants_that_size(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    enum { MANY = 20 };
    void *many[MANY];
    WA_CLEANUP(wa_pool_freep) wa_pool *pool = NULL;
    assert_int_equal(wa_pool_new("test", 1, 1, &pool, &err), WA_OK);
    void *small = wa_pool_take_block(pool, 100), *large = wa_pool_take_block(pool, 5000);
    memset(small, 1, 100);
    memset(large, 2, 5000);
    wa_pool_give_block(pool, small, 100);
    wa_pool_give_block(pool, large, 5000);
    wa_pool_give_block(pool, NULL, 5000);
    assert_ptr_equal(wa_pool_take_block(pool, 100), small);
    void *other = wa_pool_take_block(pool, 100);
    assert_ptr_not_equal(other, small);
    assert_ptr_equal(wa_pool_take_block(pool, 5000), large);
    wa_pool_give_block(pool, small, 100);
    wa_pool_give_block(pool, other, 100);
    wa_pool_give_block(pool, large, 5000);
    /* More than it keeps: the rest is freed, which LeakSanitizer would notice. */
    for (int i = 0; i < MANY; i++)
        many[i] = wa_pool_take_block(pool, 100);
    for (int i = 0; i < MANY; i++)
        wa_pool_give_block(pool, many[i], 100);
}

static void
a_large_block_lies_on_whole_huge_pages(void **state)
{
    enum { HUGE_PAGE = 2 * 1024 * 1024 };
    (void)state;
    wa_error err = WA_ERROR_INIT;
    WA_CLEANUP(wa_pool_freep) wa_pool *pool = NULL;
    assert_int_equal(wa_pool_new("test", 1, 1, &pool, &err), WA_OK);
    for (size_t size = HUGE_PAGE; size <= 4 * HUGE_PAGE; size += HUGE_PAGE) {
        void *block = wa_pool_take_block(pool, size);
        assert_int_equal((uintptr_t)block % HUGE_PAGE, 0);
        wa_pool_give_block(pool, block, size);
    }
}

static atomic_int contexts_made, contexts_dropped;

static void *
make_context(void)
{
    atomic_fetch_add(&contexts_made, 1);
    return wa_calloc(1, sizeof(int));
}

static void
drop_context(void *context)
{
    atomic_fetch_add(&contexts_dropped, 1);
    free(context);
}

typedef struct context_job {
    wa_job job;
    wa_pool *pool;
    int seen; /* jobs of this worker before */
} context_job;

static void
use_context(wa_job *job, size_t worker)
{
    context_job *j = (context_job *)job;
    int *count = wa_pool_context(j->pool, worker, make_context, drop_context);
    j->seen = (*count)++;
}

static void
a_worker_makes_one_context_and_the_pool_drops_it(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    enum { JOBS = 50 };
    context_job jobs[JOBS];
    wa_pool *pool = NULL;
    assert_int_equal(wa_pool_new("test", 1, JOBS, &pool, &err), WA_OK);
    for (int i = 0; i < JOBS; i++) {
        jobs[i] = (context_job){.job = {.run = use_context}, .pool = pool};
        wa_pool_submit(pool, &jobs[i].job);
    }
    for (int i = 0; i < JOBS; i++) {
        wa_pool_wait(pool, &jobs[i].job);
        assert_int_equal(jobs[i].seen, i);
    }
    assert_int_equal(atomic_load(&contexts_made), 1);
    assert_int_equal(atomic_load(&contexts_dropped), 0);
    wa_pool_free(pool);
    assert_int_equal(atomic_load(&contexts_dropped), 1);
}

static void *
signals_blocked_here(void *arg)
{
    sigset_t *set = arg;
    pthread_sigmask(SIG_SETMASK, NULL, set);
    return NULL;
}

static void
a_thread_has_signals_blocked_and_the_starter_keeps_its_mask(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    sigset_t inside;
    sigset_t after;
    pthread_t thread;
    assert_int_equal(wa_thread_start(&thread, "t", signals_blocked_here, &inside, &err), WA_OK);
    wa_thread_join(thread);
    pthread_sigmask(SIG_SETMASK, NULL, &after);
    assert_true(sigismember(&inside, SIGTERM));
    assert_true(sigismember(&inside, SIGHUP));
    assert_false(sigismember(&inside, SIGSEGV));
    assert_false(sigismember(&after, SIGTERM));
}

static void
a_condition_gives_up_at_its_deadline(void **state)
{
    (void)state;
    wa_mutex mutex;
    wa_cond cond;
    wa_mutex_init(&mutex);
    wa_cond_init(&cond);
    {
        WA_LOCK(&mutex);
        assert_false(wa_cond_wait_until(&cond, &mutex, wa_mono_now()));
        assert_false(wa_cond_wait_until(&cond, &mutex, 0));
    }
    wa_cond_done(&cond);
    wa_mutex_done(&mutex);
}

static void *
trigger(void *arg)
{
    wa_cancel_trigger(arg);
    return NULL;
}

static void
cancelling_wakes_a_sleeper(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    wa_cancel cancel;
    pthread_t thread;
    assert_int_equal(wa_cancel_init(&cancel, &err), WA_OK);
    assert_false(wa_cancelled(&cancel));
    assert_false(wa_cancelled(NULL));
    assert_int_equal(wa_cancel_check(&cancel, &err), WA_OK);
    assert_int_equal(wa_cancel_sleep(&cancel, 0, &err), WA_OK);
    assert_int_equal(wa_cancel_sleep(NULL, 0, &err), WA_OK);
    assert_int_equal(wa_thread_start(&thread, "trigger", trigger, &cancel, &err), WA_OK);
    /* for ever, if it were not woken */
    assert_int_equal(wa_cancel_sleep(&cancel, UINT64_MAX, &err), WA_CANCELLED);
    wa_thread_join(thread);
    wa_cancel_trigger(&cancel); /* a second time does no harm */
    assert_int_equal(wa_cancel_check(&cancel, &err), WA_CANCELLED);
    wa_cancel_done(&cancel);
}

static void
polling_tells_ready_from_late_from_cancelled(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    wa_cancel cancel;
    int fds[2];
    assert_int_equal(wa_cancel_init(&cancel, &err), WA_OK);
    assert_int_equal(pipe(fds), 0);
    assert_int_equal(wa_cancel_poll(&cancel, fds[0], POLLIN, 0, &err), WA_UNAVAILABLE);
    assert_int_equal(wa_cancel_poll(NULL, fds[0], POLLIN, 1, &err), WA_UNAVAILABLE);
    assert_int_equal(wa_cancel_poll(&cancel, fds[1], POLLOUT, 0, &err), WA_OK);
    assert_int_equal(write(fds[1], "x", 1), 1);
    assert_int_equal(wa_cancel_poll(&cancel, fds[0], POLLIN, -1, &err), WA_OK);
    wa_cancel_trigger(&cancel);
    assert_int_equal(wa_cancel_poll(&cancel, fds[0], POLLIN, -1, &err), WA_CANCELLED);
    close(fds[0]);
    assert_int_equal(wa_cancel_poll(NULL, fds[0], POLLIN, 0, &err), WA_IO);
    close(fds[1]);
    wa_cancel_done(&cancel);
}

static void
there_is_at_least_one_processor(void **state)
{
    (void)state;
    assert_true(wa_processors() >= 1);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_large_block_lies_on_whole_huge_pages),
        cmocka_unit_test(a_queue_keeps_the_order_and_drains_after_closing),
        cmocka_unit_test(a_closed_queue_takes_nothing_more),
        cmocka_unit_test(closing_releases_a_producer_that_waits),
        cmocka_unit_test(one_worker_runs_jobs_in_the_order_of_submission),
        cmocka_unit_test(many_workers_run_every_job_once_and_waiting_sees_its_result),
        cmocka_unit_test(a_block_that_was_given_back_is_taken_again_by_who_wants_that_size),
        cmocka_unit_test(a_worker_makes_one_context_and_the_pool_drops_it),
        cmocka_unit_test(a_thread_has_signals_blocked_and_the_starter_keeps_its_mask),
        cmocka_unit_test(a_condition_gives_up_at_its_deadline),
        cmocka_unit_test(cancelling_wakes_a_sleeper),
        cmocka_unit_test(polling_tells_ready_from_late_from_cancelled),
        cmocka_unit_test(there_is_at_least_one_processor),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
