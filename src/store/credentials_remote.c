/*
 * store/credentials_remote.c - keys from services: STS web identity, container endpoint, IMDSv2.
 *
 * Container and IMDS answer JSON {"AccessKeyId", "SecretAccessKey", "Token", "Expiration"}; STS
 * answers XML AssumeRoleWithWebIdentityResponse/AssumeRoleWithWebIdentityResult/Credentials.
 */
#include "credentials_internal.h"

#include "sigv4_internal.h"

#include "walagent/base/file.h"
#include "walagent/codec/json.h"
#include "walagent/codec/xml.h"
#include "walagent/net/http.h"
#include "walagent/net/retry.h"

#include <stdlib.h>
#include <string.h>

#define SECRET_FILE_MAX (64u << 10)
#define SERVICE_BUDGET_MS 15000
#define INSTANCE_TIMEOUT_MS 2000 /* off the cloud nobody answers there */
#define INSTANCE_URL "http://169.254.169.254"
#define CONTAINER_URL "http://169.254.170.2"
#define STS_RESULT "AssumeRoleWithWebIdentityResponse/AssumeRoleWithWebIdentityResult/Credentials/"

const char *
wa_aws_domain(const char *region)
{
    return wa_str_starts(region, "cn-") ? "amazonaws.com.cn" : "amazonaws.com";
}

static const char *
environment(const char *name)
{
    const char *value = getenv(name);
    return wa_str_empty(value) ? NULL : value;
}

/* The file without white space at its end; a new string. */
static wa_status
read_secret(const char *path, char **ret, wa_error *err)
{
    WA_CLEANUP(wa_buf_done) wa_buf text = WA_BUF_INIT(SECRET_FILE_MAX);
    if (wa_file_read(path, SECRET_FILE_MAX, &text, err) != WA_OK) {
        if (err->status == WA_NOT_FOUND)
            err->status = WA_INVALID; /* the source is configured: not "ask the next one" */
        return err->status;
    }
    while (text.len > 0 && strchr(" \t\r\n", text.data[text.len - 1]) != NULL)
        text.data[--text.len] = '\0';
    *ret = wa_buf_detach(&text);
    return WA_OK;
}

/* One request with retries; a status other than 2xx is an error that quotes the service. */
static wa_status
ask(wa_http *http, wa_http_request *request, uint64_t budget_ms, wa_http_response *ret,
    wa_error *err)
{
    wa_retry retry;
    wa_retry_init(&retry, budget_ms, request->cancel);
    retry.max_attempts = 3;
    for (;;) {
        request->deadline = retry.deadline;
        wa_status status = wa_http_perform(http, request, ret, err);
        if (status == WA_OK && ret->status >= 200 && ret->status < 300)
            return WA_OK;
        retry.cut_short = status != WA_OK && wa_mono_left(retry.deadline) == 0;
        if (status == WA_OK) {
            bool busy = ret->status == 429 || ret->status >= 500;
            retry.retry_after_ms = wa_http_retry_after_ms(ret);
            WA_CLEANUP(wa_freep) char *text = wa_strndup(wa_buf_str(&ret->body), 200);
            (void)wa_error_set(err, busy ? WA_UNAVAILABLE : WA_DENIED, "\"%s\" answered %d: %s",
                               request->url, ret->status, text);
            wa_http_response_done(ret);
        }
        if (!wa_retry_again(&retry, err))
            return err->status;
    }
}

static wa_status
parse_json(const wa_http_response *response, const char *what, wa_credentials *ret, wa_error *err)
{
    WA_CLEANUP(wa_json_freep) json_t *json = NULL;
    WA_TRY(wa_json_parse(wa_buf_str(&response->body), response->body.len, what, &json, err));
    const char *access_key, *secret_key;
    WA_TRY(wa_json_get_string(json, "AccessKeyId", what, &access_key, err));
    WA_TRY(wa_json_get_string(json, "SecretAccessKey", what, &secret_key, err));
    const char *token = wa_json_string_or(json, "Token", NULL);
    const char *expiration = wa_json_string_or(json, "Expiration", NULL);
    wa_time expires = WA_TIME_NONE;
    if (expiration != NULL)
        WA_TRY(wa_time_parse(expiration, wa_time_now(), &expires, err));
    ret->access_key = wa_strdup(access_key);
    ret->secret_key = wa_strdup(secret_key);
    ret->session_token = wa_strdup(token);
    ret->expires = expires;
    return WA_OK;
}

static void
add_field(wa_buf *form, const char *name, const char *value)
{
    wa_buf_printf(form, "%s%s=", form->len > 0 ? "&" : "", name);
    wa_sigv4_encode(form, value, false);
}

static wa_status
parse_sts(const wa_http_response *response, wa_credentials *ret, wa_error *err)
{
    const char *data = wa_buf_str(&response->body);
    size_t len = response->body.len;
    WA_CLEANUP(wa_freep) char *access_key = wa_xml_find(data, len, STS_RESULT "AccessKeyId");
    WA_CLEANUP(wa_freep) char *secret_key = wa_xml_find(data, len, STS_RESULT "SecretAccessKey");
    WA_CLEANUP(wa_freep) char *token = wa_xml_find(data, len, STS_RESULT "SessionToken");
    WA_CLEANUP(wa_freep) char *expiration = wa_xml_find(data, len, STS_RESULT "Expiration");
    if (access_key == NULL || secret_key == NULL || token == NULL || expiration == NULL)
        return wa_error_set(err, WA_CORRUPT, "STS answered without credentials");
    WA_TRY(wa_time_parse(expiration, wa_time_now(), &ret->expires, err));
    ret->access_key = WA_TAKE(access_key);
    ret->secret_key = WA_TAKE(secret_key);
    ret->session_token = WA_TAKE(token);
    return WA_OK;
}

static wa_status
assume_role(const wa_credentials_options *options, const char *token, const char *role,
            wa_credentials *ret, wa_error *err)
{
    const char *session = environment("AWS_ROLE_SESSION_NAME");
    const char *given = environment("AWS_ENDPOINT_URL_STS");
    const char *region = options->region != NULL ? options->region : "us-east-1";
    WA_CLEANUP(wa_freep)
    char *url = given != NULL ? wa_strdup(given)
                              : wa_format("https://sts.%s.%s/", region, wa_aws_domain(region));
    WA_CLEANUP(wa_buf_done) wa_buf form = WA_BUF_INIT(4 * SECRET_FILE_MAX);
    add_field(&form, "Action", "AssumeRoleWithWebIdentity");
    add_field(&form, "Version", "2011-06-15");
    add_field(&form, "RoleArn", role);
    add_field(&form, "RoleSessionName", session != NULL ? session : "walagent");
    add_field(&form, "WebIdentityToken", token);
    WA_CLEANUP(wa_strv_done) wa_strv headers = {0};
    wa_strv_add(&headers, "Content-Type: application/x-www-form-urlencoded");

    WA_CLEANUP(wa_http_freep) wa_http *http = NULL;
    WA_TRY(wa_http_new(&(wa_http_options){.user_agent = "walagent"}, &http, err));
    wa_http_request request = {.method = "POST",
                               .url = url,
                               .headers = &headers,
                               .body = form.data,
                               .body_len = form.len,
                               .cancel = options->cancel};
    WA_CLEANUP(wa_http_response_done) wa_http_response response = {0};
    WA_TRY(ask(http, &request, SERVICE_BUDGET_MS, &response, err));
    return parse_sts(&response, ret, err);
}

wa_status
wa_credentials_from_web_identity(const wa_credentials_options *options, wa_credentials *ret,
                                 wa_error *err)
{
    const char *path = environment("AWS_WEB_IDENTITY_TOKEN_FILE");
    const char *role = environment("AWS_ROLE_ARN");
    WA_CLEANUP(wa_freep) char *profile_path = NULL;
    WA_CLEANUP(wa_freep) char *profile_role = NULL;
    if (path == NULL || options->profile != NULL) {
        profile_path = wa_aws_profile_value(options->profile, "web_identity_token_file");
        profile_role = wa_aws_profile_value(options->profile, "role_arn");
        path = profile_path;
        role = profile_role;
    }
    if (path == NULL)
        return wa_error_set(err, WA_NOT_FOUND, "no web identity");
    if (role == NULL)
        return wa_error_set(err, WA_INVALID,
                            "a web identity token file is set without a role (AWS_ROLE_ARN)");
    WA_CLEANUP(wa_freep) char *token = NULL;
    WA_TRY(read_secret(path, &token, err));
    if (assume_role(options, token, role, ret, err) != WA_OK)
        return wa_error_wrap(err, "could not assume role \"%s\" with the web identity", role);
    return WA_OK;
}

/* Plain HTTP carries keys to this machine's own services only. */
static wa_status
check_container_url(const char *url, wa_error *err)
{
    static const char *const allowed[] = {
        "https://",
        "http://127.",
        "http://localhost",
        "http://[::1]",
        "http://169.254.170.2",
        "http://169.254.170.23",
        "http://[fd00:ec2::23]",
    };
    for (size_t i = 0; i < WA_ARRAY_SIZE(allowed); i++) {
        size_t len = strlen(allowed[i]);
        if (!wa_str_starts(url, allowed[i]))
            continue;
        if (i == 0 || allowed[i][len - 1] == '.' || url[len] == '/' || url[len] == ':' ||
            url[len] == '\0')
            return WA_OK;
    }
    return wa_error_set(err, WA_INVALID,
                        "AWS_CONTAINER_CREDENTIALS_FULL_URI \"%s\" is neither https nor local",
                        url);
}

static wa_status
container_token(char **ret, wa_error *err)
{
    const char *path = environment("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE");
    if (path != NULL)
        return read_secret(path, ret, err);
    *ret = wa_strdup(environment("AWS_CONTAINER_AUTHORIZATION_TOKEN"));
    return WA_OK;
}

wa_status
wa_credentials_from_container(const wa_credentials_options *options, wa_credentials *ret,
                              wa_error *err)
{
    const char *relative = environment("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
    const char *full = environment("AWS_CONTAINER_CREDENTIALS_FULL_URI");
    if (relative == NULL && full == NULL)
        return wa_error_set(err, WA_NOT_FOUND, "no container credentials");
    WA_CLEANUP(wa_freep)
    char *url = relative != NULL ? wa_format("%s%s", CONTAINER_URL, relative) : wa_strdup(full);
    WA_TRY(check_container_url(url, err));
    WA_CLEANUP(wa_freep) char *token = NULL;
    WA_TRY(container_token(&token, err));
    WA_CLEANUP(wa_strv_done) wa_strv headers = {0};
    if (token != NULL)
        wa_strv_take(&headers, wa_format("Authorization: %s", token));

    WA_CLEANUP(wa_http_freep) wa_http *http = NULL;
    wa_http_options how = {.user_agent = "walagent", .no_proxy = true};
    WA_TRY(wa_http_new(&how, &http, err));
    wa_http_request request = {
        .method = "GET", .url = url, .headers = &headers, .cancel = options->cancel};
    WA_CLEANUP(wa_http_response_done) wa_http_response response = {0};
    WA_TRY(ask(http, &request, SERVICE_BUDGET_MS, &response, err));
    return parse_json(&response, "container credentials", ret, err);
}

/* One IMDS exchange: the trimmed text of the answer. */
static wa_status
ask_instance(wa_http *http, const wa_credentials_options *options, const char *method,
             const char *path, const char *header, wa_http_response *ret, wa_error *err)
{
    const char *base = environment("AWS_EC2_METADATA_SERVICE_ENDPOINT");
    WA_CLEANUP(wa_freep) char *url = wa_format("%s%s", base != NULL ? base : INSTANCE_URL, path);
    WA_CLEANUP(wa_strv_done) wa_strv headers = {0};
    wa_strv_add(&headers, header);
    wa_http_request request = {
        .method = method, .url = url, .headers = &headers, .cancel = options->cancel};
    WA_TRY(ask(http, &request, INSTANCE_TIMEOUT_MS, ret, err));
    char *line_end = ret->body.data != NULL ? strpbrk(ret->body.data, "\r\n") : NULL;
    if (line_end != NULL && ret->body.data[0] != '{') {
        *line_end = '\0';
        ret->body.len = (size_t)(line_end - ret->body.data);
    }
    return WA_OK;
}

wa_status
wa_credentials_from_instance(const wa_credentials_options *options, wa_credentials *ret,
                             wa_error *err)
{
    const char *disabled = environment("AWS_EC2_METADATA_DISABLED");
    if (disabled != NULL && strcasecmp(disabled, "true") == 0)
        return wa_error_set(err, WA_NOT_FOUND, "instance metadata is turned off");
    static const char roles[] = "/latest/meta-data/iam/security-credentials/";
    wa_http_options how = {.user_agent = "walagent", .no_proxy = true};
    WA_CLEANUP(wa_http_freep) wa_http *http = NULL;
    WA_TRY(wa_http_new(&how, &http, err));
    WA_CLEANUP(wa_http_response_done) wa_http_response token = {0};
    if (ask_instance(http, options, "PUT", "/latest/api/token",
                     "x-aws-ec2-metadata-token-ttl-seconds: 21600", &token, err) != WA_OK)
        return err->status == WA_CANCELLED
                   ? WA_CANCELLED
                   : wa_error_set(err, WA_NOT_FOUND, "not on an instance with metadata");
    WA_CLEANUP(wa_freep)
    char *header = wa_format("x-aws-ec2-metadata-token: %s", wa_buf_str(&token.body));
    WA_CLEANUP(wa_http_response_done) wa_http_response role = {0};
    if (ask_instance(http, options, "GET", roles, header, &role, err) != WA_OK)
        return wa_error_wrap(err, "could not read the instance's role");
    WA_CLEANUP(wa_freep) char *path = wa_format("%s%s", roles, wa_buf_str(&role.body));
    WA_CLEANUP(wa_http_response_done) wa_http_response keys = {0};
    if (ask_instance(http, options, "GET", path, header, &keys, err) != WA_OK)
        return wa_error_wrap(err, "could not read the instance's credentials");
    return parse_json(&keys, "instance credentials", ret, err);
}
