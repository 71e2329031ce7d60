/*
 * test_cut.c - when a chunk is cut. Time is an input, so nothing waits.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cut_internal.h"

#define SEGMENT (16u * 1024 * 1024)
#define START (5u * SEGMENT)

static wa_cut_input
usual(void)
{
    return (wa_cut_input){.durable = START + 1000,
                          .available = START + 3000,
                          .segment_size = SEGMENT,
                          .interval_ms = 1000,
                          .small = 3,
                          .size_limit = WA_CUT_SIZE,
                          .most = WA_CUT_MOST};
}

static void
nothing_new_is_waited_for_without_end(void **state)
{
    (void)state;
    wa_cut_input in = usual();
    in.available = in.durable;
    in.age_ms = 100000;
    in.synchronous = in.drain = true;
    wa_cut cut = wa_cut_decide(&in);
    assert_false(cut.cut);
    assert_true(cut.wait_ms == WA_CUT_NEVER);
}

static void
a_few_bytes_wait_for_the_rest_of_the_interval(void **state)
{
    (void)state;
    wa_cut_input in = usual();
    in.age_ms = 400;
    wa_cut cut = wa_cut_decide(&in);
    assert_false(cut.cut);
    assert_int_equal(cut.wait_ms, 600);
    in.age_ms = 1000;
    cut = wa_cut_decide(&in);
    assert_true(cut.cut);
    assert_int_equal(cut.start, START + 1000);
    assert_int_equal(cut.base, cut.start);
    assert_int_equal(cut.end, START + 3000);
}

static void
a_waiting_server_or_a_drain_cuts_at_once(void **state)
{
    (void)state;
    wa_cut_input in = usual();
    in.synchronous = true;
    assert_true(wa_cut_decide(&in).cut);
    in = usual();
    in.drain = true;
    assert_true(wa_cut_decide(&in).cut);
}

static void
a_mebibyte_cuts_before_the_interval(void **state)
{
    (void)state;
    wa_cut_input in = usual();
    in.available = in.durable + WA_CUT_SIZE - 1;
    assert_false(wa_cut_decide(&in).cut);
    in.available++;
    assert_true(wa_cut_decide(&in).cut);
}

static void
the_thirty_third_chunk_contains_the_whole_segment_so_far(void **state)
{
    (void)state;
    wa_cut_input in = usual();
    in.age_ms = 1000;
    in.small = WA_CUT_SMALL - 1;
    assert_int_equal(wa_cut_decide(&in).base, in.durable);
    in.small = WA_CUT_SMALL;
    wa_cut cut = wa_cut_decide(&in);
    assert_int_equal(cut.base, START);
    assert_int_equal(cut.start, in.durable);
}

static void
the_first_chunk_of_a_branch_begins_at_the_segments_start(void **state)
{
    (void)state;
    wa_cut_input in = usual();
    in.age_ms = 1000;
    in.small = 0;
    in.first = true;
    assert_int_equal(wa_cut_decide(&in).base, START);
}

static void
a_chunk_never_reaches_into_the_next_segment(void **state)
{
    (void)state;
    wa_cut_input in = usual();
    in.available = START + 3 * SEGMENT;
    in.drain = true;
    assert_int_equal(wa_cut_decide(&in).end, START + SEGMENT);
}

static void
a_complete_segment_is_left_to_its_whole_object_unless_somebody_waits(void **state)
{
    (void)state;
    wa_cut_input in = usual();
    in.complete = true;
    in.available = START + SEGMENT;
    in.age_ms = 1500;
    wa_cut cut = wa_cut_decide(&in);
    assert_false(cut.cut);
    assert_int_equal(cut.wait_ms, 500);
    in.age_ms = 2000;
    assert_true(wa_cut_decide(&in).cut);
    in.age_ms = 0;
    in.synchronous = true;
    assert_true(wa_cut_decide(&in).cut);
}

static void
chunks_grow_while_the_store_is_slow_and_shrink_again(void **state)
{
    (void)state;
    wa_cut_input in = usual();
    in.available = in.durable + 5 * WA_CUT_SIZE;
    for (unsigned i = 0; i < 10; i++)
        in.size_limit = wa_cut_decide(&in).size_limit;
    assert_int_equal(in.size_limit, 4 * WA_CUT_SIZE);
    in.available = in.durable + 100;
    in.age_ms = 1000;
    for (unsigned i = 0; i < 10; i++)
        in.size_limit = wa_cut_decide(&in).size_limit;
    assert_int_equal(in.size_limit, WA_CUT_SIZE);
}

#define LARGE (1024u * 1024 * 1024)

static void
a_chunk_of_a_large_segment_takes_a_bounded_part_of_what_is_there(void **state)
{
    (void)state;
    wa_cut_input in = usual();
    in.segment_size = LARGE;
    in.durable = 3ull * LARGE + 1000;
    in.available = in.durable + WA_CUT_MOST;
    wa_cut cut = wa_cut_decide(&in);
    assert_true(cut.cut && !cut.part);
    assert_int_equal(cut.end, in.available);
    unsigned chunks = 0;
    in.age_ms = in.interval_ms;
    in.available = 4ull * LARGE + 5000;
    for (; in.durable < 4ull * LARGE; chunks++) {
        in.small = chunks % WA_CUT_SMALL + 1;
        cut = wa_cut_decide(&in);
        assert_true(cut.cut);
        assert_int_equal(cut.part, 4ull * LARGE - in.durable > WA_CUT_MOST);
        assert_int_equal(cut.base, in.small == WA_CUT_SMALL ? 3ull * LARGE : in.durable);
        assert_in_range(cut.end - cut.start, 1, WA_CUT_MOST);
        assert_in_range(cut.size_limit, WA_CUT_SIZE, WA_CUT_MOST);
        in.size_limit = cut.size_limit;
        in.durable = cut.end;
    }
    assert_int_equal(in.durable, 4ull * LARGE);
    assert_int_equal(in.size_limit, WA_CUT_MOST);
    assert_int_equal(chunks, LARGE / WA_CUT_MOST);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_new_is_waited_for_without_end),
        cmocka_unit_test(a_few_bytes_wait_for_the_rest_of_the_interval),
        cmocka_unit_test(a_waiting_server_or_a_drain_cuts_at_once),
        cmocka_unit_test(a_mebibyte_cuts_before_the_interval),
        cmocka_unit_test(the_thirty_third_chunk_contains_the_whole_segment_so_far),
        cmocka_unit_test(the_first_chunk_of_a_branch_begins_at_the_segments_start),
        cmocka_unit_test(a_chunk_never_reaches_into_the_next_segment),
        cmocka_unit_test(a_complete_segment_is_left_to_its_whole_object_unless_somebody_waits),
        cmocka_unit_test(a_chunk_of_a_large_segment_takes_a_bounded_part_of_what_is_there),
        cmocka_unit_test(chunks_grow_while_the_store_is_slow_and_shrink_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
