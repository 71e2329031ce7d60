/*
 * codec/container_reader.c - open a container from its end: seek table, facts, where frames are.
 * The format's byte table is in container_internal.h.
 *
 * Everything here comes from outside: each number is checked against the object's size or a limit
 * before memory is asked for, and the sizes must add up to the object exactly.
 */
#include "container_internal.h"

#include "walagent/base/bytes.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#define TAIL_FIRST (64u * 1024)

/* The end of the object in memory, and what the seek table says. */
typedef struct tail {
    uint8_t *data;
    size_t len;
    uint64_t offset; /* of data in the object */
    size_t entries;
    const uint8_t *table; /* first entry */
    uint64_t table_frame; /* offset of the seek table's frame */
} tail;

static void
tail_done(tail *t)
{
    free(t->data);
}

static wa_status
corrupt(const wa_ranges *from, const char *why, wa_error *err)
{
    return wa_error_set(err, WA_CORRUPT, "\"%s\" is damaged: %s", from->name, why);
}

static wa_status
read_tail(wa_ranges *from, uint64_t len, tail *t, wa_error *err)
{
    if (len > from->size)
        len = from->size;
    if (t->len >= len)
        return WA_OK;
    t->data = wa_realloc(t->data, (size_t)len);
    WA_TRY(wa_ranges_read(from, from->size - len, t->data, (size_t)len, err));
    t->len = (size_t)len;
    t->offset = from->size - len;
    return WA_OK;
}

static wa_status
find_table(wa_ranges *from, tail *t, wa_error *err)
{
    WA_TRY(read_tail(from, TAIL_FIRST, t, err));
    if (t->len < WA_SKIPPABLE_HEADER + WA_SEEK_FOOTER)
        return corrupt(from, "it is too short to be an object of an archive", err);
    const uint8_t *footer = t->data + t->len - WA_SEEK_FOOTER;
    if (wa_get_u32le(footer + 5) != WA_MAGIC_SEEKABLE)
        return corrupt(from, "it does not end with a seek table", err);
    t->entries = wa_get_u32le(footer);
    if (footer[4] != 0 || t->entries == 0 || t->entries > WA_FRAMES_MAX)
        return corrupt(from, "its seek table is not valid", err);
    size_t content = t->entries * WA_SEEK_ENTRY + WA_SEEK_FOOTER;
    size_t frame = WA_SKIPPABLE_HEADER + content;
    if (frame > from->size)
        return corrupt(from, "its seek table is longer than the object", err);
    if (t->len < frame)
        WA_TRY(read_tail(from, frame + WA_SKIPPABLE_HEADER + WA_FACTS_MAX, t, err));
    const uint8_t *header = t->data + t->len - frame;
    if (wa_get_u32le(header) != WA_MAGIC_SEEK_TABLE || wa_get_u32le(header + 4) != content)
        return corrupt(from, "its seek table is not valid", err);
    t->table_frame = from->size - frame;
    t->table = header + WA_SKIPPABLE_HEADER;
    return WA_OK;
}

static uint32_t
entry_size(const tail *t, size_t index)
{
    return wa_get_u32le(t->table + index * WA_SEEK_ENTRY);
}

static uint32_t
entry_raw_size(const tail *t, size_t index)
{
    return wa_get_u32le(t->table + index * WA_SEEK_ENTRY + 4);
}

static wa_status
read_facts(wa_container *c, tail *t, wa_error *err)
{
    uint32_t size = entry_size(t, t->entries - 1);

    if (entry_raw_size(t, t->entries - 1) != 0 || size <= WA_SKIPPABLE_HEADER ||
        size > WA_SKIPPABLE_HEADER + WA_FACTS_MAX || size > t->table_frame)
        return corrupt(c->from, "its facts are not where they belong", err);
    uint64_t needed = c->from->size - t->table_frame + size;
    if (t->len < needed) {
        WA_TRY(read_tail(c->from, needed, t, err));
        t->table = t->data + t->len - (c->from->size - t->table_frame) + WA_SKIPPABLE_HEADER;
    }
    const uint8_t *frame = t->data + (t->table_frame - size - t->offset);
    if (wa_get_u32le(frame) != WA_MAGIC_FACTS ||
        wa_get_u32le(frame + 4) != size - WA_SKIPPABLE_HEADER)
        return corrupt(c->from, "its facts are not where they belong", err);
    WA_CLEANUP(wa_freep) char *what = wa_format("\"%s\" is damaged: facts", c->from->name);
    return wa_container_unseal((const char *)frame + WA_SKIPPABLE_HEADER,
                               size - WA_SKIPPABLE_HEADER, what, &c->facts, err);
}

/* One entry that is no data frame: the bulky facts, or a frame that this version does not know. */
static void
note_skippable(wa_container *c, uint64_t offset, uint32_t size)
{
    if (c->bulky_size > 0 && size == c->bulky_size + WA_SKIPPABLE_HEADER)
        c->bulky_offset = offset;
}

static wa_status
read_table(wa_container *c, const tail *t, wa_error *err)
{
    uint64_t offset = 0;

    c->frames = wa_calloc(t->entries, sizeof *c->frames);
    c->bulky_offset = UINT64_MAX;
    for (size_t i = 0; i < t->entries; i++) {
        uint32_t size = entry_size(t, i);
        uint32_t raw_size = entry_raw_size(t, i);
        if (raw_size > WA_FRAME_MAX || (raw_size > 0 && size > ZSTD_compressBound(raw_size)))
            return corrupt(c->from, "a frame is larger than any that is written", err);
        if (raw_size > 0) {
            c->frames[c->frame_count++] = (wa_frame_info){c->raw_size, offset, raw_size, size};
            c->raw_size += raw_size;
        } else if (i + 1 < t->entries)
            note_skippable(c, offset, size);
        offset += size;
    }
    if (offset != t->table_frame)
        return corrupt(c->from, "the sizes of its frames do not add up to its own", err);
    if (c->bulky_size > 0 && c->bulky_offset == UINT64_MAX)
        return corrupt(c->from, "its bulky facts are missing", err);
    return WA_OK;
}

/* The container's own members of the facts. */
static wa_status
read_own_facts(wa_container *c, uint64_t *ret_raw_size, wa_error *err)
{
    WA_CLEANUP(wa_freep) char *what = wa_format("facts of \"%s\"", c->from->name);
    const char *kind, *xxh3, *crc;

    WA_TRY(wa_json_get_string(c->facts, "kind", what, &kind, err));
    WA_TRY(wa_json_get_u64(c->facts, "raw_size", what, ret_raw_size, err));
    WA_TRY(wa_json_get_string(c->facts, "xxh3", what, &xxh3, err));
    WA_TRY(wa_json_get_string(c->facts, "frames_crc", what, &crc, err));
    if (strlen(xxh3) != WA_XXH_HEX - 1 || strlen(crc) != WA_CRC_HEX - 1)
        return corrupt(c->from, "its facts hold a checksum of a wrong length", err);
    memcpy(c->xxh3, xxh3, WA_XXH_HEX);
    memcpy(c->frames_crc, crc, WA_CRC_HEX);
    if (json_object_get(c->facts, "bulky_size")) {
        uint64_t size;
        WA_TRY(wa_json_get_u64(c->facts, "bulky_size", what, &size, err));
        if (size == 0 || size > WA_BULKY_MAX)
            return corrupt(c->from, "its bulky facts have an impossible size", err);
        c->bulky_size = (uint32_t)size;
    }
    return WA_OK;
}

/* They only spare requests: what has not the form that this version knows is no damage. */
static void
find_sums(wa_container *c)
{
    const char *sums = json_string_value(json_object_get(c->facts, "frame_sums"));

    if (sums && strlen(sums) == c->frame_count * WA_SUM_DIGITS &&
        strspn(sums, "0123456789abcdef") == strlen(sums))
        c->sums = sums;
}

wa_status
wa_container_open(wa_ranges *from, wa_container **ret, wa_error *err)
{
    WA_CLEANUP(wa_container_freep) wa_container *c = wa_calloc(1, sizeof *c);
    WA_CLEANUP(tail_done) tail t = {0};
    uint64_t raw_size;

    c->from = from;
    WA_TRY(find_table(from, &t, err));
    WA_TRY(read_facts(c, &t, err));
    WA_TRY(read_own_facts(c, &raw_size, err));
    WA_TRY(read_table(c, &t, err));
    if (raw_size != c->raw_size)
        return corrupt(from, "facts and seek table disagree about its content's size", err);
    find_sums(c);
    *ret = WA_TAKE(c);
    return WA_OK;
}

void
wa_container_free(wa_container *c)
{
    if (!c)
        return;
    json_decref(c->facts);
    free(c->frames);
    free(c);
}

const json_t *
wa_container_facts(const wa_container *c)
{
    return c->facts;
}

wa_status
wa_container_bulky(wa_container *c, json_t **ret, wa_error *err)
{
    if (c->bulky_size == 0)
        return wa_error_set(err, WA_NOT_FOUND, "\"%s\" has no bulky facts", c->from->name);
    size_t len = c->bulky_size + WA_SKIPPABLE_HEADER;
    WA_CLEANUP(wa_freep) uint8_t *frame = wa_malloc(len);
    WA_TRY(wa_ranges_read(c->from, c->bulky_offset, frame, len, err));
    if (wa_get_u32le(frame) != WA_MAGIC_BULKY || wa_get_u32le(frame + 4) != c->bulky_size)
        return corrupt(c->from, "its bulky facts are not where they belong", err);
    WA_CLEANUP(wa_freep) char *what = wa_format("\"%s\" is damaged: bulky facts", c->from->name);
    return wa_container_unseal((const char *)frame + WA_SKIPPABLE_HEADER, c->bulky_size, what, ret,
                               err);
}

uint64_t
wa_container_size(const wa_container *c)
{
    return c->raw_size;
}

size_t
wa_container_frames(const wa_container *c)
{
    return c->frame_count;
}

wa_frame_info
wa_container_frame(const wa_container *c, size_t index)
{
    WA_ASSERT(index < c->frame_count);
    return c->frames[index];
}

size_t
wa_container_frame_at(const wa_container *c, uint64_t raw_offset)
{
    size_t low = 0, high = c->frame_count;

    /* The first frame that ends past the offset. */
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const wa_frame_info *f = &c->frames[middle];
        if (f->raw_offset + f->raw_size > raw_offset)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

bool
wa_container_has_sums(const wa_container *c)
{
    return c->sums != NULL;
}

uint32_t
wa_container_published_sum(const wa_container *c, size_t index)
{
    char digits[WA_SUM_DIGITS + 1] = "";

    memcpy(digits, c->sums + index * WA_SUM_DIGITS, WA_SUM_DIGITS);
    return (uint32_t)strtoul(digits, NULL, 16);
}

wa_status
wa_container_frame_sum(const wa_container *c, size_t index, uint32_t *ret, wa_error *err)
{
    wa_frame_info frame = wa_container_frame(c, index);
    uint8_t end[4];

    if (c->sums) {
        *ret = wa_container_published_sum(c, index);
        return WA_OK;
    }
    if (frame.size < sizeof end)
        return corrupt(c->from, "a frame is shorter than its checksum", err);
    WA_TRY(wa_ranges_read(c->from, frame.offset + frame.size - sizeof end, end, sizeof end, err));
    *ret = wa_get_u32le(end);
    return WA_OK;
}
