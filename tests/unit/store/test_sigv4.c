/*
 * test_sigv4.c - signatures against the examples that AWS publishes for S3
 * ("Authenticating Requests: Using the Authorization Header", 24 May 2013, bucket examplebucket).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "sigv4_internal.h"

#include "walagent/codec/hash.h"

#include <string.h>

#define EMPTY_HASH "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

static wa_sigv4_request
example(const char *method, const char *path, const char *query)
{
    wa_error err = WA_ERROR_INIT;
    wa_sigv4_request r = {.method = method,
                          .host = "examplebucket.s3.amazonaws.com",
                          .path = path,
                          .query = query,
                          .payload_hash = EMPTY_HASH,
                          .access_key = "AKIAIOSFODNN7EXAMPLE",
                          .secret_key = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
                          .region = "us-east-1",
                          .service = "s3"};
    assert_int_equal(wa_time_parse("2013-05-24T00:00:00Z", 0, &r.now, &err), WA_OK);
    return r;
}

static void
assert_signed(const wa_sigv4_request *request, wa_strv *headers, const char *names,
              const char *signature)
{
    wa_sigv4_sign(request, headers);
    WA_CLEANUP(wa_freep)
    char *expected = wa_format("Authorization: AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/"
                               "20130524/us-east-1/s3/aws4_request, SignedHeaders=%s, Signature=%s",
                               names, signature);
    assert_string_equal(headers->items[headers->count - 1], expected);
    wa_strv_done(headers);
}

static void
get_object_with_range_is_signed_as_published(void **state)
{
    (void)state;
    wa_sigv4_request r = example("GET", "/test.txt", "");
    wa_strv headers = {0};
    wa_strv_add(&headers, "Range: bytes=0-9");
    assert_signed(&r, &headers, "host;range;x-amz-content-sha256;x-amz-date",
                  "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41");
}

static void
put_object_is_signed_as_published(void **state)
{
    (void)state;
    WA_CLEANUP(wa_buf_done) wa_buf path = WA_BUF_INIT(100);
    wa_sigv4_encode(&path, "/test$file.text", true);
    wa_sigv4_request r = example("PUT", wa_buf_str(&path), "");
    char hash[WA_SHA256_HEX];
    r.payload_hash = wa_sha256_hex("Welcome to Amazon S3.", 21, hash);
    wa_strv headers = {0};
    wa_strv_add(&headers, "Date: Fri, 24 May 2013 00:00:00 GMT");
    wa_strv_add(&headers, "x-amz-storage-class: REDUCED_REDUNDANCY");
    assert_signed(&r, &headers, "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
                  "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd");
}

static void
get_bucket_lifecycle_is_signed_as_published(void **state)
{
    (void)state;
    wa_strv parameters = {0};
    wa_strv_add(&parameters, "lifecycle");
    WA_CLEANUP(wa_freep) char *query = wa_sigv4_query(&parameters);
    wa_strv_done(&parameters);
    wa_sigv4_request r = example("GET", "/", query);
    wa_strv headers = {0};
    assert_signed(&r, &headers, "host;x-amz-content-sha256;x-amz-date",
                  "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543");
}

static void
list_objects_is_signed_as_published(void **state)
{
    (void)state;
    wa_strv parameters = {0};
    wa_strv_add(&parameters, "prefix=J");
    wa_strv_add(&parameters, "max-keys=2");
    WA_CLEANUP(wa_freep) char *query = wa_sigv4_query(&parameters);
    wa_strv_done(&parameters);
    wa_sigv4_request r = example("GET", "/", query);
    wa_strv headers = {0};
    assert_signed(&r, &headers, "host;x-amz-content-sha256;x-amz-date",
                  "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7");
}

static void
query_is_sorted_by_name_before_value(void **state)
{
    (void)state;
    wa_strv parameters = {0};
    wa_strv_add(&parameters, "a-b=1");
    wa_strv_add(&parameters, "a=2 +/=");
    wa_strv_add(&parameters, "a=1");
    WA_CLEANUP(wa_freep) char *query = wa_sigv4_query(&parameters);
    wa_strv_done(&parameters);
    assert_string_equal(query, "a=1&a=2%20%2B%2F%3D&a-b=1");
}

static void
session_token_is_signed(void **state)
{
    (void)state;
    wa_sigv4_request r = example("GET", "/", "");
    r.session_token = "TOKEN";
    wa_strv headers = {0};
    wa_sigv4_sign(&r, &headers);
    assert_true(wa_strv_contains(&headers, "x-amz-security-token: TOKEN"));
    assert_non_null(strstr(headers.items[headers.count - 1], "x-amz-date;x-amz-security-token,"));
    wa_strv_done(&headers);
}

static void
headers_are_sorted_by_name_not_by_line(void **state)
{
    (void)state;
    wa_sigv4_request r = example("PUT", "/k", "");
    wa_strv headers = {0};
    wa_strv_add(&headers, "x-amz-meta-wa-2: b");
    wa_strv_add(&headers, "x-amz-meta-wa: a");
    wa_sigv4_sign(&r, &headers);
    assert_non_null(strstr(headers.items[headers.count - 1], "x-amz-meta-wa;x-amz-meta-wa-2,"));
    wa_strv_done(&headers);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(get_object_with_range_is_signed_as_published),
        cmocka_unit_test(put_object_is_signed_as_published),
        cmocka_unit_test(get_bucket_lifecycle_is_signed_as_published),
        cmocka_unit_test(list_objects_is_signed_as_published),
        cmocka_unit_test(query_is_sorted_by_name_before_value),
        cmocka_unit_test(session_token_is_signed),
        cmocka_unit_test(headers_are_sorted_by_name_not_by_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
