/*
 * Tests of branches, histories and the lineage: numbered, created once, damage named.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include "repo_fixture.h"
#include "repo_internal.h"

#include "walagent/codec/hash.h"
#include "walagent/repo/lineage.h"

static wa_branch
branch_of(wa_tli tli, const char *history, const char *record)
{
    return wa_branch_of(SYSTEM_ID, tli, history, history == NULL ? 0 : strlen(history), record,
                        record == NULL ? 0 : strlen(record));
}

static void
a_branch_is_named_by_system_history_and_first_record(void **state)
{
    (void)state;
    static const char text[] = "7412345678901234567\0"
                               "1\t0/3000000\tno recovery target specified\n\0"
                               "RECORD";
    char hex[WA_SHA256_HEX];
    wa_sha256_hex(text, sizeof text - 1, hex);
    hex[8] = '\0';
    static const char history[] = "1\t0/3000000\tno recovery target specified\n";
    assert_string_equal(branch_of(2, history, "RECORD").id, hex);
    assert_string_not_equal(branch_of(2, history, "RECORE").id, hex);
    assert_string_not_equal(branch_of(2, history, NULL).id, hex);
    /* printf '7412345678901234567\0\0' | sha256sum */
    assert_string_equal(branch_of(1, NULL, NULL).id, "104d79e5");
}

static void
a_history_is_kept_exactly_and_never_replaced(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    fixture f;
    fixture_new(&f);
    static const char history[] = "# by hand\n1\t0/3000000\tx\n", other[] = "1\t0/4000000\tx\n";
    wa_branch two = branch_of(2, history, "r");
    OK(wa_history_put(f.repo, &two, history, strlen(history), &err));
    OK(wa_history_put(f.repo, &two, history, strlen(history), &err));
    FAILS(wa_history_put(f.repo, &two, other, strlen(other), &err), WA_CONFLICT);
    wa_buf got = WA_BUF_INIT(1000);
    OK(wa_history_get(f.repo, &two, &got, &err));
    assert_string_equal(wa_buf_str(&got), history);
    wa_branch three = branch_of(3, history, "r");
    FAILS(wa_history_get(f.repo, &three, &got, &err), WA_NOT_FOUND);
    wa_branch *all = NULL;
    size_t count = 0;
    OK(wa_branches_all(f.repo, &all, &count, &err));
    assert_int_equal(count, 2);
    assert_true(wa_branch_eq(&all[0], &f.first) && wa_branch_eq(&all[1], &two));
    free(all);
    OK(wa_history_put_pending(f.repo, 2, other, strlen(other), &err));
    OK(wa_history_put_pending(f.repo, 2, other, strlen(other), &err));
    wa_strv pending = {0};
    OK(wa_history_pending(f.repo, 2, &pending, &err));
    assert_int_equal(pending.count, 1);
    assert_string_equal(pending.items[0], other);
    OK(wa_branches_of(f.repo, 2, &all, &count, &err));
    assert_int_equal(count, 1);
    free(all);
    wa_strv_done(&pending);
    wa_buf_done(&got);
    fixture_done(&f);
}

static void
the_lineage_is_read_back_as_it_was_stored(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    fixture f;
    fixture_new(&f);
    wa_lineage *l = NULL, *again = NULL;
    OK(wa_lineage_load(f.repo, &l, &err));
    assert_int_equal(l->number, 0);
    assert_int_equal(l->count, 1);
    assert_true(wa_branch_eq(&l->steps[0].branch, &f.first));
    wa_branch two = branch_of(2, "1\t0/3000000\tx\n", "r");
    wa_lineage_append(l, &two, 0x3000000);
    wa_lineage_add_seal(l, 1, &f.first, 0x3000000);
    wa_lineage_reject(l, &two);
    l->epoch = 2;
    snprintf(l->writer, sizeof l->writer, "node-a");
    snprintf(l->reason, sizeof l->reason, "took over");
    l->since = 1234567;
    OK(wa_lineage_store(f.repo, l, &err));
    assert_int_equal(l->number, 1);
    OK(wa_lineage_load(f.repo, &again, &err));
    assert_int_equal(again->number, 1);
    assert_int_equal(again->epoch, 2);
    assert_string_equal(again->writer, "node-a");
    assert_true(again->since == 1234567);
    assert_int_equal(again->count, 2);
    assert_true(wa_lineage_end_of(again, &f.first) == 0x3000000);
    assert_true(wa_lineage_end_of(again, &two) == 0);
    assert_true(wa_branch_eq(wa_lineage_at(again, 0x2FFFFFF), &f.first));
    assert_true(wa_branch_eq(wa_lineage_at(again, 0x3000000), &two));
    assert_int_equal(again->seal_count, 1);
    assert_true(wa_lineage_is_rejected(again, &two));
    wa_lineage_free(l);
    wa_lineage_free(again);
    fixture_done(&f);
}

static void
a_slower_writer_gets_exists_and_sees_the_faster_one(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    fixture f;
    fixture_new(&f);
    wa_lineage *a = NULL, *b = NULL;
    OK(wa_lineage_load(f.repo, &a, &err));
    OK(wa_lineage_load(f.repo, &b, &err));
    a->epoch = b->epoch = 1;
    snprintf(a->writer, sizeof a->writer, "a");
    snprintf(b->writer, sizeof b->writer, "b");
    OK(wa_lineage_store(f.repo, a, &err));
    FAILS(wa_lineage_store(f.repo, b, &err), WA_EXISTS);
    assert_int_equal(b->number, 0);
    wa_lineage_free(b);
    OK(wa_lineage_load(f.repo, &b, &err));
    assert_string_equal(b->writer, "a");
    b->epoch = 2;
    OK(wa_lineage_store(f.repo, b, &err));
    assert_int_equal(b->number, 2);
    wa_lineage_free(a);
    wa_lineage_free(b);
    fixture_done(&f);
}

typedef struct racer {
    fixture *f;
    char name[8];
    wa_status status;
} racer;

static void *
race_store(void *arg)
{
    racer *r = arg;
    wa_error err = WA_ERROR_INIT;
    wa_lineage *l = NULL;
    r->status = wa_lineage_load(r->f->repo, &l, &err);
    if (r->status != WA_OK)
        return NULL;
    wa_lineage_cut_after(l, 1);
    l->number = 0;
    snprintf(l->writer, sizeof l->writer, "%s", r->name);
    r->status = wa_lineage_store(r->f->repo, l, &err);
    wa_lineage_free(l);
    return NULL;
}

static void
of_two_writers_at_once_one_stores(void **state)
{
    (void)state;
    for (int round = 0; round < 20; round++) {
        wa_error err = WA_ERROR_INIT;
        fixture f;
        fixture_new(&f);
        racer racers[2] = {{&f, "a", WA_FAILED}, {&f, "b", WA_FAILED}};
        pthread_t threads[2];
        for (size_t i = 0; i < 2; i++)
            OK(wa_thread_start(&threads[i], "lineage", race_store, &racers[i], &err));
        for (size_t i = 0; i < 2; i++)
            wa_thread_join(threads[i]);
        size_t winner = racers[0].status == WA_OK ? 0 : 1;
        assert_int_equal(racers[winner].status, WA_OK);
        assert_int_equal(racers[1 - winner].status, WA_EXISTS);
        wa_lineage *l = NULL;
        OK(wa_lineage_load(f.repo, &l, &err));
        assert_string_equal(l->writer, racers[winner].name);
        wa_lineage_free(l);
        fixture_done(&f);
    }
}

static void
a_store_whose_reply_got_lost_succeeds_when_repeated(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    fixture f;
    fixture_new(&f);
    wa_lineage *l = NULL;
    OK(wa_lineage_load(f.repo, &l, &err));
    wa_store_fault_set(f.store, "put", 1, 0, WA_FAULT_LOSE_REPLY);
    FAILS(wa_lineage_store(f.repo, l, &err), WA_UNAVAILABLE);
    assert_int_equal(l->number, 0);
    OK(wa_lineage_store(f.repo, l, &err));
    assert_int_equal(l->number, 1);
    assert_int_equal(count_keys(&f, "lineage/"), 1);
    wa_lineage_free(l);
    fixture_done(&f);
}

/* With public facts that fit what is there: each document is refused for what it says. */
static void
a_damaged_lineage_is_named_and_not_passed_over(void **state)
{
    (void)state;
    static const struct {
        const char *text, *reason;
    } cases[] = {
        {"{\"v\":1", "JSON"},
        {"[]", "not a JSON object"},
        {"{\"epoch\":1}", "since"},
        {"{\"epoch\":1,\"since\":null,\"steps\":{},\"seals\":[],\"rejected\":[]}", "no array"},
        {"{\"epoch\":1,\"since\":null,\"steps\":[{\"branch\":\"x\",\"begin\":\"0/0\"}],"
         "\"seals\":[],\"rejected\":[]}",
         "\"branch\""},
        {"{\"epoch\":1,\"since\":null,\"steps\":["
         "{\"branch\":\"00000002-00000000\",\"begin\":\"0/0\"},"
         "{\"branch\":\"00000001-00000000\",\"begin\":\"0/8\"}],\"seals\":[],\"rejected\":[]}",
         "out of order"},
        {"{\"epoch\":1,\"since\":null,\"steps\":["
         "{\"branch\":\"00000001-00000000\",\"begin\":\"0/10\"},"
         "{\"branch\":\"00000002-00000000\",\"begin\":\"0/8\"}],\"seals\":[],\"rejected\":[]}",
         "out of order"}};
    for (size_t i = 0; i < WA_ARRAY_SIZE(cases); i++) {
        wa_error err = WA_ERROR_INIT;
        fixture f;
        fixture_new(&f);
        wa_lineage *l = NULL;
        OK(wa_lineage_load(f.repo, &l, &err));
        OK(wa_lineage_store(f.repo, l, &err));
        wa_lineage_free(l);
        char *key = wa_repo_key(f.repo, "lineage/00000002.json");
        OK(wa_object_put(f.repo, key, "lineage", cases[i].text, strlen(cases[i].text), &err));
        l = NULL;
        FAILS(wa_lineage_load(f.repo, &l, &err), WA_CORRUPT);
        assert_null(l);
        assert_non_null(strstr(err.message, key));
        if (strstr(err.message, cases[i].reason) == NULL)
            fail_msg("%s: %s", cases[i].text, err.message);
        free(key);
        fixture_done(&f);
    }
}

/* Past the content's identity: what a writer with a fault would store. */
static void
an_impossible_document_is_refused_for_its_own_reason(void **state)
{
    (void)state;
    static const char good[] =
        "{\"epoch\":2,\"since\":null,\"steps\":[{\"branch\":\"00000001-00000000\",\"begin\":\"0/"
        "0\"}],"
        "\"seals\":[{\"epoch\":4294967295,\"branch\":\"00000001-00000000\",\"lsn\":\"0/8\"}],"
        "\"rejected\":[\"00000002-00000001\"]}";
    static const struct {
        const char *from, *to, *reason;
    } cases[] = {{"4294967295", "4294967296", "a seal"},
                 {"\"epoch\":2", "\"epoch\":4294967298", "impossible epoch"},
                 {"00000002-00000001", "00000002+00000001", "rejects"},
                 {"\"seals\"", "\"other\"", "no valid seals"}};
    wa_error err = WA_ERROR_INIT;
    WA_CLEANUP(wa_json_freep) json_t *json = NULL;
    WA_CLEANUP(wa_lineage_freep) wa_lineage *l = NULL;
    OK(wa_json_parse(good, strlen(good), "x", &json, &err));
    OK(wa_lineage_from_json(json, "x", &l, &err));
    assert_int_equal(l->seals[0].epoch, UINT32_MAX);
    for (size_t i = 0; i < WA_ARRAY_SIZE(cases); i++) {
        const char *at = strstr(good, cases[i].from);
        WA_CLEANUP(wa_freep)
        char *text =
            wa_format("%.*s%s%s", (int)(at - good), good, cases[i].to, at + strlen(cases[i].from));
        WA_CLEANUP(wa_json_freep) json_t *bad = NULL;
        wa_lineage *none = NULL;
        OK(wa_json_parse(text, strlen(text), "x", &bad, &err));
        FAILS(wa_lineage_from_json(bad, "x", &none, &err), WA_CORRUPT);
        assert_null(none);
        assert_non_null(strstr(err.message, cases[i].reason));
        wa_error_clear(&err);
    }
}

/* Still valid JSON, with another epoch: only the content's identity tells. */
static void
a_changed_digit_in_the_lineage_is_found(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    fixture f;
    fixture_new(&f);
    wa_lineage *l = NULL;
    OK(wa_lineage_load(f.repo, &l, &err));
    l->epoch = 4;
    OK(wa_lineage_store(f.repo, l, &err));
    wa_lineage_free(l);
    l = NULL;
    char *key = wa_repo_key(f.repo, "lineage/00000001.json"), *meta = NULL;
    wa_buf text = WA_BUF_INIT(100000);
    OK(wa_store_get(f.store, key, 0, UINT64_MAX, &text, &meta, &err));
    char *digit = strchr(strstr(text.data, "\"epoch\""), '4');
    assert_non_null(digit);
    *digit = '5';
    wa_body body = {.data = text.data, .len = text.len, .fd = -1};
    OK(wa_store_put(f.store, key, &body, meta, WA_PUT_REPLACE, &err));
    FAILS(wa_lineage_load(f.repo, &l, &err), WA_CORRUPT);
    assert_non_null(strstr(err.message, key));
    free(key);
    free(meta);
    wa_buf_done(&text);
    fixture_done(&f);
}

static void
the_chain_to_another_branch_follows_its_history(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    fixture f;
    fixture_new(&f);
    static const char two_text[] = "1\t0/3000000\tx\n", stray_text[] = "1\t0/2000000\tx\n",
                      three_text[] = "1\t0/3000000\tx\n\n2\t0/5000000\ty\n";
    wa_branch two = branch_of(2, two_text, "a"), stray = branch_of(2, stray_text, "a"),
              twin = branch_of(2, two_text, "b"), three = branch_of(3, three_text, "a");
    wa_lineage *accepted = NULL, *l = NULL;
    OK(wa_lineage_load(f.repo, &accepted, &err));
    OK(wa_history_put(f.repo, &stray, stray_text, strlen(stray_text), &err));
    FAILS(wa_lineage_to_branch(f.repo, accepted, &three, &l, &err), WA_NOT_FOUND);
    OK(wa_history_put(f.repo, &three, three_text, strlen(three_text), &err));
    FAILS(wa_lineage_to_branch(f.repo, accepted, &three, &l, &err), WA_NOT_FOUND);
    OK(wa_history_put(f.repo, &two, two_text, strlen(two_text), &err));
    OK(wa_lineage_to_branch(f.repo, accepted, &three, &l, &err));
    assert_int_equal(l->count, 3);
    assert_true(wa_branch_eq(&l->steps[1].branch, &two) && l->steps[1].begin == 0x3000000);
    assert_true(wa_branch_eq(&l->steps[2].branch, &three) && l->steps[2].begin == 0x5000000);
    wa_lineage_free(l);
    /* Two branches with this history: only the accepted one is certain. */
    OK(wa_history_put(f.repo, &twin, two_text, strlen(two_text), &err));
    FAILS(wa_lineage_to_branch(f.repo, accepted, &three, &l, &err), WA_CONFLICT);
    wa_lineage_append(accepted, &twin, 0x3000000);
    OK(wa_lineage_to_branch(f.repo, accepted, &three, &l, &err));
    assert_true(wa_branch_eq(&l->steps[1].branch, &twin));
    wa_lineage_free(l);
    wa_lineage_free(accepted);
    fixture_done(&f);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_branch_is_named_by_system_history_and_first_record),
        cmocka_unit_test(a_history_is_kept_exactly_and_never_replaced),
        cmocka_unit_test(the_lineage_is_read_back_as_it_was_stored),
        cmocka_unit_test(a_slower_writer_gets_exists_and_sees_the_faster_one),
        cmocka_unit_test(of_two_writers_at_once_one_stores),
        cmocka_unit_test(a_store_whose_reply_got_lost_succeeds_when_repeated),
        cmocka_unit_test(a_damaged_lineage_is_named_and_not_passed_over),
        cmocka_unit_test(an_impossible_document_is_refused_for_its_own_reason),
        cmocka_unit_test(a_changed_digit_in_the_lineage_is_found),
        cmocka_unit_test(the_chain_to_another_branch_follows_its_history),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
