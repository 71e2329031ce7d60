/*
 * test_s3.c - what the S3 driver asks for, and what it makes of answers, against a scripted server.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "loopback.h"
#include "s3_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct fixture {
    loopback *server;
    char endpoint[64];
    wa_store_options options;
    wa_store *store;
    wa_error err;
} fixture;

static int
begin(void **state)
{
    static const char *const names[] = {"AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE", "HOME",
                                        "http_proxy", "all_proxy",          "ALL_PROXY"};
    for (size_t i = 0; i < WA_ARRAY_SIZE(names); i++)
        assert_int_equal(unsetenv(names[i]), 0);
    fixture *f = calloc(1, sizeof *f);
    f->server = loopback_start();
    (void)snprintf(f->endpoint, sizeof f->endpoint, "http://localhost:%d",
                   loopback_port(f->server));
    f->options = (wa_store_options){.url = "s3://bucket/pre/fix/",
                                    .s3_endpoint = f->endpoint,
                                    .s3_access_key_id = "KEYID",
                                    .s3_secret_access_key = "SECRET"};
    *state = f;
    return 0;
}

static int
end(void **state)
{
    fixture *f = *state;
    wa_store_free(f->store);
    loopback_stop(f->server);
    free(f);
    return 0;
}

static wa_store *
store_of(fixture *f)
{
    if (f->store == NULL)
        assert_int_equal(wa_store_open(&f->options, &f->store, &f->err), WA_OK);
    return f->store;
}

static wa_status
put(fixture *f, const char *meta, wa_put_mode mode)
{
    wa_body body = {.data = "123456789", .len = 9, .fd = -1};
    return wa_store_put(store_of(f), "k", &body, meta, mode, &f->err);
}

static wa_status
head(fixture *f)
{
    return wa_store_head(store_of(f), "k", NULL, NULL, NULL, &f->err);
}

static void
assert_asked(fixture *f, size_t n, const char *part)
{
    const char *request = loopback_request(f->server, n);
    if (strstr(request, part) == NULL)
        fail_msg("request %zu has no \"%s\":\n%s", n, part, request);
}

static void
assert_not_asked(fixture *f, size_t n, const char *part)
{
    assert_null(strstr(loopback_request(f->server, n), part));
}

static void
reply_error(fixture *f, int status, const char *headers, const char *code, const char *message)
{
    WA_CLEANUP(wa_freep)
    char *body =
        wa_format("<?xml version=\"1.0\"?><Error><Code>%s</Code><Message>%s</Message></Error>",
                  code, message);
    loopback_reply(f->server, status, headers, body);
}

/* ---- opening, addressing ---- */

static void
malformed_settings_are_invalid(void **state)
{
    fixture *f = *state;
    wa_store *store = NULL;
    const char *urls[] = {"s3://", "s3:///prefix", "s3://buck et/x", "s3://b@d/x", "s3://b/a b"};
    for (size_t i = 0; i < WA_ARRAY_SIZE(urls); i++) {
        wa_store_options options = f->options;
        options.url = urls[i];
        assert_int_equal(wa_store_open(&options, &store, &f->err), WA_INVALID);
    }
    const char *endpoints[] = {"ftp://host", "https://", "https://user:x@host", "http://host?x"};
    for (size_t i = 0; i < WA_ARRAY_SIZE(endpoints); i++) {
        wa_store_options options = f->options;
        options.s3_endpoint = endpoints[i];
        assert_int_equal(wa_store_open(&options, &store, &f->err), WA_INVALID);
    }
    wa_store_options options = f->options;
    options.s3_addressing = "sideways";
    assert_int_equal(wa_store_open(&options, &store, &f->err), WA_INVALID);
    assert_null(store);
}

static void
own_endpoint_is_addressed_by_path(void **state)
{
    fixture *f = *state;
    loopback_reply(f->server, 200, "", "");
    assert_int_equal(put(f, NULL, WA_PUT_REPLACE), WA_OK);
    assert_asked(f, 0, "PUT /bucket/pre/fix/k HTTP/1.1\r\nHost: localhost:");
    assert_string_equal(wa_store_get_traits(f->store)->url, "s3://bucket/pre/fix");
}

static void
virtual_addressing_puts_the_bucket_into_the_host(void **state)
{
    fixture *f = *state;
    f->options.s3_addressing = "virtual";
    loopback_reply(f->server, 200, "", "");
    assert_int_equal(put(f, NULL, WA_PUT_REPLACE), WA_OK);
    assert_asked(f, 0, "PUT /pre/fix/k HTTP/1.1\r\nHost: bucket.localhost:");
}

static void
aws_is_addressed_by_host_unless_the_bucket_has_dots(void **state)
{
    fixture *f = *state;
    f->options.s3_endpoint = NULL;
    assert_true(((wa_s3 *)store_of(f))->virtual_host);
    wa_store_free(f->store);
    f->store = NULL;
    f->options.url = "s3://dotted.bucket";
    assert_false(((wa_s3 *)store_of(f))->virtual_host);
}

/* ---- put ---- */

static void
put_carries_checksums_conditions_and_storage_settings(void **state)
{
    fixture *f = *state;
    f->options.s3_storage_class = "STANDARD_IA";
    f->options.s3_sse = "aws:kms";
    f->options.s3_sse_kms_key_id = "key-1";
    f->options.s3_session_token = "SESSION";
    loopback_reply(f->server, 200, "", "");
    assert_int_equal(put(f, "{\"v\":1}", WA_PUT_CREATE), WA_OK);
    static const char *const lines[] = {
        "\r\nIf-None-Match: *\r\n",
        "\r\nx-amz-checksum-crc32c: 4waSgw==\r\n", /* of "123456789": E3069283 */
        ("\r\nx-amz-content-sha256: "
         "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225\r\n"),
        "\r\nx-amz-meta-wa: {\"v\":1}\r\n",
        "\r\nx-amz-storage-class: STANDARD_IA\r\n",
        "\r\nx-amz-server-side-encryption: aws:kms\r\n",
        "\r\nx-amz-server-side-encryption-aws-kms-key-id: key-1\r\n",
        "\r\nx-amz-security-token: SESSION\r\n",
        "Credential=KEYID/"};
    for (size_t i = 0; i < WA_ARRAY_SIZE(lines); i++)
        assert_asked(f, 0, lines[i]);
    assert_not_asked(f, 0, "Content-MD5");
    loopback_reply(f->server, 200, "", "");
    assert_int_equal(put(f, NULL, WA_PUT_REPLACE), WA_OK);
    assert_not_asked(f, 1, "If-None-Match");
}

static void
another_checksum_than_sent_is_corrupt(void **state)
{
    fixture *f = *state;
    loopback_reply(f->server, 200, "x-amz-checksum-crc32c: 4waSgw==\r\n", "");
    assert_int_equal(put(f, NULL, WA_PUT_CREATE), WA_OK);
    loopback_reply(f->server, 200, "x-amz-checksum-crc32c: AAAAAA==\r\n", "");
    assert_int_equal(put(f, NULL, WA_PUT_CREATE), WA_CORRUPT);
}

static void
long_facts_continue_where_no_space_is_lost(void **state)
{
    fixture *f = *state;
    char meta[600];
    memset(meta, 'm', sizeof meta);
    meta[254] = meta[255] = ' '; /* where the first piece would end */
    meta[599] = '\0';
    WA_CLEANUP(wa_strv_done) wa_strv headers = {0};
    assert_int_equal(wa_s3_add_object_headers((wa_s3 *)store_of(f), meta, &headers, &f->err),
                     WA_OK);
    wa_http_response response = {0};
    for (size_t i = 0; i < headers.count; i++) {
        const char *line = headers.items[i];
        size_t len = strlen(line);
        assert_true(line[len - 1] != ' ' && strstr(line, ":  ") == NULL);
        assert_true(len <= strlen("x-amz-meta-wa-2: ") + 255);
        wa_strv_add(&response.headers, line);
    }
    WA_CLEANUP(wa_freep) char *together = wa_s3_meta(&response);
    assert_string_equal(together, meta);
    wa_http_response_done(&response);
}

static void
taken_name_at_the_first_try_is_exists(void **state)
{
    fixture *f = *state;
    reply_error(f, 412, "", "PreconditionFailed", "x");
    assert_int_equal(put(f, NULL, WA_PUT_CREATE), WA_EXISTS);
    assert_int_equal(loopback_count(f->server), 1);
}

static void
put_after_a_lost_answer(fixture *f, const char *content, const char *meta_header)
{
    WA_CLEANUP(wa_freep)
    char *found =
        wa_format("HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n%s\r\n", strlen(content), meta_header);
    loopback_script(f->server, "", LOOPBACK_CLOSE);
    reply_error(f, 412, "", "PreconditionFailed", "x");
    loopback_script(f->server, found, LOOPBACK_KEEP);
    loopback_reply(f->server, 200, "", content);
}

static void
taken_name_after_a_lost_answer_is_compared(void **state)
{
    fixture *f = *state;
    put_after_a_lost_answer(f, "123456789", "x-amz-meta-wa: {}\r\n");
    assert_int_equal(put(f, "{}", WA_PUT_CREATE), WA_OK);
    assert_int_equal(loopback_count(f->server), 4);
}

static void
other_content_after_a_lost_answer_is_exists(void **state)
{
    fixture *f = *state;
    put_after_a_lost_answer(f, "12345678X", "x-amz-meta-wa: {}\r\n");
    assert_int_equal(put(f, "{}", WA_PUT_CREATE), WA_EXISTS);
}

static void
other_facts_after_a_lost_answer_are_exists(void **state)
{
    fixture *f = *state;
    put_after_a_lost_answer(f, "123456789", "x-amz-meta-wa: {\"other\":1}\r\n");
    assert_int_equal(put(f, "{}", WA_PUT_CREATE), WA_EXISTS);
    assert_int_equal(loopback_count(f->server), 3); /* the content need not be read */
}

static void
without_conditional_put_it_looks_first_from_then_on(void **state)
{
    fixture *f = *state;
    assert_true(wa_store_get_traits(store_of(f))->conditional_put);
    reply_error(f, 501, "", "NotImplemented", "x");
    reply_error(f, 404, "", "NoSuchKey", "x"); /* the HEAD (its body is not read) */
    reply_error(f, 404, "", "NoSuchKey", "x"); /* and the GET that makes sure */
    loopback_reply(f->server, 200, "", "");
    assert_int_equal(put(f, NULL, WA_PUT_CREATE), WA_OK);
    assert_false(wa_store_get_traits(f->store)->conditional_put);
    size_t before = loopback_count(f->server);
    loopback_script(f->server, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", LOOPBACK_KEEP);
    assert_int_equal(put(f, NULL, WA_PUT_CREATE), WA_EXISTS);
    assert_int_equal(loopback_count(f->server), before + 1);
    assert_asked(f, before, "HEAD /bucket/pre/fix/k ");
}

static void
content_md5_is_sent_when_the_server_wants_it(void **state)
{
    fixture *f = *state;
    reply_error(f, 400, "", "InvalidRequest",
                "Missing required header for this request: Content-MD5");
    loopback_reply(f->server, 200, "", "");
    assert_int_equal(put(f, NULL, WA_PUT_REPLACE), WA_OK);
    assert_asked(f, 1, "\r\nContent-MD5: JfnnlDI7RTiF9RgfG2JNCw==\r\n"); /* of "123456789" */
    loopback_reply(f->server, 200, "", "");
    assert_int_equal(put(f, NULL, WA_PUT_REPLACE), WA_OK);
    assert_asked(f, 2, "\r\nContent-MD5: ");
}

/* ---- answers ---- */

static void
codes_and_statuses_mean_one_thing(void **state)
{
    fixture *f = *state;
    static const struct {
        int http;
        const char *code;
        wa_status status;
        const char *hint;
    } cases[] = {{403, "SignatureDoesNotMatch", WA_DENIED, "s3_secret_access_key"},
                 {403, "InvalidAccessKeyId", WA_DENIED, "KEYID"},
                 {403, "AccessDenied", WA_DENIED, "policy"},
                 {403, "SomethingNew", WA_DENIED, ""},
                 {404, "NoSuchBucket", WA_INVALID, "Create"},
                 {404, "NoSuchKey", WA_NOT_FOUND, ""},
                 {403, "QuotaExceeded", WA_NO_SPACE, "quota"},
                 {507, "Whatever", WA_NO_SPACE, ""},
                 {501, "NotImplemented", WA_UNSUPPORTED, ""},
                 {400, "InvalidArgument", WA_INVALID, ""}};
    for (size_t i = 0; i < WA_ARRAY_SIZE(cases); i++) {
        reply_error(f, cases[i].http, "", cases[i].code, "the server's words");
        WA_CLEANUP(wa_buf_done) wa_buf got = WA_BUF_INIT(100);
        assert_int_equal(wa_store_get(store_of(f), "k", 0, UINT64_MAX, &got, NULL, &f->err),
                         cases[i].status);
        assert_non_null(strstr(f->err.message, cases[i].code));
        assert_non_null(strstr(f->err.message, "\"k\" in \"s3://bucket/pre/fix\""));
        assert_null(strstr(f->err.message, "SECRET"));
        assert_non_null(strstr(f->err.hint, cases[i].hint));
        assert_int_equal(loopback_count(f->server), i + 1); /* none is retried */
    }
}

static void
refused_head_is_explained_by_a_get(void **state)
{
    fixture *f = *state;
    loopback_script(f->server, "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n",
                    LOOPBACK_KEEP);
    reply_error(f, 403, "", "SignatureDoesNotMatch", "x");
    assert_int_equal(head(f), WA_DENIED);
    assert_non_null(strstr(f->err.message, "SignatureDoesNotMatch"));
    assert_asked(f, 1, "\r\nRange: bytes=0-0\r\n");
}

static void
missing_is_said_when_the_bucket_is_known_to_be_there(void **state)
{
    fixture *f = *state;
    static const char gone[] =
        "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nx-amz-request-id: 1\r\n\r\n";
    loopback_script(f->server, gone, LOOPBACK_KEEP);
    reply_error(f, 404, "", "NoSuchBucket", "x");
    assert_int_equal(head(f), WA_INVALID);
    loopback_script(f->server, gone, LOOPBACK_KEEP);
    reply_error(f, 404, "", "NoSuchKey", "x");
    assert_int_equal(head(f), WA_NOT_FOUND);
    loopback_script(f->server, gone, LOOPBACK_KEEP); /* from now on HEAD alone is enough */
    assert_int_equal(head(f), WA_NOT_FOUND);
    assert_int_equal(loopback_count(f->server), 5);
}

static void
another_region_is_signed_for_and_remembered(void **state)
{
    fixture *f = *state;
    loopback_reply(
        f->server, 400, "",
        "<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-west-3</Region></Error>");
    loopback_reply(f->server, 200, "", "");
    assert_int_equal(put(f, NULL, WA_PUT_REPLACE), WA_OK);
    assert_asked(f, 0, "/us-east-1/s3/aws4_request");
    assert_asked(f, 1, "/eu-west-3/s3/aws4_request");
    reply_error(f, 301, "x-amz-bucket-region: eu-west-4\r\n", "PermanentRedirect", "x");
    reply_error(f, 301, "x-amz-bucket-region: eu-west-5\r\n", "PermanentRedirect", "x");
    assert_int_equal(put(f, NULL, WA_PUT_REPLACE), WA_INVALID); /* once, not for ever */
    assert_non_null(strstr(f->err.hint, "eu-west-5"));
}

static void
the_servers_clock_is_used_after_a_skew(void **state)
{
    fixture *f = *state;
    reply_error(f, 403, "Date: Fri, 24 May 2013 00:00:00 GMT\r\n", "RequestTimeTooSkewed", "x");
    loopback_reply(f->server, 200, "", "");
    assert_int_equal(put(f, NULL, WA_PUT_REPLACE), WA_OK);
    assert_asked(f, 1, "\r\nx-amz-date: 20130524T0000");
}

/* ---- get ---- */

static void
a_cut_body_is_resumed_with_its_entity_tag(void **state)
{
    fixture *f = *state;
    loopback_script(f->server, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\nETag: \"e\"\r\n\r\n0123",
                    LOOPBACK_CLOSE);
    loopback_reply(f->server, 206, "Content-Range: bytes 4-9/10\r\n", "456789");
    WA_CLEANUP(wa_buf_done) wa_buf got = WA_BUF_INIT(100);
    assert_int_equal(wa_store_get(store_of(f), "k", 0, UINT64_MAX, &got, NULL, &f->err), WA_OK);
    assert_string_equal(wa_buf_str(&got), "0123456789");
    assert_not_asked(f, 0, "Range:");
    assert_asked(f, 1, "\r\nRange: bytes=4-9\r\n");
    assert_asked(f, 1, "\r\nIf-Match: \"e\"\r\n");
}

static void
whole_objects_are_checked_when_the_server_has_a_checksum(void **state)
{
    fixture *f = *state;
    WA_CLEANUP(wa_buf_done) wa_buf got = WA_BUF_INIT(100);
    loopback_reply(f->server, 200, "x-amz-checksum-crc32c: 4waSgw==\r\n", "123456789");
    assert_int_equal(wa_store_get(store_of(f), "k", 0, UINT64_MAX, &got, NULL, &f->err), WA_OK);
    loopback_reply(f->server, 200, "x-amz-checksum-crc32c: 4waSgw==\r\n", "12345678X");
    assert_int_equal(wa_store_get(f->store, "k", 0, UINT64_MAX, &got, NULL, &f->err), WA_CORRUPT);
    loopback_reply(f->server, 200, "x-amz-checksum-crc32c: AAAAAA==-2\r\n",
                   "123456789"); /* of parts */
    assert_int_equal(wa_store_get(f->store, "k", 0, UINT64_MAX, &got, NULL, &f->err), WA_OK);
}

/* ---- listings, deletion ---- */

static wa_status
join(void *arg, const wa_object *object, wa_error *err)
{
    (void)err;
    wa_buf_printf(arg, "%s:%llu ", object->key, (unsigned long long)object->size);
    return WA_OK;
}

static void
listing_is_decoded_merged_and_continued(void **state)
{
    fixture *f = *state;
    loopback_reply(
        f->server, 200, "",
        "<ListBucketResult><EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>"
        "<NextContinuationToken>to/ken=</NextContinuationToken>"
        "<Contents><Key>pre/fix/a%3D1</Key><Size>7</Size>"
        "<LastModified>2026-01-02T03:04:05.678Z</LastModified></Contents>"
        "<Contents><Key>pre/fix/c</Key><Size>8</Size></Contents>"
        "<CommonPrefixes><Prefix>pre/fix/b/</Prefix></CommonPrefixes></ListBucketResult>");
    loopback_reply(f->server, 200, "",
                   "<ListBucketResult><IsTruncated>false</IsTruncated>"
                   "<Contents><Key>pre/fix/d</Key><Size>9</Size></Contents></ListBucketResult>");
    WA_CLEANUP(wa_buf_done) wa_buf got = WA_BUF_INIT(1000);
    wa_list_options options = {.prefix = "", .delimited = true, .page = 2};
    assert_int_equal(wa_store_list(store_of(f), &options, join, &got, &f->err), WA_OK);
    assert_string_equal(wa_buf_str(&got), "a=1:7 b/:0 c:8 d:9 ");
    assert_asked(
        f, 0,
        "GET /bucket?delimiter=%2F&encoding-type=url&list-type=2&max-keys=2&prefix=pre%2Ffix%2F ");
    assert_asked(f, 1, "?continuation-token=to%2Fken%3D&");
}

static void
listings_that_are_none_or_get_stuck_are_corrupt(void **state)
{
    fixture *f = *state;
    WA_CLEANUP(wa_buf_done) wa_buf got = WA_BUF_INIT(1000);
    wa_list_options options = {.prefix = ""};
    loopback_reply(f->server, 200, "", "<html>hello</html>");
    assert_int_equal(wa_store_list(store_of(f), &options, join, &got, &f->err), WA_CORRUPT);
    static const char page[] =
        "<ListBucketResult><IsTruncated>true</IsTruncated>"
        "<NextContinuationToken>t</NextContinuationToken></ListBucketResult>";
    loopback_reply(f->server, 200, "", page);
    loopback_reply(f->server, 200, "", page);
    assert_int_equal(wa_store_list(f->store, &options, join, &got, &f->err), WA_CORRUPT);
    loopback_reply(f->server, 200, "",
                   "<ListBucketResult><IsTruncated>false</IsTruncated>"
                   "<Contents><Key>elsewhere</Key><Size>1</Size></Contents></ListBucketResult>");
    assert_int_equal(wa_store_list(f->store, &options, join, &got, &f->err), WA_CORRUPT);
    assert_int_equal(got.len, 0);
}

static void
deletion_goes_in_one_request_and_names_what_failed(void **state)
{
    fixture *f = *state;
    WA_CLEANUP(wa_strv_done) wa_strv keys = {0};
    wa_strv_add(&keys, "a");
    wa_strv_add(&keys, "b");
    loopback_reply(f->server, 200, "",
                   "<DeleteResult><Error><Key>pre/fix/a</Key><Code>NoSuchKey</Code></Error>"
                   "<Error><Key>pre/fix/b</Key><Code>AccessDenied</Code></Error></DeleteResult>");
    assert_int_equal(wa_store_delete(store_of(f), &keys, &f->err), WA_DENIED);
    assert_non_null(strstr(f->err.message, "\"b\""));
    assert_asked(f, 0, "POST /bucket?delete= ");
    assert_asked(f, 0, "\r\nContent-MD5: ");
    assert_asked(f, 0,
                 "<Object><Key>pre/fix/a</Key></Object><Object><Key>pre/fix/b</Key></Object>");
}

static void
deletion_goes_singly_where_there_is_no_other_way(void **state)
{
    fixture *f = *state;
    WA_CLEANUP(wa_strv_done) wa_strv keys = {0};
    wa_strv_add(&keys, "a");
    wa_strv_add(&keys, "b");
    reply_error(f, 501, "", "NotImplemented", "x");
    loopback_script(f->server, "HTTP/1.1 204 No Content\r\n\r\n", LOOPBACK_KEEP);
    reply_error(f, 404, "", "NoSuchKey", "x");
    assert_int_equal(wa_store_delete(store_of(f), &keys, &f->err), WA_OK);
    assert_asked(f, 2, "DELETE /bucket/pre/fix/b ");
}

/* ---- parts ---- */

static void
complete_lists_the_parts_in_order_and_reads_its_answer(void **state)
{
    fixture *f = *state;
    loopback_reply(f->server, 200, "",
                   "<InitiateMultipartUploadResult><UploadId>u~1/+</UploadId></"
                   "InitiateMultipartUploadResult>");
    loopback_reply(f->server, 200, "ETag: \"two\"\r\n", "");
    /* the first part's checksum is kept, and wanted again */
    loopback_reply(f->server, 200, "ETag: \"one\"\r\nx-amz-checksum-crc32c: ry6WtQ==\r\n", "");
    WA_CLEANUP(wa_upload_freep) wa_upload *upload = NULL;
    assert_int_equal(wa_upload_begin(store_of(f), "k", "{}", 5, &upload, &f->err), WA_OK);
    assert_int_equal(wa_upload_part(upload, 2, "22", 2, &f->err), WA_OK);
    assert_int_equal(wa_upload_commit(upload, &f->err), WA_INVALID); /* part 1 is missing */
    assert_int_equal(wa_upload_part(upload, 1, "11111", 5, &f->err), WA_OK);
    loopback_reply(f->server, 200, "",
                   "<Error><Code>InvalidPart</Code><Message>m</Message></Error>");
    assert_int_not_equal(wa_upload_commit(upload, &f->err), WA_OK);
    assert_non_null(strstr(f->err.message, "InvalidPart"));
    loopback_reply(f->server, 200, "",
                   "<CompleteMultipartUploadResult><ETag>x</ETag></CompleteMultipartUploadResult>");
    assert_int_equal(wa_upload_commit(upload, &f->err), WA_OK);
    assert_asked(f, 1, "PUT /bucket/pre/fix/k?partNumber=2&uploadId=u~1%2F%2B ");
    assert_asked(f, 4,
                 "<Part><PartNumber>1</PartNumber><ETag>\"one\"</ETag>"
                 "<ChecksumCRC32C>ry6WtQ==</ChecksumCRC32C></Part>"
                 "<Part><PartNumber>2</PartNumber><ETag>\"two\"</ETag></Part>");
    assert_not_asked(f, 4, "x-amz-checksum-crc32c"); /* it would be the object's */
    assert_int_equal(loopback_count(f->server), 5);
}

static void
an_upload_that_keeps_what_is_there_looks_before_it_completes(void **state)
{
    fixture *f = *state;
    loopback_reply(
        f->server, 200, "",
        "<InitiateMultipartUploadResult><UploadId>id</UploadId></InitiateMultipartUploadResult>");
    loopback_reply(f->server, 200, "ETag: \"one\"\r\n", "");
    WA_CLEANUP(wa_upload_freep) wa_upload *upload = NULL;
    assert_int_equal(wa_upload_begin(store_of(f), "k", NULL, 5, &upload, &f->err), WA_OK);
    assert_int_equal(wa_upload_part(upload, 1, "1", 1, &f->err), WA_OK);
    upload->keeps = true;
    reply_error(f, 403, "", "AccessDenied", "x"); /* the HEAD, and the GET that tells why */
    reply_error(f, 403, "", "AccessDenied", "x");
    assert_int_equal(wa_upload_commit(upload, &f->err), WA_DENIED);
    loopback_reply(f->server, 200, "", "");
    assert_int_equal(wa_upload_commit(upload, &f->err), WA_EXISTS);
    reply_error(f, 404, "", "NoSuchKey", "x"); /* the HEAD, and the GET that makes sure */
    reply_error(f, 404, "", "NoSuchKey", "x");
    loopback_reply(f->server, 200, "",
                   "<CompleteMultipartUploadResult><ETag>x</ETag></CompleteMultipartUploadResult>");
    assert_int_equal(wa_upload_commit(upload, &f->err), WA_OK);
    static const size_t looks[] = {2, 4, 5};
    for (size_t i = 0; i < WA_ARRAY_SIZE(looks); i++)
        assert_asked(f, looks[i], "HEAD /bucket/pre/fix/k ");
    assert_asked(f, 7, "POST /bucket/pre/fix/k?uploadId=id ");
}

static void
an_upload_that_is_not_committed_is_aborted(void **state)
{
    fixture *f = *state;
    loopback_reply(
        f->server, 200, "",
        "<InitiateMultipartUploadResult><UploadId>id</UploadId></InitiateMultipartUploadResult>");
    loopback_script(f->server, "HTTP/1.1 204 No Content\r\n\r\n", LOOPBACK_KEEP);
    wa_upload *upload = NULL;
    assert_int_equal(wa_upload_begin(store_of(f), "k", NULL, 5, &upload, &f->err), WA_OK);
    wa_upload_free(upload);
    assert_asked(f, 1, "DELETE /bucket/pre/fix/k?uploadId=id ");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(malformed_settings_are_invalid),
        TEST(own_endpoint_is_addressed_by_path),
        TEST(virtual_addressing_puts_the_bucket_into_the_host),
        TEST(aws_is_addressed_by_host_unless_the_bucket_has_dots),
        TEST(put_carries_checksums_conditions_and_storage_settings),
        TEST(another_checksum_than_sent_is_corrupt),
        TEST(long_facts_continue_where_no_space_is_lost),
        TEST(taken_name_at_the_first_try_is_exists),
        TEST(taken_name_after_a_lost_answer_is_compared),
        TEST(other_content_after_a_lost_answer_is_exists),
        TEST(other_facts_after_a_lost_answer_are_exists),
        TEST(without_conditional_put_it_looks_first_from_then_on),
        TEST(content_md5_is_sent_when_the_server_wants_it),
        TEST(codes_and_statuses_mean_one_thing),
        TEST(refused_head_is_explained_by_a_get),
        TEST(missing_is_said_when_the_bucket_is_known_to_be_there),
        TEST(another_region_is_signed_for_and_remembered),
        TEST(the_servers_clock_is_used_after_a_skew),
        TEST(a_cut_body_is_resumed_with_its_entity_tag),
        TEST(whole_objects_are_checked_when_the_server_has_a_checksum),
        TEST(listing_is_decoded_merged_and_continued),
        TEST(listings_that_are_none_or_get_stuck_are_corrupt),
        TEST(deletion_goes_in_one_request_and_names_what_failed),
        TEST(deletion_goes_singly_where_there_is_no_other_way),
        TEST(complete_lists_the_parts_in_order_and_reads_its_answer),
        TEST(an_upload_that_keeps_what_is_there_looks_before_it_completes),
        TEST(an_upload_that_is_not_committed_is_aborted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
