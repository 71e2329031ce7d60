/*
 * walagent/codec/json.h - jansson with our errors: parse, typed getters, dump.
 *
 * Getters fail with CORRUPT and name the key and the document ("what"), so that a damaged object is
 * named. Optional forms (_or) give the fallback when the key is missing or its value is of another
 * type; where a wrong type matters, use the getter.
 * Documents with two members of one name are refused.
 * LSNs are strings "X/X" in JSON for people and scripts; 64-bit numbers that may pass 2^53 (system
 * identifiers) are strings.
 */
#ifndef WALAGENT_CODEC_JSON_H
#define WALAGENT_CODEC_JSON_H

#include "walagent/base/error.h"
#include "walagent/base/mem.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static inline void
wa_json_freep(json_t **p)
{
    json_decref(*p);
    *p = NULL;
}
wa_status wa_json_parse(const char *text, size_t len, const char *what, json_t **ret,
                        wa_error *err) WA_MUST_CHECK;
wa_status wa_json_get_string(const json_t *obj, const char *key, const char *what, const char **ret,
                             wa_error *err) WA_MUST_CHECK; /* borrowed */
wa_status wa_json_get_i64(const json_t *obj, const char *key, const char *what, int64_t *ret,
                          wa_error *err) WA_MUST_CHECK;
wa_status wa_json_get_u64(const json_t *obj, const char *key, const char *what, uint64_t *ret,
                          wa_error *err) WA_MUST_CHECK; /* a number, or a decimal string */
wa_status wa_json_get_bool(const json_t *obj, const char *key, const char *what, bool *ret,
                           wa_error *err) WA_MUST_CHECK;
const char *wa_json_string_or(const json_t *obj, const char *key, const char *fallback);
int64_t wa_json_i64_or(const json_t *obj, const char *key, int64_t fallback);
uint64_t wa_json_u64_or(const json_t *obj, const char *key, uint64_t fallback);
bool wa_json_bool_or(const json_t *obj, const char *key, bool fallback);
/* Set a member; aborts on exhaustion. Strings that are not UTF-8 are escaped as \xNN text. */
void wa_json_set(json_t *obj, const char *key, json_t *value);            /* takes value */
void wa_json_set_string(json_t *obj, const char *key, const char *value); /* NULL: null */
void wa_json_set_i64(json_t *obj, const char *key, int64_t value);
void wa_json_set_u64(json_t *obj, const char *key, uint64_t value); /* above 2^53: decimal string */
void wa_json_set_bool(json_t *obj, const char *key, bool value);
void wa_json_add_string(json_t *array, const char *value); /* the same at an array's end */
/* Compact (indent 0) or indented text, members in order of insertion; a new string. */
char *wa_json_dump(const json_t *json, size_t indent);

#endif
