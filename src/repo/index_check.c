/*
 * index_check.c - which index objects can't be used?
 *
 * Of a block's readings the newest counts; older ones were superseded.
 */
#include "walagent/repo/index.h"

#include "index_internal.h"

#define LINES_MAX (64u * 1024 * 1024)

static wa_status
check_object(wa_repo *repo, const wa_branch *branch, int level, const wa_index_name *name,
             wa_error *err)
{
    WA_CLEANUP(wa_index_object_done) wa_index_object o = {0};
    WA_TRY(wa_index_read(repo, branch, level, name->first, name->n, &o, err));
    if (level > WA_INDEX_LINES_LEVEL)
        return WA_OK;
    WA_CLEANUP(wa_buf_done) wa_buf lines = WA_BUF_INIT(LINES_MAX);
    WA_CLEANUP(wa_sink_freep) wa_sink *sink = wa_sink_to_buf(&lines);
    return wa_index_read_lines(repo, &o, sink, err);
}

static wa_status
check_level(wa_repo *repo, const wa_branch *branch, int level, wa_strv *ret_damaged, wa_error *err)
{
    WA_CLEANUP(wa_freep) wa_index_name *names = NULL;
    size_t count = 0;
    WA_TRY(wa_index_list(repo, branch, level, 0, UINT64_MAX, &names, &count, err));
    for (size_t i = 0; i < count; i++) {
        if (i + 1 < count && names[i + 1].first == names[i].first)
            continue;
        wa_status status = check_object(repo, branch, level, &names[i], err);
        if (status == WA_CORRUPT) {
            WA_CLEANUP(wa_freep)
            char *key = wa_index_key(repo, branch, level, names[i].first, names[i].n);
            wa_strv_add(ret_damaged, key);
        }
        if (status == WA_CORRUPT || status == WA_NOT_FOUND || status == WA_UNSUPPORTED) {
            wa_error_clear(err);
            status = WA_OK;
        }
        WA_TRY(status);
    }
    return WA_OK;
}

wa_status
wa_index_check(wa_repo *repo, const wa_branch *branch, wa_strv *ret_damaged, wa_error *err)
{
    for (int level = 0; level < WA_INDEX_LEVELS; level++)
        WA_TRY(check_level(repo, branch, level, ret_damaged, err));
    return WA_OK;
}
