/*
 * src/repo/tail.c - chunks of the unfinished segment: put, seal, list, read, remove.
 *
 *   tail/<TLI8>-<id8>/<SEG24>/<EPOCH8>/<START16>.zst   container, kind "tail", frames of 1 MiB
 *
 * Public facts as in wal_info.c: bytes [base, end), new ones from start on. A seal has
 * base = start = end and no bytes.
 */
#include "walagent/repo/tail.h"

#include "repo_internal.h"
#include "wal_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SPILL_LIMIT (16u * 1024 * 1024)

static char *
segment_prefix(wa_repo *repo, const wa_branch *branch, wa_segno segno)
{
    char text[WA_BRANCH_TEXT], name[WA_SEGMENT_NAME];
    wa_segment_name(branch->tli, segno, wa_repo_cluster(repo)->segment_size, name);
    return wa_repo_key(repo, "tail/%s/%s/", wa_branch_format(branch, text), name);
}

static char *
chunk_key(wa_repo *repo, const wa_branch *branch, uint32_t epoch, wa_lsn start)
{
    char lsn[WA_LSN_TEXT];
    wa_segno segno = wa_segno_of(start, wa_repo_cluster(repo)->segment_size);
    WA_CLEANUP(wa_freep) char *prefix = segment_prefix(repo, branch, segno);
    return wa_format("%s%08X/%s.zst", prefix, epoch, wa_lsn_hex(start, lsn));
}

wa_status
wa_tail_head(wa_repo *repo, const wa_branch *branch, uint32_t epoch, wa_lsn start, wa_wal_info *ret,
             wa_error *err)
{
    WA_CLEANUP(wa_freep) char *key = chunk_key(repo, branch, epoch, start);
    return wa_wal_object_info(repo, key, ret, err);
}

/* The name is taken: fine when it is what we wanted to write (a lost reply, or another writer with
 * the same history), else EXISTS. */
static wa_status
same_chunk(wa_repo *repo, const char *key, const wa_wal_info *mine, wa_error *err)
{
    wa_wal_info there = {0};
    WA_TRY(wa_wal_object_info(repo, key, &there, err));
    if (there.base == mine->base && there.end == mine->end && strcmp(there.xxh3, mine->xxh3) == 0) {
        wa_error_clear(err);
        return WA_OK;
    }
    char begin[WA_LSN_TEXT], end[WA_LSN_TEXT];
    return wa_error_set(err, WA_EXISTS, "\"%s\" exists with other bytes: %s to %s by %s", key,
                        wa_lsn_format(there.base, begin), wa_lsn_format(there.end, end),
                        there.writer);
}

static wa_status
fill(wa_container_writer *w, uint64_t size, wa_tail_read_fn read, void *arg, wa_error *err)
{
    for (uint64_t offset = 0; offset < size;) {
        void *room = NULL;
        size_t len = 0;
        WA_TRY(wa_container_space(w, &room, &len, err));
        len = len > size - offset ? (size_t)(size - offset) : len;
        WA_TRY(read(arg, offset, room, len, err));
        WA_TRY(wa_container_advance(w, len, err));
        offset += len;
    }
    return WA_OK;
}

static wa_status
put_chunk(wa_repo *repo, wa_wal_info *info, wa_tail_read_fn read, void *arg,
          const wa_wal_facts *facts, wa_error *err)
{
    snprintf(info->writer, sizeof info->writer, "%s", wa_repo_writer(repo));
    WA_CLEANUP(wa_spill_freep)
    wa_spill *spill = wa_spill_new(SPILL_LIMIT, wa_repo_scratch_dir(repo));
    WA_CLEANUP(wa_container_writer_freep) wa_container_writer *w = NULL;
    WA_TRY(wa_container_writer_new(wa_spill_sink(spill), NULL, wa_repo_level(repo), WA_FRAME_TAIL,
                                   &w, err));
    WA_TRY(fill(w, info->raw_size, read, arg, err));
    wa_container_hash(w, info->xxh3);
    WA_CLEANUP(wa_json_freep) json_t *bulky = NULL;
    WA_CLEANUP(wa_json_freep) json_t *frame = wa_wal_facts_frame(repo, "tail", info, facts, &bulky);
    WA_TRY(wa_container_finish(w, frame, bulky, err));
    WA_CLEANUP(wa_freep) char *key = chunk_key(repo, &info->branch, info->epoch, info->start);
    WA_CLEANUP(wa_freep) char *meta = wa_wal_info_meta("tail", info);
    wa_body body;
    WA_TRY(wa_spill_body(spill, &body, err));
    wa_status status = wa_store_put(wa_repo_store(repo), key, &body, meta, WA_PUT_CREATE, err);
    return status == WA_EXISTS ? same_chunk(repo, key, info, err) : status;
}

wa_status
wa_tail_put_from(wa_repo *repo, const wa_branch *branch, uint32_t epoch, wa_lsn start, wa_lsn base,
                 wa_lsn end, wa_tail_read_fn read, void *arg, const wa_wal_facts *facts,
                 bool checked, wa_error *err)
{
    uint64_t size = wa_repo_cluster(repo)->segment_size;
    wa_segno segno = wa_segno_of(start, size);
    wa_lsn first = wa_segment_start(segno, size);
    if ((base != start && base != first) || base > start || end <= start || end > first + size) {
        char from[WA_LSN_TEXT], to[WA_LSN_TEXT];
        return wa_error_set(err, WA_INVALID, "a chunk from %s to %s does not fit its segment",
                            wa_lsn_format(start, from), wa_lsn_format(end, to));
    }
    wa_wal_info info = {.branch = *branch,
                        .start = start,
                        .base = base,
                        .end = end,
                        .raw_size = end - base,
                        .epoch = epoch,
                        .checked = checked};
    return put_chunk(repo, &info, read, arg, facts, err);
}

static wa_status
read_memory(void *arg, uint64_t offset, void *out, size_t len, wa_error *err)
{
    (void)err;
    memcpy(out, *(const uint8_t *const *)arg + offset, len);
    return WA_OK;
}

wa_status
wa_tail_put(wa_repo *repo, const wa_branch *branch, uint32_t epoch, wa_lsn start, wa_lsn base,
            const void *data, size_t len, const wa_wal_facts *facts, bool checked, wa_error *err)
{
    return wa_tail_put_from(repo, branch, epoch, start, base, base + len, read_memory, &data, facts,
                            checked, err);
}

wa_status
wa_tail_put_seal(wa_repo *repo, const wa_branch *branch, uint32_t epoch, wa_lsn start,
                 wa_error *err)
{
    wa_wal_info info = {.branch = *branch,
                        .start = start,
                        .base = start,
                        .end = start,
                        .epoch = epoch,
                        .checked = true};
    return put_chunk(repo, &info, NULL, NULL, NULL, err);
}

wa_status
wa_tail_is_seal(wa_repo *repo, const wa_chunk *chunk, bool *ret, wa_error *err)
{
    wa_wal_info info = {0};
    WA_TRY(wa_wal_object_info(repo, chunk->key, &info, err));
    *ret = info.base == info.end;
    return WA_OK;
}

void
wa_chunks_done(wa_chunks *c)
{
    for (size_t i = 0; i < c->count; i++)
        free(c->items[i].key);
    free(c->items);
    *c = (wa_chunks){0};
}

typedef struct list_state {
    wa_chunks chunks;
    size_t capacity, prefix_len;
    wa_lsn first, last; /* LSNs of the segment */
    wa_tli tli;         /* in a listing of several segments */
    uint64_t segment_size;
} list_state;

/* "<EPOCH8>/<START16>.zst" */
static wa_status
take_name(list_state *s, const wa_object *object, const char *rest)
{
    uint64_t epoch = 0;
    wa_lsn start = 0;
    char hex[17];
    if (strlen(rest) != 29 || rest[8] != '/' || strcmp(rest + 25, ".zst") != 0 ||
        !wa_parse_hex(rest, 8, &epoch))
        return WA_OK; /* no chunk */
    memcpy(hex, rest + 9, 16);
    hex[16] = '\0';
    if (!wa_lsn_parse_hex(hex, &start) || start < s->first || start > s->last)
        return WA_OK;
    if (s->chunks.count == s->capacity) {
        s->capacity = s->capacity == 0 ? 64 : 2 * s->capacity;
        s->chunks.items = wa_reallocarray(s->chunks.items, s->capacity, sizeof *s->chunks.items);
    }
    s->chunks.items[s->chunks.count++] = (wa_chunk){.epoch = (uint32_t)epoch,
                                                    .start = start,
                                                    .stored_size = object->size,
                                                    .modified = object->modified,
                                                    .key = wa_strdup(object->key)};
    return WA_OK;
}

static wa_status
take_chunk(void *arg, const wa_object *object, wa_error *err)
{
    (void)err;
    list_state *s = arg;
    return take_name(s, object, object->key + s->prefix_len);
}

/* "<SEG24>/<EPOCH8>/<START16>.zst" */
static wa_status
take_chunk_of_any(void *arg, const wa_object *object, wa_error *err)
{
    (void)err;
    list_state *s = arg;
    const char *rest = object->key + s->prefix_len;
    char name[WA_SEGMENT_NAME];
    wa_tli tli = 0;
    wa_segno segno = 0;
    if (strlen(rest) < 25 || rest[24] != '/')
        return WA_OK;
    memcpy(name, rest, 24);
    name[24] = '\0';
    if (!wa_segment_parse(name, s->segment_size, &tli, &segno) || tli != s->tli)
        return WA_OK;
    s->first = wa_segment_start(segno, s->segment_size);
    s->last = s->first + s->segment_size - 1;
    return take_name(s, object, rest + 25);
}

wa_status
wa_tail_list(wa_repo *repo, const wa_branch *branch, wa_segno segno, wa_chunks *ret, wa_error *err)
{
    uint64_t size = wa_repo_cluster(repo)->segment_size;
    WA_CLEANUP(wa_freep) char *prefix = segment_prefix(repo, branch, segno);
    list_state state = {.prefix_len = strlen(prefix),
                        .first = wa_segment_start(segno, size),
                        .last = wa_segment_start(segno, size) + size - 1};
    wa_list_options options = {.prefix = prefix};
    wa_status status = wa_store_list(wa_repo_store(repo), &options, take_chunk, &state, err);
    if (status != WA_OK) {
        wa_chunks_done(&state.chunks);
        return status;
    }
    *ret = state.chunks; /* the store's order is by epoch, then start */
    return WA_OK;
}

wa_status
wa_tail_settle(wa_repo *repo, const wa_branch *branch, wa_segno segno, size_t *ret_count,
               wa_error *err)
{
    WA_CLEANUP(wa_chunks_done) wa_chunks chunks = {0};
    WA_CLEANUP(wa_strv_done) wa_strv keys = {0};
    WA_TRY(wa_tail_list(repo, branch, segno, &chunks, err));
    for (size_t i = 0; i < chunks.count; i++)
        wa_strv_add(&keys, chunks.items[i].key);
    if (ret_count != NULL)
        *ret_count = chunks.count;
    return wa_store_settle(wa_repo_store(repo), &keys, err);
}

wa_status
wa_tail_list_from(wa_repo *repo, const wa_branch *branch, wa_segno segno, wa_chunks *ret,
                  wa_error *err)
{
    char text[WA_BRANCH_TEXT];
    WA_CLEANUP(wa_freep)
    char *prefix = wa_repo_key(repo, "tail/%s/", wa_branch_format(branch, text));
    WA_CLEANUP(wa_freep) char *after = segment_prefix(repo, branch, segno);
    list_state state = {.prefix_len = strlen(prefix),
                        .tli = branch->tli,
                        .segment_size = wa_repo_cluster(repo)->segment_size};
    wa_list_options options = {.prefix = prefix, .after = after};
    wa_status status = wa_store_list(wa_repo_store(repo), &options, take_chunk_of_any, &state, err);
    if (status != WA_OK) {
        wa_chunks_done(&state.chunks);
        return status;
    }
    *ret = state.chunks; /* the store's order is by segment, epoch, then start */
    return WA_OK;
}

wa_status
wa_tail_get(wa_repo *repo, const wa_branch *branch, wa_segno segno, const wa_chunk *chunk,
            wa_buf *ret, wa_wal_info *ret_info, wa_wal_facts *ret_facts, wa_error *err)
{
    uint64_t size = wa_repo_cluster(repo)->segment_size;
    WA_CLEANUP(wa_freep) char *key = chunk_key(repo, branch, chunk->epoch, chunk->start);
    WA_ASSERT(wa_segno_of(chunk->start, size) == segno);
    WA_CLEANUP(wa_buf_done) wa_buf stored = WA_BUF_INIT(size + size / 8 + WA_SMALL_MAX);
    WA_TRY(wa_store_get(wa_repo_store(repo), key, 0, UINT64_MAX, &stored, NULL, err));
    WA_CLEANUP(wa_ranges_freep)
    wa_ranges *ranges = wa_ranges_of_memory(stored.data, stored.len, key);
    WA_CLEANUP(wa_container_freep) wa_container *c = NULL;
    wa_wal_info info = {0};
    WA_TRY(wa_container_open(ranges, &c, err));
    WA_TRY(wa_wal_check_place(c, key, "tail", branch, chunk->start, &info, err));
    if (info.raw_size > size || info.base < wa_segment_start(segno, size) ||
        info.end > wa_segment_start(segno, size) + size)
        return wa_error_set(err, WA_CORRUPT, "chunk \"%s\" does not fit its segment", key);
    wa_wal_facts facts;
    wa_wal_facts_init(&facts);
    wa_status status = wa_wal_container_facts(c, key, &facts, err);
    if (status != WA_OK && status != WA_NOT_FOUND)
        return status;
    if (status == WA_NOT_FOUND) /* written without: its records would have to be looked at */
        facts.overflow = info.end > info.base;
    wa_error_clear(err);
    WA_CLEANUP(wa_freep) char *bytes = wa_malloc(info.raw_size + 1);
    size_t filled = 0;
    WA_CLEANUP(wa_sink_freep)
    wa_sink *sink = wa_sink_to_memory(bytes, info.raw_size, &filled, key);
    WA_TRY(wa_container_read_all(c, NULL, sink, err));
    if (filled != info.raw_size)
        return wa_error_set(err, WA_CORRUPT, "chunk \"%s\" gave %zu bytes", key, filled);
    WA_TRY(wa_buf_append(ret, bytes, filled, err));
    info.stored_size = stored.len;
    info.modified = chunk->modified;
    if (ret_info != NULL)
        *ret_info = info;
    if (ret_facts != NULL)
        *ret_facts = facts;
    return WA_OK;
}

wa_status
wa_tail_segments(wa_repo *repo, const wa_branch *branch, wa_segno **ret, size_t *ret_count,
                 wa_error *err)
{
    char text[WA_BRANCH_TEXT];
    WA_CLEANUP(wa_strv_done) wa_strv keys = {0};
    WA_CLEANUP(wa_freep)
    char *prefix = wa_repo_key(repo, "tail/%s/", wa_branch_format(branch, text));
    WA_TRY(wa_repo_list(repo, prefix, true, NULL, &keys, err));
    WA_CLEANUP(wa_freep) wa_segno *segments = wa_calloc(keys.count + 1, sizeof *segments);
    size_t count = 0;
    for (size_t i = 0; i < keys.count; i++) {
        WA_CLEANUP(wa_freep) char *name = wa_key_tail(keys.items[i]);
        wa_tli tli = 0;
        if (wa_segment_parse(name, wa_repo_cluster(repo)->segment_size, &tli, &segments[count]) &&
            tli == branch->tli)
            count++;
    }
    *ret = WA_TAKE(segments);
    *ret_count = count;
    return WA_OK;
}
