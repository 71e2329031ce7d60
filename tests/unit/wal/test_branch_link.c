/*
 * Tests of what links a segment to the one before it: the record that crosses from one into the
 * other, wherever it begins.
 */
/* clang-format off */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
/* clang-format on */

#include "branch_of_internal.h"
#include "hook_fixture.h"

#include "walagent/repo/wal_object.h"

#define FIRST 3u /* the segment before; the one in question follows */
#define PAGE 8192u
#define HEADER 24u

/* Two segments. The last record that ends in the first one ends at `end`, in its last page but one
 * or at that page's end; the next one crosses into the second segment. */
static wal_builder *
two_segments(wa_lsn end)
{
    wal_builder *b = wal_builder_new(
        &(wal_builder_options){.system_identifier = SYSTEM, .start = FIRST * SEGMENT});
    wa_lsn page = (end - 1) - (end - 1) % PAGE;
    wal_fill_until(b, page - PAGE / 2);
    wal_add_noise(b, 0, (uint32_t)(page + 1000 - wal_position(b) - HEADER));
    assert_true(wal_position(b) > page && wal_position(b) + 100 < end);
    wal_add_noise(b, 0, (uint32_t)(end - wal_position(b)));
    assert_true(wal_position(b) == end);
    wal_add_noise(b, 0, 3 * PAGE);
    wal_add_commit(b, 700, 1000);
    wal_fill_segment(b);
    assert_true(wal_size(b) == 2 * SEGMENT);
    return b;
}

static wa_status
add_fact(void *arg, const wa_record *record, wa_error *err)
{
    (void)err;
    wa_wal_facts_add(arg, record);
    return WA_OK;
}

static void
put_first(const fixture *f, const wal_builder *b)
{
    wa_error err = WA_ERROR_INIT;
    wa_put_outcome outcome;
    wa_segment_check check;
    wa_wal_facts facts;
    wa_wal_facts_init(&facts);
    OK(wa_segment_check_all(wal_bytes(b), SEGMENT, FIRST * SEGMENT, add_fact, &facts, &check,
                            &err));
    OK(wa_wal_put(f->repo, &f->first, FIRST, wal_bytes(b), NULL, 1, &facts, true, &outcome, &err));
}

/* Does the second segment of `b` go on where the archived first one ends? */
static wa_continues
continues(const fixture *f, const wal_builder *b, wa_lsn *ret_prev)
{
    wa_error err = WA_ERROR_INIT;
    wa_segment_link link = {.read = false};
    wa_continues answer = WA_CONTINUES_UNKNOWN;
    wa_branch_question q = {
        .repo = f->repo, .tli = 1, .segno = FIRST + 1, .data = wal_bytes(b) + SEGMENT};
    OK(wa_segment_link_read(&q, &link, &err));
    assert_true(link.read);
    OK(wa_branch_continues(f->repo, &f->first, FIRST + 1, &link, &answer, &err));
    *ret_prev = link.prev;
    return answer;
}

static void
a_record_that_begins_behind_a_page_boundary_links_the_next_segment(void **state)
{
    const fixture *f = *state;
    wa_lsn boundary = (FIRST + 1) * SEGMENT - PAGE, prev = 0;
    wal_builder *b = two_segments(boundary), *other = two_segments(boundary - 800);
    put_first(f, b);
    assert_int_equal(continues(f, b, &prev), WA_CONTINUES_YES);
    assert_true(prev == boundary + HEADER);
    assert_int_equal(continues(f, other, &prev), WA_CONTINUES_NO);
    assert_true(prev == boundary - 800);
    wal_builder_free(b);
    wal_builder_free(other);
}

static void
a_record_that_begins_within_a_page_links_the_next_segment(void **state)
{
    const fixture *f = *state;
    wa_lsn end = (FIRST + 1) * SEGMENT - PAGE - 800, prev = 0;
    wal_builder *b = two_segments(end), *other = two_segments((FIRST + 1) * SEGMENT - PAGE);
    put_first(f, b);
    assert_int_equal(continues(f, b, &prev), WA_CONTINUES_YES);
    assert_true(prev == end);
    assert_int_equal(continues(f, other, &prev), WA_CONTINUES_NO);
    wal_builder_free(b);
    wal_builder_free(other);
}

/* It takes both segments' bytes: a push that asks twice reads once. */
static void
a_link_that_was_read_is_not_read_again(void **state)
{
    const fixture *f = *state;
    wa_error err = WA_ERROR_INIT;
    wa_segment_link link = {.read = false};
    wal_builder *b = two_segments((FIRST + 1) * SEGMENT - PAGE);
    uint8_t nothing[1] = {0};
    wa_branch_question q = {
        .repo = f->repo, .tli = 1, .segno = FIRST + 1, .data = wal_bytes(b) + SEGMENT};
    OK(wa_segment_link_read(&q, &link, &err));
    wa_lsn prev = link.prev;
    q.data = nothing; /* ASan sees who reads it */
    OK(wa_segment_link_read(&q, &link, &err));
    assert_true(link.prev == prev);
    wal_builder_free(b);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(
            a_record_that_begins_behind_a_page_boundary_links_the_next_segment, fixture_setup,
            fixture_teardown),
        cmocka_unit_test_setup_teardown(a_record_that_begins_within_a_page_links_the_next_segment,
                                        fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(a_link_that_was_read_is_not_read_again, fixture_setup,
                                        fixture_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
