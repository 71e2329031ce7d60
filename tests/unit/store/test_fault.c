/*
 * tests/unit/store/test_fault.c - the fault driver does what it says, and the sink lives with it.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include "walagent/base/file.h"
#include "walagent/store/drivers.h"
#include "walagent/store/store.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int
set_up(void **state)
{
    *state = wa_store_fault_new(wa_store_mem_new());
    return 0;
}

static int
tear_down(void **state)
{
    wa_store_free(*state);
    return 0;
}

static wa_status
put(wa_store *store, const char *key, const char *content)
{
    wa_body body = {content, strlen(content), -1, 0};
    wa_error err = WA_ERROR_INIT;
    return wa_store_put(store, key, &body, NULL, WA_PUT_CREATE, &err);
}

static wa_status
get(wa_store *store, const char *key, char *out, size_t size)
{
    WA_CLEANUP(wa_buf_done) wa_buf got = WA_BUF_INIT(1000);
    wa_error err = WA_ERROR_INIT;
    WA_TRY(wa_store_get(store, key, 0, UINT64_MAX, &got, NULL, &err));
    (void)snprintf(out, size, "%s", wa_buf_str(&got));
    return WA_OK;
}

/* A directory below a fault driver. */
typedef struct directory {
    char path[64];
    wa_store *store;
} directory;

static void
open_directory(directory *d)
{
    wa_error err = WA_ERROR_INIT;
    wa_store *inner = NULL;
    (void)snprintf(d->path, sizeof d->path, "/tmp/walagent-fault-XXXXXX");
    assert_non_null(mkdtemp(d->path));
    WA_CLEANUP(wa_freep) char *url = wa_format("file://%s", d->path);
    wa_store_options options = {.url = url};
    assert_int_equal(wa_store_open(&options, &inner, &err), WA_OK);
    d->store = wa_store_fault_new(inner);
}

static void
close_directory(directory *d)
{
    wa_error err = WA_ERROR_INIT;
    wa_store_free(d->store);
    assert_int_equal(wa_remove_tree(d->path, &err), WA_OK);
}

static void
count_one(void *arg)
{
    ++*(unsigned *)arg;
}

static void
drafts_are_those_of_the_store_inside(void **state)
{
    wa_error err = WA_ERROR_INIT;
    unsigned asked = 0;
    directory d;
    char text[8];
    assert_int_equal(wa_store_draft(*state), -1); /* mem has none */
    open_directory(&d);
    wa_store_fault_before_each(d.store, "draft", count_one, &asked);
    wa_store_fault_set(d.store, "draft", 2, 0, WA_FAULT_FAIL);
    WA_CLEANUP(wa_closep) int draft = wa_store_draft(d.store);
    if (draft < 0) {
        close_directory(&d);
        skip(); /* of this file system neither */
    }
    assert_int_equal(wa_store_draft(d.store), -1);
    assert_int_equal(asked, 2);
    assert_int_equal(wa_store_draft_write(d.store, draft, 0, "1", 1, &err), WA_OK);
    wa_body body = {.fd = draft, .len = 1};
    assert_int_equal(wa_store_put(d.store, "a", &body, NULL, WA_PUT_CREATE, &err), WA_OK);
    assert_int_equal(get(d.store, "a", text, sizeof text), WA_OK);
    assert_string_equal(text, "1");
    close_directory(&d);
}

/* What the put has come to when it is its turn. */
typedef struct turn {
    directory *d;
    unsigned files; /* in the directory: written, under a temporary name */
    wa_status answer;
} turn;

static wa_status
at_its_turn(void *arg, wa_error *err)
{
    turn *t = arg;
    DIR *dir = opendir(t->d->path);
    assert_non_null(dir);
    t->files = 0;
    for (struct dirent *e = readdir(dir); e != NULL; e = readdir(dir))
        t->files += strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
    closedir(dir);
    return t->answer == WA_OK ? WA_OK : wa_error_set(err, t->answer, "not now");
}

static wa_status
put_when(turn *t, const char *key, const char *content)
{
    wa_body body = {content, strlen(content), -1, 0};
    wa_error err = WA_ERROR_INIT;
    return wa_store_put_when(t->d->store, key, &body, NULL, WA_PUT_CREATE, at_its_turn, t, &err);
}

static void
a_put_that_waits_for_its_turn_meets_its_fault_then(void **state)
{
    (void)state;
    directory d;
    turn t = {.d = &d};
    char text[8];
    open_directory(&d);
    wa_store_fault_set(d.store, "put", 1, 0, WA_FAULT_FAIL);
    assert_int_equal(put_when(&t, "a", "1"), WA_UNAVAILABLE);
    assert_int_equal(t.files, 1); /* the store inside had written it */
    assert_int_equal(get(d.store, "a", text, sizeof text), WA_NOT_FOUND);
    t.answer = WA_CANCELLED;
    wa_store_fault_set(d.store, "put", 1, 0, WA_FAULT_FAIL);
    assert_int_equal(put_when(&t, "a", "1"), WA_CANCELLED);
    assert_int_equal(wa_store_fault_hits(d.store), 0);
    t.answer = WA_OK;
    wa_store_fault_set(d.store, "put", 1, 0, WA_FAULT_LOSE_REPLY);
    assert_int_equal(put_when(&t, "a", "1"), WA_UNAVAILABLE);
    assert_int_equal(put_when(&t, "a", "2"), WA_EXISTS);
    wa_store_fault_set(d.store, "put", 1, 0, WA_FAULT_OVERWRITE);
    assert_int_equal(put_when(&t, "a", "3"), WA_OK);
    assert_int_equal(get(d.store, "a", text, sizeof text), WA_OK);
    assert_string_equal(text, "3");
    close_directory(&d);
}

static void
the_nth_call_fails_and_nothing_happens(void **state)
{
    wa_store *store = *state;
    wa_store_fault_set(store, "put", 2, 0, WA_FAULT_FAIL);
    assert_int_equal(put(store, "a", "1"), WA_OK);
    assert_int_equal(put(store, "b", "2"), WA_UNAVAILABLE);
    assert_int_equal(wa_store_fault_hits(store), 1);
    assert_int_equal(put(store, "b", "3"), WA_OK);
    char text[8];
    assert_int_equal(get(store, "b", text, sizeof text), WA_OK);
    assert_string_equal(text, "3");
}

static void
faults_are_repeated_as_often_as_asked(void **state)
{
    wa_store *store = *state;
    wa_store_fault_set(store, "any", 1, 2, WA_FAULT_DENY);
    for (int i = 0; i < 3; i++)
        assert_int_equal(put(store, "a", "1"), WA_DENIED);
    assert_int_equal(put(store, "a", "1"), WA_OK);
    assert_int_equal(wa_store_fault_hits(store), 3);
}

static void
a_lost_reply_means_that_the_put_took_place(void **state)
{
    wa_store *store = *state;
    wa_store_fault_set(store, "put", 1, 0, WA_FAULT_LOSE_REPLY);
    assert_int_equal(put(store, "a", "1"), WA_UNAVAILABLE);
    assert_int_equal(put(store, "a", "1"), WA_EXISTS);
}

static void
a_torn_get_gives_the_caller_nothing(void **state)
{
    wa_store *store = *state;
    char text[16] = "untouched";
    assert_int_equal(put(store, "a", "0123456789"), WA_OK);
    wa_store_fault_set(store, "get", 1, 0, WA_FAULT_TEAR);
    assert_int_equal(get(store, "a", text, sizeof text), WA_UNAVAILABLE);
    assert_string_equal(text, "untouched");
}

static void
a_torn_get_has_delivered_half_to_a_sink(void **state)
{
    wa_store *store = *state;
    assert_int_equal(put(store, "a", "0123456789"), WA_OK);
    wa_store_fault_set(store, "get", 1, 0, WA_FAULT_TEAR);
    WA_CLEANUP(wa_buf_done) wa_buf got = WA_BUF_INIT(100);
    WA_CLEANUP(wa_sink_freep) wa_sink *sink = wa_sink_to_buf(&got);
    wa_error err = WA_ERROR_INIT;
    assert_int_equal(wa_store_get_to(store, "a", sink, &err), WA_UNAVAILABLE);
    assert_string_equal(wa_buf_str(&got), "01234");
}

static void
a_flipped_get_differs_in_one_bit(void **state)
{
    wa_store *store = *state;
    char text[16];
    assert_int_equal(put(store, "a", "0123"), WA_OK);
    wa_store_fault_set(store, "get", 1, 0, WA_FAULT_FLIP);
    assert_int_equal(get(store, "a", text, sizeof text), WA_OK);
    assert_int_equal(text[0], '0' ^ 0x10);
    assert_string_equal(text + 1, "123");
}

static wa_status
count_object(void *arg, const wa_object *object, wa_error *err)
{
    (void)object;
    (void)err;
    (*(size_t *)arg)++;
    return WA_OK;
}

static void
a_truncated_listing_fails_after_half(void **state)
{
    wa_store *store = *state;
    char key[16];
    for (int i = 0; i < 10; i++) {
        (void)snprintf(key, sizeof key, "%d", i);
        assert_int_equal(put(store, key, "x"), WA_OK);
    }
    wa_store_fault_set(store, "list", 1, 0, WA_FAULT_TRUNCATE_LIST);
    size_t count = 0;
    wa_error err = WA_ERROR_INIT;
    wa_list_options all = {.prefix = ""};
    assert_int_equal(wa_store_list(store, &all, count_object, &count, &err), WA_UNAVAILABLE);
    assert_int_equal(count, 5);
}

/* Write three and a half parts through a sink with two threads. */
static wa_status
write_object(wa_store *store, size_t len, wa_error *err)
{
    static const char block[65536];
    WA_CLEANUP(wa_sink_freep) wa_sink *sink = NULL;
    WA_TRY(wa_store_sink_new(store, "big", "{}", 2, &sink, err));
    for (size_t at = 0; at < len; at += sizeof block)
        WA_TRY(wa_sink_write(sink, block, sizeof block, err));
    return wa_sink_finish(sink, err);
}

static void
a_sink_that_fails_at_any_request_leaves_no_object(void **state)
{
    wa_store *store = *state;
    size_t len = (size_t)wa_store_get_traits(store)->part_size * 7 / 2;
    static const char *const kinds[] = {"upload_begin", "upload_part", "upload_commit"};
    for (size_t kind = 0; kind < WA_ARRAY_SIZE(kinds); kind++) {
        for (unsigned n = 1;; n++) {
            wa_error err = WA_ERROR_INIT, head_err = WA_ERROR_INIT;
            wa_store_fault_set(store, kinds[kind], n, 0, WA_FAULT_FAIL);
            wa_status status = write_object(store, len, &err);
            unsigned hits = wa_store_fault_hits(store);
            wa_store_fault_set(store, "any", 0, 0, WA_FAULT_FAIL);
            uint64_t size = 0;
            wa_status there = wa_store_head(store, "big", &size, NULL, NULL, &head_err);
            if (hits == 0) {
                assert_int_equal(status, WA_OK);
                assert_int_equal(there, WA_OK);
                assert_int_equal(size, len);
                assert_true(n > 1);
                break;
            }
            assert_int_equal(status, WA_UNAVAILABLE);
            assert_int_equal(there, WA_NOT_FOUND);
        }
        WA_CLEANUP(wa_strv_done) wa_strv keys = {0};
        wa_strv_add(&keys, "big");
        wa_error err = WA_ERROR_INIT;
        assert_int_equal(wa_store_delete(store, &keys, &err), WA_OK);
    }
}

static void
a_small_sink_is_one_request(void **state)
{
    wa_store *store = *state;
    wa_error err = WA_ERROR_INIT;
    uint64_t before = wa_store_requests(store, "put");
    assert_int_equal(write_object(store, 65536, &err), WA_OK);
    assert_int_equal(wa_store_requests(store, "put"), before + 1);
}

static void
a_probe_reaches_the_store_inside(void **state)
{
    wa_store *store = *state;
    bool conditional = false;
    wa_error err = WA_ERROR_INIT;
    wa_store_set_conditional(store, false);
    assert_int_equal(wa_store_probe(store, "p/", &conditional, &err), WA_OK);
    assert_true(conditional);
    assert_true(wa_store_get_traits(store)->conditional_put);
    wa_store_set_conditional(store, false);
    wa_store_fault_set(store, "put", 2, 0, WA_FAULT_FAIL);
    assert_int_equal(wa_store_probe(store, "p/", &conditional, &err), WA_UNAVAILABLE);
    assert_false(wa_store_get_traits(store)->conditional_put);
    size_t count = 0;
    wa_list_options all = {.prefix = ""};
    assert_int_equal(wa_store_list(store, &all, count_object, &count, &err), WA_OK);
    assert_int_equal(count, 0);
}

static void
unknown_urls_are_refused_with_a_hint(void **state)
{
    (void)state;
    static const char *const urls[] = {"", "ftp://x/y", "/plain/path", "file://relative/path",
                                       "file:///"};
    for (size_t i = 0; i < WA_ARRAY_SIZE(urls); i++) {
        wa_store_options options = {.url = urls[i]};
        wa_store *store = NULL;
        wa_error err = WA_ERROR_INIT;
        assert_int_equal(wa_store_open(&options, &store, &err), WA_INVALID);
        assert_null(store);
        assert_true(err.message[0] != '\0');
    }
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_nth_call_fails_and_nothing_happens),
        TEST(faults_are_repeated_as_often_as_asked),
        TEST(a_lost_reply_means_that_the_put_took_place),
        TEST(a_torn_get_gives_the_caller_nothing),
        TEST(a_torn_get_has_delivered_half_to_a_sink),
        TEST(a_flipped_get_differs_in_one_bit),
        TEST(a_truncated_listing_fails_after_half),
        TEST(a_sink_that_fails_at_any_request_leaves_no_object),
        TEST(a_small_sink_is_one_request),
        TEST(a_probe_reaches_the_store_inside),
        TEST(drafts_are_those_of_the_store_inside),
        TEST(a_put_that_waits_for_its_turn_meets_its_fault_then),
        TEST(unknown_urls_are_refused_with_a_hint),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
