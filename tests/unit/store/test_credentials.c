/*
 * test_credentials.c - where keys come from, and when they are renewed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "credentials_internal.h"
#include "loopback.h"

#include "walagent/base/file.h"
#include "walagent/base/str.h"
#include "walagent/net/http.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct fixture {
    char home[64];
    loopback *server;
    char url[64];
    wa_credentials_provider *provider;
    wa_credentials keys;
    wa_error err;
} fixture;

static void
forget_environment(void)
{
    static const char *const names[] = {"AWS_ACCESS_KEY_ID",
                                        "AWS_SECRET_ACCESS_KEY",
                                        "AWS_SESSION_TOKEN",
                                        "AWS_PROFILE",
                                        "AWS_SHARED_CREDENTIALS_FILE",
                                        "AWS_CONFIG_FILE",
                                        "AWS_WEB_IDENTITY_TOKEN_FILE",
                                        "AWS_ROLE_ARN",
                                        "AWS_ROLE_SESSION_NAME",
                                        "AWS_ENDPOINT_URL_STS",
                                        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
                                        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
                                        "AWS_CONTAINER_AUTHORIZATION_TOKEN",
                                        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
                                        "AWS_EC2_METADATA_SERVICE_ENDPOINT",
                                        "http_proxy",
                                        "HTTP_PROXY",
                                        "all_proxy",
                                        "ALL_PROXY"};
    for (size_t i = 0; i < WA_ARRAY_SIZE(names); i++)
        assert_int_equal(unsetenv(names[i]), 0);
    assert_int_equal(setenv("AWS_EC2_METADATA_DISABLED", "true", 1), 0);
}

static int
begin(void **state)
{
    fixture *f = calloc(1, sizeof *f);
    (void)snprintf(f->home, sizeof f->home, "/tmp/walagent-test-XXXXXX");
    assert_non_null(mkdtemp(f->home));
    forget_environment();
    assert_int_equal(setenv("HOME", f->home, 1), 0);
    f->server = loopback_start();
    (void)snprintf(f->url, sizeof f->url, "http://127.0.0.1:%d", loopback_port(f->server));
    *state = f;
    return 0;
}

static int
end(void **state)
{
    fixture *f = *state;
    wa_credentials_provider_free(f->provider);
    wa_credentials_done(&f->keys);
    loopback_stop(f->server);
    assert_int_equal(wa_remove_tree(f->home, &f->err), WA_OK);
    free(f);
    return 0;
}

static void
write_file(fixture *f, const char *name, const char *text)
{
    WA_CLEANUP(wa_freep) char *directory = wa_format("%s/.aws", f->home);
    WA_CLEANUP(wa_freep) char *path = wa_format("%s/%s", directory, name);
    assert_int_equal(wa_mkdir_p(directory, 0700, &f->err), WA_OK);
    assert_int_equal(wa_file_write(path, text, strlen(text), 0600, WA_WRITE_REPLACE, &f->err),
                     WA_OK);
}

static wa_status
get(fixture *f, wa_credentials_options options)
{
    if (f->provider == NULL)
        f->provider = wa_credentials_provider_new(&options);
    wa_credentials_done(&f->keys);
    return wa_credentials_get(f->provider, &f->keys, &f->err);
}

#define NOTHING ((wa_credentials_options){0})

static void
assert_keys(const fixture *f, const char *access_key, const char *secret_key, const char *token)
{
    assert_string_equal(f->keys.access_key, access_key);
    assert_string_equal(f->keys.secret_key, secret_key);
    if (token == NULL)
        assert_null(f->keys.session_token);
    else
        assert_string_equal(f->keys.session_token, token);
}

static void
set_instance(fixture *f)
{
    (void)setenv("AWS_EC2_METADATA_DISABLED", "false", 1);
    (void)setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", f->url, 1);
}

/* The three answers of IMDSv2, with an expiry from now. */
static void
answer_as_instance(fixture *f, const char *key, int64_t seconds)
{
    char expires[WA_TIME_TEXT];
    wa_time_format_rfc3339(wa_time_now() + seconds * 1000000, expires);
    WA_CLEANUP(wa_freep)
    char *json = wa_format("{\"Code\":\"Success\",\"AccessKeyId\":\"%s\",\"SecretAccessKey\":\"s\","
                           "\"Token\":\"t\",\"Expiration\":\"%s\"}",
                           key, expires);
    loopback_reply(f->server, 200, "", "TOKEN");
    loopback_reply(f->server, 200, "", "the-role\n");
    loopback_reply(f->server, 200, "", json);
}

static void
configuration_wins_over_everything(void **state)
{
    fixture *f = *state;
    (void)setenv("AWS_ACCESS_KEY_ID", "env", 1);
    (void)setenv("AWS_SECRET_ACCESS_KEY", "env", 1);
    wa_credentials_options options = {.access_key = "A", .secret_key = "S", .session_token = "T"};
    assert_int_equal(get(f, options), WA_OK);
    assert_keys(f, "A", "S", "T");
}

static void
half_a_configuration_is_invalid(void **state)
{
    fixture *f = *state;
    assert_int_equal(get(f, (wa_credentials_options){.access_key = "A"}), WA_INVALID);
    assert_non_null(strstr(f->err.message, "s3_secret_access_key"));
}

static void
environment_comes_next(void **state)
{
    fixture *f = *state;
    write_file(f, "credentials", "[default]\naws_access_key_id=F\naws_secret_access_key=F\n");
    (void)setenv("AWS_ACCESS_KEY_ID", "E", 1);
    assert_int_equal(get(f, NOTHING), WA_INVALID); /* without its secret */
    (void)setenv("AWS_SECRET_ACCESS_KEY", "ES", 1);
    assert_int_equal(get(f, NOTHING), WA_OK);
    assert_keys(f, "E", "ES", NULL);
}

static void
a_configured_profile_is_read_from_the_files(void **state)
{
    fixture *f = *state;
    (void)setenv("AWS_ACCESS_KEY_ID", "E", 1);
    (void)setenv("AWS_SECRET_ACCESS_KEY", "ES", 1);
    write_file(
        f, "credentials",
        "# keys\n[default]\naws_access_key_id = D\naws_secret_access_key = DS\n"
        "[ backup ]\r\naws_access_key_id=B\r\n"
        "s3 =\n  aws_access_key_id = nested\n"
        "aws_secret_access_key = B=S+/ \naws_session_token=BT\n[other]\naws_access_key_id=O\n");
    assert_int_equal(get(f, (wa_credentials_options){.profile = "backup"}), WA_OK);
    assert_keys(f, "B", "B=S+/", "BT");
}

static void
profiles_of_the_config_file_work_too(void **state)
{
    fixture *f = *state;
    (void)setenv("AWS_PROFILE", "p", 1);
    write_file(
        f, "config",
        "[p]\n[profile p]\nregion = eu-north-7\naws_access_key_id=C\naws_secret_access_key=CS\n");
    assert_int_equal(get(f, NOTHING), WA_OK);
    assert_keys(f, "C", "CS", NULL);
    WA_CLEANUP(wa_freep) char *region = wa_aws_profile_value(NULL, "region");
    assert_string_equal(region, "eu-north-7");
}

static void
a_profile_that_is_not_there_is_invalid(void **state)
{
    fixture *f = *state;
    set_instance(f); /* other keys than the intended ones are not tried */
    assert_int_equal(get(f, (wa_credentials_options){.profile = "nobody"}), WA_INVALID);
    assert_non_null(strstr(f->err.message, "\"nobody\""));
    assert_int_equal(loopback_count(f->server), 0);
}

static void
a_profile_that_needs_sso_is_unsupported(void **state)
{
    fixture *f = *state;
    write_file(f, "config", "[profile p]\nsso_session = s\n");
    assert_int_equal(get(f, (wa_credentials_options){.profile = "p"}), WA_UNSUPPORTED);
    assert_non_null(strstr(f->err.message, "sso_session"));
}

static void
no_source_is_denied_with_a_hint(void **state)
{
    fixture *f = *state;
    assert_int_equal(get(f, NOTHING), WA_DENIED);
    assert_non_null(strstr(f->err.hint, "s3_access_key_id"));
}

static void
use_web_identity(fixture *f)
{
    write_file(f, "token", "a/token+x\n");
    WA_CLEANUP(wa_freep) char *path = wa_format("%s/.aws/token", f->home);
    (void)setenv("AWS_WEB_IDENTITY_TOKEN_FILE", path, 1);
    (void)setenv("AWS_ROLE_ARN", "arn:aws:iam::1:role/r", 1);
    (void)setenv("AWS_ENDPOINT_URL_STS", f->url, 1);
}

static void
web_identity_assumes_the_role(void **state)
{
    fixture *f = *state;
    use_web_identity(f);
    loopback_reply(
        f->server, 200, "",
        "<AssumeRoleWithWebIdentityResponse xmlns=\"urn:x\"><AssumeRoleWithWebIdentityResult>"
        "<Credentials><AccessKeyId>W</AccessKeyId><SecretAccessKey>WS</SecretAccessKey>"
        "<SessionToken>WT</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration>"
        "</Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>");
    assert_int_equal(get(f, NOTHING), WA_OK);
    assert_keys(f, "W", "WS", "WT");
    assert_non_null(
        strstr(loopback_request(f->server, 0), "RoleArn=arn%3Aaws%3Aiam%3A%3A1%3Arole%2Fr&"));
    assert_non_null(strstr(loopback_request(f->server, 0), "WebIdentityToken=a%2Ftoken%2Bx"));
}

static void
a_refused_web_identity_ends_the_chain(void **state)
{
    fixture *f = *state;
    use_web_identity(f);
    write_file(f, "credentials", "[default]\naws_access_key_id=F\naws_secret_access_key=F\n");
    loopback_reply(f->server, 403, "",
                   "<ErrorResponse><Error><Code>AccessDenied</Code></Error></ErrorResponse>");
    assert_int_equal(get(f, NOTHING), WA_DENIED);
    assert_non_null(strstr(f->err.message, "role/r"));
    (void)setenv("AWS_WEB_IDENTITY_TOKEN_FILE", "/nonexistent/token", 1);
    assert_int_equal(get(f, NOTHING), WA_INVALID);
}

static void
container_is_asked_with_its_token(void **state)
{
    fixture *f = *state;
    WA_CLEANUP(wa_freep) char *url = wa_format("%s/keys", f->url);
    (void)setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", url, 1);
    (void)setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "Bearer x", 1);
    loopback_reply(f->server, 200, "",
                   "{\"AccessKeyId\":\"C\",\"SecretAccessKey\":\"CS\",\"Token\":\"CT\","
                   "\"Expiration\":\"2099-01-01T00:00:00Z\"}");
    assert_int_equal(get(f, NOTHING), WA_OK);
    assert_keys(f, "C", "CS", "CT");
    const char *asked = loopback_request(f->server, 0);
    assert_ptr_equal(strstr(asked, "GET /keys "), asked);
    assert_non_null(strstr(asked, "\r\nAuthorization: Bearer x\r\n"));
}

static void
container_over_plain_http_must_be_local(void **state)
{
    fixture *f = *state;
    static const char *const urls[] = {"http://example.org/keys", "http://169.254.170.200/keys",
                                       "http://localhost.example.org/", "ftp://127.0.0.1/"};
    for (size_t i = 0; i < WA_ARRAY_SIZE(urls); i++) {
        (void)setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", urls[i], 1);
        assert_int_equal(get(f, NOTHING), WA_INVALID);
    }
}

static void
instance_is_asked_by_version_two(void **state)
{
    fixture *f = *state;
    set_instance(f);
    answer_as_instance(f, "I", 3600);
    assert_int_equal(get(f, NOTHING), WA_OK);
    assert_keys(f, "I", "s", "t");
    assert_ptr_equal(strstr(loopback_request(f->server, 0), "PUT /latest/api/token "),
                     loopback_request(f->server, 0));
    assert_non_null(strstr(loopback_request(f->server, 2), "/security-credentials/the-role HTTP"));
    assert_non_null(strstr(loopback_request(f->server, 2), "x-aws-ec2-metadata-token: TOKEN\r\n"));
    assert_int_equal(get(f, NOTHING), WA_OK); /* from the cache */
    assert_int_equal(loopback_count(f->server), 3);
}

static void
keys_are_renewed_before_they_expire(void **state)
{
    fixture *f = *state;
    set_instance(f);
    answer_as_instance(f, "first", -1); /* expired when it comes: the next get asks again */
    assert_int_equal(get(f, NOTHING), WA_OK);
    answer_as_instance(f, "second", 3600);
    assert_int_equal(get(f, NOTHING), WA_OK);
    assert_keys(f, "second", "s", "t");
    wa_credentials_expire(f->provider, "another");
    assert_int_equal(get(f, NOTHING), WA_OK);
    assert_int_equal(loopback_count(f->server), 6);
    wa_credentials_expire(f->provider, "second");
    answer_as_instance(f, "third", 3600);
    assert_int_equal(get(f, NOTHING), WA_OK);
    assert_keys(f, "third", "s", "t");
}

static void
a_failed_renewal_keeps_keys_that_are_still_good(void **state)
{
    fixture *f = *state;
    wa_credentials_provider *p = f->provider = wa_credentials_provider_new(&NOTHING);
    set_instance(f);
    answer_as_instance(f, "old", 200); /* inside of the five minutes */
    assert_int_equal(wa_credentials_get(p, &f->keys, &f->err), WA_OK);
    wa_credentials_done(&f->keys);
    assert_int_equal(wa_credentials_get(p, &f->keys, &f->err), WA_OK); /* a pause between tries */
    assert_keys(f, "old", "s", "t");
    assert_int_equal(loopback_count(f->server), 3);
    wa_credentials_expire(p, "old");
    loopback_reply(f->server, 200, "", "TOKEN");
    loopback_reply(f->server, 403, "", "no");
    wa_credentials none = {0};
    assert_int_equal(wa_credentials_get(p, &none, &f->err), WA_DENIED);
    assert_non_null(strstr(f->err.message, "instance's role"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(configuration_wins_over_everything),
        TEST(half_a_configuration_is_invalid),
        TEST(environment_comes_next),
        TEST(a_configured_profile_is_read_from_the_files),
        TEST(profiles_of_the_config_file_work_too),
        TEST(a_profile_that_is_not_there_is_invalid),
        TEST(a_profile_that_needs_sso_is_unsupported),
        TEST(no_source_is_denied_with_a_hint),
        TEST(web_identity_assumes_the_role),
        TEST(a_refused_web_identity_ends_the_chain),
        TEST(container_is_asked_with_its_token),
        TEST(container_over_plain_http_must_be_local),
        TEST(instance_is_asked_by_version_two),
        TEST(keys_are_renewed_before_they_expire),
        TEST(a_failed_renewal_keeps_keys_that_are_still_good),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
