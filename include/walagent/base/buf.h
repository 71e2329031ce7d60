/*
 * walagent/base/buf.h - a growable byte buffer that cannot be created without a cap.
 *
 * Guarantees: data is always NUL-terminated behind len; len never passes max; growing is
 * amortised; a buffer that would pass its cap fails with WA_NO_SPACE and is unchanged.
 */
#ifndef WALAGENT_BASE_BUF_H
#define WALAGENT_BASE_BUF_H

#include "walagent/base/error.h"
#include "walagent/base/mem.h"

#include <stddef.h>
#include <stdint.h>

typedef struct wa_buf {
    char *data; /* NULL until the first byte */
    size_t len;
    size_t capacity;
    size_t max;
} wa_buf;

#define WA_BUF_INIT(max_bytes)                                                                     \
    {                                                                                              \
        NULL, 0, 0, (max_bytes)                                                                    \
    }

void wa_buf_init(wa_buf *buf, size_t max);
void wa_buf_done(wa_buf *buf);  /* frees; the buffer may be used again */
void wa_buf_reset(wa_buf *buf); /* len = 0, memory kept */
wa_status wa_buf_append(wa_buf *buf, const void *data, size_t len, wa_error *err) WA_MUST_CHECK;
wa_status wa_buf_reserve(wa_buf *buf, size_t more, wa_error *err) WA_MUST_CHECK;
/* For our own text of known small size: aborts when the cap is passed. */
void wa_buf_add(wa_buf *buf, const void *data, size_t len);
void wa_buf_puts(wa_buf *buf, const char *s);
void wa_buf_putc(wa_buf *buf, char c);
void wa_buf_printf(wa_buf *buf, const char *fmt, ...) WA_PRINTF(2, 3);
/* Drop the first n bytes. */
void wa_buf_consume(wa_buf *buf, size_t n);
/* The C string, owned by the caller; the buffer is empty afterwards. Never NULL. */
char *wa_buf_detach(wa_buf *buf);
/* "" for an empty buffer. */
const char *wa_buf_str(const wa_buf *buf);

#endif
