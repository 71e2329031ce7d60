/*
 * test_recovery.c - backup_label, and what is written into postgresql.auto.conf.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "walagent/base/file.h"
#include "walagent/pg/recovery.h"

#define LABEL_HEAD                                                                                 \
    "START WAL LOCATION: 1/60000A8 (file 000000030000000100000006)\n"                              \
    "CHECKPOINT LOCATION: 1/6000118\n"                                                             \
    "BACKUP METHOD: streamed\n"
#define LABEL_REST                                                                                 \
    "START TIME: 2026-11-26 23:54:58 UTC\n"                                                        \
    "LABEL: nightly\n"                                                                             \
    "START TIMELINE: 3\n"

static wa_status
parse(const char *text, wa_backup_label *label)
{
    wa_error err = WA_ERROR_INIT;
    return wa_backup_label_parse(text, strlen(text), label, &err);
}

static void
a_label_is_read(void **state)
{
    (void)state;
    wa_backup_label l;
    assert_int_equal(parse(LABEL_HEAD "BACKUP FROM: standby\n" LABEL_REST, &l), WA_OK);
    assert_int_equal(l.start_lsn, 0x1060000A8);
    assert_int_equal(l.checkpoint, 0x106000118);
    assert_int_equal(l.start_tli, 3);
    assert_string_equal(l.start_segment, "000000030000000100000006");
    assert_true(l.from_standby);
    assert_int_equal(l.incremental_from, 0);
}

static void
an_incremental_label_names_its_parent(void **state)
{
    (void)state;
    wa_backup_label l;
    assert_int_equal(parse(LABEL_HEAD "BACKUP FROM: primary\n" LABEL_REST
                                      "INCREMENTAL FROM LSN: 1/2000028\n"
                                      "INCREMENTAL FROM TLI: 2\n",
                           &l),
                     WA_OK);
    assert_false(l.from_standby);
    assert_int_equal(l.incremental_from, 0x102000028);
    assert_int_equal(l.incremental_from_tli, 2);
}

static void
a_damaged_label_is_corrupt(void **state)
{
    (void)state;
    wa_backup_label l = {.start_tli = 99};
    assert_int_equal(parse("", &l), WA_CORRUPT);
    assert_int_equal(parse(LABEL_HEAD LABEL_REST, &l), WA_CORRUPT);
    assert_int_equal(parse(LABEL_HEAD "BACKUP FROM: elsewhere\n" LABEL_REST, &l), WA_CORRUPT);
    assert_int_equal(parse(LABEL_HEAD "BACKUP FROM: primary\n", &l), WA_CORRUPT);
    assert_int_equal(parse(LABEL_HEAD "BACKUP FROM: primary\nSTART TIMELINE: 4\n", &l), WA_CORRUPT);
    assert_int_equal(parse(LABEL_HEAD "BACKUP FROM: primary\n" LABEL_REST
                                      "INCREMENTAL FROM LSN: 1/2000028\n",
                           &l),
                     WA_CORRUPT);
    assert_int_equal(parse("START WAL LOCATION: 1/60000A8 (file 00000003000000010000000)\n", &l),
                     WA_CORRUPT);
    assert_int_equal(l.start_tli, 99);
}

static void
settings_are_quoted(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    WA_CLEANUP(wa_freep) char *line = NULL;
    assert_int_equal(wa_setting_line("restore_command", "a 'b' \\ %f", &line, &err), WA_OK);
    assert_string_equal(line, "restore_command = 'a ''b'' \\\\ %f'");
    WA_CLEANUP(wa_freep) char *custom = NULL;
    assert_int_equal(wa_setting_line("my_ext.key", "", &custom, &err), WA_OK);
    assert_string_equal(custom, "my_ext.key = ''");
}

static void
names_and_values_that_would_break_the_file_are_refused(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    char *line = NULL;
    static const char *const bad[] = {"",   "a b", "1a",   "a=b", "a.",
                                      ".a", "a'",  "a\nb", "#a",  "a..b"};
    for (size_t i = 0; i < WA_ARRAY_SIZE(bad); i++)
        assert_int_equal(wa_setting_line(bad[i], "x", &line, &err), WA_INVALID);
    assert_int_equal(wa_setting_line("a", "x\ny", &line, &err), WA_INVALID);
    assert_int_equal(wa_setting_line("a", "x\r", &line, &err), WA_INVALID);
    assert_null(line);
}

/* Write `pairs` over `before`, and compare the file. */
static void
assert_settings(const char *before, const wa_strv *pairs, const char *after)
{
    char dir[] = "/tmp/wa-test-recovery-XXXXXX";
    wa_error err = WA_ERROR_INIT;
    assert_non_null(mkdtemp(dir));
    WA_CLEANUP(wa_freep) char *path = wa_path_join(dir, "postgresql.auto.conf");
    if (before != NULL)
        assert_int_equal(wa_file_write(path, before, strlen(before), 0640, WA_WRITE_REPLACE, &err),
                         WA_OK);
    assert_int_equal(wa_settings_write(dir, pairs, &err), WA_OK);
    WA_CLEANUP(wa_buf_done) wa_buf text = WA_BUF_INIT(1 << 16);
    assert_int_equal(wa_file_read(path, 1 << 15, &text, &err), WA_OK);
    assert_string_equal(wa_buf_str(&text), after);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, before != NULL ? 0640 : 0600);
    assert_int_equal(wa_remove_tree(dir, &err), WA_OK);
}

#define MARKED(lines) "# begin of what walagent wrote\n" lines "# end of what walagent wrote\n"

static void
what_contradicts_ours_is_taken_out(void **state)
{
    (void)state;
    WA_CLEANUP(wa_strv_done) wa_strv pairs = {0};
    wa_strv_add(&pairs, "restore_command");
    wa_strv_add(&pairs, "walagent archive-get %f %p");
    wa_strv_add(&pairs, "Archive_Mode");
    wa_strv_add(&pairs, "off");
    assert_settings("# Do not edit\n"
                    "work_mem = '4MB'\n"
                    "recovery_target_time = 'x'\n"
                    "  RECOVERY_TARGET_ACTION='pause'\n"
                    "recovery_target 'immediate'\n"
                    "primary_conninfo = 'host=a'\n"
                    "primary_slot_name = 'b'\n"
                    "restore_command = 'old'\n"
                    "archive_mode = on\n"
                    "archive_mode_x.y = on\n"
                    "#restore_command = 'a comment stays'\n"
                    "last = 1",
                    &pairs,
                    "# Do not edit\n"
                    "work_mem = '4MB'\n"
                    "archive_mode_x.y = on\n"
                    "#restore_command = 'a comment stays'\n"
                    "last = 1\n" MARKED("restore_command = 'walagent archive-get %f %p'\n"
                                        "Archive_Mode = 'off'\n"));
}

static void
our_earlier_block_is_replaced(void **state)
{
    (void)state;
    WA_CLEANUP(wa_strv_done) wa_strv pairs = {0};
    wa_strv_add(&pairs, "a");
    wa_strv_add(&pairs, "2");
    assert_settings("x = 1\n" MARKED("a = '1'\nb = '1'\n") "y = 2\n", &pairs,
                    "x = 1\ny = 2\n" MARKED("a = '2'\n"));
    assert_settings(NULL, &pairs, MARKED("a = '2'\n"));
}

static void
a_begin_without_an_end_takes_nobody_elses_lines(void **state)
{
    (void)state;
    WA_CLEANUP(wa_strv_done) wa_strv none = {0};
    assert_settings("# begin of what walagent wrote\nx = 1\n", &none, "x = 1\n");
}

static void
shell_words_are_quoted_when_they_must_be(void **state)
{
    (void)state;
    WA_CLEANUP(wa_freep) char *plain = wa_shell_quote("/etc/walagent/main.conf");
    WA_CLEANUP(wa_freep) char *spaced = wa_shell_quote("it's $HOME");
    WA_CLEANUP(wa_freep) char *empty = wa_shell_quote("");
    assert_string_equal(plain, "/etc/walagent/main.conf");
    assert_string_equal(spaced, "'it'\\''s $HOME'");
    assert_string_equal(empty, "''");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_label_is_read),
        cmocka_unit_test(an_incremental_label_names_its_parent),
        cmocka_unit_test(a_damaged_label_is_corrupt),
        cmocka_unit_test(settings_are_quoted),
        cmocka_unit_test(names_and_values_that_would_break_the_file_are_refused),
        cmocka_unit_test(what_contradicts_ours_is_taken_out),
        cmocka_unit_test(our_earlier_block_is_replaced),
        cmocka_unit_test(a_begin_without_an_end_takes_nobody_elses_lines),
        cmocka_unit_test(shell_words_are_quoted_when_they_must_be),
    };
    return cmocka_run_group_tests_name("recovery", tests, NULL, NULL);
}
