/*
 * Tests of JSON: getters, order, strings that are not UTF-8.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include "walagent/codec/json.h"

#include <string.h>

static json_t *
parse(const char *text)
{
    json_t *json = NULL;
    wa_error err = WA_ERROR_INIT;

    if (wa_json_parse(text, strlen(text), "test", &json, &err) != WA_OK)
        fail_msg("%s", err.message);
    return json;
}

static void
members_keep_their_order(void **state)
{
    (void)state;
    WA_CLEANUP(wa_json_freep) json_t *obj = json_object();
    WA_CLEANUP(wa_freep) char *text = NULL;

    wa_json_set_i64(obj, "zebra", -1);
    wa_json_set_bool(obj, "apple", true);
    wa_json_set_string(obj, "none", NULL);
    wa_json_set_string(obj, "mid", "x");
    wa_json_set_i64(obj, "zebra", 2);
    text = wa_json_dump(obj, 0);
    assert_string_equal(text, "{\"zebra\":2,\"apple\":true,\"none\":null,\"mid\":\"x\"}");
    WA_CLEANUP(wa_json_freep) json_t *again = parse(text);
    WA_CLEANUP(wa_freep) char *indented = wa_json_dump(again, 2);
    assert_ptr_equal(strstr(indented, "{\n  \"zebra\": 2,\n"), indented);
}

static void
what_is_not_json_is_corrupt(void **state)
{
    (void)state;
    static const char *const texts[] = {"",
                                        "{",
                                        "{}x",
                                        "{\"a\":1,\"a\":2}",
                                        "1",
                                        "{\"a\":99999999999999999999}",
                                        "{\"a\":\"\\u0000\"}",
                                        "{\"a\":\"\xff\"}"};

    for (size_t i = 0; i < WA_ARRAY_SIZE(texts); i++) {
        json_t *json = NULL;
        wa_error err = WA_ERROR_INIT;
        assert_int_equal(wa_json_parse(texts[i], strlen(texts[i]), "the thing", &json, &err),
                         WA_CORRUPT);
        assert_null(json);
        assert_ptr_equal(strstr(err.message, "the thing"), err.message);
    }
}

static void
getters_name_the_key_and_the_document(void **state)
{
    (void)state;
    WA_CLEANUP(wa_json_freep) json_t *obj = parse("{\"s\":\"x\",\"i\":-5,\"b\":false,\"r\":1.5}");
    wa_error err = WA_ERROR_INIT;
    const char *s = "kept";
    int64_t i = 77;
    uint64_t u = 77;
    bool b = true;

    assert_int_equal(wa_json_get_string(obj, "gone", "doc", &s, &err), WA_CORRUPT);
    assert_string_equal(err.message, "doc has no member \"gone\"");
    assert_int_equal(wa_json_get_string(obj, "i", "doc", &s, &err), WA_CORRUPT);
    assert_string_equal(err.message, "member \"i\" of doc is not a string");
    assert_int_equal(wa_json_get_i64(obj, "r", "doc", &i, &err), WA_CORRUPT);
    assert_int_equal(wa_json_get_u64(obj, "i", "doc", &u, &err), WA_CORRUPT);
    assert_int_equal(wa_json_get_u64(obj, "s", "doc", &u, &err), WA_CORRUPT);
    assert_int_equal(wa_json_get_bool(obj, "s", "doc", &b, &err), WA_CORRUPT);
    assert_string_equal(s, "kept");
    assert_int_equal(i, 77);
    assert_int_equal(u, 77);
    assert_int_equal(wa_json_get_i64(obj, "i", "doc", &i, &err), WA_OK);
    assert_int_equal(i, -5);
    assert_int_equal(wa_json_get_bool(obj, "b", "doc", &b, &err), WA_OK);
    assert_false(b);
    assert_int_equal(wa_json_get_string(obj, "s", "doc", &s, &err), WA_OK);
    assert_string_equal(s, "x");
    assert_string_equal(wa_json_string_or(obj, "i", "fallback"), "fallback");
    assert_int_equal(wa_json_i64_or(obj, "gone", 3), 3);
    assert_int_equal(wa_json_u64_or(obj, "i", 4), 4);
    assert_true(wa_json_bool_or(obj, "s", true));
}

static void
large_numbers_survive(void **state)
{
    (void)state;
    const uint64_t numbers[] = {0,
                                1,
                                (UINT64_C(1) << 53),
                                (UINT64_C(1) << 53) + 1,
                                INT64_MAX,
                                UINT64_C(7000000000000000001),
                                UINT64_MAX};

    for (size_t i = 0; i < WA_ARRAY_SIZE(numbers); i++) {
        WA_CLEANUP(wa_json_freep) json_t *obj = json_object();
        wa_error err = WA_ERROR_INIT;
        uint64_t read = 5;
        wa_json_set_u64(obj, "n", numbers[i]);
        assert_int_equal(json_is_string(json_object_get(obj, "n")), numbers[i] > UINT64_C(1) << 53);
        WA_CLEANUP(wa_freep) char *text = wa_json_dump(obj, 0);
        WA_CLEANUP(wa_json_freep) json_t *again = parse(text);
        assert_int_equal(wa_json_get_u64(again, "n", "doc", &read, &err), WA_OK);
        assert_true(read == numbers[i]);
    }
}

static void
strings_that_are_not_utf8_are_escaped(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"plain", "plain"},
        {"\xc3\xa4", "\xc3\xa4"},
        {"\xe4 b", "\\xe4 b"},
        {"\xc3\xa4\xff", "\xc3\xa4\\xff"},
        {"\xc0\x80", "\\xc0\\x80"},
        {"\xed\xa0\x80", "\\xed\\xa0\\x80"},
        {"\xf0\x9f\x98\x80\xf0\x9f\x98", "\xf0\x9f\x98\x80\\xf0\\x9f\\x98"},
        {"\xf4\x90\x80\x80", "\\xf4\\x90\\x80\\x80"},
    };

    for (size_t i = 0; i < WA_ARRAY_SIZE(cases); i++) {
        WA_CLEANUP(wa_json_freep) json_t *obj = json_object();
        wa_json_set_string(obj, "s", cases[i][0]);
        assert_string_equal(wa_json_string_or(obj, "s", ""), cases[i][1]);
    }
}

static void
array_members_that_are_not_utf8_are_escaped_too(void **state)
{
    (void)state;
    WA_CLEANUP(wa_json_freep) json_t *array = json_array();
    wa_json_add_string(array, "gr\xc3\xbc\xc3\x9f");
    wa_json_add_string(array, "a\xff");
    wa_json_add_string(array, NULL);
    WA_CLEANUP(wa_freep) char *text = wa_json_dump(array, 0);
    assert_string_equal(text, "[\"gr\xc3\xbc\xc3\x9f\",\"a\\\\xff\",null]");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(members_keep_their_order),
        cmocka_unit_test(what_is_not_json_is_corrupt),
        cmocka_unit_test(getters_name_the_key_and_the_document),
        cmocka_unit_test(large_numbers_survive),
        cmocka_unit_test(strings_that_are_not_utf8_are_escaped),
        cmocka_unit_test(array_members_that_are_not_utf8_are_escaped_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
