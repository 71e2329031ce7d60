/*
 * pg/record.c - what lies behind a WAL record's header: block references and main data.
 *
 *   id 0..32   u8 id, u8 fork and flags, u16 data length
 *              [image: u16 length, u16 hole offset, u8 flags, [u16 hole length]]
 *              [unless SAME_REL: u32 tablespace, u32 database, u32 relation]
 *              u32 block
 *   id 253     u8 id, u16 replication origin
 *   id 252     u8 id, u32 top-level xid
 *   id 255     u8 id, u8 length of the main data; the last header
 *   id 254     u8 id, u32 length of the main data; the last header
 *
 * Then images and data of the blocks, and at the record's end the main data. A record without main
 * data has no last header: the headers end where the rest is what they have announced.
 */
#include "walreader_internal.h"

#include "walagent/base/bytes.h"

#include <string.h>

#define BLOCK_MAX_ID 32u
#define ID_TOP_XID 252u
#define ID_ORIGIN 253u
#define ID_LONG 254u
#define ID_SHORT 255u

#define FORK_MASK 0x0fu
#define FORK_HAS_IMAGE 0x10u
#define FORK_SAME_REL 0x80u

#define IMAGE_HAS_HOLE 0x01u
#define IMAGE_COMPRESSED_TO_14 0x02u
#define IMAGE_COMPRESSED_FROM_15 0x1cu /* pglz, lz4, zstd */

/* The headers of one record, read one after the other. */
typedef struct headers {
    const uint8_t *at, *end;
    uint16_t magic;
    uint32_t spc, db, rel;
    bool have_rel;
    wa_block_ref *out;
    size_t count, max;
    uint64_t left;      /* of the whole record behind `at` */
    uint64_t announced; /* images and data that follow the headers */
    uint32_t main_len;
} headers;

static const uint8_t *
take(headers *h, size_t n)
{
    const uint8_t *p = h->at;

    if ((size_t)(h->end - p) < n || h->left < n)
        return NULL;
    h->at += n;
    h->left -= n;
    return p;
}

/* Image flags that mean so in this major. */
static uint8_t
compressed(uint16_t magic)
{
    return wa_wal_magic_major(magic) <= 14 ? IMAGE_COMPRESSED_TO_14 : IMAGE_COMPRESSED_FROM_15;
}

static bool
take_image(headers *h)
{
    const uint8_t *image = take(h, 5);

    if (image == NULL)
        return false;
    h->announced += wa_get_u16le(image);
    if ((image[4] & IMAGE_HAS_HOLE) && (image[4] & compressed(h->magic)))
        return take(h, 2) != NULL;
    return true;
}

static bool
take_block(headers *h, uint8_t id)
{
    const uint8_t *head = take(h, 3);
    const uint8_t *locator, *block;

    if (head == NULL)
        return false;
    uint8_t flags = head[0];
    h->announced += wa_get_u16le(head + 1);
    if ((flags & FORK_HAS_IMAGE) && !take_image(h))
        return false;
    if (!(flags & FORK_SAME_REL)) {
        if ((locator = take(h, 12)) == NULL)
            return false;
        h->spc = wa_get_u32le(locator);
        h->db = wa_get_u32le(locator + 4);
        h->rel = wa_get_u32le(locator + 8);
        h->have_rel = true;
    }
    if (!h->have_rel || (block = take(h, 4)) == NULL)
        return false;
    if (h->count < h->max)
        h->out[h->count++] = (wa_block_ref){.id = id,
                                            .fork = flags & FORK_MASK,
                                            .has_image = (flags & FORK_HAS_IMAGE) != 0,
                                            .spc = h->spc,
                                            .db = h->db,
                                            .rel = h->rel,
                                            .block = wa_get_u32le(block)};
    return true;
}

/* One header; false at the last one, or when the rest makes no sense or isn't kept. */
static bool
take_one(headers *h)
{
    const uint8_t *id = take(h, 1);
    const uint8_t *len;

    if (id == NULL)
        return false;
    if (*id <= BLOCK_MAX_ID)
        return take_block(h, *id);
    if (*id == ID_ORIGIN)
        return take(h, 2) != NULL;
    if (*id == ID_TOP_XID)
        return take(h, 4) != NULL;
    if (*id == ID_SHORT && (len = take(h, 1)) != NULL)
        h->main_len = *len;
    else if (*id == ID_LONG && (len = take(h, 4)) != NULL)
        h->main_len = wa_get_u32le(len);
    return false;
}

static void
read_headers(headers *h, const wa_record *record, wa_block_ref *out, size_t max)
{
    *h = (headers){.at = record->body,
                   .end = record->body + record->body_len,
                   .magic = record->magic,
                   .out = out,
                   .max = max,
                   .left = record->tot_len - WAL_RECORD_HEADER};

    while (h->left > h->announced && take_one(h))
        ;
}

size_t
wa_record_blocks(const wa_record *record, wa_block_ref *out, size_t max)
{
    headers h;

    read_headers(&h, record, out, max);
    return h.count;
}

const uint8_t *
wa_record_main(const wa_record *record, uint32_t *ret_len)
{
    headers h;
    uint32_t whole = record->tot_len - WAL_RECORD_HEADER;

    read_headers(&h, record, NULL, 0);
    *ret_len = 0;
    if (h.main_len == 0 || h.main_len > whole)
        return NULL;
    uint32_t at = whole - h.main_len;
    if (at >= record->body_len || record->body + at < h.at)
        return NULL;
    *ret_len = record->body_len - at;
    return record->body + at;
}
