/*
 * walagent/base/cancel.h - stop a piece of work from another thread.
 *
 * A flag and an eventfd that becomes readable, so that poll() wakes. Triggering is
 * async-signal-safe and final. Every function that waits takes a `wa_cancel *` (NULL: cannot be
 * cancelled) and returns WA_CANCELLED.
 */
#ifndef WALAGENT_BASE_CANCEL_H
#define WALAGENT_BASE_CANCEL_H

#include "walagent/base/error.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct wa_cancel {
    atomic_bool triggered;
    int fd;
} wa_cancel;

wa_status wa_cancel_init(wa_cancel *cancel, wa_error *err) WA_MUST_CHECK;
void wa_cancel_done(wa_cancel *cancel);
void wa_cancel_trigger(wa_cancel *cancel);
bool wa_cancelled(const wa_cancel *cancel); /* NULL: false */
/* CANCELLED with a message when triggered, else OK. */
wa_status wa_cancel_check(const wa_cancel *cancel, wa_error *err) WA_MUST_CHECK;
/* Sleep; CANCELLED when triggered meanwhile. */
wa_status wa_cancel_sleep(wa_cancel *cancel, uint64_t ms, wa_error *err) WA_MUST_CHECK;
/* Wait until fd has one of `events` (POLLIN, POLLOUT), an error or a hang-up. UNAVAILABLE when
 * timeout_ms passes; a negative one waits until cancelled and needs a cancel. */
wa_status wa_cancel_poll(wa_cancel *cancel, int fd, short events, int timeout_ms,
                         wa_error *err) WA_MUST_CHECK;

#endif
