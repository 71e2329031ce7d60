/*
 * restore/delta_blocks.c - --delta within a large file: frames of the pack whose content the file
 * has already are not fetched.
 *
 * The pack's raw bytes are cut into frames; those that touch a file cut it into parts, of which all
 * but the first and the last are whole frames. Every frame has a checksum of its content, the low
 * 32 bits of XXH64, in the pack's facts or at the frame's own end (codec/container.h). So:
 *
 *   1. Compare: the file's bytes of a whole frame are read; they stay when they have the frame's
 *      checksum. The first and the last part share a frame with other files: they stay, until 3.
 *   2. Fetch what is not right, neighbours together, and write it where it belongs.
 *   3. Prove: the CRC-32C of all parts, each of bytes that were read or written just now, together
 *      is the file's, and has to be the manifest's. If not: the parts that were taken for right are
 *      fetched too; if that doesn't help (32 bits were not enough, or the file changes), the whole
 *      file.
 *
 * So a file is never right by its time, its size or a frame's checksum alone. While a file is
 * written it is a mixture; the directory has no pg_control then, and the next run with --delta sees
 * what of it is right.
 *
 * Where one part after another differs the file is probably another one: the compared parts become
 * rarer, one of up to SKIP_MAX + 1, until one is right again. So little is read in vain, and at
 * most as much again is fetched in vain as really differs.
 *
 * Source: zstd_compression_format.md, "Content_Checksum".
 */
#include "restore_internal.h"

#include "walagent/base/crc32c.h"
#include "walagent/base/file.h"
#include "walagent/codec/container.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define READ_BYTES (256u * 1024)
#define SKIP_FROM 4u /* differences in a row */
#define SKIP_MAX 8u
/* Where a frame's checksum has to be asked for over the network, that takes about as long as to
 * fetch so many bytes of a large range. */
#define PROBE_FROM (1024u * 1024)

typedef enum part_state {
    PART_WANTED, /* to be fetched */
    PART_TAKEN,  /* taken for right */
    PART_RIGHT,  /* has the frame's checksum */
    PART_WRITTEN,
} part_state;

typedef struct part {
    uint64_t offset; /* in the file */
    uint32_t len, crc;
    part_state state;
} part;

typedef struct patch {
    const wa_delta_job *job;
    int fd;
    uint64_t old_size;
    bool unreadable;
    uint8_t *buffer;
    wa_frame_sum *sum;
    size_t first, count; /* frames of the pack; parts */
    part *parts;
} patch;

static void
patch_done(patch *p)
{
    wa_closep(&p->fd);
    wa_freep(&p->buffer);
    wa_frame_sum_free(p->sum);
    wa_freep(&p->parts);
}

/* ---- which files ---- */

static bool
is_whole_frame(const wa_delta_job *job, size_t frame)
{
    wa_frame_info f = wa_container_frame(wa_pack_container(job->pack), frame);
    return f.raw_offset >= job->file->offset &&
           f.raw_offset + f.raw_size <= job->file->offset + job->file->size;
}

bool
wa_delta_blocks_pay(const wa_delta_job *job)
{
    const wa_container *c = wa_pack_container(job->pack);
    if (job->file->size == 0)
        return false;
    size_t first = wa_container_frame_at(c, job->file->offset);
    size_t last = wa_container_frame_at(c, job->file->offset + job->file->size - 1);
    uint64_t stored = 0, whole = 0;
    for (size_t i = first; i <= last && i < wa_container_frames(c); i++)
        if (is_whole_frame(job, i)) {
            whole++;
            stored += wa_container_frame(c, i).size;
        }
    return whole > 0 && (wa_container_has_sums(c) || !wa_pack_is_remote(job->pack) ||
                         stored / whole >= PROBE_FROM);
}

static void
cut_into_parts(patch *p)
{
    const wa_container *c = wa_pack_container(p->job->pack);
    const wa_unit_file *file = p->job->file;
    p->first = wa_container_frame_at(c, file->offset);
    p->count = wa_container_frame_at(c, file->offset + file->size - 1) - p->first + 1;
    p->parts = wa_calloc(p->count, sizeof *p->parts);
    uint64_t at = 0;
    for (size_t i = 0; i < p->count; i++) {
        wa_frame_info f = wa_container_frame(c, p->first + i);
        uint64_t end = f.raw_offset + f.raw_size - file->offset;
        end = end < file->size ? end : file->size;
        p->parts[i] = (part){.offset = at, .len = (uint32_t)(end - at)};
        at = end;
    }
}

/* ---- compare ---- */

/* Reads a part of the file: its CRC, and the checksum that its frame would have. */
static bool
read_part(patch *p, part *x)
{
    uint32_t done = 0;
    x->crc = 0;
    wa_frame_sum_reset(p->sum);
    while (done < x->len) {
        size_t want = x->len - done < READ_BYTES ? x->len - done : READ_BYTES;
        ssize_t n = p->job->read_at(p->fd, p->buffer, want, (off_t)(x->offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        p->unreadable |= n < 0;
        if (n <= 0)
            return false;
        x->crc = wa_crc32c(x->crc, p->buffer, (size_t)n);
        wa_frame_sum_update(p->sum, p->buffer, (size_t)n);
        done += (uint32_t)n;
    }
    return true;
}

static wa_status
compare_part(patch *p, size_t i, wa_error *err)
{
    part *x = &p->parts[i];
    if (x->offset + x->len > p->old_size)
        return WA_OK;
    if (!is_whole_frame(p->job, p->first + i)) {
        x->state = read_part(p, x) ? PART_TAKEN : PART_WANTED;
        return WA_OK;
    }
    uint32_t expected = 0;
    WA_TRY(wa_container_frame_sum(wa_pack_container(p->job->pack), p->first + i, &expected, err));
    if (read_part(p, x) && wa_frame_sum_get(p->sum) == expected)
        x->state = PART_RIGHT;
    return WA_OK;
}

static wa_status
compare(patch *p, wa_error *err)
{
    size_t differ = 0, skip = 0;
    for (size_t i = 0; i < p->count && !p->unreadable; i++) {
        WA_TRY(compare_part(p, i, err));
        if (p->parts[i].state != PART_WANTED) {
            differ = skip = 0;
            continue;
        }
        if (++differ < SKIP_FROM)
            continue;
        skip = skip == 0 ? 1 : skip < SKIP_MAX ? skip * 2 : SKIP_MAX;
        i += skip;
    }
    return WA_OK;
}

/* ---- fetch ---- */

static wa_status
write_part(patch *p, part *x, uint64_t until, wa_error *err)
{
    const wa_delta_job *job = p->job;
    const uint8_t *data = NULL;
    size_t len = 0;
    uint64_t at = job->file->offset + x->offset;
    WA_TRY(wa_frames_at(job->frames, job->pack, at, until, &data, &len, err));
    WA_ASSERT(len >= x->len);
    WA_TRY(wa_pwrite_all(p->fd, data, x->len, (off_t)x->offset, job->path, err));
    x->crc = wa_crc32c(0, data, x->len);
    x->state = PART_WRITTEN;
    return WA_OK;
}

/* What is wanted, runs of neighbours in as few requests as they take. */
static wa_status
write_wanted(patch *p, wa_error *err)
{
    for (size_t i = 0, end; i < p->count; i = end) {
        for (end = i; end < p->count && p->parts[end].state == PART_WANTED;)
            end++;
        if (end == i) {
            end++;
            continue;
        }
        uint64_t from = p->parts[i].offset;
        uint64_t to = p->parts[end - 1].offset + p->parts[end - 1].len;
        for (size_t k = i; k < end; k++)
            WA_TRY(write_part(p, &p->parts[k], p->job->file->offset + to, err));
        (void)sync_file_range(p->fd, (off_t)from, (off_t)(to - from), SYNC_FILE_RANGE_WRITE);
    }
    return WA_OK;
}

static wa_status
set_size(patch *p, wa_error *err)
{
    uint64_t size = p->job->file->size;
    if (p->old_size > size && ftruncate(p->fd, (off_t)size) != 0)
        return wa_error_errno(err, errno, "could not set the size of file \"%s\": %m",
                              p->job->path);
    if (p->old_size < size && fallocate(p->fd, 0, 0, (off_t)size) != 0 && errno != EOPNOTSUPP &&
        errno != ENOSYS && errno != EINVAL)
        return wa_error_errno(err, errno, "could not allocate space for file \"%s\": %m",
                              p->job->path);
    return WA_OK;
}

/* ---- prove ---- */

static bool
is_proven(const patch *p)
{
    uint32_t crc = 0;
    for (size_t i = 0; i < p->count; i++) {
        if (p->parts[i].state == PART_WANTED)
            return false;
        crc = wa_crc32c_combine(crc, p->parts[i].crc, p->parts[i].len);
    }
    return crc == p->job->file->crc;
}

static size_t
count_in(const patch *p, part_state state, uint64_t *ret_bytes)
{
    size_t n = 0;
    *ret_bytes = 0;
    for (size_t i = 0; i < p->count; i++)
        if (p->parts[i].state == state) {
            n++;
            *ret_bytes += p->parts[i].len;
        }
    return n;
}

/* What was taken for right is wanted now. False: nothing was. */
static bool
doubt(patch *p)
{
    bool any = false;
    for (size_t i = 0; i < p->count; i++)
        if (p->parts[i].state == PART_TAKEN) {
            p->parts[i].state = PART_WANTED;
            any = true;
        }
    return any;
}

static void
take_stock(const patch *p, wa_delta_found *ret)
{
    uint64_t right = 0, taken = 0;
    ret->done = true;
    (void)count_in(p, PART_RIGHT, &right);
    (void)count_in(p, PART_TAKEN, &taken);
    (void)count_in(p, PART_WRITTEN, &ret->written);
    ret->kept = right + taken;
    ret->whole = ret->written == 0 && p->old_size == p->job->file->size;
}

static wa_status
fetch_until_proven(patch *p, wa_delta_found *ret, wa_error *err)
{
    uint64_t right = 0;
    bool proven = is_proven(p);
    if (!proven && count_in(p, PART_RIGHT, &right) == 0)
        return WA_OK; /* nothing to keep: written as a new file is */
    WA_TRY(set_size(p, err));
    while (!proven) {
        uint64_t wanted = 0;
        if (count_in(p, PART_WANTED, &wanted) == 0 && !doubt(p))
            return WA_OK;
        WA_TRY(write_wanted(p, err));
        proven = is_proven(p);
    }
    take_stock(p, ret);
    return wa_fetch_finish_file(p->fd, p->job->file, ret->written > 0 ? p->job->file->size : 0,
                                p->job->path, err);
}

wa_status
wa_delta_by_block(const wa_delta_job *job, wa_delta_found *ret, wa_error *err)
{
    WA_CLEANUP(patch_done) patch p = {.job = job, .fd = -1};
    struct stat st;
    *ret = (wa_delta_found){.done = false};
    p.fd = open(job->path, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
    if (p.fd < 0 && errno == EACCES) /* read-only, and we are not root: it may be right */
        wa_delta_is_right(job, ret);
    if (p.fd < 0 || fstat(p.fd, &st) != 0 || !S_ISREG(st.st_mode))
        return WA_OK;
    p.old_size = (uint64_t)st.st_size;
    p.buffer = wa_malloc(READ_BYTES);
    p.sum = wa_frame_sum_new();
    cut_into_parts(&p);
    WA_TRY(compare(&p, err));
    return p.unreadable ? WA_OK : fetch_until_proven(&p, ret, err);
}
