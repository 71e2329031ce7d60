/*
 * log.c - the log: a line is built whole and written by one write().
 *
 *   text     2026-11-23 02:14:00.123 UTC [4711] LOG:  message          (hint: the same with HINT:)
 *   logfmt   time=2026-11-23T02:14:00.123456Z level=info pid=4711 msg="message" hint="..."
 *   json     {"time":"...","level":"info","pid":4711,"message":"...","hint":"..."}
 */
#include "walagent/base/log.h"

#include "walagent/base/buf.h"
#include "walagent/base/thread.h"
#include "walagent/base/time.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define LEVELS (WA_LOG_ERROR + 1)
#define MESSAGE_SIZE 4096
#define LINE_MAX_BYTES (64 * 1024) /* every byte of message and hint escaped to six */

typedef struct last_line {
    bool any;
    wa_time time;
    char message[MESSAGE_SIZE];
} last_line;

static atomic_int least_level = WA_LOG_INFO;
static atomic_int line_format = WA_LOG_TEXT;
static atomic_ulong counts[LEVELS];
static wa_mutex last_mutex = PTHREAD_MUTEX_INITIALIZER;
static last_line lasts[LEVELS];

static const char *const text_names[LEVELS] = {"DEBUG", "LOG", "NOTICE", "WARNING", "ERROR"};
static const char *const names[LEVELS] = {"debug", "info", "notice", "warning", "error"};

void
wa_log_setup(wa_log_level least, wa_log_format format)
{
    atomic_store(&least_level, (int)least);
    atomic_store(&line_format, (int)format);
}

/* The length of the UTF-8 sequence at s, 0 when it is none (s is NUL-terminated). */
static size_t
utf8_length(const char *s)
{
    const unsigned char *p = (const unsigned char *)s;
    size_t len = p[0] < 0x80       ? 1
                 : p[0] >> 5 == 6  ? 2
                 : p[0] >> 4 == 14 ? 3
                 : p[0] >> 3 == 30 ? 4
                                   : 0;
    for (size_t i = 1; i < len; i++)
        if (p[i] >> 6 != 2)
            return 0;
    bool overlong = (len == 2 && p[0] < 0xC2) || (len == 3 && p[0] == 0xE0 && p[1] < 0xA0) ||
                    (len == 4 && p[0] == 0xF0 && p[1] < 0x90);
    bool surrogate = len == 3 && p[0] == 0xED && p[1] >= 0xA0;
    bool past_end = len == 4 && (p[0] > 0xF4 || (p[0] == 0xF4 && p[1] >= 0x90));
    return overlong || surrogate || past_end ? 0 : len;
}

/* A JSON string; logfmt's quoted values are the same. */
static void
put_quoted(wa_buf *line, const char *s)
{
    wa_buf_putc(line, '"');
    while (*s != '\0') {
        size_t len = utf8_length(s);
        if (len == 0)
            wa_buf_puts(line, "\\ufffd");
        else if (*s == '"' || *s == '\\')
            wa_buf_printf(line, "\\%c", *s);
        else if (*s == '\n')
            wa_buf_puts(line, "\\n");
        else if ((unsigned char)*s < 0x20 || *s == 0x7F)
            wa_buf_printf(line, "\\u%04x", (unsigned)*s);
        else
            wa_buf_add(line, s, len);
        s += len > 0 ? len : 1;
    }
    wa_buf_putc(line, '"');
}

/* One line of text. Further lines of a message begin with a tab, so that none can pose as another
 * event; other control characters become '?'. */
static void
put_text_line(wa_buf *line, wa_time now, const char *name, const char *message)
{
    char when[WA_TIME_TEXT];
    wa_time_format_rfc3339(now, when); /* yyyy-mm-ddThh:mm:ss.uuuuuuZ */
    when[10] = ' ';
    wa_buf_printf(line, "%.23s UTC [%d] %s:  ", when, (int)getpid(), name);
    for (; *message != '\0'; message++) {
        unsigned char c = (unsigned char)*message;
        if (c == '\n')
            wa_buf_puts(line, "\n\t");
        else if ((c < 0x20 && c != '\t') || c == 0x7F)
            wa_buf_putc(line, '?');
        else
            wa_buf_putc(line, *message);
    }
    wa_buf_putc(line, '\n');
}

static void
put_fields(wa_buf *line, wa_time now, wa_log_level level, const char *message, const char *hint,
           bool json)
{
    char when[WA_TIME_TEXT];
    wa_time_format_rfc3339(now, when);
    if (json)
        wa_buf_printf(line, "{\"time\":\"%s\",\"level\":\"%s\",\"pid\":%d,\"message\":", when,
                      names[level], (int)getpid());
    else
        wa_buf_printf(line, "time=%s level=%s pid=%d msg=", when, names[level], (int)getpid());
    put_quoted(line, message);
    if (hint[0] != '\0') {
        wa_buf_puts(line, json ? ",\"hint\":" : " hint=");
        put_quoted(line, hint);
    }
    wa_buf_puts(line, json ? "}\n" : "\n");
}

static void
remember(wa_log_level level, wa_time now, const char *message)
{
    WA_LOCK(&last_mutex);
    last_line *last = &lasts[level];
    last->any = true;
    last->time = now;
    snprintf(last->message, sizeof last->message, "%s", message);
}

static void
emit(wa_log_level level, const char *message, const char *hint)
{
    int saved = errno;
    wa_time now = wa_time_now();
    WA_CLEANUP(wa_buf_done) wa_buf line = WA_BUF_INIT(LINE_MAX_BYTES);
    int format = atomic_load(&line_format);
    if (format == WA_LOG_TEXT) {
        put_text_line(&line, now, text_names[level], message);
        if (hint[0] != '\0')
            put_text_line(&line, now, "HINT", hint);
    } else {
        put_fields(&line, now, level, message, hint, format == WA_LOG_JSON);
    }
    atomic_fetch_add(&counts[level], 1);
    remember(level, now, message);
    ssize_t put;
    do /* a log that can't be written must not stop the archive */
        put = write(STDERR_FILENO, line.data, line.len);
    while (put < 0 && errno == EINTR);
    errno = saved;
}

static bool
wanted(wa_log_level level)
{
    return (int)level >= atomic_load_explicit(&least_level, memory_order_relaxed);
}

__attribute__((format(printf, 2, 0))) static void
format_message(char out[static MESSAGE_SIZE], const char *fmt, va_list args)
{
    if (vsnprintf(out, MESSAGE_SIZE, fmt, args) >= MESSAGE_SIZE)
        memcpy(out + MESSAGE_SIZE - sizeof "...", "...", sizeof "...");
}

void
wa_log(wa_log_level level, const char *fmt, ...)
{
    if (!wanted(level))
        return;
    char message[MESSAGE_SIZE];
    va_list args;
    va_start(args, fmt);
    format_message(message, fmt, args);
    va_end(args);
    emit(level, message, "");
}

void
wa_log_error(wa_log_level level, const wa_error *err, const char *fmt, ...)
{
    if (!wanted(level))
        return;
    if (fmt == NULL) {
        emit(level, err->message, err->hint);
        return;
    }
    wa_error wrapped = *err;
    char what[MESSAGE_SIZE];
    va_list args;
    va_start(args, fmt);
    format_message(what, fmt, args);
    va_end(args);
    wa_error_wrap(&wrapped, "%s", what);
    emit(level, wrapped.message, wrapped.hint);
}

unsigned long
wa_log_count(wa_log_level level)
{
    return atomic_load(&counts[level]);
}

bool
wa_log_last(wa_log_level level, char *message, unsigned long size, long long *ret_time)
{
    WA_LOCK(&last_mutex);
    const last_line *last = &lasts[level];
    if (!last->any)
        return false;
    snprintf(message, size, "%s", last->message);
    *ret_time = last->time;
    return true;
}
