/*
 * verify_backup.c - one backup read back: packs, list of files, manifest, and every file's bytes
 * against the manifest's checksum.
 *
 * files.zst and the manifest are in the order of the packs, so everything is read once, in order,
 * with a bounded buffer: the list and the manifest's elements are joined into an array of
 * expectations (about 100 bytes a file), then each pack's bytes stream past it.
 */
#include "verify_internal.h"

#include "walagent/codec/container.h"
#include "walagent/pg/manifest.h"
#include "walagent/repo/backup_object.h"

#include <string.h>

typedef struct expected_file {
    char *path;
    uint64_t offset, size;
    uint32_t pack;
    wa_manifest_checksum algorithm;
    uint8_t checksum[64];
    size_t checksum_len;
} expected_file;

typedef struct expectations {
    expected_file *items;
    size_t count, capacity;
    size_t next; /* of the manifest */
} expectations;

static void
expectations_done(expectations *e)
{
    for (size_t i = 0; i < e->count; i++)
        wa_freep(&e->items[i].path);
    wa_freep(&e->items);
}

static wa_status
expect_file(void *arg, const wa_backup_file *f, wa_error *err)
{
    (void)err;
    expectations *e = arg;
    if (f->type != 'f')
        return WA_OK;
    if (e->count == e->capacity) {
        e->capacity = e->capacity == 0 ? 1024 : e->capacity * 2;
        e->items = wa_reallocarray(e->items, e->capacity, sizeof *e->items);
    }
    e->items[e->count++] = (expected_file){
        .path = wa_strdup(f->path), .offset = f->offset, .size = f->size, .pack = f->pack};
    return WA_OK;
}

static wa_status
expect_checksum(void *arg, const wa_manifest_file *file, wa_error *err)
{
    expectations *e = arg;
    if (e->next >= e->count || strcmp(e->items[e->next].path, file->path) != 0 ||
        e->items[e->next].size != file->size)
        return wa_error_set(err, WA_CORRUPT, "manifest and list of files differ at \"%s\"",
                            file->path);
    expected_file *x = &e->items[e->next++];
    x->algorithm = file->algorithm;
    x->checksum_len = file->checksum_len;
    memcpy(x->checksum, file->checksum, file->checksum_len);
    return WA_OK;
}

typedef struct manifest_sink {
    wa_sink base;
    wa_manifest_parser *parser;
} manifest_sink;

static wa_status
manifest_sink_write(wa_sink *sink, const void *data, size_t len, wa_error *err)
{
    return wa_manifest_feed(((manifest_sink *)sink)->parser, data, len, err);
}

static wa_status
read_manifest(wa_verify *v, const char *label, expectations *e, wa_error *err)
{
    static const wa_sink_ops ops = {.write = manifest_sink_write};
    WA_CLEANUP(wa_ranges_freep) wa_ranges *ranges = NULL;
    WA_CLEANUP(wa_container_freep) wa_container *container = NULL;
    WA_TRY(wa_backup_open_manifest(v->options->repo, label, &ranges, &container, err));
    WA_CLEANUP(wa_manifest_parser_freep)
    wa_manifest_parser *parser = wa_manifest_parser_new(expect_checksum, e);
    manifest_sink sink = {.base = {.ops = &ops}, .parser = parser};
    WA_TRY(wa_container_read_all(container, NULL, &sink.base, err));
    wa_manifest_info info;
    WA_TRY(wa_manifest_end(parser, &info, err));
    if (e->next != e->count)
        return wa_error_set(err, WA_CORRUPT, "the manifest does not name file \"%s\"",
                            e->items[e->next].path);
    return WA_OK;
}

/* A pack's raw bytes go past; the files in them are checksummed. */
typedef struct pack_sink {
    wa_sink base;
    wa_verify *v;
    expectations *e;
    const char *label;
    size_t file; /* the current or next one */
    uint32_t pack;
    uint64_t at; /* offset of the next byte */
    wa_checksummer *sum;
    bool in_file;
} pack_sink;

static void
end_file(pack_sink *p)
{
    expected_file *x = &p->e->items[p->file];
    uint8_t got[64];
    size_t len = wa_checksummer_final(p->sum, got);
    if (x->algorithm == WA_MANIFEST_CRC32C &&
        (len != x->checksum_len || memcmp(got, x->checksum, len) != 0))
        wa_verify_damage(p->v, "file", x->path, "the file can't be restored from this backup",
                         "file \"%s\" of backup %s has another checksum than the manifest says",
                         x->path, p->label);
    p->file++;
    p->in_file = false;
    p->v->result->files++;
    p->v->result->backup_bytes += x->size;
}

static wa_status
pack_sink_write(wa_sink *sink, const void *data, size_t len, wa_error *err)
{
    pack_sink *p = (pack_sink *)sink;
    const uint8_t *bytes = data;
    uint64_t end = p->at + len;
    WA_TRY(wa_cancel_check(p->v->options->cancel, err));
    while (p->file < p->e->count && p->e->items[p->file].pack == p->pack) {
        const expected_file *x = &p->e->items[p->file];
        if (x->offset >= end && !(x->size == 0 && x->offset == end))
            break;
        if (!p->in_file) {
            wa_checksummer_reset(p->sum);
            p->in_file = true;
        }
        uint64_t from = x->offset > p->at ? x->offset : p->at;
        uint64_t to = x->offset + x->size < end ? x->offset + x->size : end;
        if (to > from)
            wa_checksummer_update(p->sum, bytes + (from - p->at), to - from);
        if (x->offset + x->size > end)
            break;
        end_file(p);
    }
    p->at = end;
    if (p->v->options->progress != NULL)
        atomic_fetch_add(&p->v->options->progress->done_bytes, len);
    return WA_OK;
}

/* They are read by restore --delta alone, which believes a file by the manifest's checksum only. */
static void
tell_sums(wa_verify *v, const char *key, size_t wrong, size_t frames)
{
    wa_verify_damage(
        v, "sums", key,
        "nothing is lost: \"walagent restore --delta\" fetches these frames also where "
        "a directory has their content",
        "the facts of \"%s\" have a wrong checksum for %zu of its %zu frames, whose "
        "content is right",
        key, wrong, frames);
}

static wa_status
verify_pack(wa_verify *v, const wa_backup_info *info, size_t index, expectations *e, size_t *file,
            wa_error *err)
{
    static const wa_sink_ops ops = {.write = pack_sink_write};
    char name[48];
    snprintf(name, sizeof name, "pack-%05zu.tar.zst", index + 1);
    WA_CLEANUP(wa_freep) char *key = wa_backup_key(v->options->repo, info->label, name);
    WA_CLEANUP(wa_ranges_freep) wa_ranges *ranges = NULL;
    WA_CLEANUP(wa_container_freep) wa_container *container = NULL;
    WA_CLEANUP(wa_checksummer_freep) wa_checksummer *sum = wa_checksummer_new(WA_MANIFEST_CRC32C);
    pack_sink sink = {.base = {.ops = &ops},
                      .v = v,
                      .e = e,
                      .label = info->label,
                      .file = *file,
                      .pack = (uint32_t)index + 1,
                      .sum = sum};
    wa_status status =
        wa_store_ranges(wa_repo_store(v->options->repo), key, UINT64_MAX, &ranges, err);
    if (status == WA_OK)
        status = wa_container_open(ranges, &container, err);
    WA_CLEANUP(wa_pool_freep) wa_pool *pool = NULL;
    if (status == WA_OK)
        status = wa_pool_new("decompress", v->options->jobs < 1 ? 1 : v->options->jobs,
                             v->options->jobs + 1, &pool, err);
    size_t wrong_sums = 0;
    if (status == WA_OK)
        status = wa_container_check_all(container, pool, &sink.base, &wrong_sums, err);
    if (wrong_sums > 0)
        tell_sums(v, key, wrong_sums, wa_container_frames(container));
    if (status == WA_CORRUPT || status == WA_NOT_FOUND) {
        wa_verify_damage(v, "backup", key, "this backup can't be restored", "%s", err->message);
        wa_error_clear(err);
        status = WA_OK;
    } else if (status == WA_OK && sink.file < e->count && e->items[sink.file].pack == index + 1)
        wa_verify_damage(v, "backup", key, "this backup can't be restored",
                         "the pack ends before file \"%s\"", e->items[sink.file].path);
    while (sink.file < e->count && e->items[sink.file].pack == index + 1)
        sink.file++;
    *file = sink.file;
    return status;
}

wa_status
wa_verify_backup(wa_verify *v, const char *label, wa_error *err)
{
    WA_CLEANUP(wa_backup_info_freep) wa_backup_info *info = NULL;
    WA_CLEANUP(expectations_done) expectations e = {0};
    wa_status status = wa_backup_load(v->options->repo, label, &info, err);
    if (status == WA_OK && v->options->progress != NULL)
        for (size_t i = 0; i < info->pack_count; i++)
            atomic_fetch_add(&v->options->progress->total_bytes, info->packs[i].raw_size);
    if (status == WA_OK)
        status = wa_backup_files(v->options->repo, label, expect_file, &e, err);
    if (status == WA_OK)
        status = read_manifest(v, label, &e, err);
    if (status == WA_CORRUPT || (status == WA_NOT_FOUND && info != NULL)) {
        wa_verify_damage(v, "backup", label, "this backup can't be restored", "%s", err->message);
        wa_error_clear(err);
        return WA_OK;
    }
    WA_TRY(status);
    size_t file = 0;
    for (size_t i = 0; i < info->pack_count; i++)
        WA_TRY(verify_pack(v, info, i, &e, &file, err));
    v->result->backups++;
    return WA_OK;
}
