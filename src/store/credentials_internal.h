/*
 * src/store/credentials_internal.h - where the S3 driver's keys come from.
 *
 * The chain, first that is configured wins: the configuration; environment (AWS_ACCESS_KEY_ID ...;
 * passed over when the configuration names a profile); web identity (AWS_WEB_IDENTITY_TOKEN_FILE,
 * AWS_ROLE_ARN, or a profile with web_identity_token_file); shared files
 * (AWS_SHARED_CREDENTIALS_FILE, AWS_CONFIG_FILE, AWS_PROFILE); container
 * (AWS_CONTAINER_CREDENTIALS_RELATIVE_URI or _FULL_URI); instance (IMDSv2). Source: AWS SDKs and
 * Tools Reference Guide, "Standardized credential providers".
 *
 * Guarantees:
 *   (1) keys with an expiry are renewed from 5 minutes before it, by one thread while the others go
 * on with the old ones; a failed renewal is an error only when the old ones have expired. (2) a
 * source that is configured and fails ends the chain with its own error: other keys than the
 *       intended ones are never tried.
 * Threads: all calls from any thread.
 * Errors: DENIED when no source has keys; UNAVAILABLE when a source's service does not answer;
 * INVALID for a malformed file or setting; UNSUPPORTED for profiles that need SSO, a process, or
 * another role.
 */
#ifndef WALAGENT_STORE_CREDENTIALS_INTERNAL_H
#define WALAGENT_STORE_CREDENTIALS_INTERNAL_H

#include "walagent/base/cancel.h"
#include "walagent/base/error.h"
#include "walagent/base/mem.h"
#include "walagent/base/time.h"

#include <stdbool.h>

typedef struct wa_credentials {
    char *access_key, *secret_key;
    char *session_token; /* or NULL */
    wa_time expires;     /* WA_TIME_NONE: never */
} wa_credentials;
void wa_credentials_done(wa_credentials *c);

/* Strings are copied. */
typedef struct wa_credentials_options {
    const char *access_key, *secret_key, *session_token;
    const char *profile;
    const char *region;
    wa_cancel *cancel;
} wa_credentials_options;

typedef struct wa_credentials_provider wa_credentials_provider;
wa_credentials_provider *wa_credentials_provider_new(const wa_credentials_options *options);
void wa_credentials_provider_free(wa_credentials_provider *p);
WA_DEFINE_CLEANUP(wa_credentials_provider, wa_credentials_provider_free)
/* A copy of the valid ones, fetched or renewed as needed; *ret is the caller's. */
wa_status wa_credentials_get(wa_credentials_provider *p, wa_credentials *ret,
                             wa_error *err) WA_MUST_CHECK;
/* The server says that this access key has expired: the next get asks the source again. */
void wa_credentials_expire(wa_credentials_provider *p, const char *access_key);

/* The sources. NOT_FOUND: not configured, ask the next one. */
typedef wa_status (*wa_credentials_source)(const wa_credentials_options *options,
                                           wa_credentials *ret, wa_error *err);
wa_status wa_credentials_from_files(const wa_credentials_options *options, wa_credentials *ret,
                                    wa_error *err) WA_MUST_CHECK;
wa_status wa_credentials_from_web_identity(const wa_credentials_options *options,
                                           wa_credentials *ret, wa_error *err) WA_MUST_CHECK;
wa_status wa_credentials_from_container(const wa_credentials_options *options, wa_credentials *ret,
                                        wa_error *err) WA_MUST_CHECK;
wa_status wa_credentials_from_instance(const wa_credentials_options *options, wa_credentials *ret,
                                       wa_error *err) WA_MUST_CHECK;

/* A value of the active profile from the shared configuration file, else the credentials file;
 * NULL: not there. A new string. `profile` NULL: AWS_PROFILE, else "default". */
char *wa_aws_profile_value(const char *profile, const char *key);
/* "amazonaws.com", or the Chinese partition's. */
const char *wa_aws_domain(const char *region);

#endif
