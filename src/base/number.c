/*
 * number.c - numbers, sizes and durations with units, from and to text.
 */
#include "walagent/base/str.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

/* Reads the digits at *s and moves past them. False when there is none or the value overflows. */
static bool
scan_digits(const char **s, uint64_t *ret)
{
    const char *p = *s;
    uint64_t value = 0;
    if (*p < '0' || *p > '9')
        return false;
    for (; *p >= '0' && *p <= '9'; p++) {
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, (uint64_t)(*p - '0'), &value))
            return false;
    }
    *s = p;
    *ret = value;
    return true;
}

wa_status
wa_parse_u64(const char *s, uint64_t *ret, wa_error *err)
{
    const char *p = s;
    uint64_t value;
    if (!scan_digits(&p, &value) || *p != '\0')
        return wa_error_set(err, WA_INVALID, "invalid number \"%s\"", s);
    *ret = value;
    return WA_OK;
}

wa_status
wa_parse_i64(const char *s, int64_t *ret, wa_error *err)
{
    const char *p = s;
    bool negative = *p == '-';
    if (*p == '-' || *p == '+')
        p++;
    uint64_t most = negative ? (uint64_t)INT64_MAX + 1 : (uint64_t)INT64_MAX;
    uint64_t value;
    if (!scan_digits(&p, &value) || *p != '\0' || value > most)
        return wa_error_set(err, WA_INVALID, "invalid number \"%s\"", s);
    *ret = negative ? (int64_t)(0 - value) : (int64_t)value;
    return WA_OK;
}

typedef struct unit {
    const char *name;
    uint64_t factor;
} unit;

#define KIB 1024ULL
static const unit size_units[] = {
    {"", 1},
    {"B", 1},
    {"k", KIB},
    {"kB", KIB},
    {"KiB", KIB},
    {"M", KIB *KIB},
    {"MB", KIB *KIB},
    {"MiB", KIB *KIB},
    {"G", KIB *KIB *KIB},
    {"GB", KIB *KIB *KIB},
    {"GiB", KIB *KIB *KIB},
    {"T", KIB *KIB *KIB *KIB},
    {"TB", KIB *KIB *KIB *KIB},
    {"TiB", KIB *KIB *KIB *KIB},
    {"PB", KIB *KIB *KIB *KIB *KIB},
    {"PiB", KIB *KIB *KIB *KIB *KIB},
};

#define SECOND 1000ULL
static const unit duration_units[] = {
    {"", SECOND},          {"ms", 1}, {"s", SECOND}, {"min", 60 * SECOND}, {"h", 3600 * SECOND},
    {"d", 86400 * SECOND},
};

/* A whole number, perhaps a space, and one of the units. */
static bool
parse_with_unit(const char *s, const unit *units, size_t count, uint64_t *ret)
{
    const char *p = s;
    uint64_t value;
    if (!scan_digits(&p, &value))
        return false;
    if (*p == ' ' && p[1] != '\0')
        p++;
    for (size_t i = 0; i < count; i++)
        if (strcasecmp(p, units[i].name) == 0)
            return !__builtin_mul_overflow(value, units[i].factor, ret);
    return false;
}

wa_status
wa_parse_size(const char *s, uint64_t *ret_bytes, wa_error *err)
{
    uint64_t bytes;
    if (!parse_with_unit(s, size_units, WA_ARRAY_SIZE(size_units), &bytes)) {
        wa_error_set(err, WA_INVALID, "invalid size \"%s\"", s);
        return wa_error_hint(err, "Write a whole number and one of B, kB, MB, GB, TB (or KiB, MiB, "
                                  "GiB, TiB, which are the same).");
    }
    *ret_bytes = bytes;
    return WA_OK;
}

wa_status
wa_parse_duration_ms(const char *s, uint64_t *ret_ms, wa_error *err)
{
    uint64_t ms;
    if (!parse_with_unit(s, duration_units, WA_ARRAY_SIZE(duration_units), &ms)) {
        wa_error_set(err, WA_INVALID, "invalid duration \"%s\"", s);
        return wa_error_hint(err, "Write a whole number and one of ms, s, min, h, d.");
    }
    *ret_ms = ms;
    return WA_OK;
}

wa_status
wa_parse_bool(const char *s, bool *ret, wa_error *err)
{
    static const char *const yes[] = {"on", "true", "yes", "1"};
    static const char *const no[] = {"off", "false", "no", "0"};
    for (size_t i = 0; i < WA_ARRAY_SIZE(yes); i++) {
        if (strcasecmp(s, yes[i]) == 0) {
            *ret = true;
            return WA_OK;
        }
        if (strcasecmp(s, no[i]) == 0) {
            *ret = false;
            return WA_OK;
        }
    }
    wa_error_set(err, WA_INVALID, "invalid switch \"%s\"", s);
    return wa_error_hint(err, "Write on or off.");
}

char *
wa_format_size(uint64_t bytes, char out[static WA_SIZE_TEXT])
{
    static const char *const names[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    size_t unit_index = 0;
    double value = (double)bytes;
    /* 1023.5 would print as 1024 of the smaller unit */
    while (unit_index + 1 < WA_ARRAY_SIZE(names) && value >= 1023.5) {
        value /= 1024;
        unit_index++;
    }
    double tenths = (double)(uint64_t)(value * 10 + 0.5);
    bool whole = value >= 9.95 || (uint64_t)tenths % 10 == 0;
    if (whole)
        snprintf(out, WA_SIZE_TEXT, "%.0f %s", value, names[unit_index]);
    else
        snprintf(out, WA_SIZE_TEXT, "%.1f %s", tenths / 10, names[unit_index]);
    return out;
}

char *
wa_format_duration_ms(uint64_t ms, char out[static WA_SIZE_TEXT])
{
    unsigned long long seconds = ms / 1000;
    if (ms < 1000)
        snprintf(out, WA_SIZE_TEXT, "%llu ms", (unsigned long long)ms);
    else if (seconds < 10 && ms % 1000 >= 100)
        snprintf(out, WA_SIZE_TEXT, "%llu.%llu s", seconds, (unsigned long long)(ms % 1000 / 100));
    else if (seconds < 60)
        snprintf(out, WA_SIZE_TEXT, "%llu s", seconds);
    else if (seconds < 3600)
        snprintf(out, WA_SIZE_TEXT, "%llu min %llu s", seconds / 60, seconds % 60);
    else if (seconds < 86400)
        snprintf(out, WA_SIZE_TEXT, "%llu h %llu min", seconds / 3600, seconds % 3600 / 60);
    else
        snprintf(out, WA_SIZE_TEXT, "%llu d %llu h", seconds / 86400, seconds % 86400 / 3600);
    return out;
}
