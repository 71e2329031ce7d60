/*
 * cancel.c - a flag and an eventfd, and the two waits that heed them.
 */
#include "walagent/base/cancel.h"

#include "walagent/base/mem.h"
#include "walagent/base/time.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

wa_status
wa_cancel_init(wa_cancel *cancel, wa_error *err)
{
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fd < 0)
        return wa_error_errno(err, errno, "could not create an event descriptor: %m");
    atomic_init(&cancel->triggered, false);
    cancel->fd = fd;
    return WA_OK;
}

void
wa_cancel_done(wa_cancel *cancel)
{
    if (cancel != NULL)
        wa_closep(&cancel->fd);
}

void
wa_cancel_trigger(wa_cancel *cancel)
{
    int saved = errno; /* may run in a signal handler */
    uint64_t one = 1;
    atomic_store(&cancel->triggered, true);
    ssize_t ignored = write(cancel->fd, &one, sizeof one); /* EAGAIN: it is readable already */
    (void)ignored;
    errno = saved;
}

bool
wa_cancelled(const wa_cancel *cancel)
{
    return cancel != NULL && atomic_load(&cancel->triggered);
}

wa_status
wa_cancel_check(const wa_cancel *cancel, wa_error *err)
{
    if (wa_cancelled(cancel))
        return wa_error_set(err, WA_CANCELLED, "cancelled");
    return WA_OK;
}

/* poll() on both until the deadline (0: none). Returns what poll does, EINTR apart. */
static int
poll_until(struct pollfd *fds, nfds_t count, bool forever, wa_mono deadline)
{
    for (;;) {
        int ready = poll(fds, count, forever ? -1 : wa_mono_left(deadline));
        if (ready < 0 && errno == EINTR)
            continue;
        /* wa_mono_left stops at INT_MAX: there may be more to wait for */
        if (ready == 0 && wa_mono_now() < deadline)
            continue;
        return ready;
    }
}

static wa_mono
deadline_after(uint64_t ms)
{
    wa_mono deadline;
    if (__builtin_add_overflow(wa_mono_now(), ms, &deadline))
        return UINT64_MAX;
    return deadline;
}

wa_status
wa_cancel_sleep(wa_cancel *cancel, uint64_t ms, wa_error *err)
{
    struct pollfd fd = {.fd = cancel != NULL ? cancel->fd : -1, .events = POLLIN};
    WA_TRY(wa_cancel_check(cancel, err));
    if (poll_until(&fd, 1, false, deadline_after(ms)) < 0)
        return wa_error_errno(err, errno, "could not wait: %m");
    return wa_cancel_check(cancel, err);
}

wa_status
wa_cancel_poll(wa_cancel *cancel, int fd, short events, int timeout_ms, wa_error *err)
{
    bool forever = timeout_ms < 0;
    WA_ASSERT(!forever || cancel != NULL);
    struct pollfd fds[2] = {
        {.fd = fd, .events = events},
        {.fd = cancel != NULL ? cancel->fd : -1, .events = POLLIN},
    };
    WA_TRY(wa_cancel_check(cancel, err));
    int ready = poll_until(fds, 2, forever, forever ? 0 : deadline_after((uint64_t)timeout_ms));
    if (ready < 0)
        return wa_error_errno(err, errno, "could not wait for a descriptor: %m");
    WA_TRY(wa_cancel_check(cancel, err));
    if (ready == 0)
        return wa_error_set(err, WA_UNAVAILABLE, "no answer within %d ms", timeout_ms);
    if ((fds[0].revents & POLLNVAL) != 0)
        return wa_error_errno(err, EBADF, "could not wait for a descriptor: %m");
    return WA_OK; /* POLLERR and POLLHUP too: the caller's read or write says what it is */
}
