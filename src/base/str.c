/*
 * str.c - comparing strings, lists of strings, hexadecimal, and the nearest word.
 */
#include "walagent/base/str.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

bool
wa_str_eq(const char *a, const char *b)
{
    if (a == NULL || b == NULL)
        return a == b;
    return strcmp(a, b) == 0;
}

bool
wa_str_starts(const char *s, const char *prefix)
{
    return s != NULL && strncmp(s, prefix, strlen(prefix)) == 0;
}

bool
wa_str_ends(const char *s, const char *suffix)
{
    if (s == NULL)
        return false;
    size_t len = strlen(s);
    size_t tail = strlen(suffix);
    return len >= tail && memcmp(s + len - tail, suffix, tail) == 0;
}

bool
wa_str_empty(const char *s)
{
    return s == NULL || s[0] == '\0';
}

void
wa_strv_take(wa_strv *v, char *s)
{
    if (v->count == v->capacity) {
        v->capacity = v->capacity > 0 ? v->capacity * 2 : 8;
        v->items = wa_reallocarray(v->items, v->capacity, sizeof *v->items);
    }
    v->items[v->count++] = s;
}

void
wa_strv_add(wa_strv *v, const char *s)
{
    wa_strv_take(v, wa_strdup(s));
}

void
wa_strv_done(wa_strv *v)
{
    for (size_t i = 0; i < v->count; i++)
        free(v->items[i]);
    free(v->items);
    *v = (wa_strv){0};
}

static int
compare_items(const void *a, const void *b)
{
    const char *const *left = a;
    const char *const *right = b;
    return strcmp(*left, *right);
}

void
wa_strv_sort(wa_strv *v)
{
    if (v->count > 1)
        qsort(v->items, v->count, sizeof *v->items, compare_items);
}

bool
wa_strv_contains(const wa_strv *v, const char *s)
{
    for (size_t i = 0; i < v->count; i++)
        if (strcmp(v->items[i], s) == 0)
            return true;
    return false;
}

static int
hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

bool
wa_parse_hex(const char *s, size_t digits, uint64_t *ret)
{
    if (digits == 0 || digits > 16)
        return false;
    uint64_t value = 0;
    for (size_t i = 0; i < digits; i++) {
        int digit = hex_digit(s[i]); /* the terminating NUL is no digit: never reads past it */
        if (digit < 0)
            return false;
        value = value << 4 | (uint64_t)digit;
    }
    *ret = value;
    return true;
}

char *
wa_hex(const void *data, size_t len, char *out)
{
    static const char digits[] = "0123456789abcdef";
    const unsigned char *bytes = data;
    for (size_t i = 0; i < len; i++) {
        out[2 * i] = digits[bytes[i] >> 4];
        out[2 * i + 1] = digits[bytes[i] & 15];
    }
    out[2 * len] = '\0';
    return out;
}

bool
wa_unhex(const char *hex, void *out, size_t out_size, size_t *ret_len)
{
    size_t digits = strlen(hex);
    if (digits % 2 != 0 || digits / 2 > out_size)
        return false;
    for (size_t i = 0; i < digits; i++)
        if (hex_digit(hex[i]) < 0)
            return false;
    unsigned char *bytes = out;
    for (size_t i = 0; i < digits / 2; i++)
        bytes[i] = (unsigned char)(hex_digit(hex[2 * i]) << 4 | hex_digit(hex[2 * i + 1]));
    *ret_len = digits / 2;
    return true;
}

#define NEAREST_MAX 64 /* longer words have no near neighbour */

static size_t
min3(size_t a, size_t b, size_t c)
{
    size_t least = a < b ? a : b;
    return least < c ? least : c;
}

static bool
same_letter(char a, char b)
{
    return tolower((unsigned char)a) == tolower((unsigned char)b);
}

/* Edits (insert, remove, replace, swap neighbours) that make a into b, by the usual table of
 * which three rows are kept. Both at most NEAREST_MAX long. */
static size_t
edit_distance(const char *a, size_t a_len, const char *b, size_t b_len)
{
    size_t rows[3][NEAREST_MAX + 1];
    for (size_t j = 0; j <= b_len; j++)
        rows[0][j] = j;
    for (size_t i = 1; i <= a_len; i++) {
        size_t *row = rows[i % 3];
        const size_t *above = rows[(i + 2) % 3];
        const size_t *second = rows[(i + 1) % 3];
        row[0] = i;
        for (size_t j = 1; j <= b_len; j++) {
            size_t replace = above[j - 1] + (same_letter(a[i - 1], b[j - 1]) ? 0 : 1);
            row[j] = min3(above[j] + 1, row[j - 1] + 1, replace);
            bool swapped = i > 1 && j > 1 && same_letter(a[i - 1], b[j - 2]) &&
                           same_letter(a[i - 2], b[j - 1]);
            if (swapped && second[j - 2] + 1 < row[j])
                row[j] = second[j - 2] + 1;
        }
    }
    return rows[a_len % 3][b_len];
}

const char *
wa_nearest(const char *word, const char *const *candidates, size_t count)
{
    size_t len = strlen(word);
    if (len == 0 || len > NEAREST_MAX)
        return NULL;
    size_t best = len / 3 + 1; /* a third of the letters may be wrong */
    const char *nearest = NULL;
    for (size_t i = 0; i < count; i++) {
        size_t candidate_len = strlen(candidates[i]);
        if (candidate_len > NEAREST_MAX)
            continue;
        size_t distance = edit_distance(word, len, candidates[i], candidate_len);
        /* Something of the word must be left: "on" is not a misspelt "s3". */
        if (distance < len && (nearest == NULL ? distance <= best : distance < best)) {
            best = distance;
            nearest = candidates[i];
        }
    }
    return nearest;
}
