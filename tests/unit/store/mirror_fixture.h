/*
 * tests/unit/store/mirror_fixture.h - a main store with two mirrors, for the tests of the mirrors.
 */
#ifndef WALAGENT_TEST_MIRROR_FIXTURE_H
#define WALAGENT_TEST_MIRROR_FIXTURE_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include "walagent/store/drivers.h"
#include "walagent/store/mirror.h"

#include <stdio.h>
#include <string.h>

#define MIRROR_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
#define MIRRORS 2

/* Each member is a memory store behind a fault driver. */
typedef struct fixture {
    wa_store *store;
    wa_store *members[1 + MIRRORS];
} fixture;

static inline int
set_up(void **state)
{
    fixture *f = wa_calloc(1, sizeof *f);
    for (size_t i = 0; i <= MIRRORS; i++)
        f->members[i] = wa_store_fault_new(wa_store_mem_new());
    wa_mirror mirrors[MIRRORS] = {{f->members[1], "near"}, {f->members[2], "far"}};
    f->store = wa_store_mirror_new(f->members[0], mirrors, MIRRORS);
    *state = f;
    return 0;
}

static inline int
tear_down(void **state)
{
    fixture *f = *state;
    wa_store_free(f->store);
    wa_freep(&f);
    return 0;
}

static inline wa_status
put_as(wa_store *store, const char *key, const char *content, const char *meta, wa_put_mode mode,
       wa_error *err)
{
    wa_body body = {content, strlen(content), -1, 0};
    return wa_store_put(store, key, &body, meta, mode, err);
}

static inline wa_status
put(wa_store *store, const char *key, const char *content)
{
    wa_error err = WA_ERROR_INIT;
    return put_as(store, key, content, NULL, WA_PUT_CREATE, &err);
}

static inline wa_status
get(wa_store *store, const char *key, char out[static 64])
{
    WA_CLEANUP(wa_buf_done) wa_buf got = WA_BUF_INIT(63);
    wa_error err = WA_ERROR_INIT;
    WA_TRY(wa_store_get(store, key, 0, UINT64_MAX, &got, NULL, &err));
    (void)snprintf(out, 64, "%s", wa_buf_str(&got));
    return WA_OK;
}

static inline void
assert_holds(wa_store *store, const char *key, const char *content)
{
    char text[64];
    assert_int_equal(get(store, key, text), WA_OK);
    assert_string_equal(text, content);
}

static inline void
assert_absent(wa_store *store, const char *key)
{
    char text[64];
    assert_int_equal(get(store, key, text), WA_NOT_FOUND);
}

static inline wa_status
collect(void *arg, const wa_object *object, wa_error *err)
{
    (void)err;
    wa_strv_add(arg, object->key);
    return WA_OK;
}

static inline wa_status
list(wa_store *store, wa_strv *ret)
{
    wa_error err = WA_ERROR_INIT;
    wa_strv_done(ret);
    *ret = (wa_strv){0};
    return wa_store_list(store, &(wa_list_options){.prefix = ""}, collect, ret, &err);
}

#endif
