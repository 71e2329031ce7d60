/*
 * event.c - news from a library for whoever called it.
 */
#include "walagent/base/event.h"

#include <stdio.h>

void
wa_say(const wa_listener *listener, wa_log_level level, const char *hint, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    wa_say_v(listener, level, hint, fmt, args);
    va_end(args);
}

void
wa_say_v(const wa_listener *listener, wa_log_level level, const char *hint, const char *fmt,
         va_list args)
{
    if (listener->fn == NULL)
        return;
    char message[512];
    vsnprintf(message, sizeof message, fmt, args);
    listener->fn(listener->arg, level, message, hint != NULL ? hint : "");
}
