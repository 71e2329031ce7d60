/*
 * Tests of the cluster's entry: created once, checked afterwards, refused when it is another's.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include "repo_fixture.h"

#include "walagent/base/file.h"

static void
init_creates_the_entry_once_and_then_checks_it(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    fixture f;
    fixture_new(&f);
    wa_cluster identity = fixture_identity();
    bool created = true;
    OK(wa_repo_init(f.repo, &identity, false, &created, &err));
    assert_false(created);
    OK(wa_repo_load(f.repo, &err));
    assert_true(wa_repo_cluster(f.repo)->system_identifier == SYSTEM_ID);
    assert_int_equal(wa_repo_cluster(f.repo)->incarnation, 1);
    fixture_done(&f);
}

static void
load_without_an_entry_says_to_run_init(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    fixture f;
    fixture_bare(&f);
    FAILS(wa_repo_load(f.repo, &err), WA_NOT_FOUND);
    assert_non_null(strstr(err.hint, "walagent init"));
    assert_false(wa_repo_loaded(f.repo));
    fixture_done(&f);
}

static void
another_system_identifier_is_refused_until_it_is_accepted(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    fixture f;
    fixture_new(&f);
    wa_cluster other = fixture_identity();
    other.system_identifier++;
    other.major = 16;
    bool created = false;
    FAILS(wa_repo_init(f.repo, &other, false, &created, &err), WA_CONFLICT);
    assert_non_null(strstr(err.message, "7412345678901234567"));
    assert_non_null(strstr(err.message, "7412345678901234568"));
    OK(wa_repo_init(f.repo, &other, true, &created, &err));
    assert_true(created);
    assert_int_equal(wa_repo_cluster(f.repo)->incarnation, 2);
    wa_cluster *all = NULL;
    size_t count = 0;
    OK(wa_repo_incarnations(f.repo, &all, &count, &err));
    assert_int_equal(count, 2);
    assert_int_equal(all[0].major, 15);
    assert_int_equal(all[1].major, 16);
    free(all);
    fixture_done(&f);
}

static void
another_segment_size_of_one_system_identifier_is_never_accepted(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    fixture f;
    fixture_new(&f);
    wa_cluster other = fixture_identity();
    other.segment_size *= 16;
    bool created = false;
    FAILS(wa_repo_init(f.repo, &other, true, &created, &err), WA_CONFLICT);
    fixture_done(&f);
}

static void
a_newer_format_asks_for_an_upgrade(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    fixture f;
    fixture_new(&f);
    static const char text[] = "{\"v\":1,\"format\":2}";
    put_raw(&f, "main/incarnation/00000002.json", text, strlen(text));
    FAILS(wa_repo_load(f.repo, &err), WA_UNSUPPORTED);
    assert_non_null(strstr(err.hint, "Upgrade walagent"));
    fixture_done(&f);
}

static void
a_damaged_entry_is_named(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "{\"v\":1,\"form", "[]", "{\"format\":1}",
        ("{\"format\":1,\"system_identifier\":\"1\",\"major\":15,\"segment_size\":1000000,"
         "\"since\":null,\"single_writer\":false}")};
    for (size_t i = 0; i < WA_ARRAY_SIZE(texts); i++) {
        wa_error err = WA_ERROR_INIT;
        fixture f;
        fixture_new(&f);
        put_raw(&f, "main/incarnation/00000001.json", texts[i], strlen(texts[i]));
        FAILS(wa_repo_load(f.repo, &err), WA_CORRUPT);
        assert_non_null(strstr(err.message, "main/incarnation/00000001.json"));
        fixture_done(&f);
    }
}

static void
a_flipped_bit_in_the_entry_is_found(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    fixture f;
    fixture_new(&f);
    wa_store_fault_set(f.store, "get", 1, 0, WA_FAULT_FLIP);
    FAILS(wa_repo_load(f.repo, &err), WA_CORRUPT);
    OK(wa_repo_load(f.repo, &err));
    fixture_done(&f);
}

typedef struct racer {
    wa_repo *repo;
    wa_status status;
    bool created;
} racer;

static void *
race_init(void *arg)
{
    racer *r = arg;
    wa_error err = WA_ERROR_INIT;
    wa_cluster identity = fixture_identity();
    r->status = wa_repo_init(r->repo, &identity, false, &r->created, &err);
    return NULL;
}

/* Each with a handle of its own over one directory: a repo isn't shared before it is loaded. */
static void
of_two_inits_at_once_one_creates(void **state)
{
    (void)state;
    for (int round = 0; round < 10; round++) {
        wa_error err = WA_ERROR_INIT;
        char dir[] = "/tmp/walagent-test-XXXXXX";
        assert_non_null(mkdtemp(dir));
        char *url = wa_format("file://%s/repo", dir);
        wa_repo_options options = {.store = {.url = url}, .cluster = "main"};
        racer racers[2] = {{NULL, WA_FAILED, false}, {NULL, WA_FAILED, false}};
        pthread_t threads[2];
        for (size_t i = 0; i < 2; i++)
            OK(wa_repo_open(&options, &racers[i].repo, &err));
        for (size_t i = 0; i < 2; i++)
            OK(wa_thread_start(&threads[i], "init", race_init, &racers[i], &err));
        for (size_t i = 0; i < 2; i++)
            wa_thread_join(threads[i]);
        for (size_t i = 0; i < 2; i++) {
            assert_int_equal(racers[i].status, WA_OK);
            assert_int_equal(wa_repo_cluster(racers[i].repo)->incarnation, 1);
        }
        assert_int_equal(racers[0].created + racers[1].created, 1);
        for (size_t i = 0; i < 2; i++)
            wa_repo_free(racers[i].repo);
        OK(wa_remove_tree(dir, &err));
        free(url);
    }
}

static void
init_survives_every_failure_and_can_be_repeated(void **state)
{
    (void)state;
    static const wa_fault faults[] = {WA_FAULT_FAIL, WA_FAULT_LOSE_REPLY, WA_FAULT_TEAR};
    for (size_t kind = 0; kind < WA_ARRAY_SIZE(faults); kind++) {
        for (unsigned nth = 1;; nth++) {
            assert_true(nth < 50);
            wa_error err = WA_ERROR_INIT;
            fixture f;
            fixture_bare(&f);
            wa_cluster identity = fixture_identity();
            bool created = false;
            wa_store_fault_set(f.store, "any", nth, 0, faults[kind]);
            wa_status status = wa_repo_init(f.repo, &identity, false, &created, &err);
            unsigned hits = wa_store_fault_hits(f.store);
            no_faults(&f);
            if (status != WA_OK) {
                assert_int_equal(status, WA_UNAVAILABLE);
                OK(wa_repo_init(f.repo, &identity, false, &created, &err));
            }
            OK(wa_repo_load(f.repo, &err));
            assert_int_equal(wa_repo_cluster(f.repo)->incarnation, 1);
            fixture_done(&f);
            if (hits == 0)
                break;
        }
    }
}

static void
branch_names_parse_back_and_reject_others(void **state)
{
    (void)state;
    static const char *const good[] = {"00000001-1a2b3c4d", "0000000A-00000000-2",
                                       "FFFFFFFF-ffffffff-999"};
    static const char *const bad[] = {"",
                                      "00000001",
                                      "00000001-1a2b3c4",
                                      "00000001-1A2B3C4D",
                                      "0000000a-1a2b3c4d",
                                      "00000000-1a2b3c4d",
                                      "00000001-1a2b3c4d-",
                                      "00000001-1a2b3c4d-1",
                                      "00000001-1a2b3c4d-02",
                                      "00000001-1a2b3c4d-1000",
                                      "00000001-1a2b3c4d/x",
                                      "00000001-pending"};
    for (size_t i = 0; i < WA_ARRAY_SIZE(good); i++) {
        wa_branch branch;
        char text[WA_BRANCH_TEXT];
        assert_true(wa_branch_parse(good[i], &branch));
        assert_string_equal(wa_branch_format(&branch, text), good[i]);
    }
    for (size_t i = 0; i < WA_ARRAY_SIZE(bad); i++) {
        wa_branch branch;
        assert_false(wa_branch_parse(bad[i], &branch));
    }
}

static void
cluster_names_that_are_no_key_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"", "Main", "a/b", "..", "a b"};
    for (size_t i = 0; i < WA_ARRAY_SIZE(bad); i++) {
        wa_error err = WA_ERROR_INIT;
        wa_repo *repo = NULL;
        FAILS(wa_repo_of_store(wa_store_mem_new(), bad[i], 1, &repo, &err), WA_INVALID);
        assert_null(repo);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(init_creates_the_entry_once_and_then_checks_it),
        cmocka_unit_test(load_without_an_entry_says_to_run_init),
        cmocka_unit_test(another_system_identifier_is_refused_until_it_is_accepted),
        cmocka_unit_test(another_segment_size_of_one_system_identifier_is_never_accepted),
        cmocka_unit_test(a_newer_format_asks_for_an_upgrade),
        cmocka_unit_test(a_damaged_entry_is_named),
        cmocka_unit_test(a_flipped_bit_in_the_entry_is_found),
        cmocka_unit_test(of_two_inits_at_once_one_creates),
        cmocka_unit_test(init_survives_every_failure_and_can_be_repeated),
        cmocka_unit_test(branch_names_parse_back_and_reject_others),
        cmocka_unit_test(cluster_names_that_are_no_key_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
