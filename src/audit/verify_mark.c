/*
 * verify_mark.c - which of a branch's segments were verified.
 *
 *   verified/<TLI8>-<id8>/<N8>.json   numbered, created once each; the highest number counts
 *   {"v":1,"ranges":[[first,last],...],"time":...}
 *
 * A range is a stretch of segments that were there and right; what crosses its ends may not have
 * been checked. A segment that filled a hole later is in none, so it isn't taken for verified.
 */
#include "verify_internal.h"

#include "walagent/codec/json.h"

#include <string.h>

#define RANGES_MAX 4096 /* of more the first ones are forgotten: they are read again */
#define MARK_MAX (1024u * 1024)

void
wa_verify_mark_done(wa_verify_mark *m)
{
    wa_freep(&m->items);
    m->count = 0;
}

void
wa_verify_mark_add(wa_verify_mark *m, wa_segno segno)
{
    if (m->count > 0 && m->items[m->count - 1].last + 1 == segno) {
        m->items[m->count - 1].last = segno;
        return;
    }
    m->items = wa_reallocarray(m->items, m->count + 1, sizeof *m->items);
    m->items[m->count++] = (wa_verify_range){segno, segno};
}

bool
wa_verify_mark_same(const wa_verify_mark *a, const wa_verify_mark *b)
{
    if (a->count != b->count)
        return false;
    for (size_t i = 0; i < a->count; i++)
        if (a->items[i].first != b->items[i].first || a->items[i].last != b->items[i].last)
            return false;
    return true;
}

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

/* False: not ranges in ascending order. */
static bool
take_ranges(const json_t *ranges, wa_verify_mark *ret)
{
    size_t count = json_array_size(ranges);
    ret->items = wa_reallocarray(NULL, count + 1, sizeof *ret->items);
    ret->count = count;
    for (size_t i = 0; i < count; i++) {
        const json_t *pair = json_array_get(ranges, i);
        const json_t *first = json_array_get(pair, 0), *last = json_array_get(pair, 1);
        if (!json_is_integer(first) || !json_is_integer(last) || json_integer_value(first) < 0)
            return false;
        ret->items[i] = (wa_verify_range){(wa_segno)json_integer_value(first),
                                          (wa_segno)json_integer_value(last)};
        if (ret->items[i].last < ret->items[i].first ||
            (i > 0 && ret->items[i].first <= ret->items[i - 1].last))
            return false;
    }
    return true;
}

/* What can't be understood says nothing: then everything is read. */
static void
parse_mark(const wa_buf *text, const char *key, wa_verify_mark *ret)
{
    wa_error ignored = WA_ERROR_INIT;
    WA_CLEANUP(wa_verify_mark_done) wa_verify_mark mark = {0};
    WA_CLEANUP(wa_json_freep) json_t *json = NULL;
    if (wa_json_parse(text->data, text->len, key, &json, &ignored) != WA_OK ||
        !take_ranges(json_object_get(json, "ranges"), &mark))
        return;
    *ret = mark;
    mark = (wa_verify_mark){0};
}

wa_status
wa_verify_mark_load(wa_repo *repo, const wa_branch *branch, wa_verify_mark *ret, wa_error *err)
{
    newest n = {0};
    wa_status status = find_newest(repo, branch, &n, err);
    WA_CLEANUP(wa_freep) char *key = n.key;
    if (status != WA_OK || key == NULL)
        return status;
    WA_CLEANUP(wa_buf_done) wa_buf text = WA_BUF_INIT(MARK_MAX);
    WA_TRY(wa_store_get(wa_repo_store(repo), key, 0, UINT64_MAX, &text, NULL, err));
    parse_mark(&text, key, ret);
    return WA_OK;
}

wa_status
wa_verify_mark_store(wa_repo *repo, const wa_branch *branch, const wa_verify_mark *mark,
                     wa_error *err)
{
    newest n = {0};
    if (wa_store_is_read_only(wa_repo_store(repo)))
        return WA_OK; /* one repository of several: what is numbered is counted in all of them */
    wa_status status = find_newest(repo, branch, &n, err);
    wa_freep(&n.key);
    WA_TRY(status);
    char branch_text[WA_BRANCH_TEXT], time[WA_TIME_TEXT];
    WA_CLEANUP(wa_freep)
    char *key = wa_repo_key(repo, "verified/%s/%08llX.json", wa_branch_format(branch, branch_text),
                            (unsigned long long)n.number + 1);
    WA_CLEANUP(wa_buf_done) wa_buf text = WA_BUF_INIT(MARK_MAX);
    wa_buf_puts(&text, "{\"v\":1,\"ranges\":[");
    size_t from = mark->count > RANGES_MAX ? mark->count - RANGES_MAX : 0;
    for (size_t i = from; i < mark->count; i++)
        wa_buf_printf(&text, "%s[%llu,%llu]", i > from ? "," : "",
                      (unsigned long long)mark->items[i].first,
                      (unsigned long long)mark->items[i].last);
    wa_buf_printf(&text, "],\"time\":\"%s\"}\n", wa_time_format_rfc3339(wa_time_now(), time));
    status = wa_store_put(wa_repo_store(repo), key, &(wa_body){.data = text.data, .len = text.len},
                          NULL, WA_PUT_CREATE, err);
    if (status == WA_EXISTS) { /* another verify was faster; its mark counts */
        wa_error_clear(err);
        return WA_OK;
    }
    return status;
}
