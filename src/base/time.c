/*
 * time.c - PostgreSQL's timestamps as text, and the clocks.
 *
 *   absolute   YYYY-MM-DD ( 'T' | 't' | ' ' ) HH:MM [ :SS [ '.' digits ] ] [ ' ' ] zone
 *   zone       'Z' | 'z' | "UTC" | "GMT" | ( '+' | '-' ) HH [ [ ':' ] MM ]
 *   relative   '-' duration
 *
 * Sources: RFC 3339; PostgreSQL documentation, "Date/Time Types". Days are counted in the proleptic
 * Gregorian calendar with years that begin in March, so that the leap day is a year's last.
 */
#include "walagent/base/time.h"

#include "walagent/base/str.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#define US_PER_SECOND 1000000LL
#define US_PER_DAY (86400 * US_PER_SECOND)
#define DAYS_OF_400_YEARS 146097
#define DAYS_TO_2000 730425 /* from 0000-03-01 to 2000-01-01 */

typedef struct civil {
    long long year;
    int month, day, hour, minute, second;
    int us;
} civil;

static long long
floor_div(long long a, long long b)
{
    return a / b - (a % b < 0 ? 1 : 0);
}

/* Days from 2000-01-01. */
static long long
days_from_civil(long long year, int month, int day)
{
    long long y = month <= 2 ? year - 1 : year;
    long long era = floor_div(y, 400);
    long long year_of_era = y - era * 400;
    long long day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    long long day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    return era * DAYS_OF_400_YEARS + day_of_era - DAYS_TO_2000;
}

static civil
civil_from_time(wa_time t)
{
    long long days = floor_div(t, US_PER_DAY);
    long long rest = t % US_PER_DAY;
    if (rest < 0)
        rest += US_PER_DAY;
    long long shifted = days + DAYS_TO_2000;
    long long era = floor_div(shifted, DAYS_OF_400_YEARS);
    long long day_of_era = shifted - era * DAYS_OF_400_YEARS;
    long long year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    int day_of_year = (int)(day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100));
    int month = (5 * day_of_year + 2) / 153; /* 0 is March */
    long long seconds = rest / US_PER_SECOND;
    return (civil){
        .year = year_of_era + era * 400 + (month >= 10 ? 1 : 0),
        .month = month < 10 ? month + 3 : month - 9,
        .day = day_of_year - (153 * month + 2) / 5 + 1,
        .hour = (int)(seconds / 3600),
        .minute = (int)(seconds / 60 % 60),
        .second = (int)(seconds % 60),
        .us = (int)(rest % US_PER_SECOND),
    };
}

int64_t
wa_time_to_unix_us(wa_time t)
{
    int64_t us;
    if (__builtin_add_overflow(t, WA_EPOCH_UNIX_SECONDS * US_PER_SECOND, &us))
        return INT64_MAX;
    return us;
}

wa_time
wa_time_from_unix_us(int64_t us)
{
    wa_time t;
    if (__builtin_sub_overflow(us, WA_EPOCH_UNIX_SECONDS * US_PER_SECOND, &t))
        return WA_TIME_NONE + 1;
    return t;
}

wa_time
wa_time_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return wa_time_from_unix_us(now.tv_sec * US_PER_SECOND + now.tv_nsec / 1000);
}

char *
wa_time_format(wa_time t, char out[static WA_TIME_TEXT])
{
    if (t == WA_TIME_NONE) {
        snprintf(out, WA_TIME_TEXT, "-");
        return out;
    }
    civil c = civil_from_time(t);
    char fraction[12] = "";
    if (c.us != 0) {
        /* PostgreSQL leaves trailing zeros out */
        int len = snprintf(fraction, sizeof fraction, ".%06d", c.us);
        while (fraction[len - 1] == '0')
            fraction[--len] = '\0';
    }
    snprintf(out, WA_TIME_TEXT, "%04lld-%02d-%02d %02d:%02d:%02d%s+00", c.year, c.month, c.day,
             c.hour, c.minute, c.second, fraction);
    return out;
}

char *
wa_time_format_rfc3339(wa_time t, char out[static WA_TIME_TEXT])
{
    if (t == WA_TIME_NONE) {
        snprintf(out, WA_TIME_TEXT, "-");
        return out;
    }
    civil c = civil_from_time(t);
    snprintf(out, WA_TIME_TEXT, "%04lld-%02d-%02dT%02d:%02d:%02d.%06dZ", c.year, c.month, c.day,
             c.hour, c.minute, c.second, c.us);
    return out;
}

char *
wa_time_format_compact(wa_time t, char out[static WA_TIME_TEXT])
{
    if (t == WA_TIME_NONE) {
        snprintf(out, WA_TIME_TEXT, "-");
        return out;
    }
    civil c = civil_from_time(t);
    snprintf(out, WA_TIME_TEXT, "%04lld%02d%02dT%02d%02d%02dZ", c.year, c.month, c.day, c.hour,
             c.minute, c.second);
    return out;
}

/* Exactly `count` digits at *p, which moves past them. */
static bool
scan_fixed(const char **p, int count, int *ret)
{
    int value = 0;
    for (int i = 0; i < count; i++) {
        char c = (*p)[i];
        if (c < '0' || c > '9')
            return false;
        value = value * 10 + (c - '0');
    }
    *p += count;
    *ret = value;
    return true;
}

static bool
scan_char(const char **p, char wanted)
{
    if (**p != wanted)
        return false;
    (*p)++;
    return true;
}

static int
days_in_month(long long year, int month)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return month == 2 && leap ? 29 : days[month - 1];
}

static bool
scan_date(const char **p, civil *c)
{
    int year;
    if (!scan_fixed(p, 4, &year) || !scan_char(p, '-') || !scan_fixed(p, 2, &c->month) ||
        !scan_char(p, '-') || !scan_fixed(p, 2, &c->day))
        return false;
    c->year = year;
    return year >= 1 && c->month >= 1 && c->month <= 12 && c->day >= 1 &&
           c->day <= days_in_month(year, c->month);
}

/* Digits past the sixth are dropped: WAL counts microseconds, and a record at t is at or before T
 * exactly when it is at or before T rounded down. */
static bool
scan_fraction(const char **p, int *ret_us)
{
    int us = 0;
    int digits = 0;
    for (; **p >= '0' && **p <= '9'; (*p)++, digits++)
        if (digits < 6)
            us = us * 10 + (**p - '0');
    if (digits == 0)
        return false;
    for (; digits < 6; digits++)
        us *= 10;
    *ret_us = us;
    return true;
}

/* A leap second (60) is the first second of the next minute, as in PostgreSQL. */
static bool
scan_clock(const char **p, civil *c)
{
    if (!scan_fixed(p, 2, &c->hour) || !scan_char(p, ':') || !scan_fixed(p, 2, &c->minute))
        return false;
    if (scan_char(p, ':')) {
        if (!scan_fixed(p, 2, &c->second))
            return false;
        if (scan_char(p, '.') && !scan_fraction(p, &c->us))
            return false;
    }
    return c->hour <= 23 && c->minute <= 59 && c->second <= 60;
}

/* The rest of the text must be a zone. */
static bool
scan_zone(const char *p, int *ret_seconds_east)
{
    if (strcasecmp(p, "Z") == 0 || strcasecmp(p, "UTC") == 0 || strcasecmp(p, "GMT") == 0) {
        *ret_seconds_east = 0;
        return true;
    }
    int sign = *p == '-' ? -1 : 1;
    int hours;
    int minutes = 0;
    if (*p != '+' && *p != '-')
        return false;
    p++;
    if (!scan_fixed(&p, 2, &hours))
        return false;
    if (*p != '\0') {
        scan_char(&p, ':');
        if (!scan_fixed(&p, 2, &minutes))
            return false;
    }
    *ret_seconds_east = sign * (hours * 3600 + minutes * 60);
    return *p == '\0' && hours <= 15 && minutes <= 59;
}

static wa_status
refuse(const char *text, wa_error *err)
{
    wa_error_set(err, WA_INVALID, "invalid time \"%s\"", text);
    return wa_error_hint(err, "Write a time with its zone, such as \"2026-11-23 02:14:00+00\", or "
                              "one relative to now, such as \"-10min\".");
}

/* The offset that this machine's zone has at that local time. */
static long
local_offset(const civil *c)
{
    struct tm local = {.tm_year = (int)c->year - 1900,
                       .tm_mon = c->month - 1,
                       .tm_mday = c->day,
                       .tm_hour = c->hour,
                       .tm_min = c->minute,
                       .tm_sec = c->second,
                       .tm_isdst = -1};
    mktime(&local);
    return local.tm_gmtoff;
}

static wa_status
refuse_without_zone(const char *text, const civil *c, wa_error *err)
{
    long offset = local_offset(c);
    long minutes = (offset < 0 ? -offset : offset) / 60;
    wa_error_set(err, WA_INVALID, "time \"%s\" has no zone", text);
    return wa_error_hint(err,
                         "Write \"%s+00\" for UTC, or \"%s%c%02ld:%02ld\" for the zone of this "
                         "machine.",
                         text, text, offset < 0 ? '-' : '+', minutes / 60, minutes % 60);
}

static wa_status
parse_relative(const char *text, wa_time now, wa_time *ret, wa_error *err)
{
    uint64_t ms;
    wa_error ignored = WA_ERROR_INIT;
    if (wa_parse_duration_ms(text + 1, &ms, &ignored) != WA_OK)
        return refuse(text, err);
    int64_t us;
    wa_time t;
    if (__builtin_mul_overflow(ms, 1000, &us) || __builtin_sub_overflow(now, us, &t) ||
        t == WA_TIME_NONE)
        return refuse(text, err);
    *ret = t;
    return WA_OK;
}

wa_status
wa_time_parse(const char *text, wa_time now, wa_time *ret, wa_error *err)
{
    if (text[0] == '-')
        return parse_relative(text, now, ret, err);
    const char *p = text;
    civil c = {0};
    int seconds_east;
    if (!scan_date(&p, &c) || (*p != 'T' && *p != 't' && *p != ' '))
        return refuse(text, err);
    p++;
    if (!scan_clock(&p, &c))
        return refuse(text, err);
    if (*p == '\0')
        return refuse_without_zone(text, &c, err);
    scan_char(&p, ' ');
    if (!scan_zone(p, &seconds_east))
        return refuse(text, err);
    long long seconds = days_from_civil(c.year, c.month, c.day) * 86400 + c.hour * 3600 +
                        c.minute * 60 + c.second - seconds_east;
    *ret = seconds * US_PER_SECOND + c.us;
    return WA_OK;
}

uint64_t
wa_mono_now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

wa_mono
wa_mono_now(void)
{
    return wa_mono_now_us() / 1000;
}

int
wa_mono_left(wa_mono deadline)
{
    wa_mono now = wa_mono_now();
    if (deadline <= now)
        return 0;
    return deadline - now > INT_MAX ? INT_MAX : (int)(deadline - now);
}
