/*
 * tests/unit/repo/test_sinks.c - what overflows memory is on the disk before it is put.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include "page_cache.h"
#include "repo_internal.h"

#include "walagent/base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* libc's function is replaced in this program. */
static int sync_fails, syncs;

int
fdatasync(int fd)
{
    syncs++;
    if (sync_fails != 0) {
        errno = sync_fails;
        return -1;
    }
    return (int)syscall(SYS_fdatasync, fd);
}

static wa_spill *
spill_of(const char *dir, wa_store *store)
{
    wa_error err = WA_ERROR_INIT;
    wa_spill *s = wa_spill_new(10, dir);
    if (store != NULL)
        wa_spill_into(s, store);
    assert_int_equal(wa_sink_write(wa_spill_sink(s), "01234567", 8, &err), WA_OK);
    sync_fails = syncs = 0;
    return s;
}

static void
what_fits_in_memory_is_given_as_it_is(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    WA_CLEANUP(wa_spill_freep) wa_spill *s = spill_of("/tmp", NULL);
    wa_body body;
    assert_int_equal(wa_spill_body(s, &body, &err), WA_OK);
    assert_int_equal(body.len, 8);
    assert_memory_equal(body.data, "01234567", 8);
    assert_int_equal(syncs, 0);
}

static void
what_overflows_is_synced_before_it_is_given(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    WA_CLEANUP(wa_spill_freep) wa_spill *s = spill_of("/tmp", NULL);
    wa_body body;
    char got[16];
    assert_int_equal(wa_sink_write(wa_spill_sink(s), "89abcdef", 8, &err), WA_OK);
    assert_int_equal(wa_spill_body(s, &body, &err), WA_OK);
    assert_int_equal(syncs, 1);
    assert_null(body.data);
    assert_int_equal(body.len, 16);
    assert_int_equal(pread(body.fd, got, sizeof got, 0), 16);
    assert_memory_equal(got, "0123456789abcdef", 16);
}

static void
what_the_disk_did_not_take_is_not_given(void **state)
{
    (void)state;
    static const int failures[] = {EIO, ENOSPC};
    static const wa_status statuses[] = {WA_IO, WA_NO_SPACE};
    for (size_t i = 0; i < WA_ARRAY_SIZE(failures); i++) {
        wa_error err = WA_ERROR_INIT;
        WA_CLEANUP(wa_spill_freep) wa_spill *s = spill_of("/tmp", NULL);
        wa_body body = {.len = 77};
        assert_int_equal(wa_sink_write(wa_spill_sink(s), "89abcdef", 8, &err), WA_OK);
        sync_fails = failures[i];
        assert_int_equal(wa_spill_body(s, &body, &err), statuses[i]);
        assert_non_null(strstr(err.message, "\"/tmp\""));
        assert_int_equal(syncs, 1);
        assert_int_equal(body.len, 77);
    }
}

/* It syncs a draft when it becomes the object, together with the facts. */
static void
a_draft_is_left_to_its_store(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    char dir[] = "/tmp/wa-sinks-XXXXXX";
    assert_non_null(mkdtemp(dir));
    WA_CLEANUP(wa_freep) char *url = wa_format("file://%s", dir);
    WA_CLEANUP(wa_store_freep) wa_store *store = NULL;
    assert_int_equal(wa_store_open(&(wa_store_options){.url = url}, &store, &err), WA_OK);
    {
        WA_CLEANUP(wa_spill_freep) wa_spill *s = spill_of(dir, store);
        wa_body body;
        assert_int_equal(wa_spill_body(s, &body, &err), WA_OK);
        assert_null(body.data);
        assert_int_equal(syncs, 0);
    }
    assert_int_equal(wa_remove_tree(dir, &err), WA_OK);
}

/* The cache is for the database. */
static void
what_was_put_leaves_the_page_cache_with_its_draft(void **state)
{
    enum { LEN = 16 << 20 };
    (void)state;
    wa_error err = WA_ERROR_INIT;
    char dir[] = "/tmp/wa-sinks-XXXXXX";
    assert_non_null(mkdtemp(dir));
    WA_CLEANUP(wa_freep) char *url = wa_format("file://%s", dir);
    WA_CLEANUP(wa_freep) char *path = wa_path_join(dir, "a/object");
    WA_CLEANUP(wa_freep) char *bytes = wa_calloc(1, LEN);
    WA_CLEANUP(wa_store_freep) wa_store *store = NULL;
    assert_int_equal(wa_store_open(&(wa_store_options){.url = url}, &store, &err), WA_OK);
    WA_CLEANUP(wa_closep) int draft = wa_store_draft(store);
    bool can = draft >= 0 && page_cache_lets_go(dir);
    wa_spill *s = spill_of(dir, store);
    wa_body body;
    assert_int_equal(wa_sink_write(wa_spill_sink(s), bytes, LEN, &err), WA_OK);
    assert_int_equal(wa_spill_body(s, &body, &err), WA_OK);
    assert_int_equal(wa_store_put(store, "a/object", &body, NULL, WA_PUT_CREATE, &err), WA_OK);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    size_t put = pages_in_cache(fd, LEN); /* a mirror may copy it yet */
    wa_spill_free(s);
    size_t left = pages_in_cache(fd, LEN);
    close(fd);
    assert_int_equal(wa_remove_tree(dir, &err), WA_OK);
    if (!can) {
        print_message("skipped: a file system without unnamed files, or that keeps pages\n");
        skip();
    }
    assert_true(put > left);
    /* The end stays, and pages that the kernel keeps together with it. */
    assert_in_range(left * (size_t)sysconf(_SC_PAGESIZE), 0, LEN / 4);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_fits_in_memory_is_given_as_it_is),
        cmocka_unit_test(what_overflows_is_synced_before_it_is_given),
        cmocka_unit_test(what_the_disk_did_not_take_is_not_given),
        cmocka_unit_test(a_draft_is_left_to_its_store),
        cmocka_unit_test(what_was_put_leaves_the_page_cache_with_its_draft),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
