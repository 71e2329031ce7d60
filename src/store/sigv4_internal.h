/*
 * src/store/sigv4_internal.h - AWS Signature Version 4 for S3 and STS.
 *
 * Source: Amazon S3 API reference, "Authenticating Requests (AWS Signature Version 4)": path
 * encoded once
 * ('/' kept), query sorted by encoded name then value, the body's SHA-256 always signed.
 */
#ifndef WALAGENT_STORE_SIGV4_INTERNAL_H
#define WALAGENT_STORE_SIGV4_INTERNAL_H

#include "walagent/base/buf.h"
#include "walagent/base/str.h"
#include "walagent/base/time.h"

typedef struct wa_sigv4_request {
    const char *method;
    const char *host;  /* as the Host header will say, port included unless it is the default */
    const char *path;  /* encoded, begins with '/' */
    const char *query; /* from wa_sigv4_query, may be "" */
    const char *payload_hash; /* SHA-256 of the body, lower-case hex */
    const char *access_key, *secret_key;
    const char *session_token; /* or NULL */
    const char *region, *service;
    wa_time now;
} wa_sigv4_request;

/* Percent-encodes all but A-Z a-z 0-9 - . _ ~ (and '/' when keep_slash). */
void wa_sigv4_encode(wa_buf *out, const char *text, bool keep_slash);
/* From "name=value" (the name ends at the first '='; without one the value is empty), not encoded.
 * A new string. */
char *wa_sigv4_query(const wa_strv *parameters);
/* Signs every header in `headers` ("Name: value") and host; adds x-amz-date, x-amz-content-sha256,
 * x-amz-security-token and Authorization to it (Host is libcurl's to send). */
void wa_sigv4_sign(const wa_sigv4_request *request, wa_strv *headers);

#endif
