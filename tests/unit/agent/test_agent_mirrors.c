/*
 * test_agent_mirrors.c - when the agent compares an incomplete mirror again.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include "agent_internal.h"

#include <stdio.h>

#define MINUTE UINT64_C(60000)

static const wa_mirror_sync lacking = {
    .objects = 10, .missing = 3, .has_entry = true, .first_missing = "main/a"};

static void
a_mirror_to_which_nothing_happens_is_compared_less_and_less_often(void **state)
{
    (void)state;
    static const uint64_t minutes[] = {10, 20, 40, 80, 160, 180, 180};
    wa_mirror_sync none = {0};
    uint64_t pause = 0;
    for (size_t i = 0; i < WA_ARRAY_SIZE(minutes); i++) {
        pause = wa_agent_mirror_pause(pause, i == 0 ? &none : &lacking, &lacking);
        assert_int_equal(pause, minutes[i] * MINUTE);
    }
}

static void
whatever_changes_begins_with_ten_minutes_again(void **state)
{
    (void)state;
    wa_mirror_sync changed[5] = {lacking, lacking, lacking, lacking, lacking};
    changed[0].missing = 2;
    changed[1].different = 1;
    changed[2].has_entry = false;
    changed[3].copied = 1;
    (void)snprintf(changed[4].first_missing, sizeof changed[4].first_missing, "main/b");
    for (size_t i = 0; i < WA_ARRAY_SIZE(changed); i++)
        assert_int_equal(wa_agent_mirror_pause(80 * MINUTE, &lacking, &changed[i]), 10 * MINUTE);
    wa_mirror_sync more = lacking; /* in both */
    more.objects = 12;
    assert_int_equal(wa_agent_mirror_pause(80 * MINUTE, &lacking, &more), 160 * MINUTE);
}

static void
a_complete_mirror_has_hours_and_begins_anew_when_it_lacks_something(void **state)
{
    (void)state;
    wa_mirror_sync complete = {.objects = 10, .has_entry = true};
    uint64_t pause = wa_agent_mirror_pause(20 * MINUTE, &lacking, &complete);
    assert_int_equal(pause, 360 * MINUTE);
    assert_int_equal(wa_agent_mirror_pause(pause, &complete, &complete), 360 * MINUTE);
    assert_int_equal(wa_agent_mirror_pause(pause, &complete, &lacking), 10 * MINUTE);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_mirror_to_which_nothing_happens_is_compared_less_and_less_often),
        cmocka_unit_test(whatever_changes_begins_with_ten_minutes_again),
        cmocka_unit_test(a_complete_mirror_has_hours_and_begins_anew_when_it_lacks_something),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
