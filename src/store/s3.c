/*
 * store/s3.c - the S3 driver: opening, addressing, the pool of connections.
 */
#include "s3_internal.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#define BUDGET_MS 60000
#define PART_SIZE (16u << 20)
#define PARALLEL 8

static void
s3_free(wa_store *store)
{
    wa_s3 *s3 = (wa_s3 *)store;
    if (s3 == NULL)
        return;
    WA_ASSERT(s3->idle_count == s3->open_count); /* no call is running */
    for (size_t i = 0; i < s3->idle_count; i++)
        wa_http_free(s3->idle[i]);
    wa_credentials_provider_free(s3->credentials);
    char **strings[] = {&s3->url,        &s3->bucket,  &s3->prefix,        &s3->scheme,
                        &s3->host,       &s3->path,    &s3->storage_class, &s3->sse,
                        &s3->kms_key_id, &s3->ca_file, &s3->region};
    for (size_t i = 0; i < WA_ARRAY_SIZE(strings); i++)
        wa_freep(strings[i]);
    wa_cond_done(&s3->returned);
    wa_mutex_done(&s3->mutex);
    wa_freep(&s3);
}

static void
s3_freep(wa_s3 **s3)
{
    s3_free((wa_store *)*s3);
}

static const wa_store_ops s3_ops = {
    .free = s3_free,
    .put = wa_s3_put,
    .get = wa_s3_get,
    .head = wa_s3_head,
    .remove = wa_s3_remove,
    .list = wa_s3_list,
    .upload_begin = wa_s3_upload_begin,
    .upload_part = wa_s3_upload_part,
    .upload_commit = wa_s3_upload_commit,
    .upload_free = wa_s3_upload_free,
    .abort_uploads = wa_s3_abort_uploads,
};

static char *
copy_unless_empty(const char *s)
{
    return wa_str_empty(s) ? NULL : wa_strdup(s);
}

/* s3://bucket[/prefix] */
static wa_status
parse_url(wa_s3 *s3, const char *url, wa_error *err)
{
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_";
    if (!wa_str_starts(url, "s3://"))
        return wa_error_set(err, WA_INVALID, "\"%s\" is not an s3:// URL", url);
    const char *bucket = url + strlen("s3://");
    size_t len = strcspn(bucket, "/");
    if (len == 0 || len > 255 || strspn(bucket, allowed) != len) {
        (void)wa_error_set(err, WA_INVALID, "\"%s\" does not name a bucket", url);
        return wa_error_hint(err, "The form is s3://bucket/prefix.");
    }
    s3->bucket = wa_strndup(bucket, len);
    const char *prefix = bucket + len;
    prefix += strspn(prefix, "/");
    size_t prefix_len = strlen(prefix);
    while (prefix_len > 0 && prefix[prefix_len - 1] == '/')
        prefix_len--;
    if (prefix_len > 100)
        return wa_error_set(err, WA_INVALID, "the prefix in \"%s\" is longer than 100 bytes", url);
    for (size_t i = 0; i < prefix_len; i++)
        if (prefix[i] <= ' ' || prefix[i] > '~')
            return wa_error_set(err, WA_INVALID, "the prefix in \"%s\" is not plain ASCII", url);
    s3->prefix = prefix_len == 0 ? wa_strdup("") : wa_format("%.*s/", (int)prefix_len, prefix);
    s3->url = prefix_len == 0 ? wa_format("s3://%s", s3->bucket)
                              : wa_format("s3://%s/%.*s", s3->bucket, (int)prefix_len, prefix);
    return WA_OK;
}

static wa_status
parse_endpoint(wa_s3 *s3, const char *endpoint, wa_error *err)
{
    if (wa_str_empty(endpoint)) {
        s3->scheme = wa_strdup("https");
        s3->path = wa_strdup("");
        return WA_OK;
    }
    const char *separator = strstr(endpoint, "://");
    s3->scheme = separator != NULL ? wa_strndup(endpoint, (size_t)(separator - endpoint))
                                   : wa_strdup("https");
    bool plain = wa_str_eq(s3->scheme, "http");
    const char *host = separator != NULL ? separator + 3 : endpoint;
    size_t len = strcspn(host, "/?#");
    if ((!plain && !wa_str_eq(s3->scheme, "https")) || len == 0 || memchr(host, '@', len) != NULL ||
        strpbrk(host, "?# ") != NULL) {
        (void)wa_error_set(err, WA_INVALID, "s3_endpoint \"%s\" is not a URL of a server",
                           endpoint);
        return wa_error_hint(err, "The form is https://host or https://host:port.");
    }
    size_t path_len = strlen(host + len);
    while (path_len > 0 && host[len + path_len - 1] == '/')
        path_len--;
    s3->path = wa_strndup(host + len, path_len);
    s3->host = wa_strndup(host, len);
    for (char *c = s3->host; *c != '\0'; c++)
        *c = (char)tolower((unsigned char)*c);
    const char *default_port = plain ? ":80" : ":443";
    if (wa_str_ends(s3->host, default_port)) /* libcurl leaves it out of the Host header */
        s3->host[strlen(s3->host) - strlen(default_port)] = '\0';
    return WA_OK;
}

static wa_status
choose_addressing(wa_s3 *s3, const char *addressing, wa_error *err)
{
    if (wa_str_empty(addressing) || wa_str_eq(addressing, "auto"))
        s3->virtual_host = s3->host == NULL && strchr(s3->bucket, '.') == NULL;
    else if (wa_str_eq(addressing, "virtual"))
        s3->virtual_host = true;
    else if (!wa_str_eq(addressing, "path"))
        return wa_error_set(err, WA_INVALID, "s3_addressing \"%s\" is not auto, path or virtual",
                            addressing);
    return WA_OK;
}

static char *
choose_region(const wa_store_options *options)
{
    const char *variables[] = {"AWS_REGION", "AWS_DEFAULT_REGION"};
    if (!wa_str_empty(options->s3_region))
        return wa_strdup(options->s3_region);
    for (size_t i = 0; i < WA_ARRAY_SIZE(variables); i++)
        if (!wa_str_empty(getenv(variables[i])))
            return wa_strdup(getenv(variables[i]));
    char *region = wa_aws_profile_value(options->s3_profile, "region");
    return region != NULL ? region : wa_strdup("us-east-1");
}

static void
set_traits(wa_s3 *s3)
{
    s3->base.ops = &s3_ops;
    s3->base.traits = (wa_store_traits){.scheme = "s3",
                                        .url = s3->url,
                                        .conditional_put = true,
                                        .multipart = true,
                                        .part_size = PART_SIZE,
                                        .parallel = PARALLEL};
}

wa_status
wa_store_s3_open(const wa_store_options *options, wa_store **ret, wa_error *err)
{
    WA_TRY(wa_http_global_init(err));
    WA_TRY(wa_crypto_load(err));
    WA_CLEANUP(s3_freep) wa_s3 *s3 = wa_calloc(1, sizeof *s3);
    wa_mutex_init(&s3->mutex);
    wa_cond_init(&s3->returned);
    WA_TRY(parse_url(s3, options->url, err));
    WA_TRY(parse_endpoint(s3, options->s3_endpoint, err));
    WA_TRY(choose_addressing(s3, options->s3_addressing, err));
    s3->region = choose_region(options);
    s3->storage_class = copy_unless_empty(options->s3_storage_class);
    s3->sse = copy_unless_empty(options->s3_sse);
    s3->kms_key_id = copy_unless_empty(options->s3_sse_kms_key_id);
    s3->ca_file = copy_unless_empty(options->s3_ca_file);
    s3->insecure = options->s3_insecure;
    s3->budget_ms = options->budget_ms > 0 ? options->budget_ms : BUDGET_MS;
    s3->cancel = options->cancel;
    s3->credentials = wa_credentials_provider_new(
        &(wa_credentials_options){.access_key = options->s3_access_key_id,
                                  .secret_key = options->s3_secret_access_key,
                                  .session_token = options->s3_session_token,
                                  .profile = options->s3_profile,
                                  .region = s3->region,
                                  .cancel = options->cancel});
    set_traits(s3);
    *ret = &WA_TAKE(s3)->base;
    return WA_OK;
}
