/*
 * src/repo/wal_object.c - read whole segments and their facts; other files of archive_command;
 * quarantine.
 *
 *   wal/<TLI8>-<id8>/<LOG8>/<SEG24>.zst          container, kind "wal"
 *   other/<TLI8>-<id8>/<name>.zst                container, kind "other"
 *   quarantine/<TLI8>-<id8>/<name>-<xxh3>.zst    container; its public facts say "quarantine"
 */
#include "walagent/repo/wal_object.h"

#include "repo_internal.h"
#include "wal_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

char *
wa_wal_key(wa_repo *repo, const wa_branch *branch, wa_segno segno)
{
    uint64_t size = wa_repo_cluster(repo)->segment_size;
    char text[WA_BRANCH_TEXT], name[WA_SEGMENT_NAME];
    wa_segment_name(branch->tli, segno, size, name);
    return wa_repo_key(repo, "wal/%s/%.8s/%s.zst", wa_branch_format(branch, text), name + 8, name);
}

wa_status
wa_wal_head(wa_repo *repo, const wa_branch *branch, wa_segno segno, wa_wal_info *ret, wa_error *err)
{
    WA_CLEANUP(wa_freep) char *key = wa_wal_key(repo, branch, segno);
    return wa_wal_object_info(repo, key, ret, err);
}

/* A whole object in memory. */
typedef struct fetched {
    char *key;
    wa_buf stored;
    wa_ranges *ranges;
    wa_container *container;
    wa_wal_info info;
} fetched;

static void
fetched_done(fetched *f)
{
    wa_container_free(f->container);
    wa_ranges_free(f->ranges);
    wa_buf_done(&f->stored);
    wa_freep(&f->key);
}

static wa_status
fetch(wa_repo *repo, const wa_branch *branch, wa_segno segno, fetched *f, wa_error *err)
{
    uint64_t size = wa_repo_cluster(repo)->segment_size;
    f->key = wa_wal_key(repo, branch, segno);
    wa_buf_init(&f->stored, size + size / 8 + WA_SMALL_MAX);
    WA_TRY(wa_store_get(wa_repo_store(repo), f->key, 0, UINT64_MAX, &f->stored, NULL, err));
    f->ranges = wa_ranges_of_memory(f->stored.data, f->stored.len, f->key);
    WA_TRY(wa_container_open(f->ranges, &f->container, err));
    WA_TRY(wa_wal_check_place(f->container, f->key, "wal", branch, wa_segment_start(segno, size),
                              &f->info, err));
    if (f->info.raw_size != size)
        return wa_error_set(err, WA_CORRUPT, "object \"%s\" has %llu bytes instead of a segment",
                            f->key, (unsigned long long)f->info.raw_size);
    if (wa_container_size(f->container) != size)
        return wa_error_set(err, WA_CORRUPT, "object \"%s\" holds %llu bytes of WAL", f->key,
                            (unsigned long long)wa_container_size(f->container));
    f->info.stored_size = f->stored.len;
    return WA_OK;
}

wa_status
wa_wal_get(wa_repo *repo, const wa_branch *branch, wa_segno segno, wa_pool *pool, void *out,
           wa_wal_facts *ret_facts, wa_wal_info *ret_info, wa_error *err)
{
    WA_CLEANUP(fetched_done) fetched f = {0};
    WA_TRY(fetch(repo, branch, segno, &f, err));
    wa_wal_facts facts;
    wa_wal_facts_init(&facts);
    if (ret_facts != NULL) {
        wa_status status = wa_wal_container_facts(f.container, f.key, &facts, err);
        if (status != WA_OK && status != WA_NOT_FOUND)
            return status;
        wa_error_clear(err);
    }
    WA_TRY(wa_container_read_into(f.container, pool, out, wa_container_size(f.container), err));
    if (ret_facts != NULL)
        *ret_facts = facts;
    if (ret_info != NULL)
        *ret_info = f.info;
    return WA_OK;
}

wa_status
wa_wal_get_to(wa_repo *repo, const wa_branch *branch, wa_segno segno, wa_pool *pool,
              const wa_wal_taker *taker, wa_error *err)
{
    WA_CLEANUP(fetched_done) fetched f = {0};
    WA_TRY(fetch(repo, branch, segno, &f, err));
    WA_TRY(taker->begin(taker->frames.arg, &f.info, err));
    return wa_container_read_frames(f.container, pool, &taker->frames, err);
}

static wa_status
add_record(void *arg, const wa_record *record, wa_error *err)
{
    (void)err;
    wa_wal_facts_add(arg, record);
    return WA_OK;
}

/* Written without facts: look at the records. A record that began in the segment before can't be
 * seen from here, and bytes that contradict end the look: both set overflow. */
static wa_status
facts_from_bytes(wa_repo *repo, const wa_branch *branch, wa_segno segno, wa_wal_facts *ret,
                 wa_wal_info *ret_info, wa_error *err)
{
    uint64_t size = wa_repo_cluster(repo)->segment_size;
    WA_CLEANUP(wa_freep) void *bytes = wa_malloc(size);
    wa_wal_info info = {0};
    WA_TRY(wa_wal_get(repo, branch, segno, NULL, bytes, NULL, &info, err));
    wa_wal_facts facts;
    wa_wal_facts_init(&facts);
    wa_segment_check check = {0};
    wa_status status =
        wa_segment_check_all(bytes, size, info.start, add_record, &facts, &check, err);
    if (status != WA_OK && status != WA_CORRUPT)
        return status;
    wa_error_clear(err);
    facts.overflow = true;
    *ret = facts;
    *ret_info = info;
    return WA_OK;
}

wa_status
wa_wal_get_facts(wa_repo *repo, const wa_branch *branch, wa_segno segno, wa_wal_facts *ret,
                 wa_wal_info *ret_info, wa_error *err)
{
    uint64_t size = wa_repo_cluster(repo)->segment_size;
    WA_CLEANUP(wa_freep) char *key = wa_wal_key(repo, branch, segno);
    WA_CLEANUP(wa_ranges_freep) wa_ranges *end = NULL;
    WA_CLEANUP(wa_container_freep) wa_container *c = NULL;
    wa_wal_info info = {0};
    wa_wal_facts facts;
    wa_wal_facts_init(&facts);
    WA_TRY(wa_repo_open_end(repo, key, &end, NULL, err));
    WA_TRY(wa_container_open(end, &c, err));
    WA_TRY(wa_wal_check_place(c, key, "wal", branch, wa_segment_start(segno, size), &info, err));
    info.stored_size = end->size;
    wa_status status = wa_wal_container_facts(c, key, &facts, err);
    if (status == WA_NOT_FOUND) {
        wa_error_clear(err);
        WA_TRY(facts_from_bytes(repo, branch, segno, &facts, &info, err));
    } else {
        WA_TRY(status);
    }
    *ret = facts;
    if (ret_info != NULL)
        *ret_info = info;
    return WA_OK;
}

static bool
other_name_valid(const char *name)
{
    wa_wal_file_kind kind = wa_wal_file_kind_of(name);
    return kind == WA_WAL_BACKUP || kind == WA_WAL_PARTIAL;
}

/* A container whose only facts are kind and name. */
static wa_status
pack_named(const wa_repo *repo, const char *kind, const char *name, const void *data, size_t len,
           wa_buf *ret, wa_error *err)
{
    WA_CLEANUP(wa_json_freep) json_t *facts = json_object();
    wa_json_set_string(facts, "kind", kind);
    wa_json_set_string(facts, "name", name);
    WA_CLEANUP(wa_sink_freep) wa_sink *sink = wa_sink_to_buf(ret);
    WA_CLEANUP(wa_container_writer_freep) wa_container_writer *w = NULL;
    WA_TRY(wa_container_writer_new(sink, NULL, wa_repo_level(repo), WA_FRAME_WAL, &w, err));
    WA_TRY(wa_container_write(w, data, len, err));
    return wa_container_finish(w, facts, NULL, err);
}

static wa_status
store_named(wa_repo *repo, const char *key, const char *kind, const wa_buf *packed,
            const void *data, size_t len, wa_error *err)
{
    char hash[WA_XXH_HEX];
    WA_CLEANUP(wa_json_freep) json_t *json = json_object();
    wa_json_set_i64(json, "v", 1);
    wa_json_set_string(json, "kind", kind);
    wa_json_set_string(json, "writer", wa_repo_writer(repo));
    wa_json_set_u64(json, "raw", len);
    wa_json_set_string(json, "content", wa_xxh_of(data, len, hash));
    WA_CLEANUP(wa_freep) char *meta = wa_json_dump(json, 0);
    wa_body body = {.data = packed->data, .len = packed->len, .fd = -1};
    return wa_store_put(wa_repo_store(repo), key, &body, meta, WA_PUT_CREATE, err);
}

/* Is the object's content (public fact "content", else its bytes) this one? */
static wa_status
has_content(wa_repo *repo, const char *key, const void *data, size_t len, bool *ret, wa_error *err)
{
    WA_CLEANUP(wa_buf_done) wa_buf stored = WA_BUF_INIT(len + WA_SMALL_MAX);
    WA_CLEANUP(wa_buf_done) wa_buf raw = WA_BUF_INIT(len + 1);
    wa_status status = wa_store_get(wa_repo_store(repo), key, 0, UINT64_MAX, &stored, NULL, err);
    if (status == WA_OK)
        status = wa_container_unpack(stored.data, stored.len, key, &raw, NULL, err);
    if (status == WA_NO_SPACE) { /* more bytes than ours: other content */
        wa_error_clear(err);
        *ret = false;
        return WA_OK;
    }
    WA_TRY(status);
    *ret = raw.len == len && (len == 0 || memcmp(raw.data, data, len) == 0);
    return WA_OK;
}

wa_status
wa_wal_put_other(wa_repo *repo, const wa_branch *branch, const char *name, const void *data,
                 size_t len, wa_error *err)
{
    if (!other_name_valid(name))
        return wa_error_set(err, WA_INVALID, "\"%s\" is no backup history file and no .partial",
                            name);
    char text[WA_BRANCH_TEXT];
    WA_CLEANUP(wa_freep)
    char *key = wa_repo_key(repo, "other/%s/%s.zst", wa_branch_format(branch, text), name);
    WA_CLEANUP(wa_buf_done) wa_buf packed = WA_BUF_INIT(len + len / 8 + WA_SMALL_MAX);
    WA_TRY(pack_named(repo, "other", name, data, len, &packed, err));
    wa_status status = store_named(repo, key, "other", &packed, data, len, err);
    if (status != WA_EXISTS)
        return status;
    bool same = false;
    WA_TRY(has_content(repo, key, data, len, &same, err));
    wa_error_clear(err);
    if (same)
        return WA_OK;
    WA_CLEANUP(wa_freep) char *kept = NULL;
    WA_TRY(wa_wal_quarantine(repo, branch, name, data, len, "archived with other content", &kept,
                             err));
    return wa_error_set(err, WA_CONFLICT,
                        "the archive has \"%s\" with other content; the bytes given are kept as "
                        "\"%s\"",
                        name, kept);
}

wa_status
wa_wal_quarantine(wa_repo *repo, const wa_branch *branch, const char *name, const void *data,
                  size_t len, const char *reason, char **ret_key, wa_error *err)
{
    wa_wal_info info = {.branch = *branch, .raw_size = len};
    snprintf(info.writer, sizeof info.writer, "%s", wa_repo_writer(repo));
    wa_xxh_of(data, len, info.xxh3);
    wa_tli tli = 0;
    wa_segno segno = 0;
    uint64_t size = wa_repo_cluster(repo)->segment_size;
    char segment[WA_SEGMENT_NAME];
    snprintf(segment, sizeof segment, "%s", name);
    if (wa_segment_parse(segment, size, &tli, &segno))
        info.start = info.base = wa_segment_start(segno, size);
    info.end = info.start + len;
    WA_CLEANUP(wa_buf_done) wa_buf packed = WA_BUF_INIT(len + len / 8 + WA_SMALL_MAX);
    WA_TRY(pack_named(repo, "quarantine", name, data, len, &packed, err));
    wa_body body = {.data = packed.data, .len = packed.len, .fd = -1};
    return wa_wal_quarantine_body(repo, branch, name, &body, &info, reason, ret_key, err);
}
