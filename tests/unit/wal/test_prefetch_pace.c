/*
 * test_prefetch_pace.c - how many segments are fetched ahead, how many at a time, and when none.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "prefetch_internal.h"

#define SIZE UINT64_C(16777216)

static const wa_prefetch_options options = {.workers = 2, .max_bytes = 16 * SIZE};

static wa_prefetch_slot
slot(wa_slot_state state, wa_segno segno)
{
    return (wa_prefetch_slot){.state = state, .segno = segno, .waiter = -1};
}

/* Segment 10 was asked for at 5000; 11 and 12 lie ready, 13 is wanted. */
static wa_prefetch
ahead_by_two(void)
{
    wa_prefetch p = {.options = &options,
                     .segment_size = SIZE,
                     .position = 10,
                     .asked = 5000,
                     .fetch_ms = 35,
                     .replay_ms = 60,
                     .least = 3};
    for (size_t i = 0; i < WA_PREFETCH_SLOTS; i++)
        p.slots[i].waiter = -1;
    p.slots[3] = slot(WA_SLOT_READY, 12);
    p.slots[5] = slot(WA_SLOT_READY, 11);
    p.slots[7] = slot(WA_SLOT_WANTED, 13);
    return p;
}

static void
prefetch_goes_as_far_as_replay_needs_and_memory_allows(void **state)
{
    (void)state;
    assert_int_equal(wa_prefetch_depth(2, 100, 10000, 16 * SIZE, SIZE), 2);
    assert_int_equal(wa_prefetch_depth(2, 100, 50, 16 * SIZE, SIZE), 6);
    assert_int_equal(wa_prefetch_depth(2, 1000, 1, 16 * SIZE, SIZE), 16);
    assert_int_equal(wa_prefetch_depth(2, 1000, 1, 1000 * SIZE, SIZE), WA_PREFETCH_SLOTS);
    assert_int_equal(wa_prefetch_depth(2, 1000, 0, 16 * SIZE, SIZE), 2); /* not known */
    assert_int_equal(wa_prefetch_depth(2, 1000, 1, SIZE - 1, SIZE), 0);
    assert_true(wa_prefetch_mean(0, 0) > 0);
}

static void
no_more_are_fetched_at_once_than_keep_up_with_the_replay(void **state)
{
    (void)state;
    assert_int_equal(wa_prefetch_at_once(35, 60, 4), 1);
    assert_int_equal(wa_prefetch_at_once(60, 60, 4), 2);
    assert_int_equal(wa_prefetch_at_once(170, 60, 4), 3);
    assert_int_equal(wa_prefetch_at_once(10000, 60, 4), 4);
    assert_int_equal(wa_prefetch_at_once(35, 0, 4), 4); /* not known */
}

static void
a_worker_lets_the_others_do_while_enough_lies_ready(void **state)
{
    (void)state;
    wa_prefetch p = ahead_by_two();
    p.slots[8] = slot(WA_SLOT_WANTED, 14);
    assert_ptr_equal(wa_prefetch_next(&p), &p.slots[7]);
    p.slots[7].state = WA_SLOT_RUNNING;
    assert_null(wa_prefetch_next(&p));
    p.fetch_ms = 65; /* one doesn't keep up */
    assert_ptr_equal(wa_prefetch_next(&p), &p.slots[8]);
    p.fetch_ms = 35;
    p.position = 11; /* the run gets short */
    assert_ptr_equal(wa_prefetch_next(&p), &p.slots[8]);
}

static void
who_had_to_wait_is_given_a_longer_run_as_fast_as_it_goes(void **state)
{
    (void)state;
    wa_prefetch p = ahead_by_two();
    p.slots[7].state = WA_SLOT_RUNNING;
    p.slots[8] = slot(WA_SLOT_WANTED, 14);
    p.least = 6;
    assert_ptr_equal(wa_prefetch_next(&p), &p.slots[8]);
    assert_int_equal(wa_prefetch_rests_until(&p), 0);
    p.slots[7].state = WA_SLOT_READY;
    assert_int_equal(wa_prefetch_rests_until(&p), 5015);
    p.slots[8].waiter = 0; /* a call waits for it at this moment */
    assert_int_equal(wa_prefetch_rests_until(&p), 0);
}

static void
a_fetch_that_nobody_will_ask_for_holds_up_no_other(void **state)
{
    (void)state;
    wa_prefetch p = ahead_by_two();
    p.slots[8] = slot(WA_SLOT_RUNNING, 9); /* hangs; the server has it from elsewhere */
    assert_ptr_equal(wa_prefetch_next(&p), &p.slots[7]);
    p.slots[8].segno = 14;
    assert_null(wa_prefetch_next(&p));
    p.generation++; /* it was another timeline's */
    assert_ptr_equal(wa_prefetch_next(&p), &p.slots[7]);
}

static void
only_what_lay_ready_tells_how_fast_the_replay_is(void **state)
{
    (void)state;
    wa_prefetch p = ahead_by_two();
    wa_prefetch_note_replay(&p, 11, 5020); /* it waited, or there was nothing */
    assert_int_equal(p.replay_ms, 60);
    p.in_time = true;
    wa_prefetch_note_replay(&p, 12, 5020); /* one came from elsewhere */
    assert_int_equal(p.replay_ms, 60);
    wa_prefetch_note_replay(&p, 11, 5020);
    assert_int_equal(p.replay_ms, 50);
}

static void
a_pause_of_the_replay_is_soon_forgotten(void **state)
{
    (void)state;
    wa_prefetch p = ahead_by_two();
    p.in_time = true;
    wa_prefetch_note_replay(&p, 11, 5000 + 3600000);
    assert_int_equal(p.replay_ms, (3 * 60 + 4 * 60) / 4);
    p.replay_ms = 0;
    wa_prefetch_note_replay(&p, 11, 5000 + 3600000);
    assert_int_equal(p.replay_ms, 3600001);
    wa_prefetch_note_replay(&p, 11, 5060);
    assert_int_equal(p.replay_ms, 61);
}

static void
what_is_fetched_goes_to_the_disk_in_order_and_after_what_is_wanted(void **state)
{
    (void)state;
    wa_prefetch p = ahead_by_two();
    assert_null(wa_prefetch_unsent(&p));
    p.slots[7].state = WA_SLOT_RUNNING;
    assert_ptr_equal(wa_prefetch_unsent(&p), &p.slots[5]);
    p.slots[5].sent = true;
    p.slots[8] = slot(WA_SLOT_WANTED, 14); /* that is the other worker's */
    assert_ptr_equal(wa_prefetch_unsent(&p), &p.slots[3]);
    p.slots[3].sent = true;
    assert_null(wa_prefetch_unsent(&p));
}

static void
prefetch_rests_after_a_call_for_a_quarter_of_a_replay_but_only_when_it_is_ahead(void **state)
{
    (void)state;
    wa_prefetch p = ahead_by_two();
    assert_int_equal(wa_prefetch_rests_until(&p), 5015);
    p.replay_ms = 60000;
    assert_int_equal(wa_prefetch_rests_until(&p), 5020);
    p.replay_ms = 3;
    assert_int_equal(wa_prefetch_rests_until(&p), 5000);
    p.replay_ms = 40;
    p.slots[5].state = WA_SLOT_RUNNING;
    assert_int_equal(wa_prefetch_rests_until(&p), 0);
}

static void
pages_of_what_was_replayed_go_when_nothing_is_more_urgent(void **state)
{
    (void)state;
    wa_prefetch p = ahead_by_two();
    p.let_go = 5;
    assert_false(wa_prefetch_may_let_go(&p)); /* 13 is wanted */
    p.slots[7].state = WA_SLOT_RUNNING;
    assert_true(wa_prefetch_may_let_go(&p));
    p.let_go = 6;
    assert_false(wa_prefetch_may_let_go(&p));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(prefetch_goes_as_far_as_replay_needs_and_memory_allows),
        cmocka_unit_test(no_more_are_fetched_at_once_than_keep_up_with_the_replay),
        cmocka_unit_test(a_worker_lets_the_others_do_while_enough_lies_ready),
        cmocka_unit_test(who_had_to_wait_is_given_a_longer_run_as_fast_as_it_goes),
        cmocka_unit_test(a_fetch_that_nobody_will_ask_for_holds_up_no_other),
        cmocka_unit_test(only_what_lay_ready_tells_how_fast_the_replay_is),
        cmocka_unit_test(a_pause_of_the_replay_is_soon_forgotten),
        cmocka_unit_test(what_is_fetched_goes_to_the_disk_in_order_and_after_what_is_wanted),
        cmocka_unit_test(
            prefetch_rests_after_a_call_for_a_quarter_of_a_replay_but_only_when_it_is_ahead),
        cmocka_unit_test(pages_of_what_was_replayed_go_when_nothing_is_more_urgent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
