/*
 * store/s3_upload.c - uploads in parts.
 *
 * POST ?uploads, PUT ?partNumber&uploadId, POST ?uploadId with <CompleteMultipartUpload>, DELETE
 * ?uploadId, GET ?uploads. The answer to complete may be 200 with an <Error> in its body, and may
 * be lost: then the object itself tells.
 */
#include "s3_internal.h"

#include "walagent/codec/xml.h"

#include <stdio.h>
#include <string.h>

#define PARTS_MAX 10000
#define COMPLETE_BODY_MAX (4u << 20)
#define COMPLETE_ATTEMPTS 5
#define ABORT_BUDGET_MS 5000

typedef struct part {
    char *etag;      /* NULL: not there yet */
    char crc32c[16]; /* "": the server keeps none */
    uint64_t len;
} part;

typedef struct s3_upload {
    wa_upload base;
    char *key, *id, *meta;
    bool committed;
    wa_mutex mutex; /* guards what follows */
    part *parts;    /* [number - 1] */
    size_t count, capacity;
} s3_upload;

static wa_s3 *
store_of(const s3_upload *u)
{
    return (wa_s3 *)u->base.store;
}

wa_status
wa_s3_upload_begin(wa_store *store, const char *key, const char *meta, uint64_t part_size,
                   wa_upload **ret, wa_error *err)
{
    (void)part_size;
    wa_s3 *s3 = (wa_s3 *)store;
    WA_CLEANUP(wa_s3_call_done) wa_s3_call call;
    wa_s3_call_init(s3, &call, "begin the upload of", "POST", key);
    wa_strv_add(&call.query, "uploads");
    WA_TRY(wa_s3_add_object_headers(s3, meta, &call.headers, err));
    wa_strv_add(&call.headers, "x-amz-checksum-algorithm: CRC32C");
    WA_CLEANUP(wa_http_response_done) wa_http_response response = {0};
    WA_TRY(wa_s3_perform(s3, &call, &response, err));
    WA_CLEANUP(wa_freep)
    char *id = wa_xml_find(wa_buf_str(&response.body), response.body.len,
                           "InitiateMultipartUploadResult/UploadId");
    if (wa_str_empty(id))
        return wa_error_set(err, WA_CORRUPT, "\"%s\" began the upload of \"%s\" without an id",
                            s3->url, key);
    s3_upload *u = wa_calloc(1, sizeof *u);
    u->base.store = store;
    u->key = wa_strdup(key);
    u->meta = wa_strdup(meta != NULL ? meta : "");
    u->id = WA_TAKE(id);
    wa_mutex_init(&u->mutex);
    *ret = &u->base;
    return WA_OK;
}

static void
remember_part(s3_upload *u, unsigned number, const char *etag, const char *crc32c, uint64_t len)
{
    WA_LOCK(&u->mutex);
    if (number > u->capacity) {
        size_t capacity = u->capacity > 0 ? 2 * u->capacity : 64;
        capacity = capacity > number ? capacity : number;
        u->parts = wa_reallocarray(u->parts, capacity, sizeof *u->parts);
        memset(u->parts + u->capacity, 0, (capacity - u->capacity) * sizeof *u->parts);
        u->capacity = capacity;
    }
    u->count = number > u->count ? number : u->count;
    wa_freep(&u->parts[number - 1].etag);
    part *p = &u->parts[number - 1];
    *p = (part){.etag = wa_strdup(etag), .len = len};
    (void)snprintf(p->crc32c, sizeof p->crc32c, "%s", crc32c);
}

wa_status
wa_s3_upload_part(wa_upload *upload, unsigned number, const void *data, size_t len, wa_error *err)
{
    s3_upload *u = (s3_upload *)upload;
    wa_s3 *s3 = store_of(u);
    WA_ASSERT(number >= 1);
    if (number > PARTS_MAX) {
        (void)wa_error_set(err, WA_NO_SPACE, "\"%s\" needs more than %d parts", u->key, PARTS_MAX);
        return wa_error_hint(err, "The object is too large for its part size.");
    }
    WA_CLEANUP(wa_s3_call_done) wa_s3_call call;
    wa_s3_call_init(s3, &call, "write a part of", "PUT", u->key);
    wa_strv_take(&call.query, wa_format("partNumber=%u", number));
    wa_strv_take(&call.query, wa_format("uploadId=%s", u->id));
    wa_body body = {.data = len > 0 ? data : "", .len = len, .fd = -1};
    WA_TRY(wa_s3_set_body(&call, &body, atomic_load(&s3->needs_md5), err));
    WA_CLEANUP(wa_http_response_done) wa_http_response response = {0};
    WA_TRY(wa_s3_perform(s3, &call, &response, err));
    WA_TRY(wa_s3_check_echo(s3, &call, &response, err));
    const char *etag = wa_http_header(&response, "etag");
    if (wa_str_empty(etag))
        return wa_error_set(err, WA_CORRUPT, "\"%s\" took a part of \"%s\" without an entity tag",
                            s3->url, u->key);
    /* AWS wants the checksums again in complete; servers that don't know them refuse their element.
     */
    bool keeps_checksums = wa_http_header(&response, "x-amz-checksum-crc32c") != NULL;
    remember_part(u, number, etag, keeps_checksums ? call.crc32c : "", len);
    return WA_OK;
}

/* The list of parts and the whole size. */
static wa_status
complete_body(s3_upload *u, wa_buf *xml, uint64_t *ret_size, wa_error *err)
{
    WA_LOCK(&u->mutex);
    uint64_t size = 0;
    wa_buf_puts(xml, "<CompleteMultipartUpload>");
    for (size_t i = 0; i < u->count; i++) {
        if (u->parts[i].etag == NULL)
            return wa_error_set(err, WA_INVALID, "part %zu of \"%s\" was not uploaded", i + 1,
                                u->key);
        wa_buf_printf(xml, "<Part><PartNumber>%zu</PartNumber><ETag>%s</ETag>", i + 1,
                      u->parts[i].etag);
        if (u->parts[i].crc32c[0] != '\0')
            wa_buf_printf(xml, "<ChecksumCRC32C>%s</ChecksumCRC32C>", u->parts[i].crc32c);
        wa_buf_puts(xml, "</Part>");
        size += u->parts[i].len;
    }
    wa_buf_puts(xml, "</CompleteMultipartUpload>");
    if (u->count == 0)
        return wa_error_set(err, WA_INVALID, "the upload of \"%s\" has no parts", u->key);
    *ret_size = size;
    return WA_OK;
}

/* The upload is gone: did an answer get lost, and is the object there? */
static bool
arrived(s3_upload *u, uint64_t size)
{
    wa_error ignored = WA_ERROR_INIT;
    uint64_t found = 0;
    WA_CLEANUP(wa_freep) char *meta = NULL;
    return wa_s3_head(u->base.store, u->key, &found, NULL, &meta, &ignored) == WA_OK &&
           found == size && wa_str_eq(meta, u->meta);
}

/* What is there is seen before we complete: a condition on that is not known to all servers. */
static wa_status
check_not_taken(s3_upload *u, wa_error *err)
{
    wa_status status = wa_s3_head(u->base.store, u->key, NULL, NULL, NULL, err);
    if (status == WA_OK)
        return wa_error_set(err, WA_EXISTS, "\"%s\" exists already in \"%s\"", u->key,
                            store_of(u)->url);
    if (status != WA_NOT_FOUND)
        return status;
    wa_error_clear(err);
    return WA_OK;
}

wa_status
wa_s3_upload_commit(wa_upload *upload, wa_error *err)
{
    s3_upload *u = (s3_upload *)upload;
    wa_s3 *s3 = store_of(u);
    uint64_t size = 0;
    WA_CLEANUP(wa_buf_done) wa_buf xml = WA_BUF_INIT(COMPLETE_BODY_MAX);
    WA_TRY(complete_body(u, &xml, &size, err));
    if (upload->keeps)
        WA_TRY(check_not_taken(u, err));
    WA_CLEANUP(wa_s3_call_done) wa_s3_call call;
    wa_s3_call_init(s3, &call, "complete the upload of", "POST", u->key);
    call.retry.max_attempts = COMPLETE_ATTEMPTS;
    call.slow_answer = true;
    call.judge_body = true;
    wa_strv_take(&call.query, wa_format("uploadId=%s", u->id));
    wa_strv_add(&call.headers, "Content-Type: application/xml");
    wa_s3_set_text(&call, xml.data, xml.len, false);
    WA_CLEANUP(wa_http_response_done) wa_http_response response = {0};
    wa_status status = wa_s3_perform(s3, &call, &response, err);
    if (status == WA_NOT_FOUND && call.sends > 1 && arrived(u, size))
        status = WA_OK;
    else if (status == WA_NOT_FOUND)
        status = err->status = WA_FAILED; /* the upload is gone, which says nothing of the object */
    u->committed = status == WA_OK;
    return status;
}

static wa_status
abort_upload(wa_s3 *s3, const char *key, const char *id, uint64_t budget_ms, wa_error *err)
{
    WA_CLEANUP(wa_s3_call_done) wa_s3_call call;
    wa_s3_call_init(s3, &call, "abort the upload of", "DELETE", key);
    call.retry.deadline = wa_mono_now() + budget_ms;
    call.retry.max_attempts = 3;
    wa_strv_take(&call.query, wa_format("uploadId=%s", id));
    WA_CLEANUP(wa_http_response_done) wa_http_response response = {0};
    wa_status status = wa_s3_perform(s3, &call, &response, err);
    return status == WA_NOT_FOUND ? WA_OK : status;
}

void
wa_s3_upload_free(wa_upload *upload)
{
    s3_upload *u = (s3_upload *)upload;
    if (u == NULL)
        return;
    wa_error ignored = WA_ERROR_INIT; /* what stays behind is found by wa_store_abort_uploads */
    if (!u->committed)
        (void)abort_upload(store_of(u), u->key, u->id, ABORT_BUDGET_MS, &ignored);
    for (size_t i = 0; i < u->count; i++)
        wa_freep(&u->parts[i].etag);
    wa_freep(&u->parts);
    wa_freep(&u->key);
    wa_freep(&u->meta);
    wa_freep(&u->id);
    wa_mutex_done(&u->mutex);
    wa_freep(&u);
}

/* One page of uploads; those begun before `before` are collected as key, id pairs. */
typedef struct uploads {
    const wa_s3 *s3;
    wa_time before;
    wa_strv old;
    char *key, *id; /* of the element being read */
    wa_time begun;
    bool encoded, truncated;
    char *next_key, *next_id;
} uploads;

static void
uploads_done(uploads *l)
{
    wa_strv_done(&l->old);
    wa_freep(&l->key);
    wa_freep(&l->id);
    wa_freep(&l->next_key);
    wa_freep(&l->next_id);
}

static void
keep_upload(uploads *l)
{
    if (l->key != NULL && l->id != NULL && l->begun < l->before) {
        wa_strv_take(&l->old, WA_TAKE(l->key));
        wa_strv_take(&l->old, WA_TAKE(l->id));
    }
    wa_freep(&l->key);
    wa_freep(&l->id);
    l->begun = INT64_MAX;
}

static wa_status
on_upload_element(void *arg, const char *path, const char *text, wa_error *err)
{
    uploads *l = arg;
    if (!wa_str_starts(path, "ListMultipartUploadsResult/"))
        return WA_OK;
    path += strlen("ListMultipartUploadsResult/");
    if (text == NULL) {
        if (wa_str_eq(path, "Upload"))
            keep_upload(l);
        return WA_OK;
    }
    struct {
        const char *path;
        char **into;
    } texts[] = {{"Upload/Key", &l->key},
                 {"Upload/UploadId", &l->id},
                 {"NextKeyMarker", &l->next_key},
                 {"NextUploadIdMarker", &l->next_id}};
    for (size_t i = 0; i < WA_ARRAY_SIZE(texts); i++) {
        if (!wa_str_eq(path, texts[i].path))
            continue;
        wa_freep(texts[i].into);
        *texts[i].into = wa_strdup(text);
    }
    if (wa_str_eq(path, "Upload/Initiated"))
        return wa_time_parse(text, wa_time_now(), &l->begun, err);
    if (wa_str_eq(path, "IsTruncated"))
        l->truncated = wa_str_eq(text, "true");
    if (wa_str_eq(path, "EncodingType"))
        l->encoded = wa_str_eq(text, "url");
    return WA_OK;
}

static wa_status
fetch_uploads(wa_s3 *s3, const char *prefix, const char *key_marker, const char *id_marker,
              uploads *l, wa_error *err)
{
    WA_CLEANUP(wa_s3_call_done) wa_s3_call call;
    wa_s3_call_init(s3, &call, "list uploads in", "GET", NULL);
    wa_strv_add(&call.query, "uploads");
    wa_strv_add(&call.query, "encoding-type=url");
    wa_strv_take(&call.query, wa_format("prefix=%s%s", s3->prefix, prefix != NULL ? prefix : ""));
    if (key_marker != NULL)
        wa_strv_take(&call.query, wa_format("key-marker=%s", key_marker));
    if (id_marker != NULL)
        wa_strv_take(&call.query, wa_format("upload-id-marker=%s", id_marker));
    WA_CLEANUP(wa_http_response_done) wa_http_response response = {0};
    WA_TRY(wa_s3_perform(s3, &call, &response, err));
    WA_TRY(wa_xml_parse(wa_buf_str(&response.body), response.body.len, "list of uploads",
                        on_upload_element, l, err));
    for (size_t i = 0; i < l->old.count && l->encoded; i += 2)
        wa_s3_url_decode(l->old.items[i]);
    if (l->encoded && l->next_key != NULL)
        wa_s3_url_decode(l->next_key);
    return WA_OK;
}

wa_status
wa_s3_abort_uploads(wa_store *store, const char *prefix, wa_time before, size_t *ret_count,
                    wa_error *err)
{
    wa_s3 *s3 = (wa_s3 *)store;
    WA_CLEANUP(wa_freep) char *key_marker = NULL;
    WA_CLEANUP(wa_freep) char *id_marker = NULL;
    size_t count = 0;
    for (;;) {
        WA_CLEANUP(uploads_done) uploads l = {.s3 = s3, .before = before, .begun = INT64_MAX};
        WA_TRY(fetch_uploads(s3, prefix, key_marker, id_marker, &l, err));
        for (size_t i = 0; i + 1 < l.old.count; i += 2) {
            const char *key = l.old.items[i];
            if (!wa_str_starts(key, s3->prefix))
                continue;
            key += strlen(s3->prefix);
            WA_TRY(abort_upload(s3, key, l.old.items[i + 1], s3->budget_ms, err));
            count++;
        }
        if (!l.truncated || l.next_key == NULL ||
            (wa_str_eq(l.next_key, key_marker) && wa_str_eq(l.next_id, id_marker)))
            break;
        wa_freep(&key_marker);
        wa_freep(&id_marker);
        key_marker = WA_TAKE(l.next_key);
        id_marker = WA_TAKE(l.next_id);
    }
    if (ret_count != NULL)
        *ret_count = count;
    return WA_OK;
}
