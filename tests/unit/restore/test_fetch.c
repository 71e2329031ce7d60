/*
 * test_fetch.c - what a restored file looks like from outside.
 */
/* clang-format off */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
/* clang-format on */

#include "restore_internal.h"

#include "walagent/base/file.h"
#include "walagent/base/mem.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static struct stat
finished(mode_t as_created, uint32_t mode, int64_t mtime, uint64_t size)
{
    char path[] = "/tmp/walagent-fetch-XXXXXX";
    wa_error err = WA_ERROR_INIT;
    wa_unit_file file = {.path = path, .mode = mode, .mtime = mtime, .size = size};
    struct stat st;
    WA_CLEANUP(wa_closep) int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(fchmod(fd, as_created), 0);
    assert_int_equal(ftruncate(fd, (off_t)size), 0);
    assert_int_equal(wa_fetch_finish_file(fd, &file, size, path, &err), WA_OK);
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(unlink(path), 0);
    return st;
}

static void
a_file_has_its_mode_whatever_the_umask_left_of_it(void **state)
{
    (void)state;
    static const mode_t created[] = {0600, 0640, 0000, 04755};
    for (size_t i = 0; i < WA_ARRAY_SIZE(created); i++) {
        assert_int_equal(finished(created[i], 0600, 1, 10).st_mode & 07777, 0600);
        assert_int_equal(finished(created[i], 0100640, 1, 10).st_mode & 07777, 0640);
    }
}

static void
a_file_of_any_size_has_its_time(void **state)
{
    (void)state;
    for (uint64_t size = 0; size <= 1u << 20; size = size * 2 + 1) {
        struct stat st = finished(0600, 0600, 1700000000, size);
        assert_int_equal(st.st_mtim.tv_sec, 1700000000);
        assert_int_equal(st.st_size, size);
    }
}

/* Root may write every file, so the rest of the test runs as somebody else; at the end as before.
 */
static void
in_a_directory_of_somebody_who_is_not_root(void (*check)(const char *path))
{
    char dir[] = "/tmp/walagent-fetch-XXXXXX";
    uid_t was = geteuid();
    assert_non_null(mkdtemp(dir));
    if (was == 0) {
        assert_int_equal(chown(dir, 65534, (gid_t)-1), 0);
        assert_int_equal(seteuid(65534), 0);
    }
    WA_CLEANUP(wa_freep) char *path = wa_format("%s/server.key", dir);
    check(path);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(seteuid(was), 0);
    assert_int_equal(rmdir(dir), 0);
}

static void
interrupt_and_repeat(const char *path)
{
    static const uint32_t modes[] = {0400, 0440, 0100000, 0600};
    for (size_t i = 0; i < WA_ARRAY_SIZE(modes); i++) {
        wa_error err = WA_ERROR_INIT;
        wa_unit_file file = {.mode = modes[i]};
        struct stat st;
        /* The first one is left as it is when the restore is killed. */
        for (int time = 0; time < 2; time++) {
            WA_CLEANUP(wa_closep) int fd = wa_fetch_open(path, modes[i]);
            assert_true(fd >= 0);
            assert_int_equal(write(fd, "half", 4), 4);
            if (time == 1)
                assert_int_equal(wa_fetch_finish_file(fd, &file, 4, path, &err), WA_OK);
        }
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 07777, modes[i] & 07777);
        assert_int_equal(st.st_size, 4);
    }
}

static void
a_read_only_file_can_be_written_again_after_an_interruption(void **state)
{
    (void)state;
    in_a_directory_of_somebody_who_is_not_root(interrupt_and_repeat);
}

static void
replace_read_only(const char *path)
{
    struct stat st;
    WA_CLEANUP(wa_closep) int old = open(path, O_WRONLY | O_CREAT | O_EXCL, 0400);
    assert_int_equal(write(old, "older state", 11), 11);
    assert_true(open(path, O_WRONLY) < 0); /* or this test shows nothing */
    WA_CLEANUP(wa_closep) int fd = wa_fetch_open(path, 0400);
    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(st.st_size, 0);
}

static void
a_complete_read_only_file_makes_place(void **state)
{
    (void)state;
    in_a_directory_of_somebody_who_is_not_root(replace_read_only);
}

static void
link_in_the_way(const char *path)
{
    assert_int_equal(symlink("/dev/null", path), 0);
    assert_int_equal(wa_fetch_open(path, 0400), -1);
}

static void
a_link_is_not_followed(void **state)
{
    (void)state;
    in_a_directory_of_somebody_who_is_not_root(link_in_the_way);
}

static void
write_beside_another_name(const char *path)
{
    static const mode_t modes[] = {0600, 0400};
    WA_CLEANUP(wa_freep) char *other = wa_format("%s.other", path);
    for (size_t i = 0; i < WA_ARRAY_SIZE(modes); i++) {
        char text[16] = "";
        struct stat st;
        WA_CLEANUP(wa_closep) int old = open(other, O_RDWR | O_CREAT | O_EXCL, modes[i]);
        assert_int_equal(write(old, "somebody's", 10), 10);
        assert_int_equal(link(other, path), 0);
        assert_true(wa_fetch_has_other_names(path));
        WA_CLEANUP(wa_closep) int fd = wa_fetch_open(path, 0600);
        assert_true(fd >= 0);
        assert_int_equal(write(fd, "ours", 4), 4);
        assert_int_equal(fstat(fd, &st), 0);
        assert_int_equal(st.st_nlink, 1);
        assert_int_equal(st.st_size, 4);
        assert_int_equal(pread(old, text, sizeof text, 0), 10);
        assert_string_equal(text, "somebody's");
        assert_false(wa_fetch_has_other_names(path));
        assert_int_equal(unlink(other), 0);
        if (i == 0)
            assert_int_equal(unlink(path), 0);
    }
}

static void
a_file_with_another_name_leaves_that_alone(void **state)
{
    (void)state;
    in_a_directory_of_somebody_who_is_not_root(write_beside_another_name);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_has_its_mode_whatever_the_umask_left_of_it),
        cmocka_unit_test(a_file_of_any_size_has_its_time),
        cmocka_unit_test(a_read_only_file_can_be_written_again_after_an_interruption),
        cmocka_unit_test(a_complete_read_only_file_makes_place),
        cmocka_unit_test(a_link_is_not_followed),
        cmocka_unit_test(a_file_with_another_name_leaves_that_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
