/*
 * store/s3_list.c - ListObjectsV2 and multi-object delete.
 *
 * ListBucketResult: Contents {Key, Size, LastModified, ETag}, CommonPrefixes {Prefix}, IsTruncated,
 * NextContinuationToken, EncodingType ("url": keys are percent-encoded). DeleteResult: Error {Key,
 * Code, Message}.
 */
#include "s3_internal.h"

#include "walagent/codec/xml.h"

#include <stdlib.h>
#include <string.h>

#define BATCH 1000
#define PAGE_KEYS 1000
#define DELETE_BODY_MAX (4u << 20)

typedef struct entry {
    char *key; /* in the repository */
    char *etag;
    uint64_t size;
    wa_time modified;
} entry;

typedef struct page {
    const wa_s3 *s3;
    entry *entries;
    size_t count, capacity;
    entry current; /* of the element being read; key still as in the answer */
    bool truncated, encoded;
    char *token;
} page;

static void
entry_done(entry *e)
{
    wa_freep(&e->key);
    wa_freep(&e->etag);
    memset(e, 0, sizeof *e);
}

static void
page_done(page *p)
{
    for (size_t i = 0; i < p->count; i++)
        entry_done(&p->entries[i]);
    entry_done(&p->current);
    wa_freep(&p->entries);
    wa_freep(&p->token);
}

static void
replace(char **at, const char *text)
{
    wa_freep(at);
    *at = wa_strdup(text);
}

void
wa_s3_url_decode(char *text)
{
    char *to = text;
    for (const char *from = text; *from != '\0';) {
        uint64_t byte;
        if (*from == '%' && wa_parse_hex(from + 1, 2, &byte)) {
            *to++ = (char)byte;
            from += 3;
        } else {
            *to++ = (char)(*from == '+' ? ' ' : *from);
            from++;
        }
    }
    *to = '\0';
}

/* An element of Contents, CommonPrefixes ended: keep it. */
static void
keep_entry(page *p)
{
    if (p->current.key == NULL)
        return;
    if (p->count == p->capacity) {
        p->capacity = p->capacity > 0 ? 2 * p->capacity : 64;
        p->entries = wa_reallocarray(p->entries, p->capacity, sizeof *p->entries);
    }
    p->entries[p->count++] = p->current;
    memset(&p->current, 0, sizeof p->current);
}

static wa_status
on_list_element(void *arg, const char *path, const char *text, wa_error *err)
{
    page *p = arg;
    if (!wa_str_starts(path, "ListBucketResult/"))
        return WA_OK;
    path += strlen("ListBucketResult/");
    if (text == NULL) {
        if (wa_str_eq(path, "Contents") || wa_str_eq(path, "CommonPrefixes"))
            keep_entry(p);
        return WA_OK;
    }
    if (wa_str_eq(path, "Contents/Key") || wa_str_eq(path, "CommonPrefixes/Prefix"))
        replace(&p->current.key, text);
    else if (wa_str_eq(path, "Contents/ETag"))
        replace(&p->current.etag, text);
    else if (wa_str_eq(path, "Contents/Size"))
        return wa_parse_u64(text, &p->current.size, err);
    else if (wa_str_eq(path, "Contents/LastModified"))
        return wa_time_parse(text, wa_time_now(), &p->current.modified, err);
    else if (wa_str_eq(path, "IsTruncated"))
        p->truncated = wa_str_eq(text, "true");
    else if (wa_str_eq(path, "NextContinuationToken"))
        replace(&p->token, text);
    else if (wa_str_eq(path, "EncodingType"))
        p->encoded = wa_str_eq(text, "url");
    return WA_OK;
}

static int
compare_entries(const void *a, const void *b)
{
    return strcmp(((const entry *)a)->key, ((const entry *)b)->key);
}

/* Keys decoded, the repository's prefix cut off, objects and prefixes in one order. */
static wa_status
finish_page(page *p, wa_error *err)
{
    size_t cut = strlen(p->s3->prefix);
    for (size_t i = 0; i < p->count; i++) {
        char *key = p->entries[i].key;
        if (p->encoded)
            wa_s3_url_decode(key);
        if (!wa_str_starts(key, p->s3->prefix))
            return wa_error_set(err, WA_CORRUPT,
                                "\"%s\" listed \"%s\", which is outside of the prefix", p->s3->url,
                                key);
        memmove(key, key + cut, strlen(key + cut) + 1);
    }
    if (p->count > 1)
        qsort(p->entries, p->count, sizeof *p->entries, compare_entries);
    return WA_OK;
}

static wa_status
fetch_page(wa_s3 *s3, const wa_list_options *options, const char *after, const char *token, page *p,
           wa_error *err)
{
    WA_CLEANUP(wa_s3_call_done) wa_s3_call call;
    wa_s3_call_init(s3, &call, "list", "GET", NULL);
    const char *prefix = options->prefix != NULL ? options->prefix : "";
    size_t keys = options->page > 0 && options->page < PAGE_KEYS ? options->page : PAGE_KEYS;
    wa_strv_add(&call.query, "list-type=2");
    wa_strv_add(&call.query, "encoding-type=url");
    wa_strv_take(&call.query, wa_format("max-keys=%zu", keys));
    wa_strv_take(&call.query, wa_format("prefix=%s%s", s3->prefix, prefix));
    if (options->delimited)
        wa_strv_add(&call.query, "delimiter=/");
    if (token != NULL)
        wa_strv_take(&call.query, wa_format("continuation-token=%s", token));
    else if (!wa_str_empty(after))
        wa_strv_take(&call.query, wa_format("start-after=%s%s", s3->prefix, after));
    WA_CLEANUP(wa_http_response_done) wa_http_response response = {0};
    WA_TRY(wa_s3_perform(s3, &call, &response, err));
    const char *text = wa_buf_str(&response.body);
    WA_CLEANUP(wa_freep)
    char *truncated = wa_xml_find(text, response.body.len, "ListBucketResult/IsTruncated");
    if (truncated == NULL)
        return wa_error_set(err, WA_CORRUPT, "\"%s\" answered a listing with something else",
                            s3->url);
    WA_TRY(wa_xml_parse(text, response.body.len, "listing", on_list_element, p, err));
    return finish_page(p, err);
}

static wa_status
deliver(const page *p, const char *after, wa_list_fn fn, void *arg, wa_error *err)
{
    for (size_t i = 0; i < p->count; i++) {
        const entry *e = &p->entries[i];
        if (e->key[0] == '\0' || (after != NULL && strcmp(e->key, after) <= 0))
            continue;
        wa_object object = {
            .key = e->key, .size = e->size, .modified = e->modified, .etag = e->etag};
        WA_TRY(fn(arg, &object, err));
    }
    return WA_OK;
}

wa_status
wa_s3_list(wa_store *store, const wa_list_options *options, wa_list_fn fn, void *arg, wa_error *err)
{
    wa_s3 *s3 = (wa_s3 *)store;
    WA_CLEANUP(wa_freep) char *after = wa_strdup(options->after);
    WA_CLEANUP(wa_freep) char *token = NULL;
    for (;;) {
        WA_CLEANUP(page_done) page p = {.s3 = s3};
        WA_TRY(fetch_page(s3, options, after, token, &p, err));
        WA_TRY(deliver(&p, after, fn, arg, err));
        if (!p.truncated)
            return WA_OK;
        const char *last = p.count > 0 ? p.entries[p.count - 1].key : NULL;
        bool stuck =
            p.token != NULL ? wa_str_eq(p.token, token) : last == NULL || wa_str_eq(last, after);
        if (stuck)
            return wa_error_set(err, WA_CORRUPT, "the listing of \"%s\" does not get on", s3->url);
        wa_freep(&token);
        token = WA_TAKE(p.token);
        if (last != NULL)
            replace(&after, last);
    }
}

/* Keys of a batch that are still to be deleted, and the first failure that is final. */
typedef struct deletion {
    const wa_s3 *s3;
    wa_strv again;
    wa_error first; /* status OK: none */
    wa_error retryable;
    char *key, *code, *message; /* of the <Error> being read */
} deletion;

static void
deletion_done(deletion *d)
{
    wa_strv_done(&d->again);
    wa_freep(&d->key);
    wa_freep(&d->code);
    wa_freep(&d->message);
}

static void
note_failure(deletion *d)
{
    const char *key = d->key != NULL ? d->key : "?";
    wa_status status = wa_s3_status_of_code(d->code != NULL ? d->code : "", 400);
    if (status == WA_NOT_FOUND)
        return;
    bool again = status == WA_UNAVAILABLE && d->key != NULL;
    wa_error *into = again ? &d->retryable : &d->first;
    if (into->status == WA_OK) {
        (void)wa_error_set(into, status, "could not delete \"%s\" in \"%s\": %s (%s)",
                           key + (wa_str_starts(key, d->s3->prefix) ? strlen(d->s3->prefix) : 0),
                           d->s3->url, d->message != NULL ? d->message : "refused",
                           d->code != NULL ? d->code : "no code");
        if (status == WA_DENIED)
            (void)wa_error_hint(
                into, "Its permissions or object lock (retention, legal hold) refuse it.");
    }
    if (again)
        wa_strv_add(&d->again, key);
}

static wa_status
on_delete_element(void *arg, const char *path, const char *text, wa_error *err)
{
    (void)err;
    deletion *d = arg;
    if (text == NULL && wa_str_eq(path, "DeleteResult/Error")) {
        note_failure(d);
        wa_freep(&d->key);
        wa_freep(&d->code);
        wa_freep(&d->message);
    } else if (text != NULL && wa_str_eq(path, "DeleteResult/Error/Key")) {
        replace(&d->key, text);
    } else if (text != NULL && wa_str_eq(path, "DeleteResult/Error/Code")) {
        replace(&d->code, text);
    } else if (text != NULL && wa_str_eq(path, "DeleteResult/Error/Message")) {
        replace(&d->message, text);
    }
    return WA_OK;
}

static void
add_escaped(wa_buf *xml, const char *text)
{
    for (; *text != '\0'; text++) {
        if (*text == '&')
            wa_buf_puts(xml, "&amp;");
        else if (*text == '<')
            wa_buf_puts(xml, "&lt;");
        else if (*text == '>')
            wa_buf_puts(xml, "&gt;");
        else
            wa_buf_putc(xml, *text);
    }
}

/* One multi-delete of full keys. UNSUPPORTED: the server has none. */
static wa_status
delete_batch(wa_s3 *s3, const wa_strv *keys, deletion *d, wa_error *err)
{
    WA_CLEANUP(wa_buf_done) wa_buf xml = WA_BUF_INIT(DELETE_BODY_MAX);
    wa_buf_puts(&xml, "<Delete><Quiet>true</Quiet>");
    for (size_t i = 0; i < keys->count; i++) {
        wa_buf_puts(&xml, "<Object><Key>");
        add_escaped(&xml, keys->items[i]);
        wa_buf_puts(&xml, "</Key></Object>");
    }
    wa_buf_puts(&xml, "</Delete>");
    WA_CLEANUP(wa_s3_call_done) wa_s3_call call;
    wa_s3_call_init(s3, &call, "delete objects in", "POST", NULL);
    call.judge_body = true;
    wa_strv_add(&call.query, "delete");
    wa_strv_add(&call.headers, "Content-Type: application/xml");
    wa_s3_set_text(&call, xml.data, xml.len, true);
    WA_CLEANUP(wa_http_response_done) wa_http_response response = {0};
    WA_TRY(wa_s3_perform(s3, &call, &response, err));
    return wa_xml_parse(wa_buf_str(&response.body), response.body.len, "answer to a deletion",
                        on_delete_element, d, err);
}

static wa_status
delete_one(wa_s3 *s3, const char *key, wa_error *err)
{
    WA_CLEANUP(wa_s3_call_done) wa_s3_call call;
    wa_s3_call_init(s3, &call, "delete", "DELETE", key);
    WA_CLEANUP(wa_http_response_done) wa_http_response response = {0};
    wa_status status = wa_s3_perform(s3, &call, &response, err);
    return status == WA_NOT_FOUND ? WA_OK : status;
}

/* Full keys; those that the server could not delete just now are sent again. */
static wa_status
delete_all_of(wa_s3 *s3, const wa_strv *keys, wa_error *err)
{
    WA_CLEANUP(deletion_done) deletion d = {.s3 = s3};
    WA_TRY(delete_batch(s3, keys, &d, err));
    wa_retry retry;
    wa_retry_init(&retry, s3->budget_ms, s3->cancel);
    while (d.again.count > 0) {
        wa_strv again = d.again;
        wa_error busy = d.retryable;
        memset(&d.again, 0, sizeof d.again);
        wa_error_clear(&d.retryable);
        wa_status status = WA_OK;
        if (!wa_retry_again(&retry, &busy)) {
            *err = busy;
            status = busy.status;
        } else {
            status = delete_batch(s3, &again, &d, err);
        }
        wa_strv_done(&again);
        WA_TRY(status);
    }
    if (d.first.status != WA_OK)
        *err = d.first;
    return d.first.status;
}

static wa_status
delete_singly(wa_s3 *s3, const wa_strv *keys, size_t from, size_t to, wa_error *err)
{
    wa_status first = WA_OK;
    wa_error ignored;
    for (size_t i = from; i < to; i++) {
        wa_status status = delete_one(s3, keys->items[i], first == WA_OK ? err : &ignored);
        first = first == WA_OK ? status : first;
    }
    return first;
}

wa_status
wa_s3_remove(wa_store *store, const wa_strv *keys, wa_error *err)
{
    wa_s3 *s3 = (wa_s3 *)store;
    wa_status first = WA_OK;
    for (size_t from = 0; from < keys->count; from += BATCH) {
        size_t to = keys->count - from < BATCH ? keys->count : from + BATCH;
        WA_CLEANUP(wa_strv_done) wa_strv batch = {0};
        for (size_t i = from; i < to; i++)
            wa_strv_take(&batch, wa_format("%s%s", s3->prefix, keys->items[i]));
        wa_error failure = WA_ERROR_INIT;
        wa_status status = to - from == 1 ? delete_one(s3, keys->items[from], &failure)
                                          : delete_all_of(s3, &batch, &failure);
        if (status == WA_UNSUPPORTED)
            status = delete_singly(s3, keys, from, to, &failure);
        if (first == WA_OK && status != WA_OK) {
            first = status;
            *err = failure;
        }
        if (status == WA_CANCELLED)
            return first;
    }
    return first;
}
