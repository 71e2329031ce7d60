/*
 * store/s3_request.c - one logical request: addressed, signed, sent, retried, cured.
 *
 * Cures, once each in a call: another region that the server names; the server's clock; expired
 * keys.
 */
#include "s3_internal.h"
#include "sigv4_internal.h"

#include "walagent/base/bytes.h"
#include "walagent/base/crc32c.h"
#include "walagent/base/file.h"
#include "walagent/codec/xml.h"

#include <string.h>

#define CURE_REGION 1u
#define CURE_CLOCK 2u
#define CURE_KEYS 4u
#define STALL_SECONDS 20
#define SLOW_ANSWER_MS 300000
#define PATH_MAX_BYTES 8192
#define CHUNK (256u << 10)
#define WAIT_SLICE_MS 200

void
wa_s3_call_init(const wa_s3 *s3, wa_s3_call *call, const char *doing, const char *method,
                const char *key)
{
    memset(call, 0, sizeof *call);
    call->doing = doing;
    call->method = method;
    call->key = key;
    call->body.fd = -1;
    wa_sha256_hex("", 0, call->payload_hash);
    wa_retry_init(&call->retry, s3->budget_ms, s3->cancel);
}

void
wa_s3_call_done(wa_s3_call *call)
{
    wa_strv_done(&call->query);
    wa_strv_done(&call->headers);
}

static void
add_digests(wa_s3_call *call, uint32_t crc, const uint8_t *md5)
{
    uint8_t crc_bytes[4];
    wa_put_u32be(crc_bytes, crc);
    WA_CLEANUP(wa_freep) char *crc_text = wa_base64(crc_bytes, sizeof crc_bytes);
    memcpy(call->crc32c, crc_text, strlen(crc_text) + 1); /* 8 characters */
    wa_strv_take(&call->headers, wa_format("x-amz-checksum-crc32c: %s", crc_text));
    if (md5 != NULL) {
        WA_CLEANUP(wa_freep) char *md5_text = wa_base64(md5, wa_digest_size(WA_MD5));
        wa_strv_take(&call->headers, wa_format("Content-MD5: %s", md5_text));
    }
}

wa_status
wa_s3_set_body(wa_s3_call *call, const wa_body *body, bool md5, wa_error *err)
{
    WA_CLEANUP(wa_digest_freep) wa_digest *sha = wa_digest_new(WA_SHA256);
    WA_CLEANUP(wa_digest_freep) wa_digest *md = md5 ? wa_digest_new(WA_MD5) : NULL;
    WA_CLEANUP(wa_freep) char *chunk = body->data == NULL ? wa_malloc(CHUNK) : NULL;
    uint32_t crc = 0;
    for (uint64_t done = 0; done < body->len;) {
        uint64_t left = body->len - done;
        size_t n = left < CHUNK ? (size_t)left : CHUNK;
        const char *data = (const char *)body->data + done;
        if (body->data == NULL) {
            WA_TRY(wa_pread_all(body->fd, chunk, n, (off_t)(body->offset + done), "object", err));
            data = chunk;
        }
        wa_digest_update(sha, data, n);
        if (md != NULL)
            wa_digest_update(md, data, n);
        crc = wa_crc32c(crc, data, n);
        done += n;
    }
    uint8_t sum[WA_DIGEST_MAX];
    wa_digest_final(sha, sum);
    wa_hex(sum, wa_digest_size(WA_SHA256), call->payload_hash);
    if (md != NULL)
        wa_digest_final(md, sum);
    add_digests(call, crc, md != NULL ? sum : NULL);
    call->body = *body;
    return WA_OK;
}

void
wa_s3_set_text(wa_s3_call *call, const char *text, size_t len, bool digests)
{
    uint8_t sum[WA_DIGEST_MAX];
    wa_sha256_hex(text, len, call->payload_hash);
    if (digests) {
        wa_digest_of(WA_MD5, text, len, sum);
        add_digests(call, wa_crc32c(0, text, len), sum);
    }
    call->body = (wa_body){.data = text, .len = len, .fd = -1};
}

wa_status
wa_s3_check_echo(const wa_s3 *s3, const wa_s3_call *call, const wa_http_response *response,
                 wa_error *err)
{
    const char *stored = wa_http_header(response, "x-amz-checksum-crc32c");
    if (stored == NULL || wa_str_eq(stored, call->crc32c))
        return WA_OK;
    return wa_error_set(err, WA_CORRUPT,
                        "\"%s\" in \"%s\" was stored with another checksum than sent", call->key,
                        s3->url);
}

/* A connection of the pool; the caller gives it back. */
static wa_status
lease(wa_s3 *s3, const wa_s3_call *call, wa_http **ret, wa_error *err)
{
    (void)wa_lock(&s3->mutex);
    while (s3->idle_count == 0 && s3->open_count == WA_S3_CONNECTIONS) {
        (void)wa_cond_wait_until(&s3->returned, &s3->mutex, wa_mono_now() + WAIT_SLICE_MS);
        bool late = wa_mono_left(call->retry.deadline) == 0;
        if (late || wa_cancelled(s3->cancel)) {
            wa_unlock(&s3->mutex);
            WA_TRY(wa_cancel_check(s3->cancel, err));
            return wa_error_set(err, WA_UNAVAILABLE, "no free connection in time");
        }
    }
    if (s3->idle_count > 0) { /* the one used last: its connection is the most alive */
        *ret = s3->idle[--s3->idle_count];
        wa_unlock(&s3->mutex);
        return WA_OK;
    }
    s3->open_count++;
    wa_unlock(&s3->mutex);
    wa_http_options options = {
        .ca_file = s3->ca_file, .insecure = s3->insecure, .user_agent = "walagent"};
    wa_status status = wa_http_new(&options, ret, err);
    if (status != WA_OK) {
        WA_LOCK(&s3->mutex);
        s3->open_count--;
    }
    return status;
}

static void
give_back(wa_s3 *s3, wa_http *http)
{
    WA_LOCK(&s3->mutex);
    s3->idle[s3->idle_count++] = http;
    wa_cond_signal(&s3->returned);
}

static char *
current_region(wa_s3 *s3)
{
    WA_LOCK(&s3->mutex);
    return wa_strdup(s3->region);
}

static char *
request_host(const wa_s3 *s3, const char *region)
{
    WA_CLEANUP(wa_freep)
    char *server = s3->host != NULL ? wa_strdup(s3->host)
                                    : wa_format("s3.%s.%s", region, wa_aws_domain(region));
    return s3->virtual_host ? wa_format("%s.%s", s3->bucket, server) : WA_TAKE(server);
}

static char *
request_path(const wa_s3 *s3, const char *key)
{
    WA_CLEANUP(wa_buf_done) wa_buf path = WA_BUF_INIT(PATH_MAX_BYTES);
    wa_buf_puts(&path, s3->path);
    if (!s3->virtual_host) {
        wa_buf_putc(&path, '/');
        wa_sigv4_encode(&path, s3->bucket, false);
    }
    if (key != NULL || s3->virtual_host)
        wa_buf_putc(&path, '/');
    if (key != NULL) {
        wa_sigv4_encode(&path, s3->prefix, true);
        wa_sigv4_encode(&path, key, true);
    }
    return wa_buf_detach(&path);
}

static unsigned
stall_seconds(const wa_s3 *s3)
{
    uint64_t seconds = (s3->budget_ms + 1000) / 2000; /* leave time for another attempt */
    return seconds < 1 ? 1 : seconds < STALL_SECONDS ? (unsigned)seconds : STALL_SECONDS;
}

static wa_status
send_signed(wa_s3 *s3, wa_s3_call *call, const char *method, const wa_credentials *keys,
            const wa_strv *headers, wa_http_response *ret, wa_error *err)
{
    WA_CLEANUP(wa_freep) char *region = current_region(s3);
    WA_CLEANUP(wa_freep) char *host = request_host(s3, region);
    WA_CLEANUP(wa_freep) char *path = request_path(s3, call->key);
    WA_CLEANUP(wa_freep) char *query = wa_sigv4_query(&call->query);
    WA_CLEANUP(wa_freep)
    char *url = wa_format("%s://%s%s%s%s", s3->scheme, host, path, query[0] ? "?" : "", query);
    WA_CLEANUP(wa_strv_done) wa_strv signed_headers = {0};
    for (size_t i = 0; i < headers->count; i++)
        wa_strv_add(&signed_headers, headers->items[i]);
    wa_sigv4_request to_sign = {.method = method,
                                .host = host,
                                .path = path,
                                .query = query,
                                .payload_hash = call->payload_hash,
                                .access_key = keys->access_key,
                                .secret_key = keys->secret_key,
                                .session_token = keys->session_token,
                                .region = region,
                                .service = "s3",
                                .now = wa_time_now() + atomic_load(&s3->clock_offset_us)};
    wa_sigv4_sign(&to_sign, &signed_headers);

    wa_mono until = call->retry.deadline + call->body.len / WA_S3_SLOWEST_BYTES_PER_MS +
                    (call->slow_answer ? SLOW_ANSWER_MS : 0);
    wa_http_request request = {.method = method,
                               .url = url,
                               .headers = &signed_headers,
                               .body = call->body.data,
                               .body_len = call->body.len,
                               .body_fd = call->body.fd,
                               .body_offset = call->body.offset,
                               .on_headers = call->on_headers,
                               .on_body = call->on_body,
                               .on_body_arg = call->arg,
                               .stall_seconds =
                                   call->slow_answer ? SLOW_ANSWER_MS / 1000 : stall_seconds(s3),
                               .answer_deadline = until,
                               .deadline = call->stream_answer ? 0 : until,
                               .cancel = s3->cancel};
    wa_http *http;
    WA_TRY(lease(s3, call, &http, err));
    wa_http_response response = {0};
    wa_status status = wa_http_perform(http, &request, &response, err);
    give_back(s3, http);
    call->sends += status == WA_OK ? response.sends : 1;
    call->retry.cut_short = status != WA_OK && wa_mono_left(until) == 0;
    if (status == WA_OK)
        *ret = response;
    return status;
}

/* HEAD's answer has no body. Where the reason matters, the same question as a GET of one byte
 * tells. */
static wa_status
explain_head(wa_s3 *s3, wa_s3_call *call, const wa_credentials *keys, const wa_strv *headers,
             wa_http_response *response, wa_error *err)
{
    bool sure = response->status == 404 && atomic_load(&s3->bucket_seen) &&
                wa_http_header(response, "x-amz-request-id") != NULL;
    if (sure || response->status >= 500 || response->status == 429 || response->status == 408)
        return WA_OK;
    WA_CLEANUP(wa_strv_done) wa_strv ranged = {0};
    for (size_t i = 0; i < headers->count; i++)
        wa_strv_add(&ranged, headers->items[i]);
    wa_strv_add(&ranged, "Range: bytes=0-0");
    WA_CLEANUP(wa_http_response_done) wa_http_response answer = {0};
    WA_TRY(send_signed(s3, call, "GET", keys, &ranged, &answer, err));
    if (answer.status < 300 || answer.status == 416)
        return wa_error_set(err, WA_UNAVAILABLE, "the server answered %d to HEAD but not to GET",
                            response->status);
    wa_http_response_done(response);
    *response = answer;
    memset(&answer, 0, sizeof answer);
    return WA_OK;
}

static bool
cure_region(wa_s3 *s3, const wa_s3_call *call, const wa_http_response *response)
{
    const char *named = wa_http_header(response, "x-amz-bucket-region");
    WA_CLEANUP(wa_freep)
    char *in_body = wa_xml_find(wa_buf_str(&response->body), response->body.len, "Error/Region");
    const char *region = named != NULL ? named : in_body;
    bool about_region = call->status == 301 || call->status == 307 ||
                        wa_str_eq(call->code, "AuthorizationHeaderMalformed") ||
                        wa_str_eq(call->code, "PermanentRedirect") ||
                        wa_str_eq(call->code, "IllegalLocationConstraintException");
    if (!about_region || wa_str_empty(region) || strpbrk(region, "/ \t") != NULL)
        return false;
    WA_LOCK(&s3->mutex);
    if (wa_str_eq(s3->region, region))
        return false;
    wa_freep(&s3->region);
    s3->region = wa_strdup(region);
    return true;
}

static bool
cure_clock(wa_s3 *s3, const wa_s3_call *call, const wa_http_response *response)
{
    if (!wa_str_eq(call->code, "RequestTimeTooSkewed"))
        return false;
    wa_time theirs = wa_http_parse_date(wa_http_header(response, "date"));
    if (theirs == WA_TIME_NONE)
        return false;
    atomic_store(&s3->clock_offset_us, theirs - wa_time_now());
    return true;
}

/* True: the request is worth sending again at once. */
static bool
cure(wa_s3 *s3, wa_s3_call *call, const wa_credentials *keys, const wa_http_response *response)
{
    unsigned kind = 0;
    if (!(call->cured & CURE_REGION) && cure_region(s3, call, response))
        kind = CURE_REGION;
    else if (!(call->cured & CURE_CLOCK) && cure_clock(s3, call, response))
        kind = CURE_CLOCK;
    else if (!(call->cured & CURE_KEYS) && wa_str_eq(call->code, "ExpiredToken"))
        kind = CURE_KEYS;
    if (kind == CURE_KEYS)
        wa_credentials_expire(s3->credentials, keys->access_key);
    call->cured |= kind;
    return kind != 0;
}

/* One attempt. *ret_cured: failed, but send it again at once. */
static wa_status
attempt(wa_s3 *s3, wa_s3_call *call, wa_http_response *ret, bool *ret_cured, wa_error *err)
{
    call->status = 0;
    call->code[0] = '\0';
    WA_CLEANUP(wa_credentials_done) wa_credentials keys = {0};
    WA_TRY(wa_credentials_get(s3->credentials, &keys, err));
    WA_CLEANUP(wa_strv_done) wa_strv headers = {0};
    for (size_t i = 0; i < call->headers.count; i++)
        wa_strv_add(&headers, call->headers.items[i]);
    if (call->prepare != NULL)
        call->prepare(call->arg, &headers);
    WA_CLEANUP(wa_http_response_done) wa_http_response response = {0};
    WA_TRY(send_signed(s3, call, call->method, &keys, &headers, &response, err));
    bool success = response.status >= 200 && response.status < 300;
    if (!success && wa_str_eq(call->method, "HEAD"))
        WA_TRY(explain_head(s3, call, &keys, &headers, &response, err));
    call->status = response.status;
    if (!success || call->judge_body)
        wa_s3_error_code(&response, call->code);
    if (success && call->code[0] == '\0') {
        atomic_store(&s3->bucket_seen, true);
        *ret = response;
        memset(&response, 0, sizeof response);
        return WA_OK;
    }
    if (wa_str_eq(call->code, "NoSuchKey"))
        atomic_store(&s3->bucket_seen, true);
    call->retry.retry_after_ms = wa_http_retry_after_ms(&response);
    *ret_cured = cure(s3, call, &keys, &response);
    return wa_s3_judge(s3, call, &response, keys.access_key, err);
}

wa_status
wa_s3_perform(wa_s3 *s3, wa_s3_call *call, wa_http_response *ret, wa_error *err)
{
    for (;;) {
        bool cured = false;
        if (attempt(s3, call, ret, &cured, err) == WA_OK)
            return WA_OK;
        if (!call->final && (cured || wa_retry_again(&call->retry, err)))
            continue;
        if (call->key != NULL)
            return wa_error_wrap(err, "could not %s \"%s\" in \"%s\"", call->doing, call->key,
                                 s3->url);
        return wa_error_wrap(err, "could not %s \"%s\"", call->doing, s3->url);
    }
}
