/*
 * codec/container_writer.c - raw bytes in, frames out in order, facts and seek table at the end.
 * The format's byte table is in container_internal.h.
 *
 * A ring of slots, each with room for one raw frame and its compressed form: [oldest, oldest +
 * in_flight) are at the workers, `current` is being filled. Results are written to the sink by the
 * caller's thread, oldest first. Without a pool there is one slot, and whole frames are compressed
 * where the caller has them; its memory is the compressor's.
 *
 * With a pool, compressors and raw frames' memory are the pool's: a slot has some only while it
 * holds bytes that are not compressed, so a writer that waits to be committed holds only what is
 * compressed of its last frames, and the next one gets warm pages. Frames that are lent need no
 * memory of the slot: of them more may be at the workers, so that the caller can do something else
 * than waiting for them.
 *
 * A pool's workers hash, too, each its frame when it is that one's turn: before compressing it, or,
 * when the frame before is not hashed yet, afterwards. They wait only for frames that were given to
 * the pool before theirs, which therefore are at work.
 */
#include "container_internal.h"

#include "walagent/base/bytes.h"
#include "walagent/base/crc32c.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>
#include <zstd_errors.h>

/*
 * At level 3 zstd's own tables for large inputs (17, 16: 768 KiB a worker) miss the second-level
 * cache. A quarter of them finds what there is to find in heap pages, index pages and WAL, where
 * matches are near: 30 to 40 % less processor time, size 1 to 4 % less; of text and programs 1 to
 * 4 % more.
 */
#define LEVEL_3_HASH_LOG 15
#define LEVEL_3_CHAIN_LOG 14
#define LENT_AHEAD 8 /* frames, beyond those of our own memory */

typedef struct slot {
    wa_job job; /* first: the job is the slot */
    wa_container_writer *writer;
    uint8_t *raw; /* until it is compressed */
    size_t raw_len;
    const void *source;  /* raw, or the caller's bytes */
    wa_frame_fill *fill; /* brings what is not in raw yet; NULL: nothing, or it has run */
    wa_status filled;    /* how that went */
    wa_error error;
    uint64_t number; /* of the frame */
    void *out;       /* the frame, `result` bytes; the next one's when there is no pool */
    size_t result;   /* of ZSTD_compress2 */
} slot;

/* A worker's own: what it compresses goes into `room` first, and from there into as much memory as
 * it needs. Without a pool: the writer's own or lent, with the frame that is filled. */
struct wa_compressor {
    ZSTD_CCtx *zstd;
    void *room;
    size_t size; /* of room */
    uint8_t *raw;
    size_t raw_size;
};

struct wa_container_writer {
    wa_sink *to;
    wa_pool *pool;
    int level;
    size_t frame_size, bound;
    bool broken;
    wa_compressor *own; /* without a pool */
    bool is_lent;       /* own is the caller's */
    slot *slots;
    size_t slot_count, oldest, in_flight;
    size_t own_count; /* slots that may be at work when one with memory of its own is added */
    slot *current;    /* NULL: none has room yet */
    wa_xxh *hash;     /* with a pool: of the worker whose frame is the next in turn */
    wa_mutex mutex;   /* guards, for the workers' turns: */
    wa_cond turned;
    uint64_t hashed;    /* frames */
    uint64_t submitted; /* frames; the caller's */
    uint32_t frames_crc;
    uint64_t raw_size, stored_size;
    wa_buf table; /* seek table entries */
    bool publish_sums;
    wa_buf sums; /* hex digits */
};

wa_status
wa_container_writer_new(wa_sink *to, wa_pool *pool, int level, size_t frame_size,
                        wa_container_writer **ret, wa_error *err)
{
    WA_ASSERT(frame_size > 0 && frame_size <= WA_FRAME_MAX);
    if (level < 1 || level > 19)
        return wa_error_set(err, WA_INVALID, "compression level %d is not in 1..19", level);
    wa_container_writer *w = wa_calloc(1, sizeof *w);
    w->to = to;
    w->pool = pool;
    w->level = level;
    w->frame_size = frame_size;
    w->bound = ZSTD_compressBound(frame_size);
    w->own_count = pool ? wa_pool_workers(pool) + 2 : 1;
    w->slot_count = pool ? w->own_count + LENT_AHEAD : 1;
    w->slots = wa_calloc(w->slot_count, sizeof(slot));
    w->hash = wa_xxh_new();
    wa_mutex_init(&w->mutex);
    wa_cond_init(&w->turned);
    wa_buf_init(&w->table, (size_t)WA_FRAMES_MAX * WA_SEEK_ENTRY + WA_SEEK_FOOTER);
    wa_buf_init(&w->sums, WA_SUMS_MAX * WA_SUM_DIGITS);
    *ret = w;
    return WA_OK;
}

void
wa_container_publish_sums(wa_container_writer *w)
{
    WA_ASSERT(w->raw_size == 0);
    w->publish_sums = true;
}

/* ---- compressors ---- */

wa_compressor *
wa_compressor_new(void)
{
    wa_compressor *c = wa_calloc(1, sizeof *c);
    c->zstd = ZSTD_createCCtx();
    WA_ASSERT(c->zstd);
    return c;
}

void
wa_compressor_free(wa_compressor *c)
{
    if (!c)
        return;
    ZSTD_freeCCtx(c->zstd);
    free(c->room);
    free(c->raw);
    free(c);
}

static void *
make_compressor(void)
{
    return wa_compressor_new();
}

static void
drop_compressor(void *arg)
{
    wa_compressor_free(arg);
}

void
wa_container_use(wa_container_writer *w, wa_compressor *c)
{
    WA_ASSERT(!w->pool && !w->own && w->raw_size == 0);
    w->own = c;
    w->is_lent = true;
}

/* Of a writer without a pool. */
static wa_compressor *
own_compressor(wa_container_writer *w)
{
    if (!w->own)
        w->own = wa_compressor_new();
    return w->own;
}

/* The slot of a writer without a pool has nothing of its own. */
static void
give_compressor_back(wa_container_writer *w)
{
    if (!w->is_lent)
        wa_compressor_free(w->own);
    w->own = NULL;
    w->current = NULL;
    *w->slots = (slot){.raw = NULL};
}

/* ---- frames ---- */

/* A lent one serves many frames: it is worth a huge page. */
static uint8_t *
raw_of_compressor(wa_container_writer *w)
{
    wa_compressor *c = own_compressor(w);
    if (c->raw_size < w->frame_size) {
        free(c->raw);
        c->raw = w->is_lent ? wa_malloc_large(w->frame_size) : wa_malloc(w->frame_size);
        c->raw_size = w->frame_size;
    }
    return c->raw;
}

static void
take_raw(wa_container_writer *w, slot *s)
{
    if (!s->raw)
        s->raw = w->pool ? wa_pool_take_block(w->pool, w->frame_size) : raw_of_compressor(w);
}

static void
drop_raw(wa_container_writer *w, slot *s)
{
    wa_pool_give_block(w->pool, s->raw, w->frame_size);
    s->raw = NULL;
}

void
wa_container_writer_free(wa_container_writer *w)
{
    if (!w)
        return;
    for (; w->in_flight > 0; w->in_flight--) {
        wa_pool_wait(w->pool, &w->slots[w->oldest].job);
        w->oldest = (w->oldest + 1) % w->slot_count;
    }
    for (size_t i = 0; w->pool && i < w->slot_count; i++) {
        drop_raw(w, &w->slots[i]);
        free(w->slots[i].out);
    }
    if (!w->pool)
        give_compressor_back(w);
    free(w->slots);
    wa_xxh_free(w->hash);
    wa_cond_done(&w->turned);
    wa_mutex_done(&w->mutex);
    wa_buf_done(&w->table);
    wa_buf_done(&w->sums);
    free(w);
}

static wa_status
broken(wa_container_writer *w, wa_status status)
{
    w->broken = true;
    return status;
}

static wa_status
check_usable(const wa_container_writer *w, wa_error *err)
{
    if (w->broken)
        return wa_error_set(err, WA_FAILED,
                            "the object was finished, or writing it has failed before");
    return WA_OK;
}

static void
set_parameter(ZSTD_CCtx *ctx, ZSTD_cParameter parameter, int value)
{
    WA_ASSERT(!ZSTD_isError(ZSTD_CCtx_setParameter(ctx, parameter, value)));
}

/* A pool's compressor has served other writers before: everything is set anew, its tables are
 * kept. */
static wa_compressor *
ready_compressor(wa_container_writer *w, size_t worker)
{
    wa_compressor *c = w->pool ? wa_pool_context(w->pool, worker, make_compressor, drop_compressor)
                               : own_compressor(w);
    if (c->size < w->bound) {
        free(c->room);
        c->room = wa_malloc(w->bound);
        c->size = w->bound;
    }
    WA_ASSERT(!ZSTD_isError(ZSTD_CCtx_reset(c->zstd, ZSTD_reset_session_and_parameters)));
    set_parameter(c->zstd, ZSTD_c_compressionLevel, w->level);
    set_parameter(c->zstd, ZSTD_c_checksumFlag, 1);
    set_parameter(c->zstd, ZSTD_c_contentSizeFlag, 1);
    if (w->level == 3) {
        set_parameter(c->zstd, ZSTD_c_hashLog, LEVEL_3_HASH_LOG);
        set_parameter(c->zstd, ZSTD_c_chainLog, LEVEL_3_CHAIN_LOG);
    }
    return c;
}

/* ---- the workers of a pool ---- */

/* patient: until the frames before are hashed. */
static bool
is_turn(wa_container_writer *w, uint64_t number, bool patient)
{
    WA_LOCK(&w->mutex);
    while (patient && w->hashed != number)
        wa_cond_wait(&w->turned, &w->mutex);
    return w->hashed == number;
}

static bool
hash_slot(wa_container_writer *w, const slot *s, bool patient)
{
    if (!is_turn(w, s->number, patient))
        return false;
    if (s->filled == WA_OK) /* else what it should hold is not there */
        wa_xxh_update(w->hash, s->source, s->raw_len);
    WA_LOCK(&w->mutex);
    w->hashed++;
    wa_cond_broadcast(&w->turned);
    return true;
}

static void
fill_slot(wa_container_writer *w, slot *s)
{
    wa_frame_fill *fill = WA_TAKE(s->fill);

    s->filled = WA_OK;
    if (!fill)
        return;
    fill->status = s->filled = fill->run(fill, &fill->error);
    if (s->filled != WA_OK)
        s->error = fill->error;
    WA_LOCK(&w->mutex);
    fill->filled = true; /* from here on it may be gone */
    wa_cond_broadcast(&w->turned);
}

/* A result may wait for long to be written: it keeps no more than it needs. */
static void
keep_result(slot *s, const wa_compressor *c)
{
    if (ZSTD_isError(s->result))
        return;
    s->out = wa_malloc(s->result);
    memcpy(s->out, c->room, s->result);
}

static void
work_on_slot(wa_job *job, size_t worker)
{
    slot *s = (slot *)job;
    wa_container_writer *w = s->writer;
    wa_compressor *c = ready_compressor(w, worker);

    fill_slot(w, s);
    bool hashed = hash_slot(w, s, s->filled != WA_OK);
    if (s->filled == WA_OK)
        s->result = ZSTD_compress2(c->zstd, c->room, w->bound, s->source, s->raw_len);
    if (!hashed)
        hash_slot(w, s, true);
    drop_raw(w, s);
    if (s->filled == WA_OK)
        keep_result(s, c);
}

/* ---- frames on their way out ---- */

static void
compress_here(wa_container_writer *w, slot *s)
{
    wa_compressor *c = ready_compressor(w, 0);

    s->result = ZSTD_compress2(c->zstd, c->room, w->bound, s->source, s->raw_len);
    s->out = c->room;
}

static wa_status
write_stored(wa_container_writer *w, const void *data, size_t len, wa_error *err)
{
    wa_status status = wa_sink_write(w->to, data, len, err);

    if (status != WA_OK)
        return broken(w, status);
    w->stored_size += len;
    return WA_OK;
}

static wa_status
add_entry(wa_container_writer *w, size_t size, size_t raw_size, wa_error *err)
{
    uint8_t entry[WA_SEEK_ENTRY];

    wa_put_u32le(entry, (uint32_t)size);
    wa_put_u32le(entry + 4, (uint32_t)raw_size);
    if (wa_buf_append(&w->table, entry, sizeof entry, err) != WA_OK)
        return broken(
            w, wa_error_set(err, WA_NO_SPACE, "an object has more than %u frames", WA_FRAMES_MAX));
    return WA_OK;
}

/* zstd has computed it already: it is the frame's end. */
static void
note_sum(wa_container_writer *w, const uint8_t *frame, size_t size)
{
    char hex[WA_CRC_HEX];
    wa_error ignored = WA_ERROR_INIT;

    if (!w->publish_sums)
        return;
    wa_container_crc_text(wa_get_u32le(frame + size - 4), hex);
    if (wa_buf_append(&w->sums, hex, WA_SUM_DIGITS, &ignored) != WA_OK)
        w->publish_sums = false;
}

static wa_status
write_frame(wa_container_writer *w, slot *s, wa_error *err)
{
    if (s->filled != WA_OK) {
        *err = s->error;
        return broken(w, s->filled);
    }
    if (ZSTD_isError(s->result))
        return broken(w, wa_error_set(err, WA_FAILED, "could not compress %zu bytes: %s",
                                      s->raw_len, ZSTD_getErrorName(s->result)));
    WA_TRY(add_entry(w, s->result, s->raw_len, err));
    WA_TRY(write_stored(w, s->out, s->result, err));
    w->frames_crc = wa_crc32c(w->frames_crc, s->out, s->result);
    note_sum(w, s->out, s->result);
    s->raw_len = 0;
    if (w->pool)
        wa_freep(&s->out);
    return WA_OK;
}

/* Write the oldest frame that is at the workers. */
static wa_status
collect_oldest(wa_container_writer *w, wa_error *err)
{
    slot *s = &w->slots[w->oldest];

    wa_pool_wait(w->pool, &s->job);
    w->oldest = (w->oldest + 1) % w->slot_count;
    w->in_flight--;
    return write_frame(w, s, err);
}

/* Compress len bytes at source, now or by a worker. */
static wa_status
submit(wa_container_writer *w, slot *s, const void *source, size_t len, wa_error *err)
{
    s->writer = w;
    s->source = source;
    s->raw_len = len;
    s->number = w->submitted++;
    if (!w->pool) {
        compress_here(w, s);
        return write_frame(w, s, err);
    }
    if (s->fill)
        s->fill->given = true;
    s->job = (wa_job){.run = work_on_slot};
    wa_pool_submit(w->pool, &s->job);
    w->in_flight++;
    while (w->in_flight > 0 && wa_pool_poll(w->pool, &w->slots[w->oldest].job))
        WA_TRY(collect_oldest(w, err));
    return WA_OK;
}

static wa_status
submit_current(wa_container_writer *w, wa_error *err)
{
    slot *s = WA_TAKE(w->current);

    return s ? submit(w, s, s->raw, s->raw_len, err) : WA_OK;
}

wa_status
wa_container_space(wa_container_writer *w, void **ret_room, size_t *ret_len, wa_error *err)
{
    WA_TRY(check_usable(w, err));
    if (w->current && w->current->raw_len == w->frame_size)
        WA_TRY(submit_current(w, err));
    if (!w->current) {
        while (w->in_flight >= w->own_count)
            WA_TRY(collect_oldest(w, err));
        slot *s = &w->slots[(w->oldest + w->in_flight) % w->slot_count];
        s->raw_len = 0;
        take_raw(w, s);
        w->current = s;
    }
    *ret_room = w->current->raw + w->current->raw_len;
    *ret_len = w->frame_size - w->current->raw_len;
    return WA_OK;
}

wa_status
wa_container_advance(wa_container_writer *w, size_t len, wa_error *err)
{
    WA_TRY(check_usable(w, err));
    if (len == 0)
        return WA_OK;
    WA_ASSERT(w->current && len <= w->frame_size - w->current->raw_len);
    WA_ASSERT(!w->current->fill || len == w->frame_size - w->current->raw_len);
    if (!w->pool)
        wa_xxh_update(w->hash, w->current->raw + w->current->raw_len, len);
    w->current->raw_len += len;
    w->raw_size += len;
    return w->current->raw_len == w->frame_size ? submit_current(w, err) : WA_OK;
}

void
wa_container_fill_later(wa_container_writer *w, wa_frame_fill *fill)
{
    WA_ASSERT(w->pool && w->current && !w->current->fill);
    WA_LOCK(&w->mutex);
    fill->given = fill->filled = false;
    w->current->fill = fill;
}

wa_status
wa_container_wait_filled(wa_container_writer *w, wa_frame_fill *fill, wa_error *err)
{
    WA_LOCK(&w->mutex);
    while (!fill->filled)
        wa_cond_wait(&w->turned, &w->mutex);
    if (fill->status != WA_OK)
        *err = fill->error;
    return fill->status;
}

/* A whole frame from where it is. */
static wa_status
submit_in_place(wa_container_writer *w, const void *data, wa_error *err)
{
    if (w->in_flight == w->slot_count)
        WA_TRY(collect_oldest(w, err));
    slot *s = &w->slots[(w->oldest + w->in_flight) % w->slot_count];
    WA_TRY(submit(w, s, data, w->frame_size, err));
    if (!w->pool)
        wa_xxh_update(w->hash, data, w->frame_size);
    w->raw_size += w->frame_size;
    return WA_OK;
}

static wa_status
write_bytes(wa_container_writer *w, const void *data, size_t len, bool in_place, wa_error *err)
{
    const uint8_t *from = data;

    WA_TRY(check_usable(w, err));
    while (len > 0) {
        size_t step = w->frame_size;
        if (in_place && !w->current && len >= step) {
            WA_TRY(submit_in_place(w, from, err));
        } else {
            void *room;
            WA_TRY(wa_container_space(w, &room, &step, err));
            step = len < step ? len : step;
            if (from != room)
                memcpy(room, from, step);
            WA_TRY(wa_container_advance(w, step, err));
        }
        from += step;
        len -= step;
    }
    return WA_OK;
}

wa_status
wa_container_write(wa_container_writer *w, const void *data, size_t len, wa_error *err)
{
    return write_bytes(w, data, len, w->pool == NULL, err);
}

wa_status
wa_container_write_lent(wa_container_writer *w, const void *data, size_t len, wa_error *err)
{
    return write_bytes(w, data, len, true, err);
}

uint64_t
wa_container_raw_size(const wa_container_writer *w)
{
    return w->raw_size;
}

uint64_t
wa_container_stored_size(const wa_container_writer *w)
{
    return w->stored_size;
}

char *
wa_container_hash(wa_container_writer *w, char out[static WA_XXH_HEX])
{
    if (!w->pool)
        return wa_xxh_hex(w->hash, out);
    is_turn(w, w->submitted, true);
    WA_CLEANUP(wa_xxh_freep) wa_xxh *hash = wa_xxh_copy(w->hash);
    if (w->current)
        wa_xxh_update(hash, w->current->raw, w->current->raw_len);
    return wa_xxh_hex(hash, out);
}

static wa_status
write_skippable(wa_container_writer *w, uint32_t magic, const void *data, size_t len, wa_error *err)
{
    uint8_t header[WA_SKIPPABLE_HEADER];

    wa_put_u32le(header, magic);
    wa_put_u32le(header + 4, (uint32_t)len);
    WA_TRY(write_stored(w, header, sizeof header, err));
    return write_stored(w, data, len, err);
}

static wa_status
write_json(wa_container_writer *w, uint32_t magic, const char *text, size_t max, const char *what,
           wa_error *err)
{
    size_t len = strlen(text);

    if (len > max)
        return broken(w, wa_error_set(err, WA_INVALID, "%s of %zu bytes pass the limit of %zu",
                                      what, len, max));
    WA_TRY(add_entry(w, WA_SKIPPABLE_HEADER + len, 0, err));
    return write_skippable(w, magic, text, len, err);
}

static char *
facts_text(wa_container_writer *w, const json_t *facts, size_t bulky_size)
{
    static const char *const own[] = {"raw_size", "xxh3", "frames_crc", "frame_sums", "bulky_size"};
    WA_CLEANUP(wa_json_freep) json_t *all = json_object();
    json_t *kind = json_object_get(facts, "kind");
    char hex[WA_XXH_HEX];

    WA_ASSERT(json_is_string(kind));
    for (size_t i = 0; i < WA_ARRAY_SIZE(own); i++)
        WA_ASSERT(!json_object_get(facts, own[i]));
    wa_json_set(all, "kind", json_incref(kind));
    WA_ASSERT(json_object_update(all, (json_t *)(uintptr_t)facts) == 0);
    wa_json_set_u64(all, "raw_size", w->raw_size);
    wa_json_set_string(all, "xxh3", wa_container_hash(w, hex));
    wa_json_set_string(all, "frames_crc", wa_container_crc_text(w->frames_crc, hex));
    if (w->publish_sums)
        wa_json_set_string(all, "frame_sums", wa_buf_str(&w->sums));
    if (bulky_size > 0)
        wa_json_set_u64(all, "bulky_size", bulky_size);
    return wa_container_seal(all);
}

static wa_status
write_seek_table(wa_container_writer *w, wa_error *err)
{
    uint8_t footer[WA_SEEK_FOOTER];
    size_t entries = w->table.len / WA_SEEK_ENTRY;

    wa_put_u32le(footer, (uint32_t)entries);
    footer[4] = 0;
    wa_put_u32le(footer + 5, WA_MAGIC_SEEKABLE);
    WA_TRY(wa_buf_append(&w->table, footer, sizeof footer, err));
    return write_skippable(w, WA_MAGIC_SEEK_TABLE, w->table.data, w->table.len, err);
}

wa_status
wa_container_settle(wa_container_writer *w, size_t most_at_workers, wa_error *err)
{
    WA_TRY(check_usable(w, err));
    if (w->current && w->current->raw_len > 0)
        WA_TRY(submit_current(w, err));
    while (w->in_flight > most_at_workers)
        WA_TRY(collect_oldest(w, err));
    return WA_OK;
}

wa_status
wa_container_finish(wa_container_writer *w, const json_t *facts, const json_t *bulky, wa_error *err)
{
    WA_CLEANUP(wa_freep) char *bulky_text = bulky ? wa_container_seal(bulky) : NULL;

    WA_TRY(wa_container_settle(w, 0, err));
    if (bulky_text)
        WA_TRY(write_json(w, WA_MAGIC_BULKY, bulky_text, WA_BULKY_MAX, "bulky facts", err));
    WA_CLEANUP(wa_freep)
    char *text = facts_text(w, facts, bulky_text ? strlen(bulky_text) : 0);
    WA_TRY(write_json(w, WA_MAGIC_FACTS, text, WA_FACTS_MAX, "facts", err));
    WA_TRY(write_seek_table(w, err));
    w->broken = true; /* nothing may follow */
    if (!w->pool)
        give_compressor_back(w);
    return WA_OK;
}

wa_status
wa_container_pack(const void *data, size_t len, int level, const json_t *facts, const json_t *bulky,
                  wa_buf *ret, wa_error *err)
{
    size_t before = ret->len;
    WA_CLEANUP(wa_sink_freep) wa_sink *sink = wa_sink_to_buf(ret);
    WA_CLEANUP(wa_container_writer_freep) wa_container_writer *w = NULL;

    WA_TRY(wa_container_writer_new(sink, NULL, level, WA_FRAME_TAIL, &w, err));
    wa_status status = wa_container_write(w, data, len, err);
    if (status == WA_OK)
        status = wa_container_finish(w, facts, bulky, err);
    if (status != WA_OK) {
        ret->len = before;
        if (ret->data)
            ret->data[before] = '\0';
    }
    return status;
}
