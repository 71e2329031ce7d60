/*
 * walagent/base/str.h - strings, lists of strings, numbers with units.
 */
#ifndef WALAGENT_BASE_STR_H
#define WALAGENT_BASE_STR_H

#include "walagent/base/error.h"
#include "walagent/base/mem.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

bool wa_str_eq(const char *a, const char *b); /* NULL equals NULL only */
bool wa_str_starts(const char *s, const char *prefix);
bool wa_str_ends(const char *s, const char *suffix);
bool wa_str_empty(const char *s); /* NULL or "" */

/* A list of owned strings. Zero-initialised is empty. */
typedef struct wa_strv {
    char **items;
    size_t count, capacity;
} wa_strv;
void wa_strv_add(wa_strv *v, const char *s); /* copies */
void wa_strv_take(wa_strv *v, char *s);      /* takes */
void wa_strv_done(wa_strv *v);
void wa_strv_sort(wa_strv *v); /* strcmp order */
bool wa_strv_contains(const wa_strv *v, const char *s);

/* Whole string, decimal; INVALID with the text in the message. */
wa_status wa_parse_u64(const char *s, uint64_t *ret, wa_error *err) WA_MUST_CHECK;
wa_status wa_parse_i64(const char *s, int64_t *ret, wa_error *err) WA_MUST_CHECK;
/* Exactly `digits` hexadecimal digits at s (no sign, no 0x). False otherwise. */
bool wa_parse_hex(const char *s, size_t digits, uint64_t *ret);
/* "16MiB", "16MB" (the same: PostgreSQL's units are binary), "8kB", "1GiB", "512" (bytes). */
wa_status wa_parse_size(const char *s, uint64_t *ret_bytes, wa_error *err) WA_MUST_CHECK;
/* "1s", "500ms", "10min", "2h", "30d"; a bare number is seconds. */
wa_status wa_parse_duration_ms(const char *s, uint64_t *ret_ms, wa_error *err) WA_MUST_CHECK;
wa_status wa_parse_bool(const char *s, bool *ret, wa_error *err) WA_MUST_CHECK;

#define WA_SIZE_TEXT 32
/* "1.5 GiB", "12 kB"-like text for people. Returns out. */
char *wa_format_size(uint64_t bytes, char out[static WA_SIZE_TEXT]);
char *wa_format_duration_ms(uint64_t ms, char out[static WA_SIZE_TEXT]); /* "2 min 3 s" */
/* lower-case hexadecimal; out has 2*len+1 bytes. */
char *wa_hex(const void *data, size_t len, char *out);
/* False on odd length or a non-digit; ret_len = strlen/2. */
bool wa_unhex(const char *hex, void *out, size_t out_size, size_t *ret_len);
/* The candidate nearest to `word` by edit distance, or NULL when none is near ("did you mean"). */
const char *wa_nearest(const char *word, const char *const *candidates, size_t count);

#endif
