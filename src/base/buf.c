/*
 * buf.c - the growable byte buffer with a cap.
 *
 * Invariants: data == NULL  <=>  capacity == 0; otherwise len < capacity and data[len] == 0;
 * len <= max.
 */
#include "walagent/base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_CAPACITY 64

void
wa_buf_init(wa_buf *buf, size_t max)
{
    *buf = (wa_buf)WA_BUF_INIT(max);
}

void
wa_buf_done(wa_buf *buf)
{
    free(buf->data);
    *buf = (wa_buf)WA_BUF_INIT(buf->max);
}

void
wa_buf_reset(wa_buf *buf)
{
    buf->len = 0;
    if (buf->data != NULL)
        buf->data[0] = '\0';
}

/* The capacity to grow to for `need` bytes of content: doubling, but not past what max can use. */
static size_t
next_capacity(const wa_buf *buf, size_t need)
{
    size_t most = buf->max < SIZE_MAX ? buf->max + 1 : SIZE_MAX;
    size_t capacity = buf->capacity > 0 ? buf->capacity : FIRST_CAPACITY;
    while (capacity <= need)
        capacity = capacity <= SIZE_MAX / 2 ? capacity * 2 : SIZE_MAX;
    return capacity < most ? capacity : most;
}

wa_status
wa_buf_reserve(wa_buf *buf, size_t more, wa_error *err)
{
    if (more > buf->max - buf->len || buf->len + more == SIZE_MAX)
        return wa_error_set(err, WA_NO_SPACE, "more than the limit of %zu bytes", buf->max);
    size_t need = buf->len + more;
    if (need < buf->capacity)
        return WA_OK;
    size_t capacity = next_capacity(buf, need);
    char *data = realloc(buf->data, capacity);
    if (data == NULL)
        return wa_error_set(err, WA_NO_SPACE, "out of memory for a buffer of %zu bytes", capacity);
    data[buf->len] = '\0';
    buf->data = data;
    buf->capacity = capacity;
    return WA_OK;
}

wa_status
wa_buf_append(wa_buf *buf, const void *data, size_t len, wa_error *err)
{
    WA_TRY(wa_buf_reserve(buf, len, err));
    if (len > 0)
        memcpy(buf->data + buf->len, data, len);
    buf->len += len;
    buf->data[buf->len] = '\0';
    return WA_OK;
}

void
wa_buf_add(wa_buf *buf, const void *data, size_t len)
{
    wa_error err = WA_ERROR_INIT;
    WA_ASSERT(wa_buf_append(buf, data, len, &err) == WA_OK);
}

void
wa_buf_puts(wa_buf *buf, const char *s)
{
    wa_buf_add(buf, s, strlen(s));
}

void
wa_buf_putc(wa_buf *buf, char c)
{
    wa_buf_add(buf, &c, 1);
}

void
wa_buf_printf(wa_buf *buf, const char *fmt, ...)
{
    va_list args;
    va_list again;
    va_start(args, fmt);
    va_copy(again, args);
    int len = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    WA_ASSERT(len >= 0);
    wa_error err = WA_ERROR_INIT;
    WA_ASSERT(wa_buf_reserve(buf, (size_t)len, &err) == WA_OK);
    vsnprintf(buf->data + buf->len, (size_t)len + 1, fmt, again);
    va_end(again);
    buf->len += (size_t)len;
}

void
wa_buf_consume(wa_buf *buf, size_t n)
{
    WA_ASSERT(n <= buf->len);
    if (n == 0)
        return;
    buf->len -= n;
    memmove(buf->data, buf->data + n, buf->len + 1);
}

char *
wa_buf_detach(wa_buf *buf)
{
    char *text = buf->data != NULL ? buf->data : wa_calloc(1, 1);
    *buf = (wa_buf)WA_BUF_INIT(buf->max);
    return text;
}

const char *
wa_buf_str(const wa_buf *buf)
{
    return buf->data != NULL ? buf->data : "";
}
