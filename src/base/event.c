/*
 * event.c - news from a library for whoever called it.
 */
#include "walagent/base/event.h"

#include <stdarg.h>
#include <stdio.h>

void
wa_say(const wa_listener *listener, wa_log_level level, const char *hint, const char *fmt, ...)
{
    if (listener->fn == NULL)
        return;
    char message[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(message, sizeof message, fmt, args);
    va_end(args);
    listener->fn(listener->arg, level, message, hint != NULL ? hint : "");
}
