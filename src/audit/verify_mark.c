/*
 * verify_mark.c - how far a branch's WAL was verified: verified/<TLI8>-<id8>/<N8>.json, numbered,
 * created once each; the highest valid number counts.
 */
#include "verify_internal.h"

#include "walagent/codec/json.h"

#include <string.h>

typedef struct newest {
    uint64_t number;
    char *key;
} newest;

static wa_status
keep_last(void *arg, const wa_object *object, wa_error *err)
{
    (void)err;
    newest *n = arg;
    const char *slash = strrchr(object->key, '/');
    uint64_t number = 0;
    if (slash == NULL || !wa_parse_hex(slash + 1, 8, &number) || !wa_str_ends(object->key, ".json"))
        return WA_OK;
    n->number = number;
    wa_freep(&n->key);
    n->key = wa_strdup(object->key);
    return WA_OK;
}

static wa_status
find_newest(wa_repo *repo, const wa_branch *branch, newest *ret, wa_error *err)
{
    char text[WA_BRANCH_TEXT];
    WA_CLEANUP(wa_freep)
    char *prefix = wa_repo_key(repo, "verified/%s/", wa_branch_format(branch, text));
    return wa_store_list(wa_repo_store(repo), &(wa_list_options){.prefix = prefix}, keep_last, ret,
                         err);
}

wa_status
wa_verify_mark_load(wa_repo *repo, const wa_branch *branch, wa_segno *ret, wa_error *err)
{
    newest n = {0};
    wa_status status = find_newest(repo, branch, &n, err);
    WA_CLEANUP(wa_freep) char *key = n.key;
    *ret = 0;
    if (status != WA_OK || key == NULL)
        return status;
    WA_CLEANUP(wa_buf_done) wa_buf text = WA_BUF_INIT(4096);
    WA_TRY(wa_store_get(wa_repo_store(repo), key, 0, UINT64_MAX, &text, NULL, err));
    WA_CLEANUP(wa_json_freep) json_t *json = NULL;
    WA_TRY(wa_json_parse(text.data, text.len, key, &json, err));
    return wa_json_get_u64(json, "upto_segment", key, ret, err);
}

wa_status
wa_verify_mark_store(wa_repo *repo, const wa_branch *branch, wa_segno upto, wa_error *err)
{
    newest n = {0};
    wa_status status = find_newest(repo, branch, &n, err);
    wa_freep(&n.key);
    WA_TRY(status);
    char branch_text[WA_BRANCH_TEXT], time[WA_TIME_TEXT];
    WA_CLEANUP(wa_freep)
    char *key = wa_repo_key(repo, "verified/%s/%08llX.json", wa_branch_format(branch, branch_text),
                            (unsigned long long)n.number + 1);
    WA_CLEANUP(wa_freep)
    char *text = wa_format("{\"v\":1,\"upto_segment\":%llu,\"time\":\"%s\"}\n",
                           (unsigned long long)upto, wa_time_format_rfc3339(wa_time_now(), time));
    status = wa_store_put(wa_repo_store(repo), key, &(wa_body){.data = text, .len = strlen(text)},
                          NULL, WA_PUT_CREATE, err);
    if (status == WA_EXISTS) { /* another verify was faster; its mark counts */
        wa_error_clear(err);
        return WA_OK;
    }
    return status;
}
