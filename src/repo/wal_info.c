/*
 * src/repo/wal_info.c - public facts of WAL objects, and their facts frame.
 *
 * Public facts (at most 1 KiB):
 *   {"v":1,"kind":"wal"|"tail"|"quarantine","branch":"<TLI8>-<id8>","start":"<16 hex>",
 *    "end":"<16 hex>","base":"<16 hex>","writer":"...","epoch":n,"raw":n,"xxh3":"<32 hex>",
 *    "checked":bool}
 * Facts frame: the same members, "system_identifier" (decimal string) and "wal" (what the records
 * say, walfacts.h); when that is too large it is the bulky frame.
 */
#include "wal_internal.h"

#include "repo_internal.h"

#include <stdio.h>
#include <string.h>

static void
set_hex(json_t *json, const char *key, wa_lsn lsn)
{
    char text[WA_LSN_TEXT];
    wa_json_set_string(json, key, wa_lsn_hex(lsn, text));
}

static json_t *
info_to_json(const char *kind, const wa_wal_info *info)
{
    json_t *json = json_object();
    wa_json_set_i64(json, "v", 1);
    wa_json_set_string(json, "kind", kind);
    wa_repo_json_set_branch(json, "branch", &info->branch);
    set_hex(json, "start", info->start);
    set_hex(json, "end", info->end);
    set_hex(json, "base", info->base);
    wa_json_set_string(json, "writer", info->writer);
    wa_json_set_i64(json, "epoch", info->epoch);
    wa_json_set_u64(json, "raw", info->raw_size);
    wa_json_set_string(json, "xxh3", info->xxh3);
    wa_json_set_bool(json, "checked", info->checked);
    return json;
}

char *
wa_wal_info_meta(const char *kind, const wa_wal_info *info)
{
    WA_CLEANUP(wa_json_freep) json_t *json = info_to_json(kind, info);
    char *text = wa_json_dump(json, 0);
    WA_ASSERT(strlen(text) <= WA_META_MAX);
    return text;
}

static wa_status
get_hex(const json_t *json, const char *key, const char *what, wa_lsn *ret, wa_error *err)
{
    const char *text = NULL;
    WA_TRY(wa_json_get_string(json, key, what, &text, err));
    if (!wa_lsn_parse_hex(text, ret))
        return wa_error_set(err, WA_CORRUPT, "\"%s\" of %s is no LSN: \"%s\"", key, what, text);
    return WA_OK;
}

wa_status
wa_wal_info_from_json(const json_t *json, const char *what, wa_wal_info *ret, wa_error *err)
{
    wa_wal_info info = {.modified = WA_TIME_NONE};
    const char *hash = NULL;
    uint64_t epoch = 0;
    WA_TRY(wa_repo_json_branch(json, "branch", what, &info.branch, err));
    WA_TRY(get_hex(json, "start", what, &info.start, err));
    WA_TRY(get_hex(json, "end", what, &info.end, err));
    WA_TRY(get_hex(json, "base", what, &info.base, err));
    WA_TRY(wa_json_get_u64(json, "epoch", what, &epoch, err));
    WA_TRY(wa_json_get_u64(json, "raw", what, &info.raw_size, err));
    WA_TRY(wa_json_get_string(json, "xxh3", what, &hash, err));
    if (strlen(hash) != WA_XXH_HEX - 1 || epoch > UINT32_MAX || info.base > info.start ||
        info.start > info.end || info.raw_size != info.end - info.base)
        return wa_error_set(err, WA_CORRUPT, "the facts of %s contradict each other", what);
    info.epoch = (uint32_t)epoch;
    info.checked = wa_json_bool_or(json, "checked", false);
    snprintf(info.xxh3, sizeof info.xxh3, "%s", hash);
    snprintf(info.writer, sizeof info.writer, "%s", wa_json_string_or(json, "writer", ""));
    *ret = info;
    return WA_OK;
}

wa_status
wa_wal_info_parse(const char *meta, const char *what, wa_wal_info *ret, wa_error *err)
{
    WA_CLEANUP(wa_json_freep) json_t *json = NULL;
    WA_TRY(wa_json_parse(meta, strlen(meta), what, &json, err));
    return wa_wal_info_from_json(json, what, ret, err);
}

json_t *
wa_wal_facts_frame(const wa_repo *repo, const char *kind, const wa_wal_info *info,
                   const wa_wal_facts *facts, json_t **ret_bulky)
{
    json_t *json = info_to_json(kind, info);
    json_object_del(json, "v"); /* the container writes these two itself */
    json_object_del(json, "xxh3");
    WA_CLEANUP(wa_freep)
    char *id = wa_format("%llu", (unsigned long long)wa_repo_cluster(repo)->system_identifier);
    wa_json_set_string(json, "system_identifier", id);
    *ret_bulky = NULL;
    if (facts == NULL)
        return json;
    json_t *wal = wa_wal_facts_to_json(facts);
    WA_CLEANUP(wa_freep) char *text = wa_json_dump(wal, 0);
    if (strlen(text) + 2 * WA_META_MAX <= WA_FACTS_MAX)
        wa_json_set(json, "wal", wal);
    else
        *ret_bulky = json_pack("{s:o}", "wal", wal);
    return json;
}

wa_status
wa_wal_check_place(const wa_container *c, const char *key, const char *kind,
                   const wa_branch *branch, wa_lsn start, wa_wal_info *ret, wa_error *err)
{
    const json_t *facts = wa_container_facts(c);
    wa_wal_info info = {0};
    WA_TRY(wa_wal_info_from_json(facts, key, &info, err));
    if (!wa_str_eq(wa_json_string_or(facts, "kind", ""), kind) ||
        !wa_branch_eq(&info.branch, branch) || info.start != start) {
        char text[WA_BRANCH_TEXT], lsn[WA_LSN_TEXT];
        return wa_error_set(err, WA_CORRUPT,
                            "object \"%s\" holds something else: kind \"%s\", branch %s, start %s",
                            key, wa_json_string_or(facts, "kind", ""),
                            wa_branch_format(&info.branch, text), wa_lsn_format(info.start, lsn));
    }
    if (info.raw_size != wa_container_size(c))
        return wa_error_set(err, WA_CORRUPT, "object \"%s\" has %llu bytes of WAL instead of %llu",
                            key, (unsigned long long)wa_container_size(c),
                            (unsigned long long)info.raw_size);
    *ret = info;
    return WA_OK;
}

wa_status
wa_wal_container_facts(wa_container *c, const char *key, wa_wal_facts *ret, wa_error *err)
{
    const json_t *wal = json_object_get(wa_container_facts(c), "wal");
    if (wal != NULL)
        return wa_wal_facts_from_json(wal, key, ret, err);
    WA_CLEANUP(wa_json_freep) json_t *bulky = NULL;
    WA_TRY(wa_container_bulky(c, &bulky, err));
    wal = json_object_get(bulky, "wal");
    if (wal == NULL)
        return wa_error_set(err, WA_NOT_FOUND, "object \"%s\" has no facts about its WAL", key);
    return wa_wal_facts_from_json(wal, key, ret, err);
}

static wa_status
info_from_frame(wa_repo *repo, const char *key, wa_wal_info *ret, wa_error *err)
{
    WA_CLEANUP(wa_ranges_freep) wa_ranges *end = NULL;
    WA_CLEANUP(wa_container_freep) wa_container *c = NULL;
    WA_TRY(wa_repo_open_end(repo, key, &end, NULL, err));
    WA_TRY(wa_container_open(end, &c, err));
    WA_TRY(wa_wal_info_from_json(wa_container_facts(c), key, ret, err));
    ret->stored_size = end->size;
    return WA_OK;
}

wa_status
wa_wal_object_info(wa_repo *repo, const char *key, wa_wal_info *ret, wa_error *err)
{
    WA_CLEANUP(wa_freep) char *meta = NULL;
    uint64_t size = 0;
    wa_time modified = WA_TIME_NONE;
    WA_TRY(wa_store_head(wa_repo_store(repo), key, &size, &modified, &meta, err));
    wa_wal_info info = {0};
    if (wa_str_empty(meta))
        WA_TRY(info_from_frame(repo, key, &info, err));
    else
        WA_TRY(wa_wal_info_parse(meta, key, &info, err));
    info.stored_size = size;
    info.modified = modified;
    *ret = info;
    return WA_OK;
}
