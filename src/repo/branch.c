/*
 * src/repo/branch.c - branches of timelines and their history files.
 *
 *   timeline/<TLI8>-<id8>/history        exact bytes of the history file
 *   timeline/<TLI8>-pending/<sha256>     exact bytes, not yet known to which branch they belong
 *
 *   id8 = first 8 hex digits of SHA-256 over:
 *     n bytes   system identifier, decimal
 *     1         NUL
 *     n         history file (nothing for timeline 1)
 *     1         NUL
 *     n         first record that begins at or after the fork (nothing when not known)
 */
#include "walagent/repo/branch.h"

#include "repo_internal.h"

#include "walagent/base/bytes.h"
#include "walagent/base/crc32c.h"
#include "walagent/codec/hash.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void
wa_branch_record_bytes(const wa_record *record, wa_buf *ret)
{
    uint8_t header[WA_RECORD_HEADER] = {0};
    wa_put_u32le(header, record->tot_len);
    wa_put_u32le(header + 4, record->xid);
    wa_put_u64le(header + 8, record->prev);
    header[16] = record->info;
    header[17] = record->rmid;
    uint32_t crc = wa_crc32c(0, record->body, record->body_len);
    wa_put_u32le(header + 20, wa_crc32c(crc, header, 20));
    wa_buf_add(ret, header, sizeof header);
    wa_buf_add(ret, record->body, record->body_len);
}

wa_branch
wa_branch_of(uint64_t system_identifier, wa_tli tli, const void *history, size_t history_len,
             const void *record, size_t record_len)
{
    char number[24];
    int digits = snprintf(number, sizeof number, "%llu", (unsigned long long)system_identifier);
    size_t len = (size_t)digits + 1 + history_len + 1 + (record == NULL ? 0 : record_len);
    WA_CLEANUP(wa_freep) char *bytes = wa_malloc(len);
    char *to = mempcpy(bytes, number, (size_t)digits + 1); /* with its NUL */
    if (history_len > 0)
        to = mempcpy(to, history, history_len);
    *to++ = '\0';
    if (record != NULL && record_len > 0)
        memcpy(to, record, record_len);
    uint8_t digest[WA_SHA256_SIZE];
    wa_sha256_short(bytes, len, digest);
    wa_branch branch = {.tli = tli};
    wa_hex(digest, 4, branch.id);
    return branch;
}

static int
compare_branches(const void *a, const void *b)
{
    const wa_branch *x = a, *y = b;
    if (x->tli != y->tli)
        return x->tli < y->tli ? -1 : 1;
    return strcmp(x->id, y->id);
}

/* Branches whose names begin with `start`; timeline 1 has its one without an object. */
static wa_status
list_branches(wa_repo *repo, const char *start, bool with_first, wa_branch **ret, size_t *ret_count,
              wa_error *err)
{
    WA_CLEANUP(wa_strv_done) wa_strv keys = {0};
    WA_CLEANUP(wa_freep) char *prefix = wa_repo_key(repo, "timeline/%s", start);
    WA_TRY(wa_repo_list(repo, prefix, true, NULL, &keys, err));
    WA_CLEANUP(wa_freep) wa_branch *all = wa_calloc(keys.count + 1, sizeof *all);
    size_t count = 0;
    wa_branch first = wa_branch_of(wa_repo_cluster(repo)->system_identifier, 1, NULL, 0, NULL, 0);
    if (with_first)
        all[count++] = first;
    for (size_t i = 0; i < keys.count; i++) {
        WA_CLEANUP(wa_freep) char *name = wa_key_tail(keys.items[i]);
        wa_branch branch;
        if (wa_branch_parse(name, &branch) && !(with_first && wa_branch_eq(&branch, &first)))
            all[count++] = branch;
    }
    qsort(all, count, sizeof *all, compare_branches);
    *ret = WA_TAKE(all);
    *ret_count = count;
    return WA_OK;
}

wa_status
wa_branches_of(wa_repo *repo, wa_tli tli, wa_branch **ret, size_t *ret_count, wa_error *err)
{
    char start[WA_BRANCH_TEXT];
    snprintf(start, sizeof start, "%08X-", tli);
    return list_branches(repo, start, tli == 1, ret, ret_count, err);
}

wa_status
wa_branches_all(wa_repo *repo, wa_branch **ret, size_t *ret_count, wa_error *err)
{
    return list_branches(repo, "", true, ret, ret_count, err);
}

static char *
history_key(wa_repo *repo, const wa_branch *branch)
{
    char text[WA_BRANCH_TEXT];
    return wa_repo_key(repo, "timeline/%s/history", wa_branch_format(branch, text));
}

wa_status
wa_history_put(wa_repo *repo, const wa_branch *branch, const void *data, size_t len, wa_error *err)
{
    WA_CLEANUP(wa_history_freep) wa_history *parsed = NULL;
    if (branch->tli == 1 ? len != 0 : len == 0)
        return wa_error_set(err, WA_INVALID, "timeline %u %s a history file", branch->tli,
                            branch->tli == 1 ? "never has" : "needs");
    WA_TRY(wa_history_parse(branch->tli, data, len, &parsed, err));
    WA_CLEANUP(wa_freep) char *key = history_key(repo, branch);
    wa_status status = wa_object_put_same(repo, key, "history", data, len, err);
    if (status != WA_EXISTS)
        return status;
    char text[WA_BRANCH_TEXT];
    return wa_error_set(err, WA_CONFLICT,
                        "the archive has another history file of branch %s than the one given",
                        wa_branch_format(branch, text));
}

wa_status
wa_history_get(wa_repo *repo, const wa_branch *branch, wa_buf *ret, wa_error *err)
{
    WA_CLEANUP(wa_freep) char *key = history_key(repo, branch);
    return wa_object_get(repo, key, ret, err);
}

wa_status
wa_history_load(wa_repo *repo, const wa_branch *branch, wa_history **ret, wa_error *err)
{
    if (branch->tli == 1)
        return wa_history_parse(1, "", 0, ret, err);
    WA_CLEANUP(wa_buf_done) wa_buf text = WA_BUF_INIT(WA_SMALL_MAX);
    WA_TRY(wa_history_get(repo, branch, &text, err));
    char name[WA_BRANCH_TEXT];
    if (wa_history_parse(branch->tli, wa_buf_str(&text), text.len, ret, err) != WA_OK)
        return wa_error_wrap(err, "history of branch %s", wa_branch_format(branch, name));
    return WA_OK;
}

wa_status
wa_history_put_pending(wa_repo *repo, wa_tli tli, const void *data, size_t len, wa_error *err)
{
    WA_CLEANUP(wa_history_freep) wa_history *parsed = NULL;
    WA_TRY(wa_history_parse(tli, data, len, &parsed, err));
    char sha[WA_SHA256_HEX];
    WA_CLEANUP(wa_freep)
    char *key =
        wa_repo_key(repo, "timeline/%08X-pending/%s", tli, wa_sha256_short_hex(data, len, sha));
    return wa_object_put_same(repo, key, "history", data, len, err);
}

wa_status
wa_history_pending(wa_repo *repo, wa_tli tli, wa_strv *ret, wa_error *err)
{
    WA_CLEANUP(wa_strv_done) wa_strv keys = {0};
    WA_CLEANUP(wa_strv_done) wa_strv texts = {0};
    WA_CLEANUP(wa_freep) char *prefix = wa_repo_key(repo, "timeline/%08X-pending/", tli);
    WA_TRY(wa_repo_list(repo, prefix, false, NULL, &keys, err));
    for (size_t i = 0; i < keys.count; i++) {
        WA_CLEANUP(wa_buf_done) wa_buf text = WA_BUF_INIT(WA_SMALL_MAX);
        WA_TRY(wa_object_get(repo, keys.items[i], &text, err));
        wa_strv_add(&texts, wa_buf_str(&text));
    }
    wa_strv_done(ret);
    *ret = texts;
    texts = (wa_strv){0};
    return WA_OK;
}
