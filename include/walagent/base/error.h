/*
 * walagent/base/error.h - the status that a caller decides on, and the error that a person reads.
 *
 * Every function that can fail returns a wa_status and takes a caller-owned `wa_error *err` last.
 * Outputs (`ret_...`) are untouched on failure. `err` may not be NULL.
 *
 * Wording is PostgreSQL's: `could not open file "%s": %m`, one fact, lower case, no full stop, no
 * function names. The hint is a sentence that says what to do. Libraries never log: only the
 * layers agent and cmd do, one line per failure.
 */
#ifndef WALAGENT_BASE_ERROR_H
#define WALAGENT_BASE_ERROR_H

#include <stdarg.h>
#include <stdbool.h>

typedef enum wa_status {
    WA_OK = 0,
    WA_NOT_FOUND,   /* looked, and positively not there */
    WA_EXISTS,      /* create-only, and the name is taken */
    WA_UNAVAILABLE, /* could not be reached or did not answer in time; the only retryable one */
    WA_DENIED,      /* credentials or permissions */
    WA_CORRUPT,     /* bytes contradict their checksum or format */
    WA_CONFLICT,    /* other content under the same name, another cluster's identity */
    WA_UNREACHABLE, /* a recovery target that the archive does not reach, or a hole */
    WA_CANCELLED,   /* the caller's cancel was triggered */
    WA_INVALID,     /* usage or configuration */
    WA_UNSUPPORTED, /* this server, major or store can't do it */
    WA_NO_SPACE,    /* disk full, quota or a configured limit reached */
    WA_IO,          /* the operating system refused */
    WA_FAILED       /* anything else */
} wa_status;

#define WA_ERROR_MESSAGE_SIZE 1024
#define WA_ERROR_HINT_SIZE 512

typedef struct wa_error {
    wa_status status;
    char message[WA_ERROR_MESSAGE_SIZE]; /* truncated with "..." when longer */
    char hint[WA_ERROR_HINT_SIZE];       /* empty: none */
} wa_error;

#define WA_ERROR_INIT                                                                              \
    {                                                                                              \
        WA_OK, "", ""                                                                              \
    }
#define WA_MUST_CHECK __attribute__((warn_unused_result))
#define WA_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))

/* Pass a failure on. */
#define WA_TRY(call)                                                                               \
    do {                                                                                           \
        wa_status wa_try_status_ = (call);                                                         \
        if (wa_try_status_ != WA_OK)                                                               \
            return wa_try_status_;                                                                 \
    } while (0)

/* A broken invariant: abort in every build, since a wrong answer is worse than a crash. */
#define WA_ASSERT(cond)                                                                            \
    do {                                                                                           \
        if (__builtin_expect(!(cond), 0))                                                          \
            wa_assert_failed(#cond, __FILE__, __LINE__);                                           \
    } while (0)
void wa_assert_failed(const char *condition, const char *file, int line)
    __attribute__((noreturn, cold));

/* Set status, message, and clear the hint. Returns `status`, so `return wa_error_set(...)`. */
wa_status wa_error_set(wa_error *err, wa_status status, const char *fmt, ...) WA_PRINTF(3, 4);
/* The same from an errno value; a "%m" in fmt prints it. The status follows from errno: ENOENT
 * NOT_FOUND, EEXIST EXISTS, EACCES/EPERM/EROFS DENIED, ENOSPC/EDQUOT NO_SPACE, ECANCELED CANCELLED,
 * ETIMEDOUT, ECONN..., EHOSTUNREACH UNAVAILABLE, else IO. */
wa_status wa_error_errno(wa_error *err, int errnum, const char *fmt, ...) WA_PRINTF(3, 4);
/* Put what the caller was doing before the message ("what: message"); status and hint stay.
 * Returns err->status. */
wa_status wa_error_wrap(wa_error *err, const char *fmt, ...) WA_PRINTF(2, 3);
/* Set the hint (replaces one that is there). Returns err->status. */
wa_status wa_error_hint(wa_error *err, const char *fmt, ...) WA_PRINTF(2, 3);
void wa_error_clear(wa_error *err);
/* "not found", "unavailable", ... for JSON and metrics: lower-case, stable. */
const char *wa_status_name(wa_status status);

#endif
