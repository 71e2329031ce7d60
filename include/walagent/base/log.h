/*
 * walagent/base/log.h - one line per event, for people or for machines.
 *
 * Only the layers agent and cmd call this. Formats: text ("2026-11-23 02:14:00.123 UTC [pid] LOG:
 * message" with HINT on its own line), logfmt, json (one object a line). To standard error; below
 * the configured level nothing is formatted. Thread-safe; one write() per line.
 */
#ifndef WALAGENT_BASE_LOG_H
#define WALAGENT_BASE_LOG_H

#include "walagent/base/error.h"

typedef enum wa_log_level {
    WA_LOG_DEBUG,
    WA_LOG_INFO,
    WA_LOG_NOTICE,
    WA_LOG_WARNING,
    WA_LOG_ERROR
} wa_log_level;
typedef enum wa_log_format { WA_LOG_TEXT, WA_LOG_LOGFMT, WA_LOG_JSON } wa_log_format;

void wa_log_setup(wa_log_level least, wa_log_format format);
void wa_log(wa_log_level level, const char *fmt, ...) WA_PRINTF(2, 3);
/* The error's message and hint under `level`, after "what: " when fmt is not NULL. */
void wa_log_error(wa_log_level level, const wa_error *err, const char *fmt, ...) WA_PRINTF(3, 4);
/* How many lines of each level were written, for metrics. */
unsigned long wa_log_count(wa_log_level level);
/* The last line of that level: message and time (a wa_time), for status. False: none yet. */
bool wa_log_last(wa_log_level level, char *message, unsigned long size, long long *ret_time);

#endif
