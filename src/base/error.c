/*
 * error.c - status and error values, and the abort of a broken invariant.
 */
#include "walagent/base/error.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Marks text that didn't fit, so that nobody takes half a sentence for the whole. */
static void
mark_truncated(char *text, size_t size, int needed)
{
    if (needed >= 0 && (size_t)needed >= size)
        memcpy(text + size - sizeof "...", "...", sizeof "...");
}

__attribute__((format(printf, 3, 0))) static void
format_text(char *out, size_t size, const char *fmt, va_list args)
{
    mark_truncated(out, size, vsnprintf(out, size, fmt, args));
}

void
wa_assert_failed(const char *condition, const char *file, int line)
{
    fprintf(stderr, "walagent: internal error: \"%s\" is false at %s:%d\n", condition, file, line);
    abort();
}

wa_status
wa_error_set(wa_error *err, wa_status status, const char *fmt, ...)
{
    /* By way of a copy: the arguments may point into err. */
    char text[WA_ERROR_MESSAGE_SIZE];
    va_list args;
    va_start(args, fmt);
    format_text(text, sizeof text, fmt, args);
    va_end(args);
    memcpy(err->message, text, sizeof text);
    err->hint[0] = '\0';
    err->status = status;
    return status;
}

static wa_status
status_of_errno(int errnum)
{
    switch (errnum) {
    case ENOENT:
        return WA_NOT_FOUND;
    case EEXIST:
        return WA_EXISTS;
    case EACCES:
    case EPERM:
    case EROFS:
        return WA_DENIED;
    case ENOSPC:
    case EDQUOT:
        return WA_NO_SPACE;
    case ECANCELED:
        return WA_CANCELLED;
    case ETIMEDOUT:
    case ECONNREFUSED:
    case ECONNRESET:
    case ECONNABORTED:
    case EHOSTUNREACH:
    case EHOSTDOWN:
    case ENETUNREACH:
    case ENETDOWN:
        return WA_UNAVAILABLE;
    default:
        return WA_IO;
    }
}

wa_status
wa_error_errno(wa_error *err, int errnum, const char *fmt, ...)
{
    char text[WA_ERROR_MESSAGE_SIZE];
    va_list args;
    va_start(args, fmt);
    errno = errnum; /* for %m */
    format_text(text, sizeof text, fmt, args);
    va_end(args);
    memcpy(err->message, text, sizeof text);
    err->hint[0] = '\0';
    err->status = status_of_errno(errnum);
    return err->status;
}

wa_status
wa_error_wrap(wa_error *err, const char *fmt, ...)
{
    char what[WA_ERROR_MESSAGE_SIZE];
    char text[WA_ERROR_MESSAGE_SIZE];
    va_list args;
    va_start(args, fmt);
    format_text(what, sizeof what, fmt, args);
    va_end(args);
    int needed = snprintf(text, sizeof text, "%s: %s", what, err->message);
    mark_truncated(text, sizeof text, needed);
    memcpy(err->message, text, sizeof text);
    return err->status;
}

wa_status
wa_error_hint(wa_error *err, const char *fmt, ...)
{
    char text[WA_ERROR_HINT_SIZE];
    va_list args;
    va_start(args, fmt);
    format_text(text, sizeof text, fmt, args);
    va_end(args);
    memcpy(err->hint, text, sizeof text);
    return err->status;
}

void
wa_error_clear(wa_error *err)
{
    err->status = WA_OK;
    err->message[0] = '\0';
    err->hint[0] = '\0';
}

const char *
wa_status_name(wa_status status)
{
    switch (status) {
    case WA_OK:
        return "ok";
    case WA_NOT_FOUND:
        return "not found";
    case WA_EXISTS:
        return "exists";
    case WA_UNAVAILABLE:
        return "unavailable";
    case WA_DENIED:
        return "denied";
    case WA_CORRUPT:
        return "corrupt";
    case WA_CONFLICT:
        return "conflict";
    case WA_UNREACHABLE:
        return "unreachable";
    case WA_CANCELLED:
        return "cancelled";
    case WA_INVALID:
        return "invalid";
    case WA_UNSUPPORTED:
        return "unsupported";
    case WA_NO_SPACE:
        return "no space";
    case WA_IO:
        return "io";
    case WA_FAILED:
        break;
    }
    return "failed";
}
