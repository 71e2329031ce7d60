/*
 * restore/incremental.c - files of an incremental backup (majors 17 and later) made whole.
 *
 * INCREMENTAL.<name>, little-endian on every platform that walagent runs on:
 *   0   u32  magic 0xd3ae1f0d
 *   4   u32  number of blocks n
 *   8   u32  truncation length in blocks: older backups count below it only
 *   12  u32  block numbers, n of them
 *       zeroes up to a multiple of 8192 when n > 0
 *       n blocks of 8192 bytes
 * The file it stands for has as many blocks as the truncation length or the highest number asks
 * for; a block comes from the newest backup that has it, at last from the newest whole file.
 * Source: PostgreSQL src/backend/backup/basebackup_incremental.c,
 * bin/pg_combinebackup/reconstruct.c.
 */
#include "restore_internal.h"

#include "incremental_internal.h"

#include "walagent/base/bytes.h"
#include "walagent/base/crc32c.h"
#include "walagent/base/file.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAGIC 0xd3ae1f0du
#define BLOCK 8192u
#define BLOCKS_MAX (UINT32_C(1) << 19) /* 4 GiB: segments have at most 1 GiB by default */
#define READ_BYTES (256u * 1024)
#define PREFIX "INCREMENTAL."

char *
wa_incremental_target(const char *path)
{
    const char *base = wa_path_base(path);
    if (!wa_str_starts(base, PREFIX) || base[strlen(PREFIX)] == '\0')
        return NULL;
    return wa_format("%.*s%s", (int)(base - path), path, base + strlen(PREFIX));
}

/* ---- one incremental file as it streams by ---- */

typedef struct parsed {
    uint32_t count, truncation;
    uint32_t *blocks;
    uint64_t header; /* bytes before the first block */
} parsed;

typedef struct overlay {
    const char *path; /* of what is written */
    const char *from; /* of what is read */
    int fd;
    bool header_only;
    uint32_t limit; /* blocks at or behind it are not written; UINT32_MAX: all */
    wa_buf head;
    bool known;
    parsed p;
} overlay;

static void
overlay_done(overlay *o)
{
    wa_buf_done(&o->head);
    wa_freep(&o->p.blocks);
}

static wa_status
bad_file(const overlay *o, const char *why, wa_error *err)
{
    return wa_error_set(err, WA_CORRUPT, "file \"%s\" of the backup is damaged: %s", o->from, why);
}

/* Looks at the buffered head; o->known once all of it is there. */
static wa_status
parse_head(overlay *o, wa_error *err)
{
    const uint8_t *p = (const uint8_t *)o->head.data;
    if (o->head.len < 12)
        return WA_OK;
    if (wa_get_u32le(p) != MAGIC)
        return bad_file(o, "it does not begin as an incremental file", err);
    o->p.count = wa_get_u32le(p + 4);
    o->p.truncation = wa_get_u32le(p + 8);
    if (o->p.count > BLOCKS_MAX || o->p.truncation > BLOCKS_MAX)
        return bad_file(o, "it tells of more blocks than a file may have", err);
    uint64_t used = 12 + UINT64_C(4) * o->p.count;
    if (o->head.len < used)
        return WA_OK;
    o->p.header = o->p.count > 0 ? (used + BLOCK - 1) / BLOCK * BLOCK : used;
    o->p.blocks = wa_calloc(o->p.count + 1u, sizeof *o->p.blocks);
    for (uint32_t i = 0; i < o->p.count; i++) {
        o->p.blocks[i] = wa_get_u32le(p + 12 + UINT64_C(4) * i);
        if (o->p.blocks[i] >= BLOCKS_MAX)
            return bad_file(o, "it has a block number that no file has", err);
    }
    o->known = true;
    return WA_OK;
}

/* Bytes of blocks, from any place in the file on. */
static wa_status
put_blocks(const overlay *o, uint64_t position, const uint8_t *data, size_t len, wa_error *err)
{
    while (len > 0) {
        uint64_t at = position - o->p.header, index = at / BLOCK, within = at % BLOCK;
        size_t n = len < BLOCK - within ? len : (size_t)(BLOCK - within);
        if (index >= o->p.count)
            return bad_file(o, "it is longer than it says", err);
        if (o->p.blocks[index] < o->limit)
            WA_TRY(wa_pwrite_all(o->fd, data, n,
                                 (off_t)(UINT64_C(1) * o->p.blocks[index] * BLOCK + within),
                                 o->path, err));
        position += n;
        data += n;
        len -= n;
    }
    return WA_OK;
}

static wa_status
overlay_bytes(void *arg, uint64_t position, const uint8_t *data, size_t len, wa_error *err)
{
    overlay *o = arg;
    if (!o->known) {
        WA_TRY(wa_buf_append(&o->head, data, len, err));
        WA_TRY(parse_head(o, err));
        if (!o->known)
            return WA_OK;
        if (o->header_only)
            return WA_CANCELLED;
        data = (const uint8_t *)o->head.data;
        len = o->head.len;
        position = 0;
    }
    if (position + len <= o->p.header)
        return WA_OK;
    if (position < o->p.header) {
        size_t skip = (size_t)(o->p.header - position);
        data += skip;
        len -= skip;
        position += skip;
    }
    return put_blocks(o, position, data, len, err);
}

static wa_status
read_overlay(wa_frames *frames, const wa_chain_source *s, overlay *o, wa_error *err)
{
    o->from = s->file.path;
    wa_buf_init(&o->head, WA_FRAME_MAX + 12 + UINT64_C(4) * BLOCKS_MAX + BLOCK);
    uint64_t until = s->file.offset + s->file.size;
    wa_status status = wa_frames_each(frames, s->pack, &s->file, until, overlay_bytes, o, err);
    if (status == WA_CANCELLED && err->status == WA_OK)
        return WA_OK;
    WA_TRY(status);
    if (!o->known || s->file.size < 12 ||
        s->file.size != o->p.header + UINT64_C(1) * o->p.count * BLOCK)
        return bad_file(o, "it ends early", err);
    return WA_OK;
}

/* ---- building ---- */

typedef struct whole {
    int fd;
    const char *path;
    uint64_t limit; /* bytes */
} whole;

static wa_status
whole_bytes(void *arg, uint64_t position, const uint8_t *data, size_t len, wa_error *err)
{
    const whole *w = arg;
    if (position >= w->limit)
        return WA_OK;
    if (len > w->limit - position)
        len = (size_t)(w->limit - position);
    return wa_pwrite_all(w->fd, data, len, (off_t)position, w->path, err);
}

static uint32_t
length_of(const parsed *p)
{
    uint32_t length = p->truncation;
    for (uint32_t i = 0; i < p->count; i++)
        length = p->blocks[i] >= length ? p->blocks[i] + 1 : length;
    return length;
}

static wa_status
checksum_of(int fd, const char *path, uint32_t *ret, wa_error *err)
{
    WA_CLEANUP(wa_freep) uint8_t *buffer = wa_malloc(READ_BYTES);
    uint32_t crc = 0;
    for (off_t at = 0;;) {
        ssize_t n = pread(fd, buffer, READ_BYTES, at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return wa_error_errno(err, errno, "could not read file \"%s\": %m", path);
        if (n == 0)
            break;
        crc = wa_crc32c(crc, buffer, (size_t)n);
        at += n;
    }
    *ret = crc;
    return WA_OK;
}

/* Oldest first, so that newer blocks replace older ones. The last source is the newest. */
static wa_status
build(int fd, const char *path, const wa_chain_source *sources, size_t count, uint32_t *ret_blocks,
      wa_error *err)
{
    const wa_chain_source *newest = &sources[count - 1];
    WA_CLEANUP(overlay_done) overlay head = {.path = path, .fd = -1, .header_only = true};
    WA_TRY(read_overlay(newest->frames, newest, &head, err));
    for (size_t i = 0; i < count; i++) {
        const wa_chain_source *s = &sources[i];
        if (!s->incremental) {
            whole w = {fd, path, UINT64_C(1) * head.p.truncation * BLOCK};
            WA_TRY(wa_frames_each(s->frames, s->pack, &s->file, s->file.offset + s->file.size,
                                  whole_bytes, &w, err));
            continue;
        }
        WA_CLEANUP(overlay_done)
        overlay o = {
            .path = path, .fd = fd, .limit = i + 1 == count ? UINT32_MAX : head.p.truncation};
        WA_TRY(read_overlay(s->frames, s, &o, err));
    }
    *ret_blocks = length_of(&head.p);
    return WA_OK;
}

wa_status
wa_incremental_build(const char *path, const wa_chain_source *sources, size_t count,
                     const wa_unit_file *as, uint64_t *ret_size, uint32_t *ret_crc, wa_error *err)
{
    WA_CLEANUP(wa_closep) int fd = wa_fetch_open(path, as->mode);
    if (fd < 0)
        return wa_error_errno(err, errno, "could not create file \"%s\": %m", path);
    uint32_t blocks = 0;
    WA_TRY(build(fd, path, sources, count, &blocks, err));
    uint64_t size = UINT64_C(1) * blocks * BLOCK;
    if (ftruncate(fd, (off_t)size) != 0)
        return wa_error_errno(err, errno, "could not set the size of file \"%s\": %m", path);
    WA_TRY(checksum_of(fd, path, ret_crc, err));
    WA_TRY(wa_fetch_finish_file(fd, as, size, path, err));
    *ret_size = size;
    return WA_OK;
}
