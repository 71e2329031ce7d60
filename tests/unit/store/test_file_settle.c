/*
 * tests/unit/store/test_file_settle.c - file:// makes durable what others wrote: which directories
 * are synced, counted where the program asks the kernel for it.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include "walagent/base/file.h"
#include "walagent/store/store.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

typedef struct fixture {
    char dir[64];
    wa_store *store;
} fixture;

/* libc's function is replaced in this program. */
static wa_strv synced;    /* directories, in order */
static int failing_syncs; /* of directories, from the next one on */

int
fsync(int fd)
{
    char self[32], path[256] = "";
    struct stat st;
    (void)snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
    if (fstat(fd, &st) == 0 && S_ISDIR(st.st_mode) && readlink(self, path, sizeof path - 1) > 0) {
        if (failing_syncs > 0 && failing_syncs-- > 0) {
            errno = EIO;
            return -1;
        }
        wa_strv_add(&synced, path);
    }
    return (int)syscall(SYS_fsync, fd);
}

static int
set_up(void **state)
{
    fixture *f = wa_calloc(1, sizeof *f);
    wa_error err = WA_ERROR_INIT;
    (void)snprintf(f->dir, sizeof f->dir, "/tmp/walagent-test-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    WA_CLEANUP(wa_freep) char *url = wa_format("file://%s/store", f->dir);
    wa_store_options options = {.url = url};
    assert_int_equal(wa_store_open(&options, &f->store, &err), WA_OK);
    const char *keys[] = {"a/1", "a/2", "a/b/3", "c/4"};
    for (size_t i = 0; i < WA_ARRAY_SIZE(keys); i++) {
        wa_body body = {"content", 7, -1, 0};
        assert_int_equal(wa_store_put(f->store, keys[i], &body, NULL, WA_PUT_CREATE, &err), WA_OK);
    }
    wa_strv_done(&synced);
    failing_syncs = 0;
    *state = f;
    return 0;
}

static int
tear_down(void **state)
{
    fixture *f = *state;
    wa_error err = WA_ERROR_INIT;
    wa_store_free(f->store);
    assert_int_equal(wa_remove_tree(f->dir, &err), WA_OK);
    wa_strv_done(&synced);
    wa_freep(&f);
    return 0;
}

static wa_status
settle(fixture *f, const char *const *keys, size_t count, wa_error *err)
{
    WA_CLEANUP(wa_strv_done) wa_strv all = {0};
    for (size_t i = 0; i < count; i++)
        wa_strv_add(&all, keys[i]);
    return wa_store_settle(f->store, &all, err);
}

static void
each_directory_is_synced_once(void **state)
{
    fixture *f = *state;
    wa_error err = WA_ERROR_INIT;
    const char *keys[] = {"a/1", "a/2", "a/b/3", "c/4"}, *dirs[] = {"a", "a/b", "c"};
    assert_int_equal(settle(f, keys, WA_ARRAY_SIZE(keys), &err), WA_OK);
    assert_int_equal(synced.count, WA_ARRAY_SIZE(dirs));
    for (size_t i = 0; i < WA_ARRAY_SIZE(dirs); i++) {
        WA_CLEANUP(wa_freep) char *dir = wa_format("%s/store/%s", f->dir, dirs[i]);
        assert_string_equal(synced.items[i], dir);
    }
    assert_int_equal(settle(f, NULL, 0, &err), WA_OK);
    assert_int_equal(synced.count, WA_ARRAY_SIZE(dirs));
}

static void
a_directory_that_cannot_be_synced_is_an_error_wherever_it_comes(void **state)
{
    fixture *f = *state;
    const char *keys[] = {"a/1", "c/4"};
    for (size_t good = 0; good < 2; good++) {
        wa_error err = WA_ERROR_INIT;
        failing_syncs = 1;
        assert_int_equal(settle(f, keys + good, 2 - good, &err), WA_IO);
        assert_non_null(strstr(err.message, "could not fsync directory"));
    }
    assert_int_equal(synced.count, 0);
}

static void
what_is_gone_is_said_and_a_root_that_is_away_is_not_taken_for_it(void **state)
{
    fixture *f = *state;
    wa_error err = WA_ERROR_INIT;
    const char *keys[] = {"a/1", "a/5"}, *elsewhere[] = {"d/1"};
    assert_int_equal(settle(f, keys, 2, &err), WA_NOT_FOUND);
    assert_non_null(strstr(err.message, "\"a/5\""));
    assert_int_equal(synced.count, 0);
    wa_error_clear(&err);
    assert_int_equal(settle(f, elsewhere, 1, &err), WA_NOT_FOUND);
    wa_error_clear(&err);
    WA_CLEANUP(wa_freep) char *root = wa_format("%s/store", f->dir);
    assert_int_equal(wa_remove_tree(root, &err), WA_OK);
    assert_int_equal(settle(f, keys, 1, &err), WA_UNAVAILABLE);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(each_directory_is_synced_once),
        TEST(a_directory_that_cannot_be_synced_is_an_error_wherever_it_comes),
        TEST(what_is_gone_is_said_and_a_root_that_is_away_is_not_taken_for_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
