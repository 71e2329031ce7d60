/*
 * store/s3_get.c - reading: whole, a range, or the end; resumed by range where a transfer broke.
 *
 * Content-Range: bytes FIRST-LAST/SIZE. A server that ignores Range answers 200 with everything:
 * what was not asked for is passed over. An entity tag pins a resumed transfer to the object it
 * began with.
 */
#include "s3_internal.h"

#include "walagent/base/bytes.h"
#include "walagent/base/crc32c.h"

#include <string.h>

typedef struct download {
    wa_s3 *s3;
    wa_s3_call *call;
    wa_sink *to;
    bool tail;
    uint64_t offset, len; /* as asked */
    bool known;           /* what follows is */
    uint64_t size;        /* of the object */
    uint64_t begin, end;  /* of what will be delivered */
    uint64_t delivered;
    char *etag;
    char *crc; /* of the whole object, as the server has it; or NULL */
    char *meta;
    uint64_t skip; /* of the present answer */
    uint32_t running_crc;
    wa_mono until;
} download;

static void
download_done(download *d)
{
    wa_freep(&d->etag);
    wa_freep(&d->crc);
    wa_freep(&d->meta);
}

/* Headers of the next attempt. */
static void
prepare(void *arg, wa_strv *headers)
{
    download *d = arg;
    if (d->known && d->delivered > 0) {
        wa_strv_take(headers, wa_format("Range: bytes=%llu-%llu",
                                        (unsigned long long)(d->begin + d->delivered),
                                        (unsigned long long)(d->end - 1)));
        if (d->etag != NULL)
            wa_strv_take(headers, wa_format("If-Match: %s", d->etag));
        return;
    }
    unsigned long long first = d->offset;
    if (d->tail)
        wa_strv_take(headers, wa_format("Range: bytes=-%llu", (unsigned long long)d->len));
    else if (d->len >= UINT64_MAX - d->offset)
        wa_strv_take(headers, first > 0 ? wa_format("Range: bytes=%llu-", first)
                                        : wa_strdup("x-amz-checksum-mode: ENABLED"));
    else
        wa_strv_take(headers, wa_format("Range: bytes=%llu-%llu", first,
                                        (unsigned long long)(d->offset + d->len - 1)));
}

/* Where the answer's bytes begin, and the object's size. */
static wa_status
answered_range(const wa_http_response *r, uint64_t *ret_first, uint64_t *ret_size, wa_error *err)
{
    const char *range = wa_http_header(r, "content-range");
    const char *length = wa_http_header(r, "content-length");
    if (r->status == 206 && range != NULL && wa_str_starts(range, "bytes ")) {
        WA_CLEANUP(wa_freep) char *text = wa_strdup(range + strlen("bytes "));
        char *dash = strchr(text, '-');
        char *slash = strchr(text, '/');
        if (dash != NULL && slash != NULL && dash < slash) {
            *dash = '\0';
            WA_TRY(wa_parse_u64(text, ret_first, err));
            return wa_parse_u64(slash + 1, ret_size, err);
        }
    }
    if (r->status == 206 || length == NULL)
        return wa_error_set(err, WA_CORRUPT, "the server answered %d without a range or length",
                            r->status);
    *ret_first = 0;
    return wa_parse_u64(length, ret_size, err);
}

static void
settle(download *d, uint64_t size, const wa_http_response *r)
{
    d->known = true;
    d->size = size;
    d->end = size;
    if (d->tail) {
        d->begin = size > d->len ? size - d->len : 0;
    } else {
        d->begin = d->offset < size ? d->offset : size;
        if (d->len < size - d->begin)
            d->end = d->begin + d->len;
    }
    bool whole = d->begin == 0 && d->end == size;
    d->etag = wa_strdup(wa_http_header(r, "etag"));
    d->meta = wa_s3_meta(r);
    d->crc = whole ? wa_strdup(wa_http_header(r, "x-amz-checksum-crc32c")) : NULL;
    d->until = wa_mono_now() + d->s3->budget_ms + (d->end - d->begin) / WA_S3_SLOWEST_BYTES_PER_MS;
}

static wa_status
on_headers(void *arg, const wa_http_response *r, wa_error *err)
{
    download *d = arg;
    uint64_t first = 0, size = 0;
    if (answered_range(r, &first, &size, err) != WA_OK)
        return err->status = WA_CORRUPT;
    if (!d->known)
        settle(d, size, r);
    if (size != d->size)
        return wa_error_set(err, WA_CORRUPT, "the object changed its size while it was read");
    uint64_t next = d->begin + d->delivered;
    if (first > next)
        return wa_error_set(err, WA_CORRUPT, "the server answered another range than asked for");
    d->skip = next - first;
    return WA_OK;
}

static wa_status
on_body(void *arg, const void *data, size_t len, wa_error *err)
{
    download *d = arg;
    if (wa_mono_left(d->until) == 0) {
        d->call->final = true;
        return wa_error_set(err, WA_UNAVAILABLE, "the transfer is too slow");
    }
    size_t passed = d->skip < len ? (size_t)d->skip : len;
    d->skip -= passed;
    const char *bytes = (const char *)data + passed;
    size_t n = len - passed;
    uint64_t left = d->end - d->begin - d->delivered;
    n = n < left ? n : (size_t)left;
    if (n == 0)
        return WA_OK;
    wa_status status = wa_sink_write(d->to, bytes, n, err);
    if (status != WA_OK) {
        d->call->final = true; /* the sink's failure, not the network's */
        return status;
    }
    d->running_crc = wa_crc32c(d->running_crc, bytes, n);
    d->delivered += n;
    d->call->retry.attempts = 0; /* it moves: a new budget for the rest, within d->until */
    d->call->retry.deadline = wa_mono_now() + d->s3->budget_ms;
    return WA_OK;
}

/* Everything came: was it what the server has? */
static wa_status
check_download(const download *d, const char *key, wa_error *err)
{
    if (d->delivered != d->end - d->begin)
        return wa_error_set(err, WA_CORRUPT, "\"%s\" in \"%s\" ended after %llu of %llu bytes", key,
                            d->s3->url, (unsigned long long)d->delivered,
                            (unsigned long long)(d->end - d->begin));
    if (d->crc == NULL || strchr(d->crc, '-') != NULL) /* "-N": of the parts' checksums */
        return WA_OK;
    uint8_t bytes[4];
    wa_put_u32be(bytes, d->running_crc);
    WA_CLEANUP(wa_freep) char *ours = wa_base64(bytes, sizeof bytes);
    if (!wa_str_eq(ours, d->crc))
        return wa_error_set(err, WA_CORRUPT, "\"%s\" in \"%s\" does not match its checksum", key,
                            d->s3->url);
    return WA_OK;
}

/* No byte to ask for, or (416) the range begins at or behind the end, which is fine at the start.
 */
static wa_status
get_nothing(wa_s3 *s3, const char *key, uint64_t offset, uint64_t *ret_size, char **ret_meta,
            wa_error *err)
{
    uint64_t size;
    WA_CLEANUP(wa_freep) char *meta = NULL;
    WA_TRY(wa_s3_head(&s3->base, key, &size, NULL, &meta, err));
    if (offset > 0 && offset >= size)
        return wa_error_set(err, WA_INVALID,
                            "object \"%s\" in \"%s\" has %llu bytes, none at offset %llu", key,
                            s3->url, (unsigned long long)size, (unsigned long long)offset);
    if (ret_size != NULL)
        *ret_size = size;
    if (ret_meta != NULL)
        *ret_meta = WA_TAKE(meta);
    return WA_OK;
}

wa_status
wa_s3_get(wa_store *store, const char *key, bool tail, uint64_t offset, uint64_t len, wa_sink *to,
          uint64_t *ret_size, char **ret_meta, wa_error *err)
{
    wa_s3 *s3 = (wa_s3 *)store;
    if (len == 0)
        return get_nothing(s3, key, tail ? 0 : offset, ret_size, ret_meta, err);
    WA_CLEANUP(wa_s3_call_done) wa_s3_call call;
    wa_s3_call_init(s3, &call, "read", "GET", key);
    WA_CLEANUP(download_done)
    download d = {.s3 = s3, .call = &call, .to = to, .tail = tail, .offset = offset, .len = len};
    call.stream_answer = true;
    call.prepare = prepare;
    call.on_headers = on_headers;
    call.on_body = on_body;
    call.arg = &d;
    WA_CLEANUP(wa_http_response_done) wa_http_response response = {0};
    if (wa_s3_perform(s3, &call, &response, err) != WA_OK) {
        if (call.status == 416 && !d.known) /* the range begins at or behind the end */
            return get_nothing(s3, key, tail ? 0 : offset, ret_size, ret_meta, err);
        if (call.status == 412)
            err->status = WA_CORRUPT; /* replaced while it was read */
        return err->status;
    }
    WA_TRY(check_download(&d, key, err));
    if (ret_size != NULL)
        *ret_size = d.size;
    if (ret_meta != NULL)
        *ret_meta = WA_TAKE(d.meta);
    return WA_OK;
}
