/*
 * tests/unit/store/test_mirror_fit.c - which mirror is one, may answer, and may be written to.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include "mirror_fixture.h"

#include "walagent/base/file.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- which mirror may answer ---- */

static void
a_mirror_without_the_entry_answers_nothing_and_the_next_one_does(void **state)
{
    fixture *f = *state;
    WA_CLEANUP(wa_strv_done) wa_strv keys = {0};
    wa_error err = WA_ERROR_INIT;
    char text[64];
    static const char *const all[] = {"a", "b", "entry"};
    for (size_t i = 0; i < WA_ARRAY_SIZE(all); i++)
        assert_int_equal(put(f->members[0], all[i], "1"), WA_OK);
    assert_int_equal(put(f->members[1], "a", "half"), WA_OK);
    wa_store_mirror_list_anywhere(f->store);
    wa_store_mirror_require(f->store, "entry");
    wa_store_fault_set(f->members[0], "any", 1, 9999, WA_FAULT_FAIL);
    for (int away = 0; away < 2; away++) {
        assert_int_equal(list(f->store, &keys), WA_UNAVAILABLE);
        assert_int_equal(get(f->store, "a", text), WA_UNAVAILABLE);
        assert_int_equal(wa_store_head(f->store, "a", NULL, NULL, NULL, &err), WA_UNAVAILABLE);
    }
    for (size_t i = 0; i < WA_ARRAY_SIZE(all); i++)
        assert_int_equal(put(f->members[2], all[i], "1"), WA_OK);
    assert_int_equal(list(f->store, &keys), WA_OK);
    assert_int_equal(keys.count, 3);
    assert_holds(f->store, "a", "1");
    assert_int_equal(wa_store_head(f->store, "b", NULL, NULL, NULL, &err), WA_OK);
}

static void
before_the_entry_is_known_an_empty_mirror_is_no_answer(void **state)
{
    fixture *f = *state;
    WA_CLEANUP(wa_strv_done) wa_strv keys = {0};
    wa_store_mirror_list_anywhere(f->store);
    wa_store_fault_set(f->members[0], "any", 1, 9999, WA_FAULT_FAIL);
    assert_int_equal(list(f->store, &keys), WA_UNAVAILABLE);
    assert_int_equal(put(f->members[2], "a", "1"), WA_OK);
    assert_int_equal(list(f->store, &keys), WA_OK);
    assert_int_equal(keys.count, 1);
}

static void
a_mirror_that_would_replace_is_looked_at_first(void **state)
{
    fixture *f = *state;
    wa_store_fault_set(f->members[1], "put", 1, 99, WA_FAULT_OVERWRITE);
    assert_int_equal(put(f->members[1], "a", "theirs"), WA_OK);
    assert_int_equal(put(f->store, "a", "ours"), WA_FAILED);
    assert_holds(f->members[1], "a", "theirs");
    wa_error err = WA_ERROR_INIT;
    bool conditional = false;
    assert_int_equal(wa_store_probe(f->store, "probe/", &conditional, &err), WA_OK);
    assert_true(conditional);
    assert_false(wa_store_get_traits(f->members[1])->conditional_put);
    assert_true(wa_store_get_traits(f->members[2])->conditional_put);
    uint64_t one = wa_store_requests(f->members[1], "head");
    uint64_t other = wa_store_requests(f->members[2], "head");
    assert_int_equal(put(f->store, "b", "ours"), WA_OK);
    assert_int_equal(wa_store_requests(f->members[1], "head"), one + 1);
    assert_int_equal(wa_store_requests(f->members[2], "head"), other);
}

static void
one_place_by_two_names_is_refused_by_a_probe(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    WA_CLEANUP(wa_store_freep) wa_store *store = NULL;
    char dir[] = "/tmp/walagent-mirror-XXXXXX";
    assert_non_null(mkdtemp(dir));
    WA_CLEANUP(wa_freep) char *place = wa_format("file://%s/a", dir);
    WA_CLEANUP(wa_freep) char *link_url = wa_format("file://%s/b", dir);
    WA_CLEANUP(wa_freep) char *link_path = wa_format("%s/b", dir);
    assert_int_equal(mkdir(place + strlen("file://"), 0700), 0);
    assert_int_equal(symlink("a", link_path), 0);
    wa_store *one = NULL, *other = NULL;
    assert_int_equal(wa_store_open(&(wa_store_options){.url = place}, &one, &err), WA_OK);
    assert_int_equal(wa_store_open(&(wa_store_options){.url = link_url}, &other, &err), WA_OK);
    store = wa_store_mirror_new(one, &(wa_mirror){other, "far"}, 1);
    bool conditional = false;
    assert_int_equal(wa_store_probe(store, "probe/", &conditional, &err), WA_INVALID);
    assert_non_null(strstr(err.message, "same place"));
    assert_non_null(strstr(err.hint, "place of its own"));
    WA_CLEANUP(wa_strv_done) wa_strv keys = {0};
    assert_int_equal(list(store, &keys), WA_OK);
    assert_int_equal(keys.count, 0);
    assert_int_equal(wa_remove_tree(dir, &err), WA_OK);
}

static void
damage_in_a_mirror_is_no_word_about_the_object(void **state)
{
    fixture *f = *state;
    char text[64];
    assert_int_equal(put(f->store, "a", "123456"), WA_OK);
    assert_int_equal(put(f->members[0], "b", "123456"), WA_OK);
    assert_int_equal(put(f->members[1], "b", "123456"), WA_OK);
    wa_store_mirror_be_strict(f->store);
    wa_store_fault_set(f->members[1], "get", 1, 0, WA_FAULT_ROT);
    assert_int_equal(get(f->store, "b", text), WA_UNAVAILABLE);
    assert_int_equal(wa_store_fault_hits(f->members[1]), 1);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        MIRROR_TEST(a_mirror_without_the_entry_answers_nothing_and_the_next_one_does),
        MIRROR_TEST(before_the_entry_is_known_an_empty_mirror_is_no_answer),
        MIRROR_TEST(a_mirror_that_would_replace_is_looked_at_first),
        MIRROR_TEST(one_place_by_two_names_is_refused_by_a_probe),
        MIRROR_TEST(damage_in_a_mirror_is_no_word_about_the_object),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
