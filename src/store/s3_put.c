/*
 * store/s3_put.c - writing an object in one PUT, looking at one, and its public facts.
 *
 * Facts: x-amz-meta-wa, continued in x-amz-meta-wa-2, -3 ...; at most 255 bytes each, cut where no
 * space is lost (HTTP trims values).
 */
#include "s3_internal.h"

#include "walagent/base/file.h"

#include <stdio.h>
#include <string.h>

#define META_MAX 1024
#define META_PIECE 255
#define META_PIECES_MAX 32

/* How much of the text goes into the next header. 0: it is all spaces. */
static size_t
piece_length(const char *text)
{
    size_t len = strlen(text);
    if (len <= META_PIECE)
        return len;
    len = META_PIECE;
    while (len > 0 && (text[len - 1] == ' ' || text[len] == ' '))
        len--;
    return len;
}

static wa_status
add_meta(const char *meta, wa_strv *headers, wa_error *err)
{
    if (wa_str_empty(meta))
        return WA_OK;
    size_t len = strlen(meta);
    if (len > META_MAX)
        return wa_error_set(err, WA_INVALID, "public facts are longer than %d bytes", META_MAX);
    for (size_t i = 0; i < len; i++)
        if (meta[i] < ' ' || meta[i] > '~')
            return wa_error_set(err, WA_INVALID, "public facts are not plain ASCII");
    if (meta[0] == ' ' || meta[len - 1] == ' ')
        return wa_error_set(err, WA_INVALID, "public facts begin or end with a space");
    for (unsigned number = 1; *meta != '\0'; number++) {
        size_t piece = piece_length(meta);
        if (piece == 0)
            return wa_error_set(err, WA_INVALID, "public facts have too many spaces in a row");
        char *line = number == 1 ? wa_format("x-amz-meta-wa: %.*s", (int)piece, meta)
                                 : wa_format("x-amz-meta-wa-%u: %.*s", number, (int)piece, meta);
        wa_strv_take(headers, line);
        meta += piece;
    }
    return WA_OK;
}

char *
wa_s3_meta(const wa_http_response *response)
{
    WA_CLEANUP(wa_buf_done) wa_buf meta = WA_BUF_INIT(64u << 10);
    wa_error ignored = WA_ERROR_INIT;
    for (unsigned number = 1; number <= META_PIECES_MAX; number++) {
        char name[32] = "x-amz-meta-wa";
        if (number > 1)
            (void)snprintf(name, sizeof name, "x-amz-meta-wa-%u", number);
        const char *piece = wa_http_header(response, name);
        if (piece == NULL || wa_buf_append(&meta, piece, strlen(piece), &ignored) != WA_OK)
            break;
    }
    return wa_buf_detach(&meta);
}

wa_status
wa_s3_add_object_headers(const wa_s3 *s3, const char *meta, wa_strv *headers, wa_error *err)
{
    WA_TRY(add_meta(meta, headers, err));
    wa_strv_add(headers, "Content-Type: application/octet-stream");
    if (s3->storage_class != NULL)
        wa_strv_take(headers, wa_format("x-amz-storage-class: %s", s3->storage_class));
    if (s3->sse != NULL)
        wa_strv_take(headers, wa_format("x-amz-server-side-encryption: %s", s3->sse));
    if (s3->kms_key_id != NULL)
        wa_strv_take(headers,
                     wa_format("x-amz-server-side-encryption-aws-kms-key-id: %s", s3->kms_key_id));
    return WA_OK;
}

/* traits is the base struct's and plain; several threads may find out at once. */
static bool
conditional(const wa_s3 *s3)
{
    return __atomic_load_n(&s3->base.traits.conditional_put, __ATOMIC_RELAXED);
}

/* A sink that compares what it gets with a body. */
typedef struct comparison {
    wa_sink sink;
    const wa_body *body;
    uint64_t done;
    bool differs;
} comparison;

static wa_status
compare_write(wa_sink *sink, const void *data, size_t len, wa_error *err)
{
    comparison *c = (comparison *)sink;
    if (len > c->body->len - c->done)
        c->differs = true;
    char chunk[4096];
    for (size_t at = 0; at < len && !c->differs;) {
        size_t n = len - at < sizeof chunk ? len - at : sizeof chunk;
        const char *ours = (const char *)c->body->data + c->done;
        if (c->body->data == NULL) {
            off_t offset = (off_t)(c->body->offset + c->done);
            WA_TRY(wa_pread_all(c->body->fd, chunk, n, offset, "object", err));
            ours = chunk;
        }
        c->differs = memcmp(ours, (const char *)data + at, n) != 0;
        c->done += n;
        at += n;
    }
    return WA_OK;
}

static void
compare_free(wa_sink *sink)
{
    (void)sink;
}

/* The name was taken when our repeated PUT came: is it our own first try? */
static wa_status
is_our_own(wa_s3 *s3, const char *key, const wa_body *body, const char *meta, bool *ret,
           wa_error *err)
{
    static const wa_sink_ops ops = {compare_write, NULL, compare_free};
    uint64_t size;
    wa_time modified;
    WA_CLEANUP(wa_freep) char *their_meta = NULL;
    WA_TRY(wa_s3_head(&s3->base, key, &size, &modified, &their_meta, err));
    if (size != body->len || !wa_str_eq(their_meta, meta != NULL ? meta : "")) {
        *ret = false;
        return WA_OK;
    }
    comparison c = {.sink = {&ops}, .body = body};
    WA_TRY(wa_s3_get(&s3->base, key, false, 0, UINT64_MAX, &c.sink, NULL, NULL, err));
    *ret = !c.differs && c.done == body->len;
    return WA_OK;
}

static wa_status
taken(const wa_s3 *s3, const char *key, wa_error *err)
{
    return wa_error_set(err, WA_EXISTS, "\"%s\" exists already in \"%s\"", key, s3->url);
}

/* One PUT with its retries. *ret_again: the server can't do what was asked, and now we know: try
 * again. */
static wa_status
put_once(wa_s3 *s3, const char *key, const wa_body *body, const char *meta, bool create,
         bool *ret_again, wa_error *err)
{
    WA_CLEANUP(wa_s3_call_done) wa_s3_call call;
    wa_s3_call_init(s3, &call, "write", "PUT", key);
    bool md5 = atomic_load(&s3->needs_md5);
    WA_TRY(wa_s3_add_object_headers(s3, meta, &call.headers, err));
    WA_TRY(wa_s3_set_body(&call, body, md5, err));
    if (create)
        wa_strv_add(&call.headers, "If-None-Match: *");
    WA_CLEANUP(wa_http_response_done) wa_http_response response = {0};
    wa_status status = wa_s3_perform(s3, &call, &response, err);
    if (status == WA_OK)
        return wa_s3_check_echo(s3, &call, &response, err);
    if (create && call.status == 501) {
        __atomic_store_n(&s3->base.traits.conditional_put, false, __ATOMIC_RELAXED);
        *ret_again = true;
    } else if (!md5 && call.status == 400 && strcasestr(err->message, "md5") != NULL &&
               !wa_str_eq(call.code, "BadDigest")) {
        atomic_store(&s3->needs_md5, true);
        *ret_again = true;
    } else if (create && call.status == 412) {
        bool ours = false;
        if (call.sends > 1)
            WA_TRY(is_our_own(s3, key, body, meta, &ours, err));
        return ours ? WA_OK : taken(s3, key, err);
    }
    return status;
}

wa_status
wa_s3_put(wa_store *store, const char *key, const wa_body *body, const char *meta, wa_put_mode mode,
          wa_error *err)
{
    wa_s3 *s3 = (wa_s3 *)store;
    for (unsigned tries = 0;; tries++) {
        bool create = mode == WA_PUT_CREATE && conditional(s3);
        if (mode == WA_PUT_CREATE && !create) { /* look before writing */
            uint64_t size;
            wa_time modified;
            wa_status found = wa_s3_head(store, key, &size, &modified, NULL, err);
            if (found == WA_OK)
                return taken(s3, key, err);
            if (found != WA_NOT_FOUND)
                return found;
        }
        bool again = false;
        wa_status status = put_once(s3, key, body, meta, create, &again, err);
        if (!again || tries == 2)
            return status;
    }
}

wa_status
wa_s3_head(wa_store *store, const char *key, uint64_t *ret_size, wa_time *ret_modified,
           char **ret_meta, wa_error *err)
{
    wa_s3 *s3 = (wa_s3 *)store;
    WA_CLEANUP(wa_s3_call_done) wa_s3_call call;
    wa_s3_call_init(s3, &call, "look for", "HEAD", key);
    WA_CLEANUP(wa_http_response_done) wa_http_response response = {0};
    WA_TRY(wa_s3_perform(s3, &call, &response, err));
    const char *length = wa_http_header(&response, "content-length");
    uint64_t size;
    if (length == NULL || wa_parse_u64(length, &size, err) != WA_OK)
        return wa_error_set(err, WA_CORRUPT, "\"%s\" answered without a length for \"%s\"", s3->url,
                            key);
    if (ret_size != NULL)
        *ret_size = size;
    if (ret_modified != NULL)
        *ret_modified = wa_http_parse_date(wa_http_header(&response, "last-modified"));
    if (ret_meta != NULL)
        *ret_meta = wa_s3_meta(&response);
    return WA_OK;
}
