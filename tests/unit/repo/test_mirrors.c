/*
 * tests/unit/repo/test_mirrors.c - a mirror becomes one: by init with a new archive, by a copy of
 * one that is there.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include "walagent/repo/mirrors.h"
#include "walagent/store/drivers.h"
#include "walagent/store/mirror.h"

#include <string.h>

#define ENTRY "main/incarnation/00000001.json"

typedef struct fixture {
    wa_repo *repo;
    wa_store *main_store, *mirror;
} fixture;

static const wa_cluster identity = {
    .system_identifier = 42, .major = 15, .segment_size = 1024 * 1024};

static void
put(wa_store *store, const char *key, const char *content)
{
    wa_error err = WA_ERROR_INIT;
    wa_body body = {content, strlen(content), -1, 0};
    assert_int_equal(wa_store_put(store, key, &body, NULL, WA_PUT_CREATE, &err), WA_OK);
}

/* The main store has the entry, the mirror nothing; the repository is not loaded. */
static int
set_up(void **state)
{
    fixture *f = wa_calloc(1, sizeof *f);
    wa_error err = WA_ERROR_INIT;
    f->main_store = wa_store_fault_new(wa_store_mem_new());
    f->mirror = wa_store_fault_new(wa_store_mem_new());
    put(f->main_store, ENTRY,
        "{\"v\":1,\"format\":1,\"system_identifier\":\"42\",\"major\":15,\"segment_size\":1048576,"
        "\"since\":\"2026-11-23T02:14:00.000000Z\",\"single_writer\":false,\"writer\":\"w\"}");
    wa_mirror mirror = {f->mirror, "far"};
    assert_int_equal(
        wa_repo_of_store(wa_store_mirror_new(f->main_store, &mirror, 1), "main", 3, &f->repo, &err),
        WA_OK);
    *state = f;
    return 0;
}

static int
tear_down(void **state)
{
    fixture *f = *state;
    wa_repo_free(f->repo);
    wa_freep(&f);
    return 0;
}

static bool
is_there(wa_store *store, const char *key)
{
    wa_error err = WA_ERROR_INIT;
    wa_status status = wa_store_head(store, key, NULL, NULL, NULL, &err);
    assert_true(status == WA_OK || status == WA_NOT_FOUND);
    return status == WA_OK;
}

static wa_status
remove_one(void *arg, const wa_object *object, wa_error *err)
{
    (void)err;
    wa_strv_add(arg, object->key);
    return WA_OK;
}

static void
empty(wa_store *store)
{
    wa_error err = WA_ERROR_INIT;
    WA_CLEANUP(wa_strv_done) wa_strv keys = {0};
    wa_list_options all = {.prefix = ""};
    assert_int_equal(wa_store_list(store, &all, remove_one, &keys, &err), WA_OK);
    assert_int_equal(wa_store_delete(store, &keys, &err), WA_OK);
}

/* An archive of some objects; more than a page of names. */
static void
fill(fixture *f)
{
    put(f->main_store, "main/42/lineage/00000001.json", "{}");
    for (int i = 0; i < 1100; i++) {
        WA_CLEANUP(wa_freep) char *key = wa_format("main/42/wal/%04d", i);
        put(f->main_store, key, "segment");
    }
}

static wa_mirror_sync
sync_now(fixture *f, bool only_compare)
{
    wa_error err = WA_ERROR_INIT;
    wa_mirror_sync result = {0};
    wa_mirror_sync_options options = {.only_compare = only_compare};
    if (!wa_repo_loaded(f->repo))
        assert_int_equal(wa_repo_load(f->repo, &err), WA_OK);
    assert_int_equal(wa_mirror_sync_run(f->repo, 1, &options, &result, &err), WA_OK);
    return result;
}

static wa_status
init_again(fixture *f, wa_error *err)
{
    bool created = true;
    wa_status status = wa_repo_init(f->repo, &identity, false, &created, err);
    assert_true(status != WA_OK || !created);
    return status;
}

static void
init_makes_the_entry_everywhere_and_again_after_a_crash(void **state)
{
    fixture *f = *state;
    wa_error err = WA_ERROR_INIT;
    assert_false(is_there(f->mirror, ENTRY)); /* killed between the one and the other */
    assert_int_equal(init_again(f, &err), WA_OK);
    assert_true(is_there(f->mirror, ENTRY));
}

static void
init_does_not_take_an_empty_place_for_a_copy_of_an_archive(void **state)
{
    fixture *f = *state;
    wa_error err = WA_ERROR_INIT;
    fill(f);
    assert_int_equal(init_again(f, &err), WA_INVALID);
    assert_non_null(strstr(err.hint, "walagent mirror"));
    assert_false(is_there(f->mirror, ENTRY));
    wa_mirror_sync result = sync_now(f, false);
    assert_true(wa_mirror_sync_is_complete(&result));
    assert_int_equal(init_again(f, &err), WA_OK);
}

static void
init_refuses_another_archives_place(void **state)
{
    fixture *f = *state;
    wa_error err = WA_ERROR_INIT;
    wa_mirror_sync result;
    wa_mirror_sync_options options = {.only_compare = false};
    fill(f);
    put(f->mirror, ENTRY, "{\"system_identifier\":\"43\"}");
    assert_int_equal(init_again(f, &err), WA_CONFLICT);
    assert_int_equal(wa_repo_load(f->repo, &err), WA_OK);
    assert_int_equal(wa_mirror_sync_run(f->repo, 1, &options, &result, &err), WA_CONFLICT);
    assert_false(is_there(f->mirror, "main/42/wal/0000"));
}

/* Interrupted anywhere: no entry before all is there, and the next run completes it. */
static void
the_entry_comes_last(void **state)
{
    fixture *f = *state;
    wa_error err = WA_ERROR_INIT;
    put(f->main_store, "main/42/lineage/00000001.json", "{}");
    put(f->main_store, "main/42/wal/0001", "a segment");
    put(f->main_store, "main/42/zz/last", "");
    assert_int_equal(wa_repo_load(f->repo, &err), WA_OK);
    bool done = false;
    for (unsigned n = 1; !done; n++) {
        wa_mirror_sync result = {0};
        wa_mirror_sync_options options = {.only_compare = false};
        assert_true(n < 100);
        empty(f->mirror);
        wa_store_fault_set(f->mirror, "any", n, 0, WA_FAULT_FAIL);
        wa_status status = wa_mirror_sync_run(f->repo, 1, &options, &result, &err);
        done = wa_store_fault_hits(f->mirror) == 0;
        wa_store_fault_set(f->mirror, "any", 0, 0, WA_FAULT_FAIL);
        assert_int_equal(status, done ? WA_OK : WA_UNAVAILABLE);
        if (is_there(f->mirror, ENTRY))
            assert_true(is_there(f->mirror, "main/42/lineage/00000001.json") &&
                        is_there(f->mirror, "main/42/wal/0001") &&
                        is_there(f->mirror, "main/42/zz/last"));
        assert_true(!done || is_there(f->mirror, ENTRY));
    }
}

static void
a_comparison_counts_and_touches_nothing(void **state)
{
    fixture *f = *state;
    fill(f);
    put(f->mirror, "main/42/wal/0500", "segment");
    put(f->mirror, "main/42/wal/0700", "longer segment");
    put(f->mirror, "main/42/lineage/00000001.json", "[]"); /* as long, and another */
    put(f->mirror, "main/42/wal/9999", "nobody's");
    wa_mirror_sync result = sync_now(f, true);
    assert_int_equal(result.objects, 1101);
    assert_int_equal(result.missing, 1098);
    assert_int_equal(result.copied, 0);
    assert_int_equal(result.different, 2);
    assert_int_equal(result.extra, 1);
    assert_string_equal(result.first_missing, "main/42/wal/0000");
    assert_false(is_there(f->mirror, "main/42/wal/0000"));
    result = sync_now(f, false);
    assert_int_equal(result.copied, 1098);
    assert_int_equal(result.different, 2);
    assert_false(wa_mirror_sync_is_complete(&result));
    result = sync_now(f, true);
    assert_int_equal(result.missing, 0);
    assert_true(is_there(f->mirror, "main/42/wal/9999"));
}

static void
a_member_alone_is_a_loaded_repository(void **state)
{
    fixture *f = *state;
    wa_error err = WA_ERROR_INIT;
    (void)sync_now(f, false);
    WA_CLEANUP(wa_repo_freep) wa_repo *alone = wa_repo_member(f->repo, 1);
    assert_int_equal(wa_repo_cluster(alone)->system_identifier, 42);
    assert_ptr_equal(wa_repo_store(alone), f->mirror);
    assert_int_equal(wa_repo_still_there(alone, &err), WA_OK);
}

static int happened;

/* What an agent does at the very moment at which the mirror is asked. */
static void
finish_with_b(void *arg)
{
    happened++;
    put(((fixture *)arg)->mirror, "main/42/tail/b", "chunk");
}

static void
delete_b(void *arg)
{
    wa_error err = WA_ERROR_INIT;
    WA_CLEANUP(wa_strv_done) wa_strv keys = {0};
    happened++;
    wa_strv_add(&keys, "main/42/tail/b");
    assert_int_equal(wa_store_delete(((fixture *)arg)->main_store, &keys, &err), WA_OK);
}

static void
create_c(void *arg)
{
    happened++;
    put(((fixture *)arg)->main_store, "main/42/tail/c", "chunk");
    put(((fixture *)arg)->mirror, "main/42/tail/c", "chunk");
}

static void
what_an_agent_does_meanwhile_is_neither_missing_nor_extra(void **state)
{
    (void)state;
    static void (*const meanwhile[])(void *) = {finish_with_b, delete_b, create_c};
    for (size_t k = 0; k < WA_ARRAY_SIZE(meanwhile); k++)
        for (int only_compare = 0; only_compare < 2; only_compare++) {
            void *own = NULL;
            set_up(&own);
            fixture *f = own;
            (void)sync_now(f, false);
            put(f->main_store, "main/42/tail/b", "chunk");
            if (meanwhile[k] == create_c)
                put(f->mirror, "main/42/tail/b", "chunk");
            happened = 0;
            /* before the mirror's listing; or when it is asked for b, after the entry (twice) */
            if (meanwhile[k] == create_c)
                wa_store_fault_before(f->mirror, "list", 1, meanwhile[k], f);
            else
                wa_store_fault_before(f->mirror, "head", 2, meanwhile[k], f);
            wa_mirror_sync result = sync_now(f, only_compare == 1);
            assert_int_equal(happened, 1);
            assert_int_equal(result.missing + result.missing_bytes, 0);
            assert_int_equal(result.copied + result.extra + result.different, 0);
            assert_string_equal(result.first_missing, "");
            assert_true(wa_mirror_sync_is_complete(&result));
            tear_down(&own);
        }
}

static void
a_comparison_mends_nothing(void **state)
{
    fixture *f = *state;
    wa_error err = WA_ERROR_INIT;
    wa_body body = {"{}", 2, -1, 0};
    WA_CLEANUP(wa_freep) char *meta = NULL;
    static const char key[] = "main/42/lineage/00000001.json";
    assert_int_equal(wa_store_put(f->main_store, key, &body, "{\"v\":1}", WA_PUT_CREATE, &err),
                     WA_OK);
    put(f->mirror, key, "{}");
    uint64_t before = wa_store_requests(f->mirror, "put");
    wa_mirror_sync result = sync_now(f, true);
    assert_int_equal(result.missing + result.different, 0);
    assert_int_equal(wa_store_requests(f->mirror, "put"), before);
    (void)sync_now(f, false);
    assert_int_equal(wa_store_head(f->mirror, key, NULL, NULL, &meta, &err), WA_OK);
    assert_string_equal(meta, "{\"v\":1}");
}

static void
a_cache_of_another_size_is_copied_again(void **state)
{
    fixture *f = *state;
    put(f->main_store, "main/42/index/b/0/X-0001.zst", "newer");
    put(f->mirror, "main/42/index/b/0/X-0001.zst", "old");
    wa_mirror_sync result = sync_now(f, true);
    assert_int_equal(result.missing, 1);
    assert_int_equal(result.different, 0);
    result = sync_now(f, false);
    assert_true(wa_mirror_sync_is_complete(&result));
    result = sync_now(f, true);
    assert_true(wa_mirror_sync_is_complete(&result));
}

static bool
is_outdated(fixture *f, const wa_mirror_sync *result)
{
    wa_error err = WA_ERROR_INIT;
    bool ret = false;
    assert_int_equal(wa_mirror_sync_is_outdated(f->repo, 1, result, &ret, &err), WA_OK);
    return ret;
}

static void
remove_key(wa_store *store, const char *key)
{
    wa_error err = WA_ERROR_INIT;
    WA_CLEANUP(wa_strv_done) wa_strv keys = {0};
    wa_strv_add(&keys, key);
    assert_int_equal(wa_store_delete(store, &keys, &err), WA_OK);
}

static void
a_comparison_is_outdated_when_what_was_missing_has_come_or_gone(void **state)
{
    fixture *f = *state;
    fill(f);
    wa_mirror_sync result = sync_now(f, true);
    assert_false(is_outdated(f, &result));
    put(f->mirror, "main/42/lineage/00000001.json", "{}");
    assert_true(is_outdated(f, &result));
    result = sync_now(f, true);
    assert_string_equal(result.first_missing, "main/42/wal/0000");
    assert_false(is_outdated(f, &result));
    remove_key(f->main_store, "main/42/wal/0000");
    uint64_t lists = wa_store_requests(f->mirror, "list");
    assert_true(is_outdated(f, &result));
    assert_int_equal(wa_store_requests(f->mirror, "list"), lists);
    (void)sync_now(f, false);
    put(f->main_store, "main/42/index/b/0/X-0001.zst", "newer"); /* a cache of another size */
    put(f->mirror, "main/42/index/b/0/X-0001.zst", "old");
    result = sync_now(f, true);
    assert_int_equal(result.missing, 1);
    assert_false(is_outdated(f, &result));
}

static void
a_comparison_is_outdated_when_the_entry_has_come(void **state)
{
    fixture *f = *state;
    fill(f);
    (void)sync_now(f, false);
    remove_key(f->mirror, ENTRY);
    wa_mirror_sync result = sync_now(f, true);
    assert_int_equal(result.missing, 0); /* the entry is apart from all else */
    assert_false(wa_mirror_sync_is_complete(&result));
    assert_false(is_outdated(f, &result));
    (void)sync_now(f, false);
    assert_true(is_outdated(f, &result));
}

static void
a_comparison_is_outdated_when_what_differed_does_no_longer(void **state)
{
    fixture *f = *state;
    wa_error err = WA_ERROR_INIT;
    bool ret = true;
    fill(f);
    (void)sync_now(f, false);
    wa_mirror_sync result = sync_now(f, true);
    assert_false(is_outdated(f, &result)); /* complete: nothing to look at */
    remove_key(f->mirror, "main/42/wal/0500");
    put(f->mirror, "main/42/wal/0500", "longer segment");
    result = sync_now(f, true);
    assert_int_equal(result.different, 1);
    assert_false(is_outdated(f, &result));
    wa_store_fault_set(f->mirror, "any", 1, 9, WA_FAULT_FAIL);
    assert_int_equal(wa_mirror_sync_is_outdated(f->repo, 1, &result, &ret, &err), WA_UNAVAILABLE);
    wa_store_fault_set(f->mirror, "any", 0, 0, WA_FAULT_FAIL);
    remove_key(f->mirror, "main/42/wal/0500");
    assert_true(is_outdated(f, &result));
}

static void
an_empty_mirror_does_not_say_that_there_is_no_archive(void **state)
{
    fixture *f = *state;
    wa_error err = WA_ERROR_INIT;
    wa_repo_only_read(f->repo, true);
    wa_store_fault_set(f->main_store, "any", 1, 9999, WA_FAULT_FAIL);
    assert_int_equal(wa_repo_load(f->repo, &err), WA_UNAVAILABLE);
    assert_null(strstr(err.hint, "init"));
}

#define MIRRORS_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        MIRRORS_TEST(init_makes_the_entry_everywhere_and_again_after_a_crash),
        MIRRORS_TEST(init_does_not_take_an_empty_place_for_a_copy_of_an_archive),
        MIRRORS_TEST(init_refuses_another_archives_place),
        MIRRORS_TEST(the_entry_comes_last),
        MIRRORS_TEST(a_comparison_counts_and_touches_nothing),
        MIRRORS_TEST(a_member_alone_is_a_loaded_repository),
        MIRRORS_TEST(an_empty_mirror_does_not_say_that_there_is_no_archive),
        MIRRORS_TEST(a_cache_of_another_size_is_copied_again),
        MIRRORS_TEST(a_comparison_mends_nothing),
        MIRRORS_TEST(a_comparison_is_outdated_when_what_was_missing_has_come_or_gone),
        MIRRORS_TEST(a_comparison_is_outdated_when_the_entry_has_come),
        MIRRORS_TEST(a_comparison_is_outdated_when_what_differed_does_no_longer),
        MIRRORS_TEST(what_an_agent_does_meanwhile_is_neither_missing_nor_extra),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
