/*
 * packer.c - files into packs: tar in a container, one object per GiB of content, and the list of
 * files.
 *
 * A file never spans packs, so tar alone restores it. Where a file's bytes begin in its pack's raw
 * bytes is kept in files.zst, so a single file costs one range.
 */
#include "backup_internal.h"

#include "walagent/base/bytes.h"

#include <string.h>

struct wa_packer {
    wa_backup_info *info;
    wa_progress *progress;
    wa_packing_options packs;
    wa_pace upload;      /* packs only: what else there is is small */
    wa_packing *open;    /* NULL: none */
    wa_packing *closing; /* the one before, on its way into the store; NULL: none */
    size_t number;       /* of the pack opened last */
    /* files.zst */
    wa_sink *list_object;
    wa_container_writer *list;
    wa_ending list_ending;
    wa_buf line;
    /* the open file */
    wa_backup_file file;
    char *path;
    uint64_t left;
    wa_checksummer *checksum;
    uint32_t last_crc;
    wa_fingerprints fingerprints;
};

uint64_t
wa_fingerprint(const char *path, uint64_t size, const void *checksum, size_t checksum_len)
{
    return wa_xxh_quick(wa_xxh_quick(size, checksum, checksum_len), path, strlen(path));
}

void
wa_fingerprints_add(wa_fingerprints *f, uint64_t value)
{
    if (f->count == f->capacity) {
        f->capacity = f->capacity == 0 ? 1024 : f->capacity * 2;
        f->items = wa_reallocarray(f->items, f->capacity, sizeof *f->items);
    }
    f->items[f->count++] = value;
}

/* Until the pack before the open one is in the store. */
static wa_status
end_closing(wa_packer *p, wa_error *err)
{
    if (p->closing == NULL)
        return WA_OK;
    WA_CLEANUP(wa_packing_freep) wa_packing *pack = WA_TAKE(p->closing);
    return wa_packing_end_close(pack, p->info, err);
}

static wa_status
open_pack(wa_packer *p, uint64_t first_size, wa_error *err)
{
    return wa_packing_open(&p->packs, ++p->number, first_size, &p->open, err);
}

/* Two packs' parts at a time: where they are large, or bytes are counted on their way, the next
 * pack waits. */
static bool
may_overlap(const wa_packer *p)
{
    return p->upload.rate == 0 && (p->closing == NULL || !wa_packing_has_large_parts(p->closing));
}

static wa_status
begin_closing(wa_packer *p, wa_error *err)
{
    WA_ASSERT(p->path == NULL);
    WA_TRY(end_closing(p, err));
    if (p->open == NULL)
        return WA_OK;
    size_t workers = p->packs.pool != NULL ? wa_pool_workers(p->packs.pool) : 0;
    p->closing = WA_TAKE(p->open);
    return wa_packing_begin_close(p->closing, workers, err);
}

wa_status
wa_packer_close_pack(wa_packer *p, wa_error *err)
{
    WA_TRY(begin_closing(p, err));
    return may_overlap(p) ? WA_OK : end_closing(p, err);
}

wa_status
wa_packer_new(wa_repo *repo, wa_backup_info *info, wa_pool *pool, int level, size_t upload_threads,
              wa_progress *progress, wa_packer **ret, wa_error *err)
{
    WA_CLEANUP(wa_packer_freep) wa_packer *p = wa_calloc(1, sizeof *p);
    p->info = info;
    p->progress = progress;
    p->packs = (wa_packing_options){.repo = repo,
                                    .label = info->label,
                                    .pool = pool,
                                    .level = level,
                                    .upload_threads = upload_threads,
                                    .pace = &p->upload};
    p->checksum = wa_checksummer_new(WA_MANIFEST_CRC32C);
    wa_buf_init(&p->line, 64 * 1024);
    WA_TRY(wa_backup_open_object(repo, info->label, "files.zst", "files", upload_threads,
                                 &p->list_object, err));
    WA_TRY(wa_container_writer_new(p->list_object, NULL, level, WA_FRAME_TAIL, &p->list, err));
    *ret = WA_TAKE(p);
    return WA_OK;
}

void
wa_packer_limit_upload(wa_packer *p, uint64_t bytes_per_second, wa_cancel *cancel)
{
    WA_ASSERT(p->open == NULL);
    p->upload.rate = wa_upload_rate(wa_repo_store(p->packs.repo), bytes_per_second);
    p->packs.cancel = cancel;
}

static wa_status
list_file(wa_packer *p, const wa_backup_file *file, wa_error *err)
{
    wa_buf_reset(&p->line);
    wa_backup_file_line(file, &p->line);
    p->info->files++;
    p->info->regular_files += file->type == 'f';
    return wa_container_write(p->list, p->line.data, p->line.len, err);
}

wa_status
wa_packer_add_other(wa_packer *p, const wa_tar_entry *entry, const char *path, wa_error *err)
{
    wa_backup_file file = {.path = path,
                           .type = entry->type == WA_TAR_SYMLINK ? 'l' : 'd',
                           .mode = (uint32_t)entry->mode & 07777,
                           .mtime = entry->mtime,
                           .link = entry->link};
    if (entry->type == WA_TAR_DIRECTORY) {
        if (p->open == NULL)
            WA_TRY(open_pack(p, 0, err));
        wa_tar_entry copy = *entry;
        copy.path = path;
        WA_TRY(wa_tar_write_entry(wa_packing_tar(p->open), &copy, err));
        file.pack = (uint32_t)p->number;
    }
    return list_file(p, &file, err);
}

wa_status
wa_packer_begin_file(wa_packer *p, const wa_tar_entry *entry, const char *path, wa_error *err)
{
    WA_ASSERT(p->path == NULL);
    if (p->closing != NULL && wa_packing_has_ended(p->closing))
        WA_TRY(end_closing(p, err));
    if (p->open != NULL &&
        wa_tar_writer_offset(wa_packing_tar(p->open)) + entry->size > WA_PACK_CONTENT_MAX)
        WA_TRY(wa_packer_close_pack(p, err));
    if (p->open == NULL && p->closing != NULL && wa_packing_needs_large_parts(entry->size))
        WA_TRY(end_closing(p, err));
    if (p->open == NULL)
        WA_TRY(open_pack(p, entry->size, err));
    wa_tar_writer *tar = wa_packing_tar(p->open);
    wa_tar_entry copy = *entry;
    copy.path = path;
    WA_TRY(wa_tar_write_entry(tar, &copy, err));
    p->path = wa_strdup(path);
    p->left = entry->size;
    p->file = (wa_backup_file){.type = 'f',
                               .size = entry->size,
                               .offset = wa_tar_writer_offset(tar),
                               .mode = (uint32_t)entry->mode & 07777,
                               .pack = (uint32_t)p->number,
                               .mtime = entry->mtime};
    wa_checksummer_reset(p->checksum);
    return WA_OK;
}

wa_status
wa_packer_write(wa_packer *p, const void *data, size_t len, wa_error *err)
{
    wa_checksummer_update(p->checksum, data, len);
    return wa_packer_write_unsummed(p, data, len, err);
}

wa_status
wa_packer_write_unsummed(wa_packer *p, const void *data, size_t len, wa_error *err)
{
    WA_ASSERT(len <= p->left);
    p->left -= len;
    p->info->raw_bytes += len;
    if (p->progress != NULL)
        atomic_fetch_add(&p->progress->done_bytes, len);
    return wa_tar_write_data(wa_packing_tar(p->open), data, len, err);
}

wa_status
wa_packer_room(wa_packer *p, void **ret_room, size_t *ret_len, wa_error *err)
{
    WA_ASSERT(p->path != NULL);
    return wa_container_space(wa_packing_container(p->open), ret_room, ret_len, err);
}

wa_status
wa_packer_write_later(wa_packer *p, void *room, size_t len, wa_frame_fill *fill, wa_error *err)
{
    wa_container_fill_later(wa_packing_container(p->open), fill);
    return wa_packer_write_unsummed(p, room, len, err);
}

wa_status
wa_packer_wait_filled(wa_packer *p, wa_frame_fill *fill, wa_error *err)
{
    return wa_container_wait_filled(wa_packing_container(p->open), fill, err);
}

void
wa_packer_add_sum(wa_packer *p, uint32_t crc, uint64_t len)
{
    wa_checksummer_add_crc32c(p->checksum, crc, len);
}

wa_status
wa_packer_end_file(wa_packer *p, wa_error *err)
{
    if (p->left != 0)
        return wa_error_set(err, WA_CORRUPT, "file \"%s\" ends %llu bytes early", p->path,
                            (unsigned long long)p->left);
    uint8_t checksum[64];
    size_t len = wa_checksummer_final(p->checksum, checksum);
    p->last_crc = wa_get_u32le(checksum);
    wa_fingerprints_add(&p->fingerprints, wa_fingerprint(p->path, p->file.size, checksum, len));
    p->file.path = p->path;
    wa_status status = list_file(p, &p->file, err);
    p->file.path = NULL;
    wa_freep(&p->path);
    if (p->progress != NULL)
        atomic_fetch_add(&p->progress->done_files, 1);
    return status;
}

uint32_t
wa_packer_last_crc(const wa_packer *p)
{
    return p->last_crc;
}

wa_status
wa_packer_finish(wa_packer *p, wa_packer_fn fn, void *arg, wa_error *err)
{
    WA_TRY(begin_closing(p, err));
    WA_TRY(wa_ending_begin(&p->list_ending, p->list, p->list_object, p->info->label, "files", err));
    if (fn != NULL)
        WA_TRY(fn(arg, err));
    WA_TRY(end_closing(p, err));
    WA_TRY(wa_ending_wait(&p->list_ending, err));
    p->info->stored_bytes += wa_container_stored_size(p->list);
    return WA_OK;
}

const wa_fingerprints *
wa_packer_fingerprints(const wa_packer *p)
{
    return &p->fingerprints;
}

void
wa_packer_free(wa_packer *p)
{
    if (p == NULL)
        return;
    wa_packing_free(p->closing);
    wa_packing_free(p->open);
    wa_ending_join(&p->list_ending);
    wa_container_writer_free(p->list);
    wa_sink_free(p->list_object);
    wa_buf_done(&p->line);
    wa_checksummer_free(p->checksum);
    wa_freep(&p->fingerprints.items);
    wa_freep(&p->path);
    wa_freep(&p);
}
