/*
 * src/repo/members.c - times, LSNs and branches as members of our own JSON.
 */
#include "repo_internal.h"

#include <string.h>

wa_status
wa_repo_json_time(const json_t *obj, const char *key, const char *what, wa_time *ret, wa_error *err)
{
    if (json_is_null(json_object_get(obj, key))) {
        *ret = WA_TIME_NONE;
        return WA_OK;
    }
    const char *text = NULL;
    WA_TRY(wa_json_get_string(obj, key, what, &text, err));
    wa_time t = WA_TIME_NONE;
    if (wa_time_parse(text, 0, &t, err) != WA_OK)
        return wa_error_set(err, WA_CORRUPT, "\"%s\" of %s is no time: \"%s\"", key, what, text);
    *ret = t;
    return WA_OK;
}

void
wa_repo_json_set_time(json_t *obj, const char *key, wa_time t)
{
    char text[WA_TIME_TEXT];
    wa_json_set_string(obj, key, t == WA_TIME_NONE ? NULL : wa_time_format_rfc3339(t, text));
}

wa_status
wa_repo_json_lsn(const json_t *obj, const char *key, const char *what, wa_lsn *ret, wa_error *err)
{
    const char *text = NULL;
    WA_TRY(wa_json_get_string(obj, key, what, &text, err));
    wa_lsn lsn = 0;
    if (wa_lsn_parse(text, &lsn, err) != WA_OK)
        return wa_error_set(err, WA_CORRUPT, "\"%s\" of %s is no LSN: \"%s\"", key, what, text);
    *ret = lsn;
    return WA_OK;
}

void
wa_repo_json_set_lsn(json_t *obj, const char *key, wa_lsn lsn)
{
    char text[WA_LSN_TEXT];
    wa_json_set_string(obj, key, wa_lsn_format(lsn, text));
}

wa_status
wa_repo_json_branch(const json_t *obj, const char *key, const char *what, wa_branch *ret,
                    wa_error *err)
{
    const char *text = NULL;
    WA_TRY(wa_json_get_string(obj, key, what, &text, err));
    if (!wa_branch_parse(text, ret))
        return wa_error_set(err, WA_CORRUPT, "\"%s\" of %s is no branch: \"%s\"", key, what, text);
    return WA_OK;
}

void
wa_repo_json_set_branch(json_t *obj, const char *key, const wa_branch *branch)
{
    char text[WA_BRANCH_TEXT];
    wa_json_set_string(obj, key, wa_branch_format(branch, text));
}
