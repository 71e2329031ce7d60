/*
 * walagent/base/event.h - news from a library for whoever called it.
 *
 * The layers below agent and cmd write no log. What they have to say while they work goes to the
 * listener in their options; the caller prints or logs it. A listener without a function hears
 * nothing. It may be called from any thread that works for the call, and must not call back.
 */
#ifndef WALAGENT_BASE_EVENT_H
#define WALAGENT_BASE_EVENT_H

#include "walagent/base/log.h"

#include <stdarg.h>

/* message and hint live until the function returns; hint is "" when there is none */
typedef void (*wa_event_fn)(void *arg, wa_log_level level, const char *message, const char *hint);

typedef struct wa_listener {
    wa_event_fn fn; /* may be NULL */
    void *arg;
} wa_listener;

/* hint may be NULL. A message longer than 511 bytes is cut. */
void wa_say(const wa_listener *listener, wa_log_level level, const char *hint, const char *fmt, ...)
    WA_PRINTF(4, 5);
void wa_say_v(const wa_listener *listener, wa_log_level level, const char *hint, const char *fmt,
              va_list args);

#endif
