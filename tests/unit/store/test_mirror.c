/*
 * tests/unit/store/test_mirror.c - a main store and its mirrors: what is durable where, when.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include "mirror_fixture.h"

#include "walagent/base/file.h"

#include <stdlib.h>

/* ---- writes ---- */

static void
a_put_is_in_every_member(void **state)
{
    fixture *f = *state;
    wa_error err = WA_ERROR_INIT;
    assert_int_equal(put_as(f->store, "a", "1", "{\"v\":1}", WA_PUT_CREATE, &err), WA_OK);
    for (size_t i = 0; i <= MIRRORS; i++) {
        WA_CLEANUP(wa_freep) char *meta = NULL;
        assert_holds(f->members[i], "a", "1");
        assert_int_equal(wa_store_head(f->members[i], "a", NULL, NULL, &meta, &err), WA_OK);
        assert_string_equal(meta, "{\"v\":1}");
    }
}

static void
what_the_main_store_refuses_is_in_no_mirror(void **state)
{
    fixture *f = *state;
    wa_store_fault_set(f->members[0], "put", 1, 0, WA_FAULT_FAIL);
    assert_int_equal(put(f->store, "a", "1"), WA_UNAVAILABLE);
    assert_absent(f->members[1], "a");
    assert_absent(f->members[2], "a");
}

/* At whichever call it fails: the put is no success, and its repetition completes every mirror. */
static void
a_put_that_failed_anywhere_is_completed_by_its_repetition(void **state)
{
    (void)state;
    static const wa_fault faults[] = {WA_FAULT_FAIL, WA_FAULT_LOSE_REPLY, WA_FAULT_DENY};
    for (size_t kind = 0; kind < WA_ARRAY_SIZE(faults); kind++)
        for (size_t member = 0; member <= MIRRORS; member++) {
            void *own = NULL;
            set_up(&own);
            fixture *f = own;
            wa_error err = WA_ERROR_INIT;
            wa_store_fault_set(f->members[member], "put", 1, 0, faults[kind]);
            wa_status status = put_as(f->store, "a", "1", NULL, WA_PUT_CREATE, &err);
            assert_int_not_equal(status, WA_OK);
            if (member > 0)
                assert_non_null(
                    strstr(err.message, member == 1 ? "mirror \"near\"" : "mirror \"far\""));
            status = put(f->store, "a", "1");
            bool in_main = member > 0 || faults[kind] == WA_FAULT_LOSE_REPLY;
            assert_int_equal(status, in_main ? WA_EXISTS : WA_OK);
            for (size_t i = 0; i <= MIRRORS; i++)
                assert_holds(f->members[i], "a", "1");
            tear_down(&own);
        }
}

static void
exists_is_not_said_while_a_mirror_lacks_the_object(void **state)
{
    fixture *f = *state;
    assert_int_equal(put(f->members[0], "a", "1"), WA_OK); /* killed behind the main store */
    wa_store_fault_set(f->members[2], "put", 1, 0, WA_FAULT_FAIL);
    assert_int_equal(put(f->store, "a", "other"), WA_UNAVAILABLE);
    assert_int_equal(put(f->store, "a", "other"), WA_EXISTS);
    for (size_t i = 0; i <= MIRRORS; i++)
        assert_holds(f->members[i], "a", "1"); /* the winner's bytes, not the loser's */
}

static void
other_bytes_in_a_mirror_are_kept_and_named(void **state)
{
    fixture *f = *state;
    wa_error err = WA_ERROR_INIT;
    assert_int_equal(put(f->members[2], "a", "X"), WA_OK);
    for (int again = 0; again < 2; again++) {
        assert_int_equal(put_as(f->store, "a", "1", NULL, WA_PUT_CREATE, &err), WA_FAILED);
        assert_non_null(strstr(err.message, "\"far\""));
        assert_non_null(strstr(err.message, "\"a\""));
        assert_holds(f->members[2], "a", "X");
    }
}

static void
other_bytes_of_the_same_facts_are_told_apart_by_their_hash_only(void **state)
{
    fixture *f = *state;
    wa_error err = WA_ERROR_INIT;
    /* the same public facts without a hash say nothing about the content */
    assert_int_equal(put_as(f->members[1], "a", "X", "{\"v\":1}", WA_PUT_CREATE, &err), WA_OK);
    assert_int_equal(put_as(f->store, "a", "1", "{\"v\":1}", WA_PUT_CREATE, &err), WA_FAILED);
}

static void
a_copy_without_its_facts_gets_them(void **state)
{
    fixture *f = *state;
    wa_error err = WA_ERROR_INIT;
    WA_CLEANUP(wa_freep) char *meta = NULL;
    assert_int_equal(put(f->members[1], "a", "1"), WA_OK);
    assert_int_equal(put_as(f->store, "a", "1", "{\"v\":1}", WA_PUT_CREATE, &err), WA_OK);
    assert_int_equal(wa_store_head(f->members[1], "a", NULL, NULL, &meta, &err), WA_OK);
    assert_string_equal(meta, "{\"v\":1}");
}

static void
a_delete_reaches_every_member(void **state)
{
    fixture *f = *state;
    wa_error err = WA_ERROR_INIT;
    WA_CLEANUP(wa_strv_done) wa_strv keys = {0};
    assert_int_equal(put(f->store, "a", "1"), WA_OK);
    wa_strv_add(&keys, "a");
    assert_int_equal(wa_store_delete(f->store, &keys, &err), WA_OK);
    for (size_t i = 0; i <= MIRRORS; i++)
        assert_absent(f->members[i], "a");
    assert_int_equal(put(f->store, "a", "2"), WA_OK);
    assert_holds(f->members[2], "a", "2");
}

static void
an_upload_is_in_every_member_and_counts_only_then(void **state)
{
    fixture *f = *state;
    static const wa_fault faults[] = {WA_FAULT_FAIL, WA_FAULT_LOSE_REPLY};
    for (size_t member = 0; member <= MIRRORS; member++)
        for (size_t kind = 0; kind < WA_ARRAY_SIZE(faults); kind++) {
            wa_error err = WA_ERROR_INIT;
            WA_CLEANUP(wa_upload_freep) wa_upload *upload = NULL;
            assert_int_equal(wa_upload_begin(f->store, "pack", NULL, 4, &upload, &err), WA_OK);
            assert_int_equal(wa_upload_part(upload, 1, "abcd", 4, &err), WA_OK);
            assert_int_equal(wa_upload_part(upload, 2, "ef", 2, &err), WA_OK);
            wa_store_fault_set(f->members[member], "upload_commit", 1, 0, faults[kind]);
            assert_int_equal(wa_upload_commit(upload, &err), WA_UNAVAILABLE);
        }
    wa_error err = WA_ERROR_INIT;
    WA_CLEANUP(wa_upload_freep) wa_upload *upload = NULL;
    assert_int_equal(wa_upload_begin(f->store, "whole", NULL, 4, &upload, &err), WA_OK);
    assert_int_equal(wa_upload_part(upload, 1, "abcd", 4, &err), WA_OK);
    assert_int_equal(wa_upload_commit(upload, &err), WA_OK);
    for (size_t i = 0; i <= MIRRORS; i++)
        assert_holds(f->members[i], "whole", "abcd");
}

static void
a_probe_leaves_nothing_and_the_main_store_answers_it(void **state)
{
    fixture *f = *state;
    wa_error err = WA_ERROR_INIT;
    bool conditional = true;
    wa_store_fault_set(f->members[0], "put", 2, 0, WA_FAULT_OVERWRITE);
    assert_int_equal(wa_store_probe(f->store, "probe/", &conditional, &err), WA_OK);
    assert_false(conditional);
    wa_store_fault_set(f->members[1], "put", 2, 0, WA_FAULT_OVERWRITE);
    assert_int_equal(wa_store_probe(f->store, "probe/", &conditional, &err), WA_OK);
    assert_true(conditional);
    wa_store_fault_set(f->members[2], "put", 1, 0, WA_FAULT_DENY);
    assert_int_equal(wa_store_probe(f->store, "probe/", &conditional, &err), WA_DENIED);
}

/* ---- what must be there first ---- */

static void
a_mirror_without_the_entry_is_not_written_to(void **state)
{
    fixture *f = *state;
    wa_error err = WA_ERROR_INIT;
    assert_int_equal(put(f->members[0], "entry", "E"), WA_OK);
    assert_int_equal(put(f->members[1], "entry", "E"), WA_OK);
    wa_store_mirror_require(f->store, "entry");
    assert_int_equal(put_as(f->store, "a", "1", NULL, WA_PUT_CREATE, &err), WA_FAILED);
    assert_non_null(strstr(err.hint, "walagent mirror"));
    assert_absent(f->members[0], "a");
    assert_int_equal(put(f->members[2], "entry", "other"), WA_OK);
    assert_int_equal(put_as(f->store, "a", "1", NULL, WA_PUT_CREATE, &err), WA_INVALID);
    assert_non_null(strstr(err.message, "another archive"));
    WA_CLEANUP(wa_strv_done) wa_strv keys = {0};
    wa_strv_add(&keys, "entry");
    assert_int_equal(wa_store_delete(f->members[2], &keys, &err), WA_OK);
    assert_int_equal(put(f->members[2], "entry", "E"), WA_OK);
    assert_int_equal(put(f->store, "a", "1"), WA_OK);
}

/* ---- reads ---- */

static void
a_read_falls_back_when_the_main_store_fails_and_says_so(void **state)
{
    fixture *f = *state;
    static const wa_fault faults[] = {WA_FAULT_FAIL, WA_FAULT_DENY, WA_FAULT_TEAR};
    assert_int_equal(put(f->store, "a", "123456"), WA_OK);
    for (size_t i = 0; i < WA_ARRAY_SIZE(faults); i++) {
        wa_store_fault_set(f->members[0], "get", 1, 0, faults[i]);
        assert_holds(f->store, "a", "123456");
        assert_int_equal(wa_store_mirror_served(f->store), i + 1);
    }
    wa_member_status status;
    wa_store_member_status(f->store, 1, &status);
    assert_int_equal(status.served, 3);
    assert_string_equal(status.name, "near");
    wa_store_member_status(f->store, 0, &status);
    assert_false(status.up);
    assert_non_null(strstr(status.last_error, "test fault"));
}

static void
a_range_and_a_tail_that_break_off_go_on_in_a_mirror(void **state)
{
    fixture *f = *state;
    wa_error err = WA_ERROR_INIT;
    assert_int_equal(put(f->store, "a", "0123456789"), WA_OK);
    for (uint64_t len = 1; len <= 10; len++) {
        uint64_t size = 0;
        WA_CLEANUP(wa_buf_done) wa_buf got = WA_BUF_INIT(20);
        wa_store_fault_set(f->members[0], "get", 1, 0, WA_FAULT_TEAR);
        assert_int_equal(wa_store_get(f->store, "a", 10 - len, len, &got, NULL, &err), WA_OK);
        assert_string_equal(wa_buf_str(&got), &"0123456789"[10 - len]);
        wa_buf_reset(&got);
        wa_store_fault_set(f->members[0], "get", 1, 0, WA_FAULT_TEAR);
        wa_store_fault_set(f->members[1], "any", 1, 3, WA_FAULT_FAIL);
        assert_int_equal(wa_store_get_tail(f->store, "a", len, &got, &size, NULL, &err), WA_OK);
        assert_string_equal(wa_buf_str(&got), &"0123456789"[10 - len]);
        assert_int_equal(size, 10);
        wa_store_fault_set(f->members[1], "any", 0, 0, WA_FAULT_FAIL);
    }
}

static void
absence_is_said_by_the_main_store_only(void **state)
{
    fixture *f = *state;
    char text[64];
    assert_int_equal(put(f->members[1], "b", "only here"), WA_OK);
    assert_int_equal(get(f->store, "b", text), WA_NOT_FOUND);
    wa_store_fault_set(f->members[0], "any", 1, 9, WA_FAULT_FAIL);
    assert_int_equal(get(f->store, "a", text), WA_UNAVAILABLE);
    wa_error err = WA_ERROR_INIT;
    assert_int_equal(wa_store_head(f->store, "a", NULL, NULL, NULL, &err), WA_UNAVAILABLE);
    assert_int_equal(wa_store_mirror_served(f->store), 0);
}

static void
a_listing_falls_back_only_when_asked_and_never_halfway(void **state)
{
    fixture *f = *state;
    WA_CLEANUP(wa_strv_done) wa_strv keys = {0};
    assert_int_equal(put(f->store, "a", "1"), WA_OK);
    assert_int_equal(put(f->store, "b", "1"), WA_OK);
    wa_store_fault_set(f->members[0], "list", 1, 0, WA_FAULT_DENY);
    assert_int_equal(list(f->store, &keys), WA_DENIED);
    wa_store_mirror_list_anywhere(f->store);
    wa_store_fault_set(f->members[0], "list", 1, 0, WA_FAULT_DENY);
    assert_int_equal(list(f->store, &keys), WA_OK);
    assert_int_equal(keys.count, 2);
    assert_int_equal(wa_store_mirror_served(f->store), 1);
    wa_store_fault_set(f->members[0], "list", 1, 0, WA_FAULT_TRUNCATE_LIST);
    assert_int_equal(list(f->store, &keys), WA_UNAVAILABLE);
    /* which is remembered for a while: now the mirrors are asked first */
    wa_store_fault_set(f->members[0], "any", 1, 99, WA_FAULT_FAIL);
    assert_int_equal(list(f->store, &keys), WA_OK);
    assert_int_equal(wa_store_fault_hits(f->members[0]), 0);
}

/* ---- strict: whoever acknowledges on what it reads ---- */

static void
a_strict_reader_finds_only_what_every_mirror_has(void **state)
{
    fixture *f = *state;
    wa_error err = WA_ERROR_INIT;
    WA_CLEANUP(wa_strv_done) wa_strv keys = {0};
    char text[64];
    wa_store_mirror_be_strict(f->store);
    static const char *const left[] = {"head", "get", "t/1", "t/2", "t/3"};
    for (size_t i = 0; i < WA_ARRAY_SIZE(left); i++)
        assert_int_equal(put(f->members[0], left[i], "left"), WA_OK);
    assert_int_equal(put(f->members[1], "t/2", "left"), WA_OK);
    wa_store_fault_set(f->members[2], "any", 1, 99, WA_FAULT_FAIL);
    assert_int_equal(wa_store_head(f->store, "head", NULL, NULL, NULL, &err), WA_UNAVAILABLE);
    assert_int_equal(get(f->store, "get", text), WA_UNAVAILABLE);
    assert_int_equal(list(f->store, &keys), WA_UNAVAILABLE);
    assert_int_equal(keys.count, 0);
    wa_store_fault_set(f->members[2], "any", 0, 0, WA_FAULT_FAIL);
    assert_int_equal(wa_store_head(f->store, "head", NULL, NULL, NULL, &err), WA_OK);
    assert_int_equal(get(f->store, "get", text), WA_OK);
    assert_int_equal(list(f->store, &keys), WA_OK);
    assert_int_equal(keys.count, WA_ARRAY_SIZE(left));
    for (size_t i = 1; i <= MIRRORS; i++)
        for (size_t k = 0; k < WA_ARRAY_SIZE(left); k++)
            assert_holds(f->members[i], left[k], "left");
}

static void
a_strict_reader_is_never_served_by_a_mirror(void **state)
{
    fixture *f = *state;
    char text[64];
    assert_int_equal(put(f->store, "a", "1"), WA_OK);
    wa_store_mirror_be_strict(f->store);
    wa_store_fault_set(f->members[0], "get", 1, 0, WA_FAULT_FAIL);
    assert_int_equal(get(f->store, "a", text), WA_UNAVAILABLE);
    assert_int_equal(wa_store_mirror_served(f->store), 0);
}

static void
a_strict_reader_meets_other_bytes_in_a_mirror(void **state)
{
    fixture *f = *state;
    WA_CLEANUP(wa_strv_done) wa_strv keys = {0};
    char text[64];
    wa_store_mirror_be_strict(f->store);
    assert_int_equal(put(f->members[0], "a", "1"), WA_OK);
    assert_int_equal(put(f->members[1], "a", "2"), WA_OK);
    assert_int_equal(get(f->store, "a", text), WA_FAILED);
    assert_int_equal(put(f->members[0], "b", "1"), WA_OK);
    assert_int_equal(put(f->members[1], "b", "longer"), WA_OK);
    assert_int_equal(list(f->store, &keys), WA_FAILED);
}

static wa_status
first_two(void *arg, const wa_object *object, wa_error *err)
{
    wa_strv *keys = arg;
    (void)err;
    wa_strv_add(keys, object->key);
    return keys->count == 2 ? WA_CANCELLED : WA_OK;
}

static void
a_strict_listing_keeps_its_order_pages_and_end(void **state)
{
    fixture *f = *state;
    wa_error err = WA_ERROR_INIT;
    WA_CLEANUP(wa_strv_done) wa_strv keys = {0};
    wa_store_mirror_be_strict(f->store);
    for (int i = 0; i < 40; i++) {
        WA_CLEANUP(wa_freep) char *key = wa_format("d/%02d/x", i);
        assert_int_equal(put(i % 3 == 0 ? f->members[0] : f->store, key, "1"), WA_OK);
        if (i % 5 == 0) {
            WA_CLEANUP(wa_freep) char *extra = wa_format("d/%02d/y", i);
            assert_int_equal(put(f->members[1], extra, "a mirror's alone"), WA_OK);
        }
    }
    for (size_t page = 1; page <= 41; page += 5) {
        wa_list_options options = {.prefix = "d/", .page = page};
        wa_strv_done(&keys);
        keys = (wa_strv){0};
        assert_int_equal(wa_store_list(f->store, &options, collect, &keys, &err), WA_OK);
        assert_int_equal(keys.count, 40);
        for (int i = 0; i < 40; i++) {
            WA_CLEANUP(wa_freep) char *key = wa_format("d/%02d/x", i);
            assert_string_equal(keys.items[i], key);
            assert_holds(f->members[2], key, "1");
        }
        options.delimited = true;
        options.after = "d/37/";
        wa_strv_done(&keys);
        keys = (wa_strv){0};
        assert_int_equal(wa_store_list(f->store, &options, first_two, &keys, &err), WA_OK);
        assert_int_equal(keys.count, 2);
        assert_string_equal(keys.items[0], "d/38/");
    }
}

static void
a_strict_listing_of_a_mirror_that_lacks_much_asks_for_a_copy(void **state)
{
    fixture *f = *state;
    wa_error err = WA_ERROR_INIT;
    WA_CLEANUP(wa_strv_done) wa_strv keys = {0};
    wa_store_mirror_be_strict(f->store);
    for (int i = 0; i < 1500; i++) {
        WA_CLEANUP(wa_freep) char *key = wa_format("w/%04d", i);
        assert_int_equal(put(f->members[0], key, "1"), WA_OK);
    }
    wa_list_options options = {.prefix = "w/"};
    assert_int_equal(wa_store_list(f->store, &options, collect, &keys, &err), WA_UNAVAILABLE);
    assert_non_null(strstr(err.hint, "walagent mirror"));
}

/* ---- copying ---- */

static void
an_object_larger_than_a_part_is_copied_whole(void **state)
{
    fixture *f = *state;
    wa_error err = WA_ERROR_INIT;
    size_t len = 3 * 1024 * 1024 + 17; /* a part of the memory store has 1 MiB */
    WA_CLEANUP(wa_freep) char *data = wa_malloc(len);
    for (size_t i = 0; i < len; i++)
        data[i] = (char)(i * 2654435761u >> 13);
    wa_body body = {data, len, -1, 0};
    assert_int_equal(wa_store_put(f->members[0], "big", &body, "{\"v\":1}", WA_PUT_CREATE, &err),
                     WA_OK);
    wa_store_fault_set(f->members[0], "get", 1, 0, WA_FAULT_TEAR);
    assert_int_equal(wa_store_mirror_complete(f->store, "big", &err), WA_UNAVAILABLE);
    assert_absent(f->members[1], "big");
    assert_int_equal(wa_store_mirror_complete(f->store, "big", &err), WA_OK);
    for (size_t i = 1; i <= MIRRORS; i++) {
        bool same = false;
        WA_CLEANUP(wa_buf_done) wa_buf got = WA_BUF_INIT(len);
        WA_CLEANUP(wa_freep) char *meta = NULL;
        assert_int_equal(wa_store_get(f->members[i], "big", 0, UINT64_MAX, &got, &meta, &err),
                         WA_OK);
        assert_int_equal(got.len, len);
        assert_memory_equal(got.data, data, len);
        assert_string_equal(meta, "{\"v\":1}");
        assert_int_equal(wa_store_mirror_has(f->store, i, "big", &same, &err), WA_OK);
        assert_true(same);
    }
    data[len - 1] ^= 1;
    assert_int_equal(wa_store_put(f->members[2], "big", &body, "{\"v\":1}", WA_PUT_REPLACE, &err),
                     WA_OK);
    bool same = false;
    assert_int_equal(wa_store_mirror_has(f->store, 2, "big", &same, &err), WA_FAILED);
}

typedef struct newcomer {
    wa_store *mirror;
    const wa_body *body;
} newcomer;

static void
come_to_mirror(void *arg)
{
    newcomer *n = arg;
    wa_error err = WA_ERROR_INIT;
    assert_int_equal(wa_store_put(n->mirror, "wal/big", n->body, NULL, WA_PUT_CREATE, &err), WA_OK);
}

/* It comes after the look for it, while the copy is on its way. Takes the mirror. */
static void
assert_keeps_what_comes_meanwhile(wa_store *mirror, size_t len, bool same)
{
    wa_error err = WA_ERROR_INIT;
    bool is = false;
    wa_store *ours = wa_store_fault_new(wa_store_mem_new());
    wa_mirror member = {mirror, "far"};
    WA_CLEANUP(wa_store_freep) wa_store *both = wa_store_mirror_new(ours, &member, 1);
    WA_CLEANUP(wa_freep) char *data = wa_calloc(1, len);
    WA_CLEANUP(wa_buf_done) wa_buf got = WA_BUF_INIT(len);
    wa_body body = {data, len, -1, 0};
    assert_int_equal(wa_store_put(ours, "wal/big", &body, NULL, WA_PUT_CREATE, &err), WA_OK);
    data[len - 1] = same ? 0 : 1;
    newcomer n = {mirror, &body};
    wa_store_fault_before(ours, "get", 1, come_to_mirror, &n);
    assert_int_equal(wa_store_mirror_copy(both, 1, "wal/big", &is, &err), same ? WA_OK : WA_FAILED);
    assert_int_equal(wa_store_get(mirror, "wal/big", 0, UINT64_MAX, &got, NULL, &err), WA_OK);
    assert_int_equal(got.len, len);
    assert_memory_equal(got.data, data, len);
}

static void
a_copy_of_any_size_keeps_what_came_to_the_mirror_meanwhile(void **state)
{
    (void)state;
    static const size_t sizes[] = {10, 3 * 1024 * 1024 + 1}; /* in one go; in parts */
    for (size_t i = 0; i < WA_ARRAY_SIZE(sizes); i++)
        for (int same = 0; same < 2; same++) {
            char dir[] = "/tmp/walagent-mirror-XXXXXX";
            wa_error err = WA_ERROR_INIT;
            wa_store *files = NULL;
            assert_non_null(mkdtemp(dir));
            WA_CLEANUP(wa_freep) char *url = wa_format("file://%s", dir);
            wa_store_options options = {.url = url};
            assert_int_equal(wa_store_open(&options, &files, &err), WA_OK);
            assert_keeps_what_comes_meanwhile(files, sizes[i], same);
            assert_keeps_what_comes_meanwhile(wa_store_fault_new(wa_store_mem_new()), sizes[i],
                                              same);
            assert_int_equal(wa_remove_tree(dir, &err), WA_OK);
        }
}

static void
an_empty_object_is_copied(void **state)
{
    fixture *f = *state;
    wa_error err = WA_ERROR_INIT;
    bool copied = false;
    assert_int_equal(put(f->members[0], "empty", ""), WA_OK);
    assert_int_equal(wa_store_mirror_copy(f->store, 1, "empty", &copied, &err), WA_OK);
    assert_true(copied);
    assert_holds(f->members[1], "empty", "");
    assert_int_equal(wa_store_mirror_copy(f->store, 1, "empty", &copied, &err), WA_OK);
    assert_false(copied);
}

static void
a_store_without_mirrors_is_its_own_only_member(void **state)
{
    fixture *f = *state;
    assert_int_equal(wa_store_members(f->store), 1 + MIRRORS);
    assert_ptr_equal(wa_store_member(f->store, 1), f->members[1]);
    assert_int_equal(wa_store_members(f->members[0]), 1);
    assert_ptr_equal(wa_store_member(f->members[0], 0), f->members[0]);
    wa_store_mirror_be_strict(f->members[0]);
    wa_store_mirror_require(f->members[0], "x");
    assert_int_equal(put(f->members[0], "a", "1"), WA_OK);
}

/* ---- what the main store alone says ---- */

static wa_status
remove_key(wa_store *store, const char *key)
{
    wa_error err = WA_ERROR_INIT;
    WA_CLEANUP(wa_strv_done) wa_strv keys = {0};
    wa_strv_add(&keys, key);
    return wa_store_delete(store, &keys, &err);
}

static void
a_delete_that_failed_leaves_no_orphan_in_a_mirror(void **state)
{
    (void)state;
    for (size_t member = 0; member <= MIRRORS; member++) {
        void *own = NULL;
        set_up(&own);
        fixture *f = own;
        assert_int_equal(put(f->store, "a", "old"), WA_OK);
        wa_store_fault_set(f->members[member], "delete", 1, 0, WA_FAULT_FAIL);
        assert_int_equal(remove_key(f->store, "a"), WA_UNAVAILABLE);
        assert_holds(f->members[0], "a", "old"); /* whoever looks for it deletes it again */
        assert_int_equal(remove_key(f->store, "a"), WA_OK);
        assert_int_equal(put(f->store, "a", "newer"), WA_OK);
        assert_holds(f->members[2], "a", "newer");
        tear_down(&own);
    }
}

static void
a_cache_that_differs_in_a_mirror_is_replaced(void **state)
{
    fixture *f = *state;
    wa_error err = WA_ERROR_INIT;
    bool same = true;
    static const char key[] = "c/index/b/0/X-0001.zst";
    assert_int_equal(put(f->members[1], key, "an orphan"), WA_OK);
    assert_int_equal(put(f->members[0], key, "newer"), WA_OK);
    assert_int_equal(wa_store_mirror_has(f->store, 1, key, &same, &err), WA_OK);
    assert_false(same);
    assert_holds(f->members[1], key, "an orphan");
    assert_int_equal(put(f->store, key, "newer"), WA_EXISTS);
    assert_holds(f->members[1], key, "newer");
    assert_holds(f->members[2], key, "newer");
}

static void
a_mirror_that_says_not_found_to_a_write_says_nothing_of_the_object(void **state)
{
    fixture *f = *state;
    wa_error err = WA_ERROR_INIT;
    WA_CLEANUP(wa_strv_done) wa_strv keys = {0};
    char text[64];
    bool copied = false;
    wa_store_mirror_be_strict(f->store);
    assert_int_equal(put(f->members[0], "a", "1"), WA_OK);
    wa_store_fault_set(f->members[2], "put", 1, 99, WA_FAULT_GONE);
    for (int again = 0; again < 2; again++) {
        assert_int_equal(put(f->store, "a", "1"), WA_UNAVAILABLE);
        assert_int_equal(get(f->store, "a", text), WA_UNAVAILABLE);
        assert_int_equal(wa_store_head(f->store, "a", NULL, NULL, NULL, &err), WA_UNAVAILABLE);
        assert_int_equal(list(f->store, &keys), WA_UNAVAILABLE);
        assert_int_equal(wa_store_mirror_copy(f->store, 2, "a", &copied, &err), WA_UNAVAILABLE);
    }
    wa_store_fault_set(f->members[2], "put", 0, 0, WA_FAULT_GONE);
    assert_int_equal(put(f->store, "a", "1"), WA_EXISTS);
    assert_holds(f->members[2], "a", "1");
}

static void
an_upload_that_a_mirror_lost_is_said_to_have_failed(void **state)
{
    fixture *f = *state;
    static const char *const kinds[] = {"upload_begin", "upload_part", "upload_commit"};
    wa_error err = WA_ERROR_INIT;
    size_t len = 2 * 1024 * 1024 + 1;
    WA_CLEANUP(wa_freep) char *data = wa_calloc(1, len);
    wa_body body = {data, len, -1, 0};
    assert_int_equal(wa_store_put(f->members[0], "big", &body, NULL, WA_PUT_CREATE, &err), WA_OK);
    for (size_t i = 0; i < WA_ARRAY_SIZE(kinds); i++) {
        wa_store_fault_set(f->members[2], kinds[i], 1, 0, WA_FAULT_GONE);
        assert_int_equal(wa_store_mirror_complete(f->store, "big", &err), WA_UNAVAILABLE);
        assert_int_equal(wa_store_fault_hits(f->members[2]), 1);
        assert_int_equal(wa_store_head(f->members[2], "big", NULL, NULL, NULL, &err), WA_NOT_FOUND);
    }
    assert_int_equal(wa_store_mirror_complete(f->store, "big", &err), WA_OK);
}

static void
an_object_that_went_meanwhile_is_not_remembered(void **state)
{
    fixture *f = *state;
    wa_error err = WA_ERROR_INIT;
    assert_int_equal(wa_store_mirror_complete(f->store, "a", &err), WA_OK); /* nothing to do */
    assert_int_equal(put(f->members[0], "a", "1"), WA_OK);
    assert_int_equal(put(f->store, "a", "1"), WA_EXISTS);
    assert_holds(f->members[1], "a", "1");
}

static void
a_comparison_writes_nothing(void **state)
{
    fixture *f = *state;
    wa_error err = WA_ERROR_INIT;
    bool same = false;
    assert_int_equal(put_as(f->members[0], "a", "1", "{\"v\":1}", WA_PUT_CREATE, &err), WA_OK);
    assert_int_equal(put(f->members[1], "a", "1"), WA_OK);
    uint64_t before = wa_store_requests(f->members[1], "put");
    assert_int_equal(wa_store_mirror_has(f->store, 1, "a", &same, &err), WA_OK);
    assert_true(same);
    assert_int_equal(wa_store_requests(f->members[1], "put"), before);
}

static void
the_entrys_trouble_is_blamed_on_whoever_has_it(void **state)
{
    fixture *f = *state;
    wa_error err = WA_ERROR_INIT;
    wa_member_status status;
    assert_int_equal(put(f->members[1], "entry", "E"), WA_OK);
    assert_int_equal(put(f->members[2], "entry", "E"), WA_OK);
    wa_store_mirror_require(f->store, "entry");
    assert_int_equal(put_as(f->store, "a", "1", NULL, WA_PUT_CREATE, &err), WA_UNAVAILABLE);
    assert_null(strstr(err.message, "mirror \""));
    wa_store_member_status(f->store, 0, &status);
    assert_false(status.up);
    wa_store_member_status(f->store, 1, &status);
    assert_true(status.up);
    assert_int_equal(put(f->members[0], "entry", "other"), WA_OK);
    assert_int_equal(put(f->store, "a", "1"), WA_INVALID);
    wa_store_member_status(f->store, 1, &status);
    assert_false(status.up);
    assert_non_null(strstr(status.last_error, "another archive"));
    bool same = false; /* an answer makes it no better a mirror */
    assert_int_equal(wa_store_mirror_has(f->store, 1, "entry", &same, &err), WA_FAILED);
    wa_store_member_status(f->store, 1, &status);
    assert_false(status.up);
}

/* Who acknowledges what it finds relies on every copy. */
static void
an_object_is_settled_in_every_store(void **state)
{
    fixture *f = *state;
    wa_error err = WA_ERROR_INIT;
    WA_CLEANUP(wa_strv_done) wa_strv keys = {0};
    wa_strv_add(&keys, "k");
    assert_int_equal(put(f->store, "k", "content"), WA_OK);
    for (size_t i = 0; i <= MIRRORS; i++) {
        wa_store_fault_set(f->members[i], "settle", 1, 0, WA_FAULT_FAIL);
        assert_int_equal(wa_store_settle(f->store, &keys, &err), WA_UNAVAILABLE);
        wa_error_clear(&err);
        assert_int_equal(wa_store_settle(f->store, &keys, &err), WA_OK);
    }
}

/* Who finds a name taken may acknowledge what another wrote there. */
static void
that_a_name_is_taken_is_said_when_the_object_lasts_in_every_mirror(void **state)
{
    fixture *f = *state;
    assert_int_equal(put(f->store, "k", "content"), WA_OK);
    for (size_t i = 1; i <= MIRRORS; i++) {
        wa_store_fault_set(f->members[i], "settle", 1, 0, WA_FAULT_FAIL);
        assert_int_equal(put(f->store, "k", "content"), WA_UNAVAILABLE);
        assert_int_equal(put(f->store, "k", "content"), WA_EXISTS);
    }
}

static void
what_a_mirror_lost_since_is_brought_to_it_when_it_is_settled(void **state)
{
    fixture *f = *state;
    wa_error err = WA_ERROR_INIT;
    WA_CLEANUP(wa_strv_done) wa_strv keys = {0};
    wa_strv_add(&keys, "other");
    wa_strv_add(&keys, "k");
    assert_int_equal(put(f->store, "other", "thing"), WA_OK);
    assert_int_equal(put(f->store, "k", "content"), WA_OK);
    for (int by_put = 0; by_put < 2; by_put++) {
        assert_int_equal(wa_store_delete(f->members[1], &keys, &err), WA_OK);
        wa_store_fault_set(f->members[1], "settle", 1, 0, WA_FAULT_GONE);
        if (by_put)
            assert_int_equal(put(f->store, "k", "content"), WA_EXISTS);
        else
            assert_int_equal(wa_store_settle(f->store, &keys, &err), WA_OK);
        assert_holds(f->members[1], "k", "content");
    }
    assert_absent(f->members[1], "other"); /* nobody asked for it by the put */
    assert_int_equal(wa_store_delete(f->members[0], &keys, &err), WA_OK);
    wa_store_fault_set(f->members[1], "settle", 1, 0, WA_FAULT_GONE);
    assert_int_equal(wa_store_settle(f->store, &keys, &err), WA_NOT_FOUND);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        MIRROR_TEST(an_object_is_settled_in_every_store),
        MIRROR_TEST(that_a_name_is_taken_is_said_when_the_object_lasts_in_every_mirror),
        MIRROR_TEST(what_a_mirror_lost_since_is_brought_to_it_when_it_is_settled),
        MIRROR_TEST(a_put_is_in_every_member),
        MIRROR_TEST(what_the_main_store_refuses_is_in_no_mirror),
        MIRROR_TEST(a_put_that_failed_anywhere_is_completed_by_its_repetition),
        MIRROR_TEST(exists_is_not_said_while_a_mirror_lacks_the_object),
        MIRROR_TEST(other_bytes_in_a_mirror_are_kept_and_named),
        MIRROR_TEST(other_bytes_of_the_same_facts_are_told_apart_by_their_hash_only),
        MIRROR_TEST(a_copy_without_its_facts_gets_them),
        MIRROR_TEST(a_delete_reaches_every_member),
        MIRROR_TEST(an_upload_is_in_every_member_and_counts_only_then),
        MIRROR_TEST(a_probe_leaves_nothing_and_the_main_store_answers_it),
        MIRROR_TEST(a_mirror_without_the_entry_is_not_written_to),
        MIRROR_TEST(a_read_falls_back_when_the_main_store_fails_and_says_so),
        MIRROR_TEST(a_range_and_a_tail_that_break_off_go_on_in_a_mirror),
        MIRROR_TEST(absence_is_said_by_the_main_store_only),
        MIRROR_TEST(a_listing_falls_back_only_when_asked_and_never_halfway),
        MIRROR_TEST(a_strict_reader_finds_only_what_every_mirror_has),
        MIRROR_TEST(a_strict_reader_is_never_served_by_a_mirror),
        MIRROR_TEST(a_strict_reader_meets_other_bytes_in_a_mirror),
        MIRROR_TEST(a_strict_listing_keeps_its_order_pages_and_end),
        MIRROR_TEST(a_strict_listing_of_a_mirror_that_lacks_much_asks_for_a_copy),
        MIRROR_TEST(an_object_larger_than_a_part_is_copied_whole),
        MIRROR_TEST(a_copy_of_any_size_keeps_what_came_to_the_mirror_meanwhile),
        MIRROR_TEST(an_empty_object_is_copied),
        MIRROR_TEST(a_store_without_mirrors_is_its_own_only_member),
        MIRROR_TEST(a_delete_that_failed_leaves_no_orphan_in_a_mirror),
        MIRROR_TEST(a_cache_that_differs_in_a_mirror_is_replaced),
        MIRROR_TEST(a_mirror_that_says_not_found_to_a_write_says_nothing_of_the_object),
        MIRROR_TEST(an_upload_that_a_mirror_lost_is_said_to_have_failed),
        MIRROR_TEST(an_object_that_went_meanwhile_is_not_remembered),
        MIRROR_TEST(a_comparison_writes_nothing),
        MIRROR_TEST(the_entrys_trouble_is_blamed_on_whoever_has_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
