/*
 * loopback.h - a scripted HTTP server on 127.0.0.1, in threads of the test.
 *
 * Each request takes the next reply of the script, whatever connection it comes on; when the script
 * is used up the answer is 500. What was asked is kept for the test to look at.
 */
#ifndef WALAGENT_TEST_LOOPBACK_H
#define WALAGENT_TEST_LOOPBACK_H

#include <stdbool.h>
#include <stddef.h>

typedef struct loopback loopback;
typedef enum loopback_after {
    LOOPBACK_KEEP,  /* the connection stays open */
    LOOPBACK_CLOSE, /* closed behind the reply */
    LOOPBACK_HANG   /* nothing more comes until the client goes away */
} loopback_after;

loopback *loopback_start(void);
void loopback_stop(loopback *server);
int loopback_port(const loopback *server);
/* raw: the whole reply, status line first; "" for none. Copied. */
void loopback_script(loopback *server, const char *raw, loopback_after after);
/* "HTTP/1.1 STATUS" with Content-Length, the header lines given (each ended by \r\n, may be ""),
 * and body. */
void loopback_reply(loopback *server, int status, const char *headers, const char *body);
size_t loopback_count(loopback *server);
/* Head and body of the n-th request (from 0), NUL-terminated, valid until stop. */
const char *loopback_request(loopback *server, size_t n);
/* Blocks until n requests have come. */
void loopback_wait(loopback *server, size_t n);

#endif
