/*
 * src/store/s3_internal.h - the S3 driver's own contract: s3.c (open, pool), s3_request.c (one call
 * with its retries and cures), s3_error.c (what answers mean), s3_put.c, s3_get.c, s3_list.c,
 * s3_upload.c.
 *
 * Times: a call ends within the budget plus one second for every 256 KiB that it transfers; a
 * transfer that stalls ends earlier.
 */
#ifndef WALAGENT_STORE_S3_INTERNAL_H
#define WALAGENT_STORE_S3_INTERNAL_H

#include "credentials_internal.h"
#include "driver_internal.h"

#include "walagent/base/thread.h"
#include "walagent/codec/hash.h"
#include "walagent/net/http.h"
#include "walagent/net/retry.h"

#include <stdatomic.h>

#define WA_S3_CONNECTIONS 32
#define WA_S3_SLOWEST_BYTES_PER_MS 256
#define WA_S3_CODE 64

typedef struct wa_s3 {
    wa_store base;
    char *url, *bucket;
    char *prefix; /* "" or ends in '/' */
    char *scheme; /* of the endpoint */
    char *host;   /* lower case, with the port unless it is the default; NULL: AWS, by region */
    char *path;   /* of the endpoint, "" or "/..." without a slash at its end */
    bool virtual_host;
    char *storage_class, *sse, *kms_key_id, *ca_file;
    bool insecure;
    uint64_t budget_ms;
    wa_cancel *cancel;
    wa_credentials_provider *credentials;
    atomic_int_fast64_t clock_offset_us; /* the server's clock minus ours, once it mattered */
    atomic_bool bucket_seen;             /* the bucket answered as one */
    atomic_bool needs_md5;               /* the server refused a PUT without Content-MD5 */
    wa_mutex mutex;                      /* guards what follows */
    wa_cond returned;
    char *region;
    wa_http *idle[WA_S3_CONNECTIONS];
    size_t idle_count, open_count;
} wa_s3;

/* A logical request, sent as often as it takes. */
typedef struct wa_s3_call {
    const char *doing; /* "write", "read", ...: for messages */
    const char
        *method;     /* HEAD is repeated as a small GET where only a body can tell why it failed */
    const char *key; /* in the repository; NULL: the bucket */
    wa_strv query;   /* "name=value", not encoded */
    wa_strv headers;
    wa_body body; /* fd is read at offset */
    char payload_hash[WA_SHA256_HEX];
    char crc32c[16];    /* of the body, base 64 */
    bool stream_answer; /* a body of any length comes to on_body, which watches the time */
    bool slow_answer;   /* the server may work for minutes before it answers */
    bool judge_body;    /* a 200 may carry an <Error> */
    void (*prepare)(void *arg, wa_strv *headers); /* before each attempt; may be NULL */
    wa_http_headers_fn on_headers;
    wa_http_body_fn on_body;
    void *arg;
    wa_retry retry;
    bool final;     /* set by a callback: its failure is not the network's, don't try again */
    unsigned cured; /* WA_S3_CURE_... used up */
    unsigned sends; /* requests that may have reached the server */
    int status;     /* HTTP status of the last answer, 0: none */
    char code[WA_S3_CODE]; /* S3's error code of the last answer, "": none */
} wa_s3_call;

void wa_s3_call_init(const wa_s3 *s3, wa_s3_call *call, const char *doing, const char *method,
                     const char *key);
void wa_s3_call_done(wa_s3_call *call);
/* OK for 2xx, with the answer in *ret; else as the answer means, call->status and code set. */
wa_status wa_s3_perform(wa_s3 *s3, wa_s3_call *call, wa_http_response *ret,
                        wa_error *err) WA_MUST_CHECK;
/* The body's SHA-256 (into call), CRC-32C header, and Content-MD5 header where asked. */
wa_status wa_s3_set_body(wa_s3_call *call, const wa_body *body, bool md5,
                         wa_error *err) WA_MUST_CHECK;
/* CORRUPT when the server says that it stored another CRC-32C than the body's. */
wa_status wa_s3_check_echo(const wa_s3 *s3, const wa_s3_call *call,
                           const wa_http_response *response, wa_error *err) WA_MUST_CHECK;
/* As set_body, for a text of our own; digests: with CRC-32C and Content-MD5. (In the request that
 * completes an upload a checksum header would be the whole object's.) */
void wa_s3_set_text(wa_s3_call *call, const char *text, size_t len, bool digests);

/* s3_error.c. The code is "" when the answer has none. */
void wa_s3_error_code(const wa_http_response *response, char code[static WA_S3_CODE]);
/* Status and one clear line for an answer that is no success. */
wa_status wa_s3_judge(const wa_s3 *s3, const wa_s3_call *call, const wa_http_response *response,
                      const char *access_key, wa_error *err);
/* An error code inside an answer (multi-delete, complete). */
wa_status wa_s3_status_of_code(const char *code, int http_status);

/* s3_put.c: the headers of a new object. */
wa_status wa_s3_add_object_headers(const wa_s3 *s3, const char *meta, wa_strv *headers,
                                   wa_error *err) WA_MUST_CHECK;
wa_status wa_s3_put(wa_store *store, const char *key, const wa_body *body, const char *meta,
                    wa_put_mode mode, wa_error *err);
wa_status wa_s3_get(wa_store *store, const char *key, bool tail, uint64_t offset, uint64_t len,
                    wa_sink *to, uint64_t *ret_size, char **ret_meta, wa_error *err);
wa_status wa_s3_head(wa_store *store, const char *key, uint64_t *ret_size, wa_time *ret_modified,
                     char **ret_meta, wa_error *err);
wa_status wa_s3_remove(wa_store *store, const wa_strv *keys, wa_error *err);
wa_status wa_s3_list(wa_store *store, const wa_list_options *options, wa_list_fn fn, void *arg,
                     wa_error *err);
wa_status wa_s3_upload_begin(wa_store *store, const char *key, const char *meta, uint64_t part_size,
                             wa_upload **ret, wa_error *err);
wa_status wa_s3_upload_part(wa_upload *upload, unsigned number, const void *data, size_t len,
                            wa_error *err);
wa_status wa_s3_upload_commit(wa_upload *upload, wa_error *err);
void wa_s3_upload_free(wa_upload *upload);
wa_status wa_s3_abort_uploads(wa_store *store, const char *prefix, wa_time before,
                              size_t *ret_count, wa_error *err);
/* Text of an answer asked for with encoding-type=url; in place. */
void wa_s3_url_decode(char *text);
/* x-amz-meta-wa and its continuations put together; a new string, "" when there is none. */
char *wa_s3_meta(const wa_http_response *response);

#endif
