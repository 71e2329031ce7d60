/*
 * restore/pack.c - a pack that several workers read, and its frames through bounded buffers.
 *
 * Compressed bytes of neighbouring frames are fetched in one request of up to FETCH_BYTES, so that
 * many small files cost few requests; one frame is decompressed at a time.
 */
#include "restore_internal.h"

#include "walagent/base/crc32c.h"
#include "walagent/codec/container.h"

#include <stdatomic.h>
#include <string.h>

#define FETCH_BYTES (4u * 1024 * 1024)

struct wa_pack {
    atomic_uint users;
    char *key;
    wa_ranges *ranges;
    wa_container *container;
    bool remote;
    wa_restore_counts *counts; /* NULL: nobody wants to know */
};

static void
pack_free(wa_pack *p)
{
    if (p->counts != NULL && p->ranges != NULL)
        atomic_fetch_add(&p->counts->fetched_bytes, wa_store_ranges_fetched(p->ranges));
    wa_container_free(p->container);
    wa_ranges_free(p->ranges);
    wa_freep(&p->key);
    wa_freep(&p);
}

wa_status
wa_pack_open(const wa_restore_options *o, const char *label, uint32_t number, wa_pack **ret,
             wa_error *err)
{
    wa_store *store = wa_repo_store(o->repo);
    char name[32];
    snprintf(name, sizeof name, "pack-%05u.tar.zst", number);
    wa_pack *p = wa_calloc(1, sizeof *p);
    atomic_init(&p->users, 1);
    p->key = wa_backup_key(o->repo, label, name);
    p->remote = strcmp(wa_store_get_traits(store)->scheme, "s3") == 0;
    p->counts = o->counts;
    wa_status status = wa_store_ranges(store, p->key, UINT64_MAX, &p->ranges, err);
    if (status == WA_NOT_FOUND)
        status = wa_error_set(err, WA_CORRUPT, "object \"%s\" of the backup is missing", p->key);
    if (status == WA_OK)
        status = wa_container_open(p->ranges, &p->container, err);
    if (status != WA_OK) {
        pack_free(p);
        return status;
    }
    *ret = p;
    return WA_OK;
}

wa_pack *
wa_pack_share(wa_pack *p)
{
    atomic_fetch_add(&p->users, 1);
    return p;
}

void
wa_pack_release(wa_pack *p)
{
    if (p != NULL && atomic_fetch_sub(&p->users, 1) == 1)
        pack_free(p);
}

const char *
wa_pack_key(const wa_pack *p)
{
    return p->key;
}

wa_container *
wa_pack_container(const wa_pack *p)
{
    return p->container;
}

bool
wa_pack_is_remote(const wa_pack *p)
{
    return p->remote;
}

struct wa_frames {
    wa_decoder *decoder;
    wa_pack *pack;   /* that the buffers belong to; shared */
    uint8_t *stored; /* frames [first, last) as stored */
    size_t stored_capacity, first, last;
    uint8_t *raw; /* frame `index` */
    size_t raw_capacity, index;
};

wa_frames *
wa_frames_new(void)
{
    wa_frames *f = wa_calloc(1, sizeof *f);
    f->decoder = wa_decoder_new();
    return f;
}

void
wa_frames_free(wa_frames *f)
{
    if (f == NULL)
        return;
    wa_decoder_free(f->decoder);
    wa_pack_release(f->pack);
    wa_freep(&f->stored);
    wa_freep(&f->raw);
    wa_freep(&f);
}

static void
grow(uint8_t **buffer, size_t *capacity, size_t len)
{
    if (*capacity >= len)
        return;
    wa_freep(buffer);
    *buffer = wa_malloc_large(len); /* on page borders: written without a copy */
    *capacity = len;
}

/* Frames from index on, as many as fit and as are wanted. */
static wa_status
fetch(wa_frames *f, const wa_pack *pack, size_t index, size_t wanted_last, wa_error *err)
{
    const wa_container *c = pack->container;
    wa_frame_info first = wa_container_frame(c, index);
    uint64_t len = first.size;
    size_t last = index + 1;
    while (last < wanted_last) {
        wa_frame_info next = wa_container_frame(c, last);
        if (next.offset + next.size - first.offset > FETCH_BYTES)
            break;
        len = next.offset + next.size - first.offset;
        last++;
    }
    f->first = f->last = 0;
    grow(&f->stored, &f->stored_capacity, len);
    WA_TRY(wa_ranges_read(pack->ranges, first.offset, f->stored, len, err));
    f->first = index;
    f->last = last;
    return WA_OK;
}

wa_status
wa_frames_at(wa_frames *f, wa_pack *pack, uint64_t offset, uint64_t until, const uint8_t **ret,
             size_t *ret_len, wa_error *err)
{
    const wa_container *c = pack->container;
    size_t index = wa_container_frame_at(c, offset);
    if (index >= wa_container_frames(c) || until > wa_container_size(c))
        return wa_error_set(err, WA_CORRUPT, "\"%s\" ends before byte %llu", pack->key,
                            (unsigned long long)until);
    if (f->pack != pack) {
        wa_pack_release(f->pack);
        f->pack = wa_pack_share(pack);
        f->first = f->last = 0;
        f->index = SIZE_MAX;
    }
    wa_frame_info info = wa_container_frame(c, index);
    if (f->index != index) {
        if (index < f->first || index >= f->last)
            WA_TRY(fetch(f, pack, index, wa_container_frame_at(c, until - 1) + 1, err));
        f->index = SIZE_MAX;
        grow(&f->raw, &f->raw_capacity, info.raw_size);
        uint64_t at = info.offset - wa_container_frame(c, f->first).offset;
        WA_TRY(wa_container_decode(c, f->decoder, &info, f->stored + at, f->raw, err));
        f->index = index;
    }
    *ret = f->raw + (offset - info.raw_offset);
    *ret_len = (size_t)(info.raw_offset + info.raw_size - offset);
    return WA_OK;
}

wa_status
wa_frames_each(wa_frames *f, wa_pack *pack, const wa_unit_file *file, uint64_t until,
               wa_bytes_fn fn, void *arg, wa_error *err)
{
    uint32_t crc = 0;
    for (uint64_t done = 0; done < file->size;) {
        const uint8_t *data = NULL;
        size_t len = 0;
        WA_TRY(wa_frames_at(f, pack, file->offset + done, until, &data, &len, err));
        if (len > file->size - done)
            len = (size_t)(file->size - done);
        crc = wa_crc32c(crc, data, len);
        WA_TRY(fn(arg, done, data, len, err));
        done += len;
    }
    if (crc != file->crc)
        return wa_error_set(err, WA_CORRUPT,
                            "file \"%s\" in \"%s\" has checksum %08X where the manifest says %08X",
                            file->path, pack->key, crc, file->crc);
    return WA_OK;
}
