/*
 * test_layout.c - which file systems a restore makes durable.
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

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define OTHER "/dev/shm" /* a file system of its own, nearly everywhere */

/* syncfs as layout.c calls it. */
static struct {
    dev_t items[8];
    size_t count;
} synced;

int syncfs(int fd);
int
syncfs(int fd)
{
    struct stat st;
    assert_int_equal(fstat(fd, &st), 0);
    assert_true(synced.count < WA_ARRAY_SIZE(synced.items));
    synced.items[synced.count++] = st.st_dev;
    return 0;
}

static dev_t
device_of(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 ? st.st_dev : 0;
}

/* What is synced of a data directory that has pg_wal as a link to a directory in `beside` (NULL:
 * none, so that it is made later). */
static void
sync_with_wal_in(const char *beside)
{
    char root[] = "/tmp/walagent-layout-XXXXXX";
    wa_error err = WA_ERROR_INIT;
    assert_non_null(mkdtemp(root));
    WA_CLEANUP(wa_freep) char *link = wa_path_join(root, "pg_wal");
    WA_CLEANUP(wa_freep)
    char *wal = wa_format("%s/walagent-wal-XXXXXX", beside != NULL ? beside : "");
    if (beside != NULL) {
        assert_non_null(mkdtemp(wal));
        assert_int_equal(symlink(wal, link), 0);
    }
    WA_CLEANUP(wa_layout_done)
    wa_layout l = {.root = wa_strdup(root), .dir_mode = 0700, .count = 1};
    l.places = wa_calloc(1, sizeof *l.places);
    l.places[0] = (wa_place){.path = wa_strdup(root), .fd = -1};
    synced.count = 0;
    assert_int_equal(wa_layout_create(&l, &err), WA_OK);
    assert_int_equal(wa_layout_sync(&l, &err), WA_OK);
    assert_int_equal(wa_remove_tree(root, &err), WA_OK);
    if (beside != NULL)
        assert_int_equal(wa_remove_tree(wal, &err), WA_OK);
}

static void
wal_on_another_file_system_is_synced_too(void **state)
{
    (void)state;
    if (device_of(OTHER) == 0 || device_of(OTHER) == device_of("/tmp") || access(OTHER, W_OK) != 0)
        skip();
    sync_with_wal_in(OTHER);
    assert_int_equal(synced.count, 2);
    assert_true(synced.items[0] == device_of("/tmp"));
    assert_true(synced.items[1] == device_of(OTHER));
}

static void
one_file_system_is_synced_once(void **state)
{
    (void)state;
    sync_with_wal_in("/tmp");
    assert_int_equal(synced.count, 1);
    sync_with_wal_in(NULL);
    assert_int_equal(synced.count, 1);
    assert_true(synced.items[0] == device_of("/tmp"));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wal_on_another_file_system_is_synced_too),
        cmocka_unit_test(one_file_system_is_synced_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
