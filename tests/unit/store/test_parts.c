/*
 * tests/unit/store/test_parts.c - how many parts an upload may have: S3's limit is S3's alone.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include "driver_internal.h"

#include "walagent/base/file.h"
#include "walagent/store/drivers.h"
#include "walagent/store/store.h"

#include <stdlib.h>

#define S3_PARTS 10000u
#define S3_PART_BYTES (UINT64_C(8) * 1024 * 1024)
#define PART 3u

#define OK(call)                                                                                   \
    do {                                                                                           \
        if ((call) != WA_OK)                                                                       \
            fail_msg("%s", err.message);                                                           \
    } while (0)

static wa_store *
file_store(const char *dir)
{
    wa_error err = WA_ERROR_INIT;
    wa_store *store = NULL;
    WA_CLEANUP(wa_freep) char *url = wa_format("file://%s", dir);
    wa_store_options options = {.url = url};
    OK(wa_store_open(&options, &store, &err));
    return store;
}

/* An object of `count` parts has the bytes of them all, in order. */
static void
takes(wa_store *store, unsigned count)
{
    wa_error err = WA_ERROR_INIT;
    WA_CLEANUP(wa_upload_freep) wa_upload *u = NULL;
    WA_CLEANUP(wa_buf_done) wa_buf got = WA_BUF_INIT(2 * PART * S3_PARTS);
    WA_CLEANUP(wa_freep) uint8_t *data = wa_malloc(count * (size_t)PART);
    for (size_t i = 0; i < count * (size_t)PART; i++)
        data[i] = (uint8_t)(i * 2654435761u >> 13);
    OK(wa_upload_begin(store, "big", NULL, PART, &u, &err));
    for (unsigned n = 1; n <= count; n++)
        OK(wa_upload_part(u, n, data + (n - 1) * (size_t)PART, PART, &err));
    OK(wa_upload_commit(u, &err));
    OK(wa_store_get(store, "big", 0, UINT64_MAX, &got, NULL, &err));
    assert_int_equal(got.len, count * (size_t)PART);
    assert_memory_equal(got.data, data, got.len);
}

static void
refuses(wa_store *store, unsigned number)
{
    wa_error err = WA_ERROR_INIT;
    WA_CLEANUP(wa_upload_freep) wa_upload *u = NULL;
    OK(wa_upload_begin(store, "big", NULL, PART, &u, &err));
    assert_int_equal(wa_upload_part(u, number, "abc", PART, &err), WA_INVALID);
}

static void
memory_takes_more_parts_than_s3(void **state)
{
    (void)state;
    WA_CLEANUP(wa_store_freep) wa_store *store = wa_store_mem_new();
    takes(store, S3_PARTS + 1);
    refuses(store, 0);
    refuses(store, WA_STORE_PARTS_MAX + 1);
}

static void
a_directory_takes_more_parts_than_s3(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    char dir[] = "/tmp/walagent-parts-XXXXXX";
    assert_non_null(mkdtemp(dir));
    {
        WA_CLEANUP(wa_store_freep) wa_store *store = file_store(dir);
        takes(store, S3_PARTS + 1);
        refuses(store, 0);
        refuses(store, WA_STORE_PARTS_MAX + 1);
        /* An object may be as large as one of S3 at least. */
        uint64_t part = wa_store_get_traits(store)->part_size;
        assert_true(part * WA_STORE_PARTS_MAX >= S3_PARTS * S3_PART_BYTES);
    }
    OK(wa_remove_tree(dir, &err));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_takes_more_parts_than_s3),
        cmocka_unit_test(a_directory_takes_more_parts_than_s3),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
