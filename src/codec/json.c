/*
 * codec/json.c - jansson with our errors.
 */
#include "walagent/codec/json.h"

#include "walagent/base/buf.h"
#include "walagent/base/str.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define EXACT_IN_DOUBLE (UINT64_C(1) << 53)

wa_status
wa_json_parse(const char *text, size_t len, const char *what, json_t **ret, wa_error *err)
{
    json_error_t why;

    /* Of two members with one name, readers disagree about which one counts. */
    json_t *json = json_loadb(len ? text : "", len, JSON_REJECT_DUPLICATES, &why);
    if (!json)
        return wa_error_set(err, WA_CORRUPT, "%s is not valid JSON: line %d: %s", what, why.line,
                            why.text);
    *ret = json;
    return WA_OK;
}

static wa_status
find_member(const json_t *obj, const char *key, const char *what, const json_t **ret, wa_error *err)
{
    const json_t *value = json_object_get(obj, key);

    if (!value)
        return wa_error_set(err, WA_CORRUPT, "%s has no member \"%s\"", what, key);
    *ret = value;
    return WA_OK;
}

static wa_status
wrong_type(const char *key, const char *what, const char *wanted, wa_error *err)
{
    return wa_error_set(err, WA_CORRUPT, "member \"%s\" of %s is not %s", key, what, wanted);
}

wa_status
wa_json_get_string(const json_t *obj, const char *key, const char *what, const char **ret,
                   wa_error *err)
{
    const json_t *value = NULL;

    WA_TRY(find_member(obj, key, what, &value, err));
    if (!json_is_string(value))
        return wrong_type(key, what, "a string", err);
    *ret = json_string_value(value);
    return WA_OK;
}

static bool
to_i64(const json_t *value, int64_t *ret)
{
    if (!json_is_integer(value))
        return false;
    *ret = json_integer_value(value);
    return true;
}

static bool
to_u64(const json_t *value, uint64_t *ret)
{
    wa_error ignored = WA_ERROR_INIT;

    if (json_is_string(value))
        return wa_parse_u64(json_string_value(value), ret, &ignored) == WA_OK;
    if (!json_is_integer(value) || json_integer_value(value) < 0)
        return false;
    *ret = (uint64_t)json_integer_value(value);
    return true;
}

wa_status
wa_json_get_i64(const json_t *obj, const char *key, const char *what, int64_t *ret, wa_error *err)
{
    const json_t *value = NULL;

    WA_TRY(find_member(obj, key, what, &value, err));
    return to_i64(value, ret) ? WA_OK : wrong_type(key, what, "an integer", err);
}

wa_status
wa_json_get_u64(const json_t *obj, const char *key, const char *what, uint64_t *ret, wa_error *err)
{
    const json_t *value = NULL;

    WA_TRY(find_member(obj, key, what, &value, err));
    return to_u64(value, ret) ? WA_OK : wrong_type(key, what, "an unsigned integer", err);
}

wa_status
wa_json_get_bool(const json_t *obj, const char *key, const char *what, bool *ret, wa_error *err)
{
    const json_t *value = NULL;

    WA_TRY(find_member(obj, key, what, &value, err));
    if (!json_is_boolean(value))
        return wrong_type(key, what, "true or false", err);
    *ret = json_is_true(value);
    return WA_OK;
}

const char *
wa_json_string_or(const json_t *obj, const char *key, const char *fallback)
{
    const json_t *value = json_object_get(obj, key);

    return json_is_string(value) ? json_string_value(value) : fallback;
}

int64_t
wa_json_i64_or(const json_t *obj, const char *key, int64_t fallback)
{
    int64_t number;

    return to_i64(json_object_get(obj, key), &number) ? number : fallback;
}

uint64_t
wa_json_u64_or(const json_t *obj, const char *key, uint64_t fallback)
{
    uint64_t number;

    return to_u64(json_object_get(obj, key), &number) ? number : fallback;
}

bool
wa_json_bool_or(const json_t *obj, const char *key, bool fallback)
{
    const json_t *value = json_object_get(obj, key);

    return json_is_boolean(value) ? json_is_true(value) : fallback;
}

void
wa_json_set(json_t *obj, const char *key, json_t *value)
{
    WA_ASSERT(json_object_set_new(obj, key, value) == 0);
}

/* Bytes of the UTF-8 character at s (RFC 3629: shortest form, no surrogates), 0 when there is none.
 */
static size_t
utf8_length(const unsigned char *s)
{
    unsigned char low = 0x80, high = 0xBF;
    size_t len;

    if (s[0] < 0x80)
        return 1;
    if (s[0] < 0xC2 || s[0] > 0xF4)
        return 0;
    len = s[0] < 0xE0 ? 2 : s[0] < 0xF0 ? 3 : 4;
    if (s[0] == 0xE0)
        low = 0xA0;
    else if (s[0] == 0xED)
        high = 0x9F;
    else if (s[0] == 0xF0)
        low = 0x90;
    else if (s[0] == 0xF4)
        high = 0x8F;
    if (s[1] < low || s[1] > high)
        return 0;
    for (size_t i = 2; i < len; i++)
        if (s[i] < 0x80 || s[i] > 0xBF)
            return 0;
    return len;
}

static json_t *
escaped_string(const char *value)
{
    WA_CLEANUP(wa_buf_done) wa_buf text = WA_BUF_INIT(4 * strlen(value) + 1);
    const unsigned char *s = (const unsigned char *)value;

    while (*s) {
        size_t len = utf8_length(s);
        if (len == 0)
            wa_buf_printf(&text, "\\x%02x", *s++);
        else {
            wa_buf_add(&text, s, len);
            s += len;
        }
    }
    return json_string(wa_buf_str(&text));
}

void
wa_json_set_string(json_t *obj, const char *key, const char *value)
{
    json_t *string = value ? json_string(value) : json_null();

    wa_json_set(obj, key, string ? string : escaped_string(value));
}

void
wa_json_add_string(json_t *array, const char *value)
{
    json_t *string = value ? json_string(value) : json_null();

    WA_ASSERT(json_array_append_new(array, string ? string : escaped_string(value)) == 0);
}

void
wa_json_set_i64(json_t *obj, const char *key, int64_t value)
{
    wa_json_set(obj, key, json_integer(value));
}

void
wa_json_set_u64(json_t *obj, const char *key, uint64_t value)
{
    char text[24];

    if (value <= EXACT_IN_DOUBLE) {
        wa_json_set(obj, key, json_integer((json_int_t)value));
        return;
    }
    snprintf(text, sizeof text, "%" PRIu64, value);
    wa_json_set(obj, key, json_string(text));
}

void
wa_json_set_bool(json_t *obj, const char *key, bool value)
{
    wa_json_set(obj, key, json_boolean(value));
}

char *
wa_json_dump(const json_t *json, size_t indent)
{
    size_t flags = JSON_ENCODE_ANY | (indent ? JSON_INDENT(indent) : JSON_COMPACT);
    char *text = json_dumps(json, flags);

    WA_ASSERT(text);
    return text;
}
