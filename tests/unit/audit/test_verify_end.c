/*
 * test_verify_end.c - verify when somebody else knows how far the archive must reach.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include "../../../src/store/driver_internal.h"
#include "verify_fixture.h"

static wa_verify_result
verify_from(fixture *f, const wa_branch *branch, wa_lsn from, wa_lsn acknowledged)
{
    wa_verify_result r = {0};
    wa_verify_options options = {.repo = f->repo,
                                 .wal = true,
                                 .jobs = 1,
                                 .acknowledged = acknowledged,
                                 .acknowledged_from = from,
                                 .acknowledged_epoch = 2,
                                 .acknowledged_branch = *branch};
    OK(wa_verify_run(&options, &r, &f->err));
    return r;
}

static wa_verify_result
verify_up_to(fixture *f, const wa_branch *branch, wa_lsn acknowledged)
{
    return verify_from(f, branch, 0, acknowledged);
}

/* No later chunk tells that the newest one was there. */
static void
a_missing_newest_chunk_is_found_where_an_agent_says_how_far_it_was(void **state)
{
    fixture *f = *state;
    wa_lsn start = 2 * (wa_lsn)SEGMENT, end = start + 200000;
    wa_branch other = wa_branch_of(SYSTEM, 1, NULL, 0, "x", 1);
    WA_CLEANUP(wa_verify_result_done) wa_verify_result nothing = verify_up_to(f, &f->branch, start);
    assert_int_equal(nothing.damage_count, 0); /* it begins there, and has archived nothing yet */
    put_segment(f, 1, wal_bytes(f->wal));
    put_chunk(f, start, 100000);
    WA_CLEANUP(wa_verify_result_done) wa_verify_result r = verify_up_to(f, &f->branch, end);
    assert_int_equal(r.damage_count, 1);
    assert_int_equal(r.warning_count, 0);
    assert_string_equal(r.damage[0].kind, "chunk");
    assert_string_equal(r.damage[0].object, "000000010000000000000002");
    assert_non_null(strstr(r.damage[0].message, "the newest chunk is missing"));
    assert_non_null(strstr(r.damage[0].cost, "0/2186A0 to 0/230D40"));
    WA_CLEANUP(wa_verify_result_done) wa_verify_result unasked = verify(f, false);
    assert_int_equal(unasked.damage_count, 0);
    WA_CLEANUP(wa_verify_result_done) wa_verify_result elsewhere = verify_up_to(f, &other, end);
    assert_int_equal(elsewhere.damage_count, 0);
    put_chunk(f, start + 100000, 100000);
    WA_CLEANUP(wa_verify_result_done) wa_verify_result healed = verify_up_to(f, &f->branch, end);
    assert_int_equal(healed.damage_count, 0);
    WA_CLEANUP(wa_verify_result_done) wa_verify_result more = verify_up_to(f, &f->branch, end + 1);
    assert_int_equal(more.damage_count, 1);
    put_segment(f, 2, wal_bytes(f->wal) + SEGMENT);
    WA_CLEANUP(wa_verify_result_done) wa_verify_result whole = verify_up_to(f, &f->branch, end + 1);
    assert_int_equal(whole.damage_count, 0);
}

static bool
says(const wa_verify_result *r, const char *kind, const char *object, const char *what)
{
    for (size_t i = 0; i < r->damage_count; i++)
        if (strcmp(r->damage[i].kind, kind) == 0 && strcmp(r->damage[i].object, object) == 0 &&
            strstr(r->damage[i].message, what) != NULL)
            return true;
    return false;
}

/* An agent keeps what it has not archived whole, and nothing else. */
static void
a_missing_newest_segment_is_not_said_to_be_with_the_agent(void **state)
{
    fixture *f = *state;
    wa_lsn next = 3 * (wa_lsn)SEGMENT;
    put_segment(f, 1, wal_bytes(f->wal));
    WA_CLEANUP(wa_verify_result_done) wa_verify_result r = verify_up_to(f, &f->branch, next);
    assert_int_equal(r.damage_count, 1);
    assert_true(says(&r, "segment", "000000010000000000000002", "WAL from 0/200000 on is missing"));
    assert_null(strstr(r.damage[0].message, "still has it"));
    WA_CLEANUP(wa_verify_result_done)
    wa_verify_result inside = verify_up_to(f, &f->branch, next - 1);
    assert_true(says(&inside, "chunk", "000000010000000000000002", "the agent still has it"));
    put_chunk(f, next, 100000);
    WA_CLEANUP(wa_verify_result_done)
    wa_verify_result behind = verify_up_to(f, &f->branch, next + 100000);
    assert_true(says(&behind, "segment", "000000010000000000000002", "keeps no segment"));
    put_segment(f, 2, wal_bytes(f->wal) + SEGMENT);
    WA_CLEANUP(wa_verify_result_done)
    wa_verify_result healed = verify_up_to(f, &f->branch, next + 100000);
    assert_int_equal(healed.damage_count, 0);
}

static void
store_lineage(fixture *f)
{
    WA_CLEANUP(wa_lineage_freep) wa_lineage *l = wa_lineage_new();
    wa_lineage_append(l, &f->branch, 0);
    l->since = wa_time_now();
    OK(wa_lineage_store(f->repo, l, &f->err));
}

static void
an_archive_without_any_wal_is_damage_where_an_agent_has_written_some(void **state)
{
    fixture *f = *state;
    wa_lsn from = 2 * (wa_lsn)SEGMENT;
    store_lineage(f);
    WA_CLEANUP(wa_verify_result_done)
    wa_verify_result r = verify_from(f, &f->branch, from, from + 100000);
    assert_true(says(&r, "chunk", "000000010000000000000002", "holds no WAL"));
    WA_CLEANUP(wa_verify_result_done)
    wa_verify_result more = verify_from(f, &f->branch, from, from + SEGMENT);
    assert_true(says(&more, "segment", "000000010000000000000002", "holds no WAL"));
    WA_CLEANUP(wa_verify_result_done)
    wa_verify_result nothing =
        verify_from(f, &f->branch, from, from); /* it has written nothing yet */
    assert_int_equal(nothing.damage_count, 0);
}

static const wa_store_ops *listing;
static const char *unlisted; /* a part of the keys that no listing has yet */

typedef struct lagging {
    wa_list_fn fn;
    void *arg;
} lagging;

static wa_status
pass_listed(void *arg, const wa_object *object, wa_error *err)
{
    const lagging *l = arg;
    return strstr(object->key, unlisted) != NULL ? WA_OK : l->fn(l->arg, object, err);
}

static wa_status
list_lagging(wa_store *store, const wa_list_options *options, wa_list_fn fn, void *arg,
             wa_error *err)
{
    lagging l = {fn, arg};
    return listing->list(store, options, pass_listed, &l, err);
}

static size_t
damage_while_unlisted(fixture *f, const char *keys, wa_lsn from, wa_lsn acknowledged)
{
    wa_store *store = wa_repo_store(f->repo);
    wa_store_ops lagging_ops = *store->ops;
    listing = store->ops;
    unlisted = keys;
    lagging_ops.list = list_lagging;
    store->ops = &lagging_ops;
    WA_CLEANUP(wa_verify_result_done)
    wa_verify_result r = verify_from(f, &f->branch, from, acknowledged);
    store->ops = listing;
    return r.damage_count;
}

static void
what_is_not_listed_yet_is_not_missing(void **state)
{
    fixture *f = *state;
    wa_lsn start = 2 * (wa_lsn)SEGMENT, end = start + 200000;
    store_lineage(f);
    put_chunk(f, start, 100000);
    put_chunk(f, start + 100000, 100000);
    assert_int_equal(damage_while_unlisted(f, "tail/", start, end), 0);
    assert_int_equal(damage_while_unlisted(f, "tail/", start, end + 1), 1);
    put_segment(f, 1, wal_bytes(f->wal));
    assert_int_equal(damage_while_unlisted(f, "00000000002186A0.zst", start, end), 0);
    assert_int_equal(damage_while_unlisted(f, "00000000002186A0.zst", start, end + 1), 1);
    put_segment(f, 2, wal_bytes(f->wal) + SEGMENT);
    end = start + SEGMENT;
    assert_int_equal(damage_while_unlisted(f, "000000010000000000000002", start, end), 0);
    assert_int_equal(damage_while_unlisted(f, "000000010000000000000002", start, end + 1), 1);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        T(a_missing_newest_chunk_is_found_where_an_agent_says_how_far_it_was),
        T(a_missing_newest_segment_is_not_said_to_be_with_the_agent),
        T(an_archive_without_any_wal_is_damage_where_an_agent_has_written_some),
        T(what_is_not_listed_yet_is_not_missing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
