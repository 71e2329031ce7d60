/*
 * local_file.c - one file of the data directory: read to the size it had when it was opened, its
 * pages checked, into the packer and the manifest.
 *
 * The server writes while we read. A page may come torn: it is read again, and what stays wrong
 * and was not written since the backup began is damage. What a file lost while it was read is
 * filled with zeros: replaying WAL cuts it again.
 */
#include "local_internal.h"

#include "walagent/base/crc32c.h"
#include "walagent/base/file.h"
#include "walagent/pg/datadir.h"
#include "walagent/pg/page.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define CHUNK (1024u * 1024)
#define REREADS 5
#define REREAD_AFTER_MS 2
#define LOOK_EVERY_MS 1000
#define PLACES_NAMED 5

/* The pages of a relation's file; size 0: the file has none. */
typedef struct pages {
    const char *path;
    size_t size;
    uint32_t first; /* block number of the file's first page */
} pages;

static pages
pages_of(const wa_local *l, const char *dir, const char *path)
{
    pages none = {.path = path};
    wa_relfile file;
    const char *name = strrchr(path, '/');
    if (!l->check_pages || name == NULL || !wa_datadir_has_relations(dir) ||
        !wa_relfile_parse(name + 1, &file))
        return none;
    return (pages){.path = path,
                   .size = l->control.block_size,
                   .first = file.segment * l->control.relation_segment_blocks};
}

static void
note_damage(wa_damage *damage, const pages *p, uint32_t block)
{
    if (damage->count++ < PLACES_NAMED)
        wa_buf_printf(&damage->places, "%sblock %u of \"%s\"", damage->count > 1 ? ", " : "", block,
                      p->path);
}

/* A page that is wrong may have been read while the server wrote it. */
static wa_status
settle_page(wa_local *l, int fd, const pages *p, uint8_t *page, uint64_t offset, wa_error *err)
{
    uint32_t in_file = (uint32_t)(offset / p->size);
    for (int tries = 0; tries < REREADS; tries++) {
        WA_TRY(wa_cancel_sleep(l->options->cancel, REREAD_AFTER_MS, err));
        ssize_t got = pread(fd, page, p->size, (off_t)offset);
        if (got < 0)
            return wa_error_errno(err, errno, "could not read file \"%s\": %m", p->path);
        if ((size_t)got < p->size) { /* cut meanwhile */
            memset(page + got, 0, p->size - (size_t)got);
            return WA_OK;
        }
        if (wa_page_check(page, p->size, p->first + in_file, l->info->start_lsn) != WA_PAGE_DAMAGED)
            return WA_OK;
    }
    note_damage(&l->damage, p, in_file);
    return WA_OK;
}

static wa_status
check_pages(wa_local *l, int fd, const pages *p, uint8_t *data, size_t len, uint64_t offset,
            wa_error *err)
{
    if (p->size == 0)
        return WA_OK;
    for (size_t at = 0; at + p->size <= len; at += p->size) {
        uint32_t block = p->first + (uint32_t)((offset + at) / p->size);
        if (wa_page_check(data + at, p->size, block, l->info->start_lsn) == WA_PAGE_DAMAGED)
            WA_TRY(settle_page(l, fd, p, data + at, offset + at, err));
    }
    return WA_OK;
}

/* Fills data; what the file no longer has is zeros. */
static wa_status
read_piece(wa_local *l, int fd, const pages *p, uint8_t *data, size_t len, uint64_t offset,
           wa_error *err)
{
    size_t have = 0;
    while (have < len) {
        ssize_t got = pread(fd, data + have, len - have, (off_t)(offset + have));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return wa_error_errno(err, errno, "could not read file \"%s\": %m", p->path);
        if (got == 0)
            break;
        have += (size_t)got;
    }
    memset(data + have, 0, len - have);
    return check_pages(l, fd, p, data, have, offset, err);
}

/* Waits as the rate limit asks, and now and then looks whether the backup's session lives. */
static wa_status
pace(wa_local *l, size_t len, wa_error *err)
{
    wa_mono now = wa_mono_now();
    l->read_bytes += len;
    if (now - l->looked >= LOOK_EVERY_MS) {
        WA_TRY(wa_backup_local_alive(l->conn, err));
        l->looked = now;
    }
    if (l->options->rate_limit == 0)
        return wa_cancel_check(l->options->cancel, err);
    wa_mono due =
        l->began + (wa_mono)((double)l->read_bytes / (double)l->options->rate_limit * 1000);
    return due > now ? wa_cancel_sleep(l->options->cancel, (uint64_t)(due - now), err)
                     : wa_cancel_check(l->options->cancel, err);
}

static wa_status
copy_content(wa_local *l, int fd, const pages *p, const struct stat *st, wa_error *err)
{
    wa_tar_entry entry = {.path = p->path,
                          .type = WA_TAR_FILE,
                          .size = (uint64_t)st->st_size,
                          .mode = st->st_mode & 07777,
                          .mtime = st->st_mtime};
    uint32_t crc = 0;
    WA_TRY(wa_packer_begin_file(l->packer, &entry, p->path, err));
    for (uint64_t at = 0; at < entry.size;) {
        size_t len = entry.size - at < CHUNK ? (size_t)(entry.size - at) : CHUNK;
        WA_TRY(read_piece(l, fd, p, l->buffer, len, at, err));
        crc = wa_crc32c(crc, l->buffer, len);
        WA_TRY(wa_packer_write(l->packer, l->buffer, len, err));
        WA_TRY(pace(l, len, err));
        at += len;
    }
    WA_TRY(wa_packer_end_file(l->packer, err));
    return wa_local_manifest_add(l->manifest, p->path, entry.size, entry.mtime, crc, err);
}

wa_status
wa_local_copy_file(wa_local *l, const char *dir, const char *path, wa_error *err)
{
    WA_CLEANUP(wa_freep) char *full = wa_path_join(l->options->data_dir, path);
    WA_CLEANUP(wa_closep) int fd = open(full, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    struct stat st;
    if (fd < 0 && errno == ENOENT)
        return WA_OK;
    if (fd < 0 || fstat(fd, &st) != 0) {
        wa_status status = wa_error_errno(err, errno, "could not open file \"%s\": %m", full);
        return status == WA_DENIED ? wa_error_hint(err, "Run walagent as the user of the server.")
                                   : status;
    }
    if (!S_ISREG(st.st_mode)) /* something else since the look at the directory */
        return WA_OK;
    pages p = pages_of(l, dir, path);
    return copy_content(l, fd, &p, &st, err);
}

wa_status
wa_local_add_memory(wa_local *l, const char *path, mode_t mode, int64_t mtime, const void *data,
                    size_t len, wa_error *err)
{
    wa_tar_entry entry = {
        .path = path, .type = WA_TAR_FILE, .size = len, .mode = mode & 07777, .mtime = mtime};
    WA_TRY(wa_packer_begin_file(l->packer, &entry, path, err));
    if (len > 0)
        WA_TRY(wa_packer_write(l->packer, data, len, err));
    WA_TRY(wa_packer_end_file(l->packer, err));
    return wa_local_manifest_add(l->manifest, path, len, mtime, wa_crc32c(0, data, len), err);
}

wa_status
wa_local_damage(const wa_local *l, wa_error *err)
{
    if (l->damage.count == 0)
        return WA_OK;
    wa_error_set(err, WA_CORRUPT, "the checksum of %zu page%s is wrong: %s%s", l->damage.count,
                 l->damage.count == 1 ? "" : "s", wa_buf_str(&l->damage.places),
                 l->damage.count > PLACES_NAMED ? " and others" : "");
    return wa_error_hint(err, "The server's data files are damaged: find out what is hit (pg_class "
                              "names the relation of a file) and restore it from an older backup; "
                              "no backup was made.");
}
