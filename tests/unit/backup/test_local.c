/*
 * test_local.c - the WAL ranges of a manifest, and pieces of files with damaged, torn and cut
 * pages.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include "local_internal.h"

#include "walagent/base/bytes.h"
#include "walagent/base/file.h"
#include "walagent/pg/page.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SIZE 8192u
#define PAGES 4u

static void
one_timeline_is_one_range(void **state)
{
    (void)state;
    wa_history history = {.tli = 1};
    wa_manifest_range ranges[64];
    assert_int_equal(wa_local_wal_ranges(&history, 1, 100, 200, ranges), 1);
    assert_int_equal(ranges[0].tli, 1);
    assert_int_equal(ranges[0].start, 100);
    assert_int_equal(ranges[0].end, 200);
}

static void
ranges_of_several_timelines_meet_newest_first(void **state)
{
    (void)state;
    wa_history_entry entries[] = {{1, 50}, {2, 150}, {4, 180}};
    wa_history history = {.tli = 5, .count = 3, .entries = entries};
    wa_manifest_range ranges[64];
    assert_int_equal(wa_local_wal_ranges(&history, 2, 100, 200, ranges), 3);
    static const wa_manifest_range expected[] = {{5, 180, 200}, {4, 150, 180}, {2, 100, 150}};
    for (size_t i = 0; i < WA_ARRAY_SIZE(expected); i++) {
        assert_int_equal(ranges[i].tli, expected[i].tli);
        assert_int_equal(ranges[i].start, expected[i].start);
        assert_int_equal(ranges[i].end, expected[i].end);
    }
}

/* A file of PAGES good pages with LSN 1000, blocks 10, 11, ... */
typedef struct fixture {
    wa_local_source source;
    wa_damage damage;
    uint8_t data[PAGES * SIZE];
    wa_error err;
} fixture;

static void
put(fixture *f, size_t at, const void *data, size_t len)
{
    assert_int_equal(wa_pwrite_all(f->source.fd, data, len, (off_t)at, "file", &f->err), WA_OK);
}

static int
setup(void **state)
{
    fixture *f = wa_calloc(1, sizeof *f);
    char path[] = "/tmp/walagent-test-XXXXXX";
    f->source = (wa_local_source){.path = "base/5/16384",
                                  .fd = mkstemp(path),
                                  .page_size = SIZE,
                                  .first_page = 10,
                                  .since = 2000};
    assert_true(f->source.fd >= 0);
    unlink(path);
    wa_mutex_init(&f->damage.mutex);
    wa_buf_init(&f->damage.places, 4096);
    for (uint32_t i = 0; i < PAGES; i++) {
        uint8_t page[SIZE];
        memset(page, (int)i + 1, sizeof page);
        wa_put_u64le(page, 0);
        wa_put_u32le(page + 4, 1000);
        wa_put_u16le(page + 8, wa_page_checksum(page, SIZE, 10 + i));
        put(f, i * SIZE, page, sizeof page);
    }
    *state = f;
    return 0;
}

static int
teardown(void **state)
{
    fixture *f = *state;
    wa_closep(&f->source.fd);
    wa_buf_done(&f->damage.places);
    wa_mutex_done(&f->damage.mutex);
    wa_freep(&f);
    return 0;
}

static void
read_all(fixture *f)
{
    assert_int_equal(wa_local_read(&f->source, 0, f->data, sizeof f->data, &f->damage, &f->err),
                     WA_OK);
}

static void
good_pages_are_no_damage(void **state)
{
    fixture *f = *state;
    read_all(f);
    assert_int_equal(f->damage.count, 0);
    assert_int_equal(f->data[3 * SIZE + 100], 4);
}

static void
damage_names_file_and_block(void **state)
{
    fixture *f = *state;
    put(f, 2 * SIZE + 5000, "x", 1);
    read_all(f);
    assert_int_equal(f->damage.count, 1);
    assert_string_equal(wa_buf_str(&f->damage.places), "block 2 of \"base/5/16384\"");
}

static void
a_page_written_since_the_start_is_no_damage(void **state)
{
    fixture *f = *state;
    uint8_t lsn[4];
    wa_put_u32le(lsn, 2000);
    put(f, SIZE + 4, lsn, sizeof lsn);
    read_all(f);
    assert_int_equal(f->damage.count, 0);
}

static void
files_without_pages_are_not_looked_into(void **state)
{
    fixture *f = *state;
    put(f, 2 * SIZE + 5000, "x", 1);
    f->source.page_size = 0;
    read_all(f);
    assert_int_equal(f->damage.count, 0);
}

static void
what_was_cut_off_is_zeros(void **state)
{
    fixture *f = *state;
    memset(f->data, 0xAA, sizeof f->data);
    assert_int_equal(ftruncate(f->source.fd, SIZE + 100), 0);
    read_all(f);
    assert_int_equal(f->damage.count, 0);
    assert_int_equal(f->data[SIZE + 99], 2);
    for (size_t i = SIZE + 100; i < sizeof f->data; i++)
        assert_int_equal(f->data[i], 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_timeline_is_one_range),
        cmocka_unit_test(ranges_of_several_timelines_meet_newest_first),
        cmocka_unit_test_setup_teardown(good_pages_are_no_damage, setup, teardown),
        cmocka_unit_test_setup_teardown(damage_names_file_and_block, setup, teardown),
        cmocka_unit_test_setup_teardown(a_page_written_since_the_start_is_no_damage, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(files_without_pages_are_not_looked_into, setup, teardown),
        cmocka_unit_test_setup_teardown(what_was_cut_off_is_zeros, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
