/*
 * test_control.c - pg_control: fields at their places, damage, and whether a server runs.
 *
 * The integration test compares with pg_controldata on real clusters of each major.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "walagent/base/bytes.h"
#include "walagent/base/crc32c.h"
#include "walagent/base/file.h"
#include "walagent/pg/control.h"

static void
build(uint8_t data[static 8192], uint32_t version, uint32_t catalog)
{
    size_t crc_offset = version == 1800 ? 292 : 288;
    memset(data, 0, 8192);
    wa_put_u64le(data, 0xFEDCBA9876543210);
    wa_put_u32le(data + 8, version);
    wa_put_u32le(data + 12, catalog);
    wa_put_u32le(data + 16, WA_DB_IN_ARCHIVE_RECOVERY);
    wa_put_u64le(data + 32, 0x100000060);
    wa_put_u64le(data + 40, 0x100000028);
    wa_put_u32le(data + 48, 7);
    wa_put_u32le(data + 52, 6);
    wa_put_u64le(data + 136, 0x200000000);
    wa_put_u32le(data + 144, 5);
    data[168] = 1;
    wa_put_u32le(data + 228, 16777216);
    wa_put_u32le(data + 252, 1);
    wa_put_u32le(data + crc_offset, wa_crc32c(0, data, crc_offset));
}

static void
fields_are_read_in_every_layout(void **state)
{
    (void)state;
    static const struct {
        uint32_t version, catalog;
        int major;
    } cases[] = {{1300, 202007201, 13}, {1300, 202107181, 14}, {1300, 202209061, 15},
                 {1300, 202307071, 16}, {1700, 202406281, 17}, {1800, 202506291, 18},
                 {1800, 209901011, 0}};
    for (size_t i = 0; i < WA_ARRAY_SIZE(cases); i++) {
        uint8_t data[8192];
        wa_control c;
        wa_error err = WA_ERROR_INIT;
        build(data, cases[i].version, cases[i].catalog);
        assert_int_equal(wa_control_parse(data, sizeof data, &c, &err), WA_OK);
        assert_true(c.system_identifier == 0xFEDCBA9876543210);
        assert_int_equal(c.major, cases[i].major);
        assert_int_equal(c.state, WA_DB_IN_ARCHIVE_RECOVERY);
        assert_int_equal(c.checkpoint, 0x100000060);
        assert_int_equal(c.redo, 0x100000028);
        assert_int_equal(c.tli, 7);
        assert_int_equal(c.prev_tli, 6);
        assert_int_equal(c.min_recovery_point, 0x200000000);
        assert_int_equal(c.min_recovery_tli, 5);
        assert_true(c.backup_end_required);
        assert_int_equal(c.segment_size, 16777216);
    }
}

static void
a_changed_bit_is_corrupt_and_leaves_the_output_alone(void **state)
{
    (void)state;
    uint8_t data[8192];
    build(data, 1800, 202506291);
    for (size_t bit = 0; bit < 296 * 8; bit++) {
        wa_control c = {.major = 99};
        wa_error err = WA_ERROR_INIT;
        data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        wa_status status = wa_control_parse(data, sizeof data, &c, &err);
        data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        bool in_version = bit / 8 >= 8 && bit / 8 < 12;
        assert_int_equal(status, in_version ? WA_UNSUPPORTED : WA_CORRUPT);
        assert_int_equal(c.major, 99);
    }
}

static void
a_short_file_is_corrupt(void **state)
{
    (void)state;
    uint8_t data[8192];
    build(data, 1300, 202209061);
    for (size_t len = 0; len < 292; len++) {
        WA_CLEANUP(wa_freep) uint8_t *exact = wa_memdup(data, len > 0 ? len : 1);
        wa_control c;
        wa_error err = WA_ERROR_INIT;
        assert_int_equal(wa_control_parse(exact, len, &c, &err), WA_CORRUPT);
    }
}

static void
a_pid_file_counts_only_with_a_live_process_in_that_directory(void **state)
{
    (void)state;
    char dir[] = "/tmp/wa-test-control-XXXXXX";
    wa_error err = WA_ERROR_INIT;
    long pid = 0;
    assert_non_null(mkdtemp(dir));
    assert_false(wa_data_dir_is_running(dir, &pid));
    WA_CLEANUP(wa_freep) char *path = wa_path_join(dir, "postmaster.pid");
    WA_CLEANUP(wa_freep) char *text = wa_format("%ld\n%s\n", (long)getpid(), dir);
    assert_int_equal(wa_file_write(path, text, strlen(text), 0600, WA_WRITE_REPLACE, &err), WA_OK);
    assert_false(wa_data_dir_is_running(dir, &pid)); /* alive, but somewhere else */
    WA_CLEANUP(wa_freep) char *before = getcwd(NULL, 0);
    assert_int_equal(chdir(dir), 0);
    assert_true(wa_data_dir_is_running(dir, &pid));
    assert_int_equal(pid, getpid());
    assert_int_equal(chdir(before), 0);
    assert_int_equal(wa_file_write(path, "2147483647\n", 11, 0600, WA_WRITE_REPLACE, &err), WA_OK);
    assert_false(wa_data_dir_is_running(dir, &pid)); /* nobody */
    assert_int_equal(wa_remove_tree(dir, &err), WA_OK);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fields_are_read_in_every_layout),
        cmocka_unit_test(a_changed_bit_is_corrupt_and_leaves_the_output_alone),
        cmocka_unit_test(a_short_file_is_corrupt),
        cmocka_unit_test(a_pid_file_counts_only_with_a_live_process_in_that_directory),
    };
    return cmocka_run_group_tests_name("control", tests, NULL, NULL);
}
