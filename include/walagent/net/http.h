/*
 * walagent/net/http.h - an HTTP client on libcurl with deadlines.
 *
 * One handle (and so one kept-alive connection) per wa_http; a wa_http belongs to one thread at a
 * time. No redirect is followed (S3 requests must be signed again), no Expect header is sent, a
 * transfer slower than 1 kB/s for 20 s is ended, connecting takes at most 10 s. Transport errors,
 * time-outs: UNAVAILABLE; unknown CA or wrong host name: DENIED with a hint. The HTTP status is the
 * caller's to judge.
 */
#ifndef WALAGENT_NET_HTTP_H
#define WALAGENT_NET_HTTP_H

#include "walagent/base/buf.h"
#include "walagent/base/cancel.h"
#include "walagent/base/error.h"
#include "walagent/base/str.h"
#include "walagent/base/time.h"

#include <stdint.h>

typedef struct wa_http_options {
    const char *ca_file; /* NULL: the system's; environment variables for CA bundles are not used */
    bool insecure;       /* no verification: the caller has warned */
    bool no_proxy;       /* link-local services: never through http_proxy */
    const char *user_agent;
} wa_http_options;

typedef struct wa_http wa_http;
/* Loads and initializes libcurl, from any thread (libcurl 7.84 and later); again is fine. Ignores
 * SIGPIPE where nothing handles it: libcurl leaves that to us with NOSIGNAL, and a TLS connection
 * that the peer closed raises it. */
wa_status wa_http_global_init(wa_error *err) WA_MUST_CHECK;
wa_status wa_http_new(const wa_http_options *options, wa_http **ret, wa_error *err) WA_MUST_CHECK;
void wa_http_free(wa_http *http);
WA_DEFINE_CLEANUP(wa_http, wa_http_free)

typedef struct wa_http_response {
    int status;
    unsigned sends; /* times the request went out: 2 when a kept-alive connection turned out dead */
    wa_strv headers; /* "name: value", names in lower case */
    wa_buf body;     /* capped at 16 MiB; error bodies always come here */
} wa_http_response;

typedef wa_status (*wa_http_body_fn)(void *arg, const void *data, size_t len, wa_error *err);
typedef wa_status (*wa_http_headers_fn)(void *arg, const wa_http_response *r, wa_error *err);
typedef struct wa_http_request {
    const char *method;
    const char *url;
    const wa_strv *headers; /* "Name: value" */
    const void *body;       /* or NULL */
    uint64_t body_len;
    int body_fd; /* used when body is NULL and body_len > 0; read at body_offset */
    uint64_t body_offset;
    wa_http_headers_fn
        on_headers;          /* for 2xx only, before the first byte of the body; may be NULL */
    wa_http_body_fn on_body; /* for 2xx only; NULL: into response.body */
    void *on_body_arg;       /* of both; a failure of either is the result */
    unsigned stall_seconds;  /* 0: 20 */
    wa_mono answer_deadline; /* until the status line is there; 0: none */
    wa_mono deadline;        /* 0: only the stall limit */
    wa_cancel *cancel;
} wa_http_request;

wa_status wa_http_perform(wa_http *http, const wa_http_request *request, wa_http_response *ret,
                          wa_error *err) WA_MUST_CHECK;
void wa_http_response_done(wa_http_response *r); /* may be used again */
const char *wa_http_header(const wa_http_response *r, const char *lower_name); /* NULL: absent */
/* Retry-After as milliseconds, 0 when absent. */
uint64_t wa_http_retry_after_ms(const wa_http_response *r);
/* A time in HTTP's forms ("Fri, 24 May 2013 00:00:00 GMT"); WA_TIME_NONE when it is none (or NULL).
 */
wa_time wa_http_parse_date(const char *text);

#endif
