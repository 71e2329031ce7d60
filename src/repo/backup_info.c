/*
 * src/repo/backup_info.c - backup.json and begin.json: what a base backup is.
 *
 *   {"v":1,"label":"20261123T021400Z-F-1a2b","type":"full"|"incremental","parent":null|LABEL,
 *    "note":null|text,"annotations":["k=v",...],"branch":"<TLI8>-<id8>","end_branch":...,
 *    "start_lsn":"X/X","end_lsn":"X/X","start_time":RFC 3339,"end_time":RFC 3339|null,"major":15,
 *    "system_identifier":"<decimal>","segment_size":n,"files":n (lines of files.zst),
 *    "regular_files":n (of them files; missing in those of earlier versions),"raw_bytes":n,
 *    "stored_bytes":n,"source":"remote"|"local","host":...,"from_standby":bool,"data_checksums":bool,
 *    "manifest_checksum":"CRC32C","packs":[{"raw":n,"stored":n,"xxh3":hex},...],
 *    "tablespaces":[{"oid":n,"location":path},...],"program":...}
 * begin.json has the same members; those not known yet are 0, null or empty.
 */
#include "walagent/repo/backup_object.h"

#include "repo_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PACKS_MAX 1000000u
#define TABLESPACES_MAX 100000u

wa_backup_info *
wa_backup_info_new(void)
{
    wa_backup_info *b = wa_calloc(1, sizeof *b);
    b->start_time = b->end_time = WA_TIME_NONE;
    return b;
}

void
wa_backup_info_free(wa_backup_info *b)
{
    if (b == NULL)
        return;
    free(b->note);
    wa_strv_done(&b->annotations);
    free(b->packs);
    for (size_t i = 0; i < b->tablespace_count; i++)
        free(b->tablespaces[i].location);
    free(b->tablespaces);
    free(b);
}

static json_t *
packs_to_json(const wa_backup_info *b)
{
    json_t *packs = json_array();
    for (size_t i = 0; i < b->pack_count; i++) {
        json_t *pack = json_object();
        wa_json_set_u64(pack, "raw", b->packs[i].raw_size);
        wa_json_set_u64(pack, "stored", b->packs[i].stored_size);
        wa_json_set_string(pack, "xxh3", b->packs[i].xxh3);
        json_array_append_new(packs, pack);
    }
    return packs;
}

static json_t *
tablespaces_to_json(const wa_backup_info *b)
{
    json_t *tablespaces = json_array();
    for (size_t i = 0; i < b->tablespace_count; i++) {
        json_t *t = json_object();
        wa_json_set_i64(t, "oid", b->tablespaces[i].oid);
        wa_json_set_string(t, "location", b->tablespaces[i].location);
        json_array_append_new(tablespaces, t);
    }
    return tablespaces;
}

static void
set_branch_or_null(json_t *json, const char *key, const wa_branch *branch)
{
    if (branch->tli == 0)
        wa_json_set_string(json, key, NULL);
    else
        wa_repo_json_set_branch(json, key, branch);
}

json_t *
wa_backup_info_to_json(const wa_backup_info *b)
{
    json_t *json = json_object();
    wa_json_set_i64(json, "v", 1);
    wa_json_set_string(json, "label", b->label);
    wa_json_set_string(json, "type", b->incremental ? "incremental" : "full");
    wa_json_set_string(json, "parent", b->parent[0] == '\0' ? NULL : b->parent);
    wa_json_set_string(json, "note", b->note);
    json_t *annotations = json_array();
    for (size_t i = 0; i < b->annotations.count; i++)
        wa_json_add_string(annotations, b->annotations.items[i]);
    wa_json_set(json, "annotations", annotations);
    set_branch_or_null(json, "branch", &b->branch);
    set_branch_or_null(json, "end_branch", &b->end_branch);
    wa_repo_json_set_lsn(json, "start_lsn", b->start_lsn);
    wa_repo_json_set_lsn(json, "end_lsn", b->end_lsn);
    wa_repo_json_set_time(json, "start_time", b->start_time);
    wa_repo_json_set_time(json, "end_time", b->end_time);
    wa_json_set_i64(json, "major", b->major);
    WA_CLEANUP(wa_freep) char *id = wa_format("%llu", (unsigned long long)b->system_identifier);
    wa_json_set_string(json, "system_identifier", id);
    wa_json_set_u64(json, "segment_size", b->segment_size);
    wa_json_set_u64(json, "files", b->files);
    if (b->regular_files == WA_FILES_UNKNOWN)
        wa_json_set(json, "regular_files", json_null());
    else
        wa_json_set_u64(json, "regular_files", b->regular_files);
    wa_json_set_u64(json, "raw_bytes", b->raw_bytes);
    wa_json_set_u64(json, "stored_bytes", b->stored_bytes);
    wa_json_set_string(json, "source", b->source);
    wa_json_set_string(json, "host", b->host);
    wa_json_set_bool(json, "from_standby", b->from_standby);
    wa_json_set_bool(json, "data_checksums", b->data_checksums);
    wa_json_set_string(json, "manifest_checksum", b->manifest_checksum);
    wa_json_set(json, "packs", packs_to_json(b));
    wa_json_set(json, "tablespaces", tablespaces_to_json(b));
    wa_json_set_string(json, "program", b->program);
    return json;
}

static wa_status
copy_text(const json_t *json, const char *key, const char *what, char *out, size_t size,
          wa_error *err)
{
    const char *text = wa_json_string_or(json, key, "");
    if (strlen(text) >= size)
        return wa_error_set(err, WA_CORRUPT, "\"%s\" of %s is too long", key, what);
    snprintf(out, size, "%s", text);
    return WA_OK;
}

static wa_status
get_array(const json_t *json, const char *key, const char *what, size_t max, const json_t **ret,
          wa_error *err)
{
    const json_t *array = json_object_get(json, key);
    if (!json_is_array(array) || json_array_size(array) > max)
        return wa_error_set(err, WA_CORRUPT, "\"%s\" of %s is no array of at most %zu", key, what,
                            max);
    *ret = array;
    return WA_OK;
}

static wa_status
parse_packs(const json_t *json, const char *what, wa_backup_info *b, wa_error *err)
{
    const json_t *packs = NULL;
    WA_TRY(get_array(json, "packs", what, PACKS_MAX, &packs, err));
    size_t count = json_array_size(packs);
    b->packs = wa_calloc(count + 1, sizeof *b->packs);
    b->pack_count = count;
    for (size_t i = 0; i < count; i++) {
        const json_t *pack = json_array_get(packs, i);
        WA_TRY(wa_json_get_u64(pack, "raw", what, &b->packs[i].raw_size, err));
        WA_TRY(wa_json_get_u64(pack, "stored", what, &b->packs[i].stored_size, err));
        WA_TRY(copy_text(pack, "xxh3", what, b->packs[i].xxh3, sizeof b->packs[i].xxh3, err));
    }
    return WA_OK;
}

static wa_status
parse_tablespaces(const json_t *json, const char *what, wa_backup_info *b, wa_error *err)
{
    const json_t *tablespaces = NULL;
    WA_TRY(get_array(json, "tablespaces", what, TABLESPACES_MAX, &tablespaces, err));
    size_t count = json_array_size(tablespaces);
    b->tablespaces = wa_calloc(count + 1, sizeof *b->tablespaces);
    for (size_t i = 0; i < count; i++) {
        const json_t *t = json_array_get(tablespaces, i);
        uint64_t oid = 0;
        const char *location = NULL;
        WA_TRY(wa_json_get_u64(t, "oid", what, &oid, err));
        WA_TRY(wa_json_get_string(t, "location", what, &location, err));
        if (oid == 0 || oid > UINT32_MAX)
            return wa_error_set(err, WA_CORRUPT, "a tablespace of %s has no valid oid", what);
        b->tablespaces[i].oid = (uint32_t)oid;
        b->tablespaces[i].location = wa_strdup(location);
        b->tablespace_count = i + 1;
    }
    return WA_OK;
}

static wa_status
parse_annotations(const json_t *json, const char *what, wa_backup_info *b, wa_error *err)
{
    const json_t *annotations = json_object_get(json, "annotations");
    for (size_t i = 0; i < json_array_size(annotations); i++) {
        const char *text = json_string_value(json_array_get(annotations, i));
        if (text == NULL)
            return wa_error_set(err, WA_CORRUPT, "an annotation of %s is no string", what);
        wa_strv_add(&b->annotations, text);
    }
    return WA_OK;
}

static wa_status
parse_branch_or_null(const json_t *json, const char *key, const char *what, wa_branch *ret,
                     wa_error *err)
{
    if (json_is_null(json_object_get(json, key)))
        return WA_OK;
    return wa_repo_json_branch(json, key, what, ret, err);
}

static wa_status
parse_position(const json_t *json, const char *what, wa_backup_info *b, wa_error *err)
{
    WA_TRY(parse_branch_or_null(json, "branch", what, &b->branch, err));
    WA_TRY(parse_branch_or_null(json, "end_branch", what, &b->end_branch, err));
    WA_TRY(wa_repo_json_lsn(json, "start_lsn", what, &b->start_lsn, err));
    WA_TRY(wa_repo_json_lsn(json, "end_lsn", what, &b->end_lsn, err));
    WA_TRY(wa_repo_json_time(json, "start_time", what, &b->start_time, err));
    WA_TRY(wa_repo_json_time(json, "end_time", what, &b->end_time, err));
    uint64_t major = 0;
    WA_TRY(wa_json_get_u64(json, "major", what, &major, err));
    b->major = (int)(major > 1000 ? 0 : major);
    WA_TRY(wa_json_get_u64(json, "system_identifier", what, &b->system_identifier, err));
    return wa_json_get_u64(json, "segment_size", what, &b->segment_size, err);
}

wa_status
wa_backup_info_from_json(const json_t *json, const char *what, wa_backup_info **ret, wa_error *err)
{
    WA_CLEANUP(wa_backup_info_freep) wa_backup_info *b = wa_backup_info_new();
    WA_TRY(copy_text(json, "label", what, b->label, sizeof b->label, err));
    if (!wa_backup_label_valid(b->label))
        return wa_error_set(err, WA_CORRUPT, "%s has no valid label: \"%s\"", what, b->label);
    const char *type = wa_json_string_or(json, "type", "");
    if (!wa_str_eq(type, "full") && !wa_str_eq(type, "incremental"))
        return wa_error_set(err, WA_CORRUPT, "%s has an unknown type \"%s\"", what, type);
    b->incremental = wa_str_eq(type, "incremental");
    WA_TRY(copy_text(json, "parent", what, b->parent, sizeof b->parent, err));
    if (b->incremental && !wa_backup_label_valid(b->parent))
        return wa_error_set(err, WA_CORRUPT, "%s is incremental and has no valid parent", what);
    b->note = wa_strdup(wa_json_string_or(json, "note", NULL));
    WA_TRY(parse_annotations(json, what, b, err));
    WA_TRY(parse_position(json, what, b, err));
    b->files = wa_json_u64_or(json, "files", 0);
    b->regular_files = wa_json_u64_or(json, "regular_files", WA_FILES_UNKNOWN);
    b->raw_bytes = wa_json_u64_or(json, "raw_bytes", 0);
    b->stored_bytes = wa_json_u64_or(json, "stored_bytes", 0);
    WA_TRY(copy_text(json, "source", what, b->source, sizeof b->source, err));
    WA_TRY(copy_text(json, "host", what, b->host, sizeof b->host, err));
    b->from_standby = wa_json_bool_or(json, "from_standby", false);
    b->data_checksums = wa_json_bool_or(json, "data_checksums", false);
    WA_TRY(copy_text(json, "manifest_checksum", what, b->manifest_checksum,
                     sizeof b->manifest_checksum, err));
    WA_TRY(copy_text(json, "program", what, b->program, sizeof b->program, err));
    WA_TRY(parse_packs(json, what, b, err));
    WA_TRY(parse_tablespaces(json, what, b, err));
    *ret = WA_TAKE(b);
    return WA_OK;
}
