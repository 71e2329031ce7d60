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

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_has_its_mode_whatever_the_umask_left_of_it),
        cmocka_unit_test(a_file_of_any_size_has_its_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
