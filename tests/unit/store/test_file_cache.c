/*
 * tests/unit/store/test_file_cache.c - what file:// leaves in the page cache.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include "page_cache.h"

#include "walagent/base/file.h"
#include "walagent/store/store.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#define LARGE (16u * 1024 * 1024)
#define SMALL (256u * 1024 - 1)

static void
put_zeroes(wa_store *store, const char *key, size_t len)
{
    wa_error err = WA_ERROR_INIT;
    WA_CLEANUP(wa_freep) char *bytes = wa_calloc(1, len);
    wa_body body = {.data = bytes, .len = len, .fd = -1};
    assert_int_equal(wa_store_put(store, key, &body, NULL, WA_PUT_CREATE, &err), WA_OK);
}

static size_t
pages_of(const char *dir, const char *key, size_t len)
{
    WA_CLEANUP(wa_freep) char *path = wa_path_join(dir, key);
    WA_CLEANUP(wa_closep) int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    return pages_in_cache(fd, len);
}

/* Small ones are markers and chunks of the tail, and the end of a large one has its facts: those
 * are asked for again. */
static void
a_large_object_leaves_the_page_cache_and_a_small_one_stays(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    char dir[] = "/tmp/walagent-test-XXXXXX";
    assert_non_null(mkdtemp(dir));
    WA_CLEANUP(wa_freep) char *url = wa_format("file://%s", dir);
    WA_CLEANUP(wa_store_freep) wa_store *store = NULL;
    assert_int_equal(wa_store_open(&(wa_store_options){.url = url}, &store, &err), WA_OK);
    bool can = page_cache_lets_go(dir);
    put_zeroes(store, "a/large", LARGE);
    put_zeroes(store, "a/small", SMALL);
    size_t large = pages_of(dir, "a/large", LARGE), small = pages_of(dir, "a/small", SMALL);
    assert_int_equal(wa_remove_tree(dir, &err), WA_OK);
    if (!can) {
        print_message("skipped: this file system keeps what it was told to let go\n");
        skip();
    }
    /* Pages that the kernel keeps together with the end's stay, too. */
    assert_in_range(large * (size_t)sysconf(_SC_PAGESIZE), 1, LARGE / 4);
    assert_in_range(small * (size_t)sysconf(_SC_PAGESIZE), SMALL / 2, 2 * SMALL);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_large_object_leaves_the_page_cache_and_a_small_one_stays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
