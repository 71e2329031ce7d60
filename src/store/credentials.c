/*
 * store/credentials.c - the chain of sources, the cache, and renewal before expiry.
 */
#include "credentials_internal.h"

#include "walagent/base/str.h"
#include "walagent/base/thread.h"

#include <stdlib.h>
#include <string.h>

#define RENEW_BEFORE_US (5 * 60 * INT64_C(1000000))
#define RENEW_PAUSE_MS 30000 /* between renewals that fail while the keys are still good */

struct wa_credentials_provider {
    wa_credentials_options options; /* strings owned */
    wa_mutex mutex;
    wa_cond changed;
    wa_credentials cached; /* access_key NULL: none */
    bool fetching;         /* a thread asks the source */
    wa_mono not_before;    /* no early renewal before this */
};

void
wa_credentials_done(wa_credentials *c)
{
    wa_freep(&c->access_key);
    wa_freep(&c->secret_key);
    wa_freep(&c->session_token);
    memset(c, 0, sizeof *c);
}

static char *
copy_unless_empty(const char *s)
{
    return wa_str_empty(s) ? NULL : wa_strdup(s);
}

static void
copy(const wa_credentials *from, wa_credentials *to)
{
    to->access_key = wa_strdup(from->access_key);
    to->secret_key = wa_strdup(from->secret_key);
    to->session_token = wa_strdup(from->session_token);
    to->expires = from->expires;
}

wa_credentials_provider *
wa_credentials_provider_new(const wa_credentials_options *options)
{
    wa_credentials_provider *p = wa_calloc(1, sizeof *p);
    p->options.access_key = copy_unless_empty(options->access_key);
    p->options.secret_key = copy_unless_empty(options->secret_key);
    p->options.session_token = copy_unless_empty(options->session_token);
    p->options.profile = copy_unless_empty(options->profile);
    p->options.region = copy_unless_empty(options->region);
    p->options.cancel = options->cancel;
    wa_mutex_init(&p->mutex);
    wa_cond_init(&p->changed);
    return p;
}

void
wa_credentials_provider_free(wa_credentials_provider *p)
{
    if (p == NULL)
        return;
    wa_freep(&p->options.access_key);
    wa_freep(&p->options.secret_key);
    wa_freep(&p->options.session_token);
    wa_freep(&p->options.profile);
    wa_freep(&p->options.region);
    wa_credentials_done(&p->cached);
    wa_cond_done(&p->changed);
    wa_mutex_done(&p->mutex);
    wa_freep(&p);
}

static wa_status
from_configuration(const wa_credentials_options *options, wa_credentials *ret, wa_error *err)
{
    if (options->access_key == NULL && options->secret_key == NULL)
        return wa_error_set(err, WA_NOT_FOUND, "not in the configuration");
    if (options->access_key == NULL || options->secret_key == NULL) {
        (void)wa_error_set(err, WA_INVALID, "%s is set without %s",
                           options->access_key ? "s3_access_key_id" : "s3_secret_access_key",
                           options->access_key ? "s3_secret_access_key" : "s3_access_key_id");
        return wa_error_hint(err, "Set both, or neither to use the standard AWS chain.");
    }
    ret->access_key = wa_strdup(options->access_key);
    ret->secret_key = wa_strdup(options->secret_key);
    ret->session_token = wa_strdup(options->session_token);
    ret->expires = WA_TIME_NONE;
    return WA_OK;
}

static wa_status
from_environment(const wa_credentials_options *options, wa_credentials *ret, wa_error *err)
{
    const char *access_key = getenv("AWS_ACCESS_KEY_ID");
    const char *secret_key = getenv("AWS_SECRET_ACCESS_KEY");
    if (options->profile != NULL || wa_str_empty(access_key))
        return wa_error_set(err, WA_NOT_FOUND, "not in the environment");
    if (wa_str_empty(secret_key))
        return wa_error_set(err, WA_INVALID,
                            "AWS_ACCESS_KEY_ID is set without AWS_SECRET_ACCESS_KEY");
    ret->access_key = wa_strdup(access_key);
    ret->secret_key = wa_strdup(secret_key);
    ret->session_token = copy_unless_empty(getenv("AWS_SESSION_TOKEN"));
    ret->expires = WA_TIME_NONE;
    return WA_OK;
}

static wa_status
ask_sources(const wa_credentials_options *options, wa_credentials *ret, wa_error *err)
{
    static const wa_credentials_source chain[] = {
        from_configuration,
        from_environment,
        wa_credentials_from_web_identity,
        wa_credentials_from_files,
        wa_credentials_from_container,
        wa_credentials_from_instance,
    };
    for (size_t i = 0; i < WA_ARRAY_SIZE(chain); i++) {
        wa_status status = chain[i](options, ret, err);
        if (status != WA_NOT_FOUND)
            return status;
    }
    (void)wa_error_set(err, WA_DENIED, "no S3 credentials found");
    return wa_error_hint(
        err, "Set s3_access_key_id and s3_secret_access_key_file, or give the service user "
             "AWS credentials (environment, ~/.aws/credentials, web identity, container, "
             "or instance role).");
}

static bool
usable(const wa_credentials_provider *p, int64_t margin_us)
{
    const wa_credentials *c = &p->cached;
    return c->access_key != NULL &&
           (c->expires == WA_TIME_NONE || wa_time_now() + margin_us < c->expires);
}

wa_status
wa_credentials_get(wa_credentials_provider *p, wa_credentials *ret, wa_error *err)
{
    (void)wa_lock(&p->mutex);
    while (!usable(p, 0) && p->fetching) {
        (void)wa_cond_wait_until(&p->changed, &p->mutex, wa_mono_now() + 200);
        if (wa_cancelled(p->options.cancel)) {
            wa_unlock(&p->mutex);
            return wa_cancel_check(p->options.cancel, err);
        }
    }
    bool early = usable(p, 0);
    if (usable(p, RENEW_BEFORE_US) || (early && (p->fetching || wa_mono_now() < p->not_before))) {
        copy(&p->cached, ret);
        wa_unlock(&p->mutex);
        return WA_OK;
    }
    p->fetching = true;
    wa_unlock(&p->mutex);

    wa_credentials fresh = {0};
    wa_status status = ask_sources(&p->options, &fresh, err);

    (void)wa_lock(&p->mutex);
    p->fetching = false;
    p->not_before = wa_mono_now() + RENEW_PAUSE_MS;
    if (status == WA_OK) {
        wa_credentials_done(&p->cached);
        p->cached = fresh;
    } else {
        wa_credentials_done(&fresh);
    }
    if (status == WA_OK || usable(p, 0)) {
        copy(&p->cached, ret);
        wa_error_clear(err);
        status = WA_OK;
    }
    wa_cond_broadcast(&p->changed);
    wa_unlock(&p->mutex);
    return status == WA_OK ? WA_OK : wa_error_wrap(err, "could not get S3 credentials");
}

void
wa_credentials_expire(wa_credentials_provider *p, const char *access_key)
{
    WA_LOCK(&p->mutex);
    if (wa_str_eq(p->cached.access_key, access_key))
        wa_credentials_done(&p->cached);
}
