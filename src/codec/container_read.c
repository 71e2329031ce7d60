/*
 * codec/container_read.c - frames back to raw bytes: one, a range, everything.
 *
 * A data frame is accepted when its header is the one that the writer makes (checksum on, content
 * size set, no dictionary), it is exactly one frame, and zstd's checksum agrees.
 */
#include "container_internal.h"

#include "walagent/base/bytes.h"
#include "walagent/base/crc32c.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>
#include <zstd_errors.h>

#define FRAME_HEADER_MIN 6
#define DESCRIPTOR_LOW_BITS 0x1F /* unused, reserved, checksum, dictionary */
#define DESCRIPTOR_CHECKSUM 0x04
#define FETCH_MAX (8u * 1024 * 1024) /* compressed bytes of neighbouring frames read at once */
#define AHEAD_MAX (1024u * 1024)     /* the same where everything is read without a pool */

struct wa_decoder {
    ZSTD_DCtx *ctx;
    uint8_t *stored, *raw; /* scratch */
    size_t stored_capacity, raw_capacity;
};

wa_decoder *
wa_decoder_new(void)
{
    wa_decoder *d = wa_calloc(1, sizeof *d);
    d->ctx = ZSTD_createDCtx();
    WA_ASSERT(d->ctx);
    return d;
}

void
wa_decoder_free(wa_decoder *d)
{
    if (!d)
        return;
    ZSTD_freeDCtx(d->ctx);
    free(d->stored);
    free(d->raw);
    free(d);
}

static uint8_t *
scratch(uint8_t **buffer, size_t *capacity, size_t len)
{
    if (*capacity < len) {
        free(*buffer);
        *buffer = wa_malloc_large(len);
        *capacity = len;
    }
    return *buffer;
}

static wa_status
bad_frame(const wa_container *c, const wa_frame_info *info, const char *why, wa_error *err)
{
    return wa_error_set(err, WA_CORRUPT, "\"%s\" is damaged: frame at offset %" PRIu64 ": %s",
                        c->from->name, info->offset, why);
}

wa_status
wa_container_decode(const wa_container *c, wa_decoder *d, const wa_frame_info *info,
                    const void *compressed, void *out, wa_error *err)
{
    const uint8_t *frame = compressed;

    if (info->size < FRAME_HEADER_MIN ||
        ZSTD_getFrameContentSize(frame, info->size) != info->raw_size)
        return bad_frame(c, info, "it does not declare the size that the seek table tells", err);
    if ((frame[4] & DESCRIPTOR_LOW_BITS) != DESCRIPTOR_CHECKSUM)
        return bad_frame(c, info, "it has no checksum", err);
    size_t size = ZSTD_findFrameCompressedSize(frame, info->size);
    if (ZSTD_isError(size) || size != info->size)
        return bad_frame(c, info, "it does not end where the seek table tells", err);
    size = ZSTD_decompressDCtx(d->ctx, out, info->raw_size, frame, info->size);
    if (ZSTD_isError(size))
        return bad_frame(c, info, ZSTD_getErrorName(size), err);
    if (size != info->raw_size)
        return bad_frame(c, info, "it holds less than it declares", err);
    return WA_OK;
}

/* Decode the part of one frame that lies in [offset, end) to its place in out (out begins at
 * offset). */
static wa_status
decode_part(const wa_container *c, wa_decoder *d, const wa_frame_info *f, const uint8_t *stored,
            uint64_t offset, uint64_t end, uint8_t *out, wa_error *err)
{
    uint64_t frame_end = f->raw_offset + f->raw_size;

    if (f->raw_offset >= offset && frame_end <= end)
        return wa_container_decode(c, d, f, stored, out + (f->raw_offset - offset), err);
    uint64_t from = f->raw_offset > offset ? f->raw_offset : offset;
    uint64_t to = frame_end < end ? frame_end : end;
    uint8_t *raw = scratch(&d->raw, &d->raw_capacity, f->raw_size);
    WA_TRY(wa_container_decode(c, d, f, stored, raw, err));
    memcpy(out + (from - offset), raw + (from - f->raw_offset), (size_t)(to - from));
    return WA_OK;
}

wa_status
wa_container_read(const wa_container *c, wa_decoder *d, uint64_t offset, void *out, size_t len,
                  wa_error *err)
{
    uint64_t end = offset + len;

    if (offset > c->raw_size || len > c->raw_size - offset)
        return wa_error_set(err, WA_INVALID,
                            "\"%s\" has %" PRIu64 " bytes of content, not %zu at offset %" PRIu64,
                            c->from->name, c->raw_size, len, offset);
    if (len == 0)
        return WA_OK;
    for (size_t first = wa_container_frame_at(c, offset); /* left inside */;) {
        const wa_frame_info *f = &c->frames[first];
        size_t next = first + 1;
        size_t size = f->size;
        while (next < c->frame_count && c->frames[next].raw_offset < end &&
               c->frames[next].offset == f->offset + size &&
               size + c->frames[next].size <= FETCH_MAX)
            size += c->frames[next++].size;
        uint8_t *stored = scratch(&d->stored, &d->stored_capacity, size);
        WA_TRY(wa_ranges_read(c->from, f->offset, stored, size, err));
        for (size_t i = first; i < next; i++)
            WA_TRY(decode_part(c, d, &c->frames[i], stored + (c->frames[i].offset - f->offset),
                               offset, end, out, err));
        if (next == c->frame_count || c->frames[next].raw_offset >= end)
            return WA_OK;
        first = next;
    }
}

/* Reading everything: a ring of slots, fetched and decoded by the workers, consumed in order. */

typedef struct read_slot {
    wa_job job; /* first: the job is the slot */
    const wa_container *container;
    const wa_frame_taker *taker;
    const wa_frame_info *frame;
    wa_decoder *decoder;
    const uint8_t *stored; /* the frame: where it lies in memory, or in the decoder's */
    uint8_t *raw;          /* where the content goes: the decoder's, or the caller's memory */
    wa_status status;
    wa_error error;
} read_slot;

typedef struct read_all {
    const wa_container *container;
    wa_pool *pool;
    const wa_frame_taker *taker;
    uint8_t *out; /* of the whole content; NULL: each slot has its own memory */
    read_slot *slots;
    size_t slot_count, oldest, in_flight;
    uint8_t *ahead; /* without a pool: frames up to ahead_end, the first at ahead_offset */
    size_t ahead_capacity, ahead_end;
    uint64_t ahead_offset;
    wa_xxh *hash;
    uint32_t frames_crc;
    size_t wrong_sums;
} read_all;

static void
fetch_and_decode(wa_job *job, size_t worker)
{
    read_slot *s = (read_slot *)job;
    wa_decoder *d = s->decoder;
    const wa_frame_info *f = s->frame;

    (void)worker;
    if (s->raw == NULL)
        s->raw = scratch(&d->raw, &d->raw_capacity, f->raw_size);
    if (s->stored == NULL) {
        s->stored = scratch(&d->stored, &d->stored_capacity, f->size);
        s->status = wa_ranges_read(s->container->from, f->offset, d->stored, f->size, &s->error);
    }
    if (s->status == WA_OK)
        s->status = wa_container_decode(s->container, d, f, s->stored, s->raw, &s->error);
    if (s->status == WA_OK && s->taker->decoded != NULL)
        s->status = s->taker->decoded(s->taker->arg, f->raw_offset, s->raw, f->raw_size, &s->error);
}

static void
read_all_done(read_all *r)
{
    for (; r->in_flight > 0; r->in_flight--) {
        if (r->pool)
            wa_pool_wait(r->pool, &r->slots[r->oldest].job);
        r->oldest = (r->oldest + 1) % r->slot_count;
    }
    for (size_t i = 0; i < r->slot_count; i++)
        wa_decoder_free(r->slots[i].decoder);
    free(r->slots);
    free(r->ahead);
    wa_xxh_free(r->hash);
}

/* Frames are small where the whole is: several with one request. */
static wa_status
read_ahead(read_all *r, size_t index, const uint8_t **ret, wa_error *err)
{
    const wa_container *c = r->container;
    const wa_frame_info *f = &c->frames[index];

    if (index >= r->ahead_end) {
        size_t size = f->size, next = index + 1;
        while (next < c->frame_count && c->frames[next].offset == f->offset + size &&
               size + c->frames[next].size <= AHEAD_MAX)
            size += c->frames[next++].size;
        scratch(&r->ahead, &r->ahead_capacity, size);
        WA_TRY(wa_ranges_read(c->from, f->offset, r->ahead, size, err));
        r->ahead_offset = f->offset;
        r->ahead_end = next;
    }
    *ret = r->ahead + (f->offset - r->ahead_offset);
    return WA_OK;
}

static void
start_frame(read_all *r, const wa_frame_info *frame)
{
    read_slot *s = &r->slots[(r->oldest + r->in_flight) % r->slot_count];

    if (!s->decoder)
        s->decoder = wa_decoder_new();
    s->container = r->container;
    s->taker = r->taker;
    s->frame = frame;
    s->raw = r->out != NULL ? r->out + frame->raw_offset : NULL;
    s->status = WA_OK;
    wa_error_clear(&s->error);
    s->stored = wa_ranges_in_memory(r->container->from, frame->offset, frame->size);
    if (!r->pool && s->stored == NULL)
        s->status = read_ahead(r, (size_t)(frame - r->container->frames), &s->stored, &s->error);
    r->in_flight++;
    s->job = (wa_job){.run = fetch_and_decode};
    if (r->pool)
        wa_pool_submit(r->pool, &s->job);
    else if (s->status == WA_OK)
        fetch_and_decode(&s->job, 0);
}

/* Does the facts' checksum of the frame differ from the one at its end? The content has that: it
 * was unpacked. */
static bool
sum_is_wrong(const read_slot *s)
{
    const wa_container *c = s->container;

    return c->sums != NULL && wa_container_published_sum(c, (size_t)(s->frame - c->frames)) !=
                                  wa_get_u32le(s->stored + s->frame->size - sizeof(uint32_t));
}

static wa_status
consume_oldest(read_all *r, wa_error *err)
{
    read_slot *s = &r->slots[r->oldest];

    if (r->pool)
        wa_pool_wait(r->pool, &s->job);
    r->oldest = (r->oldest + 1) % r->slot_count;
    r->in_flight--;
    if (s->status != WA_OK) {
        *err = s->error;
        return s->status;
    }
    r->frames_crc = wa_crc32c(r->frames_crc, s->stored, s->frame->size);
    wa_xxh_update(r->hash, s->raw, s->frame->raw_size);
    r->wrong_sums += sum_is_wrong(s);
    if (r->taker->next == NULL)
        return WA_OK;
    return r->taker->next(r->taker->arg, s->raw, s->frame->raw_size, err);
}

static wa_status
check_whole(const wa_container *c, const wa_xxh *hash, uint32_t frames_crc, wa_error *err)
{
    char text[WA_XXH_HEX];

    if (strcmp(wa_xxh_hex(hash, text), c->xxh3) != 0)
        return wa_error_set(err, WA_CORRUPT,
                            "\"%s\" is damaged: its content is not the one that was written",
                            c->from->name);
    if (strcmp(wa_container_crc_text(frames_crc, text), c->frames_crc) != 0)
        return wa_error_set(err, WA_CORRUPT,
                            "\"%s\" is damaged: its frames are not those that were written",
                            c->from->name);
    return WA_OK;
}

/* Two more than work, so that none waits for what it fetches. What is in memory is not fetched, and
 * then each slot's fresh memory costs more than a worker that waits a moment for the caller. */
static size_t
slot_count(const wa_container *c, wa_pool *pool, const uint8_t *out)
{
    if (pool == NULL)
        return 1;
    bool fetched = wa_ranges_in_memory(c->from, 0, 0) == NULL;
    return wa_pool_workers(pool) + (fetched || out != NULL ? 2 : 0);
}

static wa_status
read_everything(const wa_container *c, wa_pool *pool, const wa_frame_taker *taker, uint8_t *out,
                size_t *ret_wrong_sums, wa_error *err)
{
    WA_CLEANUP(read_all_done)
    read_all r = {.container = c, .pool = pool, .taker = taker, .out = out};

    r.slot_count = slot_count(c, pool, out);
    r.slots = wa_calloc(r.slot_count, sizeof *r.slots);
    r.hash = wa_xxh_new();
    for (size_t i = 0; i < c->frame_count; i++) {
        if (r.in_flight == r.slot_count)
            WA_TRY(consume_oldest(&r, err));
        start_frame(&r, &c->frames[i]);
    }
    while (r.in_flight > 0)
        WA_TRY(consume_oldest(&r, err));
    WA_TRY(check_whole(c, r.hash, r.frames_crc, err));
    if (ret_wrong_sums != NULL)
        *ret_wrong_sums = r.wrong_sums;
    return WA_OK;
}

static wa_status
next_to_sink(void *arg, const void *raw, size_t len, wa_error *err)
{
    return wa_sink_write(arg, raw, len, err);
}

wa_status
wa_container_read_all(const wa_container *c, wa_pool *pool, wa_sink *to, wa_error *err)
{
    wa_frame_taker taker = {.next = next_to_sink, .arg = to};
    return read_everything(c, pool, &taker, NULL, NULL, err);
}

wa_status
wa_container_check_all(const wa_container *c, wa_pool *pool, wa_sink *to, size_t *ret_wrong_sums,
                       wa_error *err)
{
    wa_frame_taker taker = {.next = next_to_sink, .arg = to};
    return read_everything(c, pool, &taker, NULL, ret_wrong_sums, err);
}

wa_status
wa_container_read_frames(const wa_container *c, wa_pool *pool, const wa_frame_taker *taker,
                         wa_error *err)
{
    return read_everything(c, pool, taker, NULL, NULL, err);
}

wa_status
wa_container_read_into(const wa_container *c, wa_pool *pool, void *out, size_t len, wa_error *err)
{
    if (len != c->raw_size)
        return wa_error_set(err, WA_INVALID, "\"%s\" has %" PRIu64 " bytes of content, not %zu",
                            c->from->name, c->raw_size, len);
    return read_everything(c, pool, &(wa_frame_taker){0}, out, NULL, err);
}

/* Straight into ret, whose len is not moved. */
static wa_status
unpack_frames(const wa_container *c, const uint8_t *data, wa_buf *ret, wa_error *err)
{
    WA_CLEANUP(wa_decoder_freep) wa_decoder *d = wa_decoder_new();
    uint32_t crc = 0;

    for (size_t i = 0; i < c->frame_count; i++) {
        const wa_frame_info *f = &c->frames[i];
        WA_TRY(wa_container_decode(c, d, f, data + f->offset, ret->data + ret->len + f->raw_offset,
                                   err));
        crc = wa_crc32c(crc, data + f->offset, f->size);
    }
    WA_CLEANUP(wa_xxh_freep) wa_xxh *hash = wa_xxh_new();
    if (c->raw_size > 0)
        wa_xxh_update(hash, ret->data + ret->len, (size_t)c->raw_size);
    return check_whole(c, hash, crc, err);
}

wa_status
wa_container_unpack(const void *data, size_t len, const char *name, wa_buf *ret, json_t **ret_facts,
                    wa_error *err)
{
    WA_CLEANUP(wa_ranges_freep) wa_ranges *from = wa_ranges_of_memory(data, len, name);
    WA_CLEANUP(wa_container_freep) wa_container *c = NULL;
    WA_CLEANUP(wa_json_freep) json_t *bulky = NULL;

    WA_TRY(wa_container_open(from, &c, err));
    if (c->bulky_size > 0)
        WA_TRY(wa_container_bulky(c, &bulky, err));
    if (c->raw_size > SIZE_MAX / 2)
        return wa_error_set(err, WA_NO_SPACE, "\"%s\" does not fit into memory", name);
    if (wa_buf_reserve(ret, (size_t)c->raw_size, err) != WA_OK)
        return wa_error_wrap(err, "could not unpack \"%s\"", name);
    WA_TRY(unpack_frames(c, data, ret, err));
    if (c->raw_size > 0) {
        ret->len += (size_t)c->raw_size;
        ret->data[ret->len] = '\0';
    }
    if (ret_facts)
        *ret_facts = json_incref(c->facts);
    return WA_OK;
}
