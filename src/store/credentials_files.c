/*
 * store/credentials_files.c - AWS's shared files: ~/.aws/credentials and ~/.aws/config.
 *
 * INI: "[name]" (credentials) or "[profile name]", "[default]" (config); "key = value"; an indented
 * line belongs to a nested setting and is passed over; '#' and ';' begin comments.
 */
#include "credentials_internal.h"

#include "walagent/base/file.h"
#include "walagent/base/str.h"

#include <stdlib.h>
#include <string.h>

#define FILE_MAX (1u << 20)
#define BLANKS " \t\r"

static const char *
active_profile(const char *profile)
{
    if (!wa_str_empty(profile))
        return profile;
    const char *named = getenv("AWS_PROFILE");
    return wa_str_empty(named) ? "default" : named;
}

/* A new string; NULL when there is no home directory either. */
static char *
shared_path(const char *variable, const char *name)
{
    const char *given = getenv(variable);
    if (!wa_str_empty(given))
        return wa_strdup(given);
    const char *home = getenv("HOME");
    return wa_str_empty(home) ? NULL : wa_format("%s/.aws/%s", home, name);
}

/* Cuts blanks from both ends, in place. */
static char *
trimmed(char *text)
{
    text += strspn(text, BLANKS);
    size_t len = strlen(text);
    while (len > 0 && strchr(BLANKS, text[len - 1]) != NULL)
        text[--len] = '\0';
    return text;
}

static bool
is_section(char *line, const char *profile)
{
    char *end = strchr(line, ']');
    if (end == NULL)
        return false;
    *end = '\0';
    char *name = trimmed(line + 1);
    if (wa_str_starts(name, "profile ") || wa_str_starts(name, "profile\t"))
        name = trimmed(name + strlen("profile"));
    return wa_str_eq(name, profile);
}

/* A new string, or NULL. ret_seen (may be NULL): the section is there. */
static char *
find_value(char *text, const char *profile, const char *key, bool *ret_seen)
{
    bool inside = false;
    char *rest = text;
    for (char *line; (line = strsep(&rest, "\n")) != NULL;) {
        if (line[0] == '[') {
            inside = is_section(line, profile);
            if (inside && ret_seen != NULL)
                *ret_seen = true;
            continue;
        }
        char *equals = strchr(line, '=');
        bool nested = line[0] == ' ' || line[0] == '\t';
        if (!inside || nested || line[0] == '#' || line[0] == ';' || equals == NULL)
            continue;
        *equals = '\0';
        if (wa_str_eq(trimmed(line), key))
            return wa_strdup(trimmed(equals + 1));
    }
    return NULL;
}

static char *
value_in(const char *variable, const char *name, const char *profile, const char *key,
         bool *ret_seen)
{
    WA_CLEANUP(wa_freep) char *path = shared_path(variable, name);
    WA_CLEANUP(wa_buf_done) wa_buf text = WA_BUF_INIT(FILE_MAX);
    wa_error ignored = WA_ERROR_INIT; /* unreadable counts as absent: the chain goes on */
    if (path == NULL || wa_file_read(path, FILE_MAX, &text, &ignored) != WA_OK || text.len == 0)
        return NULL;
    return find_value(text.data, profile, key, ret_seen);
}

static char *
config_value(const char *profile, const char *key, bool *ret_seen)
{
    return value_in("AWS_CONFIG_FILE", "config", profile, key, ret_seen);
}

static char *
credentials_value(const char *profile, const char *key, bool *ret_seen)
{
    return value_in("AWS_SHARED_CREDENTIALS_FILE", "credentials", profile, key, ret_seen);
}

char *
wa_aws_profile_value(const char *profile, const char *key)
{
    profile = active_profile(profile);
    char *value = config_value(profile, key, NULL);
    return value != NULL ? value : credentials_value(profile, key, NULL);
}

/* A profile that names a way to get keys which walagent doesn't go. */
static wa_status
reject_other_ways(const char *profile, wa_error *err)
{
    static const char *const ways[] = {"credential_process", "sso_session", "sso_start_url",
                                       "role_arn"};
    for (size_t i = 0; i < WA_ARRAY_SIZE(ways); i++) {
        WA_CLEANUP(wa_freep) char *value = wa_aws_profile_value(profile, ways[i]);
        if (value == NULL)
            continue;
        (void)wa_error_set(err, WA_UNSUPPORTED,
                           "AWS profile \"%s\" gets its credentials by %s, which is "
                           "not supported",
                           profile, ways[i]);
        return wa_error_hint(
            err, "Use a profile with aws_access_key_id, or a web identity, container or "
                 "instance role.");
    }
    return WA_OK;
}

wa_status
wa_credentials_from_files(const wa_credentials_options *options, wa_credentials *ret, wa_error *err)
{
    const char *profile = active_profile(options->profile);
    bool asked_for = !wa_str_empty(options->profile) || !wa_str_empty(getenv("AWS_PROFILE"));
    bool seen = false;
    char *(*const files[])(const char *, const char *, bool *) = {credentials_value, config_value};
    for (size_t i = 0; i < WA_ARRAY_SIZE(files); i++) {
        WA_CLEANUP(wa_freep) char *access_key = files[i](profile, "aws_access_key_id", &seen);
        WA_CLEANUP(wa_freep) char *secret_key = files[i](profile, "aws_secret_access_key", NULL);
        if (wa_str_empty(access_key))
            continue;
        if (wa_str_empty(secret_key))
            return wa_error_set(
                err, WA_INVALID,
                "AWS profile \"%s\" has aws_access_key_id without aws_secret_access_key", profile);
        ret->session_token = files[i](profile, "aws_session_token", NULL);
        ret->access_key = WA_TAKE(access_key);
        ret->secret_key = WA_TAKE(secret_key);
        ret->expires = WA_TIME_NONE;
        return WA_OK;
    }
    if (seen)
        WA_TRY(reject_other_ways(profile, err));
    if (!asked_for)
        return wa_error_set(err, WA_NOT_FOUND, "not in the shared files");
    (void)wa_error_set(err, WA_INVALID, "AWS profile \"%s\" %s", profile,
                       seen ? "has no credentials" : "was not found");
    return wa_error_hint(
        err, "Look into ~/.aws/credentials and ~/.aws/config of the user that runs walagent.");
}
