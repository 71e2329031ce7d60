/*
 * packer.c - files into packs: tar in a container, one object per GiB of content, and the list of
 * files.
 *
 * A file never spans packs, so tar alone restores it. Where a file's bytes begin in its pack's raw
 * bytes is kept in files.zst, so a single file costs one range.
 */
#include "backup_internal.h"

#include "walagent/base/bytes.h"
#include "walagent/base/thread.h"

#include <string.h>

struct wa_packer {
    wa_repo *repo;
    wa_backup_info *info;
    wa_pool *pool;
    wa_progress *progress;
    int level;
    size_t upload_threads;
    wa_pace upload; /* packs only: what else there is is small */
    wa_cancel *cancel;
    /* the open pack; NULL: none */
    wa_sink *object;
    wa_container_writer *container;
    wa_sink *raw;
    wa_tar_writer *tar;
    /* files.zst */
    wa_sink *list_object;
    wa_container_writer *list;
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

typedef struct container_sink {
    wa_sink base;
    wa_container_writer *to;
} container_sink;

static wa_status
container_sink_write(wa_sink *sink, const void *data, size_t len, wa_error *err)
{
    return wa_container_write(((container_sink *)sink)->to, data, len, err);
}

static wa_status
container_sink_finish(wa_sink *sink, wa_error *err)
{
    (void)sink;
    (void)err;
    return WA_OK;
}

static void
container_sink_free(wa_sink *sink)
{
    wa_freep(&sink);
}

wa_sink *
wa_sink_to_container(wa_container_writer *w)
{
    static const wa_sink_ops ops = {container_sink_write, container_sink_finish,
                                    container_sink_free};
    container_sink *s = wa_calloc(1, sizeof *s);
    s->base.ops = &ops;
    s->to = w;
    return &s->base;
}

static char *
object_meta(const wa_packer *p, const char *kind)
{
    WA_CLEANUP(wa_json_freep) json_t *meta = json_object();
    wa_json_set_i64(meta, "v", 1);
    wa_json_set_string(meta, "kind", kind);
    wa_json_set_string(meta, "label", p->info->label);
    wa_json_set_string(meta, "writer", wa_repo_writer(p->repo));
    return wa_json_dump(meta, 0);
}

static wa_status
open_object(wa_packer *p, const char *name, const char *kind, wa_sink **ret, wa_error *err)
{
    WA_CLEANUP(wa_freep) char *key = wa_backup_key(p->repo, p->info->label, name);
    WA_CLEANUP(wa_freep) char *meta = object_meta(p, kind);
    return wa_store_sink_new(wa_repo_store(p->repo), key, meta, p->upload_threads, ret, err);
}

static wa_status
close_container(wa_packer *p, wa_container_writer *w, wa_sink *object, const char *kind,
                wa_error *err)
{
    WA_CLEANUP(wa_json_freep) json_t *facts = json_object();
    wa_json_set_string(facts, "kind", kind);
    wa_json_set_string(facts, "label", p->info->label);
    WA_TRY(wa_container_finish(w, facts, NULL, err));
    return wa_sink_finish(object, err);
}

static wa_status
open_pack(wa_packer *p, wa_error *err)
{
    char name[32];
    snprintf(name, sizeof name, "pack-%05zu.tar.zst", p->info->pack_count + 1);
    WA_TRY(open_object(p, name, "pack", &p->object, err));
    p->object = wa_sink_paced(p->object, &p->upload, p->cancel);
    WA_TRY(
        wa_container_writer_new(p->object, p->pool, p->level, WA_FRAME_PACK, &p->container, err));
    wa_container_publish_sums(p->container);
    p->raw = wa_sink_to_container(p->container);
    return wa_tar_writer_new(p->raw, &p->tar, err);
}

static void
drop_pack(wa_packer *p)
{
    wa_tar_writer_free(p->tar);
    wa_sink_free(p->raw);
    wa_container_writer_free(p->container);
    wa_sink_free(p->object);
    p->tar = NULL;
    p->raw = p->object = NULL;
    p->container = NULL;
}

static wa_status
close_pack(wa_packer *p, wa_error *err)
{
    if (p->tar == NULL)
        return WA_OK;
    WA_TRY(wa_tar_writer_finish(p->tar, err));
    WA_TRY(close_container(p, p->container, p->object, "pack", err));
    wa_backup_info *info = p->info;
    info->packs = wa_reallocarray(info->packs, info->pack_count + 1, sizeof *info->packs);
    wa_backup_pack *pack = &info->packs[info->pack_count++];
    pack->raw_size = wa_container_raw_size(p->container);
    pack->stored_size = wa_container_stored_size(p->container);
    wa_container_hash(p->container, pack->xxh3);
    info->stored_bytes += pack->stored_size;
    drop_pack(p);
    return WA_OK;
}

wa_status
wa_packer_new(wa_repo *repo, wa_backup_info *info, wa_pool *pool, int level, size_t upload_threads,
              wa_progress *progress, wa_packer **ret, wa_error *err)
{
    WA_CLEANUP(wa_packer_freep) wa_packer *p = wa_calloc(1, sizeof *p);
    p->repo = repo;
    p->info = info;
    p->pool = pool;
    p->level = level;
    p->upload_threads = upload_threads;
    p->progress = progress;
    p->checksum = wa_checksummer_new(WA_MANIFEST_CRC32C);
    wa_buf_init(&p->line, 64 * 1024);
    WA_TRY(open_object(p, "files.zst", "files", &p->list_object, err));
    WA_TRY(wa_container_writer_new(p->list_object, NULL, level, WA_FRAME_TAIL, &p->list, err));
    *ret = WA_TAKE(p);
    return WA_OK;
}

void
wa_packer_limit_upload(wa_packer *p, uint64_t bytes_per_second, wa_cancel *cancel)
{
    WA_ASSERT(p->object == NULL);
    p->upload.rate = wa_upload_rate(wa_repo_store(p->repo), bytes_per_second);
    p->cancel = cancel;
}

static wa_status
list_file(wa_packer *p, const wa_backup_file *file, wa_error *err)
{
    wa_buf_reset(&p->line);
    wa_backup_file_line(file, &p->line);
    p->info->files++;
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
        if (p->tar == NULL)
            WA_TRY(open_pack(p, err));
        wa_tar_entry copy = *entry;
        copy.path = path;
        WA_TRY(wa_tar_write_entry(p->tar, &copy, err));
        file.pack = (uint32_t)p->info->pack_count + 1;
    }
    return list_file(p, &file, err);
}

wa_status
wa_packer_begin_file(wa_packer *p, const wa_tar_entry *entry, const char *path, wa_error *err)
{
    WA_ASSERT(p->path == NULL);
    if (p->tar != NULL && wa_tar_writer_offset(p->tar) + entry->size > WA_PACK_CONTENT_MAX)
        WA_TRY(close_pack(p, err));
    if (p->tar == NULL)
        WA_TRY(open_pack(p, err));
    wa_tar_entry copy = *entry;
    copy.path = path;
    WA_TRY(wa_tar_write_entry(p->tar, &copy, err));
    p->path = wa_strdup(path);
    p->left = entry->size;
    p->file = (wa_backup_file){.type = 'f',
                               .size = entry->size,
                               .offset = wa_tar_writer_offset(p->tar),
                               .mode = (uint32_t)entry->mode & 07777,
                               .pack = (uint32_t)p->info->pack_count + 1,
                               .mtime = entry->mtime};
    wa_checksummer_reset(p->checksum);
    return WA_OK;
}

wa_status
wa_packer_write(wa_packer *p, const void *data, size_t len, wa_error *err)
{
    WA_ASSERT(len <= p->left);
    p->left -= len;
    p->info->raw_bytes += len;
    wa_checksummer_update(p->checksum, data, len);
    if (p->progress != NULL)
        atomic_fetch_add(&p->progress->done_bytes, len);
    return wa_tar_write_data(p->tar, data, len, err);
}

wa_status
wa_packer_room(wa_packer *p, void **ret_room, size_t *ret_len, wa_error *err)
{
    WA_ASSERT(p->path != NULL);
    return wa_container_space(p->container, ret_room, ret_len, err);
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

/* What is written beside the last pack: the list of files, and what the caller has. */
typedef struct beside {
    wa_packer *packer;
    wa_packer_fn fn;
    void *arg;
    wa_status status;
    wa_error error;
} beside;

static void *
finish_beside(void *arg)
{
    beside *b = arg;
    wa_packer *p = b->packer;
    b->status = close_container(p, p->list, p->list_object, "files", &b->error);
    if (b->status == WA_OK && b->fn != NULL)
        b->status = b->fn(b->arg, &b->error);
    return NULL;
}

wa_status
wa_packer_finish(wa_packer *p, wa_packer_fn fn, void *arg, wa_error *err)
{
    WA_ASSERT(p->path == NULL);
    beside b = {.packer = p, .fn = fn, .arg = arg, .error = WA_ERROR_INIT};
    pthread_t thread;
    WA_TRY(wa_thread_start(&thread, "lists", finish_beside, &b, err));
    wa_status status = close_pack(p, err);
    wa_thread_join(thread);
    WA_TRY(status);
    if (b.status != WA_OK) {
        *err = b.error;
        return b.status;
    }
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
    drop_pack(p);
    wa_container_writer_free(p->list);
    wa_sink_free(p->list_object);
    wa_buf_done(&p->line);
    wa_checksummer_free(p->checksum);
    wa_freep(&p->fingerprints.items);
    wa_freep(&p->path);
    wa_freep(&p);
}
