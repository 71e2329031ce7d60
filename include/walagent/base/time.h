/*
 * walagent/base/time.h - wall-clock times as PostgreSQL counts them, monotonic deadlines, RFC 3339.
 *
 * wa_time: microseconds since 2000-01-01 00:00:00 UTC (PostgreSQL's TimestampTz), 0 is a valid
 * time; WA_TIME_NONE means "no time". wa_mono: milliseconds of CLOCK_MONOTONIC.
 */
#ifndef WALAGENT_BASE_TIME_H
#define WALAGENT_BASE_TIME_H

#include "walagent/base/error.h"

#include <stdbool.h>
#include <stdint.h>

typedef int64_t wa_time;
#define WA_TIME_NONE INT64_MIN
#define WA_TIME_TEXT 40
#define WA_EPOCH_UNIX_SECONDS 946684800 /* 2000-01-01 in Unix seconds */

wa_time wa_time_now(void);
int64_t wa_time_to_unix_us(wa_time t);
wa_time wa_time_from_unix_us(int64_t us);
/* "2026-11-23 02:14:00.123456+00" (PostgreSQL's ISO output in UTC). Returns out. */
/* WA_TIME_NONE prints as "-" in all forms. */
char *wa_time_format(wa_time t, char out[static WA_TIME_TEXT]);
/* "2026-11-23T02:14:00.123456Z" (RFC 3339), for JSON. */
char *wa_time_format_rfc3339(wa_time t, char out[static WA_TIME_TEXT]);
/* "20261123T021400Z", for labels and SigV4. */
char *wa_time_format_compact(wa_time t, char out[static WA_TIME_TEXT]);
/*
 * RFC 3339 or PostgreSQL's ISO form with a zone ("2026-11-23 02:14:00+00", "...T02:14:00.5Z",
 * "+05:30"), or relative to now ("-10min"). A time without a zone is INVALID and the hint gives the
 * two readings (UTC and the machine's zone). Impossible dates (31 February) are INVALID. Seconds
 * may be left out.
 */
wa_status wa_time_parse(const char *text, wa_time now, wa_time *ret, wa_error *err) WA_MUST_CHECK;

typedef uint64_t wa_mono;
wa_mono wa_mono_now(void); /* milliseconds */
uint64_t wa_mono_now_us(void);
/* Milliseconds left until the deadline, 0 when passed, at most INT_MAX (for poll). */
int wa_mono_left(wa_mono deadline);

#endif
